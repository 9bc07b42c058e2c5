-- The life of a secret: tags, versions that are rolled back to and destroyed, ends that come, values that are due.

-- Installation-wide limits that an administrator sets; all else in settings stays the operator's.
create policy settings_retention_made on settings for insert
    with check (key = 'secret_versions' and is_administrator());
create policy settings_retention_changed on settings for update
    using (key = 'secret_versions' and is_administrator())
    with check (key = 'secret_versions' and is_administrator());

create function tags_hold(tags text[]) returns boolean
    language sql immutable parallel safe
    return cardinality(tags) <= 20
        and not exists (select 1 from unnest(tags) tag where tag is null or tag !~ '^[a-z0-9][a-z0-9._-]{0,38}$');

alter table secrets
    add column tags text[] not null default '{}' constraint secrets_tags_form check (tags_hold(tags)),
    -- When it was switched off because its end had come; moving the end switches it on again.
    add column expired_at timestamptz;
create index secrets_ending on secrets (expires_at) where active and expires_at is not null;

alter table secret_versions
    -- From where, as the record has it.
    add column address inet,
    add column agent text constraint secret_versions_agent_length check (char_length(agent) <= 200),
    add column rolled_back_from integer,
    -- Of a value that was rolled back to: since when it has been the value. Otherwise it is as old as its version.
    add column value_since timestamptz,
    -- Destroyed for good: nothing sealed is left, and no data key is named; that there was such a version stays.
    add column destroyed_at timestamptz,
    add column destroyed_by text,
    alter column data_key_id drop not null,
    add constraint secret_versions_whole_or_destroyed check (
        case when destroyed_at is null then data_key_id is not null and octet_length(sealed) > 0
            else data_key_id is null and octet_length(sealed) = 0 end
    );
-- The policy that lets `admin` seal anew lets `admin` destroy.
grant update (destroyed_at, destroyed_by) on secret_versions to sealport_server;

create function secret_versions_guard() returns trigger language plpgsql as $$
begin
    if old.destroyed_at is not null
        and (new.sealed, new.data_key_id, new.destroyed_at, new.destroyed_by)
            is distinct from (old.sealed, old.data_key_id, old.destroyed_at, old.destroyed_by) then
        raise exception 'what was destroyed stays so' using errcode = '42501';
    end if;
    -- Versions only rise, so no older one becomes the newest meanwhile.
    if new.destroyed_at is not null and old.destroyed_at is null
        and exists (select 1 from secrets s where s.id = new.secret_id and s.version <= new.version) then
        raise exception 'the newest version is not destroyed' using errcode = '42501';
    end if;
    return new;
end $$;
create trigger secret_versions_guard before update on secret_versions
    for each row execute function secret_versions_guard();

-- After how many days a value has to be another: for one secret, or for every path under a prefix; the nearer rule holds.
create table rotation_rules (
    id uuid primary key,
    owner_id uuid not null references owners (id),
    secret_id uuid,
    -- Whole segments, without the slash at its end.
    prefix text constraint rotation_rules_prefix_length check (octet_length(prefix) between 1 and 250),
    after_days integer not null constraint rotation_rules_days check (after_days between 1 and 3650),
    -- What Sealport generated, it generates anew by itself; what others issued, it only reminds of.
    regenerate boolean not null default false,
    set_by text not null,
    set_at timestamptz not null default now(),
    foreign key (secret_id, owner_id) references secrets (id, owner_id) on update cascade on delete cascade,
    constraint rotation_rules_one_object check (num_nonnulls(secret_id, prefix) = 1)
);
create unique index rotation_rules_secret_key on rotation_rules (secret_id) where secret_id is not null;
create unique index rotation_rules_prefix_key on rotation_rules (owner_id, prefix) where prefix is not null;
alter table rotation_rules enable row level security;
alter table rotation_rules force row level security;

-- How far the actor reaches on what a rule is about.
create function reach_of_rule(object_owner uuid, secret uuid, prefix text) returns integer
    language plpgsql stable as $$
begin
    if secret is not null then
        return coalesce((
            select reach(s.owner_id, 'secret', s.id, s.path) from secrets s where s.id = secret and s.owner_id = object_owner
        ), 0);
    end if;
    return reach(object_owner, 'secret', null, prefix || '/');
end $$;
create policy rotation_rules_seen on rotation_rules for select using (reach_of_rule(owner_id, secret_id, prefix) >= 1);
create policy rotation_rules_made on rotation_rules for insert with check (reach_of_rule(owner_id, secret_id, prefix) >= 3);
create policy rotation_rules_changed on rotation_rules for update using (reach_of_rule(owner_id, secret_id, prefix) >= 3)
    with check (reach_of_rule(owner_id, secret_id, prefix) >= 3);
create policy rotation_rules_ended on rotation_rules for delete using (reach_of_rule(owner_id, secret_id, prefix) >= 3);
grant select, insert, update, delete on rotation_rules to sealport_server;

-- The rule that holds for a secret: its own, else that of the nearest folder.
create function rotation_of(object_owner uuid, secret uuid, secret_path text)
    returns table (after_days integer, regenerate boolean, prefix text)
    language sql stable rows 1 as $$
    select r.after_days, r.regenerate, r.prefix from rotation_rules r
    where r.owner_id = object_owner
        and (r.secret_id = secret or (r.prefix is not null and starts_with(secret_path, r.prefix || '/')))
    order by r.secret_id nulls last, length(r.prefix) desc limit 1
$$;

-- Versions beyond what the installation keeps. Never the newest (the guard), and only to destroy.
create policy secrets_retention_sees on secrets for select using (current_job() = 'retention');
create policy secret_versions_retention_sees on secret_versions for select using (current_job() = 'retention');
create policy secret_versions_retention on secret_versions for update
    using (current_job() = 'retention' and destroyed_at is null)
    with check (current_job() = 'retention' and destroyed_at is not null);
create policy release_bindings_retention_sees on release_bindings for select using (current_job() = 'retention');

-- The job that ends what has expired, generates anew what is due, and redeploys what runs with it. It opens nothing.
create policy secrets_caretaker_sees on secrets for select using (current_job() = 'caretaker');
create policy secrets_caretaker on secrets for update using (current_job() = 'caretaker') with check (current_job() = 'caretaker');
create function secrets_caretaker_guard() returns trigger language plpgsql as $$
begin
    if (new.owner_id, new.path, new.kind, new.description, new.tags, new.expires_at)
            is distinct from (old.owner_id, old.path, old.kind, old.description, old.tags, old.expires_at)
        or (new.active and not old.active) then
        raise exception 'the job ends and renews, nothing else' using errcode = '42501';
    end if;
    return new;
end $$;
create trigger secrets_caretaker_guard before update on secrets for each row
    when (current_job() = 'caretaker') execute function secrets_caretaker_guard();
create policy secret_versions_caretaker_sees on secret_versions for select using (current_job() = 'caretaker');
create policy secret_versions_caretaker_made on secret_versions for insert
    with check (current_job() = 'caretaker' and generated and rolled_back_from is null);
create policy rotation_rules_caretaker_sees on rotation_rules for select using (current_job() = 'caretaker');
create policy data_keys_caretaker_sees on data_keys for select using (current_job() = 'caretaker' and active);
create policy bindings_caretaker_sees on bindings for select using (current_job() = 'caretaker');
create policy deployments_caretaker_sees on deployments for select using (current_job() = 'caretaker');
create policy deployments_caretaker on deployments for update
    using (current_job() = 'caretaker' and wanted) with check (current_job() = 'caretaker' and wanted and state = 'deploying');
create policy releases_caretaker_sees on releases for select using (current_job() = 'caretaker');
create policy releases_caretaker_made on releases for insert with check (current_job() = 'caretaker' and state = 'queued');
create policy releases_caretaker_superseded on releases for update
    using (current_job() = 'caretaker' and state in ('queued', 'running'))
    with check (current_job() = 'caretaker' and state = 'superseded');
create policy release_steps_caretaker_queued on release_steps for insert
    with check (current_job() = 'caretaker' and state = 'waiting');

create policy rotation_rules_backup on rotation_rules for select using (current_job() = 'backup');

-- The decision is asked for each row of a list. Where tables are large, PostgreSQL would plan its statements anew at each call, as if
-- another person's rows asked for another plan, and that takes many times as long as running them.
alter function granted(uuid, uuid, text, uuid, text, text) set plan_cache_mode = force_generic_plan;
alter function acting_for() set plan_cache_mode = force_generic_plan;
alter function record_owners() set plan_cache_mode = force_generic_plan;
alter function is_administrator() set plan_cache_mode = force_generic_plan;
alter function reach_of_grant(uuid, uuid, text, uuid) set plan_cache_mode = force_generic_plan;
alter function reach_of_rule(uuid, uuid, text) set plan_cache_mode = force_generic_plan;
alter function secrets_in_sight() set plan_cache_mode = force_generic_plan;
alter function deployments_in_sight() set plan_cache_mode = force_generic_plan;
