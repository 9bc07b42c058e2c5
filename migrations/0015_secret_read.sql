-- Reading a value in one round trip, and what makes that fast: no check is left out, but each is set up once.

-- Paths as they are compared. A column of its own, because Row Level Security keeps `lower` away from an index: it could tell of a row
-- that is not in sight. Comparing a column tells nothing.
alter table secrets add column path_key text collate "C" not null generated always as (lower(path collate "C")) stored;
drop index secrets_path_key;
create unique index secrets_path_key on secrets (owner_id, path_key);
create index secrets_owner_expires on secrets (owner_id, expires_at) where expires_at is not null;

-- What each policy asks stays; how it is asked changes. Whatever a policy names is set up by each statement that reads the table,
-- whoever acts: a subquery with its plan and the policies of its own table, a condition with each of its functions. So subqueries
-- stand in functions, which are set up when they are reached, and jobs that see a whole table stand in one condition.
create function handed_over(owner uuid) returns boolean
    language plpgsql stable as $$
begin
    return current_job() = 'handover' and (owner = handing_over() or owner = heir());
end $$;
alter policy secrets_handover_seen on secrets using (handed_over(owner_id));
alter policy secrets_retention_sees on secrets using (current_job() in ('retention', 'caretaker'));
alter policy secrets_retention_sees on secrets rename to secrets_jobs_see;
drop policy secrets_caretaker_sees on secrets;
alter policy secret_versions_retention_sees on secret_versions using (current_job() in ('retention', 'caretaker', 'rotation'));
alter policy secret_versions_retention_sees on secret_versions rename to secret_versions_jobs_see;
drop policy secret_versions_caretaker_sees on secret_versions;
drop policy secret_versions_rotation_sees on secret_versions;
create function secret_seen(secret uuid, secret_owner uuid) returns boolean
    language plpgsql stable as $$
begin
    return exists (select 1 from secrets s where s.id = secret and s.owner_id = secret_owner);
end $$;
alter policy secret_versions_seen on secret_versions using (
    -- Who reaches all that the owner owns reaches this: the foreign key says whose it is.
    case when reach(owner_id, 'owner', owner_id, null) >= 1 then true else secret_seen(secret_id, owner_id) end
);
alter policy tokens_handover_seen on tokens using (maker_id = handing_over() or handed_over(owner_id));
alter policy users_reset_seen on users using (id = reset_now());
create function account_tried(account uuid) returns boolean
    language plpgsql stable as $$
begin
    return exists (select 1 from users u where u.id = account and u.email = presented());
end $$;
create function token_shown(token uuid, token_owner uuid) returns boolean
    language plpgsql stable as $$
begin
    return exists (select 1 from tokens t where t.hash = presented() and t.id = token and t.owner_id = token_owner);
end $$;
alter policy audit_written on audit with check (
    current_job() is not null
    or (
        user_id is not distinct from current_actor()
        and (
            owner_id is null
            or reach(owner_id, 'any', null, null) >= 1
            -- Signing in: the account that was tried.
            or account_tried(owner_id)
            -- The first administrator's own making.
            or burnt_now('first-administrator')
        )
    )
);
alter policy audit_written_by_token on audit with check (
    actor_kind = 'token' and user_id is not distinct from current_actor()
    -- The token that acts was looked up when it was entered.
    and case when actor_id = current_token() then owner_id = current_setting('sealport.token_owner')::uuid
        else token_shown(actor_id, owner_id) end
);
alter policy audit_written_by_link on audit with check (
    actor_kind = 'anonymous' and user_id is null and current_actor() is null
    and (burnt_now('invitation') or owner_id = reset_now())
);
alter policy audit_written_by_administrator on audit with check (
    actor_kind = 'user' and user_id = current_actor()
    and action in ('reset.make', 'administrator.make', 'administrator.unmake')
    and is_administrator()
);

-- The record's rows are checked by a policy: PostgreSQL reads a table's check constraints and the conditions of its indexes anew in each
-- statement that inserts, which took 35 of the 300 microseconds of reading a secret; a policy is a part of the plan.
alter table audit
    drop constraint audit_actor_kind_check, drop constraint audit_outcome_check, drop constraint audit_level,
    drop constraint audit_agent_length, drop constraint audit_reason_length;
create policy audit_well_formed on audit as restrictive for insert with check (
    actor_kind in ('user', 'token', 'deployment', 'job', 'anonymous')
    and outcome in ('done', 'refused')
    and (level is null or level in ('use', 'read', 'write', 'admin'))
    and (agent is null or char_length(agent) <= 200)
    and (reason is null or char_length(reason) <= 200)
);
drop index audit_secret, audit_deployment;
create index audit_secret on audit (secret_id, id);
create index audit_deployment on audit (deployment, id);

-- Check the token, act by it, decide, read the sealed value and put the access on record, in one statement that is durable when it
-- comes back. Security invoker: everything in it is read under Row Level Security. A token that was revoked or has expired is refused
-- without a record when the server says that it left enough of them (a flood).
create function secret_read(
    token_hash text, wanted_owner text, wanted_path text, wanted_version integer, record_id uuid,
    caller_address inet, caller_agent text, caller_request text, note_dead_token boolean,
    out token_id uuid, out owner_id uuid, out secret_id uuid, out path text, out version integer, out sealed bytea, out refused text
)
    language plpgsql volatile set plan_cache_mode = force_generic_plan as $$
declare
    t record;
begin
    t := token_check(token_hash);
    if t.token_id is null then
        refused := t.refused;
        return;
    elsif t.refused is not null and not note_dead_token then
        token_id := t.token_id;
        refused := t.refused;
        return;
    elsif wanted_owner is not null and t.refused is null
        -- A token acts for one owner; whose names there are besides is not its business.
        and not exists (select 1 from owners o where o.id = t.owner_id and o.handle = wanted_owner) then
        wanted_path := null;
    end if;
    with found as (
        select s.id, s.owner_id, s.path, v.version, v.sealed,
            case
                when t.refused is not null then t.refused
                when s.id is null then 'no such secret'
                when reach(s.owner_id, 'secret', s.id, s.path) < 2 then 'no right to the value'
                when s.expires_at <= now() then 'the secret has expired'
                when not s.active then 'the secret is switched off'
                when v.version is null then 'no such version'
                when v.destroyed_at is not null then 'the version was destroyed'
            end as why
        from (select) as always
        left join secrets s on t.refused is null and s.owner_id = t.owner_id and s.path_key = lower(wanted_path collate "C")
        left join secret_versions v on v.secret_id = s.id
            -- Not `coalesce`, which Row Level Security keeps away from an index.
            and v.version = case when wanted_version is null then s.version else wanted_version end
    ), noted as (
        insert into audit (id, actor_kind, actor_id, actor_name, user_id, owner_id, action, outcome, secret_id, path, version,
                address, agent, request_id, reason)
        select record_id, 'token', t.token_id, t.name, t.maker_id, t.owner_id, 'secret.read',
                case when f.why is null then 'done' else 'refused' end,
                -- What is not there or not in sight is named by no word from outside.
                f.id, f.path, f.version, caller_address, caller_agent, caller_request, f.why
        from found f
    )
    select t.token_id, f.owner_id, f.id, f.path, f.version, case when f.why is null then f.sealed end, f.why
    into token_id, owner_id, secret_id, path, version, sealed, refused
    from found f;
end $$;
grant execute on function secret_read(text, text, text, integer, uuid, inet, text, text, boolean) to sealport_server;

-- The secrets in sight in two parts, so that a page of a list can take the first of what its owners have, in the order of an index.
create function owners_in_sight() returns uuid[]
    language plpgsql stable as $$
begin
    return case when current_token() is null then acting_for()
        else array[current_setting('sealport.token_owner')::uuid] end;
end $$;
create function secrets_granted() returns setof uuid
    language plpgsql stable set plan_cache_mode = force_generic_plan as $$
declare
    as_whom uuid[] := acting_for();
begin
    return query
        -- Materialized: see secrets_read. '0' follows '/': the paths of a folder stand between the two.
        with folders as materialized (
            select g.owner_id, lower(g.prefix collate "C") || '/' as first, lower(g.prefix collate "C") || '0' as past
            from grants g where g.grantee_id = any (as_whom) and g.prefix is not null
        )
        select g.secret_id from grants g where g.grantee_id = any (as_whom) and g.secret_id is not null
        union
        select s.id from folders f join secrets s on s.owner_id = f.owner_id and s.path_key >= f.first and s.path_key < f.past;
end $$;
create or replace function secrets_in_sight() returns setof uuid
    language plpgsql stable set plan_cache_mode = force_generic_plan as $$
declare
    -- In a variable: a join with the function would not go by the index.
    owners uuid[] := owners_in_sight();
begin
    return query
        select s.id from secrets s where s.owner_id = any (owners)
        union
        select g.id from secrets_granted() as g (id);
end $$;
