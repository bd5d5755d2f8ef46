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
