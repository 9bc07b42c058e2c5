//! Gateway tokens: which there are, and their end. They are made on a deployment's page.

use leptos::prelude::*;
use time::OffsetDateTime;
use uuid::Uuid;

use super::frame::{Empty, Here, Page, page};
use super::icons::Icon;
use super::times::When;
use super::wire::page_open;
use crate::model::errors::Refusal;
use crate::model::tokens::TokenSummary;

#[server(prefix = "/_fn", endpoint = "tokens_list")]
pub async fn tokens_list() -> Result<Vec<TokenSummary>, Refusal> {
    let db = expect_context::<crate::store::Db>();
    let caller = super::wire::caller().await?;
    db.tokens_list(&caller)
        .await
        .map_err(crate::store::Error::into_refusal)
}

#[server(prefix = "/_fn", endpoint = "token_revoke")]
pub async fn token_revoke(id: Uuid) -> Result<(), Refusal> {
    use super::wire::{back, caller, done};
    let db = expect_context::<crate::store::Db>();
    let caller = caller().await?;
    match db.token_revoke(&caller, id).await {
        Ok(()) => done("/tokens", "Revoked. It opens nothing from now on.").await,
        Err(error) => {
            // The list has no field to stand at.
            let refusal = error.into_refusal();
            let whole = Refusal::new(refusal.kind, refusal.detail);
            back("/tokens", "revoke", whole, &[]).await
        }
    }
}

#[component]
pub fn TokensPage() -> impl IntoView {
    page(Here::Tokens, async {
        let opened = page_open().await?;
        let tokens = tokens_list().await?;
        Ok(view! {
            <Page opened here=Here::Tokens title="Tokens">
                {if tokens.is_empty() { NoTokens().into_any() } else { view! { <List tokens /> }.into_any() }}
            </Page>
        })
    })
}

#[component]
fn NoTokens() -> impl IntoView {
    view! {
        <Empty
            icon="token"
            title="A token lets a program call one deployment"
            action=|| view! { <a class="btn btn-primary" href="/deployments">"To your deployments"</a> }
        >
            <p>
                "Make one under Connect on a deployment’s page. It is shown once, opens that deployment and nothing else, \
                 and can be revoked here at any time."
            </p>
        </Empty>
    }
}

#[component]
fn List(tokens: Vec<TokenSummary>) -> impl IntoView {
    let now = OffsetDateTime::now_utc();
    view! {
        <ul class="flex flex-col divide-y divide-base-300 border-y border-base-300">
            {tokens.into_iter().map(|token| view! { <Row token now /> }).collect_view()}
        </ul>
    }
}

#[component]
fn Row(token: TokenSummary, now: OffsetDateTime) -> impl IntoView {
    let expired = token.expires_at.is_some_and(|at| at <= now);
    let lives = token.revoked_at.is_none() && !expired;
    view! {
        <li class="flex flex-wrap items-center gap-x-5 gap-y-2 py-2.5">
            <div class="min-w-0 flex-1 basis-64">
                <div class="flex flex-wrap items-center gap-2">
                    <Icon name="token" />
                    <strong class="break-all">{token.name.clone()}</strong>
                    {token.revoked_at.map(|at| view! { <span class="badge badge-neutral badge-sm">"Revoked " <When at /></span> })}
                    {(expired && token.revoked_at.is_none())
                        .then(|| view! { <span class="badge badge-warning badge-sm">"Expired"</span> })}
                </div>
                <p class="text-sm text-dim">
                    "Opens "
                    <a class="font-mono hover:underline" href=format!("/deployments/{}", token.deployment)>
                        {token.deployment.clone()}
                    </a>
                    ", made by " {token.maker.clone()} " " <When at=token.created_at />
                </p>
            </div>
            <p class="text-sm text-dim">
                {match token.last_used_at {
                    Some(at) => view! { "Used " <When at /> }.into_any(),
                    None => "Never used".into_any(),
                }}
                {token.expires_at.filter(|_| lives).map(|at| view! { ", ends " <When at /> })}
            </p>
            {lives
                .then(|| {
                    view! {
                        <details class="dropdown dropdown-end" name="row">
                            <summary class="btn btn-sm" aria-label=format!("Revoke {}", token.name)>
                                "Revoke"
                            </summary>
                            <form
                                method="post"
                                action="/_fn/token_revoke"
                                class="dropdown-content z-10 flex w-64 flex-col gap-3 rounded-box border border-base-300 bg-base-100 p-4"
                            >
                                <p>"Programs that use it are turned away from their next request on."</p>
                                <input type="hidden" name="id" value=token.id.to_string() />
                                <button class="btn btn-error btn-sm">"Revoke this token"</button>
                            </form>
                        </details>
                    }
                })}
        </li>
    }
}
