//! The password asked for again, before what gives power away. The form is answered by `doors/web`.

use leptos::prelude::*;
use leptos_router::hooks::use_query_map;

use super::fields::TextField;
use super::frame::{Here, Page, Section, page};
use super::wire::page_open;
use crate::model::users::CONFIRMED_MINUTES;

#[component]
pub fn ConfirmPage() -> impl IntoView {
    let next = use_query_map()
        .get_untracked()
        .get("next")
        .unwrap_or_default();
    page(Here::Settings, async move {
        let opened = page_open().await?;
        let flash = opened.flash_of("confirm");
        let email = opened.email.clone();
        Ok(view! {
            <Page opened here=Here::Settings title="Is it you?">
                <Section title="Your password again" id="confirm">
                    <p class="max-w-prose">
                        {format!(
                            "What you are about to do gives power to somebody, takes it away or destroys for good, and you typed your password more than \
                             {CONFIRMED_MINUTES} minutes ago. Afterwards you are back where you were, and press the button once more.",
                        )}
                    </p>
                    <form method="post" action="/confirm" class="flex max-w-sm flex-col gap-4">
                        // Tells a password manager whose password this is.
                        <input type="email" class="hidden" autocomplete="username" value=email readonly tabindex="-1" aria-hidden="true" />
                        <input type="hidden" name="next" value=next />
                        <TextField
                            name="password"
                            label="Password"
                            kind="password"
                            autocomplete="current-password"
                            required=true
                            autofocus=true
                            error=flash.error("password")
                        />
                        <div>
                            <button class="btn btn-primary">"Go on"</button>
                        </div>
                    </form>
                </Section>
            </Page>
        })
    })
}
