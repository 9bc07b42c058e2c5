-- Many reads of one token in one statement: those of one call, which get all or nothing, or calls that came at the same time, each with its
-- own answer and its own row of the record. The function of that name with fewer parameters stays for servers of the version before.
create function secrets_read(
    token_hash text, wanted_owners text[], wanted_paths text[], wanted_versions integer[], record_ids uuid[],
    caller_addresses inet[], caller_agents text[], caller_requests text[], dead_token_notes integer, all_or_none boolean
) returns table (
    place integer, token_id uuid, owner_id uuid, secret_id uuid, path text, version integer, sealed bytea, refused text
)
    language plpgsql volatile set plan_cache_mode = force_generic_plan as $$
declare
    t record;
begin
    select * into t from token_enter(token_hash);
    if t.refused is not null then
        -- So many rows as this token, which opens nothing, may still leave.
        if t.token_id is not null then
            insert into audit (id, actor_kind, actor_id, actor_name, user_id, owner_id, action, outcome, address, agent, request_id, reason)
            select a.record_id, 'token', t.token_id, t.name, t.maker_id, t.owner_id, 'secret.read', 'refused',
                a.address, a.agent, a.request, t.refused
            from unnest(record_ids, caller_addresses, caller_agents, caller_requests) as a (record_id, address, agent, request)
            limit dead_token_notes;
        end if;
        return query select a::integer, t.token_id, null::uuid, null::uuid, null::text, null::integer, null::bytea, t.refused
            from generate_subscripts(record_ids, 1) as a;
        return;
    end if;
    return query
    -- Materialized: Row Level Security keeps `lower` of another row away from an index, and a value that stands there already not.
    with asked as materialized (
        select a.place::integer, a.owner, lower(a.path collate "C") as path_key, a.version, a.record_id, a.address, a.agent, a.request
        from unnest(wanted_owners, wanted_paths, wanted_versions, record_ids, caller_addresses, caller_agents, caller_requests)
            with ordinality as a (owner, path, version, record_id, address, agent, request, place)
    ), found as (
        select a.place, a.record_id, a.address, a.agent, a.request, s.owner_id, s.id, s.path, v.version, v.sealed,
            case
                when s.id is null then 'no such secret'
                when reach(s.owner_id, 'secret', s.id, s.path) < 2 then 'no right to the value'
                when s.expires_at <= now() then 'the secret has expired'
                when not s.active then 'the secret is switched off'
                when v.version is null then 'no such version'
                when v.destroyed_at is not null then 'the version was destroyed'
            end as why
        from asked a
        left join secrets s on s.owner_id = t.owner_id and (a.owner is null or a.owner = t.owner)
            and s.path_key = a.path_key
        left join secret_versions v on v.secret_id = s.id
            and v.version = case when a.version is null then s.version else a.version end
    ), given as (
        -- Of a call that gets all or nothing, the refusals alone when there are any.
        select f.* from found f
        where not all_or_none or f.why is not null or not exists (select 1 from found g where g.why is not null)
    ), noted as (
        insert into audit (id, actor_kind, actor_id, actor_name, user_id, owner_id, action, outcome, secret_id, path, version,
                address, agent, request_id, reason)
        select g.record_id, 'token', t.token_id, t.name, t.maker_id, t.owner_id, 'secret.read',
                case when g.why is null then 'done' else 'refused' end,
                g.id, g.path, g.version, g.address, g.agent, g.request, g.why
        from given g
    )
    select g.place, t.token_id, g.owner_id, g.id, g.path, g.version, case when g.why is null then g.sealed end, g.why
    from given g
    order by g.place;
end $$;
grant execute on function secrets_read(text, text[], text[], integer[], uuid[], inet[], text[], text[], integer, boolean) to sealport_server;
