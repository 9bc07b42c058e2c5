-- The record's chain: rows of finished transactions are numbered, and sealed in batches. Each row has a keyed hash, and each batch
-- one over its rows and the batch before. The server can add to it and read it; only the tables' owner drops what was exported.
-- A row is sealed as JSON of its columns that are not null, but `xid`: a new column leaves old seals whole, a renamed or retyped
-- one breaks them.

-- Which transaction wrote a row: only those of finished transactions are numbered.
alter table audit add column xid xid8 not null default pg_current_xact_id();
create index audit_xid on audit (xid, id);
-- Lists ask for a range of (whose, id) in its order: where somebody has few rows among many, the planner would otherwise rather
-- walk along the ids of all.
drop index audit_owner, audit_user, audit_secret;
create index audit_owner on audit (owner_id, id);
create index audit_user on audit (user_id, id);
create index audit_secret on audit (secret_id, id) where secret_id is not null;
create index audit_deployment on audit (deployment, id) where deployment is not null;
-- Its moment and its transaction are not for the server to say: the defaults do.
revoke insert on audit from sealport_server;
do $$
declare
    columns text;
begin
    select string_agg(format('%I', attname), ', ' order by attnum) into columns from pg_attribute
    where attrelid = 'audit'::regclass and attnum > 0 and not attisdropped and attname not in ('at', 'xid');
    execute format('grant insert (%s) on audit to sealport_server', columns);
end $$;

-- Keys of the chain: random, wrapped by a master key, and kept for as long as there is anything that they sealed. A new master key
-- wraps them anew.
create table chain_keys (
    id uuid primary key,
    master_key text not null references master_keys (fingerprint),
    -- Bound to format, master key and id.
    wrapped bytea not null,
    created_at timestamptz not null default now()
);
alter table chain_keys enable row level security;
alter table chain_keys force row level security;
create policy chain_keys_sealer_sees on chain_keys for select using (current_job() = 'sealer');
create policy chain_keys_made on chain_keys for insert with check (current_job() = 'sealer');
create policy chain_keys_operator on chain_keys
    using (current_job() = 'operator') with check (current_job() = 'operator');
grant select, insert, update on chain_keys to sealport_server;

create table audit_batches (
    number bigint primary key check (number > 0),
    first_seq bigint not null check (first_seq > 0),
    rows integer not null check (rows between 0 and 500),
    key_id uuid not null references chain_keys (id),
    previous bytea not null,
    hash bytea not null,
    sealed_at timestamptz not null,
    -- Where the next batch begins to look, and in which cluster of databases: elsewhere transactions have other numbers. No part
    -- of the hash, for it says nothing of what happened.
    after_xid xid8 not null,
    after_id uuid not null,
    cluster text not null
);
alter table audit_batches enable row level security;
alter table audit_batches force row level security;
create policy audit_batches_seen on audit_batches for select using (current_job() in ('sealer', 'operator'));
create policy audit_batches_made on audit_batches for insert with check (current_job() = 'sealer');
grant select, insert on audit_batches to sealport_server;

-- The numbers of the rows, without holes.
create table audit_seals (
    seq bigint primary key check (seq > 0),
    audit_id uuid not null constraint audit_seals_row_key unique,
    mac bytea not null
);
alter table audit_seals enable row level security;
alter table audit_seals force row level security;
create policy audit_seals_seen on audit_seals for select using (current_job() in ('sealer', 'operator'));
create policy audit_seals_made on audit_seals for insert with check (current_job() = 'sealer');
grant select, insert on audit_seals to sealport_server;

-- Up to where the record was exported and dropped: the link that the oldest batch here follows, itself under the key.
create table audit_drops (
    number bigint primary key check (number > 0),
    last_seq bigint not null check (last_seq >= 0),
    key_id uuid not null references chain_keys (id),
    hash bytea not null,
    mac bytea not null,
    dropped_at timestamptz not null
);
alter table audit_drops enable row level security;
alter table audit_drops force row level security;
create policy audit_drops_seen on audit_drops for select using (current_job() in ('sealer', 'operator'));
-- The server may not: there is no grant for it.
create policy audit_drops_made on audit_drops for insert with check (current_job() = 'operator');
grant select on audit_drops to sealport_server;

-- What is dropped is what a mark speaks of, and nothing else.
create policy audit_sealed_seen on audit for select using (current_job() in ('sealer', 'operator'));
create policy audit_dropped on audit for delete using (
    current_job() = 'operator'
    and exists (
        select 1 from audit_seals s
        where s.audit_id = audit.id and s.seq <= (select max(last_seq) from audit_drops)
    )
);
create policy audit_seals_dropped on audit_seals for delete
    using (current_job() = 'operator' and seq <= (select max(last_seq) from audit_drops));
create policy audit_batches_dropped on audit_batches for delete
    using (current_job() = 'operator' and number <= (select max(d.number) from audit_drops d));

-- Names the cluster that transaction numbers belong to; empty where this may not be asked.
create function this_cluster() returns text
    language plpgsql stable as $$
begin
    return (select system_identifier::text from pg_control_system());
exception when insufficient_privilege then
    return '';
end $$;

-- Whether a row is among what is asked for. Empty words and nulls ask for everything. An action by its name, or all that begin with it.
create function audit_matches(
    a audit, in_path text, by_whom text, doing text, of_deployment text, of_secret uuid, since timestamptz, until timestamptz
) returns boolean
    language sql stable
    return (of_secret is null or a.secret_id = of_secret)
        and (of_deployment = '' or a.deployment = of_deployment)
        and (doing = '' or a.action = doing or starts_with(a.action, doing || '.'))
        and (since is null or a.at >= since)
        and (until is null or a.at < until)
        and (by_whom = '' or strpos(lower(a.actor_name), lower(by_whom)) > 0)
        and (in_path = '' or strpos(lower(coalesce(a.path, '')), lower(in_path)) > 0);
