//! `sealport run`: a command with the secrets under a prefix in its environment, and in nobody else's.

mod masked;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use clap::Args;
use secrecy::{ExposeSecret, SecretString};

use super::failures::{Exit, Failure};
use super::places::Prefix;
use super::server::ServerArgs;
use super::shown;
use super::values::{self, Revealed};
use crate::model::paths::EnvName;
use crate::model::secrets::{SHORTEST_MASKED_CHARS, VALUES_LEN_BYTES};

/// Sealport's own, which are no business of a command that it starts.
const KEPT_BACK: [&str; 2] = ["SEALPORT_TOKEN", "SEALPORT_MASTER_KEY"];

#[derive(Args)]
pub struct RunArgs {
    /// The secrets, as in project/shop: each becomes a variable with the last segment of its path for a name, in capitals.
    #[arg(long, value_name = "PREFIX", value_parser = Prefix::parse)]
    under: Prefix,

    #[command(flatten)]
    which: Which,

    /// Mask the values in what the command prints, as in the log of a deployment. Its colours go too.
    #[arg(long)]
    redact: bool,

    /// The command and its arguments, behind --.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,

    #[command(flatten)]
    server: ServerArgs,
}

/// Which of the secrets become variables.
#[derive(Args)]
pub struct Which {
    /// Leave out the variable of this name; can be given several times.
    #[arg(long, value_name = "NAME")]
    pub except: Vec<String>,

    /// Take this variable although it can make a program run code that stands in it; can be given several times. Whoever may write
    /// under the prefix decides what it is.
    #[arg(long, value_name = "NAME")]
    pub allow: Vec<String>,
}

/// Ends as the command does. Without `--redact` this process becomes the command, so that nothing stands between it and its signals.
pub async fn run(args: RunArgs) -> anyhow::Result<ExitCode> {
    let variables = match variables(&args).await {
        Ok(variables) => variables,
        Err(error) => {
            let failure = Failure::new(Exit::NotStarted, format!("{error:#}"));
            return Err(failure.into());
        }
    };
    let Some((program, arguments)) = args.command.split_first() else {
        return Err(Failure::usage("Give a command behind --.").into());
    };
    let mut command = Command::new(program);
    command.args(arguments);
    for name in KEPT_BACK {
        command.env_remove(name);
    }
    for (name, value) in &variables {
        command.env(name.as_str(), value.expose_secret());
    }
    if args.redact {
        check_maskable(&variables)?;
        let values = variables.into_values().collect();
        masked::run(command, values).await
    } else {
        Err(not_started(&command.exec(), &command))
    }
}

/// Says which values are too short. Errors: together they would take too much memory.
fn check_maskable(variables: &BTreeMap<EnvName, SecretString>) -> Result<(), Failure> {
    let values = || {
        variables
            .iter()
            .map(|(name, value)| (name, value.expose_secret()))
    };
    if values().map(|(_, value)| value.len()).sum::<usize>() > VALUES_LEN_BYTES {
        return Err(Failure::new(
            Exit::NotStarted,
            format!(
                "Values of more than {} KiB together are not masked. Take a narrower prefix, or leave out --redact.",
                VALUES_LEN_BYTES / 1024
            ),
        ));
    }
    for (name, value) in values() {
        if value.chars().count() < SHORTEST_MASKED_CHARS {
            shown::aside(format!("sealport: {name} is too short to be masked."));
        }
    }
    Ok(())
}

async fn variables(args: &RunArgs) -> anyhow::Result<BTreeMap<EnvName, SecretString>> {
    let client = args.server.client().await?;
    let revealed = values::under(&client, &args.under, &args.which.except).await?;
    let variables = as_variables(revealed, Some(&args.which.allow))?;
    Ok(variables)
}

/// Each value under its variable. Errors: a name that is refused everywhere, or that two would have, or one that can make programs
/// of this machine run another's code and is not allowed; a file that no shell reads has none of these.
pub fn as_variables(
    revealed: Vec<Revealed>,
    allowed: Option<&[String]>,
) -> anyhow::Result<BTreeMap<EnvName, SecretString>> {
    let mut variables = BTreeMap::new();
    let mut paths = BTreeMap::new();
    for Revealed { path, owner, value } in revealed {
        let name = EnvName::default_for(&path).map_err(|_| {
            let name = path.name();
            Failure::usage(format!(
                "{path} cannot be a variable: {name} decides how programs run. Rename it (`sealport secret rename`), take a narrower \
                 prefix, or leave it out with --except {name}."
            ))
        })?;
        let is_allowed =
            |all: &[String]| all.iter().any(|it| it.eq_ignore_ascii_case(name.as_str()));
        if name.sways_programs() && !allowed.is_none_or(is_allowed) {
            return Err(Failure::usage(format!(
                "{name} can make programs on this machine run code or send their traffic elsewhere, and {path} is a secret of {owner}'s, \
                 which others may be able to change. If it is meant so, give --allow {name}; --except {name} leaves it out."
            ))
            .into());
        }
        if let Some(other) = paths.insert(name.clone(), path.clone()) {
            return Err(Failure::usage(format!(
                "{other} and {path} would both be {name}. Take a prefix under which there is one of them, or leave both out with \
                 --except {name}."
            ))
            .into());
        }
        variables.insert(name, value);
    }
    Ok(variables)
}

/// As `env` and shells tell it: 127 when there is no such command, 126 when it cannot be run.
fn not_started(error: &std::io::Error, command: &Command) -> anyhow::Error {
    let program = command.get_program().to_string_lossy();
    let (exit, why) = match error.kind() {
        ErrorKind::NotFound => (Exit::NoSuchCommand, "there is no such command".to_owned()),
        ErrorKind::ArgumentListTooLong => (
            Exit::NotRunnable,
            "its environment would be too large. Take a narrower prefix".to_owned(),
        ),
        _ => (Exit::NotRunnable, error.to_string()),
    };
    Failure::new(exit, format!("{program}: {why}.")).into()
}
