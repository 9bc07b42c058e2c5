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

-- The one decision: how far the current actor reaches.
-- 0 nothing, 1 use, 2 read, 3 write, 4 admin. Policies and functions call it; nothing repeats it.
create function reach(object_owner uuid, object_kind text, object_id uuid) returns integer
    language sql stable
    return case when object_owner = current_actor() then 4 else 0 end;
comment on function reach(uuid, text, uuid) is
    'The level the current actor has on an object of a kind (secret, deployment) and owner: 0 nothing, 1 use, 2 read, 3 write, 4 admin.';

alter table secrets enable row level security;
alter table secrets force row level security;
create policy secrets_seen on secrets for select using (reach(owner_id, 'secret', id) >= 1);
create policy secrets_made on secrets for insert with check (reach(owner_id, 'secret', id) >= 3);
create policy secrets_changed on secrets for update using (reach(owner_id, 'secret', id) >= 3)
    with check (reach(owner_id, 'secret', id) >= 3);
create policy secrets_deleted on secrets for delete using (reach(owner_id, 'secret', id) >= 4);
grant select, insert, update, delete on secrets to sealport_server;

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
create policy data_keys_seen on data_keys for select using (reach(owner_id, 'data_key', id) >= 1);
create policy data_keys_made on data_keys for insert with check (reach(owner_id, 'data_key', id) >= 3);
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
    foreign key (secret_id, owner_id) references secrets (id, owner_id) on delete cascade,
    foreign key (data_key_id, owner_id) references data_keys (id, owner_id)
);
alter table secret_versions enable row level security;
alter table secret_versions force row level security;
create policy secret_versions_seen on secret_versions for select using (reach(owner_id, 'secret', secret_id) >= 1);
create policy secret_versions_made on secret_versions for insert with check (reach(owner_id, 'secret', secret_id) >= 3);
grant select, insert on secret_versions to sealport_server;

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
    reason text constraint audit_reason_length check (char_length(reason) <= 200)
);
create index audit_owner on audit (owner_id, id desc);
create index audit_user on audit (user_id, id desc);
create index audit_secret on audit (secret_id, id desc) where secret_id is not null;
alter table audit enable row level security;
alter table audit force row level security;
create policy audit_seen on audit for select using (owner_id = current_actor() or user_id = current_actor());
-- As whoever acts, and about what is theirs or nobody's: nobody writes into another's record. Jobs write for all.
create policy audit_written on audit for insert with check (
    current_job() is not null
    or (
        user_id is not distinct from current_actor()
        and (
            owner_id is null
            or owner_id = current_actor()
            -- Signing in: the account that was tried.
            or exists (select 1 from users where users.id = owner_id and users.email = presented())
            -- The first administrator's own making.
            or burnt_now('first-administrator')
        )
    )
);
grant select, insert on audit to sealport_server;
