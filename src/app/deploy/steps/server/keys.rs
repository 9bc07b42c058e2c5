//! The target, and the key with which it is deployed to.

use super::FieldErrors;
use crate::deploy::plans::{TARGETS, read_told};
use crate::deploy::sources::variables::looks_like_secret;
use crate::model::actors::Caller;
use crate::model::drafts::DraftForm;
use crate::model::errors::{Refusal, RefusalKind};
use crate::model::paths::{KeyPath, PATH_LEN_BYTES};
use crate::model::targets::Target;
use crate::store::{Db, Error};
use std::collections::BTreeMap;
use uuid::Uuid;

/// The path of the provider's key: the one that was typed, or the target's usual one. None where there is no provider.
pub(super) fn key_path(form: &DraftForm) -> Option<String> {
    let usual = form.chosen_target()?.key_path()?;
    Some(match form.key.is_empty() {
        true => usual.to_owned(),
        false => form.key.clone(),
    })
}

/// The secret with the provider's key, with the caller's rights; none where there is none in sight.
pub(super) async fn provider_key(
    db: &Db,
    caller: &Caller,
    form: &DraftForm,
) -> Result<Option<Uuid>, Refusal> {
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
pub(super) fn no_key(path: &str) -> String {
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
