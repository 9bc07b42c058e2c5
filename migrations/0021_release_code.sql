-- Which code a provider built for a release, so that a later one can run it again with the values of the later day.
-- A release that runs an older one's code has its commit from the start; for others the supervisor says it.
alter table releases
    add column commit text constraint releases_commit check (commit ~ '^[0-9a-f]{6,64}$'),
    -- The source, as it was when that was built.
    add column built_from text,
    -- The older release whose code this one runs.
    add column code_of integer constraint releases_code_of check (code_of > 0 and code_of < number);

-- The second lock on that: only what is asked for by whoever may choose the code, and only of a release that was live.
create function releases_code_guard() returns trigger language plpgsql as $$
begin
    if current_job() is null and num_nonnulls(new.commit, new.built_from, new.code_of) > 0 and (
        reach(new.owner_id, 'deployment', new.deployment_id, null) < 4
        or not exists (
            select 1 from releases r
            where r.deployment_id = new.deployment_id and r.number = new.code_of and r.state = 'live'
                and r.commit = new.commit and r.built_from = new.built_from
        )
    ) then
        raise exception 'a release runs the code of one that was live, or what its source names' using errcode = '42501';
    end if;
    return new;
end $$;
create trigger releases_code_guard before insert on releases
    for each row execute function releases_code_guard();

-- What a provider has goes first. What was to be destroyed, and could not be, may be forgotten.
alter table deployments add column destroy_failed_at timestamptz;
alter policy deployments_deleted on deployments using (
    reach(owner_id, 'deployment', id, coalesce(folder, '')) >= 4
    and (placed = '{}' or (destroying and destroy_failed_at is not null))
);
create function deployments_forget_guard() returns trigger language plpgsql as $$
begin
    if new.destroy_failed_at is distinct from old.destroy_failed_at and current_job() is distinct from 'supervisor' then
        raise exception 'only a supervisor says that something could not be destroyed' using errcode = '42501';
    end if;
    return new;
end $$;
create trigger deployments_forget_guard before update on deployments
    for each row execute function deployments_forget_guard();
