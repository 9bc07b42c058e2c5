//! A draft that was begun from a deployment, and changes it.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::super::DraftView;
use crate::deploy::sources::variables::{is_secret_name, looks_like_secret};
use crate::model::actors::Caller;
use crate::model::deployments::{Bound, DeploymentSpec};
use crate::model::drafts::{DraftForm, DraftPlain, DraftSecret};
use crate::model::errors::{Refusal, RefusalKind};
use crate::model::paths::DeploymentName;
use crate::model::sources::Source;
use crate::store::deployment_changes::DeploymentChange;
use crate::store::{Db, Error};

/// What the target keeps of what stands at the source step.
const SAID_AT_THE_SOURCE: [&str; 2] = ["command", "transport"];

/// The wizard's form with what the deployment has.
pub async fn form_from(
    db: &Db,
    caller: &Caller,
    name: &DeploymentName,
) -> Result<DraftForm, Refusal> {
    let spec = db.deployment_spec(caller, name).await;
    let spec = spec.map_err(Error::into_refusal)?;
    check_fits(&spec)?;
    let mut form = form_of(&spec);
    let shown = db.deployment_show(caller, name).await;
    let owner = shown.map_err(Error::into_refusal)?.summary.owner;
    if caller.user().is_none_or(|user| user.handle != owner) {
        form.owner = owner;
    }
    Ok(form)
}

/// Errors: `Conflict` for what the wizard's form does not hold, so that nothing of it is lost unseen.
fn check_fits(spec: &DeploymentSpec) -> Result<(), Refusal> {
    let name = &spec.name;
    let says = |why: String| {
        let says = format!("{why}, so it is changed by the API: PATCH /api/v1/deployments/{name}.");
        Err(Refusal::new(RefusalKind::Conflict, says))
    };
    if spec.target.is_remote() {
        return says(format!("{name} runs at {}", spec.target.title()));
    }
    let mut ids = BTreeSet::new();
    let is_twice = |bound: &Bound| matches!(bound, Bound::Secret { id } if !ids.insert(*id));
    if spec
        .bindings
        .iter()
        .map(|binding| &binding.to)
        .any(is_twice)
    {
        return says(format!("{name} has one secret under two names"));
    }
    Ok(())
}

pub fn form_of(spec: &DeploymentSpec) -> DraftForm {
    let mut form = DraftForm {
        name: spec.name.to_string(),
        changes: spec.name.to_string(),
        target: spec.target.as_str().to_owned(),
        options: spec.options.clone(),
        fetch_key: spec.fetch_key,
        // What is bound is chosen already.
        ticked: true,
        ..DraftForm::default()
    };
    let [command, transport] = SAID_AT_THE_SOURCE.map(|name| form.options.remove(name));
    form.command = command.unwrap_or_default();
    form.transport = transport.unwrap_or_default();
    put_source(&mut form, &spec.source);
    for binding in &spec.bindings {
        let env = binding.env.to_string();
        match &binding.to {
            Bound::Secret { id } => form.secrets.push(DraftSecret {
                id: *id,
                path: String::new(),
                env,
                ticked: true,
            }),
            Bound::Text { text } => form.plain.push(DraftPlain {
                kept_plain: looks_like_secret(&env, text) || is_secret_name(&env),
                env,
                text: text.clone(),
            }),
            Bound::PerUser { .. } => form.per_user.push(env),
        }
    }
    form
}

fn put_source(form: &mut DraftForm, source: &Source) {
    let (kind, source, version) = match source {
        Source::Npm { package, version } => ("npm", package, version),
        Source::Pypi { package, version } => ("pypi", package, version),
        Source::Git {
            url,
            reference,
            folder,
        } => {
            form.folder = folder.clone().unwrap_or_default();
            form.reference = reference.clone().unwrap_or_default();
            ("git", url, &None)
        }
        Source::Dir { path } => ("dir", path, &None),
        Source::Image { reference } => ("image", reference, &None),
    };
    form.source_kind = kind.to_owned();
    form.source.clone_from(source);
    form.version = version.clone().unwrap_or_default();
}

/// Changes the deployment that the draft was begun from. None where it is none, or gone by now: then it is made.
pub async fn change(
    db: &Db,
    caller: &Caller,
    seen: &DraftView,
    spec: &DeploymentSpec,
) -> Result<Option<DeploymentName>, Refusal> {
    let form = &seen.draft.form;
    if form.changed_deployment().is_none() {
        return Ok(None);
    }
    let before = db.deployment_spec(caller, &spec.name).await;
    let before = match before.map_err(Error::into_refusal) {
        Ok(before) => before,
        Err(refusal) if refusal.kind == RefusalKind::NotFound => return Ok(None),
        Err(refusal) => return Err(refusal),
    };
    if spec.target != before.target {
        let (name, there) = (&spec.name, before.target.title());
        return Err(Refusal::invalid(
            "target",
            format!(
                "{name} runs at {there}, and a change does not move it. Choose that, or give this one another name."
            ),
        ));
    }
    let in_sight = seen.secrets.iter().map(|row| row.id).collect();
    let change = change_of(form, &before, spec, &in_sight);
    let changed = db.deployment_change(caller, &spec.name, &change).await;
    changed.map_err(Error::into_refusal)?;
    Ok(Some(spec.name.clone()))
}

pub fn change_of(
    form: &DraftForm,
    before: &DeploymentSpec,
    spec: &DeploymentSpec,
    in_sight: &BTreeSet<Uuid>,
) -> DeploymentChange {
    let mut bindings = spec.bindings.clone();
    for binding in &before.bindings {
        // Whoever changes it may not see each secret of its owner's: what did not stand in the list stays bound.
        let is_kept = matches!(&binding.to, Bound::Secret { id } if !in_sight.contains(id))
            && !bindings.iter().any(|given| given.env == binding.env);
        if is_kept {
            bindings.push(binding.clone());
        }
    }
    let mut options = spec.options.clone();
    for (name, typed) in SAID_AT_THE_SOURCE
        .into_iter()
        .zip([&form.command, &form.transport])
    {
        if before.options.contains_key(name) && !typed.is_empty() {
            options.insert(name.to_owned(), typed.clone());
        }
    }
    // With the same code it starts as it did, also where that was found when it was first deployed.
    let is_same_code =
        spec.source == before.source && form.command.is_empty() && form.transport.is_empty();
    DeploymentChange {
        source: (!is_same_code).then(|| (spec.source.clone(), spec.start.clone())),
        bindings: Some(bindings),
        fetch_key: (spec.fetch_key != before.fetch_key).then_some(spec.fetch_key),
        options: (options != before.options).then_some(options),
        provider_key: spec.provider_key,
        follows_changes: None,
    }
}
