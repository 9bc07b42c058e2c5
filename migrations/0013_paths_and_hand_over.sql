-- Paths that differ only in case, in every language; and what a hand-over has to say before it is done.

-- Small letters as ASCII has them: where the database's language is Turkish, the small letter of I is another than i.
-- Forced Row Level Security holds for the owner too: as a job that sees these rows.
select set_config('sealport.job', 'backup', true);
do $$
declare
    twins text;
begin
    select string_agg(twin.names, '; ') into twins from (
        select o.handle || ': ' || string_agg(s.path, ' and ' order by s.path) as names
        from secrets s join owners o on o.id = s.owner_id
        group by o.handle, s.owner_id, lower(s.path collate "C") having count(*) > 1
        order by o.handle limit 10
    ) twin;
    if twins is not null then
        raise exception 'These paths differ only in case. Rename or delete one of each with the version before, then start this one: %', twins;
    end if;
end $$;
select set_config('sealport.job', '', true);
drop index secrets_path_key;
create unique index secrets_path_key on secrets (owner_id, lower(path collate "C"));

-- Whom the heir's folders let in to what comes, and which rules of rotation stay behind.
create policy grants_heir_seen on grants for select using (owner_id = (select heir()) and prefix is not null);
create policy rotation_rules_handover_seen on rotation_rules for select using (owner_id = (select handing_over()));
