//! Invitations and reset links, as administrators make them. Each is shown once, to its maker.

use leptos::prelude::*;
use uuid::Uuid;

use super::fields::TextField;
use super::frame::Section;
use super::icons::Icon;
use super::islands::copy::Copy;
use super::times::When;
use super::wire::Flash;
use crate::model::errors::Refusal;
use crate::model::users::Invitation;

#[server(prefix = "/_fn", endpoint = "invitations")]
pub async fn invitations() -> Result<Vec<Invitation>, Refusal> {
    let db = expect_context::<crate::store::Db>();
    let caller = super::wire::caller().await?;
    db.invitations_list(&caller)
        .await
        .map_err(crate::store::Error::into_refusal)
}

#[server(prefix = "/_fn", endpoint = "invitation_make")]
pub async fn invitation_make(
    #[server(default)] email: String,
    #[server(default)] administrator: bool,
) -> Result<(), Refusal> {
    use super::wire::{back, confirmed_with};
    use crate::model::users::Email;
    let db = expect_context::<crate::store::Db>();
    let typed = [
        ("email", email.as_str()),
        ("administrator", if administrator { "true" } else { "" }),
    ];
    let caller = confirmed_with("invite", &typed).await?;
    let made = async {
        let address = Email::parse(&email)?;
        db.invitation_make(&caller, &address, administrator).await
    };
    match made.await {
        Ok(link) => super::forms::show_link(&caller, "invitation", link).await,
        Err(error) => back("/people#invite", "invite", error.into_refusal(), &typed).await,
    }
}

#[server(prefix = "/_fn", endpoint = "invitation_withdraw")]
pub async fn invitation_withdraw(id: Uuid) -> Result<(), Refusal> {
    use super::wire::{back, caller, done};
    let db = expect_context::<crate::store::Db>();
    let caller = caller().await?;
    match db.invitation_withdraw(&caller, id).await {
        Ok(()) => done("/people", "Withdrawn. Its link opens nothing from now on.").await,
        Err(error) => back("/people", "people", error.into_refusal(), &[]).await,
    }
}

#[server(prefix = "/_fn", endpoint = "reset_make")]
pub async fn reset_make(id: Uuid) -> Result<(), Refusal> {
    use super::wire::{back, confirmed};
    let db = expect_context::<crate::store::Db>();
    let caller = confirmed().await?;
    match db.reset_make(&caller, id).await {
        Ok(link) => super::forms::show_link(&caller, "reset", link).await,
        Err(error) => back("/people", "people", error.into_refusal(), &[]).await,
    }
}

/// The link that was just made.
#[component]
pub fn NewLink(link: Option<String>) -> impl IntoView {
    link.map(|link| {
        let holds = if link.contains("/reset/") {
            "It sets the password of that person, once, within an hour, and then ends all their sessions."
        } else {
            "It makes one account, once, within 72 hours."
        };
        view! {
            <div class="alert alert-success alert-soft flex-wrap" role="status" id="link" data-copy="">
                <Icon name="check" />
                <div class="min-w-0">
                    <p class="font-semibold">"Copy the link now. It cannot be shown again."</p>
                    <code class="break-all font-mono select-all" data-copy-from="">
                        {link}
                    </code>
                    <p class="mt-1 max-w-prose">
                        {holds}
                        " Sealport sends no e-mail: whoever you hand it to can use it, so hand it to that person alone."
                    </p>
                </div>
                <Copy />
            </div>
        }
    })
}

#[component]
pub fn Invite(flash: Flash) -> impl IntoView {
    let administrator = !flash.typed("administrator").is_empty();
    view! {
        <Section title="Add someone" id="invite">
            <p class="max-w-prose">
                "An invitation is a link that makes one account, for the address that you name. It holds 72 hours, and is shown to you once: \
                 Sealport sends no e-mail, so you hand it to the person yourself."
            </p>
            <form method="post" action="/_fn/invitation_make" class="flex max-w-md flex-col gap-4">
                <TextField
                    name="email"
                    label="E-mail"
                    kind="email"
                    required=true
                    maxlength=254
                    value=flash.typed("email")
                    error=flash.error("email")
                    hint="They sign in with it. The part before the @ becomes their handle."
                />
                <label class="flex min-h-6 items-center gap-2">
                    <input type="checkbox" class="checkbox" name="administrator" value="true" checked=administrator />
                    "As an administrator, who looks after accounts too"
                </label>
                <div>
                    <button class="btn btn-primary">"Make an invitation"</button>
                </div>
            </form>
            <details>
                <summary class="cursor-pointer text-sm">"From the command line"</summary>
                <div class="mt-2 flex flex-col gap-2">
                    <p class="max-w-prose text-sm">
                        "On the machine that Sealport runs on, as the user that it runs as and with its configuration. The command asks for \
                         the password, or reads it from a pipe. Add " <code>"--admin"</code> " for an administrator."
                    </p>
                    <div data-copy="" class="flex flex-wrap items-center gap-2">
                        <code data-copy-from="" class="break-all rounded-field bg-base-200 px-3 py-1.5 font-mono">
                            "sealport user add name@example.org --password-stdin"
                        </code>
                        <Copy />
                    </div>
                </div>
            </details>
        </Section>
    }
}

/// Invitations that nobody has used yet.
#[component]
pub fn Links(open: Vec<Invitation>) -> impl IntoView {
    (!open.is_empty()).then(|| {
        view! {
            <Section title="Open invitations" id="invitations">
                <ul class="flex flex-col divide-y divide-base-300">
                    {open
                        .into_iter()
                        .map(|invitation| {
                            view! {
                                <li class="flex flex-wrap items-center gap-x-5 gap-y-2 py-2.5">
                                    <div class="min-w-0 flex-1 basis-64">
                                        <div class="flex flex-wrap items-center gap-2">
                                            <strong class="break-all">{invitation.email.clone()}</strong>
                                            {invitation
                                                .as_administrator
                                                .then(|| view! { <span class="badge badge-sm">"Administrator"</span> })}
                                        </div>
                                        <p class="text-sm text-dim">
                                            "Made by " {invitation.made_by} " " <When at=invitation.created_at /> ", ends "
                                            <When at=invitation.expires_at />
                                        </p>
                                    </div>
                                    <form method="post" action="/_fn/invitation_withdraw">
                                        <input type="hidden" name="id" value=invitation.id.to_string() />
                                        <button class="btn btn-sm" aria-label=format!("Withdraw the invitation of {}", invitation.email)>
                                            "Withdraw"
                                        </button>
                                    </form>
                                </li>
                            }
                        })
                        .collect_view()}
                </ul>
            </Section>
        }
    })
}
