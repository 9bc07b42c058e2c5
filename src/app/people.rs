//! Who has an account. Invitations come later; the operator adds people for now.

use leptos::prelude::*;

use super::frame::{Here, Page, Section, page};
use super::islands::copy::Copy;
use super::teams::{NEW_TEAM, Teams, teams_list};
use super::wire::page_open;

#[component]
pub fn PeoplePage() -> impl IntoView {
    page(Here::People, async {
        let opened = page_open().await?;
        let is_admin = opened.is_admin;
        let (teams, team_flash) = (teams_list().await?, opened.flash_of(NEW_TEAM));
        let (email, handle) = (opened.email.clone(), opened.handle.clone());
        Ok(view! {
            <Page opened here=Here::People title="People">
                <Section title="You" id="you">
                    <dl class="grid max-w-xl grid-cols-[6rem_minmax(0,1fr)] gap-y-1.5">
                        <dt class="text-dim">"E-mail"</dt>
                        <dd class="break-all">{email}</dd>
                        <dt class="text-dim">"Handle"</dt>
                        <dd class="font-mono">{handle.clone()}</dd>
                        <dt class="text-dim">"Role"</dt>
                        <dd>{if is_admin { "Administrator" } else { "User" }}</dd>
                    </dl>
                    <p>
                        <a class="link" href=format!("/people/{handle}")>"What you can do, and what is shared with you"</a>
                    </p>
                </Section>
                <Teams teams new=team_flash />
                {if is_admin {
                    view! {
                        <Section title="Add someone" id="add">
                            <p class="max-w-prose">
                                "On the machine that Sealport runs on, as the user that it runs as and with its configuration. The command asks for \
                                 the password, or reads it from a pipe; the person changes it in Settings."
                            </p>
                            <div data-copy="" class="flex flex-wrap items-center gap-2">
                                <code data-copy-from="" class="break-all rounded-field bg-base-200 px-3 py-1.5 font-mono">
                                    "sealport user add name@example.org --password-stdin"
                                </code>
                                <Copy />
                            </div>
                            <p class="max-w-prose text-dim">
        "Everyone has secrets and deployments of their own; nobody sees another’s that is not shared. Add " <code>"--admin"</code>
                                " for someone who may deploy from directories of this machine."
                            </p>
                        </Section>
                    }
                        .into_any()
                } else {
                    view! {
                        <Section title="Add someone" id="add">
                            <p>"An administrator adds people. Ask the person who runs this Sealport."</p>
                        </Section>
                    }
                        .into_any()
                }}
            </Page>
        })
    })
}
