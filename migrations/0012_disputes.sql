-- Disputes: payers who ask their banks for their money back. And what providers keep of what they move.

create table dispute (
    id                  text primary key,
    merchant_id         text not null,
    livemode            boolean not null,
    charge_id           text not null references charge (id),
    payment_id          text not null references payment (id),
    provider            text not null,
    provider_reference  text not null,
    amount              bigint not null constraint dispute_amount_positive check (amount > 0),
    currency            text not null,
    reason              text not null,
    status              text not null constraint dispute_status check (status in ('warning_needs_response',
        'warning_under_review', 'warning_closed', 'needs_response', 'under_review', 'won', 'lost')),
    -- What the provider took back for the payer, and what of it came back to the merchant. Neither ever falls.
    amount_withdrawn    bigint not null default 0,
    amount_reinstated   bigint not null default 0,
    -- What the provider keeps for the work; null where it does not say.
    fee                 bigint constraint dispute_fee check (fee >= 0),
    evidence            jsonb not null,
    evidence_due_by     timestamptz,
    submission_count    integer not null default 0,
    metadata            jsonb not null,
    -- An answer to the bank that is under way; the sweep repeats it until the provider has taken it.
    under_way           text constraint dispute_under_way check (under_way in ('submit', 'close')),
    look_up_at          timestamptz,
    look_ups            integer not null default 0,
    created_at          timestamptz not null,
    closed_at           timestamptz,
    constraint dispute_money check (amount_reinstated between 0 and amount_withdrawn),
    constraint dispute_closed check ((status in ('won', 'lost', 'warning_closed')) = (closed_at is not null)),
    constraint dispute_look_up check ((under_way is null) = (look_up_at is null))
);
-- The same dispute heard of twice is one dispute.
create unique index dispute_by_reference on dispute (provider, provider_reference);
create index dispute_by_merchant on dispute (merchant_id, livemode, id);
create index dispute_by_charge on dispute (charge_id, id);
create index dispute_due on dispute (look_up_at) where look_up_at is not null;

alter table charge
    -- Whether it was ever disputed, and how much disputes hold of it, open or lost.
    add column disputed         boolean not null default false,
    add column amount_withdrawn bigint not null default 0
        constraint charge_withdrawn check (amount_withdrawn >= 0 and (disputed or amount_withdrawn = 0)),
    -- Set when a provider moved more than was left: its word counts, and a person has to look.
    add column overdrawn        boolean not null default false,
    -- What the provider keeps of the capture; null where it does not say.
    add column fee              bigint constraint charge_fee check (fee >= 0);
-- Messages about disputes name the provider's own payment.
create index charge_by_reference on charge (provider, provider_reference) where provider_reference is not null;

alter table simulator.charge
    -- Why this card's payer will dispute the charge once its money is taken; null again when he has.
    add column dispute_reason   text,
    add column amount_disputed  bigint not null default 0,
    drop constraint charge_refunded,
    add constraint charge_refunded check (amount_refunded >= 0 and amount_disputed >= 0
        and amount_refunded + amount_disputed <= amount_captured
        and (state = 'refunded') = (amount_captured > 0 and amount_refunded = amount_captured));
create index charge_to_be_disputed on simulator.charge (provider)
    where dispute_reason is not null and state = 'captured';
create table simulator.dispute (
    provider        text not null,
    reference       text not null,
    charge_id       text not null,
    amount          bigint not null constraint dispute_amount_positive check (amount > 0),
    currency        text not null,
    reason          text not null,
    submissions     integer not null default 0,
    status          text not null constraint dispute_status check (status in ('needs_response', 'under_review', 'won', 'lost')),
    opened_at       timestamptz not null default now(),
    -- Whether the gateway has heard of it.
    heard           boolean not null default false,
    primary key (provider, reference),
    constraint dispute_charge_id_fkey foreign key (provider, charge_id) references simulator.charge (provider, charge_id)
);
create index dispute_unheard on simulator.dispute (provider) where not heard;

-- The movements that end a dispute were left out when those of escrows came.
alter table ledger_entry
    drop constraint ledger_entry_movement,
    add constraint ledger_entry_movement check (movement in ('authorized', 'captured', 'voided', 'refunded', 'disputed',
        'dispute_won', 'dispute_lost', 'fee', 'held', 'returned', 'released'));
