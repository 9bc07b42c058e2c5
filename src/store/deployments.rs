//! Deployments: what someone wants running.

use std::collections::BTreeMap;

use sqlx::{Postgres, Transaction};
use uuid::Uuid;

use super::audit::{self, Entry};
use super::deployment_changes::stored;
use super::deployment_checks::{Wrong, check_secrets, check_spec, may_deploy};
use super::drafts::storable;
use super::{Db, Error, Result};
use crate::model::actors::{Actor, Caller, SignedInUser};
use crate::model::audit::Action;
use crate::model::deployments::{Binding, Bound, DeploymentSpec, DeploymentState};
use crate::model::errors::{Refusal, RefusalKind};
use crate::model::levels::Level;
use crate::model::paths::{DeploymentName, SecretPath};
use crate::model::plans::Lacking;
use crate::model::sources::{Source, StartPlan};
use crate::model::targets::{Placed, Target};

/// A deployment that this server holds, with what its target needs.
#[derive(Clone, Debug)]
pub struct Held {
    pub id: Uuid,
    pub ordinal: i32,
    pub name: DeploymentName,
    pub owner_id: Uuid,
    pub wanted: bool,
    pub state: DeploymentState,
    /// The newest release's number.
    pub release: i32,
    /// The newest release that went live: what runs, or is to run again after a crash.
    pub live_release: Option<i32>,
    pub fence: i64,
    pub source: Source,
    pub start: StartPlan,
    pub target: Target,
    /// What the provider has of it.
    pub placed: Placed,
    /// It is to be gone: what the provider has first.
    pub destroying: bool,
    /// Each caller has an instance of their own.
    pub per_user: bool,
    /// Another number whenever it is something else that callers would agree to.
    pub terms: i32,
    /// What the target was told, by name.
    pub options: BTreeMap<String, String>,
}

impl Db {
    /// Makes the deployment, its bindings and release 1. A second call with the same draft returns the first's name.
    /// Errors: `Taken` at `name`; `Denied` for a secret without `use`, the caller's or the owner's; `Invalid` at the field of the
    /// binding (`bindings.ENV`, `fetch_key`, `source`, `command`) or at `owner`; `NotFound` for the draft.
    pub async fn deployment_create(
        &self,
        caller: &Caller,
        draft_id: Option<Uuid>,
        spec: &DeploymentSpec,
    ) -> Result<DeploymentName> {
        person(caller)?;
        let mut tx = self.begin_as(caller).await?;
        if let Some(draft_id) = draft_id
            && let Some(name) = deployed_already(&mut tx, draft_id).await?
        {
            tx.commit().await?;
            return Ok(name);
        }
        check_spec(caller, spec)?;
        let (owner, action) = (spec.owner.as_ref(), Action::DeploymentCreate);
        let (mut tx, owner_id) = self
            .for_owner(tx, caller, owner, Level::Admin, action)
            .await?;
        let wrong = match may_deploy(&mut tx, owner_id).await? {
            Some(wrong) => Some(wrong),
            None => match check_secrets(&mut tx, owner_id, spec).await? {
                Ok(paths) => {
                    insert_deployment(&mut tx, caller, owner_id, draft_id, spec, &paths).await?
                }
                Err(wrong) => Some(wrong),
            },
        };
        if let Some(wrong) = wrong {
            tx.rollback().await?;
            self.record_refusal(
                caller,
                wrong.entry(Action::DeploymentCreate, owner_id, &spec.name),
            )
            .await?;
            return Err(wrong.refusal.into());
        }
        let entry = Entry {
            release: Some(1),
            ..about(Action::DeploymentCreate, owner_id, &spec.name)
        };
        audit::record(&mut tx, caller, entry).await?;
        tx.commit().await?;
        Ok(spec.name.clone())
    }

    /// Queues a new release with the newest versions. Returns its number. An older open one is superseded. A directory of this
    /// machine is copied anew for administrators only; for others what stands there is started again. Errors: `NotFound`, `Denied`.
    pub async fn deployment_redeploy(&self, caller: &Caller, name: &DeploymentName) -> Result<i32> {
        self.redeploy_because(caller, name, None).await
    }

    /// The same, with what the record says of why. With a reason, one that is under way already is left alone: `Conflict`.
    pub(super) async fn redeploy_because(
        &self,
        caller: &Caller,
        name: &DeploymentName,
        reason: Option<&'static str>,
    ) -> Result<i32> {
        let action = Action::DeploymentRedeploy;
        let (mut tx, found) = self.reached(caller, name, Level::Write, action).await?;
        if reason.is_some() {
            let is_open = sqlx::query_scalar!(
                r#"select exists(select 1 from releases where deployment_id = $1 and state in ('queued', 'running')) as "is_open!""#,
                found.id,
            )
            .fetch_one(&mut *tx)
            .await?;
            if is_open {
                tx.rollback().await?;
                let says = "A release of it is under way already.";
                return Err(Refusal::new(RefusalKind::Conflict, says).into());
            }
        }
        let user = person(caller)?;
        let number =
            queue_release(&mut tx, &audit::asked_by(caller), &found, user.is_admin).await?;
        let entry = Entry {
            release: Some(number),
            reason,
            ..about(action, found.owner_id, name)
        };
        audit::record(&mut tx, caller, entry).await?;
        tx.commit().await?;
        Ok(number)
    }

    /// Wants it running: from stopped or failed, queues a start of what is installed (a release of its own).
    /// One that is wanted and not failed stays as it is. Returns the number of the release that it is about. Errors: `NotFound`,
    /// `Denied`.
    pub async fn deployment_start(&self, caller: &Caller, name: &DeploymentName) -> Result<i32> {
        let action = Action::DeploymentStart;
        let (mut tx, found) = self.reached(caller, name, Level::Write, action).await?;
        if found.wanted && !["stopped", "failed"].contains(&found.state.as_str()) {
            let release = newest_release(&mut tx, found.id).await?;
            tx.rollback().await?;
            return Ok(release);
        }
        let number = queue_release(&mut tx, &audit::asked_by(caller), &found, false).await?;
        let entry = Entry {
            release: Some(number),
            ..about(action, found.owner_id, name)
        };
        audit::record(&mut tx, caller, entry).await?;
        tx.commit().await?;
        Ok(number)
    }

    /// Wants it stopped; the supervisor stops the guest and then says that it is stopped. An open release ends as superseded.
    /// Errors: `NotFound`, `Denied`.
    pub async fn deployment_stop(&self, caller: &Caller, name: &DeploymentName) -> Result<()> {
        let action = Action::DeploymentStop;
        let (mut tx, found) = self.reached(caller, name, Level::Write, action).await?;
        if !found.wanted {
            tx.rollback().await?;
            return Ok(());
        }
        supersede(&mut tx, found.id, "It was stopped.").await?;
        // What failed has no guest left to stop; at a provider it may run on.
        sqlx::query!(
            "update deployments set wanted = false, \
             state_since = case when state = 'failed' and placed = '{}' then now() else state_since end, \
             reason = case when state = 'failed' and placed = '{}' then null else 'Stopping.' end, \
             state = case when state = 'failed' and placed = '{}' then 'stopped' else state end \
             where id = $1",
            found.id,
        )
        .execute(&mut *tx)
        .await?;
        audit::record(&mut tx, caller, about(action, found.owner_id, name)).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Deletes it with releases, log and tokens; its name stays its owner's. What a provider has of it goes first: until then it stands
    /// here and says how far that is. `typed` must equal the name. Returns whether it is gone. Errors: `Invalid` at `typed`.
    pub async fn deployment_destroy(
        &self,
        caller: &Caller,
        name: &DeploymentName,
        typed: &str,
    ) -> Result<bool> {
        let action = Action::DeploymentDestroy;
        let (mut tx, found) = self.reached(caller, name, Level::Admin, action).await?;
        if typed.trim() != name.as_str() {
            tx.rollback().await?;
            return Err(
                Refusal::invalid("typed", format!("Type {name} to destroy it for good.")).into(),
            );
        }
        if found.is_placed {
            supersede(&mut tx, found.id, "It is being destroyed.").await?;
            sqlx::query!(
                "update deployments set wanted = false, destroying = true, reason = 'Being destroyed at the provider.' where id = $1",
                found.id,
            )
            .execute(&mut *tx)
            .await?;
        } else {
            delete(&mut tx, &found).await?;
        }
        audit::record(&mut tx, caller, about(action, found.owner_id, name)).await?;
        tx.commit().await?;
        Ok(!found.is_placed)
    }

    /// Deletes what could not be destroyed at its provider; what is there stays there. The record names what it has: each bound secret.
    /// Errors: `Invalid` at `typed`; `Conflict` when destroying it there has not failed yet.
    pub async fn deployment_forget(
        &self,
        caller: &Caller,
        name: &DeploymentName,
        typed: &str,
    ) -> Result<()> {
        let action = Action::DeploymentDestroy;
        let (mut tx, found) = self.reached(caller, name, Level::Admin, action).await?;
        let row = sqlx::query!(
            r#"select destroying and destroy_failed_at is not null as "has_failed!", placed from deployments where id = $1"#,
            found.id,
        )
        .fetch_one(&mut *tx)
        .await?;
        let refused = match (typed.trim() == name.as_str(), row.has_failed) {
            (true, true) => None,
            (false, _) => Some(Refusal::invalid(
                "typed",
                format!("Type {name} to forget it for good."),
            )),
            (true, false) => Some(Refusal::new(
                RefusalKind::Conflict,
                "Only what could not be destroyed at its provider is forgotten. Destroy it first, and wait for what comes of that.",
            )),
        };
        if let Some(refused) = refused {
            tx.rollback().await?;
            return Err(refused.into());
        }
        let left = stored(&mut tx, found.id, name).await?;
        for binding in &left.bindings {
            let Bound::Secret { id } = binding.to else {
                continue;
            };
            let path = sqlx::query_scalar!("select path from secrets where id = $1", id);
            let Some(path) = path.fetch_optional(&mut *tx).await? else {
                continue;
            };
            let path = SecretPath::parse(&path)?;
            let entry = Entry {
                secret: Some((id, &path)),
                reason: Some("its provider still has it"),
                ..about(action, found.owner_id, name)
            };
            audit::record(&mut tx, caller, entry).await?;
        }
        let entry = Entry {
            reason: Some("forgotten here; what its provider has of it stays"),
            ..about(action, found.owner_id, name)
        };
        audit::record(&mut tx, caller, entry).await?;
        delete(&mut tx, &found).await?;
        tx.commit().await?;
        // Ids and an address, so that an operator finds it there.
        tracing::warn!(deployment = %name, target = found.target, placed = %row.placed, "a deployment was forgotten");
        Ok(())
    }

    /// The deployment of that name, locked, if the caller reaches it at `level`; otherwise the refusal goes on record.
    /// Roll back rather than drop: the lock then ends at once, and a claim does not skip the deployment.
    pub(super) async fn reached(
        &self,
        caller: &Caller,
        name: &DeploymentName,
        level: Level,
        action: Action,
    ) -> Result<(Transaction<'static, Postgres>, Reached)> {
        person(caller)?;
        let mut tx = self.begin_as(caller).await?;
        let seen = sqlx::query!(
            r#"select id, owner_id, reach(owner_id, 'deployment', id, null) as "level!"
               from deployments where name = $1"#,
            name.as_str(),
        )
        .fetch_optional(&mut *tx)
        .await?;
        if let Some(seen) = &seen
            && seen.level >= level.number()
        {
            let found = sqlx::query_as!(
                Reached,
                r#"select id, owner_id, wanted, state, target, placed <> '{}' as "is_placed!", destroying from deployments where id = $1 for update"#,
                seen.id,
            )
            .fetch_optional(&mut *tx)
            .await?
            .ok_or_else(|| Refusal::not_found("deployment"))?;
            let may_go_on = matches!(action, Action::DeploymentDestroy | Action::DeploymentChange);
            if found.destroying && !may_go_on {
                tx.rollback().await?;
                return Err(Refusal::new(
                    RefusalKind::Conflict,
                    format!("{name} is being destroyed: nothing else can be done with it."),
                )
                .into());
            }
            return Ok((tx, found));
        }
        tx.rollback().await?;
        let entry = Entry {
            owner_id: seen.as_ref().map(|seen| seen.owner_id),
            deployment: Some(name.as_str()),
            reason: Some("no right to the deployment"),
            ..Entry::of(action)
        };
        self.record_refusal(caller, entry).await?;
        Err(match seen {
            Some(_) => Refusal::new(RefusalKind::Denied, may_not_change(caller, name)),
            None => Refusal::not_found("deployment"),
        }
        .into())
    }
}

async fn delete(tx: &mut Transaction<'static, Postgres>, found: &Reached) -> Result<()> {
    sqlx::query!(
        "insert into destroyed_deployments (id, owner_id) values ($1, $2)",
        found.id,
        found.owner_id,
    )
    .execute(&mut **tx)
    .await?;
    let deleted = sqlx::query!("delete from deployments where id = $1", found.id)
        .execute(&mut **tx)
        .await?;
    match deleted.rows_affected() {
        1 => Ok(()),
        // Dropped, the transaction is rolled back.
        _ => Err(Refusal::new(
            RefusalKind::Conflict,
            "Somebody changed it at the same time. Look at it again.",
        )
        .into()),
    }
}

/// Which code a release ran, and what it was built from.
pub(super) struct Code {
    pub of: i32,
    pub commit: String,
    pub source: String,
}

/// A deployment that somebody may change, locked.
pub(super) struct Reached {
    pub id: Uuid,
    pub owner_id: Uuid,
    pub wanted: bool,
    pub state: String,
    pub target: String,
    /// A provider has something of it.
    pub is_placed: bool,
    pub destroying: bool,
}

impl Reached {
    fn target(&self) -> Result<Target> {
        Target::from_name(&self.target)
            .ok_or_else(|| Error::broken("a deployment's target does not read"))
    }
}

fn may_not_change(caller: &Caller, name: &DeploymentName) -> String {
    match &caller.actor {
        Actor::Token(token) if !token.deploys => format!(
            "This token sees {name} and may not change it: it was made without the right to deploy."
        ),
        _ => format!("You may see {name}, but not change it in this way."),
    }
}

/// The person who calls, or by whose token a program does. Errors: `Unauthenticated` for anyone else.
pub(super) fn person(caller: &Caller) -> Result<&SignedInUser> {
    caller
        .user()
        .ok_or_else(|| Refusal::new(RefusalKind::Unauthenticated, "Sign in first.").into())
}

pub(super) fn about<'a>(action: Action, owner_id: Uuid, name: &'a DeploymentName) -> Entry<'a> {
    Entry {
        owner_id: Some(owner_id),
        deployment: Some(name.as_str()),
        ..Entry::of(action)
    }
}

/// The name under which a draft was deployed. The lock makes the second of two presses wait for the first.
async fn deployed_already(
    tx: &mut Transaction<'_, Postgres>,
    draft_id: Uuid,
) -> Result<Option<DeploymentName>> {
    let draft = sqlx::query!(
        "select deployed_as from drafts where id = $1 for update",
        draft_id
    )
    .fetch_optional(&mut **tx)
    .await?
    .ok_or_else(|| Refusal::not_found("draft"))?;
    Ok(draft
        .deployed_as
        .as_deref()
        .map(DeploymentName::parse)
        .transpose()?)
}

/// Takes the name for its owner. What is wrong with it: it is another's, or in use.
pub(super) async fn take_name(
    tx: &mut Transaction<'_, Postgres>,
    owner_id: Uuid,
    name: &DeploymentName,
) -> Result<Option<Wrong>> {
    // Another's row is not to be seen, so the primary key tells; nothing is inserted then.
    sqlx::query!(
        "insert into deployment_names (name, owner_id) values ($1, $2) on conflict (name) do nothing",
        name.as_str(),
        owner_id,
    )
    .execute(&mut **tx)
    .await?;
    let row = sqlx::query!(
        r#"select exists (select 1 from deployment_names where name = $1 and owner_id = $2) as "own!",
             exists (select 1 from deployments where name = $1) as "in_use!""#,
        name.as_str(),
        owner_id,
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(match (row.own, row.in_use) {
        (false, _) => Some(taken(name, "the name is another's")),
        (true, true) => Some(taken(name, "the name is in use")),
        (true, false) => None,
    })
}

fn taken(name: &DeploymentName, reason: &'static str) -> Wrong {
    Wrong {
        how: Lacking::Refused,
        refusal: Refusal::new(
            RefusalKind::Taken,
            format!("The name {name} is taken. Choose another."),
        )
        .at("name"),
        reason,
        secret: None,
    }
}

async fn insert_deployment(
    tx: &mut Transaction<'_, Postgres>,
    caller: &Caller,
    owner_id: Uuid,
    draft_id: Option<Uuid>,
    spec: &DeploymentSpec,
    paths: &BTreeMap<Uuid, SecretPath>,
) -> Result<Option<Wrong>> {
    let name = spec.name.as_str();
    if let Some(wrong) = take_name(tx, owner_id, &spec.name).await? {
        return Ok(Some(wrong));
    }
    let id = Uuid::now_v7();
    let inserted = sqlx::query!(
        "insert into deployments (id, name, owner_id, source, start, target, options, provider_key, fetch_key, draft_id, state, folder) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 'deploying',
                 case when current_token() is not null then nullif(current_setting('sealport.token_prefix'), '') end)",
        id,
        name,
        owner_id,
        spec.source.to_string(),
        storable(&spec.start)?,
        spec.target.as_str(),
        storable(&spec.options)?,
        spec.provider_key,
        spec.fetch_key,
        draft_id,
    )
    .execute(&mut **tx)
    .await;
    match inserted {
        // Made by another request meanwhile.
        Err(sqlx::Error::Database(error)) if error.constraint() == Some("deployments_name_key") => {
            return Ok(Some(taken(&spec.name, "the name is in use")));
        }
        other => other?,
    };
    for binding in &spec.bindings {
        put_binding(tx, id, owner_id, binding, paths).await?;
    }
    let found = Reached {
        id,
        owner_id,
        wanted: true,
        state: "deploying".into(),
        target: spec.target.as_str().into(),
        is_placed: false,
        destroying: false,
    };
    queue_release(tx, &audit::asked_by(caller), &found, true).await?;
    if let Some(draft_id) = draft_id {
        sqlx::query!(
            "update drafts set deployed_as = $2 where id = $1",
            draft_id,
            name
        )
        .execute(&mut **tx)
        .await?;
    }
    Ok(None)
}

/// Binds a name, whatever it was bound to.
pub(super) async fn put_binding(
    tx: &mut Transaction<'_, Postgres>,
    deployment_id: Uuid,
    owner_id: Uuid,
    binding: &Binding,
    paths: &BTreeMap<Uuid, SecretPath>,
) -> Result<()> {
    let (secret_id, path, text) = match &binding.to {
        Bound::Secret { id } => (Some(*id), paths.get(id).map(SecretPath::as_str), None),
        Bound::Text { text } => (None, None, Some(text.as_str())),
        Bound::PerUser { .. } => (None, None, None),
    };
    // What it is was found when the source was looked at, which not every change does.
    let description = match &binding.to {
        Bound::PerUser { description } => {
            Some(description.as_str()).filter(|said| !said.is_empty())
        }
        _ => None,
    };
    sqlx::query!(
        "insert into bindings (deployment_id, owner_id, env, secret_id, secret_path, text, per_user, description) \
         values ($1, $2, $3, $4, $5, $6, $7, coalesce($8, '')) \
         on conflict (deployment_id, env) do update set secret_id = $4, secret_path = $5, text = $6, per_user = $7, \
           description = coalesce($8, bindings.description)",
        deployment_id,
        owner_id,
        binding.env.as_str(),
        secret_id,
        path,
        text,
        matches!(binding.to, Bound::PerUser { .. }),
        description,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub(super) async fn newest_release(tx: &mut Transaction<'_, Postgres>, id: Uuid) -> Result<i32> {
    let release = sqlx::query_scalar!("select release from deployments where id = $1", id);
    Ok(release.fetch_one(&mut **tx).await?)
}

/// Ends an open release, if there is one.
async fn supersede(tx: &mut Transaction<'_, Postgres>, id: Uuid, reason: &str) -> Result<()> {
    sqlx::query!(
        "update releases set state = 'superseded', reason = $2, ended_at = now() \
         where deployment_id = $1 and state in ('queued', 'running')",
        id,
        reason,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Makes the next release with its waiting steps; the deployment is wanted and deploying. `anew`: a directory is copied
/// anew, as it is when the release that this one takes the place of was to; otherwise what is installed is used again.
pub(super) async fn queue_release(
    tx: &mut Transaction<'_, Postgres>,
    // As the record names them.
    asked_by: &str,
    found: &Reached,
    anew: bool,
) -> Result<i32> {
    queue_release_of(tx, asked_by, found, anew, None).await
}

/// The same, with the code of an older release rather than the newest.
pub(super) async fn queue_release_of(
    tx: &mut Transaction<'_, Postgres>,
    asked_by: &str,
    found: &Reached,
    anew: bool,
    code: Option<&Code>,
) -> Result<i32> {
    let anew = anew
        || sqlx::query_scalar!(
            r#"select exists (select 1 from releases
                 where deployment_id = $1 and anew and state in ('queued', 'running')) as "anew!""#,
            found.id,
        )
        .fetch_one(&mut **tx)
        .await?;
    supersede(tx, found.id, "A newer release came first.").await?;
    let number = sqlx::query_scalar!(
        "update deployments set release = release + 1, wanted = true, reason = null, \
         state_since = case when state = 'deploying' then state_since else now() end, state = 'deploying' \
         where id = $1 returning release",
        found.id,
    )
    .fetch_one(&mut **tx)
    .await?;
    sqlx::query!(
        "insert into releases (deployment_id, owner_id, number, state, created_by, anew, commit, built_from, code_of) \
         values ($1, $2, $3, 'queued', $4, $5, $6, $7, $8)",
        found.id,
        found.owner_id,
        number,
        asked_by,
        anew,
        code.map(|code| code.commit.as_str()),
        code.map(|code| code.source.as_str()),
        code.map(|code| code.of),
    )
    .execute(&mut **tx)
    .await?;
    let steps: Vec<String> = found
        .target()?
        .steps()
        .iter()
        .map(|step| step.as_str().to_owned())
        .collect();
    sqlx::query!(
        "insert into release_steps (deployment_id, owner_id, number, step, state) \
         select $1, $2, $3, step, 'waiting' from unnest($4::text[]) as step",
        found.id,
        found.owner_id,
        number,
        &steps,
    )
    .execute(&mut **tx)
    .await?;
    Ok(number)
}
