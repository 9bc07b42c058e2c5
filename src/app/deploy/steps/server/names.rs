//! The secrets step: what is bound to which variable, what callers bring, plain text, and secrets that are made on the spot.

use super::super::{SECRETS_FORM, SecretRow};
use super::{FieldErrors, NOT_KEPT, note, typed_name};
use crate::app::wire::{Flash, Typed};
use crate::deploy::sources::variables::{is_secret_name, looks_like_secret};
use crate::model::actors::Caller;
use crate::model::drafts::{Draft, DraftForm, DraftPlain, DraftSecret};
use crate::model::errors::{Refusal, RefusalKind};
use crate::model::paths::{EnvName, PATH_LEN_BYTES, SecretPath};
use crate::model::secrets::{Kind, SecretSummary};
use crate::model::sources::WantedVariable;
use crate::store::deployment_checks::per_user_wrong;
use crate::store::secrets::{NewSecret, NewValue};
use crate::store::{Db, Error};
use secrecy::ExposeSecret;
use std::collections::BTreeMap;

/// Secrets that are made on the spot at once.
const NEW_SECRETS_MAX: usize = 60;

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
                let says = match refusal.kind {
                    RefusalKind::Taken => format!(
                        "{path} is stored already, and was not changed. Tick it below, or give this one another path. The value was not kept."
                    ),
                    _ => refusal.detail,
                };
                let field = refusal.field.unwrap_or_default();
                flash.errors.insert(format!("add.{env}.{field}"), says);
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
        let asked = wanted.iter().find(|wanted| wanted.name == name);
        // What was offered and left empty binds nothing. Under a name of one's own, an empty text is meant.
        if text.is_empty() && (name.is_empty() || asked.is_some()) {
            continue;
        }
        // Kept plain only where the person was asked about just this variable, or said so of it already.
        let is_asked = |old: &DraftPlain| {
            old.env == name && (old.kept_plain || old.text.is_empty() || old.text == *text)
        };
        let kept_plain = keep.contains_key(row) && before.iter().any(is_asked);
        let suspicious = asked.is_some_and(|asked| asked.secret)
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
