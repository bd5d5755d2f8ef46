-- What a merchant may set of an endpoint, and how it fares.

alter table webhook_endpoint
    -- Names in lower case, shown; the values are sealed, because they may be credentials.
    add column custom_header_names   text[] not null default '{}',
    add column custom_headers_sealed bytea,
    -- Bounds of the merchant's own: attempts that begin within a second, and attempts at once.
    add column events_per_second     integer constraint webhook_endpoint_events_per_second
        check (events_per_second between 1 and 1000),
    add column concurrency           integer constraint webhook_endpoint_concurrency check (concurrency between 1 and 64),
    -- Whether the events of one session come one after the other.
    add column ordered               boolean not null default false,
    -- An Ed25519 key pair beside the secret: the seed sealed, the public half as receivers get it.
    add column key_seed_sealed          bytea,
    add column previous_key_seed_sealed bytea,
    add column public_key               text,
    add column disabled_reason       text constraint webhook_endpoint_disabled_reason
        check (disabled_reason in ('requested', 'gone', 'failing')),
    add constraint webhook_endpoint_key_pair check ((key_seed_sealed is null) = (public_key is null));

-- Endpoints that failed since their last success; one that is well has no row.
create table webhook_endpoint_health (
    endpoint_id   text primary key references webhook_endpoint (id) on delete cascade,
    failing_since timestamptz not null,
    failures      integer not null,
    -- Pauses since the last success, and the end of the newest. When it is past, one delivery goes ahead.
    pauses        integer not null default 0,
    paused_until  timestamptz
) with (fillfactor = 50);

-- When the next attempt may begin, of endpoints with a bound on their rate. All processes take turns here.
create table webhook_endpoint_pace (
    endpoint_id  text primary key references webhook_endpoint (id) on delete cascade,
    next_slot_at timestamptz not null
) with (fillfactor = 50);

-- Set where the endpoint wants the events of a session in order. A parked row waits for an earlier one and is
-- due at once when that has left; its own time is only the net below.
alter table delivery
    add column session_id       text,
    add column session_sequence integer,
    add column parked           boolean not null default false;
create index delivery_in_order on delivery (endpoint_id, session_id, session_sequence) where session_id is not null;

alter table mail drop constraint mail_kind;
alter table mail add constraint mail_kind check (kind in ('receipt', 'identity_code', 'webhook_endpoint_disabled'));
