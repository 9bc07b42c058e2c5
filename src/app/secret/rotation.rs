//! After how long a value has to be another: for a secret, or for a folder.

use leptos::prelude::*;
use uuid::Uuid;

use super::super::fields::TextField;
use super::super::frame::Folding;
use super::super::times::When;
use super::super::wire::Flash;
use super::FormOf;
use crate::model::errors::Refusal;
use crate::model::levels::Level;
use crate::model::secrets::{Rotation, RotationRule};

#[server(prefix = "/_fn", endpoint = "secret_rotation")]
pub async fn secret_rotation(
    id: Uuid,
    #[server(default)] path: String,
    /// Empty: no rule of its own.
    #[server(default)]
    after_days: String,
    #[server(default)] regenerate: bool,
) -> Result<(), Refusal> {
    use super::super::forms::rotation_rule;
    use super::super::wire::{caller, done};
    use super::{again, own};
    let db = expect_context::<crate::store::Db>();
    let caller = caller().await?;
    let set = async {
        let rule = rotation_rule(&after_days, regenerate)?;
        db.rotation_set(&caller, id, rule).await?;
        Ok::<_, crate::store::Error>(rule)
    };
    match set.await {
        Ok(rule) => done(&own(&caller, &path), said(rule)).await,
        Err(error) => {
            let typed = [("after_days", after_days.as_str())];
            again(&caller, &path, "rotation", error.into_refusal(), &typed).await
        }
    }
}

/// The same for all that stands in a folder.
#[server(prefix = "/_fn", endpoint = "folder_rotation")]
pub async fn folder_rotation(
    #[server(default)] owner: String,
    #[server(default)] under: String,
    #[server(default)] after_days: String,
    #[server(default)] regenerate: bool,
) -> Result<(), Refusal> {
    use super::super::forms::rotation_rule;
    use super::super::secrets::folder_address;
    use super::super::wire::{back, caller, done};
    use crate::model::paths::{Folder, Handle};
    let db = expect_context::<crate::store::Db>();
    let caller = caller().await?;
    let nothing = || Refusal::not_found("folder");
    let (owner, folder) = match (Handle::parse(&owner), Folder::parse(&under)) {
        (Ok(owner), Ok(folder)) => (owner, folder),
        _ => return back("/secrets", "rotation", nothing(), &[]).await,
    };
    let to = folder_address(owner.as_str(), Some(&folder));
    let set = async {
        let rule = rotation_rule(&after_days, regenerate)?;
        db.rotation_set_in(&caller, &owner, &folder, rule).await?;
        Ok::<_, crate::store::Error>(rule)
    };
    match set.await {
        Ok(rule) => done(&to, said(rule)).await,
        Err(error) => {
            let typed = [("after_days", after_days.as_str())];
            let to = format!("{to}#rotation");
            back(&to, "rotation", error.into_refusal(), &typed).await
        }
    }
}

/// How far one reaches in a folder, and the rule of the folder itself.
#[server(prefix = "/_fn", endpoint = "folder_reach")]
pub async fn folder_reach(
    #[server(default)] owner: String,
    #[server(default)] under: String,
) -> Result<(Option<Level>, Option<RotationRule>), Refusal> {
    use crate::model::paths::{Folder, Handle};
    let db = expect_context::<crate::store::Db>();
    let caller = super::super::wire::caller().await?;
    let (Ok(owner), Ok(folder)) = (Handle::parse(&owner), Folder::parse(&under)) else {
        return Ok((None, None));
    };
    let found = async {
        let level = db.folder_level(&caller, &owner, &folder).await?;
        Ok((level, db.rotation_in(&caller, &owner, &folder).await?))
    };
    found.await.map_err(crate::store::Error::into_refusal)
}

#[cfg(feature = "ssr")]
fn said(rule: Option<RotationRule>) -> String {
    match rule {
        None => "It has no rotation of its own now.".to_owned(),
        Some(rule) if rule.regenerate => format!(
            "After {} days a generated value is generated anew; for other values you get a reminder.",
            rule.after_days
        ),
        Some(rule) => format!("After {} days you are reminded here.", rule.after_days),
    }
}

#[component]
pub fn RotationForm(
    form: FormOf,
    flash: Flash,
    rotation: Option<Rotation>,
    open: bool,
) -> impl IntoView {
    let own = rotation
        .as_ref()
        .filter(|rotation| rotation.folder.is_none())
        .map(|rotation| rotation.rule);
    let now = rotation.map(|rotation| {
        let from = rotation
            .folder
            .map(|folder| format!(" The folder {folder} says so."));
        view! {
            <p>
                {format!("A new value is due every {} days, next ", rotation.rule.after_days)} <When at=rotation.due_at /> "." {from}
            </p>
        }
    });
    view! {
        <Folding id="rotation" icon="clock" title="Rotation" open>
            {now}
            <form method="post" action="/_fn/secret_rotation" class="flex flex-col gap-4">
                {form.hidden()}
                <RotationFields flash rule=own />
            </form>
        </Folding>
    }
}

#[component]
pub fn FolderRotationForm(
    owner: String,
    under: String,
    flash: Flash,
    rule: Option<RotationRule>,
) -> impl IntoView {
    let open = !flash.form.is_empty();
    view! {
        <Folding id="rotation" icon="clock" title="Rotation of what is in this folder" open>
            <form method="post" action="/_fn/folder_rotation" class="flex flex-col gap-4">
                <input type="hidden" name="owner" value=owner />
                <input type="hidden" name="under" value=under />
                <RotationFields flash rule />
            </form>
        </Folding>
    }
}

#[component]
fn RotationFields(flash: Flash, rule: Option<RotationRule>) -> impl IntoView {
    let days = if flash.form.is_empty() {
        rule.map(|rule| rule.after_days.to_string())
            .unwrap_or_default()
    } else {
        flash.typed("after_days")
    };
    view! {
        <TextField
            name="after_days"
            label="Due every … days"
            kind="number"
            value=days
            error=flash.error("after_days").or_else(|| flash.error(""))
            hint="What is due stands on the first page. Empty: no rule here."
        />
        <label class="flex min-h-6 items-start gap-2">
            <input type="checkbox" class="checkbox mt-0.5" name="regenerate" value="true" checked=rule.is_some_and(|rule| rule.regenerate) />
            <span>
                "If Sealport generated the value, generate it anew by itself, and redeploy what runs with it. For other values you get a reminder."
            </span>
        </label>
        <div>
            <button class="btn btn-primary">"Save"</button>
        </div>
    }
}
