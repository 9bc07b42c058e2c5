//! What one-time links open: an invitation and a new password. A GET shows the form; its POST burns the link. The forms are answered
//! by `doors/web`, which owns sessions.

use leptos::prelude::*;
use leptos_router::hooks::use_params_map;

use super::fields::TextField;
use super::frame::{Outside, Words};
use super::wire::{Flash, flash_take};
use crate::model::errors::Refusal;
use crate::model::users::{LinkSays, PASSWORD_MIN_CHARS};

/// What an invitation says, if it holds; a look burns nothing.
#[server(prefix = "/_fn", endpoint = "invitation_open")]
pub async fn invitation_open(link: String) -> Result<Option<LinkSays>, Refusal> {
    let db = expect_context::<crate::store::Db>();
    db.invitation_open(&link.into())
        .await
        .map_err(crate::store::Error::into_refusal)
}

/// Whose password a reset link sets, if it holds; a look burns nothing.
#[server(prefix = "/_fn", endpoint = "reset_open")]
pub async fn reset_open(link: String) -> Result<Option<LinkSays>, Refusal> {
    let db = expect_context::<crate::store::Db>();
    db.reset_open(&link.into())
        .await
        .map_err(crate::store::Error::into_refusal)
}

fn link_of_page() -> String {
    use_params_map()
        .get_untracked()
        .get("link")
        .unwrap_or_default()
}

#[component]
pub fn InvitationPage() -> impl IntoView {
    let link = link_of_page();
    Suspend::new(async move {
        let says = invitation_open(link).await.unwrap_or_default();
        let flash = flash_take().await.unwrap_or_default();
        view! {
            <Outside title="You are invited">
                {match says {
                    Some(says) => {
                        view! {
                            <p class="text-dim">
                                {if says.as_administrator {
                                    "Choose a password, and you have an account here, as an administrator."
                                } else {
                                    "Choose a password, and you have an account here."
                                }} " This link works once."
                            </p>
                            <NewPassword says flash button="Make the account and sign in" />
                        }
                            .into_any()
                    }
                    None => view! { <Spent flash /> }.into_any(),
                }}
            </Outside>
        }
    })
}

#[component]
pub fn ResetPage() -> impl IntoView {
    let link = link_of_page();
    Suspend::new(async move {
        let says = reset_open(link).await.unwrap_or_default();
        let flash = flash_take().await.unwrap_or_default();
        view! {
            <Outside title="Set a new password">
                {match says {
                    Some(says) => {
                        view! {
                            <p class="text-dim">
                                "This link works once, for an hour after it was made. Where you are signed in now, you are signed out."
                            </p>
                            <NewPassword says flash button="Set the password and sign in" />
                        }
                            .into_any()
                    }
                    None => view! { <Spent flash /> }.into_any(),
                }}
            </Outside>
        }
    })
}

#[component]
fn NewPassword(says: LinkSays, flash: Flash, button: &'static str) -> impl IntoView {
    view! {
        <Words flash=flash.clone() />
        // Without an action it is sent to this page's own address, which holds the link.
        <form method="post" class="flex flex-col gap-4">
            <div class="flex flex-col gap-1">
                <label class="font-medium" for="email">
                    "E-mail"
                </label>
                // Tells a password manager whose password this is.
                <input
                    class="input w-full"
                    id="email"
                    type="email"
                    autocomplete="username"
                    value=says.email
                    readonly
                    aria-describedby=flash.error("email").map(|_| "email-error")
                />
                {flash.error("email").map(|error| view! { <p class="text-sm text-error" id="email-error">{error}</p> })}
            </div>
            <TextField
                name="password"
                label="Password"
                kind="password"
                autocomplete="new-password"
                required=true
                autofocus=true
                minlength=PASSWORD_MIN_CHARS
                error=flash.error("password")
                hint="At least 12 characters; several words are fine."
            />
            <button class="btn btn-primary">{button}</button>
        </form>
    }
}

/// A link that opens nothing says the same whatever it was.
#[component]
fn Spent(flash: Flash) -> impl IntoView {
    view! {
        <Words flash />
        <p>"This link opens nothing: it was used or withdrawn, or is too old. Ask the administrator who gave it to you for another."</p>
        <a class="btn" href="/sign-in">
            "To the sign-in"
        </a>
    }
}
