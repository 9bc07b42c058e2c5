-- Imports between their preview and the decision. The values are sealed; what stands beside them is names and states.

create table pending_imports (
    -- One a person: a second takes the first one's place.
    user_id uuid primary key references users (id),
    id uuid not null,
    -- Where the names go.
    under text not null constraint pending_imports_under_length check (octet_length(under) <= 255),
    -- What each line would do, with the versions that were there when it was looked at.
    plan jsonb not null,
    -- All values together; bound to a label, format, data key, user and import, so that it opens as nothing else.
    sealed bytea not null,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null
);
create index pending_imports_expiry on pending_imports (expires_at);
alter table pending_imports enable row level security;
alter table pending_imports force row level security;
create policy pending_imports_own on pending_imports
    using (user_id = current_actor()) with check (user_id = current_actor());
create policy pending_imports_retention_sees on pending_imports for select using (current_job() = 'retention');
create policy pending_imports_retention on pending_imports for delete
    using (current_job() = 'retention' and expires_at < now());
grant select, insert, update, delete on pending_imports to sealport_server;
