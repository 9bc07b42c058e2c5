-- A deployment's name is taken by whoever may make deployments: for people the same as before, for a token what its right to deploy
-- says, whatever its ceiling and prefix on secrets.
alter policy deployment_names_own on deployment_names using (reach(owner_id, 'deployment', null, null) >= 1);
alter policy deployment_names_taken on deployment_names with check (reach(owner_id, 'deployment', null, null) >= 4);
