//! `sealport connect`: one's own key of a per-user deployment. A value goes in, by standard input or a prompt; none comes out.

use std::ffi::OsString;
use std::io::IsTerminal;

use clap::Args;
use serde_json::{Value, json};

use super::client::Client;
use super::failures::Failure;
use super::server::ApiArgs;
use super::shown::{self, Cell, Colour};
use super::{times, typed};
use crate::doors::rest::connections::{Connection, ConnectionBody, Connections};
use crate::model::connections::SlotState;
use crate::model::paths::{DeploymentName, EnvName};

#[derive(Args)]
pub struct ConnectArgs {
    /// The deployment.
    #[arg(value_parser = DeploymentName::parse)]
    name: DeploymentName,

    /// The variable that is brought. Without it: what the deployment asks of its callers, and what of it is connected.
    #[arg(value_parser = EnvName::parse)]
    env: Option<EnvName>,

    /// What stands where a value would: it is refused.
    #[arg(hide = true, num_args = 0.., allow_hyphen_values = true)]
    refused: Vec<OsString>,

    /// Connect the value that is kept already, after the deployment was changed or the value was stored before.
    #[arg(long, requires = "env")]
    kept: bool,

    /// Clear the value: it is deleted, for good. Asks at a terminal; elsewhere it needs --yes.
    #[arg(long, requires = "env", conflicts_with = "kept")]
    clear: bool,

    /// Do not ask. Needed for --clear where there is no terminal.
    #[arg(long, short, requires = "clear")]
    yes: bool,

    /// Take standard input as it is, the end of a single line with it.
    #[arg(long, conflicts_with_all = ["kept", "clear"])]
    exact: bool,

    #[command(flatten)]
    api: ApiArgs,
}

pub async fn run(args: ConnectArgs) -> anyhow::Result<()> {
    let name = &args.name;
    let typed_at = match &args.env {
        Some(env) => format!("connect {name} {env}"),
        None => format!("connect {name} ENV"),
    };
    typed::refuse_argument(&args.refused, &typed_at, "value")?;
    let client = args.api.server.client().await?;
    let answer: Value = client.get(&format!("/connections/{name}")).json().await?;
    let page: Connections = serde_json::from_value(answer.clone())?;
    let Some(env) = &args.env else {
        return tell(&args.api, &answer, &page);
    };
    // Looked for here: a value that was typed where the name stands is no part of an address.
    let Some(slot) = page.slots.iter().find(|slot| slot.env == env.as_str()) else {
        let names: Vec<&str> = page.slots.iter().map(|slot| slot.env.as_str()).collect();
        return Err(Failure::usage(format!(
            "Callers of {name} bring {}. Nothing was sent.",
            shown::plain(&names.join(", "))
        ))
        .into());
    };
    match args.clear {
        true => clear(&client, &args, slot).await,
        false => connect(&client, &args, &page, slot).await,
    }
}

async fn connect(
    client: &Client,
    args: &ConnectArgs,
    page: &Connections,
    slot: &Connection,
) -> anyhow::Result<()> {
    let (name, env) = (&args.name, &slot.env);
    if std::io::stdin().is_terminal() {
        shown::aside(agreed_to(page, env));
    }
    let value = match args.kept {
        true => None,
        false => Some(typed::value(&format!("Your {env} for {name}"), args.exact)?),
    };
    let body = ConnectionBody {
        value,
        // What was looked at a moment ago, and nothing else.
        terms: Some(page.terms),
    };
    let request = client
        .put(&format!("/connections/{name}/{env}"))
        .body(&body)?;
    let answer: Connection = request.json().await?;
    if args.api.json {
        return shown::json(&answer);
    }
    shown::line(match args.kept {
        true => format!(
            "Connected your {env} to {name}: the value that is kept as {}.",
            answer.path
        ),
        false => format!(
            "Connected your {env} to {name}, and sealed it as {}.",
            answer.path
        ),
    })?;
    match answer.state {
        SlotState::Expired => shown::aside(format!(
            "It has expired and is not used: give it another end with `sealport secret edit {} --expires`.",
            answer.path
        )),
        SlotState::Off => shown::aside(format!(
            "It is switched off and is not used: `sealport secret on {}`.",
            answer.path
        )),
        _ => {}
    }
    Ok(())
}

/// Whose server it is and what it runs, before somebody types a key for it.
fn agreed_to(page: &Connections, env: &str) -> String {
    let (owner, source) = (shown::plain(&page.owner), shown::plain(&page.source));
    let command = match page.command.as_str() {
        "" => String::new(),
        command => format!(" by {}", shown::plain(command)),
    };
    let network = match page.network {
        true => "with the network",
        false => "without any network",
    };
    let mut says = format!(
        "{} belongs to {owner} and runs {source}{command}, {network}. An instance of your own gets your {env}; nobody is shown it.",
        page.deployment
    );
    for change in &page.changes {
        says.push(' ');
        says.push_str(&shown::plain(change));
    }
    says
}

async fn clear(client: &Client, args: &ConnectArgs, slot: &Connection) -> anyhow::Result<()> {
    let (name, env) = (&args.name, &slot.env);
    typed::sure(
        &format!(
            "Clear your {env} of {name}? {} is deleted with all its versions, and nothing brings it back.",
            slot.path
        ),
        args.yes,
    )?;
    client
        .delete(&format!("/connections/{name}/{env}"))
        .done()
        .await?;
    if args.api.json {
        return shown::json(&json!({ "deployment": name, "env": env, "cleared": true }));
    }
    shown::line(format!(
        "Cleared your {env} of {name}: your value of it is deleted."
    ))?;
    Ok(())
}

/// What is asked for, and what of it is connected.
fn tell(api: &ApiArgs, answer: &Value, page: &Connections) -> anyhow::Result<()> {
    if api.json {
        return shown::json(answer);
    }
    if shown::is_terminal() {
        shown::facts(&[
            ("owner", page.owner.clone()),
            ("source", page.source.clone()),
            ("starts with", page.command.clone()),
            (
                "network",
                if page.network { "outgoing" } else { "none" }.to_owned(),
            ),
            ("runs on", page.target.clone()),
            ("page", page.url.clone()),
        ])?;
        shown::line("")?;
    }
    for change in &page.changes {
        shown::aside(shown::plain(change));
    }
    let row = |slot: &Connection| {
        let colour = match slot.state {
            SlotState::Connected => Colour::Green,
            SlotState::Expiring | SlotState::Kept => Colour::Yellow,
            _ => Colour::Red,
        };
        [
            Cell::from(slot.env.clone()),
            Cell::new(slot.state.as_str(), colour),
            slot.path.to_string().into(),
            slot.expires_at
                .map(times::written)
                .unwrap_or_default()
                .into(),
            slot.description.clone().into(),
        ]
    };
    let rows = page.slots.iter().map(row).collect();
    shown::table(["ENV", "STATE", "PATH", "EXPIRES", "WHAT"], rows)?;
    if page.refused_at.is_some() {
        shown::aside("The far service refused your keys when they were last used.");
    }
    for slot in &page.slots {
        if let Some(next) = next_step(page, slot) {
            shown::aside(next);
        }
    }
    Ok(())
}

/// What mends a slot, where something is to be mended.
fn next_step(page: &Connections, slot: &Connection) -> Option<String> {
    let env = shown::plain(&slot.env);
    let give = format!("`sealport connect {} {env}`", page.deployment);
    Some(match slot.state {
        SlotState::Connected => return None,
        SlotState::Missing => format!("Connect your {env}: {give}, or {}", page.url),
        SlotState::Kept | SlotState::Changed => {
            format!(
                "Connect the {env} that is kept: `sealport connect {} {env} --kept`",
                page.deployment
            )
        }
        SlotState::Expiring | SlotState::Expired | SlotState::Refused => {
            format!("Replace your {env}: {give}")
        }
        SlotState::Off => format!("Switch your {env} on: `sealport secret on {}`", slot.path),
    })
}
