-- Which value runs where, and deployments that redeploy by themselves when it changes.

-- Versions with the same value have the same id here, so that a value which was set again restarts nothing. It says nothing of
-- the value; versions from before this step count as different.
alter table secret_versions add column value_id uuid not null default gen_random_uuid();

-- The owner chose that a changed value redeploys it.
alter table deployments add column follows_changes boolean not null default false;
create index deployments_following on deployments (holder) where follows_changes and wanted;

create function deployments_follow_guard() returns trigger language plpgsql as $$
begin
    if new.follows_changes is distinct from old.follows_changes
        and current_job() is null and reach(old.owner_id, 'deployment', old.id, null) < 4 then
        raise exception 'following changes needs admin' using errcode = '42501';
    end if;
    return new;
end $$;
create trigger deployments_follow_guard before update on deployments
    for each row execute function deployments_follow_guard();
