-- Who acts, who there is, and how they sign in.
-- Run as the owner role, which is no superuser. Requests run as sealport_server, which owns nothing:
-- Row Level Security is forced on every table, and without an actor nothing is seen.

-- After one `set local` a setting is an empty string, not null.
create function current_actor() returns uuid
    language sql stable parallel safe
    return nullif(current_setting('sealport.actor', true), '')::uuid;
comment on function current_actor() is 'The user whose rights apply in this transaction.';

create function current_job() returns text
    language sql stable parallel safe
    return nullif(current_setting('sealport.job', true), '');
comment on function current_job() is 'The system job that acts in this transaction.';

create function presented() returns text
    language sql stable parallel safe
    return nullif(current_setting('sealport.presented', true), '');
comment on function presented() is 'What an anonymous caller has shown: an e-mail address, or the SHA-256 of a credential in hex.';

create table settings (
    key text primary key,
    value jsonb not null,
    changed_at timestamptz not null default now()
);
alter table settings enable row level security;
alter table settings force row level security;
create policy settings_seen on settings for select using (current_actor() is not null or current_job() is not null);
create policy settings_operator on settings using (current_job() = 'operator') with check (current_job() = 'operator');
grant select, insert, update on settings to sealport_server;

create table owners (
    id uuid primary key,
    handle text not null constraint owners_handle_form check (handle ~ '^[a-z][a-z0-9-]{0,38}$'),
    kind text not null check (kind in ('user', 'team')),
    -- Who made a team; a user has none.
    maker_id uuid,
    created_at timestamptz not null default now(),
    -- An account or a team that has ended keeps its handle.
    ended_at timestamptz,
    constraint owners_handle_key unique (handle),
    constraint owners_team_has_maker check ((kind = 'team') = (maker_id is not null))
);
alter table owners enable row level security;
alter table owners force row level security;
grant select, insert, update on owners to sealport_server;

create table users (
    id uuid primary key references owners (id),
    -- Canonical: trimmed and lower-cased before it comes here.
    email text not null,
    password_hash text not null,
    is_admin boolean not null default false,
    created_at timestamptz not null default now(),
    password_changed_at timestamptz not null default now(),
    ended_at timestamptz,
    constraint users_email_key unique (email)
);
alter table users enable row level security;
alter table users force row level security;
grant select, insert, update on users to sealport_server;

create table one_time_links (
    -- SHA-256 of the link's secret part, in hex.
    hash text primary key,
    purpose text not null check (purpose in ('first-administrator')),
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    used_at timestamptz
);
alter table one_time_links enable row level security;
alter table one_time_links force row level security;
create policy one_time_links_presented on one_time_links for select using (hash = presented());
-- Burning: once, by whoever holds it.
create policy one_time_links_burn on one_time_links for update
    using (hash = presented() and used_at is null and expires_at > now())
    with check (hash = presented() and used_at = now());
create policy one_time_links_operator on one_time_links
    using (current_job() = 'operator') with check (current_job() = 'operator');
create policy one_time_links_retention on one_time_links for delete
    using (current_job() = 'retention' and expires_at < now());
create policy one_time_links_retention_sees on one_time_links for select
    using (current_job() = 'retention');
grant select, insert, update, delete on one_time_links to sealport_server;

-- True in the very transaction that burnt the presented link.
create function burnt_now(link_purpose text) returns boolean
    language sql stable
    return exists (
        select 1 from one_time_links
        where hash = presented() and purpose = link_purpose and used_at = now()
    );

-- Handles are words that people of one installation use with each other; nothing else stands here.
create policy owners_seen on owners for select using (current_actor() is not null);
create policy owners_jobs on owners for select using (current_job() in ('operator', 'supervisor'));
create policy owners_made on owners for insert
    with check (kind = 'user' and (current_job() = 'operator' or burnt_now('first-administrator')));

create policy users_self on users for select using (id = current_actor());
create policy users_change_self on users for update using (id = current_actor())
    with check (id = current_actor());
create policy users_signing_in on users for select using (email = presented());
create policy users_jobs on users for select using (current_job() in ('operator', 'supervisor'));
create policy users_made on users for insert
    with check (current_job() = 'operator' or burnt_now('first-administrator'));

create function users_guard() returns trigger language plpgsql as $$
begin
    -- A person changes their own password, nothing else of the row.
    if current_job() is distinct from 'operator'
        and (new.id, new.email, new.is_admin, new.created_at, new.ended_at)
            is distinct from (old.id, old.email, old.is_admin, old.created_at, old.ended_at) then
        raise exception 'only an operator changes this part of an account' using errcode = '42501';
    end if;
    return new;
end $$;
create trigger users_guard before update on users for each row execute function users_guard();

-- The browser holds the id; only its SHA-256 is here, in hex, so a dump signs nobody in.
create table sessions (
    id_hash text primary key,
    user_id uuid references users (id),
    data jsonb not null,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null
);
create index sessions_user on sessions (user_id);
create index sessions_expiry on sessions (expires_at);
alter table sessions enable row level security;
alter table sessions force row level security;
create policy sessions_presented on sessions using (id_hash = presented()) with check (id_hash = presented());
create policy sessions_own on sessions for select using (user_id = current_actor());
create policy sessions_end_own on sessions for delete using (user_id = current_actor());
create policy sessions_retention on sessions for delete
    using (current_job() = 'retention' and expires_at < now());
create policy sessions_retention_sees on sessions for select using (current_job() = 'retention');
grant select, insert, update, delete on sessions to sealport_server;

-- Addresses from which someone has signed in lately: a stranger's failures never hold these up.
create table known_addresses (
    user_id uuid not null references users (id),
    address inet not null,
    last_at timestamptz not null default now(),
    primary key (user_id, address)
);
alter table known_addresses enable row level security;
alter table known_addresses force row level security;
create policy known_addresses_own on known_addresses
    using (user_id = current_actor() or exists (select 1 from users where users.id = user_id and users.email = presented()))
    with check (user_id = current_actor());
create policy known_addresses_retention on known_addresses for delete using (current_job() = 'retention');
create policy known_addresses_retention_sees on known_addresses for select using (current_job() = 'retention');
grant select, insert, update, delete on known_addresses to sealport_server;

-- Counters of tries. The key is a SHA-256 over what is limited, so no names stand here.
create table attempts (
    key text not null,
    window_start timestamptz not null,
    count integer not null default 0,
    primary key (key, window_start)
);
alter table attempts enable row level security;
alter table attempts force row level security;
create policy attempts_limits on attempts
    using (current_job() in ('limits', 'retention')) with check (current_job() = 'limits');
grant select, insert, update, delete on attempts to sealport_server;

-- A team is an owner with members; each has one of the four levels on all that the team owns.
create table team_members (
    team_id uuid not null references owners (id),
    user_id uuid not null references users (id),
    level integer not null check (level between 1 and 4),
    -- As named then.
    added_by text not null,
    added_at timestamptz not null default now(),
    primary key (team_id, user_id)
);
create index team_members_user on team_members (user_id);
alter table team_members enable row level security;
alter table team_members force row level security;
grant select, insert, update, delete on team_members to sealport_server;

-- As whom the current actor acts: themselves, and the teams that they are a member of.
create function acting_for() returns uuid[]
    language plpgsql stable as $$
declare
    me uuid := current_actor();
begin
    return me || array(select m.team_id from team_members m where m.user_id = me);
end $$;

-- What a user or team was given on an object that another owns: the highest level of membership and grants, 0 for none.
-- The kinds: `secret` (with its path; without an id, what is under a prefix that ends in a slash), `deployment`, `owner` (all that
-- the owner owns), `any` (the highest level on anything of the owner's). With a deployment's name, what is narrowed to others does
-- not count. Rows are looked up by the one asking, so the policies on them need not ask back here.
create function granted(
    actor uuid, object_owner uuid, object_kind text, object_id uuid, object_path text, in_deployment text
) returns integer
    language plpgsql stable as $$
declare
    as_whom uuid[];
    highest integer;
begin
    if actor is null then
        return 0;
    elsif actor = object_owner then
        return 4;
    end if;
    as_whom := actor || array(select m.team_id from team_members m where m.user_id = actor);
    select max(given.level) into highest from (
        select m.level from team_members m where m.user_id = actor and m.team_id = object_owner
        union all
        select g.level from grants g
        where g.grantee_id = any (as_whom) and g.owner_id = object_owner
            and case object_kind
                when 'secret' then g.secret_id = object_id or starts_with(object_path, g.prefix || '/')
                when 'deployment' then g.deployment_id = object_id
                when 'any' then true
                else false
            end
            and (in_deployment is null or g.only_deployments is null or in_deployment = any (g.only_deployments))
    ) given;
    return coalesce(highest, 0);
end $$;

-- The one decision: how far the current actor reaches.
-- 0 nothing, 1 use, 2 read, 3 write, 4 admin. Policies and functions call it; nothing repeats it.
create function reach(object_owner uuid, object_kind text, object_id uuid, object_path text) returns integer
    language sql stable
    -- What is one's own is decided without looking anything up.
    return case when object_owner = current_actor() then 4
        else granted(current_actor(), object_owner, object_kind, object_id, object_path, null) end;
comment on function reach(uuid, text, uuid, text) is
    'The level the current actor has on an object of a kind (secret, deployment, owner, any) and owner: 0 nothing, 1 use, 2 read, 3 write, 4 admin.';

-- Whether a user or team may bind a secret in the deployment of that name: `use` can be narrowed.
create function usable_in(actor uuid, object_owner uuid, secret_id uuid, secret_path text, deployment_name text) returns boolean
    language sql stable
    return granted(actor, object_owner, 'secret', secret_id, secret_path, deployment_name) >= 1;

-- The owners for whom the actor decides: themselves, and the teams that they administer.
create function record_owners() returns uuid[]
    language plpgsql stable as $$
declare
    me uuid := current_actor();
begin
    return me || array(select m.team_id from team_members m where m.user_id = me and m.level = 4);
end $$;

-- Whether the actor has given a team something: it shows in the grants that the actor may see.
create function shared_with(team uuid) returns boolean
    language plpgsql stable as $$
begin
    return exists (select 1 from grants g where g.grantee_id = team);
end $$;

create policy team_members_seen on team_members for select using (
    -- In this order: one's own memberships are what `reach` itself reads. Whoever shares with a team sees with whom.
    case when user_id = current_actor() then true
        else reach(team_id, 'owner', team_id, null) >= 1 or shared_with(team_id) end
);
create policy team_members_added on team_members for insert with check (
    exists (select 1 from owners o where o.id = user_id and o.ended_at is null)
    and (
        reach(team_id, 'owner', team_id, null) >= 4
        -- The first member is who makes the team, in the same transaction.
        or (user_id = current_actor() and level = 4 and exists (
            select 1 from owners o where o.id = team_id and o.maker_id = current_actor() and o.created_at = now()
        ))
    )
);
create policy team_members_changed on team_members for update using (reach(team_id, 'owner', team_id, null) >= 4)
    with check (reach(team_id, 'owner', team_id, null) >= 4);
-- Whoever wants to leaves.
create policy team_members_removed on team_members for delete
    using (user_id = current_actor() or reach(team_id, 'owner', team_id, null) >= 4);

create policy owners_team_made on owners for insert
    with check (kind = 'team' and maker_id = current_actor() and created_at = now() and ended_at is null);
create policy owners_team_ended on owners for update
    using (kind = 'team' and ended_at is null and reach(id, 'owner', id, null) >= 4)
    with check (kind = 'team' and ended_at = now());

create function owners_team_guard() returns trigger language plpgsql as $$
begin
    if (new.id, new.handle, new.kind, new.maker_id, new.created_at)
        is distinct from (old.id, old.handle, old.kind, old.maker_id, old.created_at) then
        raise exception 'this part of an owner does not change' using errcode = '42501';
    end if;
    -- What a team owns would be nobody's. Who dissolves it holds a lock that what is made for it waits for.
    if old.kind = 'team' and new.ended_at is not null
        and (exists (select 1 from secrets s where s.owner_id = old.id)
            or exists (select 1 from deployments d where d.owner_id = old.id)) then
        raise exception 'the team owns something' using errcode = '23514', constraint = 'owners_team_owns_nothing';
    end if;
    return new;
end $$;
create trigger owners_team_guard before update on owners for each row execute function owners_team_guard();

-- A team always has somebody who can share what it owns.
create function team_members_guard() returns trigger language plpgsql as $$
declare
    lowers boolean := old.level = 4 and current_job() is null;
begin
    if tg_op = 'UPDATE' then
        if (new.team_id, new.user_id) is distinct from (old.team_id, old.user_id) then
            raise exception 'a membership does not move' using errcode = '42501';
        end if;
        lowers := lowers and new.level < 4;
    end if;
    if lowers then
        -- One at a time: two admins who leave at once would leave none.
        perform 1 from owners o where o.id = old.team_id for no key update;
        if exists (select 1 from owners o where o.id = old.team_id and o.ended_at is null)
            and not exists (
                select 1 from team_members m join owners o on o.id = m.user_id
                where m.team_id = old.team_id and m.user_id <> old.user_id and m.level = 4 and o.ended_at is null
            ) then
            raise exception 'the last admin' using errcode = '23514', constraint = 'team_members_last_admin';
        end if;
    end if;
    if tg_op = 'DELETE' then
        return old;
    end if;
    return new;
end $$;
create trigger team_members_guard before update or delete on team_members for each row execute function team_members_guard();

-- Administrators look after accounts; it gives no reach to what others own.
create function is_administrator() returns boolean
    language plpgsql stable as $$
declare
    me uuid := current_actor();
begin
    return exists (select 1 from users u where u.id = me and u.is_admin and u.ended_at is null);
end $$;
create policy users_administered on users for select using (
    case when id = current_actor() then true else is_administrator() end
);
