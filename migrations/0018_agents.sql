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
    caller_address inet, caller_agent text, caller_request text, note_dead_token boolean,
    out token_id uuid, out owner_id uuid, out secret_id uuid, out path text, out version integer, out sealed bytea, out refused text
)
    language plpgsql volatile set plan_cache_mode = force_generic_plan as $$
declare
    t record;
begin
    t := token_check(token_hash);
    if t.token_id is not null and t.refused is null
        and exists (select 1 from settings where key = 'mcp_reveals' and value <> 'true') then
        select s.owner_id, s.id, s.path into owner_id, secret_id, path
        from secrets s join owners o on o.id = s.owner_id
        where s.owner_id = t.owner_id and s.path_key = lower(wanted_path collate "C")
          and (wanted_owner is null or o.handle = wanted_owner)
          and reach(s.owner_id, 'secret', s.id, s.path) >= 2;
        if secret_id is not null then
            token_id := t.token_id;
            refused := 'no values by MCP';
            insert into audit (id, actor_kind, actor_id, actor_name, user_id, owner_id, action, outcome, secret_id, path,
                    address, agent, request_id, reason)
            values (record_id, 'token', t.token_id, t.name, t.maker_id, t.owner_id, 'secret.read', 'refused', secret_id, path,
                    caller_address, caller_agent, caller_request, refused);
            return;
        end if;
    end if;
    select r.* into token_id, owner_id, secret_id, path, version, sealed, refused
    from secret_read(token_hash, wanted_owner, wanted_path, wanted_version, record_id,
        caller_address, caller_agent, caller_request, note_dead_token) as r;
end $$;
grant execute on function secret_read_by_mcp(text, text, text, integer, uuid, inet, text, text, boolean) to sealport_server;
