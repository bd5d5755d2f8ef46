-- Attempts are looked up by their events: one index serves as the key as well. On a large log this takes a while, and
-- nothing is delivered meanwhile.
alter table delivery_attempt drop constraint delivery_attempt_pkey;
drop index delivery_attempt_by_event;
alter table delivery_attempt add primary key (event_id, id);
