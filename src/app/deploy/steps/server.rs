//! What the wizard's server functions share: reading what was typed, and what a draft comes to.

use std::collections::BTreeMap;

use leptos::prelude::expect_context;
use secrecy::ExposeSecret;
use uuid::Uuid;

use super::{Changes, DraftView, SECRETS_FORM, SecretRow};
use crate::app::wire::{Flash, Typed};
pub use crate::app::wire::{caller, done, go};
use crate::deploy::Deployer;
pub use crate::deploy::plans::TARGETS;
use crate::deploy::plans::read_told;
use crate::deploy::sources::check_command;
use crate::deploy::sources::variables::{is_secret_name, looks_like_secret};
use crate::model::actors::Caller;
use crate::model::deployments::{Binding, Bound, DeploymentSpec, described};
use crate::model::drafts::{Draft, DraftForm, DraftPlain, DraftSecret, STEPS};
use crate::model::errors::{Refusal, RefusalKind};
use crate::model::levels::Level;
use crate::model::paths::{DeploymentName, EnvName, Handle, KeyPath, PATH_LEN_BYTES, SecretPath};
use crate::model::secrets::{Kind, SecretSort, SecretSummary};
use crate::model::sources::WantedVariable;
use crate::model::targets::Target;
use crate::store::deployment_checks::per_user_wrong;
pub use crate::store::deployment_checks::source_wrong;
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
pub async fn save(db: &Db, caller: &Caller, draft: &Draft, inspect: bool) -> Result<(), Refusal> {
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
    let me = caller.user().map_or("", |user| user.handle.as_str());
    let others: BTreeMap<Uuid, String> = known
        .iter()
        .filter(|secret| secret.owner != me)
        .map(|secret| (secret.id, secret.owner.clone()))
        .collect();
    let mut secrets = secret_rows(&draft, known);
    for row in &mut secrets {
        if let Some(owner) = others.get(&row.id) {
            row.path = format!("{owner}:{}", row.path);
        }
    }
    let mut view = DraftView {
        missing: Vec::new(),
        secrets,
        is_admin: caller.user().is_some_and(|user| user.is_admin),
        owners: crate::app::teams::owners(me, Level::Admin).await?,
        confinement: expect_context::<Deployer>().confinement(),
        targets: TARGETS.to_vec(),
        provider_key: provider_key(&db, &caller, &draft.form).await?,
        changes: None,
        dockerfile: None,
        draft,
    };
    view.missing = view.unbound();
    view.missing
        .retain(|wanted| wanted.required && wanted.default.is_none());
    Ok(view)
}

/// What the provider says to the draft, as far as that is in order; none where there is no provider to ask.
pub async fn changes(view: &DraftView) -> Result<Option<Changes>, Refusal> {
    let spec = match spec(view) {
        Ok(spec) if spec.target.is_remote() && view.draft.deployed_as.is_none() => spec,
        _ => return Ok(None),
    };
    let deployer = expect_context::<Deployer>();
    Ok(Some(
        match deployer.changes_of(&caller().await?, &spec).await {
            Ok(lines) => Changes::Lines(lines),
            Err(refusal) => Changes::Wrong {
                field: field_of(view, refusal.field.as_deref().unwrap_or_default()),
                says: refusal.detail,
            },
        },
    ))
}

/// A Dockerfile for the draft's source, where the provider needs one.
pub fn dockerfile(view: &DraftView) -> Option<String> {
    expect_context::<Deployer>().dockerfile_for(&spec(view).ok()?)
}

/// The path of the provider's key: the one that was typed, or the target's usual one. None where there is no provider.
fn key_path(form: &DraftForm) -> Option<String> {
    let usual = form.chosen_target()?.key_path()?;
    Some(match form.key.is_empty() {
        true => usual.to_owned(),
        false => form.key.clone(),
    })
}

/// The secret with the provider's key, with the caller's rights; none where there is none in sight.
async fn provider_key(db: &Db, caller: &Caller, form: &DraftForm) -> Result<Option<Uuid>, Refusal> {
    let Some(Ok(at)) = key_path(form).map(|path| KeyPath::parse(&path)) else {
        return Ok(None);
    };
    match db.secret_at(caller, &at).await.map_err(Error::into_refusal) {
        Ok(found) => Ok(Some(found.id)),
        Err(refusal) if refusal.kind == RefusalKind::NotFound => Ok(None),
        Err(refusal) => Err(refusal),
    }
}

/// Says at `key` when there is no such secret. What may be the key itself instead of its path is not kept.
pub async fn find_key(
    db: &Db,
    caller: &Caller,
    form: &mut DraftForm,
    errors: &mut FieldErrors,
) -> Result<(), Refusal> {
    let Some(path) = key_path(form) else {
        return Ok(());
    };
    if errors.contains_key("key") || provider_key(db, caller, form).await?.is_some() {
        return Ok(());
    }
    errors.insert("key".into(), no_key(&path));
    if !path.contains('/') {
        form.key.clear();
    }
    Ok(())
}

/// A path has a folder; what has none is not said again.
fn no_key(path: &str) -> String {
    if path.contains('/') {
        format!(
            "There is no secret {path} here, or it is not yours to use. Store the key under Secrets, or have it shared with you."
        )
    } else {
        NO_PATH.into()
    }
}

const NO_PATH: &str = "There is no such secret. Store the key under Secrets, and give its path here, as in meta/render/api_key. What was typed was not kept.";

/// Ends what is said of a field that does not show what was typed.
pub const NOT_KEPT: &str = "What was typed was not kept.";

/// Reads what was typed for the chosen target. What looks like a secret is not kept.
pub fn read_target(
    form: &mut DraftForm,
    key: &str,
    options: Option<&BTreeMap<String, String>>,
) -> FieldErrors {
    let mut errors = FieldErrors::new();
    form.key.clear();
    form.options.clear();
    let target = Target::from_name(&form.target).filter(|target| TARGETS.contains(target));
    let Some(target) = target else {
        errors.insert("target".into(), "Choose where it runs.".into());
        return errors;
    };
    let mut said = BTreeMap::new();
    for option in target.own_options() {
        if let Some(typed) = options.and_then(|options| options.get(option.name)) {
            said.insert(option.name.to_owned(), typed.clone());
        }
    }
    let key = if target.is_remote() { key.trim() } else { "" };
    let told = read_told(target, key, &said);
    for refusal in told.wrong {
        let field = refusal.field.unwrap_or("target".into());
        let says = match field.starts_with("options.") {
            true => format!("{} {NOT_KEPT}", refusal.detail),
            false => refusal.detail,
        };
        errors.insert(field, says);
    }
    form.options = told.options;
    if looks_like_secret("", key) || (errors.contains_key("key") && !key.contains('/')) {
        errors.insert("key".into(), NO_PATH.into());
    } else if target.key_path() != Some(key) {
        form.key = key.chars().take(PATH_LEN_BYTES).collect();
    }
    errors
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
        // A value that slipped into the wrong field is not kept.
        if EnvName::parse(env).is_ok() && !looks_like_secret("", path) {
            let path = path.chars().take(PATH_LEN_BYTES).collect();
            flash.typed.insert(format!("add.{env}.path"), path);
        }
    }
    let typed = values.into_iter().filter(|(_, value)| !value.is_empty());
    for (env, value) in typed.take(NEW_SECRETS_MAX) {
        let path = paths.get(&env).map_or("", |path| path.trim());
        let path = if path.is_empty() { &env } else { path };
        let sealed = async {
            EnvName::parse(&env)?;
            let new = NewSecret {
                owner: None,
                path: SecretPath::parse(path)?,
                value: NewValue::Typed(value.into_value()),
                kind: Kind::ApiKey,
                description: String::new(),
                tags: Vec::new(),
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
    for (i, own) in form.per_user.iter().enumerate() {
        let field = format!("own.{i}.env");
        check_name(&mut errors, &mut names, &field, own, "each caller");
    }
    if let Some((i, refusal)) = not_there(form) {
        errors
            .entry(format!("own.{i}.env"))
            .or_insert(refusal.detail);
    }
    errors
}

/// The first variable that callers bring to where that cannot be, and why not.
pub fn not_there(form: &DraftForm) -> Option<(usize, Refusal)> {
    let target = form.chosen_target()?;
    let mut named = form.per_user.iter().enumerate();
    named.find_map(|(i, own)| {
        let env = EnvName::parse(own).ok()?;
        per_user_wrong(target, &env).map(|refusal| (i, refusal))
    })
}

/// Reads what each caller brings: what is marked of what the source asks for, then what was typed. What can be no name is not kept.
pub fn read_own(
    wanted: &[WantedVariable],
    marked: &BTreeMap<String, String>,
    typed: &BTreeMap<String, String>,
) -> (Vec<String>, FieldErrors) {
    let mut errors = FieldErrors::new();
    let marked = wanted
        .iter()
        .filter(|wanted| marked.contains_key(&wanted.name));
    let mut names: Vec<String> = marked.map(|wanted| wanted.name.clone()).collect();
    let mut rows: Vec<(&String, &String)> = typed.iter().collect();
    rows.sort_by_key(|(row, _)| row.parse().unwrap_or(usize::MAX));
    for (_, typed) in rows {
        let name = typed_name(typed);
        if name.is_empty() && !typed.trim().is_empty() {
            let says =
                format!("The name of what each caller brings is no name of a variable. {NOT_KEPT}");
            errors.insert("bindings.own".into(), says);
        } else if !name.is_empty() && !names.contains(&name) {
            names.push(name);
        }
    }
    names.truncate(NEW_SECRETS_MAX);
    (names, errors)
}

/// Whether the text of a plain variable is none, or the one that the form offered.
pub fn is_untouched(wanted: &[WantedVariable], name: &str, text: Option<&Typed>) -> bool {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return true;
    };
    let mut named = wanted.iter().filter(|wanted| wanted.name == name);
    let offered = named.find_map(|wanted| wanted.default.as_deref());
    offered.is_some_and(|offered| text.clone().into_value().expose_secret() == offered)
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
    errors.retain(|field, says| {
        ["source", "source_kind", "command"].contains(&field.as_str())
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

/// The field of the wizard for one of a deployment's: a binding is the row with its env name.
pub fn field_of(view: &DraftView, field: &str) -> String {
    if let "options.command" | "options.transport" = field {
        return field.replace("options.", "");
    }
    let Some(env) = field.strip_prefix("bindings.") else {
        return field.to_owned();
    };
    let plain = view.draft.form.plain.iter();
    if let Some(row) = view.secrets.iter().find(|row| row.ticked && row.env == env) {
        format!("env.{}", row.id)
    } else if let Some((i, _)) = plain.enumerate().find(|(_, plain)| plain.env == env) {
        format!("plain.{i}.env")
    } else if let Some(i) = view.draft.form.per_user.iter().position(|own| own == env) {
        format!("own.{i}.env")
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
    // A reference has an @ before its digest alone.
    let is_image = form.source_kind == "image";
    if is_image && form.source.contains('@') && !form.source.contains("@sha256:") {
        form.source.clear();
        errors.insert(
            "source".into(),
            "A user name or password before an image is not kept. Give its reference alone, as in ghcr.io/owner/server:1.2.".into(),
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
