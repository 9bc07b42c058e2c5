-- What the program asked alone, or nobody: where a secret may be renamed to, keys that are for use only, other code for what is bound,
-- and reset links that are left over when a password changes.

-- Everything before the last segment, with its slash; nothing of a bare name.
create function folder_of(path text) returns text
    language sql immutable parallel safe
    return regexp_replace(path, '[^/]*$', '');

-- Whether an admin of a secret may give it this path. Within its folder, yes. Elsewhere a path has a meaning of its own: who reaches what
-- stands there, and which key a target takes when none is named. A level on the one secret says nothing of that, so it does not count;
-- nor does it for such a key's path itself, which may be free in the folder of another.
create function may_rename(object_owner uuid, old_path text, new_path text) returns boolean
    language plpgsql stable as $$
begin
    return (folder_of(old_path) = folder_of(new_path) and lower(new_path) !~ '^meta/[^/]+/api_key$')
        or reach(object_owner, 'secret', null, new_path) >= 4;
end $$;

create or replace function secrets_guard() returns trigger language plpgsql as $$
begin
    if (new.id, new.created_at) is distinct from (old.id, old.created_at) then
        raise exception 'this part of a secret does not change' using errcode = '42501';
    end if;
    if new.path is distinct from old.path and current_job() is null
        and (reach(old.owner_id, 'secret', old.id, old.path) < 4 or not may_rename(new.owner_id, old.path, new.path)) then
        raise exception 'renaming needs admin, and in another folder admin of that' using errcode = '42501';
    end if;
    -- No grant is enough to take a secret from its owner: that would shut the owner out.
    if new.owner_id is distinct from old.owner_id
        and current_job() is null and reach(old.owner_id, 'owner', old.owner_id, null) < 4 then
        raise exception 'moving is for the owner' using errcode = '42501';
    end if;
    return new;
end $$;

-- A key that its person gave to one deployment fetches and reaches nothing for another.
alter policy deployments_made on deployments with check (
    reach(owner_id, 'deployment', id, coalesce(folder, '')) >= 4
    and placed = '{}' and not destroying
    and (fetch_key is null or exists (
        select 1 from secrets s
        where s.id = fetch_key and not s.use_only and usable_in(current_actor(), s.owner_id, s.id, s.path, deployments.name)
    ))
    and (provider_key is null or exists (
        select 1 from secrets s
        where s.id = provider_key and not s.use_only and usable_in(current_actor(), s.owner_id, s.id, s.path, deployments.name)
    ))
);

-- Whether the actor may use all of these in the deployment of that name.
create function may_use_all(wanted uuid[], deployment_name text) returns boolean
    language plpgsql stable as $$
begin
    return not exists (
        select 1 from unnest(wanted) as w (id)
        where w.id is not null and not exists (
            select 1 from secrets s
            where s.id = w.id and not s.use_only and usable_in(current_actor(), s.owner_id, s.id, s.path, deployment_name)
        )
    );
end $$;

-- Whoever chooses the code, where it runs or the account there can make it give its values away: they must be able to use all that is
-- bound. The guards of before ask for `admin` and for a key that is another; this one asks for the rest, and only where that changes.
create function deployments_code_guard() returns trigger language plpgsql as $$
declare
    bound uuid[] := array[new.fetch_key];
begin
    if (new.source, new.start, new.target, new.options, coalesce(new.provider_key, old.provider_key))
        is distinct from (old.source, old.start, old.target, old.options, old.provider_key) then
        bound := bound || new.provider_key
            || array(select b.secret_id from bindings b where b.deployment_id = new.id and b.secret_id is not null);
    end if;
    if not may_use_all(bound, new.name) then
        raise exception 'a bound secret is not one that may be used' using errcode = '42501';
    end if;
    return new;
end $$;
create trigger deployments_code_guard before update of source, start, target, options, fetch_key, provider_key on deployments
    for each row
    -- A deleted secret leaves its place as a key, whoever deletes it.
    when (current_job() is null
        and (new.source, new.start, new.target, new.options, coalesce(new.fetch_key, old.fetch_key), coalesce(new.provider_key, old.provider_key))
            is distinct from (old.source, old.start, old.target, old.options, old.fetch_key, old.provider_key))
    execute function deployments_code_guard();

-- Whoever changes their password ends the links that would set another.
create policy one_time_links_reset_own on one_time_links for select using (purpose = 'reset' and user_id = current_actor());
create policy one_time_links_reset_own_ended on one_time_links for delete using (purpose = 'reset' and user_id = current_actor());
