//! What must hold before a deployment is made or changed. All that is in the way is found; making it ends with the first.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{Postgres, Transaction};
use uuid::Uuid;

use super::audit::Entry;
use super::deployment_changes::stored;
use super::deployments::{about, take_name};
use super::keyring::SEALED_EXTRA_BYTES;
use super::{Db, Result};
use crate::model::actors::{Actor, Caller};
use crate::model::audit::Action;
use crate::model::deployments::{Binding, Bound, DeploymentSpec};
use crate::model::errors::{Refusal, RefusalKind};
use crate::model::levels::Level;
use crate::model::paths::{DeploymentName, EnvName, KeyPath, SecretPath};
use crate::model::plans::Lacking;
use crate::model::secrets::{VALUE_LEN_BYTES, VALUES_LEN_BYTES};
use crate::model::sources::Source;
use crate::model::targets::Target;

/// Bindings that one deployment can have.
pub const BINDINGS_MAX: usize = 200;

/// Something in the way. It goes on record under a reason from a fixed list.
pub struct Wrong {
    pub how: Lacking,
    /// At the field that is wrong.
    pub refusal: Refusal,
    pub(super) reason: &'static str,
    /// The secret that it is about, where that may be told.
    pub secret: Option<(Uuid, SecretPath)>,
}

impl Wrong {
    pub(super) fn entry<'a>(
        &'a self,
        action: Action,
        owner_id: Uuid,
        name: &'a DeploymentName,
    ) -> Entry<'a> {
        Entry {
            secret: self.secret.as_ref().map(|(id, path)| (*id, path)),
            reason: Some(self.reason),
            ..about(action, owner_id, name)
        }
    }
}

/// What somebody wants to know before a deployment is made or changed: names and paths, as far as they could be read.
pub struct Asked<'a> {
    pub name: &'a DeploymentName,
    /// It is there already.
    pub exists: bool,
    pub secrets: &'a [(EnvName, KeyPath)],
    pub fetch_key: Option<&'a KeyPath>,
    /// The path of the provider's key.
    pub provider_key: Option<&'a KeyPath>,
    /// Of one that is there and gets other code: which parts of what is bound stay, and are asked about again.
    pub keeps: Keeps,
    /// It is to be made now: refusals of every kind go on record.
    pub in_earnest: bool,
}

/// What stays bound.
#[derive(Clone, Copy, Default)]
pub struct Keeps {
    pub bindings: bool,
    pub fetch_key: bool,
}

/// What was found of it.
pub struct Answered {
    pub owner_id: Uuid,
    /// The secrets that may be bound, by env name.
    pub secrets: BTreeMap<EnvName, Uuid>,
    pub fetch_key: Option<Uuid>,
    pub provider_key: Option<Uuid>,
    pub wrong: Vec<Wrong>,
}

impl Db {
    /// Whether the caller could make or change this deployment with these secrets now. Nothing is kept but refusals on record.
    /// Errors: `NotFound`, `Denied` for a deployment that is there and not the caller's to change.
    pub async fn deployment_ask(&self, caller: &Caller, asked: &Asked<'_>) -> Result<Answered> {
        let action = if asked.exists {
            Action::DeploymentChange
        } else {
            Action::DeploymentCreate
        };
        let (mut tx, owner_id, id) = match asked.exists {
            true => {
                let reached = self.reached(caller, asked.name, Level::Admin, action);
                let (tx, found) = reached.await?;
                (tx, found.owner_id, Some(found.id))
            }
            false => {
                let tx = self.begin_as(caller).await?;
                let made_for = self.for_owner(tx, caller, None, Level::Admin, action);
                let (tx, owner_id) = made_for.await?;
                (tx, owner_id, None)
            }
        };
        let mut answered = Answered {
            owner_id,
            secrets: BTreeMap::new(),
            fetch_key: None,
            provider_key: None,
            wrong: Vec::new(),
        };
        let no_right = match asked.exists {
            true => None,
            false => may_deploy(&mut tx, owner_id).await?,
        };
        if let Some(wrong) = no_right {
            // Whoever may not deploy learns nothing of names and secrets here.
            answered.wrong.push(wrong);
        } else {
            if !asked.exists {
                let wrong = take_name(&mut tx, owner_id, asked.name).await?;
                answered.wrong.extend(wrong);
            }
            find_secrets(&mut tx, caller, asked, &mut answered).await?;
            if let Some(id) = id {
                answered
                    .wrong
                    .extend(kept_wrong(&mut tx, id, owner_id, asked).await?);
            }
        }
        tx.rollback().await?;
        let on_record =
            |wrong: &&Wrong| asked.in_earnest || wrong.refusal.kind == RefusalKind::Denied;
        if let Some(wrong) = answered.wrong.iter().find(on_record) {
            self.record_refusal(caller, wrong.entry(action, owner_id, asked.name))
                .await?;
        }
        Ok(answered)
    }
}

/// Looks for each path, and whether what is there can be bound.
async fn find_secrets(
    tx: &mut Transaction<'_, Postgres>,
    caller: &Caller,
    asked: &Asked<'_>,
    answered: &mut Answered,
) -> Result<()> {
    let bound = asked
        .secrets
        .iter()
        .map(|(env, at)| (format!("bindings.{env}"), at));
    let all: Vec<(String, &KeyPath)> = bound
        .chain(asked.fetch_key.map(|at| ("fetch_key".to_owned(), at)))
        .chain(asked.provider_key.map(|at| ("key".to_owned(), at)))
        .collect();
    let own = caller.own().map(|(owner_id, _)| owner_id);
    let owners: Vec<Option<String>> = all
        .iter()
        .map(|(_, at)| at.owner.as_ref().map(ToString::to_string))
        .collect();
    let paths: Vec<String> = all.iter().map(|(_, at)| at.path.to_string()).collect();
    let rows = sqlx::query!(
        r#"select asked.place as "place!", s.id
           from unnest($1::text[], $2::text[]) with ordinality as asked (owner, path, place)
           left join owners o on o.handle = asked.owner
           join secrets s on s.owner_id = case when asked.owner is null then $3 else o.id end
             and lower(s.path collate "C") = lower(asked.path collate "C")"#,
        &owners as _,
        &paths,
        own,
    )
    .fetch_all(&mut **tx)
    .await?;
    let ids: BTreeMap<i64, Uuid> = rows.iter().map(|row| (row.place, row.id)).collect();
    let mut found = Vec::new();
    for ((field, at), place) in all.into_iter().zip(1..) {
        match ids.get(&place) {
            Some(id) => found.push((field, *id)),
            None => answered.wrong.push(Wrong {
                how: Lacking::Missing,
                refusal: Refusal::new(
                    RefusalKind::Denied,
                    format!(
                        "There is no secret {at} here, or it is not yours to use. Store it, or have it shared with you."
                    ),
                )
                .at(&field),
                reason: NO_RIGHT,
                secret: None,
            }),
        }
    }
    let seen = look_at(tx, answered.owner_id, asked.name, &found).await?;
    answered.wrong.extend(seen.wrong);
    for (field, id) in found {
        match field.strip_prefix("bindings.").map(EnvName::parse) {
            Some(env) => {
                answered.secrets.insert(env?, id);
            }
            None if field == "key" => answered.provider_key = Some(id),
            None => answered.fetch_key = Some(id),
        }
    }
    Ok(())
}

/// What is wrong with what stays bound.
async fn kept_wrong(
    tx: &mut Transaction<'_, Postgres>,
    id: Uuid,
    owner_id: Uuid,
    asked: &Asked<'_>,
) -> Result<Vec<Wrong>> {
    let mut kept = secrets_of(&stored(tx, id, asked.name).await?);
    kept.retain(|(field, _)| match field.as_str() {
        "fetch_key" => asked.keeps.fetch_key,
        "key" => asked.provider_key.is_none(),
        _ => asked.keeps.bindings,
    });
    Ok(look_at(tx, owner_id, asked.name, &kept).await?.wrong)
}

/// On record where there is no secret that the caller may use.
const NO_RIGHT: &str = "no right to a bound secret";

/// Whether the caller may make deployments of this owner's.
pub(super) async fn may_deploy(
    tx: &mut Transaction<'_, Postgres>,
    owner_id: Uuid,
) -> Result<Option<Wrong>> {
    let may = sqlx::query_scalar!(
        r#"select reach($1, 'deployment', null, null) >= 4 as "may!""#,
        owner_id
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok((!may).then(|| Wrong {
        how: Lacking::Refused,
        refusal: Refusal::new(
            RefusalKind::Denied,
            "This token makes and changes no deployments: it was made without the right to deploy, or its maker does not administer its owner. Make another under Tokens.",
        )
        .at("token"),
        reason: "no right to deploy",
        secret: None,
    }))
}

/// What can be said of a source without looking at it.
pub fn source_wrong(caller: &Caller, source: &Source, target: Target) -> Option<Refusal> {
    let is_administrator = caller.user().is_some_and(|user| user.is_admin);
    match (source, &caller.actor) {
        (Source::Dir { .. }, _) if target.is_remote() => Some(Refusal::invalid(
            "source",
            "A directory of this machine runs on this machine. For a provider choose npm:, pypi:, git: or image:.",
        )),
        (Source::Dir { .. }, Actor::Token(_)) => Some(
            Refusal::new(
                RefusalKind::Denied,
                "A token deploys no directory of this machine. An administrator does, in the dashboard under Deploy.",
            )
            .at("source"),
        ),
        (Source::Dir { .. }, _) if !is_administrator => Some(
            Refusal::new(
                RefusalKind::Denied,
                "Only administrators deploy a directory of this machine.",
            )
            .at("source"),
        ),
        (Source::Image { .. }, _) if !target.is_remote() => Some(Refusal::invalid(
            "source",
            "An image runs at a provider. On this machine choose npm:, pypi: or git:.",
        )),
        _ => None,
    }
}

/// What can be said of bindings without looking anything up.
pub fn bindings_wrong(bindings: &[Binding]) -> Vec<Refusal> {
    if bindings.len() > BINDINGS_MAX {
        return vec![too_many_bindings()];
    }
    let mut wrong = Vec::new();
    let mut names = BTreeSet::new();
    for binding in bindings {
        let field = format!("bindings.{}", binding.env);
        if !names.insert(binding.env.as_str()) {
            wrong.push(bound_twice(&binding.env));
        }
        if let Bound::Text { text } = &binding.to
            && (text.len() > VALUE_LEN_BYTES || text.contains('\0'))
        {
            wrong.push(Refusal::invalid(
                &field,
                "The text of a variable has at most 64 KiB and no NUL.",
            ));
        }
    }
    wrong
}

pub fn too_many_bindings() -> Refusal {
    Refusal::invalid(
        "bindings",
        format!("A deployment has at most {BINDINGS_MAX} variables."),
    )
}

pub fn bound_twice(env: &EnvName) -> Refusal {
    Refusal::invalid(
        &format!("bindings.{env}"),
        format!("{env} is bound twice. Give one of them another name."),
    )
}

/// A provider is reached with its key, and this machine without one.
pub fn no_provider_key(target: Target) -> Refusal {
    let says = match target.key_path() {
        None => "This machine needs no provider's key: leave it out.".to_owned(),
        Some(path) => format!(
            "{} is reached with a key of yours: store it as {path}, or name the secret that holds it.",
            target.title()
        ),
    };
    Refusal::invalid("key", says)
}

/// A provider has one environment for a service: no caller's key could be kept from another's calls.
pub fn per_user_wrong(target: Target, env: &EnvName) -> Option<Refusal> {
    target.is_remote().then(|| {
        Refusal::invalid(
            &format!("bindings.{env}"),
            format!(
                "{} runs one service with one environment for everybody, so no caller’s own {env} could be kept from the others’ calls. Run it on this machine, or bind a secret of the owner’s.",
                target.title(),
            ),
        )
    })
}

pub(super) fn brought_wrong(spec: &DeploymentSpec) -> Option<Refusal> {
    let is_brought = |binding: &&Binding| matches!(binding.to, Bound::PerUser { .. });
    let brought = spec.bindings.iter().find(is_brought)?;
    per_user_wrong(spec.target, &brought.env)
}

/// What can be said without looking anything up.
pub(super) fn check_spec(caller: &Caller, spec: &DeploymentSpec) -> Result<(), Refusal> {
    if let Some(refusal) = source_wrong(caller, &spec.source, spec.target) {
        return Err(refusal);
    }
    if spec.provider_key.is_some() != spec.target.is_remote() {
        return Err(no_provider_key(spec.target));
    }
    if let Some(refusal) = brought_wrong(spec) {
        return Err(refusal);
    }
    if spec.start.command.iter().any(|word| word.contains('\0')) {
        return Err(Refusal::invalid("command", "A command has no NUL in it."));
    }
    match bindings_wrong(&spec.bindings).into_iter().next() {
        Some(refusal) => Err(refusal),
        None => Ok(()),
    }
}

/// Whether the caller and the owner may use every bound secret and the fetch key, and they can be used now; the paths by id.
pub(super) async fn check_secrets(
    tx: &mut Transaction<'_, Postgres>,
    owner_id: Uuid,
    spec: &DeploymentSpec,
) -> Result<Result<BTreeMap<Uuid, SecretPath>, Wrong>> {
    let seen = look_at(tx, owner_id, &spec.name, &secrets_of(spec)).await?;
    if let Some(wrong) = seen.wrong.into_iter().next() {
        return Ok(Err(wrong));
    }
    if let Some(wrong) = lens_wrong(&spec.bindings, &seen.lens_bytes) {
        return Ok(Err(wrong));
    }
    Ok(Ok(seen.paths))
}

/// Every secret that it names, by the field.
pub(super) fn secrets_of(spec: &DeploymentSpec) -> Vec<(String, Uuid)> {
    let bound = spec.bindings.iter().filter_map(|binding| match binding.to {
        Bound::Secret { id } => Some((format!("bindings.{}", binding.env), id)),
        Bound::Text { .. } | Bound::PerUser { .. } => None,
    });
    bound
        .chain(spec.fetch_key.map(|id| ("fetch_key".to_owned(), id)))
        .chain(spec.provider_key.map(|id| ("key".to_owned(), id)))
        .collect()
}

/// What was seen of secrets that are to be bound.
pub(super) struct Seen {
    pub paths: BTreeMap<Uuid, SecretPath>,
    pub lens_bytes: BTreeMap<Uuid, usize>,
    pub wrong: Vec<Wrong>,
}

pub(super) async fn look_at(
    tx: &mut Transaction<'_, Postgres>,
    owner_id: Uuid,
    name: &DeploymentName,
    asked: &[(String, Uuid)],
) -> Result<Seen> {
    let ids: Vec<Uuid> = asked.iter().map(|(_, id)| *id).collect();
    let rows = sqlx::query!(
        r#"select s.id, s.path, s.active, coalesce(s.expires_at <= now(), false) as "expired!",
             coalesce(octet_length(v.sealed), 0) as "sealed_len_bytes!",
             usable_in($3, s.owner_id, s.id, s.path, $2) as "owner_may!", s.use_only
           from secrets s left join secret_versions v on v.secret_id = s.id and v.version = s.version
           where s.id = any($1) and usable_in(current_actor(), s.owner_id, s.id, s.path, $2)"#,
        &ids,
        name.as_str(),
        owner_id,
    )
    .fetch_all(&mut **tx)
    .await?;
    let mut seen = Seen {
        paths: BTreeMap::new(),
        lens_bytes: BTreeMap::new(),
        wrong: Vec::new(),
    };
    for row in &rows {
        seen.paths.insert(row.id, SecretPath::parse(&row.path)?);
        let len_bytes = value_len_bytes(row.sealed_len_bytes as usize);
        seen.lens_bytes.insert(row.id, len_bytes);
    }
    for (field, id) in asked {
        let row = rows.iter().find(|row| row.id == *id);
        let (how, kind, detail, reason) = match row {
            None => (
                Lacking::Missing,
                RefusalKind::Denied,
                match field.strip_prefix("bindings.") {
                    Some(env) => format!("The secret for {env} is not there, or not yours to use."),
                    None if field == "key" => {
                        "The secret with the provider’s key is not there, or not yours to use."
                            .into()
                    }
                    None => "The secret to fetch with is not there, or not yours to use.".into(),
                },
                NO_RIGHT,
            ),
            Some(row) if !row.owner_may => (
                Lacking::Refused,
                RefusalKind::Denied,
                format!(
                    "{} is yours to use, but not the team’s, which would own the deployment. Share it with the team, or bind one of the team’s.",
                    row.path
                ),
                "the owner has no right to a bound secret",
            ),
            Some(row) if row.use_only => (
                Lacking::Refused,
                RefusalKind::Invalid,
                format!(
                    "{} was connected to a deployment for that one’s use only. Choose another.",
                    row.path
                ),
                "a bound secret is for use only",
            ),
            Some(row) if row.expired => (
                Lacking::Expired,
                RefusalKind::Invalid,
                format!("{} has expired. Move its day, or choose another.", row.path),
                "a bound secret has expired",
            ),
            Some(row) if !row.active => (
                Lacking::Refused,
                RefusalKind::Invalid,
                format!(
                    "{} is switched off. Switch it on, or choose another.",
                    row.path
                ),
                "a bound secret is switched off",
            ),
            Some(_) => continue,
        };
        seen.wrong.push(Wrong {
            how,
            refusal: Refusal::new(kind, detail).at(field),
            reason,
            secret: row.and_then(|row| Some((row.id, seen.paths.get(&row.id)?.clone()))),
        });
    }
    Ok(seen)
}

/// Whether the values of all bindings are too long together.
pub(super) fn lens_wrong(
    bindings: &[Binding],
    lens_bytes: &BTreeMap<Uuid, usize>,
) -> Option<Wrong> {
    let lens = bindings.iter().map(|binding| match &binding.to {
        Bound::Text { text } => text.len(),
        Bound::Secret { id } => lens_bytes.get(id).copied().unwrap_or(0),
        // Told when it is connected and opened.
        Bound::PerUser { .. } => 0,
    });
    let refusal = check_values_len(lens).err()?;
    Some(Wrong {
        how: Lacking::Refused,
        refusal,
        reason: VALUES_TOO_LONG,
        secret: None,
    })
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
