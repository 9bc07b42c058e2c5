-- Deployments whose callers bring keys of their own.

-- Each caller brings it; it is declared with a sentence that says what it is.
alter table bindings
    add column per_user boolean not null default false,
    add column description text not null default '' constraint bindings_description check (octet_length(description) <= 2000),
    drop constraint bindings_one_kind,
    add constraint bindings_one_kind check (num_nonnulls(secret_path, text) + per_user::integer = 1);

alter table deployments
    -- Whether some binding is each caller's own.
    add column per_user boolean not null default false,
    -- Another number whenever a caller's keys would go to something else than the caller agreed to.
    add column terms integer not null default 1,
    add constraint deployments_per_user_is_local check (not per_user or target = 'local');

-- Whoever changes what runs, where, for whom or beside which other variables changes the terms; who writes the row has no say in it.
create function deployments_terms() returns trigger language plpgsql as $$
begin
    if pg_trigger_depth() = 1 then
        new.per_user := old.per_user;
        new.terms := old.terms;
    end if;
    if (new.owner_id, new.source, new.start, new.target, new.options ->> 'network')
        is distinct from (old.owner_id, old.source, old.start, old.target, old.options ->> 'network') then
        new.terms := old.terms + 1;
    end if;
    return new;
end $$;
create trigger deployments_terms before update of owner_id, source, start, target, options, terms, per_user on deployments
    for each row execute function deployments_terms();
create function bindings_terms() returns trigger language plpgsql as $$
begin
    update deployments d set terms = d.terms + 1,
        per_user = exists (select 1 from bindings b where b.deployment_id = d.id and b.per_user)
    where d.id = coalesce(new.deployment_id, old.deployment_id);
    return null;
end $$;
-- Not of the secret's id: a secret that is deleted leaves its place, which changes nothing for others.
create trigger bindings_terms after insert or delete on bindings for each row execute function bindings_terms();
create trigger bindings_terms_change after update on bindings for each row
    when ((old.secret_path, old.text, old.per_user) is distinct from (new.secret_path, new.text, new.per_user)
        or (new.secret_id is not null and new.secret_id is distinct from old.secret_id))
    execute function bindings_terms();

-- A token acts for one owner, and sees no more of other people's deployments than the one of which its maker fills in a key.
create function may_connect(deployment_owner uuid, deployment uuid) returns boolean
    language plpgsql stable as $$
begin
    if current_token() is null then
        return reach(deployment_owner, 'deployment', deployment, null) >= 1;
    end if;
    return current_setting('sealport.token_owner')::uuid = current_actor()
        and current_setting('sealport.token_ceiling')::integer >= 3
        and (deployment_owner = current_actor()
            or granted(current_actor(), deployment_owner, 'deployment', deployment, null, null) >= 1);
end $$;
create function connecting() returns text
    language sql stable
    return current_setting('sealport.connecting', true);
-- A token with a folder fills in what is kept in that folder.
create function keeps_keys_for(deployment text) returns boolean
    language sql stable
    return current_token() is null
        or starts_with('service/' || deployment || '/', current_setting('sealport.token_prefix', true) || '/')
        or coalesce(current_setting('sealport.token_prefix', true), '') = '';
create policy deployments_connecting on deployments for select
    using (name = connecting() and may_connect(owner_id, id) and keeps_keys_for(name));
-- Whoever may call it sees what they are to bring.
create policy bindings_declared on bindings for select using (per_user and may_connect(owner_id, deployment_id));

-- Given to a deployment and to nobody else: no door lets it out again, its owner's included.
alter table secrets add column use_only boolean not null default false;
create or replace function may_bind(secret uuid, deployment uuid) returns boolean
    language sql stable
    return exists (
        select 1 from secrets s, deployments d
        where s.id = secret and d.id = deployment and not s.use_only and usable_in(current_actor(), s.owner_id, s.id, s.path, d.name)
    );
create function secrets_use_only_guard() returns trigger language plpgsql as $$
begin
    if old.use_only and not new.use_only then
        raise exception 'what is for use only stays so' using errcode = '42501';
    end if;
    return new;
end $$;
create trigger secrets_use_only_guard before update of use_only on secrets
    for each row execute function secrets_use_only_guard();

-- A caller's own secret, connected to a deployment. It is used while the deployment's terms are those that the caller agreed to.
create table connections (
    deployment_id uuid not null,
    owner_id uuid not null,
    user_id uuid not null references users (id),
    env text not null,
    secret_id uuid not null references secrets (id) on delete cascade,
    terms integer not null,
    -- What that was, to say afterwards what has changed: its owner, source, target, and what callers bring.
    agreed jsonb not null,
    connected_at timestamptz not null default now(),
    primary key (deployment_id, user_id, env),
    foreign key (deployment_id, owner_id) references deployments (id, owner_id) on update cascade on delete cascade
);
create index connections_user on connections (user_id);
create index connections_secret on connections (secret_id);
alter table connections enable row level security;
alter table connections force row level security;
create function is_own_secret(secret uuid) returns boolean
    language plpgsql stable as $$
begin
    return exists (select 1 from secrets s where s.id = secret and s.owner_id = current_actor() and s.use_only);
end $$;
create policy connections_own on connections for select using (user_id = current_actor());
-- Who is connected, for whoever may change the deployment.
create policy connections_seen on connections for select using (reach(owner_id, 'deployment', deployment_id, null) >= 3);
create policy connections_made on connections for insert with check (
    user_id = current_actor() and may_connect(owner_id, deployment_id) and is_own_secret(secret_id)
);
create policy connections_renewed on connections for update using (user_id = current_actor())
    with check (user_id = current_actor() and may_connect(owner_id, deployment_id) and is_own_secret(secret_id));
create policy connections_ended on connections for delete using (user_id = current_actor());
create policy connections_backup on connections for select using (current_job() = 'backup');
grant select, insert, update, delete on connections to sealport_server;

-- An instance's log is its caller's alone.
alter table log_lines add column user_id uuid references users (id);
drop policy log_lines_seen on log_lines;
create policy log_lines_seen on log_lines for select using (
    user_id is null and reach(owner_id, 'deployment', deployment_id, null) >= 2
);
create policy log_lines_own on log_lines for select using (
    user_id = current_actor() and may_connect(owner_id, deployment_id)
);
create index log_lines_user on log_lines (deployment_id, user_id, seq) where user_id is not null;

-- The gateway's one round trip also says with which of the caller's own keys an instance would run, and which are missing.
drop function gateway_open(text, text, uuid, boolean, text, inet, text, text);
create function gateway_open(
    token_hash text, wanted_name text, record_id uuid, record_access boolean, refusal_note text,
    caller_address inet, caller_agent text, caller_request text
) returns table (token_id uuid, deployment_id uuid, refused text, user_id uuid, per_user boolean, versions text, missing text[])
    language plpgsql volatile as $$
declare
    found_token tokens%rowtype;
    found_deployment uuid;
    found_name text;
    found_terms integer;
    with_keys boolean;
    why text;
    found_versions text;
    found_missing text[];
begin
    perform set_config('sealport.actor', '', true), set_config('sealport.job', '', true),
            set_config('sealport.presented', token_hash, true);
    select * into found_token from tokens where hash = token_hash and audience = 'gateway';
    if found_token.id is null then
        why := 'unknown token';
    elsif found_token.revoked_at is not null then
        why := 'revoked token';
    elsif found_token.expires_at <= now() then
        why := 'expired token';
    else
        perform set_config('sealport.actor', found_token.maker_id::text, true);
        if not exists (select 1 from users where users.id = found_token.maker_id and ended_at is null) then
            why := 'ended account';
        else
            select d.id, d.name, d.per_user, d.terms into found_deployment, found_name, with_keys, found_terms from deployments d
            where d.id = found_token.deployment_id and reach(d.owner_id, 'deployment', d.id, null) >= 1;
            if found_deployment is null then
                why := 'no right to the deployment';
            elsif found_name <> wanted_name then
                why := 'token of another deployment';
            end if;
        end if;
    end if;
    if (why is null and record_access)
        or (why is not null and found_token.id is not null and refusal_note is not null) then
        -- The name is the token's own deployment's: what was asked for comes from outside.
        insert into audit (id, actor_kind, actor_id, actor_name, user_id, owner_id, action, outcome, deployment, address, agent, request_id, reason)
        values (record_id,
                'token', found_token.id, found_token.name, current_actor(), found_token.owner_id, 'gateway.connect',
                case when why is null then 'done' else 'refused' end,
                found_name, caller_address, caller_agent, caller_request, why || refusal_note);
    end if;
    if why is null then
        -- Once a minute is often enough to tell whether a token is in use.
        update tokens set last_used_at = now()
        where tokens.id = found_token.id and (last_used_at is null or last_used_at < now() - interval '1 minute');
    end if;
    if why is null and with_keys then
        -- The terms first: what runs under others is another instance.
        select found_terms || ' ' || string_agg(b.env || '=' || s.id || '@' || s.version, ' ' order by b.env),
            array_agg(b.env order by b.env) filter (where s.id is null)
        into found_versions, found_missing
        from bindings b
        left join connections c on c.deployment_id = b.deployment_id and c.user_id = current_actor() and c.env = b.env and c.terms = found_terms
        left join secrets s on s.id = c.secret_id and s.owner_id = current_actor() and s.active
            and (s.expires_at is null or s.expires_at > now())
        where b.deployment_id = found_deployment and b.per_user;
    end if;
    return query select found_token.id, case when why is null then found_deployment end, why,
        case when why is null then found_token.maker_id end, coalesce(with_keys, false), found_versions, coalesce(found_missing, '{}');
end $$;
grant execute on function gateway_open(text, text, uuid, boolean, text, inet, text, text) to sealport_server;

-- What is for use only is let out by nothing. The reading of many by servers of two versions ago does not know that, and goes.
drop function secrets_read(text, text[], text[], uuid[], inet, text, text, boolean);
create or replace function secret_read(
    token_hash text, wanted_owner text, wanted_path text, wanted_version integer, record_id uuid,
    caller_address inet, caller_agent text, caller_request text, note_dead_token boolean,
    out token_id uuid, out owner_id uuid, out secret_id uuid, out path text, out version integer, out sealed bytea, out refused text
)
    language plpgsql volatile set plan_cache_mode = force_generic_plan as $$
declare
    t record;
begin
    t := token_check(token_hash);
    if t.token_id is null then
        refused := t.refused;
        return;
    elsif t.refused is not null and not note_dead_token then
        token_id := t.token_id;
        refused := t.refused;
        return;
    elsif wanted_owner is not null and t.refused is null
        -- A token acts for one owner; whose names there are besides is not its business.
        and not exists (select 1 from owners o where o.id = t.owner_id and o.handle = wanted_owner) then
        wanted_path := null;
    end if;
    with found as (
        select s.id, s.owner_id, s.path, v.version, v.sealed,
            case
                when t.refused is not null then t.refused
                when s.id is null then 'no such secret'
                when reach(s.owner_id, 'secret', s.id, s.path) < 2 then 'no right to the value'
                when s.use_only then 'the secret is for use only'
                when s.expires_at <= now() then 'the secret has expired'
                when not s.active then 'the secret is switched off'
                when v.version is null then 'no such version'
                when v.destroyed_at is not null then 'the version was destroyed'
            end as why
        from (select) as always
        left join secrets s on t.refused is null and s.owner_id = t.owner_id and s.path_key = lower(wanted_path collate "C")
        left join secret_versions v on v.secret_id = s.id
            -- Not `coalesce`, which Row Level Security keeps away from an index.
            and v.version = case when wanted_version is null then s.version else wanted_version end
    ), noted as (
        insert into audit (id, actor_kind, actor_id, actor_name, user_id, owner_id, action, outcome, secret_id, path, version,
                address, agent, request_id, reason)
        select record_id, 'token', t.token_id, t.name, t.maker_id, t.owner_id, 'secret.read',
                case when f.why is null then 'done' else 'refused' end,
                -- What is not there or not in sight is named by no word from outside.
                f.id, f.path, f.version, caller_address, caller_agent, caller_request, f.why
        from found f
    )
    select t.token_id, f.owner_id, f.id, f.path, f.version, case when f.why is null then f.sealed end, f.why
    into token_id, owner_id, secret_id, path, version, sealed, refused
    from found f;
end $$;
create or replace function secrets_read(
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
                when s.use_only then 'the secret is for use only'
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

-- What was called, by whom, how it went and how long it took: never what it was given or gave.
create table calls (
    deployment_id uuid not null,
    owner_id uuid not null,
    seq bigint generated always as identity,
    at timestamptz not null default now(),
    user_id uuid not null references users (id),
    token_id uuid,
    tool text not null constraint calls_tool check (octet_length(tool) <= 128),
    outcome text not null constraint calls_outcome check (outcome in ('done', 'failed', 'refused', 'given-up')),
    took_ms integer not null constraint calls_took check (took_ms >= 0),
    primary key (deployment_id, seq),
    foreign key (deployment_id, owner_id) references deployments (id, owner_id) on update cascade on delete cascade
);
create index calls_user on calls (deployment_id, user_id, seq);
create index calls_at on calls (at);
alter table calls enable row level security;
alter table calls force row level security;
create policy calls_own on calls for select using (user_id = current_actor() and may_connect(owner_id, deployment_id));
create policy calls_seen on calls for select using (reach(owner_id, 'deployment', deployment_id, null) >= 3);
-- Sees and deletes too: what is beyond the number of rows kept goes as new ones come.
create policy calls_supervisor on calls using (current_job() = 'supervisor') with check (current_job() = 'supervisor');
create policy calls_retention_sees on calls for select using (current_job() = 'retention');
create policy calls_retention on calls for delete using (current_job() = 'retention');
grant select, insert, delete on calls to sealport_server;
-- Whose the tokens of callers are.
create policy tokens_supervisor_sees on tokens for select using (current_job() = 'supervisor');
