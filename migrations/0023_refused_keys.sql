-- Callers' own keys: refused by the far service, and what ends with a right.

-- When a tool's answer last showed that the far service refused the caller's keys, and with which version of this one. Which of several
-- was refused, nobody can tell. Of what the tool said, nothing is kept.
alter table connections
    add column refused_at timestamptz,
    add column refused_version integer,
    add constraint connections_refused check ((refused_at is null) = (refused_version is null));
-- What is connected anew was not refused yet.
create function connections_renewed() returns trigger language plpgsql as $$
begin
    new.refused_at := null;
    new.refused_version := null;
    return new;
end $$;
create trigger connections_renewed before update of secret_id, terms, connected_at on connections
    for each row execute function connections_renewed();

-- The supervisor notes it, and changes nothing else.
create policy connections_supervisor_sees on connections for select using (current_job() = 'supervisor');
create policy connections_supervisor on connections for update
    using (current_job() = 'supervisor') with check (current_job() = 'supervisor');
create function connections_supervisor_guard() returns trigger language plpgsql as $$
begin
    if (new.deployment_id, new.owner_id, new.user_id, new.env, new.secret_id, new.terms, new.agreed, new.connected_at)
        is distinct from (old.deployment_id, old.owner_id, old.user_id, old.env, old.secret_id, old.terms, old.agreed, old.connected_at) then
        raise exception 'the job notes what was refused, nothing else' using errcode = '42501';
    end if;
    return new;
end $$;
create trigger connections_supervisor_guard before update on connections for each row
    when (current_job() = 'supervisor') execute function connections_supervisor_guard();

-- With what each of these callers' instances would run now, as the gateway would say; null where it would not. And whether the far service
-- refused just that, and when the first of it ends. With each caller's own eyes: no job sees their secrets.
create function callers_keys(deployments uuid[], callers uuid[])
    returns table (place bigint, versions text, refused boolean, expires_at timestamptz)
    language plpgsql volatile as $$
declare
    one record;
begin
    perform set_config('sealport.job', '', true), set_config('sealport.presented', '', true);
    for one in select a.place, a.deployment, a.caller from unnest(deployments, callers) with ordinality as a (deployment, caller, place) loop
        perform set_config('sealport.actor', one.caller::text, true);
        place := one.place;
        versions := null;
        refused := false;
        expires_at := null;
        select case when bool_and(s.id is not null)
                then d.terms || ' ' || string_agg(b.env || '=' || s.id || '@' || s.version, ' ' order by b.env) end,
            bool_and(coalesce(c.refused_version = s.version, false)), min(s.expires_at)
        into versions, refused, expires_at
        from deployments d
        join bindings b on b.deployment_id = d.id and b.per_user
        left join connections c on c.deployment_id = d.id and c.user_id = one.caller and c.env = b.env and c.terms = d.terms
        left join secrets s on s.id = c.secret_id and s.owner_id = one.caller and s.active
            and (s.expires_at is null or s.expires_at > now())
        where d.id = one.deployment and reach(d.owner_id, 'deployment', d.id, null) >= 1
            and exists (select 1 from users u where u.id = one.caller and u.ended_at is null)
        group by d.id, d.terms;
        return next;
    end loop;
end $$;
grant execute on function callers_keys(uuid[], uuid[]) to sealport_server;

-- Nothing is connected for whoever has left.
create policy connections_handover_seen on connections for select using (user_id = (select handing_over()));
create policy connections_handover on connections for delete using (user_id = (select handing_over()));
-- The owner who migrates is bound by the policies too.
alter table connections no force row level security;
alter table users no force row level security;
delete from connections c using users u where u.id = c.user_id and u.ended_at is not null;
alter table connections force row level security;
alter table users force row level security;
