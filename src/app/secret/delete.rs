//! The end of a secret.

use leptos::prelude::*;
use uuid::Uuid;

use super::super::fields::TextField;
use super::super::frame::Folding;
use super::super::wire::Flash;
use super::FormOf;
use super::used_by::Names;
use crate::model::errors::Refusal;
use crate::model::secrets::SecretSummary;

#[server(prefix = "/_fn", endpoint = "secret_delete")]
pub async fn secret_delete(
    id: Uuid,
    #[server(default)] path: String,
    /// The path, typed again.
    #[server(default)]
    confirm: String,
) -> Result<(), Refusal> {
    use super::super::wire::{caller, done};
    use super::{again, bare, folder_of};
    let db = expect_context::<crate::store::Db>();
    let caller = caller().await?;
    let deleted = async {
        if path.is_empty() || confirm.trim() != bare(&path) {
            return Err(Refusal::invalid(
                "confirm",
                "That is not this secret's path. Nothing was deleted.",
            )
            .into());
        }
        db.secret_delete(&caller, id, None).await
    };
    match deleted.await {
        Ok(()) => {
            let notice = format!("Deleted {}.", bare(&path));
            done(&folder_of(&caller, &path), notice).await
        }
        Err(error) => {
            let typed = [("confirm", confirm.as_str())];
            again(&caller, &path, "delete", error.into_refusal(), &typed).await
        }
    }
}

#[component]
pub fn Delete(form: FormOf, flash: Flash, secret: SecretSummary, open: bool) -> impl IntoView {
    view! {
        <Folding id="delete" icon="trash" title="Delete" danger=true open>
            <p>
                {match secret.version {
                    1 => "Deletes the value.".to_owned(),
                    count => format!("Deletes all {count} versions of the value."),
                }}
                " It cannot be brought back. The record of who used it stays."
            </p>
            {secret.deployments().is_empty().then(|| view! { <p>"No deployment uses it."</p> })}
            {(!secret.used_by.is_empty())
                .then(|| {
                    view! {
                        <div>
                            <p>"These deployments use it. They run on until their next start, which fails and says why:"</p>
                            <Names deployments=secret.used_by.clone() />
                        </div>
                    }
                })}
            {(!secret.fetched_by.is_empty())
                .then(|| {
                    view! {
                        <div>
                            <p>
                                "These deployments fetch their code with it. What is installed goes on, and starts again. Where it has to be fetched anew, that is tried without a key, and fails for a private source:"
                            </p>
                            <Names deployments=secret.fetched_by.clone() />
                        </div>
                    }
                })}
            <form method="post" action="/_fn/secret_delete" class="flex flex-col gap-4">
                {form.hidden()}
                <TextField
                    name="confirm"
                    label=format!("Type {} to confirm", form.path)
                    code=true
                    required=true
                    value=flash.typed("confirm")
                    error=flash.error("confirm").or_else(|| flash.error(""))
                />
                <div>
                    <button class="btn btn-error">"Delete this secret"</button>
                </div>
            </form>
        </Folding>
    }
}
