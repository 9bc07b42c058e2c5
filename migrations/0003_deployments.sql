-- Drafts, deployments, releases, logs, tokens, leases.

-- A deployment that is being put together. Holds names and plain text, never a value.
create table drafts (
    id uuid primary key,
    user_id uuid not null references users (id),
    form jsonb not null,
    errors jsonb not null default '{}',
    -- InspectState, and the job's hold on it.
    inspecting jsonb not null default '{"state":"idle"}',
    inspection jsonb,
    -- Rises with each change of the source, so that an older inspection's result is dropped.
    source_change integer not null default 0,
    inspect_holder uuid,
    inspect_until timestamptz,
    -- A source that brings the inspecting server down is not tried for ever.
    inspect_tries integer not null default 0,
    deployed_as text,
    created_at timestamptz not null default now(),
    changed_at timestamptz not null default now()
);
create index drafts_user on drafts (user_id, changed_at desc);
create index drafts_inspecting on drafts (changed_at) where inspecting ->> 'state' = 'running';
alter table drafts enable row level security;
alter table drafts force row level security;
create policy drafts_own on drafts using (user_id = current_actor()) with check (user_id = current_actor());
create policy drafts_supervisor_sees on drafts for select using (current_job() = 'supervisor');
create policy drafts_supervisor on drafts for update
    using (current_job() = 'supervisor') with check (current_job() = 'supervisor');
create policy drafts_retention_sees on drafts for select using (current_job() = 'retention');
create policy drafts_retention on drafts for delete
    using (current_job() = 'retention' and changed_at < now() - interval '7 days');
grant select, insert, update, delete on drafts to sealport_server;

-- A name, once used, stays its owner's.
create table deployment_names (
    name text primary key constraint deployment_names_form check (name ~ '^[a-z][a-z0-9-]{0,38}$'),
    owner_id uuid not null references owners (id),
    taken_at timestamptz not null default now(),
    constraint deployment_names_owner_key unique (name, owner_id)
);
alter table deployment_names enable row level security;
alter table deployment_names force row level security;
create policy deployment_names_own on deployment_names for select using (reach(owner_id, 'owner', owner_id, null) >= 1);
create policy deployment_names_taken on deployment_names for insert with check (reach(owner_id, 'owner', owner_id, null) >= 4);
grant select, insert on deployment_names to sealport_server;

create table deployments (
    id uuid primary key,
    -- Numbers the user id of its guest on this installation's machines.
    ordinal integer generated always as identity,
    name text not null,
    owner_id uuid not null references owners (id),
    source text not null,
    start jsonb not null,
    target text not null check (target in ('local')),
    fetch_key uuid references secrets (id) on delete set null,
    -- The draft it came from: a second press of Deploy finds the first.
    draft_id uuid,
    -- What is wanted, and where it stands.
    wanted boolean not null default true,
    state text not null check (state in ('deploying', 'running', 'restarting', 'failed', 'stopped')),
    reason text,
    state_since timestamptz not null default now(),
    -- The newest release's number.
    release integer not null default 0,
    created_at timestamptz not null default now(),
    -- Which server runs it; a start carries the fence, so that a late server's writes are refused.
    holder uuid,
    held_until timestamptz,
    fence bigint not null default 0,
    -- A deployment has the owner to whom its name belongs.
    constraint deployments_name_owner foreign key (name, owner_id) references deployment_names (name, owner_id),
    constraint deployments_name_key unique (name),
    constraint deployments_draft_key unique (draft_id),
    constraint deployments_id_owner_key unique (id, owner_id)
);
create index deployments_owner on deployments (owner_id, name);
create index deployments_fetch_key on deployments (fetch_key) where fetch_key is not null;
alter table deployments enable row level security;
alter table deployments force row level security;
create policy deployments_seen on deployments for select using (reach(owner_id, 'deployment', id, null) >= 1);
-- Foreign keys see past Row Level Security, so the policy asks whether the actor sees the secret (sees: may use).
create policy deployments_made on deployments for insert with check (
    reach(owner_id, 'deployment', id, null) >= 4
    and (fetch_key is null or exists (
        select 1 from secrets s
        where s.id = fetch_key and usable_in(current_actor(), s.owner_id, s.id, s.path, deployments.name)
    ))
);
create policy deployments_changed on deployments for update using (reach(owner_id, 'deployment', id, null) >= 3)
    with check (reach(owner_id, 'deployment', id, null) >= 3);
create policy deployments_deleted on deployments for delete using (reach(owner_id, 'deployment', id, null) >= 4);
alter table grants add foreign key (deployment_id, owner_id) references deployments (id, owner_id)
    on update cascade on delete cascade;

-- Candidates for lists, found by index; the policies decide on each.
create function deployments_in_sight() returns setof uuid
    language plpgsql stable as $$
declare
    as_whom uuid[] := acting_for();
begin
    return query
        select d.id from deployments d where d.owner_id = any (as_whom)
        union
        select g.deployment_id from grants g where g.grantee_id = any (as_whom) and g.deployment_id is not null;
end $$;

-- Whose files may go, on each machine that has some.
create table destroyed_deployments (
    id uuid primary key,
    owner_id uuid not null references owners (id),
    destroyed_at timestamptz not null default now()
);
alter table destroyed_deployments enable row level security;
alter table destroyed_deployments force row level security;
create policy destroyed_deployments_made on destroyed_deployments for insert
    with check (reach(owner_id, 'deployment', id, null) >= 4
        and exists (select 1 from deployments d where d.id = destroyed_deployments.id and d.owner_id = destroyed_deployments.owner_id));
create policy destroyed_deployments_seen on destroyed_deployments for select using (current_job() = 'supervisor');
grant select, insert on destroyed_deployments to sealport_server;

create policy deployments_supervisor_sees on deployments for select using (current_job() = 'supervisor');
create policy deployments_supervisor on deployments for update
    using (current_job() = 'supervisor') with check (current_job() = 'supervisor');
grant select, insert, update, delete on deployments to sealport_server;

create function deployments_guard() returns trigger language plpgsql as $$
begin
    if (new.id, new.ordinal, new.name, new.owner_id, new.draft_id, new.created_at)
        is distinct from (old.id, old.ordinal, old.name, old.owner_id, old.draft_id, old.created_at) then
        raise exception 'this part of a deployment does not change' using errcode = '42501';
    end if;
    -- A deleted secret leaves its place as fetch key, whoever deletes it.
    if ((new.source, new.start, new.target) is distinct from (old.source, old.start, old.target)
            or (new.fetch_key is not null and new.fetch_key is distinct from old.fetch_key))
        and current_job() is null and reach(old.owner_id, 'deployment', old.id, null) < 4 then
        raise exception 'source and target need admin' using errcode = '42501';
    end if;
    -- The hold and its fence belong to the servers, not to people.
    if current_job() is distinct from 'supervisor'
        and (new.holder, new.held_until, new.fence) is distinct from (old.holder, old.held_until, old.fence) then
        raise exception 'only a supervisor holds a deployment' using errcode = '42501';
    end if;
    return new;
end $$;
create trigger deployments_guard before update on deployments for each row execute function deployments_guard();

create table bindings (
    deployment_id uuid not null,
    owner_id uuid not null,
    env text not null,
    -- By id, so a rename keeps it; a deleted secret leaves the name, so that the next start can say what is missing.
    secret_id uuid references secrets (id) on delete set null,
    secret_path text,
    text text,
    primary key (deployment_id, env),
    foreign key (deployment_id, owner_id) references deployments (id, owner_id) on update cascade on delete cascade,
    constraint bindings_one_kind check ((secret_path is null) <> (text is null))
);
create index bindings_secret on bindings (secret_id) where secret_id is not null;
-- Whether the actor may use the secret in that deployment. What the deployment's owner may is asked at each start.
create function may_bind(secret uuid, deployment uuid) returns boolean
    language sql stable
    return exists (
        select 1 from secrets s, deployments d
        where s.id = secret and d.id = deployment and usable_in(current_actor(), s.owner_id, s.id, s.path, d.name)
    );
alter table bindings enable row level security;
alter table bindings force row level security;
create policy bindings_seen on bindings for select using (reach(owner_id, 'deployment', deployment_id, null) >= 2);
create policy bindings_made on bindings for insert with check (
    reach(owner_id, 'deployment', deployment_id, null) >= 4
    and (secret_id is null or may_bind(secret_id, deployment_id))
);
create policy bindings_changed on bindings for update using (reach(owner_id, 'deployment', deployment_id, null) >= 4)
    with check (
        reach(owner_id, 'deployment', deployment_id, null) >= 4
        and (secret_id is null or may_bind(secret_id, deployment_id))
    );
create policy bindings_deleted on bindings for delete using (reach(owner_id, 'deployment', deployment_id, null) >= 4);
create policy bindings_supervisor_sees on bindings for select using (current_job() = 'supervisor');
grant select, insert, update, delete on bindings to sealport_server;

create table releases (
    deployment_id uuid not null,
    owner_id uuid not null,
    number integer not null check (number > 0),
    state text not null check (state in ('queued', 'running', 'live', 'failed', 'superseded')),
    reason text,
    created_by text not null,
    created_at timestamptz not null default now(),
    ended_at timestamptz,
    -- The deployment's fence when a server claimed it: another fence now means that the claim is void.
    fence bigint,
    -- How often a server has begun it.
    tries integer not null default 0,
    -- What has no version, a directory, is copied anew.
    anew boolean not null default true,
    primary key (deployment_id, number),
    constraint releases_owner_key unique (deployment_id, number, owner_id),
    foreign key (deployment_id, owner_id) references deployments (id, owner_id) on update cascade on delete cascade
);
create index releases_open on releases (created_at) where state in ('queued', 'running');
create unique index releases_one_open on releases (deployment_id) where state in ('queued', 'running');
alter table releases enable row level security;
alter table releases force row level security;
create policy releases_seen on releases for select using (reach(owner_id, 'deployment', deployment_id, null) >= 2);
-- A person queues a release and may end an open one; how it went is for the supervisor to say.
create policy releases_made on releases for insert
    with check (reach(owner_id, 'deployment', deployment_id, null) >= 3 and state = 'queued');
create policy releases_superseded on releases for update
    using (reach(owner_id, 'deployment', deployment_id, null) >= 3 and state in ('queued', 'running'))
    with check (reach(owner_id, 'deployment', deployment_id, null) >= 3 and state = 'superseded');
create policy releases_supervisor_sees on releases for select using (current_job() = 'supervisor');
create policy releases_supervisor on releases for update
    using (current_job() = 'supervisor') with check (current_job() = 'supervisor');
create policy releases_retention_sees on releases for select using (current_job() = 'retention');
create policy releases_retention on releases for delete
    using (current_job() = 'retention' and state in ('live', 'failed', 'superseded'));
grant select, insert, update, delete on releases to sealport_server;

create table release_steps (
    deployment_id uuid not null,
    owner_id uuid not null,
    number integer not null,
    step text not null check (step in ('fetch', 'install', 'start', 'handshake')),
    state text not null check (state in ('waiting', 'running', 'done', 'failed')),
    started_at timestamptz,
    ended_at timestamptz,
    detail text not null default '',
    primary key (deployment_id, number, step),
    -- With the owner: what claims to be one's own cannot hang on another's release.
    foreign key (deployment_id, number, owner_id) references releases (deployment_id, number, owner_id) on update cascade on delete cascade
);
alter table release_steps enable row level security;
alter table release_steps force row level security;
create policy release_steps_seen on release_steps for select using (reach(owner_id, 'deployment', deployment_id, null) >= 2);
create policy release_steps_queued on release_steps for insert
    with check (reach(owner_id, 'deployment', deployment_id, null) >= 3 and state = 'waiting');
create policy release_steps_supervisor on release_steps
    using (current_job() = 'supervisor') with check (current_job() = 'supervisor');
grant select, insert, update on release_steps to sealport_server;

-- Which version of which secret a release used.
create table release_bindings (
    deployment_id uuid not null,
    owner_id uuid not null,
    number integer not null,
    env text not null,
    secret_id uuid not null,
    path text not null,
    version integer not null,
    primary key (deployment_id, number, env),
    -- With the owner: what claims to be one's own cannot hang on another's release.
    foreign key (deployment_id, number, owner_id) references releases (deployment_id, number, owner_id) on update cascade on delete cascade
);
alter table release_bindings enable row level security;
alter table release_bindings force row level security;
create policy release_bindings_seen on release_bindings for select using (reach(owner_id, 'deployment', deployment_id, null) >= 2);
-- Written with the owner's rights, in the transaction that opens the values.
create policy release_bindings_made on release_bindings for insert
    with check (reach(owner_id, 'deployment', deployment_id, null) >= 4);
grant select, insert on release_bindings to sealport_server;

create table log_lines (
    deployment_id uuid not null,
    owner_id uuid not null,
    seq bigint generated always as identity,
    number integer not null,
    at timestamptz not null default now(),
    stream text not null check (stream in ('stdout', 'stderr', 'install', 'sealport')),
    line text not null constraint log_lines_length check (octet_length(line) <= 9000),
    primary key (deployment_id, seq),
    foreign key (deployment_id, owner_id) references deployments (id, owner_id) on update cascade on delete cascade
);
alter table log_lines enable row level security;
alter table log_lines force row level security;
create policy log_lines_seen on log_lines for select using (reach(owner_id, 'deployment', deployment_id, null) >= 2);
-- Sees and deletes too: an append trims what is beyond the number of lines kept.
create policy log_lines_supervisor on log_lines
    using (current_job() = 'supervisor') with check (current_job() = 'supervisor');
create policy log_lines_retention_sees on log_lines for select using (current_job() = 'retention');
create policy log_lines_retention on log_lines for delete using (current_job() = 'retention');
grant select, insert, delete on log_lines to sealport_server;

create table tokens (
    id uuid primary key,
    -- SHA-256 of the whole token, in hex. Tokens carry 256 random bits, so a slow hash would add nothing.
    hash text not null,
    maker_id uuid not null references users (id),
    owner_id uuid not null references owners (id),
    audience text not null check (audience in ('gateway')),
    deployment_id uuid references deployments (id) on delete cascade,
    name text not null constraint tokens_name_length check (char_length(name) between 1 and 100),
    created_at timestamptz not null default now(),
    expires_at timestamptz,
    last_used_at timestamptz,
    revoked_at timestamptz,
    constraint tokens_hash_key unique (hash),
    constraint tokens_gateway_has_deployment check ((audience = 'gateway') = (deployment_id is not null))
);
create index tokens_maker on tokens (maker_id, created_at desc);
create index tokens_deployment on tokens (deployment_id);
alter table tokens enable row level security;
alter table tokens force row level security;
create policy tokens_presented on tokens for select using (hash = presented());
create policy tokens_used on tokens for update using (hash = presented()) with check (hash = presented());
create policy tokens_own on tokens for select
    using (maker_id = current_actor() or reach(owner_id, 'deployment', deployment_id, null) >= 4);
-- Foreign keys see past Row Level Security, so the policy asks whether the maker reaches the deployment, and whose it is.
create policy tokens_made on tokens for insert with check (
    maker_id = current_actor()
    and exists (
        select 1 from deployments d
        where d.id = deployment_id and d.owner_id = tokens.owner_id and reach(d.owner_id, 'deployment', d.id, null) >= 1
    )
);
create policy tokens_revoked on tokens for update
    using (maker_id = current_actor() or reach(owner_id, 'deployment', deployment_id, null) >= 4)
    with check (maker_id = current_actor() or reach(owner_id, 'deployment', deployment_id, null) >= 4);
create policy tokens_operator on tokens
    using (current_job() = 'operator') with check (current_job() = 'operator');
grant select, insert, update on tokens to sealport_server;

-- What is done with a token is on record for its owner, also when it does not hold any more.
create policy audit_written_by_token on audit for insert with check (
    actor_kind = 'token' and user_id is not distinct from current_actor()
    and exists (select 1 from tokens where hash = presented() and tokens.id = actor_id and tokens.owner_id = audit.owner_id)
);

create function tokens_guard() returns trigger language plpgsql as $$
begin
    -- After its making a token can only be used and revoked.
    if (new.id, new.hash, new.maker_id, new.owner_id, new.audience, new.deployment_id, new.name, new.created_at, new.expires_at)
        is distinct from
       (old.id, old.hash, old.maker_id, old.owner_id, old.audience, old.deployment_id, old.name, old.created_at, old.expires_at)
       or (old.revoked_at is not null and new.revoked_at is distinct from old.revoked_at) then
        raise exception 'a token does not change' using errcode = '42501';
    end if;
    return new;
end $$;
create trigger tokens_guard before update on tokens for each row execute function tokens_guard();

-- One round trip for the gateway: check the credential, take on its maker's rights, decide, and record the access or the
-- refusal of a known token, each when asked; a refusal with the note after its reason. A token that is nobody's is not recorded
-- here: the caller bounds what strangers leave. Security invoker: everything in it is read under Row Level Security.
create function gateway_open(
    token_hash text, wanted_name text, record_id uuid, record_access boolean, refusal_note text,
    caller_address inet, caller_agent text, caller_request text
) returns table (token_id uuid, deployment_id uuid, refused text)
    language plpgsql volatile as $$
declare
    found_token tokens%rowtype;
    found_deployment uuid;
    found_name text;
    why text;
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
            select d.id, d.name into found_deployment, found_name from deployments d
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
    return query select found_token.id, case when why is null then found_deployment end, why;
end $$;
grant execute on function gateway_open(text, text, uuid, boolean, text, inet, text, text) to sealport_server;

-- Work that one server does at a time.
create table leases (
    name text primary key,
    holder uuid not null,
    held_until timestamptz not null,
    fence bigint not null default 1
);
alter table leases enable row level security;
alter table leases force row level security;
create policy leases_jobs on leases using (current_job() is not null) with check (current_job() is not null);
grant select, insert, update, delete on leases to sealport_server;
