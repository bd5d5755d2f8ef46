-- Replays: ranges of events that are sent again, a batch at a time, by whichever worker has a moment. Whoever
-- does a batch holds the row's lock for that long, so a process that dies leaves the replay where it was.
create table event_replay (
    id              text primary key,
    merchant_id     text not null,
    livemode        boolean not null,
    from_at         timestamptz not null,
    to_at           timestamptz not null,
    -- Empty for all; a trailing .* stands for a family.
    types           text[] not null,
    only_failed     boolean not null,
    -- Null for every endpoint that subscribes.
    endpoint_id     text,
    state           text not null constraint event_replay_state check (state in ('running', 'completed', 'cancelled', 'failed')),
    -- Why it failed, for the merchant.
    failure         text,
    -- Everything up to this event id has been looked at.
    reached_id      text not null,
    events_scanned  bigint not null,
    deliveries      bigint not null,
    -- The one that was looked at least lately is next.
    looked_at       timestamptz not null,
    created_at      timestamptz not null,
    ended_at        timestamptz,
    constraint event_replay_ended_at check ((ended_at is null) = (state = 'running'))
);
create index event_replay_by_merchant on event_replay (merchant_id, livemode, id);
create index event_replay_running on event_replay (looked_at) where state = 'running';

-- Attempts are pruned by age. Rows are written in the order of time, which is all that this small index needs.
create index delivery_attempt_by_age on delivery_attempt using brin (started_at);
