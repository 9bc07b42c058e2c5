-- Another fetch key is asked about as at the making: the foreign key sees past Row Level Security. The rest is the guard as it was.
create or replace function deployments_guard() returns trigger language plpgsql as $$
begin
    if (new.id, new.ordinal, new.name, new.draft_id, new.created_at)
        is distinct from (old.id, old.ordinal, old.name, old.draft_id, old.created_at) then
        raise exception 'this part of a deployment does not change' using errcode = '42501';
    end if;
    if new.owner_id <> old.owner_id
        and (old.owner_id is distinct from handing_over() or new.owner_id is distinct from heir()) then
        raise exception 'a deployment changes its owner by a hand-over alone' using errcode = '42501';
    end if;
    -- A deleted secret leaves its place as fetch key, whoever deletes it.
    if ((new.source, new.start, new.target) is distinct from (old.source, old.start, old.target)
            or (new.fetch_key is not null and new.fetch_key is distinct from old.fetch_key))
        and current_job() is null and reach(old.owner_id, 'deployment', old.id, null) < 4 then
        raise exception 'source and target need admin' using errcode = '42501';
    end if;
    if new.fetch_key is not null and new.fetch_key is distinct from old.fetch_key and current_job() is null
        and not exists (
            select 1 from secrets s
            where s.id = new.fetch_key and usable_in(current_actor(), s.owner_id, s.id, s.path, new.name)
        ) then
        raise exception 'the fetch key is not one that may be used' using errcode = '42501';
    end if;
    -- The hold and its fence belong to the servers, not to people.
    if current_job() is distinct from 'supervisor'
        and (new.holder, new.held_until, new.fence) is distinct from (old.holder, old.held_until, old.fence) then
        raise exception 'only a supervisor holds a deployment' using errcode = '42501';
    end if;
    return new;
end $$;
