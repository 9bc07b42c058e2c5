-- People: invitations and reset links, administrators, sessions that one sees, the password asked again, secrets that move to
-- another owner, and accounts that end.

alter table users add column signed_in_at timestamptz;

-- Links that administrators make. Whoever holds one is whoever they gave it to; no mail is sent.
alter table one_time_links
    drop constraint one_time_links_purpose_check,
    -- Names it to administrators; the hash is for those who hold the link.
    add column id uuid not null default gen_random_uuid(),
    add column email text,
    add column as_administrator boolean not null default false,
    -- Whose password a reset link sets.
    add column user_id uuid references users (id),
    add column made_by uuid references users (id),
    -- As named then.
    add column made_by_name text,
    add constraint one_time_links_purpose_check check (
        case purpose
            when 'first-administrator' then num_nonnulls(email, user_id, made_by, made_by_name) = 0
            when 'invitation' then num_nonnulls(email, made_by, made_by_name) = 3 and user_id is null
                and expires_at <= created_at + interval '72 hours'
            when 'reset' then num_nonnulls(email, user_id, made_by, made_by_name) = 4 and not as_administrator
                and expires_at <= created_at + interval '1 hour'
            else false
        end
    );
create unique index one_time_links_id_key on one_time_links (id);

-- Burning changes nothing else of a link: what it opens stays as it was made, and it holds no longer.
create function one_time_links_guard() returns trigger language plpgsql as $$
begin
    if (new.hash, new.purpose, new.created_at, new.id, new.email, new.as_administrator, new.user_id, new.made_by, new.made_by_name)
        is distinct from
       (old.hash, old.purpose, old.created_at, old.id, old.email, old.as_administrator, old.user_id, old.made_by, old.made_by_name)
       or new.expires_at > old.expires_at then
        raise exception 'a link does not change' using errcode = '42501';
    end if;
    return new;
end $$;
create trigger one_time_links_guard before update on one_time_links for each row execute function one_time_links_guard();

create policy one_time_links_administered on one_time_links for select
    using (purpose <> 'first-administrator' and (select is_administrator()));
create policy one_time_links_made on one_time_links for insert with check (
    purpose <> 'first-administrator' and made_by = current_actor() and created_at = now() and used_at is null
    and (select is_administrator())
);
create policy one_time_links_withdrawn on one_time_links for delete
    using (purpose <> 'first-administrator' and (select is_administrator()));

-- Whose password the presented link sets; true in the very transaction that burnt it.
create function reset_now() returns uuid
    language sql stable
    return (select user_id from one_time_links where hash = presented() and purpose = 'reset' and used_at = now());

create policy owners_invited on owners for insert with check (kind = 'user' and burnt_now('invitation'));
-- For the address of the invitation, with the role that it says.
create policy users_invited on users for insert with check (
    exists (
        select 1 from one_time_links l
        where l.hash = presented() and l.purpose = 'invitation' and l.used_at = now()
            and l.email = users.email and l.as_administrator = users.is_admin
    )
);
create policy users_reset_seen on users for select using (id = (select reset_now()));
create policy users_reset on users for update using (id = (select reset_now())) with check (id = (select reset_now()));
create policy audit_written_by_link on audit for insert with check (
    actor_kind = 'anonymous' and user_id is null and current_actor() is null
    and (burnt_now('invitation') or owner_id = (select reset_now()))
);

-- Ending an account: one job, for one account and one heir, which the transaction names. Only with both is anything in reach.
create function handing_over() returns uuid
    language sql stable parallel safe
    return case when current_job() = 'handover' then nullif(current_setting('sealport.handing_over', true), '')::uuid end;
create function heir() returns uuid
    language sql stable parallel safe
    return case when current_job() = 'handover' then nullif(current_setting('sealport.heir', true), '')::uuid end;

-- Making and unmaking administrators.
create policy users_promoted on users for update using ((select is_administrator())) with check ((select is_administrator()));
create policy users_handover_seen on users for select using (current_job() = 'handover');
create policy users_handover on users for update using (id = (select handing_over())) with check (id = (select handing_over()));

create or replace function users_guard() returns trigger language plpgsql as $$
begin
    if current_job() = 'operator' then
        return new;
    end if;
    if (new.id, new.email, new.created_at) is distinct from (old.id, old.email, old.created_at) then
        raise exception 'this part of an account does not change' using errcode = '42501';
    end if;
    if (new.password_hash, new.password_changed_at, new.signed_in_at)
            is distinct from (old.password_hash, old.password_changed_at, old.signed_in_at)
        and old.id is distinct from current_actor() and old.id is distinct from reset_now() then
        raise exception 'a password is changed by its person alone' using errcode = '42501';
    end if;
    if new.is_admin is distinct from old.is_admin and (old.ended_at is not null or not is_administrator()) then
        raise exception 'administrators are made by administrators' using errcode = '42501';
    end if;
    if new.ended_at is distinct from old.ended_at and (old.ended_at is not null or old.id is distinct from handing_over()) then
        raise exception 'an account ends once, by a hand-over' using errcode = '42501';
    end if;
    return new;
end $$;

create policy audit_written_by_administrator on audit for insert with check (
    actor_kind = 'user' and user_id = current_actor()
    and action in ('reset.make', 'administrator.make', 'administrator.unmake')
    and (select is_administrator())
);

-- Sessions as their person sees them.
alter table sessions
    add column id uuid not null default gen_random_uuid(),
    -- When the password was typed last. Of sessions from before this column it is not known.
    add column confirmed_at timestamptz,
    add column last_seen timestamptz not null default now();
alter table sessions alter column confirmed_at set default now();
create unique index sessions_id_key on sessions (id);
create policy sessions_confirmed on sessions for update
    using (user_id = current_actor()) with check (user_id = current_actor());
create policy sessions_reset_seen on sessions for select using (user_id = (select reset_now()));
create policy sessions_end_reset on sessions for delete using (user_id = (select reset_now()));

-- What the hand-over reaches: the account that ends, what it owns, and the heir's place for it.
create policy owners_handover_seen on owners for select using (current_job() = 'handover');
-- Locks others too; changes the one.
create policy owners_handover on owners for update using (current_job() = 'handover')
    with check (id = (select handing_over()) and ended_at is not null);
create policy secrets_handover_seen on secrets for select
    using (owner_id = (select handing_over()) or owner_id = (select heir()));
create policy secrets_handover on secrets for update using (owner_id = (select handing_over()))
    with check (owner_id = (select heir()));
create policy secret_versions_handover on secret_versions for update using (owner_id = (select handing_over()))
    with check (owner_id = (select handing_over()));
create policy data_keys_handover_seen on data_keys for select
    using (owner_id = (select handing_over()) or owner_id = (select heir()));
create policy data_keys_handover on data_keys for insert with check (owner_id = (select heir()));
create policy grants_handover_seen on grants for select
    using (owner_id = (select handing_over()) or grantee_id = (select handing_over()));
create policy grants_handover on grants for delete
    using (owner_id = (select handing_over()) or grantee_id = (select handing_over()));
create policy team_members_handover_seen on team_members for select using (current_job() = 'handover');
create policy team_members_handover on team_members for delete using (user_id = (select handing_over()));
create policy deployment_names_handover_seen on deployment_names for select
    using (owner_id = (select handing_over()) or owner_id = (select heir()));
create policy deployment_names_handover on deployment_names for update using (owner_id = (select handing_over()))
    with check (owner_id = (select heir()));
grant update (owner_id) on deployment_names to sealport_server;
create policy deployments_handover_seen on deployments for select
    using (owner_id = (select handing_over()) or owner_id = (select heir()));
-- To lock them; their owner follows their name.
create policy deployments_handover on deployments for update using (owner_id = (select handing_over())) with check (false);
create policy tokens_handover_seen on tokens for select using (
    maker_id = (select handing_over()) or owner_id = (select handing_over()) or owner_id = (select heir())
);
create policy tokens_handover on tokens for update
    using (maker_id = (select handing_over()) or owner_id = (select handing_over()))
    with check (maker_id = (select handing_over()) or owner_id = (select heir()));
create policy sessions_handover_seen on sessions for select using (user_id = (select handing_over()));
create policy sessions_handover on sessions for delete using (user_id = (select handing_over()));
create policy one_time_links_handover_seen on one_time_links for select
    using (made_by = (select handing_over()) or user_id = (select handing_over()));
create policy one_time_links_handover on one_time_links for delete
    using (made_by = (select handing_over()) or user_id = (select handing_over()));

-- A deployment follows its name to another owner, and all that hangs on it follows the deployment.
alter table deployments
    drop constraint deployments_name_owner,
    add constraint deployments_name_owner foreign key (name, owner_id) references deployment_names (name, owner_id) on update cascade;

create or replace function deployments_guard() returns trigger language plpgsql as $$
begin
    if (new.id, new.ordinal, new.name, new.draft_id, new.created_at)
        is distinct from (old.id, old.ordinal, old.name, old.draft_id, old.created_at) then
        raise exception 'this part of a deployment does not change' using errcode = '42501';
    end if;
    if new.owner_id <> old.owner_id
        and (old.owner_id is distinct from handing_over() or new.owner_id is distinct from heir()) then
        raise exception 'a deployment changes its owner by a hand-over alone' using errcode = '42501';
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

create or replace function tokens_guard() returns trigger language plpgsql as $$
begin
    -- After its making a token can only be used and revoked.
    if (new.id, new.hash, new.maker_id, new.audience, new.deployment_id, new.name, new.created_at, new.expires_at)
        is distinct from
       (old.id, old.hash, old.maker_id, old.audience, old.deployment_id, old.name, old.created_at, old.expires_at)
       or (old.revoked_at is not null and new.revoked_at is distinct from old.revoked_at) then
        raise exception 'a token does not change' using errcode = '42501';
    end if;
    -- It goes with its deployment.
    if new.owner_id <> old.owner_id
        and (old.owner_id is distinct from handing_over() or new.owner_id is distinct from heir()) then
        raise exception 'a token changes its owner by a hand-over alone' using errcode = '42501';
    end if;
    return new;
end $$;

-- Nothing comes to an owner who has ended, not even what was on its way while they did: the foreign key waits for the end, and this
-- looks after it (triggers fire in the order of their names, and those of foreign keys begin with a capital).
create function owner_lives() returns trigger language plpgsql as $$
begin
    if exists (select 1 from owners o where o.id = new.owner_id and o.ended_at is not null) then
        raise exception 'this owner has ended' using errcode = '42501';
    end if;
    return null;
end $$;
create trigger owner_lives after insert or update of owner_id on secrets for each row execute function owner_lives();
create trigger owner_lives after insert or update of owner_id on deployments for each row execute function owner_lives();
