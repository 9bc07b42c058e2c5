-- A deployment's name is taken by whoever may make deployments: for people the same as before, for a token what its right to deploy
-- says, whatever its ceiling and prefix on secrets.
alter policy deployment_names_own on deployment_names using (reach(owner_id, 'deployment', null, null) >= 1);
alter policy deployment_names_taken on deployment_names with check (reach(owner_id, 'deployment', null, null) >= 4);

-- A token's bounds stay as they were made, and it goes with its deployment to an heir, as before there were bounds.
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
        and (old.owner_id is distinct from handing_over() or new.owner_id is distinct from heir()) then
        raise exception 'a token changes its owner by a hand-over alone' using errcode = '42501';
    end if;
    return new;
end $$;
