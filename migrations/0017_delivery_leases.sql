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

-- So it is with attempts.
alter table delivery_attempt drop constraint delivery_attempt_pkey;
drop index delivery_attempt_by_event;
alter table delivery_attempt add primary key (event_id, id);

-- LZ4 packs and unpacks the bodies of events many times as fast as PostgreSQL's own method. A server that was built
-- without it keeps its own. Partitions to come take the method over.
do $$
declare
    part regclass;
begin
    for part in
        select 'event'::regclass union all select inhrelid from pg_inherits where inhparent = 'event'::regclass
    loop
        execute format('alter table %s alter column body set compression lz4', part);
    end loop;
exception
    when feature_not_supported then
        raise notice 'this server was built without LZ4; events are packed as before';
end
$$;
