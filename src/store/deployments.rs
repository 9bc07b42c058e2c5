//! Deployments: what someone wants running.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{Postgres, Transaction};
use uuid::Uuid;

use super::audit::{self, Entry};
use super::drafts::storable;
use super::keyring::SEALED_EXTRA_BYTES;
use super::{Db, Result};
use crate::model::actors::{Caller, SignedInUser};
use crate::model::audit::Action;
use crate::model::deployments::{Bound, DeploymentSpec, DeploymentState, StepName, Target};
use crate::model::errors::{Refusal, RefusalKind};
use crate::model::levels::Level;
use crate::model::paths::{DeploymentName, SecretPath};
use crate::model::secrets::{VALUE_LEN_BYTES, VALUES_LEN_BYTES};
use crate::model::sources::{Source, StartPlan};

/// Bindings that one deployment can have.
pub const BINDINGS_MAX: usize = 200;

/// A local deployment that this server holds, with what its guest needs.
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
        let user = person(caller)?;
        let mut tx = self.begin_as(caller).await?;
        if let Some(draft_id) = draft_id
            && let Some(name) = deployed_already(&mut tx, draft_id).await?
        {
            tx.commit().await?;
            return Ok(name);
        }
        check_spec(user, spec)?;
        let owner_id = self
            .owner_for(&mut tx, caller, spec.owner.as_ref(), Level::Admin)
            .await?;
        let refused = match check_secrets(&mut tx, owner_id, spec).await? {
            Ok(paths) => insert_deployment(&mut tx, user, owner_id, draft_id, spec, &paths)
                .await?
                .err(),
            Err(refused) => Some(refused),
        };
        if let Some(refused) = refused {
            tx.rollback().await?;
            let entry = Entry {
                secret: refused.secret.as_ref().map(|(id, path)| (*id, path)),
                reason: Some(refused.reason),
                ..about(Action::DeploymentCreate, owner_id, &spec.name)
            };
            self.record_refusal(caller, entry).await?;
            return Err(refused.refusal.into());
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
        let action = Action::DeploymentRedeploy;
        let (mut tx, found) = self.reached(caller, name, Level::Write, action).await?;
        let user = person(caller)?;
        let number = queue_release(&mut tx, &user.handle, &found, user.is_admin).await?;
        let entry = Entry {
            release: Some(number),
            ..about(action, found.owner_id, name)
        };
        audit::record(&mut tx, caller, entry).await?;
        tx.commit().await?;
        Ok(number)
    }

    /// Wants it running: from stopped or failed, queues a start of what is installed (a release of its own).
    /// One that is wanted and not failed stays as it is. Errors: `NotFound`, `Denied`.
    pub async fn deployment_start(&self, caller: &Caller, name: &DeploymentName) -> Result<()> {
        let action = Action::DeploymentStart;
        let (mut tx, found) = self.reached(caller, name, Level::Write, action).await?;
        if found.wanted && !["stopped", "failed"].contains(&found.state.as_str()) {
            tx.rollback().await?;
            return Ok(());
        }
        let number = queue_release(&mut tx, &person(caller)?.handle, &found, false).await?;
        let entry = Entry {
            release: Some(number),
            ..about(action, found.owner_id, name)
        };
        audit::record(&mut tx, caller, entry).await?;
        tx.commit().await?;
        Ok(())
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
        // What failed has no guest left to stop.
        sqlx::query!(
            "update deployments set wanted = false, \
             state_since = case when state = 'failed' then now() else state_since end, \
             reason = case when state = 'failed' then null else 'Stopping.' end, \
             state = case when state = 'failed' then 'stopped' else state end \
             where id = $1",
            found.id,
        )
        .execute(&mut *tx)
        .await?;
        audit::record(&mut tx, caller, about(action, found.owner_id, name)).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Deletes it with releases, log and tokens; its name stays its owner's. `typed` must equal the name. Errors: `Invalid` at `typed`.
    pub async fn deployment_destroy(
        &self,
        caller: &Caller,
        name: &DeploymentName,
        typed: &str,
    ) -> Result<()> {
        let action = Action::DeploymentDestroy;
        let (mut tx, found) = self.reached(caller, name, Level::Admin, action).await?;
        if typed.trim() != name.as_str() {
            tx.rollback().await?;
            return Err(
                Refusal::invalid("typed", format!("Type {name} to destroy it for good.")).into(),
            );
        }
        sqlx::query!(
            "insert into destroyed_deployments (id, owner_id) values ($1, $2)",
            found.id,
            found.owner_id,
        )
        .execute(&mut *tx)
        .await?;
        sqlx::query!("delete from deployments where id = $1", found.id)
            .execute(&mut *tx)
            .await?;
        audit::record(&mut tx, caller, about(action, found.owner_id, name)).await?;
        tx.commit().await?;
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
                "select id, owner_id, wanted, state from deployments where id = $1 for update",
                seen.id,
            )
            .fetch_optional(&mut *tx)
            .await?
            .ok_or_else(|| Refusal::not_found("deployment"))?;
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
            Some(_) => Refusal::new(
                RefusalKind::Denied,
                format!("You may see {name}, but not change it in this way."),
            ),
            None => Refusal::not_found("deployment"),
        }
        .into())
    }
}

/// A deployment that somebody may change, locked.
pub(super) struct Reached {
    pub id: Uuid,
    pub owner_id: Uuid,
    pub wanted: bool,
    pub state: String,
}

/// A refusal that goes on record under a reason from a fixed list.
struct Refused {
    refusal: Refusal,
    reason: &'static str,
    secret: Option<(Uuid, SecretPath)>,
}

/// The person who calls. Errors: `Unauthenticated` for anyone else.
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

/// What can be said without looking anything up.
fn check_spec(user: &SignedInUser, spec: &DeploymentSpec) -> Result<(), Refusal> {
    let Target::Local = spec.target;
    match &spec.source {
        Source::Dir { .. } if !user.is_admin => {
            return Err(Refusal::new(
                RefusalKind::Denied,
                "Only administrators deploy a directory of this machine.",
            )
            .at("source"));
        }
        Source::Image { .. } => {
            return Err(Refusal::invalid(
                "source",
                "An image runs at a provider. On this machine choose npm:, pypi: or git:.",
            ));
        }
        _ => {}
    }
    if spec.start.command.iter().any(|word| word.contains('\0')) {
        return Err(Refusal::invalid("command", "A command has no NUL in it."));
    }
    if spec.bindings.len() > BINDINGS_MAX {
        return Err(Refusal::invalid(
            "bindings",
            format!("A deployment has at most {BINDINGS_MAX} variables."),
        ));
    }
    let mut names = BTreeSet::new();
    for binding in &spec.bindings {
        let field = format!("bindings.{}", binding.env);
        if !names.insert(binding.env.as_str()) {
            return Err(Refusal::invalid(
                &field,
                format!(
                    "{} is bound twice. Give one of them another name.",
                    binding.env
                ),
            ));
        }
        if let Bound::Text { text } = &binding.to
            && (text.len() > VALUE_LEN_BYTES || text.contains('\0'))
        {
            return Err(Refusal::invalid(
                &field,
                "The text of a variable has at most 64 KiB and no NUL.",
            ));
        }
    }
    Ok(())
}

/// Whether the caller and the owner may use every bound secret and the fetch key, and they can be used now; the paths by id.
async fn check_secrets(
    tx: &mut Transaction<'_, Postgres>,
    owner_id: Uuid,
    spec: &DeploymentSpec,
) -> Result<Result<BTreeMap<Uuid, SecretPath>, Refused>> {
    let bound = spec.bindings.iter().filter_map(|binding| match binding.to {
        Bound::Secret { id } => Some((format!("bindings.{}", binding.env), id)),
        Bound::Text { .. } => None,
    });
    let asked: Vec<(String, Uuid)> = bound
        .chain(spec.fetch_key.map(|id| ("fetch_key".to_owned(), id)))
        .collect();
    let ids: Vec<Uuid> = asked.iter().map(|(_, id)| *id).collect();
    let rows = sqlx::query!(
        r#"select s.id, s.path, s.active, coalesce(s.expires_at <= now(), false) as "expired!",
             coalesce(octet_length(v.sealed), 0) as "sealed_len_bytes!",
             usable_in($3, s.owner_id, s.id, s.path, $2) as "owner_may!"
           from secrets s left join secret_versions v on v.secret_id = s.id and v.version = s.version
           where s.id = any($1) and usable_in(current_actor(), s.owner_id, s.id, s.path, $2)"#,
        &ids,
        spec.name.as_str(),
        owner_id,
    )
    .fetch_all(&mut **tx)
    .await?;
    let mut paths = BTreeMap::new();
    for row in &rows {
        paths.insert(row.id, SecretPath::parse(&row.path)?);
    }
    for (field, id) in asked {
        let row = rows.iter().find(|row| row.id == id);
        let (kind, detail, reason) = match row {
            None => (
                RefusalKind::Denied,
                match field.strip_prefix("bindings.") {
                    Some(env) => format!("The secret for {env} is not there, or not yours to use."),
                    None => "The secret to fetch with is not there, or not yours to use.".into(),
                },
                "no right to a bound secret",
            ),
            Some(row) if !row.owner_may => (
                RefusalKind::Denied,
                format!(
                    "{} is yours to use, but not the team’s, which would own the deployment. Share it with the team, or bind one of the team’s.",
                    row.path
                ),
                "the owner has no right to a bound secret",
            ),
            Some(row) if row.expired => (
                RefusalKind::Invalid,
                format!("{} has expired. Move its day, or choose another.", row.path),
                "a bound secret has expired",
            ),
            Some(row) if !row.active => (
                RefusalKind::Invalid,
                format!(
                    "{} is switched off. Switch it on, or choose another.",
                    row.path
                ),
                "a bound secret is switched off",
            ),
            Some(_) => continue,
        };
        return Ok(Err(Refused {
            refusal: Refusal::new(kind, detail).at(&field),
            reason,
            secret: paths.remove_entry(&id),
        }));
    }
    let lens = spec.bindings.iter().map(|binding| match &binding.to {
        Bound::Text { text } => text.len(),
        Bound::Secret { id } => rows
            .iter()
            .find(|row| row.id == *id)
            .map_or(0, |row| value_len_bytes(row.sealed_len_bytes as usize)),
    });
    if let Err(refusal) = check_values_len(lens) {
        return Ok(Err(Refused {
            refusal,
            reason: VALUES_TOO_LONG,
            secret: None,
        }));
    }
    Ok(Ok(paths))
}

/// On record when the values of a deployment are too long together.
pub(super) const VALUES_TOO_LONG: &str = "the values are too long together";

/// Whether the values of one deployment are short enough together for masks of bounded size.
pub(super) fn check_values_len(lens_bytes: impl Iterator<Item = usize>) -> Result<(), Refusal> {
    let len_bytes: usize = lens_bytes.sum();
    if len_bytes <= VALUES_LEN_BYTES {
        return Ok(());
    }
    Err(Refusal::invalid(
        "bindings",
        format!(
            "The values of a deployment have at most {} KiB together, these have {}. Bind fewer or shorter ones.",
            VALUES_LEN_BYTES / 1024,
            len_bytes.div_ceil(1024),
        ),
    ))
}

/// How long a value is, told by what is sealed.
pub(super) fn value_len_bytes(sealed_len_bytes: usize) -> usize {
    sealed_len_bytes.saturating_sub(SEALED_EXTRA_BYTES)
}

async fn insert_deployment(
    tx: &mut Transaction<'_, Postgres>,
    user: &SignedInUser,
    owner_id: Uuid,
    draft_id: Option<Uuid>,
    spec: &DeploymentSpec,
    paths: &BTreeMap<Uuid, SecretPath>,
) -> Result<Result<(), Refused>> {
    let name = spec.name.as_str();
    let taken = |reason| {
        Ok(Err(Refused {
            refusal: Refusal::new(
                RefusalKind::Taken,
                format!("The name {name} is taken. Choose another."),
            )
            .at("name"),
            reason,
            secret: None,
        }))
    };
    // Another's row is not to be seen, so the primary key tells; nothing is inserted then.
    sqlx::query!(
        "insert into deployment_names (name, owner_id) values ($1, $2) on conflict (name) do nothing",
        name,
        owner_id,
    )
    .execute(&mut **tx)
    .await?;
    let own = sqlx::query_scalar!(
        r#"select exists (select 1 from deployment_names where name = $1 and owner_id = $2) as "own!""#,
        name,
        owner_id,
    )
    .fetch_one(&mut **tx)
    .await?;
    if !own {
        return taken("the name is another's");
    }
    let id = Uuid::now_v7();
    let inserted = sqlx::query!(
        "insert into deployments (id, name, owner_id, source, start, target, fetch_key, draft_id, state) \
         values ($1, $2, $3, $4, $5, 'local', $6, $7, 'deploying')",
        id,
        name,
        owner_id,
        spec.source.to_string(),
        storable(&spec.start)?,
        spec.fetch_key,
        draft_id,
    )
    .execute(&mut **tx)
    .await;
    match inserted {
        Err(sqlx::Error::Database(error)) if error.constraint() == Some("deployments_name_key") => {
            return taken("the name is in use");
        }
        other => other?,
    };
    insert_bindings(tx, id, owner_id, spec, paths).await?;
    let found = Reached {
        id,
        owner_id,
        wanted: true,
        state: "deploying".into(),
    };
    queue_release(tx, &user.handle, &found, true).await?;
    if let Some(draft_id) = draft_id {
        sqlx::query!(
            "update drafts set deployed_as = $2 where id = $1",
            draft_id,
            name
        )
        .execute(&mut **tx)
        .await?;
    }
    Ok(Ok(()))
}

async fn insert_bindings(
    tx: &mut Transaction<'_, Postgres>,
    deployment_id: Uuid,
    owner_id: Uuid,
    spec: &DeploymentSpec,
    paths: &BTreeMap<Uuid, SecretPath>,
) -> Result<()> {
    for binding in &spec.bindings {
        let (secret_id, path, text) = match &binding.to {
            Bound::Secret { id } => (Some(*id), paths.get(id).map(SecretPath::as_str), None),
            Bound::Text { text } => (None, None, Some(text.as_str())),
        };
        sqlx::query!(
            "insert into bindings (deployment_id, owner_id, env, secret_id, secret_path, text) \
             values ($1, $2, $3, $4, $5, $6)",
            deployment_id,
            owner_id,
            binding.env.as_str(),
            secret_id,
            path,
            text,
        )
        .execute(&mut **tx)
        .await?;
    }
    Ok(())
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

/// Makes the next release with four waiting steps; the deployment is wanted and deploying. `anew`: a directory is copied
/// anew, as it is when the release that this one takes the place of was to; otherwise what is installed is used again.
pub(super) async fn queue_release(
    tx: &mut Transaction<'_, Postgres>,
    // As the record names them.
    asked_by: &str,
    found: &Reached,
    anew: bool,
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
        "insert into releases (deployment_id, owner_id, number, state, created_by, anew) \
         values ($1, $2, $3, 'queued', $4, $5)",
        found.id,
        found.owner_id,
        number,
        asked_by,
        anew,
    )
    .execute(&mut **tx)
    .await?;
    let steps: Vec<String> = StepName::ALL
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
