//! Signing in, and the first administrator's welcome. The forms are answered by `doors/web`, which owns sessions.

use leptos::prelude::*;
use leptos_router::hooks::use_query_map;

use super::fields::TextField;
use super::frame::{Outside, Words};
use super::wire::flash_take;
use crate::model::users::PASSWORD_MIN_CHARS;

#[component]
pub fn SignInPage() -> impl IntoView {
    let next = use_query_map()
        .get_untracked()
        .get("next")
        .unwrap_or_default();
    Suspend::new(async move {
        let flash = flash_take().await.unwrap_or_default();
        view! {
            <Outside title="Sign in">
                <Words flash=flash.clone() />
                <form method="post" action="/sign-in" class="flex flex-col gap-4">
                    <input type="hidden" name="next" value=next />
                    <TextField
                        name="email"
                        label="E-mail"
                        kind="email"
                        autocomplete="username"
                        required=true
                        autofocus=flash.typed("email").is_empty()
                        value=flash.typed("email")
                        error=flash.error("email")
                    />
                    <TextField
                        name="password"
                        label="Password"
                        kind="password"
                        autocomplete="current-password"
                        required=true
                        autofocus=!flash.typed("email").is_empty()
                        error=flash.error("password")
                    />
                    <button class="btn btn-primary">"Sign in"</button>
                </form>
                <p class="text-sm text-dim">"No account, or no way in? The person who runs this Sealport can add you."</p>
            </Outside>
        }
    })
}

/// Opened from the one-time link; the POST burns it.
#[component]
pub fn WelcomePage() -> impl IntoView {
    Suspend::new(async move {
        let flash = flash_take().await.unwrap_or_default();
        view! {
            <Outside title="Make the first administrator">
                <p class="text-dim">"This link works once, for an hour after the server’s start. The account you make runs this Sealport."</p>
                <Words flash=flash.clone() />
                // Without an action it is sent to this page's own address, which holds the link.
                <form method="post" class="flex flex-col gap-4">
                    <TextField
                        name="email"
                        label="E-mail"
                        kind="email"
                        autocomplete="username"
                        required=true
                        autofocus=flash.typed("email").is_empty()
                        value=flash.typed("email")
                        error=flash.error("email")
                        hint="You sign in with it. The part before the @ becomes your handle."
                    />
                    <TextField
                        name="password"
                        label="Password"
                        kind="password"
                        autocomplete="new-password"
                        required=true
                        autofocus=!flash.typed("email").is_empty()
                        minlength=PASSWORD_MIN_CHARS
                        error=flash.error("password")
                        hint="At least 12 characters; several words are fine."
                    />
                    <button class="btn btn-primary">"Make the account and sign in"</button>
                </form>
            </Outside>
        }
    })
}
