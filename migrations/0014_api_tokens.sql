-- Tokens of the API. Each acts for one owner, on paths under its prefix, up to its ceiling, and never further than its maker
-- reaches at that moment.

alter table tokens
    -- Of the API: whole segments, without the slash at its end; none: every path of the owner's.
    add column prefix text constraint tokens_prefix_length check (octet_length(prefix) between 1 and 250),
    -- 1 use, 2 read, 3 write, 4 admin.
    add column ceiling integer constraint tokens_ceiling check (ceiling between 1 and 4),
    -- May make and change deployments.
    add column deploys boolean not null default false,
    drop constraint tokens_audience_check,
    add constraint tokens_audience check (audience in ('api', 'gateway')),
    add constraint tokens_api_is_bounded check ((audience = 'api') = (ceiling is not null)),
    add constraint tokens_gateway_is_plain check (audience = 'api' or (prefix is null and not deploys));

-- The token that acts in this transaction, as its row says; set by token_enter. After one `set local` an empty string, not null.
create function current_token() returns uuid
    language sql stable parallel safe
    return nullif(current_setting('sealport.token', true), '')::uuid;
comment on function current_token() is 'The API token by which the actor acts in this transaction.';

-- A deployment has no path of its own: it stands in the folder of the token that made it, and in none when a person or a token without
-- a prefix did. Only such tokens ask for it.
alter table deployments add column folder text constraint deployments_folder_length check (octet_length(folder) between 1 and 250);
create function deployment_folder(deployment uuid) returns text
    language plpgsql stable as $$
begin
    return (select d.folder from deployments d where d.id = deployment);
end $$;

-- The one decision, with the token's bounds in it. In one expression for people and one for tokens, and not in SQL any more, which
-- would put the whole of it into each statement that reads a table: setting it up there costs more than deciding.
create or replace function reach(object_owner uuid, object_kind text, object_id uuid, object_path text) returns integer
    language plpgsql stable as $$
begin
    if current_token() is null then
        -- What is one's own is decided without looking anything up.
        return case when object_owner = current_actor() then 4
            else granted(current_actor(), object_owner, object_kind, object_id, object_path, null) end;
    end if;
    return case when object_owner is distinct from current_setting('sealport.token_owner')::uuid then 0
        else least(
            case when object_owner = current_actor() then 4
                else granted(current_actor(), object_owner, object_kind, object_id, object_path, null) end,
            case object_kind
                when 'secret' then case
                    when current_setting('sealport.token_prefix') = ''
                        or starts_with(object_path, current_setting('sealport.token_prefix') || '/')
                    then current_setting('sealport.token_ceiling')::integer else 0 end
                when 'deployment' then case
                    -- With a prefix: what tokens of that folder made. Without an id, one that is not made yet is meant.
                    when current_setting('sealport.token_prefix') <> '' and object_id is not null and not starts_with(
                        coalesce(object_path, deployment_folder(object_id), '') || '/',
                        current_setting('sealport.token_prefix') || '/'
                    ) then 0
                    when current_setting('sealport.token_deploys') = 'true' then 4
                    -- Whoever may not change deployments sees them, at most.
                    else least(current_setting('sealport.token_ceiling')::integer, 2) end
                when 'any' then current_setting('sealport.token_ceiling')::integer
                -- All that the owner owns.
                else case when current_setting('sealport.token_prefix') = ''
                    then current_setting('sealport.token_ceiling')::integer else 0 end
            end)
        end;
end $$;

-- The row's own folder, so that `reach` need not look it up in the table that asks.
alter policy deployments_seen on deployments using (reach(owner_id, 'deployment', id, coalesce(folder, '')) >= 1);
alter policy deployments_made on deployments with check (
    reach(owner_id, 'deployment', id, coalesce(folder, '')) >= 4
    and (fetch_key is null or exists (
        select 1 from secrets s
        where s.id = fetch_key and usable_in(current_actor(), s.owner_id, s.id, s.path, deployments.name)
    ))
);
alter policy deployments_changed on deployments using (reach(owner_id, 'deployment', id, coalesce(folder, '')) >= 3)
    with check (reach(owner_id, 'deployment', id, coalesce(folder, '')) >= 3);
alter policy deployments_deleted on deployments using (reach(owner_id, 'deployment', id, coalesce(folder, '')) >= 4);

-- The guard as it was; the folder is of what does not change.
create or replace function deployments_guard() returns trigger language plpgsql as $$
begin
    if (new.id, new.ordinal, new.name, new.draft_id, new.created_at, new.folder)
        is distinct from (old.id, old.ordinal, old.name, old.draft_id, old.created_at, old.folder) then
        raise exception 'this part of a deployment does not change' using errcode = '42501';
    end if;
    if new.owner_id <> old.owner_id
        and (old.owner_id is distinct from handing_over() or new.owner_id is distinct from heir()) then
        raise exception 'a deployment changes its owner by a hand-over alone' using errcode = '42501';
    end if;
    -- A deleted secret leaves its place as fetch key, whoever deletes it.
    if ((new.source, new.start, new.target) is distinct from (old.source, old.start, old.target)
            or (new.fetch_key is not null and new.fetch_key is distinct from old.fetch_key))
        and current_job() is null and reach(old.owner_id, 'deployment', old.id, coalesce(old.folder, '')) < 4 then
        raise exception 'source and target need admin' using errcode = '42501';
    end if;
    if new.fetch_key is not null and new.fetch_key is distinct from old.fetch_key and current_job() is null
        and not exists (
            select 1 from secrets s
            where s.id = new.fetch_key and usable_in(current_actor(), s.owner_id, s.id, s.path, new.name)
        ) then
        raise exception 'the fetch key is not one that may be used' using errcode = '42501';
    end if;
    -- The hold and its fence belong to the servers, not to people.
    if current_job() is distinct from 'supervisor'
        and (new.holder, new.held_until, new.fence) is distinct from (old.holder, old.held_until, old.fence) then
        raise exception 'only a supervisor holds a deployment' using errcode = '42501';
    end if;
    return new;
end $$;

-- A token binds what it reaches itself; for another's part (the owner's of a deployment) it does not matter who asks.
create or replace function usable_in(actor uuid, object_owner uuid, secret_id uuid, secret_path text, deployment_name text) returns boolean
    language sql stable
    return granted(actor, object_owner, 'secret', secret_id, secret_path, deployment_name) >= 1
        and (current_token() is null or actor is distinct from current_actor()
            or reach(object_owner, 'secret', secret_id, secret_path) >= 1);

-- The owners whose record the actor sees: with a token its own owner's, where it reaches all of it.
create or replace function record_owners() returns uuid[]
    language plpgsql stable set plan_cache_mode = force_generic_plan as $$
declare
    me uuid := current_actor();
begin
    if current_token() is not null then
        return array(
            select o.id from owners o
            where o.id = current_setting('sealport.token_owner')::uuid and reach(o.id, 'owner', o.id, null) >= 4
        );
    end if;
    return me || array(select m.team_id from team_members m where m.user_id = me and m.level = 4);
end $$;

-- What is a person's own stays out of a token's sight, whatever the other policies let a person do.
create policy sessions_no_token on sessions as restrictive using (current_token() is null);
create policy users_no_token on users as restrictive for update using (current_token() is null);
create policy one_time_links_no_token on one_time_links as restrictive using (current_token() is null);
create policy drafts_no_token on drafts as restrictive using (current_token() is null);
create policy pending_imports_no_token on pending_imports as restrictive using (current_token() is null);
create policy known_addresses_no_token on known_addresses as restrictive using (current_token() is null);
create policy settings_no_token on settings as restrictive for insert with check (current_token() is null);
create policy settings_no_token_changes on settings as restrictive for update using (current_token() is null);
-- Of its maker's tokens it sees and revokes those of its owner, where it reaches all of it; itself always. It makes none: a token
-- that is found out would live on in those that it made.
create policy tokens_by_token on tokens as restrictive for select using (
    current_token() is null or hash = presented() or reach(owner_id, 'owner', owner_id, null) >= 4
);
create policy tokens_by_token_changes on tokens as restrictive for update using (
    current_token() is null or hash = presented() or reach(owner_id, 'owner', owner_id, null) >= 4
);
create policy tokens_by_token_none on tokens as restrictive for insert with check (current_token() is null);
-- Own acts are the token's.
create policy audit_by_token on audit as restrictive for select using (
    current_token() is null or actor_id = current_token() or owner_id = any ((select record_owners())::uuid[])
);

-- Made for an owner of whom the maker reaches something now; what it opens is decided at each use.
create policy tokens_api_made on tokens for insert with check (
    audience = 'api' and maker_id = current_actor() and deployment_id is null
    and reach(owner_id, 'any', null, null) >= 1
);

-- Checks the credential and takes on its maker's rights within its bounds, for the rest of the transaction. The token comes back
-- also when it is refused: for the record. Security invoker: everything is read under Row Level Security. Settings are set where
-- something is read anyway, or by an assignment: a statement for each would cost more than reading the token.
create function token_check(
    token_hash text,
    out token_id uuid, out name text, out maker_id uuid, out owner_id uuid, out ceiling integer, out prefix text, out deploys boolean,
    out refused text
)
    language plpgsql volatile as $$
declare
    unused boolean;
    living boolean;
    set text;
begin
    set := set_config('sealport.actor', '', true) || set_config('sealport.job', '', true)
        || set_config('sealport.token', '', true) || set_config('sealport.presented', token_hash, true);
    select t.id, t.name, t.maker_id, t.owner_id, t.ceiling, t.prefix, t.deploys,
        case when t.revoked_at is not null then 'revoked token' when t.expires_at <= now() then 'expired token' end,
        t.last_used_at is null or t.last_used_at < now() - interval '1 minute',
        set_config('sealport.actor', t.maker_id::text, true) || set_config('sealport.token', t.id::text, true)
            || set_config('sealport.token_owner', t.owner_id::text, true)
            || set_config('sealport.token_ceiling', t.ceiling::text, true)
            || set_config('sealport.token_prefix', coalesce(t.prefix, ''), true)
            || set_config('sealport.token_deploys', t.deploys::text, true)
    into token_id, name, maker_id, owner_id, ceiling, prefix, deploys, refused, unused, set
    from tokens t where t.hash = token_hash and t.audience = 'api';
    if token_id is null then
        refused := 'unknown token';
        return;
    end if;
    if owner_id = maker_id then
        select u.ended_at is null into living from users u where u.id = token_check.maker_id;
    else
        select u.ended_at is null and o.ended_at is null into living from users u, owners o
        where u.id = token_check.maker_id and o.id = token_check.owner_id;
    end if;
    if refused is not null or living is not true then
        refused := coalesce(refused, 'ended account');
        -- Nothing is left to act with but the record.
        set := set_config('sealport.token_ceiling', '0', true) || set_config('sealport.token_deploys', 'false', true);
    elsif unused then
        -- Once a minute is often enough to tell whether a token is in use.
        update tokens t set last_used_at = now()
        where t.id = token_id and (t.last_used_at is null or t.last_used_at < now() - interval '1 minute');
    end if;
end $$;
grant execute on function token_check(text) to sealport_server;

-- The same, with the names of its people. Those of who has ended are left out.
create function token_enter(token_hash text) returns table (
    token_id uuid, name text, maker_id uuid, maker text, email text, owner_id uuid, owner text,
    ceiling integer, prefix text, deploys boolean, refused text
)
    language plpgsql volatile as $$
declare
    t record;
begin
    t := token_check(token_hash);
    return query
        select t.token_id, t.name, t.maker_id, m.handle, u.email, t.owner_id, o.handle, t.ceiling, t.prefix, t.deploys, t.refused
        from (select) as always
        left join users u on u.id = t.maker_id and u.ended_at is null
        left join owners m on m.id = u.id
        left join owners o on o.id = t.owner_id and o.ended_at is null;
end $$;
grant execute on function token_enter(text) to sealport_server;

-- A token's bounds stay as they were made. A gateway token goes with its deployment to an heir; an API token never opens what is
-- another's: it is revoked when its owner is handed over.
create or replace function tokens_guard() returns trigger language plpgsql as $$
begin
    -- After its making a token can only be used and revoked.
    if (new.id, new.hash, new.maker_id, new.audience, new.deployment_id, new.name, new.created_at, new.expires_at,
        new.prefix, new.ceiling, new.deploys)
        is distinct from
       (old.id, old.hash, old.maker_id, old.audience, old.deployment_id, old.name, old.created_at, old.expires_at,
        old.prefix, old.ceiling, old.deploys)
       or (old.revoked_at is not null and new.revoked_at is distinct from old.revoked_at) then
        raise exception 'a token does not change' using errcode = '42501';
    end if;
    if new.owner_id <> old.owner_id
        and (old.audience = 'api' or old.owner_id is distinct from handing_over() or new.owner_id is distinct from heir()) then
        raise exception 'a token changes its owner by a hand-over alone' using errcode = '42501';
    end if;
    return new;
end $$;
alter policy tokens_handover on tokens with check (
    maker_id = handing_over() or owner_id = heir()
    or (owner_id = handing_over() and audience = 'api' and revoked_at is not null)
);

-- A token acts for one owner, and makes no other.
create policy owners_no_token on owners as restrictive for insert with check (current_token() is null);
-- Members are changed by a token that reaches all that the team owns, up to admin.
create policy team_members_by_token on team_members as restrictive for insert
    with check (current_token() is null or reach(team_id, 'owner', team_id, null) >= 4);
create policy team_members_by_token_changes on team_members as restrictive for update
    using (current_token() is null or reach(team_id, 'owner', team_id, null) >= 4);
create policy team_members_by_token_ends on team_members as restrictive for delete
    using (current_token() is null or reach(team_id, 'owner', team_id, null) >= 4);
-- Who else reaches something is decided by a token that could do everything with it, and not by one that only deploys.
create policy grants_by_token on grants as restrictive for insert
    with check (current_token() is null or current_setting('sealport.token_ceiling')::integer = 4);
create policy grants_by_token_changes on grants as restrictive for update
    using (current_token() is null or current_setting('sealport.token_ceiling')::integer = 4);
create policy grants_by_token_ends on grants as restrictive for delete
    using (current_token() is null or current_setting('sealport.token_ceiling')::integer = 4);
