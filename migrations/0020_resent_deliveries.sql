-- Whether a delivery was asked for again: such a one tells nothing of how soon events leave.
alter table delivery add column again boolean not null default false;
comment on column delivery.again is
    'Set by a resend or a replay; the event may be old by then, whatever the number of the attempt.';
