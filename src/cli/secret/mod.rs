//! `sealport secret`: one's secrets over the API. `get` alone prints a value.

mod edit;
mod read;
mod set;

use clap::{Args, Subcommand};
use serde_json::json;
use time::OffsetDateTime;

use self::edit::EditArgs;
use self::set::SetArgs;
pub use self::set::kind;
use super::failures::{Exit, Failure};
use super::places::Prefix;
use super::server::ApiArgs;
use super::{shown, typed};
use crate::doors::rest::secrets::{Secret, SecretPatch};
use crate::doors::rest::values::{Guess, Same};
use crate::doors::rest::versions::{Rollback, RolledBack};
use crate::model::paths::KeyPath;

#[derive(Subcommand)]
pub enum SecretCommand {
    /// Stores a value under a path, or a new version of it. The value comes from standard input or a prompt.
    Set(Box<SetArgs>),
    /// Changes what is said of a secret: its kind, description, tags and end. The value stays.
    Edit(Box<EditArgs>),
    /// Prints the value, exactly as it is stored. Needs the level `read`.
    Get {
        /// The secret: its path, or handle:path.
        #[arg(value_parser = KeyPath::parse)]
        path: KeyPath,
        /// An older version.
        #[arg(long, value_name = "N")]
        version: Option<i32>,
        #[command(flatten)]
        api: ApiArgs,
    },
    /// Lists secrets, all or those under a prefix: everything but their values.
    List {
        /// As in project/shop.
        #[arg(value_parser = Prefix::parse)]
        prefix: Option<Prefix>,
        /// Only of this kind.
        #[arg(long)]
        kind: Option<String>,
        /// Only with this tag.
        #[arg(long)]
        tag: Option<String>,
        /// With this text in the path or the description.
        #[arg(long, value_name = "TEXT")]
        find: Option<String>,
        #[command(flatten)]
        api: ApiArgs,
    },
    /// Shows all about a secret but its value.
    Show(One),
    /// Lists the versions of a secret, newest first.
    History(One),
    /// Makes the value of an older version the current one, as a new version.
    Rollback {
        /// The secret.
        #[arg(value_parser = KeyPath::parse)]
        path: KeyPath,
        /// The number of the older version.
        #[arg(value_name = "N")]
        version: i32,
        #[command(flatten)]
        api: ApiArgs,
    },
    /// Gives a secret another path. Bindings and grants on the secret itself stay.
    Rename {
        /// The secret.
        #[arg(value_parser = KeyPath::parse)]
        path: KeyPath,
        /// Its new path.
        #[arg(value_parser = KeyPath::parse)]
        new: KeyPath,
        #[command(flatten)]
        api: ApiArgs,
    },
    /// Deletes a secret with all its versions. Asks at a terminal; elsewhere it needs --yes.
    Rm {
        #[command(flatten)]
        one: One,
        /// Do not ask. Needed where there is no terminal.
        #[arg(long, short)]
        yes: bool,
    },
    /// Switches a secret off: nothing opens it until it is switched on again.
    Off(One),
    /// Switches a secret on again.
    On(One),
    /// Whether a value, from standard input or a prompt, is the stored one. Ends with 0 when it is, with 1 when it is not.
    Check {
        /// The secret.
        #[arg(value_parser = KeyPath::parse)]
        path: KeyPath,
        #[arg(hide = true, num_args = 0.., allow_hyphen_values = true)]
        refused: Vec<std::ffi::OsString>,
        /// Take standard input as it is, the end of a single line with it.
        #[arg(long)]
        exact: bool,
        #[command(flatten)]
        api: ApiArgs,
    },
    /// Lists what has expired, expires or has to be rotated soon. Ends with 0 when nothing is, with 1 when something is: for cron.
    Due {
        /// How far to look ahead: 90m, 12h, 30d, 2w.
        #[arg(long, default_value = "30d", value_parser = super::times::span)]
        within: time::Duration,
        #[command(flatten)]
        api: ApiArgs,
    },
}

/// A secret, and how to answer.
#[derive(Args)]
pub struct One {
    /// The secret.
    #[arg(value_parser = KeyPath::parse)]
    path: KeyPath,
    #[command(flatten)]
    api: ApiArgs,
}

pub async fn run(command: SecretCommand) -> anyhow::Result<Exit> {
    match command {
        SecretCommand::Set(args) => set::run(*args).await?,
        SecretCommand::Edit(args) => edit::run(*args).await?,
        SecretCommand::Get { path, version, api } => read::get(&path, version, &api).await?,
        SecretCommand::List {
            prefix,
            kind,
            tag,
            find,
            api,
        } => {
            let filter = read::Filter {
                prefix,
                kind,
                tag,
                find,
            };
            read::list(&filter, &api).await?
        }
        SecretCommand::Show(one) => read::show(&one.path, &one.api).await?,
        SecretCommand::History(one) => read::history(&one.path, &one.api).await?,
        SecretCommand::Rollback { path, version, api } => rollback(&path, version, &api).await?,
        SecretCommand::Rename { path, new, api } => rename(&path, &new, &api).await?,
        SecretCommand::Rm { one, yes } => rm(&one, yes).await?,
        SecretCommand::Off(one) => switch(&one, false).await?,
        SecretCommand::On(one) => switch(&one, true).await?,
        SecretCommand::Check {
            path,
            refused,
            exact,
            api,
        } => {
            typed::refuse_argument(&refused, &format!("secret check {path}"), "value")?;
            return check(&path, exact, &api).await;
        }
        SecretCommand::Due { within, api } => return read::due(within, &api).await,
    }
    Ok(Exit::Done)
}

async fn rollback(path: &KeyPath, version: i32, api: &ApiArgs) -> anyhow::Result<()> {
    let client = api.server.client().await?;
    let request = client.post(&format!("/rollback/{path}"));
    let answer: RolledBack = request.body(&Rollback { version })?.json().await?;
    changed(api, &answer, || {
        format!(
            "{path} has the value of version {version} again, as version {}.",
            answer.version
        )
    })
}

async fn rename(path: &KeyPath, new: &KeyPath, api: &ApiArgs) -> anyhow::Result<()> {
    if new.owner.is_some() && new.owner != path.owner {
        return Err(Failure::usage(
            "A rename keeps the owner. A secret is given to another owner in the dashboard.",
        )
        .into());
    }
    let client = api.server.client().await?;
    let request = client.patch(&format!("/secrets/{path}"));
    let patch = SecretPatch {
        path: Some(new.path.clone()),
        ..SecretPatch::default()
    };
    let answer: Secret = request.body(&patch)?.json().await?;
    changed(api, &answer, || format!("{path} is {} now.", new.path))
}

async fn rm(one: &One, yes: bool) -> anyhow::Result<()> {
    let client = one.api.server.client().await?;
    let secret: Secret = client.get(&format!("/secrets/{}", one.path)).json().await?;
    let used = uses_of(&secret);
    typed::sure(
        &format!(
            "Delete {} with all its versions? {used}Nothing brings them back.",
            one.path
        ),
        yes,
    )?;
    if yes && !used.is_empty() {
        shown::aside(used.trim_end());
    }
    client
        .delete(&format!("/secrets/{}", one.path))
        .done()
        .await?;
    let answer = json!({ "path": one.path.to_string(), "deleted": true });
    changed(&one.api, &answer, || format!("Deleted {}.", one.path))
}

/// What its end would mean for deployments, as a sentence with a blank behind it; empty where none uses it.
fn uses_of(secret: &Secret) -> String {
    let all = |names: &[String]| shown::plain(&names.join(", ")).into_owned();
    let mut said = String::new();
    if !secret.used_by.is_empty() {
        let names = all(&secret.used_by);
        said.push_str(&format!("Bound in {names}: the next start there fails. "));
    }
    if !secret.fetched_by.is_empty() {
        let names = all(&secret.fetched_by);
        said.push_str(&format!("The source of {names} is fetched with it. "));
    }
    said
}

async fn switch(one: &One, active: bool) -> anyhow::Result<()> {
    let client = one.api.server.client().await?;
    let request = client.patch(&format!("/secrets/{}", one.path));
    let patch = SecretPatch {
        active: Some(active),
        ..SecretPatch::default()
    };
    let answer: Secret = request.body(&patch)?.json().await?;
    changed(&one.api, &answer, || {
        format!(
            "{} is switched {}.",
            one.path,
            if active { "on" } else { "off" }
        )
    })
}

async fn check(path: &KeyPath, exact: bool, api: &ApiArgs) -> anyhow::Result<Exit> {
    let value = typed::value(&format!("Value to compare with {path}"), exact)?;
    let client = api.server.client().await?;
    let request = client.post(&format!("/check/{path}"));
    let answer: Same = request.body(&Guess { value })?.json().await?;
    changed(api, &answer, || match answer.same {
        true => "The same value.".into(),
        false => "Another value.".into(),
    })?;
    Ok(if answer.same { Exit::Done } else { Exit::No })
}

/// What was done, as a sentence or as the server said it.
fn changed(
    api: &ApiArgs,
    answer: &impl serde::Serialize,
    sentence: impl FnOnce() -> String,
) -> anyhow::Result<()> {
    if api.json {
        return shown::json(answer);
    }
    shown::line(sentence())?;
    Ok(())
}

/// Why nobody can use it now; else nothing.
fn standing(secret: &Secret) -> &'static str {
    let now = OffsetDateTime::now_utc();
    if secret.expires_at.is_some_and(|at| at <= now) {
        "expired"
    } else if !secret.active {
        "off"
    } else {
        ""
    }
}
