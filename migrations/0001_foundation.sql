-- The foundation: who sells (merchant, api_key, redirect_url), what is sold once
-- (checkout_session, payment, charge), what happened (event) and who is still owed the
-- news (delivery). Rules that the code keeps are kept here again as named checks, so that a
-- row which no type can express cannot exist. Every table leads with the merchant.

create table merchant (
    id              text primary key,
    name            text not null,
    -- Shown to payers on every page that tells them to contact the shop.
    support_email   text,
    -- '#rrggbb'; contrast is checked when it is set.
    accent_color    text,
    created_at      timestamptz not null
);

create table api_key (
    id              text primary key,
    merchant_id     text not null references merchant (id),
    livemode        boolean not null,
    name            text not null,
    -- SHA-256 of the whole key. The key has 178 random bits, so a plain hash is enough.
    key_hash        bytea not null constraint api_key_hash_unique unique,
    last4           text not null,
    -- The demo key is printed in the README, so it must be worthless from anywhere else.
    loopback_only   boolean not null default false,
    created_at      timestamptz not null,
    expires_at      timestamptz,
    revoked_at      timestamptz
);
create index api_key_by_merchant on api_key (merchant_id, id);

-- The allow-list of places a payer may be sent back to.
create table redirect_url (
    id              text primary key,
    merchant_id     text not null references merchant (id),
    livemode        boolean not null,
    scheme          text not null constraint redirect_url_scheme check (scheme in ('http', 'https')),
    host            text not null,
    -- Null means any port, which is allowed for loopback hosts in test mode only.
    port            integer,
    path_prefix     text not null,
    created_at      timestamptz not null
);
create unique index redirect_url_unique on redirect_url
    (merchant_id, livemode, scheme, host, coalesce(port, 0), path_prefix);

-- Not partitioned: a unique token and idempotency by key would need the partition key, and ten
-- million rows do not need it. Fillfactor leaves room for the two or three updates a session sees.
create table checkout_session (
    id                   text primary key,
    merchant_id          text not null,
    livemode             boolean not null,
    mode                 text not null constraint checkout_session_mode check (mode in ('payment')),
    state                text not null,
    currency             text not null,
    amount_subtotal      bigint not null,
    amount_total         bigint not null constraint checkout_session_amount_positive check (amount_total > 0),
    -- The priced lines, frozen at creation: what is charged is what is written here.
    line_items           jsonb not null,
    success_url          text,
    cancel_url           text,
    return_url           text,
    expired_url          text,
    failed_url           text,
    client_reference_id  text,
    customer_email       text,
    -- What the payer typed; null until the first valid submit.
    payer_email          text,
    payer_name           text,
    metadata             jsonb not null,
    -- Accepted parameters that decide nothing but are shown or handed back (locale, submit_type, …).
    options              jsonb not null,
    payment_id           text,
    -- Charges tried so far; the session fails when the bound is reached.
    tries                smallint not null default 0,
    -- Events appended so far: gives each event of a session its gap-free number.
    event_count          integer not null,
    created_at           timestamptz not null,
    expires_at           timestamptz not null,
    opened_at            timestamptz,
    completed_at         timestamptz,
    ended_at             timestamptz,
    constraint checkout_session_state check
        (state in ('pending', 'processing', 'completed', 'expired', 'cancelled', 'failed')),
    constraint checkout_session_completed_at check ((state = 'completed') = (completed_at is not null)),
    constraint checkout_session_ended_at check
        ((state in ('completed', 'expired', 'cancelled', 'failed')) = (ended_at is not null))
) with (fillfactor = 90);
create index checkout_session_by_merchant on checkout_session (merchant_id, livemode, id);
-- Small: only what can still expire. The sweep reads it in order of the deadline.
create index checkout_session_due on checkout_session (expires_at) where state = 'pending';

create table payment (
    id                   text primary key,
    merchant_id          text not null,
    livemode             boolean not null,
    session_id           text not null references checkout_session (id),
    amount               bigint not null constraint payment_amount_positive check (amount > 0),
    currency             text not null,
    status               text not null,
    amount_received      bigint not null default 0,
    description          text,
    receipt_email        text,
    metadata             jsonb not null,
    created_at           timestamptz not null,
    constraint payment_status check
        (status in ('requires_payment_method', 'processing', 'succeeded', 'canceled')),
    constraint payment_received check (amount_received = case when status = 'succeeded' then amount else 0 end)
);
create unique index payment_one_per_session on payment (session_id);
create index payment_by_merchant on payment (merchant_id, livemode, id);

-- One row per attempt to take money, written before the provider is asked.
create table charge (
    id                   text primary key,
    merchant_id          text not null,
    livemode             boolean not null,
    payment_id           text not null references payment (id),
    session_id           text not null references checkout_session (id),
    -- The form's own attempt number: a form sent twice is one charge.
    attempt_key          text not null,
    provider             text not null,
    provider_reference   text,
    amount               bigint not null constraint charge_amount_positive check (amount > 0),
    currency             text not null,
    state                text not null,
    payment_method       text not null,
    card_brand           text not null,
    card_last4           text not null,
    card_exp_month       smallint not null,
    card_exp_year        smallint not null,
    -- Null where the provider does not say.
    card_funding         text,
    card_country         text,
    -- Keyed HMAC of the number: says that two cards are the same, never which.
    card_fingerprint     text not null,
    failure_code         text,
    decline_code         text,
    -- For the merchant, and for the payer: the exact reason may be the merchant's alone.
    failure_message      text,
    payer_message        text,
    created_at           timestamptz not null,
    settled_at           timestamptz,
    -- When the sweep asks the provider next; null once settled.
    look_up_at           timestamptz,
    look_ups             integer not null default 0,
    -- Set before the provider is asked to void a charge that it does not know. From then on a success may no
    -- longer complete the session, because the void takes the money back.
    closing              boolean not null default false,
    constraint charge_state check (state in ('pending', 'succeeded', 'failed', 'reversed')),
    constraint charge_settled_at check ((state = 'pending') = (settled_at is null)),
    constraint charge_look_up_at check ((state = 'pending') = (look_up_at is not null)),
    constraint charge_failure check ((state = 'failed') = (failure_code is not null))
);
create unique index charge_attempt_unique on charge (session_id, attempt_key);
-- Promise 2 as the database sees it: one attempt in flight and one success, ever.
create unique index charge_one_live_per_session on charge (session_id) where state in ('pending', 'succeeded');
create index charge_look_up_due on charge (look_up_at) where state = 'pending';
create index charge_by_merchant on charge (merchant_id, livemode, id);

-- What happened: immutable, the exact bytes that are signed and sent. A partition a day, so that
-- retention is a drop and not a delete. The id starts with the time, so a look-up by id knows its day.
create table event (
    id              text not null,
    created_at      timestamptz not null,
    merchant_id     text not null,
    livemode        boolean not null,
    type            text not null,
    object_id       text not null,
    session_id      text,
    session_sequence integer,
    body            text not null,
    primary key (created_at, id)
) partition by range (created_at);
create index event_by_merchant on event (merchant_id, livemode, id);
-- Only a net: the sweep makes partitions a week ahead.
create table event_default partition of event default;

create table webhook_endpoint (
    id              text primary key,
    merchant_id     text not null references merchant (id),
    livemode        boolean not null,
    url             text not null,
    enabled_events  text[] not null,
    description     text,
    metadata        jsonb not null,
    status          text not null constraint webhook_endpoint_status check (status in ('enabled', 'disabled')),
    -- Sealed with a key that is not in the database.
    secret_sealed   bytea not null,
    previous_secret_sealed bytea,
    previous_secret_until  timestamptz,
    api_version     text,
    created_at      timestamptz not null
);
create index webhook_endpoint_by_merchant on webhook_endpoint (merchant_id, livemode, id);

-- The queue: one row per event and endpoint still owed. Delivered rows leave; dead ones stay, marked.
-- A row is born leased to the process that wrote it, which delivers from memory after its commit;
-- when the lease runs out anybody takes it over. Every finishing write is fenced by lease_token.
create table delivery (
    endpoint_id      text not null,
    event_id         text not null,
    event_created_at timestamptz not null,
    merchant_id      text not null,
    attempts         integer not null,
    due_at           timestamptz not null,
    lease_token      uuid not null,
    dead_at          timestamptz,
    primary key (endpoint_id, event_id)
) with (fillfactor = 80);
create index delivery_due on delivery (endpoint_id, due_at) where dead_at is null;
create index delivery_by_event on delivery (event_id);

create table delivery_attempt (
    id               bigint generated always as identity primary key,
    merchant_id      text not null,
    endpoint_id      text not null,
    event_id         text not null,
    attempt          integer not null,
    started_at       timestamptz not null,
    duration_ms      integer not null,
    status_code      integer,
    error            text,
    response_excerpt text,
    next_attempt_at  timestamptz,
    outcome          text not null constraint delivery_attempt_outcome check
        (outcome in ('delivered', 'retry', 'dead'))
);
create index delivery_attempt_by_event on delivery_attempt (event_id, id);
create index delivery_attempt_by_endpoint on delivery_attempt (endpoint_id, id);

-- The first answer to a POST with an Idempotency-Key, sealed, because it may hold a secret that is
-- shown once. It commits together with the change that it reports.
create table idempotency_key (
    merchant_id     text not null,
    livemode        boolean not null,
    key             text not null,
    route           text not null,
    fingerprint     bytea not null,
    status          smallint not null,
    body_sealed     bytea not null,
    created_at      timestamptz not null,
    primary key (merchant_id, livemode, key)
);
create index idempotency_key_age on idempotency_key (created_at);

-- Mail still owed or kept for the development mailbox.
create table mail (
    id              text primary key,
    merchant_id     text not null,
    kind            text not null constraint mail_kind check (kind in ('receipt')),
    recipient       text not null,
    subject         text not null,
    body_text       text not null,
    body_html       text not null,
    session_id      text,
    created_at      timestamptz not null
);
create index mail_by_age on mail (created_at);

-- The simulator's own ledger. It plays a company of its own: no other table refers to it, and it
-- refers to none; the only shared word is our charge id, its idempotency key.
create schema simulator;
create table simulator.charge (
    charge_id       text primary key,
    reference       text not null constraint charge_reference_unique unique,
    -- Null for a charge that was refused in advance and never arrived.
    amount          bigint constraint charge_amount_positive check (amount > 0),
    currency        text,
    -- 'refused': its void came first, so the charge itself will be turned away.
    state           text not null constraint charge_state check
        (state in ('captured', 'declined', 'void', 'refunded', 'refused')),
    decline_code    text,
    amount_refunded bigint not null default 0,
    created_at      timestamptz not null default now(),
    constraint charge_money check ((state = 'refused') = (amount is null) and (amount is null) = (currency is null)),
    constraint charge_decline check ((state = 'declined') = (decline_code is not null)),
    constraint charge_refunded check (amount_refunded between 0 and coalesce(amount, 0)
        and (state = 'refunded') = (amount_refunded = coalesce(amount, -1)))
);
create table simulator.refund (
    refund_id       text primary key,
    charge_id       text not null references simulator.charge (charge_id),
    reference       text not null constraint refund_reference_unique unique,
    amount          bigint not null constraint refund_amount_positive check (amount > 0),
    created_at      timestamptz not null default now()
);
create index refund_by_charge on simulator.refund (charge_id);
