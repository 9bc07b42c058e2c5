//! A new value in place of the old one.

use leptos::prelude::*;
use time::OffsetDateTime;
use uuid::Uuid;

use super::super::fields::TextField;
use super::super::frame::Folding;
use super::super::times::day;
use super::super::value_field::{GenerateUnseen, ValueField, value_error};
use super::super::wire::{Flash, Typed};
use super::FormOf;
use crate::model::errors::Refusal;
use crate::model::secrets::SecretSummary;

#[server(prefix = "/_fn", endpoint = "secret_replace")]
pub async fn secret_replace(
    id: Uuid,
    #[server(default)] path: String,
    /// The version that the person saw.
    expected: i32,
    #[server(default)] value: Typed,
    #[server(default)] generate: bool,
    /// The day of its end, where the form has it, and as the person saw it.
    expires: Option<String>,
    #[server(default)] expires_was: String,
) -> Result<(), Refusal> {
    use super::super::forms::{moved_expiry, new_value};
    use super::super::wire::{Flash, caller, go};
    use super::{SEALED, again, own};
    let db = expect_context::<crate::store::Db>();
    let caller = caller().await?;
    let replaced = async {
        let value = new_value(value, generate)?;
        let end = match &expires {
            Some(expires) => moved_expiry(expires, &expires_was)?,
            None => None,
        };
        db.secret_renew(&caller, id, expected, value, end).await
    };
    match replaced.await {
        Ok(renewed) => {
            let flash = Flash {
                notice: Some(format!("Version {}. {SEALED}", renewed.version)),
                notes: renewed.notes,
                ..Flash::default()
            };
            go(&own(&caller, &path), flash).await
        }
        Err(error) => {
            let typed = [("expires", expires.as_deref().unwrap_or_default())];
            again(&caller, &path, "replace", error.into_refusal(), &typed).await
        }
    }
}

#[component]
pub fn Replace(
    form: FormOf,
    flash: Flash,
    secret: SecretSummary,
    now: OffsetDateTime,
    open: bool,
) -> impl IntoView {
    // A new value usually has an end of its own; an old one that is past would keep it from being used.
    let end = secret.expires_at.map(|at| {
        let past = at <= now;
        let (kept, hint) = if past {
            let hint = format!(
                "It expired on {}. Empty: the new value does not expire.",
                day(at)
            );
            (String::new(), hint)
        } else {
            (
                day(at),
                "Move it with the new value, or leave it. Empty: it does not expire.".to_owned(),
            )
        };
        let was = kept.clone();
        let value = if flash.form.is_empty() {
            kept
        } else {
            flash.typed("expires")
        };
        view! {
            <input type="hidden" name="expires_was" value=was />
            <TextField
                name="expires"
                id="replace-expires"
                label="Expires on"
                kind="date"
                value
                error=flash.error("expires_at")
                hint
            />
        }
    });
    view! {
        <Folding id="replace" icon="replace" title="Replace the value" open>
            <p class="text-dim">
                "Makes version " {secret.version + 1} ". Running deployments keep the old one until they are redeployed."
            </p>
            <form method="post" action="/_fn/secret_replace" class="flex flex-col gap-4">
                {form.hidden()}
                <input type="hidden" name="expected" value=secret.version />
                <ValueField id="replace-value" label="New value" error=value_error(&flash) generate=true />
                {end}
                <div class="flex flex-wrap gap-2">
                    <button class="btn btn-primary">"Seal and replace"</button>
                    <GenerateUnseen />
                </div>
            </form>
        </Folding>
    }
}
