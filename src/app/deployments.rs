//! Deployments: the list, and what one can do with them.

use leptos::prelude::*;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::connection::address;
use super::frame::{Empty, Here, Page, page, primary};
use super::times::When;
use super::wire::page_open;
#[cfg(feature = "ssr")]
use super::wire::{back, caller, done};
use crate::model::calls::CallRow;
use crate::model::connections::ConnectedPerson;
use crate::model::deployments::{
    DeploymentDetail, DeploymentRow, DeploymentState, LastRelease, LogLine, ReleaseState,
};
use crate::model::errors::Refusal;
use crate::model::levels::Level;
use crate::model::limits::GuestUsage;
use crate::model::paths::DeploymentName;

/// Lines that a page begins with.
#[cfg(feature = "ssr")]
const LOG_LINES_SHOWN: i64 = 300;
/// The longest life of a token, in days.
#[cfg(feature = "ssr")]
pub const TOKEN_MAX_DAYS: i64 = 365;

#[server(prefix = "/_fn", endpoint = "deployments")]
pub async fn deployments() -> Result<Vec<DeploymentRow>, Refusal> {
    let db = expect_context::<crate::store::Db>();
    db.deployment_rows(&caller().await?)
        .await
        .map_err(crate::store::Error::into_refusal)
}

/// What a deployment's page shows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeploymentView {
    pub detail: DeploymentDetail,
    pub log: Vec<LogLine>,
    /// The address of its gateway.
    pub gateway_url: String,
    pub confinement: Vec<(bool, String)>,
    /// Who has connected keys of their own, for whoever may change it.
    pub people: Vec<ConnectedPerson>,
    /// The newest calls: everybody's for whoever may change it, else one's own.
    pub calls: Vec<CallRow>,
    /// What a shared server takes of this machine now.
    pub usage: Option<GuestUsage>,
}

#[server(prefix = "/_fn", endpoint = "deployment")]
pub async fn deployment(name: DeploymentName) -> Result<DeploymentView, Refusal> {
    let db = expect_context::<crate::store::Db>();
    let caller = caller().await?;
    let told = crate::store::Error::into_refusal;
    let detail = db.deployment_show(&caller, &name).await.map_err(told)?;
    let log = if detail.summary.level >= Level::Read {
        let log = db.log_read(&caller, &name, None, LOG_LINES_SHOWN);
        log.await.map_err(told)?
    } else {
        Vec::new()
    };
    let people = if detail.summary.per_user && detail.summary.level >= Level::Write {
        db.connected_people(&caller, &name).await.map_err(told)?
    } else {
        Vec::new()
    };
    let calls = db.calls_list(&caller, &name, false).await.map_err(told)?;
    let deployer = expect_context::<crate::deploy::Deployer>();
    let usage = match detail.summary.level >= Level::Read {
        true => deployer.usage(detail.summary.id).await,
        false => None,
    };
    let public = expect_context::<url::Url>();
    Ok(DeploymentView {
        calls,
        usage,
        detail,
        log,
        gateway_url: format!("{public}s/{name}/mcp"),
        confinement: deployer.confinement(),
        people,
    })
}

/// What a button of the page does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Act {
    Redeploy,
    Start,
    Stop,
}

#[server(prefix = "/_fn", endpoint = "deployment_act")]
pub async fn deployment_act(name: DeploymentName, act: Act) -> Result<(), Refusal> {
    let db = expect_context::<crate::store::Db>();
    let caller = caller().await?;
    let acted = match act {
        Act::Redeploy => db.deployment_redeploy(&caller, &name).await.map(|_| ()),
        Act::Start => db.deployment_start(&caller, &name).await.map(|_| ()),
        Act::Stop => db.deployment_stop(&caller, &name).await,
    };
    expect_context::<crate::deploy::Deployer>().wake();
    let here = format!("/deployments/{name}");
    match acted {
        Ok(()) => {
            let notice = match act {
                Act::Redeploy => "A new release is under way, with the newest versions.",
                Act::Start => "It is being started.",
                Act::Stop => "It is being stopped.",
            };
            done(&here, notice).await
        }
        Err(error) => back(&here, "act", error.into_refusal(), &[]).await,
    }
}

/// Runs the code of an older release again, with the values of now.
#[server(prefix = "/_fn", endpoint = "deployment_run_again")]
pub async fn deployment_run_again(name: DeploymentName, release: i32) -> Result<(), Refusal> {
    let deployer = expect_context::<crate::deploy::Deployer>();
    let here = format!("/deployments/{name}");
    match deployer.run_again(&caller().await?, &name, release).await {
        Ok(begun) => {
            let notice = format!(
                "Release {} is under way, with the code of release {release} and the newest values.",
                begun.release
            );
            done(&here, notice).await
        }
        Err(refusal) => back(&here, "act", refusal, &[]).await,
    }
}

/// Whether a changed value redeploys it by itself.
#[server(prefix = "/_fn", endpoint = "deployment_follow")]
pub async fn deployment_follow(
    name: DeploymentName,
    #[server(default)] on: bool,
) -> Result<(), Refusal> {
    let db = expect_context::<crate::store::Db>();
    let caller = caller().await?;
    let here = format!("/deployments/{name}#bindings");
    match db.deployment_follow(&caller, &name, on).await {
        Ok(()) => {
            let notice = if on {
                "It redeploys by itself when a bound secret changes."
            } else {
                "It keeps the values that it runs until you redeploy it."
            };
            done(&here, notice).await
        }
        Err(error) => back(&here, "follow", error.into_refusal(), &[]).await,
    }
}

#[server(prefix = "/_fn", endpoint = "deployment_destroy")]
pub async fn deployment_destroy(
    name: DeploymentName,
    #[server(default)] typed: String,
    #[server(default)] forget: bool,
) -> Result<(), Refusal> {
    let db = expect_context::<crate::store::Db>();
    let caller = caller().await?;
    let destroyed = match forget {
        true => {
            let forgotten = db.deployment_forget(&caller, &name, &typed).await;
            forgotten.map(|()| true)
        }
        false => db.deployment_destroy(&caller, &name, typed.trim()).await,
    };
    expect_context::<crate::deploy::Deployer>().wake();
    match destroyed {
        Ok(true) => {
            done(
                "/deployments",
                format!("{name} is destroyed. Its name stays yours."),
            )
            .await
        }
        Ok(false) => {
            let notice = format!("{name} is being destroyed: what the provider has goes first.");
            done(&format!("/deployments/{name}"), notice).await
        }
        Err(error) => {
            let here = format!("/deployments/{name}");
            back(&here, "destroy", error.into_refusal(), &[]).await
        }
    }
}

/// Makes a gateway token; the page that follows shows it once.
#[server(prefix = "/_fn", endpoint = "gateway_token_new")]
pub async fn gateway_token_new(
    name: DeploymentName,
    #[server(default)] label: String,
    #[server(default)] days: Option<i64>,
) -> Result<(), Refusal> {
    let db = expect_context::<crate::store::Db>();
    let caller = caller().await?;
    let label = match label.trim() {
        "" => "MCP client",
        label => label,
    };
    let days = days.unwrap_or(90).clamp(1, TOKEN_MAX_DAYS);
    let expires_at = time::OffsetDateTime::now_utc() + time::Duration::days(days);
    let made = db
        .gateway_token_create(&caller, &name, label, Some(expires_at))
        .await;
    match made {
        Ok(new) => {
            let user_id = caller.user().map(|user| user.id).unwrap_or_default();
            let once = expect_context::<super::once::ShownOnce>();
            let shown = once.keep(user_id, new.token.into());
            leptos_axum::redirect(&format!("/deployments/{name}?shown={shown}#connect"));
            Ok(())
        }
        Err(error) => {
            let here = format!("/deployments/{name}#connect");
            back(&here, "token", error.into_refusal(), &[("label", label)]).await
        }
    }
}

/// The new token, once, for its maker's page.
#[server(prefix = "/_fn", endpoint = "token_shown_once")]
pub async fn token_shown_once(id: Uuid) -> Result<Option<String>, Refusal> {
    use secrecy::ExposeSecret;
    let caller = caller().await?;
    let user_id = caller.user().map(|user| user.id).unwrap_or_default();
    let once = expect_context::<super::once::ShownOnce>();
    Ok(once
        .take(user_id, id)
        .map(|token| token.expose_secret().to_owned()))
}

/// A state as a person reads it: a word, and a colour that repeats it.
#[component]
pub fn StateBadge(state: DeploymentState) -> impl IntoView {
    let (label, class) = match state {
        DeploymentState::Deploying => ("Deploying", "badge badge-info badge-soft"),
        DeploymentState::Running => ("Running", "badge badge-success badge-soft"),
        DeploymentState::Restarting => ("Restarting", "badge badge-warning"),
        DeploymentState::Failed => ("Failed", "badge badge-error badge-soft"),
        DeploymentState::Stopped => ("Stopped", "badge badge-soft"),
    };
    view! { <span class=class>{label}</span> }
}

pub fn release_word(state: ReleaseState) -> &'static str {
    match state {
        ReleaseState::Queued => "Waiting",
        ReleaseState::Running => "Under way",
        ReleaseState::Live => "Live",
        ReleaseState::Failed => "Failed",
        ReleaseState::Superseded => "Overtaken by a newer one",
    }
}

#[component]
pub fn DeploymentsPage() -> impl IntoView {
    let loaded = Resource::new(
        || (),
        |()| async { Ok::<_, Refusal>((page_open().await?, deployments().await?)) },
    );
    view! {
        <Suspense>
            {move || page(
                Here::Deployments,
                async move {
                    let (opened, all) = loaded.await?;
                    let me = opened.handle.clone();
                    let deploy = || primary("/deploy".to_owned(), "ship", "Deploy");
                    Ok(
                        view! {
                            <Page opened here=Here::Deployments title="Deployments" action=deploy>
                                {if all.is_empty() {
                                    view! {
                                        <Empty icon="ship" title="No server runs here yet">
                                            "A deployment is an MCP server that runs with the secrets you ticked. Press Deploy, name a package, and connect your client to its address."
                                        </Empty>
                                    }
                                        .into_any()
                                } else {
                                    view! { <Table rows=all me /> }
                                        .into_any()
                                }}
                            </Page>
                        },
                    )
                },
            )}
        </Suspense>
    }
}

/// By where they run. On a phone each row is a card.
#[component]
fn Table(rows: Vec<DeploymentRow>, me: String) -> impl IntoView {
    let groups = rows
        .chunk_by(|one, next| one.target == next.target)
        .map(|group| {
            let title = group.first().map_or("", |row| row.target.title());
            view! {
                <tbody>
                    <tr class="bg-base-200">
                        <th scope="rowgroup" colspan="4">{title}</th>
                    </tr>
                    {group.iter().map(|of| row(of, &me)).collect_view()}
                </tbody>
            }
        })
        .collect_view();
    view! {
        <div class="overflow-hidden rounded-box border border-base-300">
            <table class="table max-sm:block max-sm:[&_:is(tbody,tr,td,th)]:block max-sm:[&_td:not(:last-child)]:border-0">
                <caption class="sr-only">"Deployments"</caption>
                <thead class="max-sm:sr-only">
                    <tr>
                        <th scope="col">"Name"</th>
                        <th scope="col">"State"</th>
                        <th scope="col">"Drift"</th>
                        <th scope="col">"Last release"</th>
                    </tr>
                </thead>
                {groups}
            </table>
        </div>
    }
}

fn row(of: &DeploymentRow, me: &str) -> impl IntoView + use<> {
    let summary = of.summary.clone();
    let others = (summary.owner != me).then(|| {
        let level = summary.level.as_str();
        format!("of {}, you have {level}", summary.owner)
    });
    let (destroying, is_older) = (of.destroying, of.is_older);
    let drift = drift(of);
    let last = of.last.clone();
    view! {
        <tr>
            <td>
                <a class="link link-hover font-mono font-semibold" href=format!("/deployments/{}", summary.name)>
                    {summary.name.to_string()}
                </a>
                {others.map(|others| view! { <span class="ms-2 text-dim">{others}</span> })}
                <div class="break-all font-mono text-dim">{summary.source.to_string()}</div>
                {summary.per_user.then(|| connect_link(&summary.name))}
            </td>
            <td>
                <StateBadge state=summary.state />
                " "
                <span class="text-dim">
                    <When at=summary.state_since />
                </span>
                {destroying.then(|| view! { <div class="text-amber">"Being destroyed"</div> })}
            </td>
            <td class=(!is_older).then_some("max-sm:hidden!")>
                {drift.map(|(class, says)| view! { <span class=class>{says}</span> })}
            </td>
            <td>{last.map(last_release)}</td>
        </tr>
    }
}

/// The way to one's own keys of a deployment.
fn connect_link(name: &DeploymentName) -> impl IntoView + use<> {
    view! {
        <a class="link inline-flex min-h-6 items-center" href=address(name)>
            "Connect your keys"
            <span class="sr-only">{format!(" to {name}")}</span>
        </a>
    }
}

/// What Sealport knows by itself of how it differs from what is wanted: a class, and words.
fn drift(of: &DeploymentRow) -> Option<(&'static str, &'static str)> {
    let runs = matches!(
        of.summary.state,
        DeploymentState::Running | DeploymentState::Restarting
    );
    match of.is_older {
        true => Some(("text-amber", "Runs an older value")),
        // With `use` alone nothing of it is known.
        false if of.summary.level < Level::Read => None,
        // What somebody changed there is found by looking.
        false if of.target.is_remote() => Some(("text-dim", "None known")),
        false => runs.then_some(("text-dim", "Newest values")),
    }
}

fn last_release(last: LastRelease) -> impl IntoView {
    view! {
        {format!("{} {}", last.number, release_word(last.state).to_lowercase())}
        <div class="text-dim">
            <When at=last.created_at />
            " by "
            {last.created_by}
        </div>
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use time::OffsetDateTime;

    use super::*;
    use crate::model::deployments::DeploymentSummary;
    use crate::model::sources::Source;
    use crate::model::targets::Target;

    #[test]
    fn a_row_says_what_is_known_of_its_values_and_no_more() {
        let at = |target, state, level, is_older| DeploymentRow {
            summary: DeploymentSummary {
                id: Uuid::nil(),
                name: DeploymentName::parse("crawl").unwrap(),
                owner: "ada".into(),
                source: Source::parse("npm:crawl@1.0.0").unwrap(),
                state,
                reason: None,
                state_since: OffsetDateTime::UNIX_EPOCH,
                release: 1,
                per_user: false,
                level,
            },
            target,
            destroying: false,
            is_older,
            last: None,
        };
        let says = |row: DeploymentRow| drift(&row).map(|(_, says)| says);
        let (read, running) = (Level::Read, DeploymentState::Running);
        let newest = says(at(Target::Local, running, read, false));
        assert_eq!(newest, Some("Newest values"));
        let older = says(at(Target::Local, running, read, true));
        assert_eq!(older, Some("Runs an older value"));
        // There it can be changed behind our back.
        let there = says(at(Target::Render, running, read, false));
        assert_eq!(there, Some("None known"));
        // What does not run has no values, and `use` shows none.
        let stopped = at(Target::Local, DeploymentState::Stopped, read, false);
        assert_eq!(says(stopped), None);
        assert_eq!(says(at(Target::Local, running, Level::Use, false)), None);
    }
}
