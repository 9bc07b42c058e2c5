//! Who has an account. Administrators look after everybody; others see themselves.

use leptos::prelude::*;
use leptos_router::hooks::use_query_map;
use uuid::Uuid;

use super::deployments::token_shown_once;
use super::frame::{Here, Page, Section, page};
use super::people_links::{Invite, Links, NewLink, invitations};
use super::people_list::{Everyone, people_list};
use super::wire::page_open;

#[component]
pub fn PeoplePage() -> impl IntoView {
    let query = use_query_map().get_untracked();
    let search = query.get("q").unwrap_or_default();
    let shown = query.get("shown").and_then(|id| Uuid::parse_str(&id).ok());
    page(Here::People, async move {
        let opened = page_open().await?;
        let is_admin = opened.is_admin;
        let (email, handle) = (opened.email.clone(), opened.handle.clone());
        let me = opened.email.clone();
        let administered = match is_admin {
            true => {
                let link = match shown {
                    Some(id) => token_shown_once(id).await?,
                    None => None,
                };
                Some((
                    people_list(search.clone()).await?,
                    invitations().await?,
                    link,
                ))
            }
            false => None,
        };
        let flash = opened.flash_of("invite");
        Ok(view! {
            <Page opened here=Here::People title="People">
                <Section title="You" id="you">
                    <dl class="grid max-w-xl grid-cols-[6rem_minmax(0,1fr)] gap-y-1.5">
                        <dt class="text-dim">"E-mail"</dt>
                        <dd class="break-all">{email}</dd>
                        <dt class="text-dim">"Handle"</dt>
                        <dd class="font-mono">{handle}</dd>
                        <dt class="text-dim">"Role"</dt>
                        <dd>{if is_admin { "Administrator" } else { "User" }}</dd>
                    </dl>
                </Section>
                {match administered {
                    Some((people, open, link)) => {
                        view! {
                            <NewLink link />
                            <Everyone people search me />
                            <Invite flash />
                            <Links open />
                        }
                            .into_any()
                    }
                    None => {
                        view! {
                            <Section title="Add someone" id="add">
                                <p>"An administrator adds people. Ask the person who runs this Sealport."</p>
                            </Section>
                        }
                            .into_any()
                    }
                }}
            </Page>
        })
    })
}
