//! `sealport deploy`: a server out of a source, with secrets bound by their paths. No value passes through here.

use std::collections::BTreeMap;

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::failures::{Exit, Failure};
use super::logs::{self, Asked};
use super::server::ApiArgs;
use super::shown::{self, Cell, Colour};
use crate::doors::rest::deployments::Release;
use crate::doors::rest::plans::{DeploymentPlan, NewBinding, NewDeployment};
use crate::model::deployments::ReleaseState;
use crate::model::paths::{DeploymentName, EnvName, KeyPath};

#[derive(Args)]
pub struct DeployArgs {
    /// Its name: part of its address, and its owner's for good.
    #[arg(value_parser = DeploymentName::parse)]
    name: DeploymentName,

    /// npm:PACKAGE[@VERSION], pypi:PACKAGE[==VERSION], git:https://…[#REF[:FOLDER]], and at a provider image:REF.
    #[arg(long)]
    source: String,

    /// Where it runs: local, which is the machine of Sealport, render or railway.
    #[arg(long, default_value = "local")]
    target: String,

    /// A variable and the path of the secret that it is, as in STRIPE_KEY=project/shop/STRIPE_KEY; can be given several times.
    #[arg(long, value_name = "ENV=PATH", value_parser = bound)]
    bind: Vec<(EnvName, KeyPath)>,

    /// A variable and its text, which whoever sees the deployment can read. No secrets here; can be given several times.
    #[arg(long, value_name = "ENV=TEXT", value_parser = text)]
    set: Vec<(EnvName, String)>,

    /// A variable that each caller brings: everybody's calls run in an instance of their own, with what they connected by
    /// `sealport connect`. On this machine alone; can be given several times.
    #[arg(long, value_name = "ENV", value_parser = EnvName::parse)]
    per_user: Vec<EnvName>,

    /// One server for all, or one for each caller. --per-user says it.
    #[arg(long, hide = true, value_enum)]
    mode: Option<Mode>,

    /// The secret with the provider's key; meta/render/api_key or meta/railway/api_key unless said.
    #[arg(long, value_name = "PATH", value_parser = KeyPath::parse)]
    key: Option<KeyPath>,

    /// The secret with the credential of a private repository or registry.
    #[arg(long, value_name = "PATH", value_parser = KeyPath::parse)]
    fetch_key: Option<KeyPath>,

    /// In place of what looking at the source finds: command, and transport (stdio or http); on this machine also memory_mib,
    /// processes, open_files, disk_mib, file_mib, log_lines and network; at a provider branch, dockerfile and health_check; at Render owner, region and plan, at Railway workspace, project and environment. Can be given several
    /// times.
    #[arg(long, value_name = "NAME=VALUE", value_parser = option)]
    option: Vec<(String, String)>,

    /// Say what it would come to, and what is missing. Nothing is made. Ends with 1 when something is in the way.
    #[arg(long)]
    dry_run: bool,

    /// Follow its steps and its log until it runs. Ends with 1 when it does not.
    #[arg(long, conflicts_with = "dry_run")]
    watch: bool,

    #[command(flatten)]
    api: ApiArgs,
}

#[derive(Clone, Copy, ValueEnum)]
enum Mode {
    Shared,
    PerUser,
}

fn pair(text: &str) -> Result<(&str, &str), String> {
    text.split_once('=')
        .ok_or_else(|| "there is no = in it".to_owned())
}

fn bound(text: &str) -> Result<(EnvName, KeyPath), String> {
    let (env, path) = pair(text)?;
    let env = EnvName::parse(env).map_err(|refusal| refusal.detail)?;
    let path = KeyPath::parse(path).map_err(|refusal| refusal.detail)?;
    Ok((env, path))
}

fn text(raw: &str) -> Result<(EnvName, String), String> {
    let (env, text) = pair(raw)?;
    let env = EnvName::parse(env).map_err(|refusal| refusal.detail)?;
    Ok((env, text.to_owned()))
}

pub(super) fn option(text: &str) -> Result<(String, String), String> {
    let (name, value) = pair(text)?;
    Ok((name.to_owned(), value.to_owned()))
}

pub async fn run(args: DeployArgs) -> anyhow::Result<Exit> {
    let api = args.api.clone();
    let (dry_run, watch) = (args.dry_run, args.watch);
    let (name, brought) = (args.name.clone(), args.per_user.clone());
    let client = api.server.client().await?;
    let request = client.post("/deployments").body(&body(args)?)?;
    if dry_run {
        let answer: Value = request.query(&[("dry_run", "true")]).json().await?;
        return plan(&api, answer);
    }
    let answer: Value = request.json().await?;
    let release: Release = serde_json::from_value(answer.clone())?;
    begun(&api, &name, &answer, &release)?;
    for env in brought {
        shown::aside(format!(
            "Each caller brings {env}: `sealport connect {name} {env}`, or the page /connect/{name}."
        ));
    }
    if watch {
        return logs::follow(&client, &name, Asked::until(release.number), api.json).await;
    }
    Ok(Exit::Done)
}

fn body(args: DeployArgs) -> anyhow::Result<NewDeployment> {
    let binding = |env: EnvName| NewBinding {
        env: env.into(),
        secret: None,
        text: None,
        plain: false,
        per_user: false,
    };
    let mut bindings: Vec<NewBinding> = Vec::new();
    bindings.extend(args.bind.into_iter().map(|(env, path)| NewBinding {
        secret: Some(path.into()),
        ..binding(env)
    }));
    bindings.extend(args.set.into_iter().map(|(env, text)| NewBinding {
        text: Some(text),
        ..binding(env)
    }));
    bindings.extend(args.per_user.into_iter().map(|env| NewBinding {
        per_user: true,
        ..binding(env)
    }));
    let mut options = BTreeMap::new();
    for (name, value) in args.option {
        if options.insert(name.clone(), value).is_some() {
            return Err(Failure::usage(format!("--option {name} was given twice.")).into());
        }
    }
    let mode = args.mode.map(|mode| match mode {
        Mode::Shared => "shared".to_owned(),
        Mode::PerUser => "per-user".to_owned(),
    });
    Ok(NewDeployment {
        name: args.name.into(),
        source: args.source,
        target: Some(args.target),
        mode,
        bindings,
        key: args.key.map(String::from),
        fetch_key: args.fetch_key.map(String::from),
        options,
    })
}

fn plan(api: &ApiArgs, answer: Value) -> anyhow::Result<Exit> {
    let plan: DeploymentPlan = serde_json::from_value(answer.clone())?;
    let exit = if plan.ready { Exit::Done } else { Exit::No };
    if api.json {
        shown::json(&answer)?;
        return Ok(exit);
    }
    if let Some(found) = &plan.found {
        shown::facts(&[
            ("source", found.source.clone()),
            ("title", found.title.clone()),
            ("command", found.command.join(" ")),
            ("transport", found.transport.clone()),
            ("bound", plan.bound.join(", ")),
            ("notes", found.notes.join(" ")),
        ])?;
        let wanted = found.variables.iter().map(|variable| {
            let how = match (variable.required, variable.suggested) {
                (true, _) => "required",
                (false, true) => "optional; its code seems to read it",
                (false, false) => "optional",
            };
            ("wants", format!("{} ({how})", variable.name))
        });
        shown::facts(&Vec::from_iter(wanted))?;
    }
    for change in &plan.changes {
        shown::facts(&[("does", change.clone())])?;
    }
    if let Some(dockerfile) = &plan.dockerfile {
        shown::line(
            "A Dockerfile for the repository, to be named with --option dockerfile=Dockerfile:",
        )?;
        shown::line("")?;
        for line in dockerfile.lines() {
            shown::line(line)?;
        }
        shown::line("")?;
    }
    let mut rows = Vec::new();
    for (what, ways) in [
        ("refused", &plan.refused),
        ("expired", &plan.expired),
        ("missing", &plan.missing),
    ] {
        for way in ways {
            rows.push([
                Cell::new(what, Colour::Red),
                way.field.clone().into(),
                way.detail.clone().into(),
            ]);
        }
    }
    if rows.is_empty() {
        shown::line("Nothing is in the way.")?;
    } else {
        shown::table(["WHAT", "WHERE", "WHY"], rows)?;
    }
    Ok(exit)
}

/// A release was begun: said before anything is waited for.
pub fn begun(
    api: &ApiArgs,
    name: &DeploymentName,
    answer: &Value,
    release: &Release,
) -> anyhow::Result<()> {
    if api.json {
        return shown::json(answer);
    }
    let number = release.number;
    shown::line(match release.state {
        // Of a start: there is nothing to do.
        ReleaseState::Live => format!("{name} runs already (release {number})."),
        _ => format!("Release {number} of {name} has begun."),
    })?;
    Ok(())
}
