//! `sealport export`: the values under a prefix as a file. One of the commands that let values out.

use clap::{Args, ValueEnum};
use secrecy::SecretString;

use super::places::Prefix;
use super::run::{Which, as_variables};
use super::server::ServerArgs;
use super::typed;
use super::values::{self, Revealed};
use crate::store::env_files::{write_dotenv, write_json, write_shell};

#[derive(Args)]
pub struct ExportArgs {
    /// The secrets, as in project/shop.
    #[arg(long, value_name = "PREFIX", value_parser = Prefix::parse)]
    under: Prefix,

    /// `dotenv` and `shell`: variables, named as `run` names them. `json`: what stands below the prefix, as it is named there.
    #[arg(long, value_enum)]
    format: Format,

    #[command(flatten)]
    which: Which,

    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Dotenv,
    Json,
    Shell,
}

pub async fn run(args: ExportArgs) -> anyhow::Result<()> {
    let client = args.server.client().await?;
    let revealed = values::under(&client, &args.under, &args.which.except).await?;
    typed::print_file(&written(
        args.format,
        &args.under,
        &args.which.allow,
        revealed,
    )?)
}

fn written(
    format: Format,
    under: &Prefix,
    allow: &[String],
    revealed: Vec<Revealed>,
) -> anyhow::Result<SecretString> {
    if format == Format::Json {
        let named = revealed
            .iter()
            .map(|revealed| (under.below(&revealed.path), &revealed.value));
        return Ok(write_json(named)?);
    }
    // Other files are read, not run.
    let allowed = (format == Format::Shell).then_some(allow);
    let variables = as_variables(revealed, allowed)?;
    Ok(match format {
        Format::Shell => write_shell(&variables),
        _ => write_dotenv(&variables),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::process::Command;

    use proptest::prelude::*;
    use secrecy::ExposeSecret;

    use super::*;
    use crate::model::paths::SecretPath;

    proptest! {
        // Each starts a shell.
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn a_shell_reads_values_as_they_are(values in proptest::collection::vec(any_value(), 1..5)) {
            let revealed = values.iter().enumerate().map(|(at, value)| Revealed {
                path: SecretPath::parse(&format!("project/shop/key-{at}")).unwrap(),
                owner: "anna".into(),
                value: SecretString::from(value.as_str()),
            });
            let under = Prefix::parse("project/shop").unwrap();
            let file = written(Format::Shell, &under, &[], revealed.collect()).unwrap();
            let names: Vec<String> = (0..values.len()).map(|at| format!("\"$KEY_{at}\"")).collect();
            // A byte that no value ends with keeps the shell from taking line ends away.
            let script = format!("{}printf '%s\\0' {}", file.expose_secret(), names.join(" "));
            let said = Command::new("sh").arg("-c").arg(script).env_clear().output().unwrap();
            let read = String::from_utf8(said.stdout).unwrap();
            let read: Vec<&str> = read.strip_suffix('\0').unwrap_or_default().split('\0').collect();
            prop_assert_eq!(read, values);
        }
    }

    fn any_value() -> impl Strategy<Value = String> {
        let pieces = prop_oneof![
            any::<char>().prop_map(String::from),
            "[ -~]{1,8}",
            proptest::sample::select(vec![
                "'", "''", "\\", "\n", "\r\n", "\r", "$(id)", "`id`", "!", "\"", "'\\''"
            ])
            .prop_map(String::from),
        ];
        proptest::collection::vec(pieces, 1..10)
            .prop_map(|pieces| pieces.concat().replace('\0', ""))
            .prop_filter("a value is not empty", |value| !value.is_empty())
    }
}
