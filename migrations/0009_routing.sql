-- Several providers for one try of the payer, and several simulated companies on one database.

alter table charge
    -- The same form may be charged at one provider after another, each time as a charge of its own: from 1.
    add column attempt_turn smallint not null default 1
        constraint charge_attempt_turn check (attempt_turn between 1 and 9);
drop index charge_attempt_unique;
create unique index charge_attempt_unique on charge (session_id, attempt_key, attempt_turn);

-- Companies that share the tables know nothing of each other: every id is known to its own company only.
alter table simulator.refund drop constraint refund_charge_id_fkey;
alter table simulator.charge
    add column provider text not null default 'simulator',
    drop constraint charge_pkey,
    add primary key (provider, charge_id);
alter table simulator.refund
    add column provider text not null default 'simulator',
    drop constraint refund_pkey,
    add primary key (provider, refund_id),
    add constraint refund_charge_id_fkey foreign key (provider, charge_id) references simulator.charge (provider, charge_id);
alter table simulator.charge alter column provider drop default;
alter table simulator.refund alter column provider drop default;
