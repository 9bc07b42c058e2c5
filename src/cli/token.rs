//! `sealport token`: credentials for programs, made on the host.

use std::io::Write;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use time::OffsetDateTime;

use super::config::DatabaseArgs;
use super::opened::with_store;
use super::times::ahead;
use crate::model::levels::Level;
use crate::model::paths::{DeploymentName, Folder, Handle};
use crate::model::users::Email;
use crate::store::api_tokens::ApiTokenSpec;
use crate::store::db::Opening;

#[derive(Subcommand)]
pub enum TokenCommand {
    /// Makes a token and prints it alone on standard output. It is shown this once.
    New(Box<NewTokenArgs>),
}

#[derive(Args)]
pub struct NewTokenArgs {
    /// Whose rights it has at most: its maker.
    #[arg(long, value_name = "EMAIL", value_parser = Email::parse)]
    user: Email,
    /// The owner for whom it acts: a team, or somebody who shares with the maker. Absent: the maker.
    #[arg(long, value_name = "HANDLE", value_parser = Handle::parse, conflicts_with = "deployment")]
    owner: Option<Handle>,
    /// What it is called, as in "the CI of shop".
    #[arg(long)]
    name: String,
    /// How far it reaches, at most: use, read, write or admin.
    #[arg(long, value_name = "LEVEL", value_parser = level, required_unless_present = "deployment", conflicts_with = "deployment")]
    can: Option<Level>,
    /// Only paths under this folder, as in project/shop.
    #[arg(long, value_name = "PREFIX", value_parser = Folder::parse, conflicts_with = "deployment")]
    under: Option<Folder>,
    /// It may make and change deployments.
    #[arg(long, conflicts_with = "deployment")]
    deploy: bool,
    /// A token of this deployment's gateway instead of the API.
    #[arg(long, value_name = "NAME", value_parser = DeploymentName::parse)]
    deployment: Option<DeploymentName>,
    /// Until when it can be used: a moment, a day, or a time from now as in 12h or 30d; a year at most, which is also what it has
    /// without this.
    #[arg(long, value_name = "TIME", value_parser = ahead)]
    expires: Option<OffsetDateTime>,
    #[command(flatten)]
    database: DatabaseArgs,
}

/// Works while the server runs and when it does not.
pub async fn run(command: TokenCommand) -> anyhow::Result<()> {
    let TokenCommand::New(args) = command;
    let expires_at = args.expires;
    let made = with_store(&args.database, Opening::Command, async |opened| {
        let db = &opened.db;
        let maker = db.operator_as(&args.user).await?;
        Ok(match (&args.deployment, args.can) {
            (Some(deployment), _) => {
                db.gateway_token_create(&maker, deployment, &args.name, expires_at)
                    .await?
            }
            (None, Some(ceiling)) => {
                let spec = ApiTokenSpec {
                    owner: args.owner.clone(),
                    name: args.name.clone(),
                    ceiling,
                    under: args.under.clone(),
                    deploys: args.deploy,
                    expires_at,
                };
                db.api_token_create(&maker, &spec).await?
            }
            (None, None) => bail!("Say how far it reaches: --can use, read, write or admin."),
        })
    })
    .await?;
    let mut out = std::io::stdout();
    writeln!(out, "{}", made.token)
        .and_then(|()| out.flush())
        .context(
            "The token was made and could not be printed: revoke it in the dashboard, under Tokens",
        )
}

fn level(text: &str) -> Result<Level, String> {
    Level::from_name(text).ok_or_else(|| "levels are use, read, write and admin".to_owned())
}
