//! `sealport deployments`, `start`, `stop`, `redeploy` and `destroy`.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::deploy::begun;
use super::failures::Exit;
use super::logs::{self, Asked};
use super::server::ApiArgs;
use super::shown::{self, Cell, Colour};
use super::typed;
use crate::doors::rest::Page;
use crate::doors::rest::deployments::{Deployment, Release};
use crate::doors::rest::renewals::Redeployed;
use crate::model::deployments::DeploymentState;
use crate::model::paths::{DeploymentName, KeyPath};

/// Between two looks at what is being stopped.
const STOP_LOOK_AFTER: Duration = Duration::from_millis(500);
const STOP_LOOKS_MAX: u32 = 600;

#[derive(Args)]
pub struct OneArgs {
    /// The deployment.
    #[arg(value_parser = DeploymentName::parse)]
    name: DeploymentName,
    #[command(flatten)]
    api: ApiArgs,
}

#[derive(Args)]
pub struct ReleaseArgs {
    #[command(flatten)]
    one: OneArgs,
    /// Follow its steps and its log until it runs. Ends with 1 when it does not.
    #[arg(long)]
    watch: bool,
}

#[derive(Args)]
pub struct RedeployArgs {
    /// The deployment.
    #[arg(value_parser = DeploymentName::parse, required_unless_present = "using")]
    name: Option<DeploymentName>,
    /// Instead of one: all that run an older value of this secret. Ends with 1 when one of them was skipped.
    #[arg(long, value_name = "PATH", value_parser = KeyPath::parse, conflicts_with_all = ["name", "watch"])]
    using: Option<KeyPath>,
    /// Run the code of this release again, with the values of now.
    #[arg(long, value_name = "N", conflicts_with = "using", value_parser = clap::value_parser!(i32).range(1..))]
    rollback_to: Option<i32>,
    /// Follow its steps and its log until it runs. Ends with 1 when it does not.
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    api: ApiArgs,
}

#[derive(Args)]
pub struct StopArgs {
    #[command(flatten)]
    one: OneArgs,
    /// Wait until it is stopped. Ends with 1 when it is not, after five minutes.
    #[arg(long)]
    watch: bool,
}

#[derive(Args)]
pub struct DestroyArgs {
    #[command(flatten)]
    one: OneArgs,
    /// Do not ask. Needed where there is no terminal.
    #[arg(long, short)]
    yes: bool,
    /// Only forget it here: for what is being destroyed and cannot be reached at its provider any more. What is there stays there.
    #[arg(long)]
    forget: bool,
}

pub async fn list(api: ApiArgs) -> anyhow::Result<()> {
    let client = api.server.client().await?;
    let items = client.list("/deployments", &[("limit", "500")]).await?;
    if api.json {
        return shown::json(&Page::last(items));
    }
    let mut rows = Vec::new();
    for item in items {
        let deployment: Deployment = serde_json::from_value(item)?;
        let colour = match deployment.state {
            DeploymentState::Running => Colour::Green,
            DeploymentState::Failed => Colour::Red,
            _ => Colour::Yellow,
        };
        rows.push([
            Cell::from(deployment.name.to_string()),
            deployment.owner.into(),
            Cell::new(deployment.state.as_str(), colour),
            deployment.mode.into(),
            deployment.source.into(),
            deployment.url.into(),
            Cell::new(deployment.reason.unwrap_or_default(), Colour::Dim),
        ]);
    }
    if rows.is_empty() {
        shown::aside("There is no deployment that this token can see.");
        return Ok(());
    }
    shown::table(
        ["NAME", "OWNER", "STATE", "MODE", "SOURCE", "URL", "REASON"],
        rows,
    )?;
    Ok(())
}

pub async fn start(args: ReleaseArgs) -> anyhow::Result<Exit> {
    let OneArgs { name, api } = args.one;
    release(name, api, args.watch, "start", None).await
}

pub async fn redeploy(args: RedeployArgs) -> anyhow::Result<Exit> {
    match (args.name, args.using) {
        (Some(name), _) => release(name, args.api, args.watch, "releases", args.rollback_to).await,
        (None, Some(path)) => redeploy_using(&path, &args.api).await,
        // The command line does not read without one of them.
        (None, None) => Ok(Exit::Usage),
    }
}

async fn redeploy_using(path: &KeyPath, api: &ApiArgs) -> anyhow::Result<Exit> {
    let client = api.server.client().await?;
    let answer: Value = client.post(&format!("/redeploy/{path}")).json().await?;
    let redeployed: Redeployed = serde_json::from_value(answer.clone())?;
    let done = match redeployed.skipped.is_empty() {
        true => Exit::Done,
        false => Exit::No,
    };
    if api.json {
        shown::json(&answer)?;
        return Ok(done);
    }
    for begun in &redeployed.begun {
        let (name, release) = (&begun.deployment, begun.release);
        shown::line(format!("Release {release} of {name} has begun."))?;
    }
    for skipped in &redeployed.skipped {
        shown::aside(format!(
            "{} was skipped: {}",
            skipped.deployment, skipped.why
        ));
    }
    if redeployed.begun.is_empty() && redeployed.skipped.is_empty() {
        shown::aside("Nothing that this token can see runs an older value.");
    }
    if redeployed.more {
        shown::aside(
            "There are more than one request redeploys: run it again when these are done.",
        );
    }
    Ok(done)
}

async fn release(
    name: DeploymentName,
    api: ApiArgs,
    watch: bool,
    route: &str,
    rollback_to: Option<i32>,
) -> anyhow::Result<Exit> {
    let client = api.server.client().await?;
    let rollback_to = rollback_to.map_or_else(String::new, |release| release.to_string());
    let request = client
        .post(&format!("/deployments/{name}/{route}"))
        .query(&[("rollback_to", &rollback_to)]);
    let answer: Value = request.json().await?;
    let release: Release = serde_json::from_value(answer.clone())?;
    begun(&api, &name, &answer, &release)?;
    if watch {
        return logs::follow(&client, &name, Asked::until(release.number), api.json).await;
    }
    Ok(Exit::Done)
}

pub async fn stop(args: StopArgs) -> anyhow::Result<Exit> {
    let OneArgs { name, api } = args.one;
    let client = api.server.client().await?;
    let request = client.post(&format!("/deployments/{name}/stop"));
    let mut answer: Value = request.json().await?;
    let mut looks = if args.watch { STOP_LOOKS_MAX } else { 0 };
    let mut is_stopped = is_stopped(&answer);
    while !is_stopped && looks > 0 {
        looks -= 1;
        tokio::time::sleep(STOP_LOOK_AFTER).await;
        answer = client.get(&format!("/deployments/{name}")).json().await?;
        is_stopped = self::is_stopped(&answer);
    }
    if api.json {
        shown::json(&answer)?;
    } else {
        shown::line(match is_stopped {
            true => format!("{name} is stopped."),
            false => format!("{name} is being stopped."),
        })?;
    }
    Ok(if args.watch && !is_stopped {
        Exit::No
    } else {
        Exit::Done
    })
}

fn is_stopped(deployment: &Value) -> bool {
    deployment["state"] == DeploymentState::Stopped.as_str()
}

pub async fn destroy(args: DestroyArgs) -> anyhow::Result<()> {
    let OneArgs { name, api } = args.one;
    let (question, query) = match args.forget {
        true => (
            format!(
                "Forget {name} here? What its provider has of it stays there, and is yours to remove."
            ),
            "?forget=true",
        ),
        false => (
            format!(
                "Destroy {name} with its releases, its log and its gateway tokens? Nothing brings them back."
            ),
            "",
        ),
    };
    typed::sure(&question, args.yes)?;
    let client = api.server.client().await?;
    client
        .delete(&format!("/deployments/{name}{query}"))
        .done()
        .await?;
    if api.json {
        return shown::json(&json!({ "name": name, "deleted": true }));
    }
    shown::line(match args.forget {
        true => format!("Forgot {name}. Its secrets stay."),
        false => format!("Destroyed {name}. Its secrets stay."),
    })?;
    Ok(())
}
