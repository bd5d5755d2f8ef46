-- Customers of a merchant and the cards that are kept for them. Of a card there is what may be stored
-- (brand, last four digits, expiry, fingerprint), the provider's own reference, and, only where the
-- operator switched the card vault on, the number under a key that is not in the database. The
-- security code has no column anywhere.

create table customer (
    id                  text primary key,
    merchant_id         text not null references merchant (id),
    livemode            boolean not null,
    email               text,
    name                text,
    phone               text,
    description         text,
    address             jsonb,
    shipping            jsonb,
    preferred_locales   text[] not null default '{}',
    metadata            jsonb not null,
    created_at          timestamptz not null,
    -- A deleted customer stays as an id that others refer to; what was known of the person is gone.
    deleted_at          timestamptz,
    constraint customer_deleted check (deleted_at is null or (email is null and name is null and phone is null
        and description is null and address is null and shipping is null))
);
create index customer_by_merchant on customer (merchant_id, livemode, id);
create index customer_by_email on customer (merchant_id, livemode, email, id) where email is not null;

create table payment_method (
    id                  text primary key,
    merchant_id         text not null references merchant (id),
    livemode            boolean not null,
    -- Null before the charge that it came with has succeeded (the customer may be made by that very
    -- charge), and again after it was detached.
    customer_id         text references customer (id),
    -- 'pending' until its charge has succeeded; a decline deletes the row.
    state               text not null constraint payment_method_state check (state in ('pending', 'attached', 'detached')),
    -- Who remembers the card under which reference. Worth nothing without our own credentials there.
    provider            text not null,
    provider_token      text,
    card_brand          text not null,
    card_last4          text not null,
    card_exp_month      smallint not null,
    card_exp_year       smallint not null,
    card_funding        text,
    card_country        text,
    card_fingerprint    text not null,
    holder_name         text,
    holder_email        text,
    -- What the payer agreed to.
    future_usage        text not null constraint payment_method_future_usage check (future_usage in ('on_session', 'off_session')),
    allow_redisplay     text not null constraint payment_method_allow_redisplay check
        (allow_redisplay in ('always', 'limited', 'unspecified')),
    metadata            jsonb not null,
    -- The number, sealed for this row and no other, and the name of the key.
    vault_key          text,
    vault_sealed       bytea,
    created_at          timestamptz not null,
    used_at             timestamptz not null,
    detached_at         timestamptz,
    constraint payment_method_attached check
        (case state when 'pending' then detached_at is null
                    when 'attached' then customer_id is not null and detached_at is null
                    else customer_id is null and detached_at is not null
                         and provider_token is null and vault_sealed is null end),
    constraint payment_method_number check ((vault_key is null) = (vault_sealed is null))
);
-- A card is kept once for a customer, however often it is saved.
create unique index payment_method_once on payment_method (customer_id, card_fingerprint) where state = 'attached';
create index payment_method_by_customer on payment_method (customer_id, id) where state = 'attached';
create index payment_method_by_key on payment_method (vault_key, id) where vault_key is not null;

alter table checkout_session add column customer_id text;
create index checkout_session_by_customer on checkout_session (customer_id, id) where customer_id is not null;

alter table payment
    add column customer_id text,
    add column setup_future_usage text constraint payment_setup_future_usage check (setup_future_usage in ('on_session', 'off_session'));
create index payment_by_customer on payment (customer_id, id) where customer_id is not null;

alter table charge
    add column customer_id text,
    -- Whether the card is to be kept when this charge has succeeded; then a pending payment method waits for that.
    add column keeps_card boolean not null default false;
create index charge_by_customer on charge (customer_id, id) where customer_id is not null;

-- The simulator remembers cards under references of its own, in the digits that name one test card.
create table simulator.card (
    reference       text primary key,
    bin             text not null,
    last4           text not null,
    created_at      timestamptz not null default now()
);
alter table simulator.charge add column card_reference text;
