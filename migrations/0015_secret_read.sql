-- Reading a value in one round trip, and what makes that fast: no check is left out, but each is set up once.

-- Paths as they are compared. A column of its own, because Row Level Security keeps `lower` away from an index: it could tell of a row
-- that is not in sight. Comparing a column tells nothing.
alter table secrets add column path_key text collate "C" not null generated always as (lower(path collate "C")) stored;
drop index secrets_path_key;
create unique index secrets_path_key on secrets (owner_id, path_key);

-- As they were, without subqueries: those are set up by every statement that may read the table, whoever acts.
alter policy secrets_handover_seen on secrets using (owner_id = handing_over() or owner_id = heir());
alter policy tokens_handover_seen on tokens using (maker_id = handing_over() or owner_id = handing_over() or owner_id = heir());
alter policy users_reset_seen on users using (id = reset_now());
create function account_tried(account uuid) returns boolean
    language plpgsql stable as $$
begin
    return exists (select 1 from users u where u.id = account and u.email = presented());
end $$;
create function token_shown(token uuid, token_owner uuid) returns boolean
    language plpgsql stable as $$
begin
    return exists (select 1 from tokens t where t.hash = presented() and t.id = token and t.owner_id = token_owner);
end $$;
alter policy audit_written on audit with check (
    current_job() is not null
    or (
        user_id is not distinct from current_actor()
        and (
            owner_id is null
            or reach(owner_id, 'any', null, null) >= 1
            -- Signing in: the account that was tried.
            or account_tried(owner_id)
            -- The first administrator's own making.
            or burnt_now('first-administrator')
        )
    )
);
alter policy audit_written_by_token on audit with check (
    actor_kind = 'token' and user_id is not distinct from current_actor()
    -- The token that acts was looked up when it was entered.
    and case when actor_id = current_token() then owner_id = current_setting('sealport.token_owner')::uuid
        else token_shown(actor_id, owner_id) end
);
alter policy audit_written_by_link on audit with check (
    actor_kind = 'anonymous' and user_id is null and current_actor() is null
    and (burnt_now('invitation') or owner_id = reset_now())
);
alter policy audit_written_by_administrator on audit with check (
    actor_kind = 'user' and user_id = current_actor()
    and action in ('reset.make', 'administrator.make', 'administrator.unmake')
    and is_administrator()
);

-- Check the token, act by it, decide, read the sealed value and put the access on record, in one statement that is durable when it
-- comes back. Security invoker: everything in it is read under Row Level Security.
create function secret_read(
    token_hash text, wanted_owner text, wanted_path text, wanted_version integer, record_id uuid,
    caller_address inet, caller_agent text, caller_request text,
    out token_id uuid, out owner_id uuid, out secret_id uuid, out path text, out version integer, out sealed bytea, out refused text
)
    language plpgsql volatile set plan_cache_mode = force_generic_plan as $$
declare
    t record;
    s record;
begin
    t := token_check(token_hash);
    token_id := t.token_id;
    refused := t.refused;
    if token_id is null then
        return;
    end if;
    if refused is null then
        select x.id, x.owner_id, x.path, x.active, x.expires_at, reach(x.owner_id, 'secret', x.id, x.path) as level,
            y.version, y.sealed, y.destroyed_at into s
        from secrets x
        left join secret_versions y on y.secret_id = x.id and y.version = case when wanted_version is null then x.version else wanted_version end
        where x.owner_id = t.owner_id and x.path_key = lower(wanted_path collate "C")
            -- A token acts for one owner; whose names there are besides is not its business.
            and (wanted_owner is null or wanted_owner = (select o.handle from owners o where o.id = t.owner_id));
        refused := case
            when s.id is null then 'no such secret'
            when s.level < 2 then 'no right to the value'
            when s.expires_at <= now() then 'the secret has expired'
            when not s.active then 'the secret is switched off'
            when s.version is null then 'no such version'
            when s.destroyed_at is not null then 'the version was destroyed'
        end;
        owner_id := s.owner_id;
        secret_id := s.id;
        path := s.path;
        version := s.version;
        sealed := case when refused is null then s.sealed end;
    end if;
    insert into audit (id, actor_kind, actor_id, actor_name, user_id, owner_id, action, outcome, secret_id, path, version,
            address, agent, request_id, reason)
    values (record_id, 'token', t.token_id, t.name, t.maker_id, t.owner_id, 'secret.read',
            case when refused is null then 'done' else 'refused' end,
            -- What is not there or not in sight is named by no word from outside.
            secret_read.secret_id, secret_read.path, secret_read.version, caller_address, caller_agent, caller_request, refused);
end $$;
grant execute on function secret_read(text, text, text, integer, uuid, inet, text, text) to sealport_server;
