//! `sealport export`: the values under a prefix as a file. One of the commands that let values out.

use clap::{Args, ValueEnum};
use secrecy::SecretString;

use super::places::Prefix;
use super::run::as_variables;
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
    let revealed = values::under(&client, &args.under).await?;
    typed::print_file(&written(args.format, &args.under, revealed)?)
}

fn written(
    format: Format,
    under: &Prefix,
    revealed: Vec<Revealed>,
) -> anyhow::Result<SecretString> {
    if format == Format::Json {
        let named = revealed
            .iter()
            .map(|revealed| (under.below(&revealed.path), &revealed.value));
        return Ok(write_json(named)?);
    }
    let variables = as_variables(revealed)?;
    Ok(match format {
        Format::Shell => write_shell(&variables),
        _ => write_dotenv(&variables),
    })
}
