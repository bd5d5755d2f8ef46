-- Fraud checks: what tries are counted by, and payments that are held for their merchant to look at.

alter table charge
    -- By what a try is counted: keyed hashes of the card's fingerprint, the payer's e-mail address, his IP
    -- network and the merchant. Null where no rule counts it, and for a try that a rule refused: it was sent
    -- to nobody. The address itself is nowhere.
    add column card_key      bytea,
    add column email_key     bytea,
    add column network_key   bytea,
    add column merchant_key  bytea;
create index charge_tries_by_card on charge (card_key, created_at) where card_key is not null;
create index charge_tries_by_email on charge (email_key, created_at) where email_key is not null;
create index charge_tries_by_network on charge (network_key, created_at) where network_key is not null;
create index charge_tries_by_merchant on charge (merchant_key, created_at) where merchant_key is not null;
-- Where most tries succeed, those that did not are found without reading the others.
create index charge_declines_by_network on charge (network_key, created_at)
    where network_key is not null and state in ('pending', 'requires_action', 'failed');
create index charge_declines_by_merchant on charge (merchant_key, created_at)
    where merchant_key is not null and state in ('pending', 'requires_action', 'failed');

create table review (
    id              text primary key,
    merchant_id     text not null,
    livemode        boolean not null,
    charge_id       text not null references charge (id) constraint review_one_per_charge unique,
    payment_id      text not null references payment (id),
    -- The rule that asked for it.
    rule            text not null,
    created_at      timestamptz not null,
    -- When the reserved money is let go unless somebody has decided.
    expires_at      timestamptz,
    closed_reason   text,
    closed_at       timestamptz,
    constraint review_closed_reason check (closed_reason in ('approved', 'canceled', 'payment_never_settled')),
    constraint review_closed_at check ((closed_reason is null) = (closed_at is null))
);
create index review_open_by_merchant on review (merchant_id, livemode, id) where closed_at is null;
create index review_due on review (expires_at) where closed_at is null;
