//! What a draft comes to.

use super::super::DraftView;
use super::keys::{key_path, no_key};
use super::{FieldErrors, NOT_KEPT, not_there, note};
use crate::deploy::plans::TARGETS;
use crate::model::deployments::{Binding, Bound, DeploymentSpec, described};
use crate::model::drafts::DraftForm;
use crate::model::paths::{DeploymentName, EnvName, Handle};
use crate::model::targets::Target;
use std::collections::BTreeMap;

/// Fields whose errors stay until the source step is sent again.
const AT_THE_SOURCE: [&str; 6] = [
    "source",
    "source_kind",
    "version",
    "reference",
    "folder",
    "command",
];

/// The deployment that a draft asks for. FieldErrors: at the fields that are not in order yet.
pub fn spec(view: &DraftView) -> Result<DeploymentSpec, FieldErrors> {
    let form = &view.draft.form;
    // What was not kept as it was typed does not show in the form any more.
    let mut errors = view.draft.errors.clone();
    errors.retain(|field, says| {
        AT_THE_SOURCE.contains(&field.as_str())
            || says.ends_with(NOT_KEPT)
            || (field.starts_with("plain.") && field.ends_with(".text"))
    });
    let name = DeploymentName::parse(form.name.trim());
    if let Err(refusal) = &name {
        note(&mut errors, "name", refusal.clone());
    }
    if !view.is_inspected() {
        errors.insert(
            "inspection".into(),
            "The source has not been looked at yet.".into(),
        );
    }
    // A guess from the code is said, and does not stand in the way.
    for wanted in view.missing.iter().filter(|wanted| !wanted.suggested) {
        errors.insert(
            format!("missing.{}", wanted.name),
            format!(
                "The source requires {}, and nothing is bound to it.",
                wanted.name
            ),
        );
    }
    let mut bindings = Vec::new();
    for row in view.secrets.iter().filter(|row| row.ticked) {
        match EnvName::parse(&row.env) {
            Ok(env) => bindings.push(Binding {
                env,
                to: Bound::Secret { id: row.id },
            }),
            Err(refusal) => note(&mut errors, format!("env.{}", row.id), refusal),
        }
    }
    for (i, plain) in view.given_plain() {
        match EnvName::parse(&plain.env) {
            Ok(env) => bindings.push(Binding {
                env,
                to: Bound::Text {
                    text: plain.text.clone(),
                },
            }),
            Err(refusal) => note(&mut errors, format!("plain.{i}.env"), refusal),
        }
    }
    for (i, own) in form.per_user.iter().enumerate() {
        match EnvName::parse(own) {
            Ok(env) => bindings.push(Binding {
                to: Bound::PerUser {
                    description: said_of(view, &env),
                },
                env,
            }),
            Err(refusal) => note(&mut errors, format!("own.{i}.env"), refusal),
        }
    }
    if let Some((i, refusal)) = not_there(form) {
        note(&mut errors, format!("own.{i}.env"), refusal);
    }
    let target = form
        .chosen_target()
        .filter(|target| TARGETS.contains(target));
    if target.is_none() {
        errors.insert("target".into(), "Choose where it runs.".into());
    }
    let target = target.unwrap_or(Target::Local);
    if let (true, None, Some(path)) = (target.is_remote(), view.provider_key, key_path(form)) {
        errors.entry("key".into()).or_insert(no_key(&path));
    }
    let owner = Some(form.owner.trim()).filter(|owner| !owner.is_empty());
    let owner = owner.map(Handle::parse).transpose();
    if let Err(refusal) = &owner {
        note(&mut errors, "owner", refusal.clone());
    }
    match (name, owner, &view.draft.inspection) {
        (Ok(name), Ok(owner), Some(found)) if errors.is_empty() => Ok(DeploymentSpec {
            owner,
            name,
            source: found.resolved.clone(),
            start: found.start_plan(),
            target,
            options: options_of(form, target),
            provider_key: view.provider_key.filter(|_| target.is_remote()),
            fetch_key: form.fetch_key,
            bindings,
        }),
        _ => Err(errors),
    }
}

/// What the source says of a variable.
fn said_of(view: &DraftView, env: &EnvName) -> String {
    let mut wanted = view.wanted().iter();
    let found = wanted.find(|wanted| wanted.name == env.as_str());
    found
        .map(|wanted| described(&wanted.description))
        .unwrap_or_default()
}

/// What a provider is told. Command and transport stand at the source step; a provider is told them as well.
fn options_of(form: &DraftForm, target: Target) -> BTreeMap<String, String> {
    let mut options = form.options.clone();
    if target.is_remote() {
        for (name, typed) in [("command", &form.command), ("transport", &form.transport)] {
            if !typed.trim().is_empty() {
                options.insert(name.to_owned(), typed.trim().to_owned());
            }
        }
    }
    options
}
