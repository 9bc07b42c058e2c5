//! What a person or a team can do, as far as one may know; for oneself also what is shared with one.

use leptos::prelude::*;
use leptos_router::hooks::use_params_map;

use super::frame::{Here, Page, Section, page};
use super::grants::{Only, TakeBack};
use super::secrets::{address, folder_address};
use super::times::When;
use super::wire::page_open;
use crate::model::errors::Refusal;
use crate::model::grants::{Grant, HolderReach, Shared};

#[server(prefix = "/_fn", endpoint = "holder_open")]
pub async fn holder_open(handle: String) -> Result<HolderReach, Refusal> {
    use crate::model::paths::Handle;
    let db = expect_context::<crate::store::Db>();
    let caller = super::wire::caller().await?;
    let handle = Handle::parse(&handle).map_err(|_| Refusal::not_found("person"))?;
    db.holder_reach(&caller, &handle)
        .await
        .map_err(crate::store::Error::into_refusal)
}

#[component]
pub fn HolderPage() -> impl IntoView {
    let handle = use_params_map().with_untracked(|params| params.get("handle").unwrap_or_default());
    page(Here::People, async move {
        let reach = holder_open(handle).await?;
        let opened = page_open().await?;
        let handle = reach.holder.handle.clone();
        let (is_self, of) = (reach.is_self, handle.clone());
        let whose = if reach.is_self {
            "You own everything under your handle. Besides that you can do this:".to_owned()
        } else {
            format!(
                "What {handle} can do on what you administer and in your teams. What others shared with them is not shown."
            )
        };
        let crumbs = vec![("People".to_owned(), "/people".to_owned())];
        Ok(view! {
            <Page opened here=Here::People title=handle.clone() code=true crumbs>
                <p class="max-w-prose text-dim">
                    {reach.holder.is_team.then_some("A team. ")} {reach.holder.ended.then_some("It has ended. ")} {whose}
                </p>
                {(!reach.holder.is_team)
                    .then(|| {
                        view! {
                            <Section title="Teams" id="teams">
                                {reach.teams.is_empty().then(|| view! { <p class="text-dim">"None."</p> })}
                                <ul class="flex flex-col gap-1">
                                    {reach
                                        .teams
                                        .clone()
                                        .into_iter()
                                        .map(|(team, level)| {
                                            view! {
                                                <li class="flex flex-wrap items-center gap-x-3">
                                                    <a class="link min-h-6 font-mono" href=format!("/teams/{team}")>{team.clone()}</a>
                                                    <span class="badge badge-sm">{level.as_str()}</span>
                                                    <span class="text-sm text-dim">"on all that it owns"</span>
                                                </li>
                                            }
                                        })
                                        .collect_view()}
                                </ul>
                            </Section>
                        }
                    })}
                <Section title=if reach.is_self { "Shared with you" } else { "Shared with them" } id="grants">
                    {reach.grants.is_empty().then(|| view! { <p class="text-dim">"Nothing."</p> })}
                    <ul class="flex flex-col divide-y divide-base-300">
                        {reach
                            .grants
                            .into_iter()
                            .map(|grant| view! { <Row grant of=of.clone() is_self /> })
                            .collect_view()}
                    </ul>
                </Section>
            </Page>
        })
    })
}

#[component]
fn Row(grant: Grant, of: String, is_self: bool) -> impl IntoView {
    let owner = grant.owner.clone();
    let (href, what) = match &grant.on {
        Shared::Secret { path, .. } => (address(&owner, path.as_str()), format!("{owner}:{path}")),
        Shared::Folder { prefix } => (
            folder_address(&owner, Some(prefix)),
            format!("{owner}:{prefix}/"),
        ),
        Shared::Deployment { name } => (format!("/deployments/{name}"), name.to_string()),
    };
    let by_team = (grant.grantee.handle != of).then(|| grant.grantee.handle.clone());
    view! {
        <li class="flex flex-wrap items-center gap-x-4 gap-y-1 py-2">
            <a class="link min-h-6 break-all font-mono" href=href>{what}</a>
            <span class="badge badge-sm">{grant.level.as_str()}</span>
            <span class="min-w-0 flex-1 basis-72 text-sm text-dim">
                {by_team.map(|team| format!("through the team {team}, "))}
                "given by " {grant.given_by.clone()} " " <When at=grant.given_at />
                <Only only=grant.only.clone() />
            </span>
            {grant
                .endable
                .then(|| {
                    let label = if is_self { "Give back" } else { "Take back" };
                    view! { <TakeBack grant=grant.clone() from=format!("person/{of}") label /> }
                })}
        </li>
    }
}
