//! What the wizard's server functions share: reading what was typed, and what a draft comes to.

mod change;
mod keys;
mod names;
mod spec;

use std::collections::{BTreeMap, BTreeSet};

use leptos::prelude::expect_context;
use uuid::Uuid;

use super::{Changes, DraftView, suggested_name, without_tag};
pub use crate::app::wire::{caller, done, go};
use crate::deploy::Deployer;
pub use crate::deploy::plans::TARGETS;
use crate::deploy::sources::check_command;
use crate::deploy::sources::variables::looks_like_secret;
use crate::model::actors::Caller;
use crate::model::drafts::{Draft, DraftForm, STEPS};
use crate::model::errors::Refusal;
use crate::model::levels::Level;
use crate::model::paths::EnvName;
use crate::model::secrets::{SecretSort, SecretSummary};
use crate::model::sources::WantedVariable;
pub use crate::store::deployment_checks::source_wrong;
use crate::store::drafts::was_deployed;
use crate::store::{Db, Error};
pub use change::{change, form_from};
#[cfg(test)]
pub use change::{change_of, form_of};
use keys::provider_key;
pub use keys::{NOT_KEPT, find_key, read_target};
pub use names::{
    is_untouched, not_there, paths_to_keep, read_own, read_plain, read_secrets, seal_new,
    secret_rows,
};
pub use spec::spec;

/// Secrets that a wizard lists; its page names the number.
const SECRETS_MAX: i64 = 2_000;

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

/// Opens a draft for a step of the wizard. Errors: `Conflict` once it was deployed.
pub async fn open_to_change(id: Uuid) -> Result<(Db, Caller, Draft), Refusal> {
    let (db, caller, draft) = open(id).await?;
    match draft.deployed_as {
        Some(_) => Err(was_deployed()),
        None => Ok((db, caller, draft)),
    }
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
    let mut known = db
        .secrets_list(&caller, "", SecretSort::Path, SECRETS_MAX)
        .await
        .map_err(Error::into_refusal)?;
    let is_cut = i64::try_from(known.len()).is_ok_and(|listed| listed >= SECRETS_MAX);
    if is_cut {
        find_beyond(&db, &caller, &draft, &mut known).await?;
    }
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
        is_cut,
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

/// Names that are looked up one by one beyond what is listed.
const BEYOND_MAX: usize = 60;
/// Secrets that are looked at for one of them.
const OF_ONE_NAME: i64 = 50;

/// Adds to a list that was cut what the source asks for by name, and what was ticked: neither is missing for lying past the cut.
async fn find_beyond(
    db: &Db,
    caller: &Caller,
    draft: &Draft,
    known: &mut Vec<SecretSummary>,
) -> Result<(), Refusal> {
    for name in names_to_find(draft, known).iter().take(BEYOND_MAX) {
        let found = db
            .secrets_list(caller, name, SecretSort::Path, OF_ONE_NAME)
            .await
            .map_err(Error::into_refusal)?;
        for secret in found {
            let is_new = known.iter().all(|other| other.id != secret.id);
            if is_new && is_meant(draft, &secret) {
                known.push(secret);
            }
        }
    }
    Ok(())
}

/// Whether the source asks for the secret under the name of its path, or it was chosen.
pub fn is_meant(draft: &Draft, secret: &SecretSummary) -> bool {
    let usual = EnvName::default_for(&secret.path);
    let is_wanted = |name: &EnvName| wanted_of(draft).any(|wanted| wanted.name == name.as_str());
    let mut kept = draft.form.secrets.iter();
    usual.is_ok_and(|name| is_wanted(&name)) || kept.any(|kept| kept.id == secret.id)
}

/// By what words to look for them: the names that the source asks for, and those of what was chosen and is not listed.
pub fn names_to_find(draft: &Draft, known: &[SecretSummary]) -> BTreeSet<String> {
    let kept = draft.form.secrets.iter();
    let unlisted = kept.filter(|kept| known.iter().all(|known| known.id != kept.id));
    let unlisted = unlisted.map(|kept| match kept.path.rsplit(['/', ':']).next() {
        Some(name) if !name.is_empty() => name.to_owned(),
        _ => kept.env.clone(),
    });
    let wanted = wanted_of(draft).map(|wanted| wanted.name.clone());
    unlisted.chain(wanted).collect()
}

fn wanted_of(draft: &Draft) -> impl Iterator<Item = &WantedVariable> {
    draft.inspection.iter().flat_map(|found| &found.variables)
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

/// Whether what stands in a field of a source, or as a name, is a secret that slipped into it. Names of packages and
/// branches may begin as tokens do (`key-value-store`, `pypi-query`) and so may be long; they are made of words.
pub fn is_slipped(text: &str) -> bool {
    let text = text.trim();
    let of_words = !text.bytes().any(|b| b.is_ascii_uppercase())
        && text.bytes().filter(u8::is_ascii_digit).count() <= 3;
    looks_like_secret("", text) && !of_words
}

/// What is said at a field of the source step that held what looks like a secret.
const SLIPPED: &str = "That looks like a secret, and whoever sees the deployment can read what stands here. \
    For a private source, store the credential under Secrets and choose it as the fetch key.";

/// Drops what is no part of a source and may be a credential. Returns what to say at which field.
pub fn drop_credentials(form: &mut DraftForm) -> FieldErrors {
    let mut errors = FieldErrors::new();
    form.clear_other_kinds();
    let is_dir = form.source_kind == "dir" && form.source.starts_with('/');
    // 1.2.3 is how versions begin and tokens do not, whatever build they name behind it.
    let is_numbered = form
        .version
        .split_once('.')
        .is_some_and(|(first, _)| !first.is_empty() && first.bytes().all(|b| b.is_ascii_digit()));
    let reference = form.reference.as_str();
    let is_commit =
        matches!(reference.len(), 7..=64) && reference.bytes().all(|b| b.is_ascii_hexdigit());
    for (field, text, is_plain) in [
        ("source", &mut form.source, is_dir),
        ("version", &mut form.version, is_numbered),
        ("reference", &mut form.reference, is_commit),
        ("folder", &mut form.folder, false),
    ] {
        if !is_plain && is_slipped(text) {
            text.clear();
            errors.insert(field.into(), format!("{SLIPPED} {NOT_KEPT}"));
        }
    }
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

/// The name that is suggested for a draft's source.
pub fn name_for(form: &DraftForm) -> String {
    match form.source_kind.as_str() {
        "image" => suggested_name(without_tag(&form.source)),
        _ => suggested_name(&form.source),
    }
}

/// The name goes with the source until the person gives another one. A draft that changes a deployment keeps its name.
pub fn rename(form: &mut DraftForm, before: &DraftForm) {
    let is_suggested = form.name == name_for(before) && form.changes.is_empty();
    if form.name.is_empty() || is_suggested {
        form.name = name_for(form);
    }
}

/// What goes wrong with the draft itself (it is gone, or deployed already) stands above the list of drafts.
pub async fn told(step: impl Future<Output = Result<(), Refusal>>) -> Result<(), Refusal> {
    match step.await {
        Err(refusal) => crate::app::wire::back("/deploy", "draft", refusal, &[]).await,
        done => done,
    }
}
