//! Changing what a deployment is: its source and how it starts, its bindings, its fetch key. Each change takes a release.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{Postgres, Transaction};
use uuid::Uuid;

use super::audit::{self, Entry};
use super::deployment_checks::{
    Wrong, bindings_wrong, brought_wrong, check_spec, lens_wrong, look_at, secrets_of,
};
use super::deployments::{Reached, about, newest_release, person, put_binding, queue_release};
use super::drafts::storable;
use super::{Db, Error, Result};
use crate::model::actors::Caller;
use crate::model::audit::Action;
use crate::model::deployments::{Binding, Bound, DeploymentSpec};
use crate::model::errors::{Refusal, RefusalKind};
use crate::model::levels::Level;
use crate::model::paths::{DeploymentName, EnvName, SecretPath};
use crate::model::sources::{Source, StartPlan};
use crate::model::targets::Target;

/// What shall be another; what is none stays.
#[derive(Clone, Default)]
pub struct DeploymentChange {
    /// Pinned to what looking at it resolved, with how it starts.
    pub source: Option<(Source, StartPlan)>,
    /// All of them, in the place of those that are there.
    pub bindings: Option<Vec<Binding>>,
    pub fetch_key: Option<Option<Uuid>>,
    /// What the target wants to know, all of it.
    pub options: Option<BTreeMap<String, String>>,
    pub provider_key: Option<Uuid>,
    pub follows_changes: Option<bool>,
}

impl Db {
    /// Changes it and queues a release. What is added must be usable by the caller and by the owner; with another source or start
    /// that is asked of everything bound, for whoever chooses the code can make it give its values away.
    /// Errors: as `deployment_create`; `NotFound`, `Denied`.
    pub async fn deployment_change(
        &self,
        caller: &Caller,
        name: &DeploymentName,
        change: &DeploymentChange,
    ) -> Result<i32> {
        let action = Action::DeploymentChange;
        let user = person(caller)?;
        let (mut tx, found) = self.reached(caller, name, Level::Admin, action).await?;
        let before = stored(&mut tx, found.id, name).await?;
        let is_key_alone = change.source.is_none()
            && change.bindings.is_none()
            && change.fetch_key.is_none()
            && change.options.is_none();
        if found.destroying && !is_key_alone {
            tx.rollback().await?;
            return Err(Refusal::new(
                RefusalKind::Conflict,
                format!("{name} is being destroyed: only the provider’s key can be another."),
            )
            .into());
        }
        let mut spec = before.clone();
        if let Some((source, start)) = &change.source {
            (spec.source, spec.start) = (source.clone(), start.clone());
        }
        if let Some(bindings) = &change.bindings {
            spec.bindings.clone_from(bindings);
        }
        if let Some(fetch_key) = change.fetch_key {
            spec.fetch_key = fetch_key;
        }
        if let Some(options) = &change.options {
            spec.options.clone_from(options);
        }
        spec.provider_key = change.provider_key.or(spec.provider_key);
        // Who chose a directory was asked then; here only what changes.
        if change.source.is_some() {
            check_spec(caller, &spec)?;
        } else if let Some(refusal) = bindings_wrong(&spec.bindings).into_iter().next() {
            return Err(refusal.into());
        } else if let Some(refusal) = brought_wrong(&spec) {
            return Err(refusal.into());
        }
        let paths = match check(&mut tx, &found, &before, &spec).await? {
            Ok(paths) => paths,
            Err(wrong) => {
                tx.rollback().await?;
                self.record_refusal(caller, wrong.entry(action, found.owner_id, name))
                    .await?;
                return Err(wrong.refusal.into());
            }
        };
        // Before the rest: the database asks for the use of all that is bound when the code is another.
        if change.bindings.is_some() {
            put_bindings(&mut tx, &found, &before, &spec, &paths).await?;
        }
        // What stays is left as it stands, also where it would be written otherwise today: that would count as another.
        let (source, start) = match &change.source {
            Some((source, start)) => (Some(source.to_string()), Some(storable(start)?)),
            None => (None, None),
        };
        sqlx::query!(
            "update deployments set source = coalesce($2, source), start = coalesce($3, start), fetch_key = $4, \
             follows_changes = coalesce($5, follows_changes), options = coalesce($6, options), provider_key = $7 where id = $1",
            found.id,
            source,
            start,
            spec.fetch_key,
            change.follows_changes,
            change.options.as_ref().map(storable).transpose()?,
            spec.provider_key,
        )
        .execute(&mut *tx)
        .await?;
        let number = match found.destroying {
            // With the new key it goes on being destroyed.
            true => newest_release(&mut tx, found.id).await?,
            false => {
                queue_release(&mut tx, &audit::asked_by(caller), &found, user.is_admin).await?
            }
        };
        let entry = Entry {
            release: Some(number),
            reason: Some(match (&change.source, &change.bindings) {
                (Some(_), Some(_)) => "another source and other bindings",
                (Some(_), None) => "another source",
                (None, Some(_)) => "other bindings",
                (None, None) if change.fetch_key.is_some() => "another fetch key",
                (None, None) if change.options.is_some() => "other options",
                (None, None) => "another key of the provider",
            }),
            ..about(action, found.owner_id, name)
        };
        audit::record(&mut tx, caller, entry).await?;
        tx.commit().await?;
        Ok(number)
    }
}

impl Db {
    /// The deployment as it stands, for whoever may change it. Errors: `NotFound`, `Denied`.
    pub async fn deployment_spec(
        &self,
        caller: &Caller,
        name: &DeploymentName,
    ) -> Result<DeploymentSpec> {
        let (mut tx, found) = self
            .reached(caller, name, Level::Admin, Action::DeploymentChange)
            .await?;
        let spec = stored(&mut tx, found.id, name).await?;
        tx.commit().await?;
        Ok(spec)
    }
}

/// The deployment as it stands. What was bound and is gone is no part of it: its row stays until it is bound anew.
pub(super) async fn stored(
    tx: &mut Transaction<'_, Postgres>,
    id: Uuid,
    name: &DeploymentName,
) -> Result<DeploymentSpec> {
    let row = sqlx::query!(
        "select source, start, target, options, provider_key, fetch_key from deployments where id = $1",
        id
    )
    .fetch_one(&mut **tx)
    .await?;
    let bound = sqlx::query!(
        "select env, secret_id, text, per_user, description from bindings where deployment_id = $1 order by env",
        id
    )
    .fetch_all(&mut **tx)
    .await?;
    let mut bindings = Vec::with_capacity(bound.len());
    for row in bound {
        let to = match (row.secret_id, row.text) {
            (Some(id), _) => Bound::Secret { id },
            (None, Some(text)) => Bound::Text { text },
            (None, None) if row.per_user => Bound::PerUser {
                description: row.description,
            },
            (None, None) => continue,
        };
        let env = EnvName::stored(&row.env)?;
        bindings.push(Binding { env, to });
    }
    let unreadable = |_| Error::broken("a deployment's row does not read");
    Ok(DeploymentSpec {
        owner: None,
        name: name.clone(),
        source: Source::parse(&row.source)?,
        start: serde_json::from_value::<StartPlan>(row.start).map_err(unreadable)?,
        target: Target::from_name(&row.target)
            .ok_or_else(|| Error::broken("a deployment's target does not read"))?,
        options: serde_json::from_value(row.options).map_err(unreadable)?,
        provider_key: row.provider_key,
        fetch_key: row.fetch_key,
        bindings,
    })
}

/// What is new must be usable; with another source or start, everything.
pub(super) async fn check(
    tx: &mut Transaction<'_, Postgres>,
    found: &Reached,
    before: &DeploymentSpec,
    spec: &DeploymentSpec,
) -> Result<Result<BTreeMap<Uuid, SecretPath>, Wrong>> {
    // Whoever chooses the code or the account where it runs can make it give its values away.
    let same_code = (
        &before.source,
        &before.start,
        &before.options,
        before.provider_key,
    ) == (&spec.source, &spec.start, &spec.options, spec.provider_key);
    let known: BTreeSet<(String, Uuid)> = secrets_of(before).into_iter().collect();
    let all = secrets_of(spec);
    let seen = look_at(tx, found.owner_id, &spec.name, &all).await?;
    let is_asked = |field: &Option<String>| {
        !same_code
            || all
                .iter()
                .any(|asked| Some(&asked.0) == field.as_ref() && !known.contains(asked))
    };
    let mut wrong = seen.wrong.into_iter();
    if let Some(wrong) = wrong.find(|wrong| is_asked(&wrong.refusal.field)) {
        return Ok(Err(wrong));
    }
    Ok(match lens_wrong(&spec.bindings, &seen.lens_bytes) {
        Some(wrong) => Err(wrong),
        None => Ok(seen.paths),
    })
}

/// What stays bound as it was keeps its row.
async fn put_bindings(
    tx: &mut Transaction<'_, Postgres>,
    found: &Reached,
    before: &DeploymentSpec,
    spec: &DeploymentSpec,
    paths: &BTreeMap<Uuid, SecretPath>,
) -> Result<()> {
    let envs: Vec<String> = spec
        .bindings
        .iter()
        .map(|binding| binding.env.to_string())
        .collect();
    sqlx::query!(
        "delete from bindings where deployment_id = $1 and env <> all ($2)",
        found.id,
        &envs
    )
    .execute(&mut **tx)
    .await?;
    for binding in &spec.bindings {
        if !before.bindings.contains(binding) {
            put_binding(tx, found.id, found.owner_id, binding, paths).await?;
        }
    }
    Ok(())
}
