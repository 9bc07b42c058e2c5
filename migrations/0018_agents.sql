-- What agents get by MCP. An administrator may keep values from them altogether: nobody may by a token, for tokens change no settings.

create policy settings_mcp_made on settings for insert
    with check (key = 'mcp_reveals' and is_administrator());
create policy settings_mcp_changed on settings for update
    using (key = 'mcp_reveals' and is_administrator())
    with check (key = 'mcp_reveals' and is_administrator());

-- As secret_read, for the door of agents: the installation's word is asked in the statement of the access. Without one, values are let out
-- to whoever may read them. What the token may not have anyway is refused as anywhere else, so that the answer tells no more.
create function secret_read_by_mcp(
    token_hash text, wanted_owner text, wanted_path text, wanted_version integer, record_id uuid,
    caller_address inet, caller_agent text, caller_request text
) returns table (
    token_id uuid, owner_id uuid, secret_id uuid, path text, version integer, sealed bytea, refused text
)
    language plpgsql volatile set plan_cache_mode = force_generic_plan as $$
declare
    t record;
    s record;
begin
    select * into t from token_enter(token_hash);
    if t.refused is null and exists (select 1 from settings where key = 'mcp_reveals' and value <> 'true') then
        select x.id, x.owner_id, x.path into s from secrets x
        where x.owner_id = t.owner_id and (wanted_owner is null or wanted_owner = t.owner)
          and lower(x.path collate "C") = lower(wanted_path collate "C")
          and reach(x.owner_id, 'secret', x.id, x.path) >= 2;
        if s.id is not null then
            insert into audit (id, actor_kind, actor_id, actor_name, user_id, owner_id, action, outcome, secret_id, path,
                    address, agent, request_id, reason)
            values (record_id, 'token', t.token_id, t.name, t.maker_id, t.owner_id, 'secret.read', 'refused', s.id, s.path,
                    caller_address, caller_agent, caller_request, 'no values by MCP');
            return query select t.token_id, s.owner_id, s.id, s.path, null::integer, null::bytea, 'no values by MCP';
            return;
        end if;
    end if;
    return query select * from secret_read(token_hash, wanted_owner, wanted_path, wanted_version, record_id,
        caller_address, caller_agent, caller_request);
end $$;
grant execute on function secret_read_by_mcp(text, text, text, integer, uuid, inet, text, text) to sealport_server;
