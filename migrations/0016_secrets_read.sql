-- Many values at once, all or nothing: as secret_read, for a list of paths. When one of them is refused, none goes out, and each
-- refusal is on record.
create function secrets_read(
    token_hash text, wanted_owners text[], wanted_paths text[], record_ids uuid[],
    caller_address inet, caller_agent text, caller_request text, note_dead_token boolean
) returns table (
    place integer, token_id uuid, owner_id uuid, secret_id uuid, path text, version integer, sealed bytea, refused text
)
    language plpgsql volatile set plan_cache_mode = force_generic_plan as $$
declare
    t record;
begin
    select * into t from token_enter(token_hash);
    if t.refused is not null then
        if t.token_id is not null and note_dead_token then
            insert into audit (id, actor_kind, actor_id, actor_name, user_id, owner_id, action, outcome, address, agent, request_id, reason)
            values (record_ids[1], 'token', t.token_id, t.name, t.maker_id, t.owner_id, 'secret.read', 'refused',
                    caller_address, caller_agent, caller_request, t.refused);
        end if;
        return query select 1, t.token_id, null::uuid, null::uuid, null::text, null::integer, null::bytea, t.refused;
        return;
    end if;
    return query
    -- Materialized: Row Level Security keeps `lower` of another row away from an index, and a value that stands there already not.
    with asked as materialized (
        select a.place::integer, a.owner, lower(a.path collate "C") as path_key, a.record_id
        from unnest(wanted_owners, wanted_paths, record_ids) with ordinality as a (owner, path, record_id, place)
    ), found as (
        select a.place, a.record_id, s.owner_id, s.id, s.path, v.version, v.sealed,
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
        left join secret_versions v on v.secret_id = s.id and v.version = s.version
    ), fails as (
        select count(*) as number from found where why is not null
    ), noted as (
        insert into audit (id, actor_kind, actor_id, actor_name, user_id, owner_id, action, outcome, secret_id, path, version,
                address, agent, request_id, reason)
        select f.record_id, 'token', t.token_id, t.name, t.maker_id, t.owner_id, 'secret.read',
                case when f.why is null then 'done' else 'refused' end,
                f.id, f.path, f.version, caller_address, caller_agent, caller_request, f.why
        from found f, fails
        where fails.number = 0 or f.why is not null
    )
    select f.place, t.token_id, f.owner_id, f.id, f.path, f.version, case when fails.number = 0 then f.sealed end, f.why
    from found f, fails
    where fails.number = 0 or f.why is not null
    order by f.place;
end $$;
grant execute on function secrets_read(text, text[], text[], uuid[], inet, text, text, boolean) to sealport_server;
