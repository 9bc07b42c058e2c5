-- Reading a value in one round trip: check the token, act by it, decide, read the sealed value and put the access on record, in one
-- statement that is durable when it comes back. Security invoker: everything in it is read under Row Level Security.
create function secret_read(
    token_hash text, wanted_owner text, wanted_path text, wanted_version integer, record_id uuid,
    caller_address inet, caller_agent text, caller_request text
) returns table (
    token_id uuid, owner_id uuid, secret_id uuid, path text, version integer, sealed bytea, refused text
)
    language plpgsql volatile set plan_cache_mode = force_generic_plan as $$
declare
    t record;
    -- Not records: one of those that nothing was put into cannot be asked, and a refusal comes before all is looked up.
    s_id uuid;
    s_owner uuid;
    s_path text;
    s_version integer;
    s_active boolean;
    s_ends timestamptz;
    s_level integer;
    v_version integer;
    v_sealed bytea;
    v_destroyed timestamptz;
    whose uuid;
    why text;
begin
    select * into t from token_enter(token_hash);
    why := t.refused;
    if why is null then
        whose := t.owner_id;
        if wanted_owner is not null and wanted_owner <> t.owner then
            -- A token acts for one owner; whose names there are besides is not its business.
            whose := null;
        end if;
        select x.id, x.owner_id, x.path, x.version, x.active, x.expires_at, reach(x.owner_id, 'secret', x.id, x.path)
        into s_id, s_owner, s_path, s_version, s_active, s_ends, s_level
        from secrets x where x.owner_id = whose and lower(x.path collate "C") = lower(wanted_path collate "C");
        if s_id is null then
            why := 'no such secret';
        elsif s_level < 2 then
            why := 'no right to the value';
        elsif s_ends <= now() then
            why := 'the secret has expired';
        elsif not s_active then
            why := 'the secret is switched off';
        else
            select y.version, y.sealed, y.destroyed_at into v_version, v_sealed, v_destroyed from secret_versions y
            where y.secret_id = s_id and y.version = coalesce(wanted_version, s_version);
            if v_version is null then
                why := 'no such version';
            elsif v_destroyed is not null then
                why := 'the version was destroyed';
            end if;
        end if;
    end if;
    if t.token_id is not null then
        insert into audit (id, actor_kind, actor_id, actor_name, user_id, owner_id, action, outcome, secret_id, path, version,
                address, agent, request_id, reason)
        values (record_id, 'token', t.token_id, t.name, t.maker_id, t.owner_id, 'secret.read',
                case when why is null then 'done' else 'refused' end,
                -- What is not there or not in sight is named by no word from outside.
                s_id, s_path, v_version, caller_address, caller_agent, caller_request, why);
    end if;
    return query select t.token_id, s_owner, s_id, s_path, v_version, case when why is null then v_sealed end, why;
end $$;
grant execute on function secret_read(text, text, text, integer, uuid, inet, text, text) to sealport_server;
