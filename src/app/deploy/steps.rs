//! The wizard's server functions. Every POST stores what was typed, valid or not, and redirects; errors stand at their
//! fields. What looks like a secret is never stored as plain text in a draft.

use std::collections::BTreeMap;

use leptos::prelude::*;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::app::wire::{Flash, Typed};
use crate::model::drafts::{Draft, InspectState, STEPS};
use crate::model::errors::Refusal;
use crate::model::sources::WantedVariable;

/// What a step's page shows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DraftView {
    pub draft: Draft,
    /// Rows of the secrets step: every secret that may be used.
    pub secrets: Vec<SecretRow>,
    /// Variables that the source requires and nothing is bound to yet.
    pub missing: Vec<WantedVariable>,
    pub is_admin: bool,
    /// How servers are confined here, and whether that is as it should be.
    pub confinement: Vec<(bool, String)>,
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

    /// What the source asks for and nothing is bound to.
    pub fn unbound(&self) -> Vec<WantedVariable> {
        let bound = |name: &str| {
            self.secrets.iter().any(|row| row.ticked && row.env == name)
                || self
                    .draft
                    .form
                    .plain
                    .iter()
                    .any(|plain| plain.env == name && !plain.text.is_empty())
        };
        self.wanted()
            .iter()
            .filter(|wanted| !bound(&wanted.name))
            .cloned()
            .collect()
    }
}

#[cfg(feature = "ssr")]
mod server {
    use secrecy::ExposeSecret;

    use super::*;
    pub use crate::app::wire::{caller, done, go};
    use crate::deploy::Deployer;
    use crate::deploy::sources::check_command;
    use crate::deploy::sources::variables::{is_secret_name, looks_like_secret};
    use crate::model::actors::Caller;
    use crate::model::deployments::{Binding, Bound, DeploymentSpec, Target};
    use crate::model::drafts::{DraftForm, DraftPlain, DraftSecret};
    use crate::model::paths::{DeploymentName, EnvName, PATH_LEN_BYTES, SecretPath};
    use crate::model::secrets::{Kind, SecretSort, SecretSummary};
    use crate::store::secrets::{NewSecret, NewValue};
    use crate::store::{Db, Error};

    /// Secrets that a wizard lists.
    const SECRETS_MAX: i64 = 2_000;
    /// Secrets that are made on the spot at once.
    const NEW_SECRETS_MAX: usize = 60;

    pub type FieldErrors = BTreeMap<String, String>;

    pub fn note(errors: &mut FieldErrors, field: impl Into<String>, refusal: Refusal) {
        errors.insert(field.into(), refusal.detail);
    }

    pub async fn open(id: Uuid) -> Result<(Db, Caller, Draft), Refusal> {
        let db = expect_context::<Db>();
        let caller = caller().await?;
        let draft = db.draft(&caller, id).await.map_err(Error::into_refusal)?;
        Ok((db, caller, draft))
    }

    /// Stores the form and its errors, and queues the source when it is to be inspected.
    pub async fn save(
        db: &Db,
        caller: &Caller,
        draft: &Draft,
        inspect: bool,
    ) -> Result<(), Refusal> {
        db.draft_save(caller, draft.id, &draft.form, &draft.errors, inspect)
            .await
            .map_err(Error::into_refusal)?;
        if inspect {
            expect_context::<Deployer>().wake();
        }
        Ok(())
    }

    pub async fn view(id: Uuid) -> Result<DraftView, Refusal> {
        let (db, caller, draft) = open(id).await?;
        let known = db
            .secrets_list(&caller, "", SecretSort::Path, SECRETS_MAX)
            .await
            .map_err(Error::into_refusal)?;
        let secrets = secret_rows(&draft, known);
        let mut view = DraftView {
            missing: Vec::new(),
            secrets,
            is_admin: caller.user().is_some_and(|user| user.is_admin),
            confinement: expect_context::<Deployer>().confinement(),
            draft,
        };
        view.missing = view.unbound();
        view.missing
            .retain(|wanted| wanted.required && wanted.default.is_none());
        Ok(view)
    }

    /// What the secrets step lists: what can be used now, and what was ticked and cannot any more.
    pub fn secret_rows(draft: &Draft, known: Vec<SecretSummary>) -> Vec<SecretRow> {
        let wanted: &[WantedVariable] = match &draft.inspection {
            Some(found) => &found.variables,
            None => &[],
        };
        let row = |secret: SecretSummary| {
            let kept = draft.form.secrets.iter().find(|kept| kept.id == secret.id);
            let usual = EnvName::default_for(&secret.path)
                .map(String::from)
                .unwrap_or_default();
            let env = kept.map_or(usual.clone(), |kept| kept.env.clone());
            let asked = wanted.iter().find(|wanted| wanted.name == env).cloned();
            let unusable = secret.unusable(time::OffsetDateTime::now_utc());
            let ticked = match kept {
                Some(kept) => kept.ticked,
                None => {
                    !draft.form.ticked
                        && unusable.is_none()
                        && asked.as_ref().is_some_and(is_ticked_at_first)
                }
            };
            (secret.active || ticked).then(|| SecretRow {
                id: secret.id,
                path: secret.path.to_string(),
                env,
                usual,
                ticked,
                asked,
                unusable: unusable.map(str::to_owned),
                maskable: secret.maskable,
            })
        };
        known.into_iter().filter_map(row).collect()
    }

    /// What a source declares, or seems to stop without. A name that merely occurs in its code is the choice of
    /// whoever wrote the code, and a secret is not handed over for that.
    fn is_ticked_at_first(asked: &WantedVariable) -> bool {
        asked.required || (asked.secret && !asked.suggested)
    }

    /// Seals what was typed as the value of a new secret, for one variable each. An empty value asks for nothing.
    /// Returns the rows of what was made, and what the page is to say.
    pub async fn seal_new(
        db: &Db,
        caller: &Caller,
        paths: &BTreeMap<String, String>,
        values: BTreeMap<String, Typed>,
    ) -> (Vec<SecretRow>, Flash) {
        let mut made = Vec::new();
        let mut flash = Flash {
            form: SECRETS_FORM.into(),
            ..Flash::default()
        };
        for (env, path) in paths.iter().take(NEW_SECRETS_MAX) {
            let path = path.chars().take(PATH_LEN_BYTES).collect();
            flash.typed.insert(format!("add.{env}.path"), path);
        }
        let typed = values.into_iter().filter(|(_, value)| !value.is_empty());
        for (env, value) in typed.take(NEW_SECRETS_MAX) {
            let path = paths.get(&env).map_or("", |path| path.trim());
            let path = if path.is_empty() { &env } else { path };
            let sealed = async {
                EnvName::parse(&env)?;
                let new = NewSecret {
                    path: SecretPath::parse(path)?,
                    value: NewValue::Typed(value.into_value()),
                    kind: Kind::ApiKey,
                    description: String::new(),
                    expires_at: None,
                };
                db.secret_create(caller, new)
                    .await
                    .map_err(Error::into_refusal)
            };
            match sealed.await {
                Ok(id) => made.push(SecretRow {
                    id,
                    path: path.to_owned(),
                    env,
                    usual: String::new(),
                    ticked: true,
                    asked: None,
                    unusable: None,
                    maskable: true,
                }),
                Err(refusal) => {
                    let field = refusal.field.unwrap_or_default();
                    flash
                        .errors
                        .insert(format!("add.{env}.{field}"), refusal.detail);
                }
            }
        }
        if !made.is_empty() {
            let paths: Vec<&str> = made.iter().map(|row| row.path.as_str()).collect();
            flash.notice = Some(format!("Sealed and ticked: {}.", paths.join(", ")));
        }
        (made, flash)
    }

    /// The paths typed for secrets that are still to be added, where they could be paths and differ from the name.
    pub fn paths_to_keep(
        paths: &BTreeMap<String, String>,
        made: &[SecretRow],
    ) -> BTreeMap<String, String> {
        let is_kept = |env: &str, path: &str| {
            path != env
                && !looks_like_secret("", path)
                && EnvName::parse(env).is_ok()
                && SecretPath::parse(path).is_ok()
                && !made.iter().any(|made| made.env == env)
        };
        paths
            .iter()
            .map(|(env, path)| (env.as_str(), path.trim()))
            .filter(|(env, path)| is_kept(env, path))
            .take(NEW_SECRETS_MAX)
            .map(|(env, path)| (env.to_owned(), path.to_owned()))
            .collect()
    }

    /// Reads the secrets step: ticks and env names by secret id, plain variables by their row.
    pub fn read_secrets(
        form: &mut DraftForm,
        paths: &[SecretRow],
        ticked: &BTreeMap<String, String>,
        env: &BTreeMap<String, String>,
    ) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let mut names: BTreeMap<String, String> = BTreeMap::new();
        form.ticked = true;
        form.secrets = paths
            .iter()
            .filter_map(|row| {
                let key = row.key();
                let is_ticked = ticked.contains_key(&key);
                let name = env
                    .get(&key)
                    .map_or(row.env.clone(), |name| typed_name(name));
                if is_ticked {
                    let field = format!("env.{}", row.id);
                    check_name(&mut errors, &mut names, &field, &name, &row.path);
                }
                // The rest is as the list says: thousands of secrets would not fit into a draft.
                (is_ticked || name != row.usual).then(|| DraftSecret {
                    id: row.id,
                    path: row.path.clone(),
                    env: name,
                    ticked: is_ticked,
                })
            })
            .collect();
        for (i, plain) in form.plain.iter().enumerate() {
            check_name(
                &mut errors,
                &mut names,
                &format!("plain.{i}.env"),
                &plain.env,
                &plain.env,
            );
        }
        errors
    }

    fn check_name(
        errors: &mut FieldErrors,
        names: &mut BTreeMap<String, String>,
        field: &str,
        name: &str,
        what: &str,
    ) {
        match EnvName::parse(name) {
            Err(refusal) => note(errors, field, refusal),
            Ok(_) => {
                if let Some(other) = names.insert(name.to_owned(), what.to_owned()) {
                    errors.insert(
                        field.to_owned(),
                        format!("{name} is already given by {other}. Each name can stand once."),
                    );
                }
            }
        }
    }

    /// Reads the rows of plain variables. A text that looks like a secret is not kept unless the person insists.
    pub fn read_plain(
        names: &BTreeMap<String, String>,
        texts: &BTreeMap<String, Typed>,
        keep: &BTreeMap<String, String>,
        wanted: &[WantedVariable],
        before: &[DraftPlain],
    ) -> (Vec<DraftPlain>, FieldErrors) {
        let mut errors = FieldErrors::new();
        let mut rows = Vec::new();
        let mut names: Vec<(&String, &String)> = names.iter().collect();
        // As they stand on the page: as text, 10 would come before 2.
        names.sort_by_key(|(row, _)| row.parse().unwrap_or(usize::MAX));
        for (row, name) in names {
            let name = typed_name(name);
            let text = texts.get(row).cloned().unwrap_or_default().into_value();
            let text = text.expose_secret();
            if name.is_empty() && text.is_empty() {
                continue;
            }
            // Kept plain only where the person was asked about just this variable.
            let kept_plain = keep.contains_key(row)
                && before
                    .iter()
                    .any(|old| old.env == name && (old.text.is_empty() || old.text == *text));
            let asked_secret = wanted
                .iter()
                .any(|wanted| wanted.name == name && wanted.secret);
            let suspicious = asked_secret
                || looks_like_secret(&name, text)
                || (is_secret_name(&name) && text.len() >= 8);
            let i = rows.len();
            if suspicious && !kept_plain && !text.is_empty() {
                errors.insert(
                    format!("plain.{i}.text"),
                    format!(
                        "{name} looks like a secret, so its text was not kept: plain text can be read by whoever sees the deployment. \
                         Store it as a secret, or type it again and choose to keep it plain."
                    ),
                );
                rows.push(DraftPlain {
                    env: name,
                    text: String::new(),
                    kept_plain: false,
                });
            } else if text.len() > 8_192 {
                errors.insert(
                    format!("plain.{i}.text"),
                    "Plain text has at most 8,192 bytes. Store longer ones as a secret.".into(),
                );
                rows.push(DraftPlain {
                    env: name,
                    text: String::new(),
                    kept_plain,
                });
            } else {
                rows.push(DraftPlain {
                    env: name,
                    text: text.to_string(),
                    kept_plain,
                });
            }
        }
        (rows, errors)
    }

    /// The deployment that a draft asks for. FieldErrors: at the fields that are not in order yet.
    pub fn spec(view: &DraftView) -> Result<DeploymentSpec, FieldErrors> {
        let form = &view.draft.form;
        // What was not kept as it was typed does not show in the form any more.
        let mut errors = view.draft.errors.clone();
        errors.retain(|field, _| {
            ["source", "source_kind", "command"].contains(&field.as_str())
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
        for (i, plain) in form.plain.iter().enumerate() {
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
        match (name, &view.draft.inspection) {
            (Ok(name), Some(found)) if errors.is_empty() => Ok(DeploymentSpec {
                name,
                source: found.resolved.clone(),
                start: found.start_plan(),
                target: Target::Local,
                fetch_key: form.fetch_key,
                bindings,
            }),
            _ => Err(errors),
        }
    }

    /// The field of the wizard for one of a deployment's: a binding is the row with its env name.
    pub fn field_of(view: &DraftView, field: &str) -> String {
        let Some(env) = field.strip_prefix("bindings.") else {
            return field.to_owned();
        };
        let plain = view.draft.form.plain.iter();
        if let Some(row) = view.secrets.iter().find(|row| row.ticked && row.env == env) {
            format!("env.{}", row.id)
        } else if let Some((i, _)) = plain.enumerate().find(|(_, plain)| plain.env == env) {
            format!("plain.{i}.env")
        } else {
            field.to_owned()
        }
    }

    /// The step that a button asks for.
    pub fn asked(then: &str) -> Option<&'static str> {
        STEPS.into_iter().find(|step| *step == then)
    }

    /// A name as typed; nothing where it cannot be one, for a value that slipped into the wrong field is not kept.
    pub fn typed_name(raw: &str) -> String {
        let name = raw.trim();
        let could_be = name.len() <= 100
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
            && !looks_like_secret("", name);
        if could_be {
            name.to_owned()
        } else {
            String::new()
        }
    }

    /// Drops what is no part of a source and may be a credential. Returns what to say at which field.
    pub fn drop_credentials(form: &mut DraftForm) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let url = url::Url::parse(&form.source);
        if url.is_ok_and(|url| {
            !url.username().is_empty() || url.password().is_some() || url.query().is_some()
        }) {
            form.source.clear();
            errors.insert(
                "source".into(),
                "A user name, password or query in a URL is not kept. Give the plain address, and choose a fetch key for a private repository.".into(),
            );
        }
        if let Err(refusal) = check_command(&form.command) {
            form.command.clear();
            note(&mut errors, "command", refusal);
        }
        errors
    }

    /// What goes wrong with the draft itself (it is gone, or deployed already) stands above the list of drafts.
    pub async fn told(step: impl Future<Output = Result<(), Refusal>>) -> Result<(), Refusal> {
        match step.await {
            Err(refusal) => crate::app::wire::back("/deploy", "draft", refusal, &[]).await,
            done => done,
        }
    }
}
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

/// Everything that a step's page shows.
#[server(prefix = "/_fn", endpoint = "draft_load")]
pub async fn draft_load(id: Uuid) -> Result<DraftView, Refusal> {
    view(id).await
}

/// Begins a draft.
#[server(prefix = "/_fn", endpoint = "draft_new")]
pub async fn draft_new() -> Result<(), Refusal> {
    let db = expect_context::<crate::store::Db>();
    let caller = caller().await?;
    match db.draft_create(&caller).await {
        Ok(id) => {
            leptos_axum::redirect(&format!("/deploy/{id}/source"));
            Ok(())
        }
        Err(error) => crate::app::wire::back("/deploy", "draft", error.into_refusal(), &[]).await,
    }
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
        let (db, caller, mut draft) = open(id).await?;
        let cut = |text: String| text.trim().chars().take(2_000).collect::<String>();
        let before = draft.form.clone();
        let form = &mut draft.form;
        form.source_kind = cut(source_kind);
        form.source = cut(source);
        form.version = cut(version);
        form.reference = cut(reference);
        form.folder = cut(folder);
        form.fetch_key = Uuid::parse_str(fetch_key.trim()).ok();
        form.command = cut(command);
        form.transport = cut(transport);
        let mut errors = drop_credentials(form);
        if let Err(refusal) = form.source()
            && !errors.contains_key("source")
        {
            let field = refusal.field.clone().unwrap_or("source".into());
            note(&mut errors, field, refusal);
        }
        let is_admin = caller.user().is_some_and(|user| user.is_admin);
        if form.source_kind == "dir" && !is_admin {
            errors.insert(
                "source_kind".into(),
                "Only administrators deploy directories of this machine.".into(),
            );
        }
        if form.name.is_empty() {
            form.name = suggested_name(&form.source);
        }
        let changed = *form != before || draft.inspecting != InspectState::Done;
        // What was ticked for another source says nothing about this one.
        if changed && draft.inspection.is_some() && draft.form.source != before.source {
            draft.form.ticked = false;
            draft.form.secrets.clear();
            draft.errors.retain(|field, _| !field.starts_with("env."));
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

/// The secrets step: ticks, env names, plain variables, and new secrets, which are sealed at once and ticked.
#[server(prefix = "/_fn", endpoint = "draft_secrets")]
#[allow(clippy::too_many_arguments)] // One argument a field of the form.
pub async fn draft_secrets(
    id: Uuid,
    #[server(default)] ticked: BTreeMap<String, String>,
    #[server(default)] env: BTreeMap<String, String>,
    #[server(default)] plain_env: BTreeMap<String, String>,
    #[server(default)] plain_text: BTreeMap<String, Typed>,
    #[server(default)] plain_keep: BTreeMap<String, String>,
    #[server(default)] add_path: BTreeMap<String, String>,
    #[server(default)] add_value: BTreeMap<String, Typed>,
    #[server(default)] then: String,
) -> Result<(), Refusal> {
    told(async move {
        let mut seen = view(id).await?;
        let (db, caller, mut draft) = open(id).await?;
        let (made, flash) = seal_new(&db, &caller, &add_path, add_value).await;
        draft.form.new_paths = paths_to_keep(&add_path, &made);
        // What was just sealed does not stand among the plain ones any more, unless with a text of its own.
        let mut plain_env = plain_env;
        plain_env.retain(|row, name| {
            let is_made = made.iter().any(|made| made.env == name.trim());
            !is_made || plain_text.get(row).is_some_and(|text| !text.is_empty())
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
        errors.extend(plain_errors);
        // What could not be sealed is typed again here, wherever the button leads.
        let step = if !flash.errors.is_empty() || then == "stay" {
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

/// The target step: where it runs, and its name.
#[server(prefix = "/_fn", endpoint = "draft_target")]
pub async fn draft_target(
    id: Uuid,
    #[server(default)] target: String,
    #[server(default)] name: String,
    #[server(default)] then: String,
) -> Result<(), Refusal> {
    told(async move {
        let (db, caller, mut draft) = open(id).await?;
        draft.form.target = target.chars().take(40).collect();
        draft.form.name = name.trim().chars().take(200).collect();
        let mut errors = BTreeMap::new();
        if let Err(refusal) = crate::model::paths::DeploymentName::parse(&draft.form.name) {
            note(&mut errors, "name", refusal);
        }
        if draft.form.target != "local" {
            errors.insert("target".into(), "Choose where it runs.".into());
        }
        let next = if errors.is_empty() {
            "review"
        } else {
            "target"
        };
        let step = asked(&then).unwrap_or(next);
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
        match db.deployment_create(&caller, Some(id), &spec).await {
            Ok(name) => {
                expect_context::<crate::deploy::Deployer>().wake();
                leptos_axum::redirect(&format!("/deployments/{name}"));
                Ok(())
            }
            Err(error) => {
                let refusal = error.into_refusal();
                let field = field_of(&seen, refusal.field.as_deref().unwrap_or_default());
                draft.errors = BTreeMap::from([(field, refusal.detail)]);
                save(&db, &caller, &draft, false).await?;
                go(&format!("/deploy/{id}/review"), Flash::default()).await
            }
        }
    })
    .await
}

#[cfg(test)]
mod tests;
