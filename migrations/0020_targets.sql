-- Targets beyond this machine: providers that run a deployment.

alter table deployments drop constraint deployments_target_check;
alter table deployments
    add constraint deployments_target check (target in ('local', 'render', 'railway')),
    -- What the target wants to know, as it was typed: a region, a plan.
    add column options jsonb not null default '{}',
    -- The secret with the provider's key.
    add column provider_key uuid references secrets (id) on delete set null,
    -- What the provider has of it: ids and names, written before anything is built on them, so that nothing is made twice.
    add column placed jsonb not null default '{}',
    -- Its owner wants it gone; what the provider has goes first.
    add column destroying boolean not null default false,
    add constraint deployments_local_has_no_provider check (
        target <> 'local' or (provider_key is null and placed = '{}' and not destroying)
    );
create index deployments_provider_key on deployments (provider_key) where provider_key is not null;

-- A provider's key is asked about as a fetch key is.
alter policy deployments_made on deployments with check (
    reach(owner_id, 'deployment', id, coalesce(folder, '')) >= 4
    and placed = '{}' and not destroying
    and (fetch_key is null or exists (
        select 1 from secrets s
        where s.id = fetch_key and usable_in(current_actor(), s.owner_id, s.id, s.path, deployments.name)
    ))
    and (provider_key is null or exists (
        select 1 from secrets s
        where s.id = provider_key and usable_in(current_actor(), s.owner_id, s.id, s.path, deployments.name)
    ))
);
alter policy deployments_deleted on deployments using (
    reach(owner_id, 'deployment', id, coalesce(folder, '')) >= 4 and placed = '{}'
);
-- Gone here when it is gone there.
create policy deployments_supervisor_deletes on deployments for delete using (current_job() = 'supervisor' and destroying);

create function deployments_target_guard() returns trigger language plpgsql as $$
begin
    if (new.options is distinct from old.options
            or (new.provider_key is not null and new.provider_key is distinct from old.provider_key)
            or new.destroying is distinct from old.destroying)
        and current_job() is null and reach(old.owner_id, 'deployment', old.id, coalesce(old.folder, '')) < 4 then
        raise exception 'where a deployment runs needs admin' using errcode = '42501';
    end if;
    if new.provider_key is not null and new.provider_key is distinct from old.provider_key and current_job() is null
        and not exists (
            select 1 from secrets s
            where s.id = new.provider_key and usable_in(current_actor(), s.owner_id, s.id, s.path, new.name)
        ) then
        raise exception 'the provider''s key is not one that may be used' using errcode = '42501';
    end if;
    if new.placed is distinct from old.placed and current_job() is distinct from 'supervisor' then
        raise exception 'only a supervisor says what a provider has' using errcode = '42501';
    end if;
    if old.destroying and not new.destroying then
        raise exception 'what is being destroyed stays so' using errcode = '42501';
    end if;
    if new.target is distinct from old.target and old.placed <> '{}' then
        raise exception 'what a provider has is destroyed there first' using errcode = '42501';
    end if;
    return new;
end $$;
create trigger deployments_target_guard before update on deployments
    for each row execute function deployments_target_guard();

alter table release_steps drop constraint release_steps_step_check;
alter table release_steps add constraint release_steps_step
    check (step in ('fetch', 'install', 'provision', 'build', 'start', 'handshake'));

-- What Sealport's gateway shows a server at a provider, and the server's own environment holds: random, one for each deployment, wrapped
-- by a master key.
create table gateway_keys (
    deployment_id uuid primary key,
    owner_id uuid not null,
    master_key text not null references master_keys (fingerprint),
    -- Bound to format, master key and deployment.
    wrapped bytea not null,
    created_at timestamptz not null default now(),
    foreign key (deployment_id, owner_id) references deployments (id, owner_id) on update cascade on delete cascade
);
alter table gateway_keys enable row level security;
alter table gateway_keys force row level security;
create policy gateway_keys_supervisor_sees on gateway_keys for select using (current_job() = 'supervisor');
create policy gateway_keys_made on gateway_keys for insert with check (current_job() = 'supervisor');
create policy gateway_keys_operator on gateway_keys
    using (current_job() = 'operator') with check (current_job() = 'operator');
create policy gateway_keys_backup on gateway_keys for select using (current_job() = 'backup');
grant select, insert, update on gateway_keys to sealport_server;
