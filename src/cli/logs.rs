//! `sealport logs`: what a deployment says, masked, and what happens to it.

use std::time::Duration;

use clap::Args;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::client::{Client, not_understood};
use super::failures::{Exit, Failure};
use super::server::ApiArgs;
use super::shown::{self, Colour, coloured, plain};
use super::times::written;
use crate::deploy::relay::Event;
use crate::doors::rest::logs::{EndEvent, LineEvent, StateEvent, StepEvent};
use crate::model::deployments::ReleaseState;
use crate::model::paths::DeploymentName;

/// Between two attempts to go on with a log whose connection broke.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Attempts without an event in between, then it is given up.
const ATTEMPTS_MAX: usize = 30;

#[derive(Args)]
pub struct LogsArgs {
    /// The deployment.
    #[arg(value_parser = DeploymentName::parse)]
    name: DeploymentName,

    /// Go on with what comes, until interrupted.
    #[arg(long, short)]
    follow: bool,

    /// Begin with so many of the newest lines.
    #[arg(long, value_name = "LINES", value_parser = clap::value_parser!(u32).range(1..=1000))]
    tail: Option<u32>,

    /// An event a line, as the server sends it.
    #[command(flatten)]
    api: ApiArgs,
}

/// What of a log is wanted.
pub struct Asked {
    follow: bool,
    tail: Option<u32>,
    release: Option<i32>,
}

impl Asked {
    /// Until the end of this release.
    pub fn until(release: i32) -> Self {
        Asked {
            follow: true,
            tail: None,
            release: Some(release),
        }
    }
}

pub async fn run(args: LogsArgs) -> anyhow::Result<Exit> {
    let client = args.api.server.client().await?;
    let asked = Asked {
        follow: args.follow,
        tail: args.tail,
        release: None,
    };
    follow(&client, &args.name, asked, args.api.json).await
}

/// Prints events until the end that the server tells; a connection that breaks is taken up where it broke.
pub async fn follow(
    client: &Client,
    name: &DeploymentName,
    asked: Asked,
    json: bool,
) -> anyhow::Result<Exit> {
    let tail = asked.tail.map(|tail| tail.to_string()).unwrap_or_default();
    let release = asked
        .release
        .map(|number| number.to_string())
        .unwrap_or_default();
    let query = [
        ("follow", if asked.follow { "true" } else { "false" }),
        ("tail", &tail),
        ("release", &release),
    ];
    let mut after: Option<String> = None;
    let mut attempts = 0;
    loop {
        let request = client
            .get(&format!("/deployments/{name}/logs"))
            .query(&query);
        let broke = match request.events(after.as_deref()).await {
            Ok(mut stream) => loop {
                match stream.next().await {
                    Ok(Some(event)) => {
                        attempts = 0;
                        after = event.id.clone().or(after);
                        if let Some(exit) = told(&asked, json, &event)? {
                            return Ok(exit);
                        }
                    }
                    Ok(None) => break None,
                    Err(failure) => break Some(failure),
                }
            },
            // Only what a connection suffers is worth another attempt.
            Err(error) => match error.downcast::<Failure>() {
                Ok(failure) if failure.exit == Exit::Unavailable => Some(failure),
                Ok(failure) => return Err(failure.into()),
                Err(error) => return Err(error),
            },
        };
        attempts += 1;
        if attempts > ATTEMPTS_MAX {
            return Err(broke.unwrap_or_else(not_understood).into());
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}

/// Prints an event. The exit status with which it ends, if it is the last one.
fn told(asked: &Asked, json: bool, event: &Event) -> anyhow::Result<Option<Exit>> {
    // What an earlier release said and did is not what is waited for.
    if let (Some(release), "line" | "step") =
        (asked.release, event.name.as_deref().unwrap_or_default())
    {
        let of: OfRelease = read(event)?;
        if of.release != release {
            return Ok(None);
        }
    }
    if json {
        let data: Value = read(event)?;
        shown::compact(&serde_json::json!({ "event": event.name, "data": data }))?;
    }
    match event.name.as_deref().unwrap_or_default() {
        "line" if !json => line(&read(event)?)?,
        "step" if !json && asked.follow => step(&read(event)?)?,
        "state" if !json && asked.follow => state(&read(event)?)?,
        "end" => return Ok(Some(end(asked, &read(event)?))),
        // What a newer server tells besides.
        _ => {}
    }
    Ok(None)
}

/// What lines and steps have in common.
#[derive(Deserialize)]
struct OfRelease {
    release: i32,
}

fn read<T: DeserializeOwned>(event: &Event) -> Result<T, Failure> {
    serde_json::from_str(event.data.as_deref().unwrap_or_default()).map_err(|_| not_understood())
}

fn line(line: &LineEvent) -> anyhow::Result<()> {
    let at = coloured(&written(line.at), Colour::Dim);
    let text = plain(&line.line);
    shown::line(format!("{at} {} {text}", plain(&line.stream)))?;
    Ok(())
}

/// Beside the log: whoever reads it in a pipe gets lines of the log alone.
fn step(step: &StepEvent) -> anyhow::Result<()> {
    let took = step
        .took_ms
        .map(|ms| format!(" ({:.1} s)", ms as f64 / 1e3))
        .unwrap_or_default();
    let detail = plain(&step.detail);
    shown::aside(
        format!(
            "release {}: {} {}{took} {detail}",
            step.release,
            plain(&step.name),
            plain(&step.state)
        )
        .trim_end(),
    );
    Ok(())
}

fn state(state: &StateEvent) -> anyhow::Result<()> {
    let reason = state.reason.as_deref().unwrap_or_default();
    shown::aside(format!("state: {} {}", state.state.as_str(), plain(reason)).trim_end());
    Ok(())
}

fn end(asked: &Asked, end: &EndEvent) -> Exit {
    let Some(number) = asked.release else {
        return Exit::Done;
    };
    match &end.release {
        Some(release) if release.state == ReleaseState::Live => {
            shown::aside(format!("Release {number} is live."));
            Exit::Done
        }
        Some(release) => {
            let reason = release.reason.as_deref().unwrap_or_default();
            shown::aside(format!(
                "Release {number}: {}. {}",
                release.state.as_str(),
                plain(reason)
            ));
            Exit::No
        }
        None => {
            shown::aside(format!("Release {number} is not there any more."));
            Exit::No
        }
    }
}
