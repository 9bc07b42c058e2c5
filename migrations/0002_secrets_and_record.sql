-- Keys, secrets, their versions, and the record of every access.

create table master_keys (
    -- SHA-256-based fingerprint of the key, in hex: names it, says nothing of it.
    fingerprint text primary key,
    -- A known text sealed under a key derived from the master key: opens only with the right one.
    canary bytea not null,
    active boolean not null,
    created_at timestamptz not null default now()
);
create unique index master_keys_one_active on master_keys (active) where active;
alter table master_keys enable row level security;
alter table master_keys force row level security;
create policy master_keys_operator on master_keys
    using (current_job() = 'operator') with check (current_job() = 'operator');
grant select, insert, update on master_keys to sealport_server;

create table secrets (
    id uuid primary key,
    owner_id uuid not null references owners (id),
    path text not null constraint secrets_path_length check (octet_length(path) between 1 and 255),
    kind text not null,
    description text not null default '' constraint secrets_description_length check (char_length(description) <= 1000),
    active boolean not null default true,
    expires_at timestamptz,
    version integer not null check (version > 0),
    created_at timestamptz not null default now(),
    changed_at timestamptz not null default now(),
    constraint secrets_id_owner_key unique (id, owner_id)
);
-- No two paths of an owner that differ only in case.
create unique index secrets_path_key on secrets (owner_id, lower(path));

-- A folder's range of paths.
create index secrets_owner_path on secrets (owner_id, path collate "C");

alter table secrets enable row level security;
alter table secrets force row level security;
create policy secrets_seen on secrets for select using (reach(owner_id, 'secret', id, path) >= 1);
create policy secrets_made on secrets for insert with check (reach(owner_id, 'secret', id, path) >= 3);
create policy secrets_changed on secrets for update using (reach(owner_id, 'secret', id, path) >= 3)
    with check (reach(owner_id, 'secret', id, path) >= 3);
create policy secrets_deleted on secrets for delete using (reach(owner_id, 'secret', id, path) >= 4);
grant select, insert, update, delete on secrets to sealport_server;

create function secrets_guard() returns trigger language plpgsql as $$
begin
    if (new.id, new.created_at) is distinct from (old.id, old.created_at) then
        raise exception 'this part of a secret does not change' using errcode = '42501';
    end if;
    if new.path is distinct from old.path
        and current_job() is null and reach(old.owner_id, 'secret', old.id, old.path) < 4 then
        raise exception 'renaming needs admin' using errcode = '42501';
    end if;
    -- No grant is enough to take a secret from its owner: that would shut the owner out.
    if new.owner_id is distinct from old.owner_id
        and current_job() is null and reach(old.owner_id, 'owner', old.owner_id, null) < 4 then
        raise exception 'moving is for the owner' using errcode = '42501';
    end if;
    return new;
end $$;
create trigger secrets_guard before update on secrets for each row execute function secrets_guard();

-- The secrets in sight, found by index: what the actor owns, what their teams own, what was granted. Only candidates: the policies
-- on secrets decide on each. Lists begin here, so that they do not read what others have.
create function secrets_in_sight() returns setof uuid
    language plpgsql stable as $$
declare
    as_whom uuid[] := acting_for();
begin
    return query
        select s.id from secrets s where s.owner_id = any (as_whom)
        union
        select g.secret_id from grants g where g.grantee_id = any (as_whom) and g.secret_id is not null
        union
        -- '0' follows '/': the paths of a folder stand between the two.
        select s.id from grants g join secrets s on s.owner_id = g.owner_id
            and s.path collate "C" >= g.prefix || '/' and s.path collate "C" < g.prefix || '0'
        where g.grantee_id = any (as_whom) and g.prefix is not null;
end $$;

-- Levels that were given: on a secret, on every path under a prefix, or on a deployment (its key follows with that table).
create table grants (
    id uuid primary key,
    owner_id uuid not null references owners (id),
    secret_id uuid,
    -- Whole segments, without the slash at its end.
    prefix text constraint grants_prefix_form check (
        octet_length(prefix) between 1 and 250
        and prefix ~ '^(meta|project|service)(/[A-Za-z0-9_][A-Za-z0-9._-]*){0,6}$'
    ),
    deployment_id uuid,
    grantee_id uuid not null references owners (id),
    level integer not null check (level between 1 and 4),
    -- `use` in these deployments alone, by name: a name stays its owner's.
    only_deployments text[],
    granted_by uuid not null,
    -- As named then.
    granted_by_name text not null,
    granted_at timestamptz not null default now(),
    foreign key (secret_id, owner_id) references secrets (id, owner_id) on update cascade on delete cascade,
    constraint grants_one_object check (num_nonnulls(secret_id, prefix, deployment_id) = 1),
    constraint grants_narrowed check (
        only_deployments is null
        or (level = 1 and deployment_id is null and cardinality(only_deployments) between 1 and 50)
    ),
    constraint grants_to_another check (grantee_id <> owner_id)
);
create index grants_grantee on grants (grantee_id, owner_id);
create unique index grants_secret_key on grants (secret_id, grantee_id) where secret_id is not null;
create unique index grants_prefix_key on grants (owner_id, prefix, grantee_id) where prefix is not null;
create unique index grants_deployment_key on grants (deployment_id, grantee_id) where deployment_id is not null;
alter table grants enable row level security;
alter table grants force row level security;

-- How far the actor reaches on what a grant is about.
create function reach_of_grant(object_owner uuid, secret uuid, prefix text, deployment uuid) returns integer
    language plpgsql stable as $$
begin
    if secret is not null then
        return coalesce((
            select reach(s.owner_id, 'secret', s.id, s.path) from secrets s where s.id = secret and s.owner_id = object_owner
        ), 0);
    elsif deployment is not null then
        return reach(object_owner, 'deployment', deployment, null);
    end if;
    return reach(object_owner, 'secret', null, prefix || '/');
end $$;

create policy grants_seen on grants for select using (
    -- In this order: what was granted to oneself is what `reach` itself reads.
    case when grantee_id = any ((select acting_for())::uuid[]) then true
        else reach_of_grant(owner_id, secret_id, prefix, deployment_id) >= 4 end
);
create policy grants_made on grants for insert with check (
    granted_by = current_actor()
    and exists (select 1 from owners o where o.id = grantee_id and o.ended_at is null)
    and reach_of_grant(owner_id, secret_id, prefix, deployment_id) >= 4
);
create policy grants_changed on grants for update
    using (reach_of_grant(owner_id, secret_id, prefix, deployment_id) >= 4)
    with check (granted_by = current_actor() and reach_of_grant(owner_id, secret_id, prefix, deployment_id) >= 4);
-- What was given to oneself, or to a team that one administers, can be given back.
create policy grants_ended on grants for delete
    using (grantee_id = any ((select record_owners())::uuid[]) or reach_of_grant(owner_id, secret_id, prefix, deployment_id) >= 4);
grant select, insert, update, delete on grants to sealport_server;

create function grants_guard() returns trigger language plpgsql as $$
begin
    if (new.id, new.secret_id, new.prefix, new.deployment_id, new.grantee_id)
        is distinct from (old.id, old.secret_id, old.prefix, old.deployment_id, old.grantee_id) then
        raise exception 'this part of a grant does not change' using errcode = '42501';
    end if;
    return new;
end $$;
create trigger grants_guard before update on grants for each row execute function grants_guard();

create table data_keys (
    id uuid primary key,
    owner_id uuid not null references owners (id),
    master_key text not null references master_keys (fingerprint),
    -- The key, sealed by the master key; bound to format, master key, id and owner.
    wrapped bytea not null,
    active boolean not null default true,
    created_at timestamptz not null default now(),
    constraint data_keys_id_owner_key unique (id, owner_id)
);
create unique index data_keys_one_active on data_keys (owner_id) where active;
alter table data_keys enable row level security;
alter table data_keys force row level security;
-- Wrapped keys open nothing without the master key; still, only those with business in an owner's secrets see them.
create policy data_keys_seen on data_keys for select using (reach(owner_id, 'any', null, null) >= 1);
create policy data_keys_made on data_keys for insert with check (reach(owner_id, 'any', null, null) >= 3);
create policy data_keys_operator on data_keys
    using (current_job() = 'operator') with check (current_job() = 'operator');
grant select, insert, update on data_keys to sealport_server;

create table secret_versions (
    secret_id uuid not null,
    owner_id uuid not null,
    version integer not null check (version > 0),
    data_key_id uuid not null,
    -- Format byte, data key id, nonce, ciphertext and tag; bound to format, data key, owner, secret and version.
    sealed bytea not null,
    generated boolean not null default false,
    -- Long enough to be masked in what a server says; more of its length is not told.
    maskable boolean not null,
    created_at timestamptz not null default now(),
    created_by text not null,
    primary key (secret_id, version),
    foreign key (secret_id, owner_id) references secrets (id, owner_id) on update cascade on delete cascade,
    -- At the commit: a move to another owner changes the owner first, then seals anew.
    foreign key (data_key_id, owner_id) references data_keys (id, owner_id) deferrable initially deferred
);
alter table secret_versions enable row level security;
alter table secret_versions force row level security;
-- Whoever sees a secret sees its versions; the policies on secrets decide which those are.
create policy secret_versions_seen on secret_versions for select using (
    exists (select 1 from secrets s where s.id = secret_id and s.owner_id = secret_versions.owner_id)
);
create policy secret_versions_made on secret_versions for insert with check (
    exists (
        select 1 from secrets s
        where s.id = secret_id and s.owner_id = secret_versions.owner_id and reach(s.owner_id, 'secret', s.id, s.path) >= 3
    )
);
-- A move to another owner seals anew; nothing else of a version changes.
create policy secret_versions_resealed on secret_versions for update using (
    exists (
        select 1 from secrets s
        where s.id = secret_id and s.owner_id = secret_versions.owner_id and reach(s.owner_id, 'secret', s.id, s.path) >= 4
    )
);
grant select, insert, update (data_key_id, sealed) on secret_versions to sealport_server;

-- The record. It refers to nothing, so that it outlives what it speaks of; the server can only insert and read.
create table audit (
    id uuid primary key,
    at timestamptz not null default now(),
    actor_kind text not null check (actor_kind in ('user', 'token', 'deployment', 'job', 'anonymous')),
    actor_id uuid,
    actor_name text not null,
    -- The user whose rights applied.
    user_id uuid,
    -- Whose object it was: owners see all access to what they own.
    owner_id uuid,
    action text not null,
    outcome text not null check (outcome in ('done', 'refused')),
    secret_id uuid,
    path text,
    version integer,
    deployment text,
    release integer,
    address inet,
    agent text constraint audit_agent_length check (char_length(agent) <= 200),
    request_id text,
    -- With whom something was shared, or who became a member, and the level.
    grantee text,
    level text constraint audit_level check (level in ('use', 'read', 'write', 'admin')),
    reason text constraint audit_reason_length check (char_length(reason) <= 200)
);
create index audit_owner on audit (owner_id, id desc);
create index audit_user on audit (user_id, id desc);
create index audit_secret on audit (secret_id, id desc) where secret_id is not null;
alter table audit enable row level security;
alter table audit force row level security;
create policy audit_seen on audit for select
    using (owner_id = any ((select record_owners())::uuid[]) or user_id = current_actor());
-- As whoever acts, and about what is nobody's, theirs, or an owner's who gave them something. Jobs write for all.
create policy audit_written on audit for insert with check (
    current_job() is not null
    or (
        user_id is not distinct from current_actor()
        and (
            owner_id is null
            or reach(owner_id, 'any', null, null) >= 1
            -- Signing in: the account that was tried.
            or exists (select 1 from users where users.id = owner_id and users.email = presented())
            -- The first administrator's own making.
            or burnt_now('first-administrator')
        )
    )
);
grant select, insert on audit to sealport_server;
