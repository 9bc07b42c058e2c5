//! All but the value: one form, and the switch.

use leptos::prelude::*;
use uuid::Uuid;

use super::super::fields::{SelectField, TextField};
use super::super::frame::Folding;
use super::super::secret_new::{TAGS_HINT, kind_options};
use super::super::times::day;
use super::super::wire::Flash;
use super::FormOf;
use crate::model::errors::Refusal;
use crate::model::levels::Level;
use crate::model::secrets::{DESCRIPTION_LEN_CHARS, SecretSummary};

#[server(prefix = "/_fn", endpoint = "secret_edit")]
#[allow(clippy::too_many_arguments)] // One argument a field of the form.
pub async fn secret_edit(
    id: Uuid,
    #[server(default)] path: String,
    /// The path as it shall be.
    #[server(default)]
    rename: String,
    #[server(default)] kind: String,
    #[server(default)] description: String,
    #[server(default)] tags: String,
    #[server(default)] expires: String,
    /// As the person saw it.
    #[server(default)]
    expires_was: String,
    /// The new path whose effect on others was shown.
    #[server(default)]
    sure: String,
) -> Result<(), Refusal> {
    use super::super::forms::{moved_expiry, trimmed};
    use super::super::wire::{caller, confirmed_with, done};
    use super::{again, bare, beside, own, to_be_sure};
    use crate::model::paths::{SecretPath, Tag};
    use crate::model::secrets::Kind;
    use crate::store::secrets::SecretEdit;
    let db = expect_context::<crate::store::Db>();
    let caller = caller().await?;
    let rename = rename.trim().to_owned();
    let description = trimmed(&description);
    let typed = [
        ("path", rename.as_str()),
        ("sure", rename.as_str()),
        ("kind", kind.as_str()),
        ("description", description.as_str()),
        ("tags", tags.as_str()),
        ("expires", expires.as_str()),
    ];
    let new_path = SecretPath::parse(&rename);
    let lets_in = async {
        let Some(new_path) = new_path
            .as_ref()
            .ok()
            .filter(|new| new.as_str() != bare(&path))
        else {
            return Ok(false);
        };
        let effect = db.rename_effect(&caller, id, new_path).await?;
        match to_be_sure(&effect) {
            Some(refusal) if new_path.as_str() != sure => Err(refusal.into()),
            _ => Ok(effect.iter().any(|change| change.after > change.before)),
        }
    };
    let edited = async {
        let edit = SecretEdit {
            path: Some(new_path.clone()?).filter(|new| new.as_str() != bare(&path)),
            kind: Kind::from_name(&kind),
            description: Some(description.clone()),
            tags: Some(Tag::parse_all(&tags)?),
            expires_at: moved_expiry(&expires, &expires_was)?,
            active: None,
            expected: None,
        };
        db.secret_edit(&caller, id, edit).await
    };
    let saved = match lets_in.await {
        Ok(lets_in) => {
            // As sharing asks: it gives others what they had not.
            if lets_in {
                confirmed_with("details", &typed).await?;
            }
            edited.await
        }
        Err(error) => Err(error),
    };
    match saved {
        Ok(()) => done(&own(&caller, &beside(&path, &rename)), "Saved.").await,
        Err(error) => again(&caller, &path, "details", error.into_refusal(), &typed).await,
    }
}

#[server(prefix = "/_fn", endpoint = "secret_switch")]
pub async fn secret_switch(
    id: Uuid,
    #[server(default)] path: String,
    #[server(default)] on: bool,
) -> Result<(), Refusal> {
    use super::super::wire::{caller, done};
    use super::{again, own};
    use crate::store::secrets::SecretEdit;
    let db = expect_context::<crate::store::Db>();
    let caller = caller().await?;
    let edit = SecretEdit {
        active: Some(on),
        ..SecretEdit::default()
    };
    let notice = if on {
        "Switched on. Deployments can use it again."
    } else {
        "Switched off. A deployment that binds it says so at its next start."
    };
    match db.secret_edit(&caller, id, edit).await {
        Ok(()) => done(&own(&caller, &path), notice).await,
        Err(error) => again(&caller, &path, "switch", error.into_refusal(), &[]).await,
    }
}

#[component]
pub fn Details(form: FormOf, flash: Flash, secret: SecretSummary, open: bool) -> impl IntoView {
    let was = !flash.form.is_empty();
    let typed = flash.clone();
    let or = move |name: &str, now: String| if was { typed.typed(name) } else { now };
    let words: Vec<&str> = secret.tags.iter().map(|tag| tag.as_str()).collect();
    let tags = words.join(" ");
    view! {
        <Folding id="details" icon="edit" title="Edit details" open>
            <form method="post" action="/_fn/secret_edit" class="flex flex-col gap-4">
                {form.hidden()}
                <input type="hidden" name="sure" value=flash.typed("sure") />
                {if secret.level == Level::Admin {
                    view! {
                        <TextField
                            name="rename"
                            label="Path"
                            code=true
                            required=true
                            maxlength=255
                            value=or("path", form.path.clone())
                            error=flash.error("path")
                            hint="Deployments that use it keep using it after a rename. What is shared with its folder goes by the path. To another folder it takes admin of that one."
                        />
                    }
                        .into_any()
                } else {
                    view! { <input type="hidden" name="rename" value=form.path.clone() /> }.into_any()
                }}
                <div class="grid gap-4 sm:grid-cols-2">
                    <SelectField
                        name="kind"
                        label="Kind"
                        options=kind_options()
                        value=or("kind", secret.kind.as_str().to_owned())
                        error=flash.error("kind")
                    />
                    <TextField
                        name="expires"
                        label="Expires on"
                        kind="date"
                        value=or("expires", secret.expires_at.map(day).unwrap_or_default())
                        error=flash.error("expires_at")
                        hint="It is usable until this day ends in UTC."
                    />
                    <input type="hidden" name="expires_was" value=secret.expires_at.map(day).unwrap_or_default() />
                </div>
                <TextField
                    name="tags"
                    label="Tags"
                    code=true
                    maxlength=1_000
                    value=or("tags", tags)
                    error=flash.error("tags")
                    hint=TAGS_HINT
                />
                <TextField
                    name="description"
                    label="Description"
                    maxlength=DESCRIPTION_LEN_CHARS
                    value=or("description", secret.description.clone())
                    error=flash.error("description")
                />
                <div>
                    <button class="btn btn-primary">"Save"</button>
                </div>
            </form>
        </Folding>
    }
}
