//! Ending an account: what ends with it, and who gets what it owned.

use leptos::prelude::*;
use leptos_router::hooks::use_params_map;
use uuid::Uuid;

use super::fields::TextField;
use super::frame::{Here, Page, Section, page};
use super::wire::{Flash, page_open};
use crate::model::errors::Refusal;
use crate::model::users::Ending;

#[server(prefix = "/_fn", endpoint = "account_ending")]
pub async fn account_ending(handle: String) -> Result<Ending, Refusal> {
    use crate::model::paths::Handle;
    let db = expect_context::<crate::store::Db>();
    let caller = super::wire::caller().await?;
    let handle = Handle::parse(&handle).map_err(|_| Refusal::not_found("person"))?;
    db.account_ending(&caller, &handle, None)
        .await
        .map_err(crate::store::Error::into_refusal)
}

#[server(prefix = "/_fn", endpoint = "account_end")]
pub async fn account_end(
    id: Uuid,
    #[server(default)] handle: String,
    /// Who gets what it owns: a handle.
    #[server(default)]
    heir: String,
    /// The handle, typed again.
    #[server(default)]
    confirm: String,
    /// The heir of whom it was shown whom their folders let in.
    #[server(default)]
    sure: String,
) -> Result<(), Refusal> {
    use super::wire::{back, confirmed_with, done};
    use crate::model::paths::Handle;
    let db = expect_context::<crate::store::Db>();
    let named = heir.trim();
    let mut typed = [
        ("heir", heir.as_str()),
        ("confirm", confirm.as_str()),
        ("sure", sure.as_str()),
    ];
    let caller = confirmed_with("end", &typed).await?;
    let mut shown = false;
    let ended = async {
        if handle.is_empty() || confirm.trim() != handle {
            return Err(Refusal::invalid(
                "confirm",
                "That is not the handle of this account. Nothing was ended.",
            )
            .into());
        }
        let heir = match named {
            "" => None,
            named => Some(Handle::parse(named).map_err(|refusal| refusal.at("heir"))?),
        };
        if let Some(heir) = heir.as_ref().filter(|heir| heir.as_str() != sure)
            && let Ok(whose) = Handle::parse(&handle)
            // What else is wrong is said, and put on record, by the ending itself.
            && let Ok(ending) = db.account_ending(&caller, &whose, Some(heir)).await
            && !ending.let_in.is_empty()
        {
            shown = true;
            let told = format!(
                "Folders that {heir} shares cover some of what comes, and let these in to it: {}. Nothing was ended yet. Press the \
                 button again to do it.",
                ending.let_in
            );
            return Err(Refusal::invalid("heir", told).into());
        }
        db.account_end(&caller, id, heir.as_ref()).await
    };
    match ended.await {
        Ok(()) => {
            let notice = match named {
                "" => format!("The account {handle} has ended."),
                heir => format!("The account {handle} has ended. What it owned is {heir}’s now."),
            };
            done("/people", notice).await
        }
        Err(error) => {
            let to = match Handle::parse(&handle) {
                Ok(handle) => format!("/people/{handle}/end"),
                Err(_) => "/people".to_owned(),
            };
            typed[2].1 = if shown { named } else { "" };
            back(&to, "end", error.into_refusal(), &typed).await
        }
    }
}

#[component]
pub fn AccountEndPage() -> impl IntoView {
    let handle = use_params_map()
        .get_untracked()
        .get("handle")
        .unwrap_or_default();
    page(Here::People, async move {
        let ending = account_ending(handle).await?;
        let opened = page_open().await?;
        let flash = opened.flash_of("end");
        Ok(view! {
            <Page
                opened
                here=Here::People
                title=format!("End the account of {}", ending.email)
                crumbs=vec![("People".to_owned(), "/people".to_owned())]
            >
                <Section title="What ends" id="ends">
                    <ul class="flex max-w-prose list-disc flex-col gap-1.5 ps-5">
                        <li>"Their sessions and tokens: from the next request on they open nothing. They cannot sign in any more."</li>
                        <li>"Their places in teams, what was granted to them, and what they granted on whole folders."</li>
                        <li>"Nothing is forgotten: the record stays, and nobody else gets the handle."</li>
                    </ul>
                </Section>
                <Owned ending=ending.clone() flash />
            </Page>
        })
    })
}

#[component]
fn Owned(ending: Ending, flash: Flash) -> impl IntoView {
    let Ending {
        secrets,
        deployments,
        handle,
        rules_lost,
        ..
    } = ending.clone();
    let hindered = ending.last_administrator || !ending.last_admin_of.is_empty();
    let owns = secrets + deployments > 0;
    view! {
        {ending
            .last_administrator
            .then(|| {
                view! {
                    <p role="alert" class="alert alert-error alert-soft">
                        "This is the last administrator. Make somebody else one first."
                    </p>
                }
            })}
        {(!ending.last_admin_of.is_empty())
            .then(|| {
                view! {
                    <p role="alert" class="alert alert-error alert-soft">
                        {format!(
                            "Nobody else administers {}. Somebody there has to become an admin, or the team has to end, first.",
                            ending.last_admin_of.join(", "),
                        )}
                    </p>
                }
            })}
        {(!hindered)
            .then(|| {
                view! {
                    <Section title="What it owns" id="owns">
                        <p>
                            {match owns {
                                true => format!("Secrets: {secrets}. Deployments: {deployments}. All of it goes to one user or team, in one step."),
                                false => "No secrets and no deployments.".to_owned(),
                            }}
                        </p>
                        {owns
                            .then(|| {
                                view! {
                                    <p class="max-w-prose text-dim">
                                        "Whoever you name owns it from then on: they can bind, compare and read the values, by a token or the command line, and read the logs, as with their own. \
                                         An administrator comes to it only by naming themselves. It stands in the record of both accounts. Deployments go on running; at their next start the new owner needs use of every secret \
                                         that others had shared with them."
                                    </p>
                                    <p class="max-w-prose text-dim">
                                        "Folders that the new owner shares cover what comes into them. Who would be let in is said first, and the button then has to be pressed again."
                                    </p>
                                }
                            })}
                        {(!rules_lost.is_empty())
                            .then(|| {
                                view! {
                                    <p class="max-w-prose">
                                        {format!(
                                            "Rules of rotation on these folders do not go with what is in them: {rules_lost}. The new owner sets them anew.",
                                        )}
                                    </p>
                                }
                            })}
                        <form method="post" action="/_fn/account_end" class="flex max-w-md flex-col gap-4">
                            <input type="hidden" name="id" value=ending.id.to_string() />
                            <input type="hidden" name="handle" value=handle.clone() />
                            <input type="hidden" name="sure" value=flash.typed("sure") />
                            {owns
                                .then(|| {
                                    view! {
                                        <TextField
                                            name="heir"
                                            label="Hand everything over to"
                                            code=true
                                            required=true
                                            maxlength=39
                                            value=flash.typed("heir")
                                            error=flash.error("heir")
                                            hint="The handle of a user or a team."
                                        />
                                    }
                                })}
                            <TextField
                                name="confirm"
                                label=format!("Type {handle} to confirm")
                                code=true
                                required=true
                                value=flash.typed("confirm")
                                error=flash.error("confirm")
                            />
                            <div>
                                <button class="btn btn-error">"End this account"</button>
                            </div>
                        </form>
                    </Section>
                }
            })}
    }
}
