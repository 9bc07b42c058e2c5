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
use crate::model::deployments::DeploymentState;
use crate::model::paths::DeploymentName;

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
            deployment.source.into(),
            deployment.url.into(),
            Cell::new(deployment.reason.unwrap_or_default(), Colour::Dim),
        ]);
    }
    if rows.is_empty() {
        shown::aside("There is no deployment that this token can see.");
        return Ok(());
    }
    shown::table(["NAME", "OWNER", "STATE", "SOURCE", "URL", "REASON"], rows)?;
    Ok(())
}

pub async fn start(args: ReleaseArgs) -> anyhow::Result<Exit> {
    release(args, "start").await
}

pub async fn redeploy(args: ReleaseArgs) -> anyhow::Result<Exit> {
    release(args, "releases").await
}

async fn release(args: ReleaseArgs, route: &str) -> anyhow::Result<Exit> {
    let OneArgs { name, api } = args.one;
    let client = api.server.client().await?;
    let request = client.post(&format!("/deployments/{name}/{route}"));
    let answer: Value = request.json().await?;
    let release: Release = serde_json::from_value(answer.clone())?;
    begun(&api, &name, &answer, &release)?;
    if args.watch {
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
    typed::sure(
        &format!(
            "Destroy {name} with its releases, its log and its gateway tokens? Nothing brings them back."
        ),
        args.yes,
    )?;
    let client = api.server.client().await?;
    client
        .delete(&format!("/deployments/{name}"))
        .done()
        .await?;
    if api.json {
        return shown::json(&json!({ "name": name, "deleted": true }));
    }
    shown::line(format!("Destroyed {name}. Its secrets stay."))?;
    Ok(())
}
