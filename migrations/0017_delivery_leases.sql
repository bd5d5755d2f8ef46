-- A lease is no longer the due time of its row: claiming a row then changes nothing that stands in an index, and
-- its new version stays in the same page. Half of each page is left free for that.

alter table delivery add column leased_until timestamptz;
alter table delivery set (fillfactor = 50);
comment on column delivery.due_at is
    'When the next attempt is due. Of a new row this is the end of the lease of the process that wrote it.';
comment on column delivery.leased_until is
    'Until when the row is the process''s that claimed it; the token says whose. Null when nobody did.';

-- Rows are looked up by their events, alone or with the endpoint: one index serves both.
alter table delivery drop constraint delivery_pkey;
drop index delivery_by_event;
alter table delivery add primary key (event_id, endpoint_id);
-- With delivery_due, which holds the others, this finds the rows of an endpoint.
create index delivery_dead on delivery (endpoint_id) where dead_at is not null;
