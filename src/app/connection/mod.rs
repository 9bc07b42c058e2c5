//! A caller's own keys of a deployment: what it asks for, what of it stands, and what the caller agrees to.

#[cfg(feature = "ssr")]
mod answers;
mod instance;
pub mod people;
pub mod slot;
mod standing;

use leptos::prelude::*;
use leptos_router::hooks::use_params_map;
use serde::{Deserialize, Serialize};

use super::calls::calls;
use super::clients::{Clients, NO_TOKEN};
use super::frame::{Here, Page, Section, page};
use super::icons::Icon;
use super::wire::page_open;
use crate::model::calls::CallRow;
use crate::model::connections::{ConnectPage, OwnInstance};
use crate::model::deployments::LogLine;
use crate::model::errors::Refusal;
use crate::model::paths::DeploymentName;
use instance::log;
use slot::slot;
use standing::about;

/// Where a person connects keys to a deployment.
pub fn address(name: &DeploymentName) -> String {
    format!("/connect/{name}")
}

/// What the page shows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Connecting {
    /// It runs with its owner's secrets alone.
    Nothing,
    Own(Box<OwnKeys>),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OwnKeys {
    pub page: ConnectPage,
    /// Of the caller's own instance, oldest first.
    pub log: Vec<LogLine>,
    /// The address of its gateway.
    pub gateway_url: String,
    /// The caller's own, the newest first.
    pub calls: Vec<CallRow>,
    pub instance: OwnInstance,
}

#[server(prefix = "/_fn", endpoint = "connection_open")]
pub async fn connection_open(name: DeploymentName) -> Result<Connecting, Refusal> {
    use crate::model::errors::RefusalKind;
    /// Of one's own instance.
    const LOG_LINES_SHOWN: i64 = 100;
    let db = expect_context::<crate::store::Db>();
    let caller = super::wire::caller().await?;
    let told = crate::store::Error::into_refusal;
    let found = match db.connect_page(&caller, &name).await.map_err(told) {
        Ok(found) => found,
        Err(refusal) if refusal.kind == RefusalKind::Invalid => return Ok(Connecting::Nothing),
        Err(refusal) => return Err(refusal),
    };
    let log = db.own_log_read(&caller, &name, LOG_LINES_SHOWN);
    let log = log.await.map_err(told)?;
    let calls = db.calls_list(&caller, &name, true).await.map_err(told)?;
    let deployer = expect_context::<crate::deploy::Deployer>();
    let own = caller
        .user()
        .map(|user| deployer.own_state(found.id, user.id));
    let public = expect_context::<url::Url>();
    Ok(Connecting::Own(Box::new(OwnKeys {
        page: found,
        log,
        calls,
        instance: own.unwrap_or(OwnInstance::Stopped),
        gateway_url: format!("{public}s/{name}/mcp"),
    })))
}

#[component]
pub fn ConnectionPage() -> impl IntoView {
    let name = use_params_map().with_untracked(|params| params.get("name").unwrap_or_default());
    page(Here::Deployments, async move {
        // A malformed address is an address of nothing.
        let name = DeploymentName::parse(&name).map_err(|_| Refusal::not_found("deployment"))?;
        let connecting = connection_open(name.clone()).await?;
        let opened = page_open().await?;
        let words = opened.clone();
        let (me, email) = (opened.handle.clone(), opened.email.clone());
        let crumbs = vec![
            ("Deployments".to_owned(), "/deployments".to_owned()),
            (name.to_string(), format!("/deployments/{name}")),
        ];
        let title = format!("Your keys for {name}");
        let inner = match connecting {
            Connecting::Nothing => nothing(&name).into_any(),
            Connecting::Own(own) => {
                let flash = |form: &str| words.flash_of(form);
                let slots = own
                    .page
                    .slots
                    .iter()
                    .map(|of| slot(&own.page, of, &me, &flash))
                    .collect_view();
                view! {
                    {about(&own.page, &email)}
                    {changes(&own.page)}
                    {agreement(&own.page)}
                    <div class="flex flex-col gap-5">{slots}</div>
                    {calls("Your calls", own.calls, false)}
                    {log(own.log, &own.instance)}
                    {calling(&name, own.gateway_url)}
                }
                .into_any()
            }
        };
        Ok(view! {
            <Page opened here=Here::Deployments title crumbs>
                {inner}
            </Page>
        })
    })
}

/// Of a deployment that asks its callers for nothing.
fn nothing(name: &DeploymentName) -> impl IntoView + use<> {
    let href = format!("/deployments/{name}");
    view! {
        <p class="max-w-prose">
            {format!("{name} runs with its owner’s secrets alone. There is nothing to connect: a token is all that a call needs.")}
        </p>
        <p>
            <a class="btn" href=href>
                "To its page"
            </a>
        </p>
    }
}

/// What is another than when one connected: nothing is used before one agrees again.
fn changes(page: &ConnectPage) -> Option<impl IntoView + use<>> {
    let says = page.changes.clone();
    (!says.is_empty()).then(|| {
        view! {
            <div role="note" class="alert items-start" id="changes">
                <span class="text-amber">
                    <Icon name="alert" />
                </span>
                <div>
                    <p class="font-semibold">"It has changed since you connected. Your keys are not used until you connect them again."</p>
                    <ul class="list-disc ps-5">
                        {says.into_iter().map(|says| view! { <li class="wrap-anywhere">{says}</li> }).collect_view()}
                    </ul>
                </div>
            </div>
        }
    })
}

/// What connecting a key trusts others with.
fn agreement(page: &ConnectPage) -> impl IntoView + use<> {
    let (name, owner) = (page.name.to_string(), page.owner.clone());
    view! {
        <Section title="What you agree to" id="agreement">
            <p class="max-w-prose">
                "Whoever owns " <span class="font-mono">{name.clone()}</span> ", which is "
                <span class="font-mono">{owner}</span>
                ", chooses its code and its other variables. With them they could make it give your key away. Connect a key only if you trust them with it."
            </p>
            <p class="max-w-prose">
                {format!(
                    "Sealport gives the value to your own instance of {name} and shows it to nobody: not to its owner, not to other callers, and from then on not to you either. When its owner, source, target, how it starts, whether it reaches the network, or any of its variables changes, your keys are no longer used until you connect them again.",
                )}
            </p>
        </Section>
    }
}

/// The address, where a token is made, and what each client wants to be told.
fn calling(name: &DeploymentName, url: String) -> impl IntoView + use<> {
    let make = format!("/deployments/{name}#connect");
    let name = name.to_string();
    view! {
        <Section title="Call it" id="call">
            <p>"Its address: " <code class="break-all font-mono select-all">{url.clone()}</code></p>
            <p>
                "A call runs with the keys of whoever made its token. "
                <a class="link" href=make>
                    "Make a token"
                </a> " on its page, then tell your client:"
            </p>
            <Clients name url token=NO_TOKEN open=false />
        </Section>
    }
}
