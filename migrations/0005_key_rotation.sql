-- Keys that change: staged master keys, servers that say which keys they know, data keys with successors.

-- `staged` waits until every server knows it; `active` wraps what is new; `retiring` still opens what was not wrapped anew.
alter table master_keys add column state text;
alter table master_keys add column promoted_at timestamptz;
-- Forced Row Level Security holds for the owner too: as a job that sees these rows.
select set_config('sealport.job', 'operator', true);
update master_keys set state = case when active then 'active' else 'retiring' end, promoted_at = created_at;
select set_config('sealport.job', '', true);
alter table master_keys alter column state set not null;
alter table master_keys add constraint master_keys_state check (state in ('staged', 'active', 'retiring'));
alter table master_keys drop column active;
create unique index master_keys_one_active on master_keys (state) where state in ('staged', 'active');
-- Of all the rows, whoever makes a data key learns one name.
create policy master_keys_named on master_keys for select using (current_job() = 'naming' and state = 'active');
grant delete on master_keys to sealport_server;

create function active_master_key() returns text language plpgsql as $$
declare
    acting text := coalesce(current_setting('sealport.job', true), '');
    found_key text;
begin
    perform set_config('sealport.job', 'naming', true);
    select fingerprint into found_key from master_keys where state = 'active';
    perform set_config('sealport.job', acting, true);
    return found_key;
end $$;
comment on function active_master_key() is
    'The fingerprint of the key that wraps what is new. Asked in the statement that keeps what was wrapped.';
grant execute on function active_master_key() to sealport_server;

-- Nothing here hangs on these any more; backups may. A key in this list is not taken again.
create table retired_master_keys (
    fingerprint text primary key,
    retired_at timestamptz not null default now()
);
alter table retired_master_keys enable row level security;
alter table retired_master_keys force row level security;
create policy retired_master_keys_operator on retired_master_keys
    using (current_job() = 'operator') with check (current_job() = 'operator');
grant select, insert on retired_master_keys to sealport_server;

-- The servers that are alive, and the fingerprints of the keys each was given.
create table servers (
    id uuid primary key,
    -- For people: the machine and the process.
    name text not null constraint servers_name_length check (char_length(name) <= 200),
    version text not null,
    keys text[] not null,
    started_at timestamptz not null default now(),
    seen_at timestamptz not null default now()
);
alter table servers enable row level security;
alter table servers force row level security;
create policy servers_jobs on servers
    using (current_job() in ('operator', 'rotation')) with check (current_job() in ('operator', 'rotation'));
grant select, insert, update, delete on servers to sealport_server;

-- A data key that has a successor seals nothing new. It goes when nothing is sealed by it.
alter table data_keys add column retired_at timestamptz;
create index data_keys_former on data_keys (id) where not active;
create index data_keys_by_master on data_keys (master_key);
create index secret_versions_by_data_key on secret_versions (data_key_id, secret_id, version);
create policy data_keys_rotation on data_keys
    using (current_job() = 'rotation') with check (current_job() = 'rotation');
create policy secret_versions_rotation_sees on secret_versions for select using (current_job() = 'rotation');
create policy secret_versions_rotation on secret_versions for update
    using (current_job() = 'rotation') with check (current_job() = 'rotation');
grant delete on data_keys to sealport_server;
grant update (data_key_id, sealed) on secret_versions to sealport_server;

create function data_keys_guard() returns trigger language plpgsql as $$
declare
    kept data_keys := old;
begin
    -- Wrapped anew, or given a successor; never another's, and never back.
    kept.master_key := new.master_key;
    kept.wrapped := new.wrapped;
    if old.active and not new.active then
        kept.active := new.active;
        kept.retired_at := new.retired_at;
    end if;
    if new is distinct from kept then
        raise exception 'a data key is wrapped anew or given a successor, nothing else' using errcode = '42501';
    end if;
    return new;
end $$;
create trigger data_keys_guard before update on data_keys for each row execute function data_keys_guard();

create function secret_versions_rotation_guard() returns trigger language plpgsql as $$
declare
    kept secret_versions := old;
begin
    kept.data_key_id := new.data_key_id;
    kept.sealed := new.sealed;
    if new is distinct from kept then
        raise exception 'sealing anew changes nothing else of a version' using errcode = '42501';
    end if;
    return new;
end $$;
create trigger secret_versions_rotation_guard before update on secret_versions for each row
    when (current_job() = 'rotation') execute function secret_versions_rotation_guard();
