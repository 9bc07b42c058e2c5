//! Tokens: which there are, their end, and new ones of the API. Those of a gateway are made on its deployment's page.

use leptos::prelude::*;
use leptos_router::hooks::use_query_map;
use time::OffsetDateTime;
use uuid::Uuid;

use super::agents::{ConnectAgent, mcp_address};
use super::deployments::token_shown_once;
use super::fields::{SelectField, TextField};
use super::frame::{Empty, Folding, Here, Page, page};
use super::icons::Icon;
use super::islands::copy::Copy;
use super::times::When;
use super::wire::{Flash, page_open};
use crate::model::errors::Refusal;
use crate::model::levels::Level;
use crate::model::tokens::{Opens, TokenSummary};

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

/// Names the form for a new token in a flash.
const FORM: &str = "token-new";

/// For whom a token can act: oneself, one's teams, and whoever shares something.
#[server(prefix = "/_fn", endpoint = "token_owners")]
pub async fn token_owners() -> Result<Vec<String>, Refusal> {
    let db = expect_context::<crate::store::Db>();
    let caller = super::wire::caller().await?;
    let listed = async {
        let own = caller.user().map(|user| user.handle.clone());
        let teams = db.teams_list(&caller).await?;
        let others = db.secrets_facets(&caller).await?.owners;
        let mut owners: Vec<String> = own.into_iter().collect();
        for owner in teams.into_iter().map(|team| team.handle).chain(others) {
            if !owners.contains(&owner) {
                owners.push(owner);
            }
        }
        Ok::<_, crate::store::Error>(owners)
    };
    listed.await.map_err(crate::store::Error::into_refusal)
}

/// Makes a token of the API; the page that follows shows it once.
#[server(prefix = "/_fn", endpoint = "api_token_new")]
pub async fn api_token_new(
    #[server(default)] name: String,
    #[server(default)] owner: String,
    #[server(default)] can: String,
    #[server(default)] under: String,
    #[server(default)] deploy: bool,
    #[server(default)] days: Option<i64>,
) -> Result<(), Refusal> {
    use super::wire::{back, confirmed_with};
    use crate::model::paths::{Folder, Handle};
    use crate::store::api_tokens::ApiTokenSpec;
    let db = expect_context::<crate::store::Db>();
    let days = days
        .unwrap_or(90)
        .clamp(1, super::deployments::TOKEN_MAX_DAYS);
    let (name, under) = (name.trim().to_owned(), under.trim().to_owned());
    let lives = days.to_string();
    let deploys = if deploy { "true" } else { "" };
    let typed = [
        ("name", name.as_str()),
        ("owner", &owner),
        ("can", &can),
        ("under", &under),
        ("deploy", deploys),
        ("days", &lives),
    ];
    let caller = confirmed_with(FORM, &typed).await?;
    let made = async {
        let owner = match owner.as_str() {
            "" => None,
            owner => Some(Handle::parse(owner).map_err(|refusal| refusal.at("owner"))?),
        };
        let ceiling = Level::from_name(&can)
            .ok_or_else(|| Refusal::invalid("can", "Choose how far it reaches."))?;
        let under = match under.as_str() {
            "" => None,
            under => Some(Folder::parse(under)?),
        };
        let spec = ApiTokenSpec {
            owner,
            name: name.clone(),
            ceiling,
            under,
            deploys: deploy,
            expires_at: Some(OffsetDateTime::now_utc() + time::Duration::days(days)),
        };
        db.api_token_create(&caller, &spec).await
    };
    match made.await {
        Ok(new) => {
            let user_id = caller.user().map(|user| user.id).unwrap_or_default();
            let once = expect_context::<super::once::ShownOnce>();
            let shown = once.keep(user_id, new.token.into());
            leptos_axum::redirect(&format!("/tokens?shown={shown}"));
            Ok(())
        }
        Err(error) => back("/tokens#new", FORM, error.into_refusal(), &typed).await,
    }
}

#[component]
pub fn TokensPage() -> impl IntoView {
    let shown = use_query_map().with_untracked(|query| query.get("shown"));
    page(Here::Tokens, async move {
        let opened = page_open().await?;
        let tokens = tokens_list().await?;
        let owners = token_owners().await?;
        let mcp_url = mcp_address().await?;
        let new = match shown.and_then(|id| Uuid::parse_str(&id).ok()) {
            Some(id) => token_shown_once(id).await?,
            None => None,
        };
        let flash = opened.flash_of(FORM);
        let none = tokens.is_empty();
        Ok(view! {
            <Page opened here=Here::Tokens title="Tokens">
                {new.map(|token| view! { <Made token /> })}
                {if none { NoTokens().into_any() } else { view! { <List tokens /> }.into_any() }}
                <New owners flash open=none />
                <ConnectAgent mcp_url />
            </Page>
        })
    })
}

/// The new token, this once.
#[component]
fn Made(token: String) -> impl IntoView {
    view! {
        <div class="alert alert-success alert-soft flex-wrap" role="status" data-copy="">
            <Icon name="token" />
            <div class="min-w-0">
                <p class="font-semibold">"Copy the token now. It cannot be shown again."</p>
                <code class="break-all font-mono select-all" data-copy-from="" id="token">
                    {token}
                </code>
                <p class="text-sm">
                    "A program sends it as " <code class="font-mono">"Authorization: Bearer"</code> ", or reads it from "
                    <code class="font-mono">"SEALPORT_TOKEN"</code> ". The routes stand in "
                    <a class="link" href="/api/docs">"the API’s reference"</a> "."
                </p>
            </div>
            <Copy />
        </div>
    }
}

#[component]
fn NoTokens() -> impl IntoView {
    view! {
        <Empty
            icon="token"
            title="A token lets a program in, within bounds"
            action=|| view! { <a class="btn" href="/deployments">"To your deployments"</a> }
        >
            <p>
                "A token of the API reads, stores and deploys for a program, as far as you let it: make one below. A token of a \
                 gateway lets an MCP client call one deployment: make it under Connect on the deployment’s page. Each is shown once, \
                 and can be revoked here at any time."
            </p>
        </Empty>
    }
}

#[component]
fn New(owners: Vec<String>, flash: Flash, open: bool) -> impl IntoView {
    let action = ServerAction::<ApiTokenNew>::new();
    let lives = [
        ("7", "7 days"),
        ("30", "30 days"),
        ("90", "90 days"),
        ("365", "a year"),
    ]
    .map(|(sent, read)| (sent.to_owned(), read.to_owned()))
    .to_vec();
    let days = match flash.typed("days").as_str() {
        "" => "90".to_owned(),
        days => days.to_owned(),
    };
    let can = match flash.typed("can").as_str() {
        "" => Level::Use.as_str().to_owned(),
        can => can.to_owned(),
    };
    let levels = Level::ALL
        .map(|level| {
            (
                level.as_str().to_owned(),
                format!("{}: {}", level.as_str(), token_can(level)),
            )
        })
        .to_vec();
    let error = flash.error("");
    let open = open || !flash.errors.is_empty() || !flash.typed.is_empty();
    let owners: Vec<(String, String)> = owners
        .into_iter()
        .map(|owner| (owner.clone(), owner))
        .collect();
    view! {
        <Folding title="Make a token of the API" id="new" icon="plus" open=open>
            <p class="text-dim">
                "It acts with your rights, never further than you reach at that moment, and never for anybody but the owner you choose."
            </p>
            <ActionForm action attr:class="flex flex-col gap-4">
                {error.map(|error| view! { <p class="text-error" role="alert">{error}</p> })}
                <TextField name="name" label="What it is for" value=flash.typed("name") error=flash.error("name") placeholder="CI of the shop" maxlength=100 required=true />
                <div class="grid gap-4 sm:grid-cols-2">
                    <SelectField name="owner" label="It acts for" options=owners value=flash.typed("owner") error=flash.error("owner") />
                    <SelectField name="days" label="It lives" options=lives value=days error=flash.error("expires_at") />
                </div>
                <SelectField name="can" label="It can at most" options=levels value=can error=flash.error("can") />
                <TextField
                    name="under"
                    label="Only paths under"
                    value=flash.typed("under")
                    error=flash.error("under")
                    hint="A folder, as in project/shop. Empty: all of the owner’s."
                    placeholder="project/shop"
                    code=true
                />
                <label class="flex min-h-6 items-start gap-2">
                    <input type="checkbox" class="checkbox mt-0.5" name="deploy" value="true" checked=flash.typed("deploy") == "true" />
                    <span>"It may make and change deployments. Whoever chooses a server’s code can make it give its secrets away."</span>
                </label>
                <div>
                    <button class="btn btn-primary">"Make the token"</button>
                </div>
            </ActionForm>
        </Folding>
    }
}

/// What a ceiling lets a program do, in words.
fn token_can(level: Level) -> &'static str {
    match level {
        Level::Use => "see names and bind them, no values",
        Level::Read => "read values, too",
        Level::Write => "store values, too",
        Level::Admin => "everything, with sharing, renaming and deleting",
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
                    {match token.opens {
                        Opens::Gateway(deployment) => {
                            view! {
                                "Opens "
                                <a class="font-mono hover:underline" href=format!("/deployments/{deployment}")>
                                    {deployment.clone()}
                                </a>
                            }
                                .into_any()
                        }
                        Opens::Api { owner, ceiling, under, deploys } => {
                            let whose = under.map_or_else(|| format!("all of {owner}’s"), |under| format!("{owner}’s {under}/"));
                            let deploys = if deploys { ", and deploys" } else { "" };
                            format!("API: {} on {whose}{deploys}", ceiling.as_str()).into_any()
                        }
                    }}
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
