//! The wizard's server functions. Every POST stores what was typed, valid or not, and redirects; errors stand at their
//! fields. What looks like a secret is never stored as plain text in a draft.

use std::collections::BTreeMap;

use leptos::prelude::*;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::app::wire::Typed;
use crate::model::drafts::{Draft, DraftPlain, InspectState};
use crate::model::errors::Refusal;
use crate::model::sources::WantedVariable;
use crate::model::targets::Target;

/// What a step's page shows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DraftView {
    pub draft: Draft,
    /// Rows of the secrets step: every secret that may be used.
    pub secrets: Vec<SecretRow>,
    /// Whether there may be more than are listed.
    pub is_cut: bool,
    /// Variables that the source requires and nothing is bound to yet.
    pub missing: Vec<WantedVariable>,
    pub is_admin: bool,
    /// Oneself and the teams that one administers: what is sent, and what a person reads.
    pub owners: Vec<(String, String)>,
    /// How servers are confined here, and whether that is as it should be.
    pub confinement: Vec<(bool, String)>,
    /// Where it can run.
    pub targets: Vec<Target>,
    /// The secret with the key of the chosen provider, where it is there.
    pub provider_key: Option<Uuid>,
    /// What would be made at the provider; none where nothing was asked.
    pub changes: Option<Changes>,
    /// For a git source that the chosen provider could not run as it is: what makes it one.
    pub dockerfile: Option<String>,
}

/// What a provider says to a draft.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Changes {
    /// What would be made or changed there, line by line.
    Lines(Vec<String>),
    /// What is in the way, at its field.
    Wrong { field: String, says: String },
}

/// Names the secrets step's form in a flash.
pub const SECRETS_FORM: &str = "draft-secrets";

/// A secret that may be ticked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SecretRow {
    pub id: Uuid,
    pub path: String,
    pub env: String,
    /// The env name that it has by default; empty where its path gives none.
    pub usual: String,
    pub ticked: bool,
    /// What the source says of the variable, where it asks for it.
    pub asked: Option<WantedVariable>,
    /// Why it cannot be used now, in a word.
    pub unusable: Option<String>,
    /// Long enough to be masked in what the server prints.
    pub maskable: bool,
}

impl SecretRow {
    /// Names its fields in the form; begins with a letter, for a digit would read as a place in a list.
    pub fn key(&self) -> String {
        format!("k{}", self.id.simple())
    }
}

impl DraftView {
    /// Whether the source was looked at and found good.
    pub fn is_inspected(&self) -> bool {
        self.draft.inspecting == InspectState::Done && self.draft.inspection.is_some()
    }

    /// What the source asks for.
    pub fn wanted(&self) -> &[WantedVariable] {
        match &self.draft.inspection {
            Some(found) => &found.variables,
            None => &[],
        }
    }

    /// Whether each caller brings it.
    pub fn is_brought(&self, name: &str) -> bool {
        self.draft.form.per_user.iter().any(|own| own == name)
    }

    /// The plain variables that the server gets, with their rows. A name that the source asks for gets nothing by a row
    /// without a text: the server would read an empty variable where it has a default of its own.
    pub fn given_plain(&self) -> impl Iterator<Item = (usize, &DraftPlain)> {
        let is_wanted = |name: &str| self.wanted().iter().any(|wanted| wanted.name == name);
        let rows = self.draft.form.plain.iter().enumerate();
        rows.filter(move |(_, plain)| !plain.text.is_empty() || !is_wanted(&plain.env))
    }

    /// What the source asks for and nothing is bound to.
    pub fn unbound(&self) -> Vec<WantedVariable> {
        let bound = |name: &str| {
            self.secrets.iter().any(|row| row.ticked && row.env == name)
                || self.given_plain().any(|(_, plain)| plain.env == name)
                || self.is_brought(name)
        };
        self.wanted()
            .iter()
            .filter(|wanted| !bound(&wanted.name))
            .cloned()
            .collect()
    }
}

#[cfg(feature = "ssr")]
mod server;
#[cfg(feature = "ssr")]
use server::*;

/// The caller's drafts that are not deployed yet.
#[server(prefix = "/_fn", endpoint = "drafts")]
pub async fn drafts() -> Result<Vec<Draft>, Refusal> {
    let db = expect_context::<crate::store::Db>();
    let caller = caller().await?;
    db.drafts_list(&caller)
        .await
        .map_err(crate::store::Error::into_refusal)
}

/// Everything that a step's page shows. For the review the provider is asked what would be made there.
#[server(prefix = "/_fn", endpoint = "draft_load")]
pub async fn draft_load(id: Uuid, #[server(default)] review: bool) -> Result<DraftView, Refusal> {
    let mut seen = view(id).await?;
    if review {
        seen.dockerfile = dockerfile(&seen);
        seen.changes = changes(&seen).await?;
    }
    Ok(seen)
}

/// Begins a draft: an empty one, or from a deployment that it shall change.
#[server(prefix = "/_fn", endpoint = "draft_new")]
pub async fn draft_new(#[server(default)] from: String) -> Result<(), Refusal> {
    told(async move {
        let db = expect_context::<crate::store::Db>();
        let caller = caller().await?;
        let form = match from.is_empty() {
            true => None,
            false => {
                let name = crate::model::paths::DeploymentName::parse(&from)
                    .map_err(|_| Refusal::not_found("deployment"))?;
                Some(form_from(&db, &caller, &name).await?)
            }
        };
        let made = db.draft_create(&caller).await;
        let mut draft = Draft {
            id: made.map_err(crate::store::Error::into_refusal)?,
            ..Draft::default()
        };
        if let Some(form) = form {
            draft.form = form;
            save(&db, &caller, &draft, true).await?;
        }
        leptos_axum::redirect(&format!("/deploy/{}/source", draft.id));
        Ok(())
    })
    .await
}

/// Throws a draft away.
#[server(prefix = "/_fn", endpoint = "draft_delete")]
pub async fn draft_delete(id: Uuid) -> Result<(), Refusal> {
    told(async move {
        let (db, caller, _) = open(id).await?;
        db.draft_delete(&caller, id)
            .await
            .map_err(crate::store::Error::into_refusal)?;
        done("/deploy", "The draft is gone.").await
    })
    .await
}

/// The source step. Inspects when the source is in order and has changed, or when asked again.
#[server(prefix = "/_fn", endpoint = "draft_source")]
#[allow(clippy::too_many_arguments)] // One argument a field of the form.
pub async fn draft_source(
    id: Uuid,
    #[server(default)] source_kind: String,
    #[server(default)] source: String,
    #[server(default)] version: String,
    #[server(default)] reference: String,
    #[server(default)] folder: String,
    #[server(default)] fetch_key: String,
    #[server(default)] command: String,
    #[server(default)] transport: String,
    #[server(default)] then: String,
) -> Result<(), Refusal> {
    told(async move {
        let (db, caller, mut draft) = open_to_change(id).await?;
        let cut = |text: String| text.trim().chars().take(2_000).collect::<String>();
        let before = draft.form.clone();
        let form = &mut draft.form;
        form.source_kind = cut(source_kind);
        form.source = cut(source);
        form.version = cut(version);
        form.reference = cut(reference);
        form.folder = cut(folder);
        // The provider fetches an image.
        form.fetch_key = match form.source_kind.as_str() {
            "image" => None,
            _ => Uuid::parse_str(fetch_key.trim()).ok(),
        };
        form.command = cut(command);
        form.transport = cut(transport);
        let mut errors = drop_credentials(form);
        if let Err(refusal) = form.source() {
            let field = refusal.field.unwrap_or("source".into());
            errors.entry(field).or_insert(refusal.detail);
        }
        let is_admin = caller.user().is_some_and(|user| user.is_admin);
        if form.source_kind == "dir" && !is_admin {
            errors.insert(
                "source_kind".into(),
                "Only administrators deploy directories of this machine.".into(),
            );
        }
        rename(form, &before);
        if draft.form.name != before.name {
            draft.errors.remove("name");
        }
        let changed = draft.form != before || draft.inspecting != InspectState::Done;
        // What was ticked for another source says nothing about this one.
        if changed && draft.inspection.is_some() && draft.form.source != before.source {
            draft.form.ticked = false;
            draft.form.secrets.clear();
            draft.form.per_user.clear();
            draft
                .errors
                .retain(|field, _| !field.starts_with("env.") && !field.starts_with("own."));
        }
        // The steps after this one go by what the source says.
        let step = if errors.is_empty() && !changed {
            asked(&then).unwrap_or("secrets")
        } else {
            "source"
        };
        let inspect = errors.is_empty() && changed;
        draft.set_errors("source", errors);
        save(&db, &caller, &draft, inspect).await?;
        leptos_axum::redirect(&format!("/deploy/{id}/{step}"));
        Ok(())
    })
    .await
}

/// A deployment's name made of what is deployed: `@scope/server-gitlab` gives `server-gitlab`.
pub fn suggested_name(source: &str) -> String {
    let last = source
        .trim_end_matches(['/', '#'])
        .rsplit('/')
        .next()
        .unwrap_or_default();
    let name: String = last
        .trim_end_matches(".git")
        .to_ascii_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    name.trim_start_matches(|c: char| !c.is_ascii_lowercase())
        .trim_end_matches('-')
        .chars()
        .take(crate::model::paths::HANDLE_LEN_BYTES)
        .collect()
}

/// An image's reference without its tag and its digest.
pub fn without_tag(reference: &str) -> &str {
    let name_at = reference.rfind('/').map_or(0, |slash| slash + 1);
    let name = &reference[name_at..];
    let name_len = name.find([':', '@']).unwrap_or(name.len());
    &reference[..name_at + name_len]
}

/// The secrets step: ticks, env names, what callers bring, plain variables, and new secrets, which are sealed at once and ticked.
#[server(prefix = "/_fn", endpoint = "draft_secrets")]
#[allow(clippy::too_many_arguments)] // One argument a field of the form.
pub async fn draft_secrets(
    id: Uuid,
    #[server(default)] ticked: BTreeMap<String, String>,
    #[server(default)] env: BTreeMap<String, String>,
    #[server(default)] own: BTreeMap<String, String>,
    #[server(default)] own_env: BTreeMap<String, String>,
    #[server(default)] plain_env: BTreeMap<String, String>,
    #[server(default)] plain_text: BTreeMap<String, Typed>,
    #[server(default)] plain_keep: BTreeMap<String, String>,
    #[server(default)] add_path: BTreeMap<String, String>,
    #[server(default)] add_value: BTreeMap<String, Typed>,
    #[server(default)] then: String,
) -> Result<(), Refusal> {
    told(async move {
        // Before anything is sealed: what is refused changes nothing.
        let (db, caller, mut draft) = open_to_change(id).await?;
        let mut seen = view(id).await?;
        let (made, flash) = seal_new(&db, &caller, &add_path, add_value).await;
        draft.form.new_paths = paths_to_keep(&add_path, &made);
        let (brought, own_errors) = read_own(seen.wanted(), &own, &own_env);
        draft.form.per_user = brought;
        // What was just sealed, or is each caller's, does not stand among the plain ones any more, unless with a text of its own.
        let mut plain_env = plain_env;
        plain_env.retain(|row, name| {
            let name = name.trim();
            let is_made = made.iter().any(|made| made.env == name);
            let is_own = draft.form.per_user.iter().any(|own| own == name);
            let text = plain_text.get(row);
            !(is_made || is_own) || !is_untouched(seen.wanted(), name, text)
        });
        let (plain, plain_errors) = read_plain(
            &plain_env,
            &plain_text,
            &plain_keep,
            seen.wanted(),
            &draft.form.plain,
        );
        draft.form.plain = plain;
        let mut ticked = ticked;
        ticked.extend(made.iter().map(|row| (row.key(), "on".to_owned())));
        seen.secrets.extend(made);
        let mut errors = read_secrets(&mut draft.form, &seen.secrets, &ticked, &env);
        // What could not be sealed or kept is typed again here, wherever the button leads.
        let is_lost =
            !(flash.errors.is_empty() && own_errors.is_empty() && plain_errors.is_empty());
        errors.extend(own_errors);
        errors.extend(plain_errors);
        let step = if is_lost || then == "stay" {
            "secrets"
        } else {
            let next = if errors.is_empty() {
                "target"
            } else {
                "secrets"
            };
            asked(&then).unwrap_or(next)
        };
        draft.set_errors("secrets", errors);
        save(&db, &caller, &draft, false).await?;
        go(&format!("/deploy/{id}/{step}"), flash).await
    })
    .await
}

/// The target step: where it runs, what is said for that, and its name. What stands in the form for another target is not read.
#[server(prefix = "/_fn", endpoint = "draft_target")]
pub async fn draft_target(
    id: Uuid,
    #[server(default)] target: String,
    #[server(default)] key: BTreeMap<String, String>,
    #[server(default)] options: BTreeMap<String, BTreeMap<String, String>>,
    #[server(default)] owner: String,
    #[server(default)] name: String,
    #[server(default)] then: String,
) -> Result<(), Refusal> {
    told(async move {
        let (db, caller, mut draft) = open_to_change(id).await?;
        draft.form.target = target.chars().take(40).collect();
        draft.form.owner = owner.trim().chars().take(40).collect();
        draft.form.name = name.trim().chars().take(200).collect();
        let key = key.get(&draft.form.target).map_or("", String::as_str);
        let options = options.get(&draft.form.target);
        let mut errors = read_target(&mut draft.form, key, options);
        if is_slipped(&draft.form.name) {
            draft.form.name.clear();
            let says =
                format!("That looks like a secret, and everybody here can read a name. {NOT_KEPT}");
            errors.insert("name".into(), says);
        } else if let Err(refusal) = crate::model::paths::DeploymentName::parse(&draft.form.name) {
            note(&mut errors, "name", refusal);
        }
        find_key(&db, &caller, &mut draft.form, &mut errors).await?;
        if let (Some(target), Ok(source)) = (draft.form.chosen_target(), draft.form.source())
            && let Some(refusal) = source_wrong(&caller, &source, target)
        {
            note(&mut errors, "target", refusal);
        }
        if let Some((_, refusal)) = not_there(&draft.form) {
            errors.entry("target".into()).or_insert(refusal.detail);
        }
        let next = if errors.is_empty() {
            "review"
        } else {
            "target"
        };
        // What was not kept is typed again here, wherever the button leads.
        let is_lost = errors.values().any(|says| says.ends_with(NOT_KEPT));
        let step = asked(&then).filter(|_| !is_lost).unwrap_or(next);
        draft.set_errors("target", errors);
        save(&db, &caller, &draft, false).await?;
        leptos_axum::redirect(&format!("/deploy/{id}/{step}"));
        Ok(())
    })
    .await
}

/// Deploys. Two posts make one release.
#[server(prefix = "/_fn", endpoint = "draft_deploy")]
pub async fn draft_deploy(id: Uuid) -> Result<(), Refusal> {
    told(async move {
        let seen = view(id).await?;
        let (db, caller, mut draft) = open(id).await?;
        if let Some(name) = &draft.deployed_as {
            leptos_axum::redirect(&format!("/deployments/{name}"));
            return Ok(());
        }
        let spec = match spec(&seen) {
            Ok(spec) => spec,
            Err(errors) => {
                draft.errors = errors;
                save(&db, &caller, &draft, false).await?;
                leptos_axum::redirect(&format!("/deploy/{id}/review"));
                return Ok(());
            }
        };
        let deployer = expect_context::<crate::deploy::Deployer>();
        // What the provider refuses is known before anything is made.
        let asked = match spec.target.is_remote() {
            true => deployer.changes_of(&caller, &spec).await.map(drop),
            false => Ok(()),
        };
        let changes = draft.form.changed_deployment().is_some();
        if changes {
            // First, so that of two presses one alone finds it. What it would say again is on the deployment's page.
            db.draft_delete(&caller, id)
                .await
                .map_err(crate::store::Error::into_refusal)?;
        }
        let changed = match asked {
            Ok(()) => change(&db, &caller, &seen, &spec).await,
            Err(refusal) => Err(refusal),
        };
        let created = match changed {
            Ok(None) => db
                .deployment_create(&caller, (!changes).then_some(id), &spec)
                .await
                .map_err(crate::store::Error::into_refusal),
            Ok(Some(name)) => Ok(name),
            Err(refusal) => Err(refusal),
        };
        match created {
            Ok(name) => {
                deployer.wake();
                leptos_axum::redirect(&format!("/deployments/{name}"));
                Ok(())
            }
            Err(refusal) => {
                let field = field_of(&seen, refusal.field.as_deref().unwrap_or_default());
                draft.errors = BTreeMap::from([(field, refusal.detail)]);
                if changes {
                    let anew = db.draft_create(&caller).await;
                    draft.id = anew.map_err(crate::store::Error::into_refusal)?;
                }
                save(&db, &caller, &draft, changes).await?;
                go(
                    &format!("/deploy/{}/review", draft.id),
                    crate::app::wire::Flash::default(),
                )
                .await
            }
        }
    })
    .await
}

#[cfg(test)]
mod tests;
