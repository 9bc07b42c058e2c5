//! The commands, one file a noun. `serve` composes the rooms; the others work beside it.

pub mod config;
pub mod serve;

pub mod audit;
pub mod key;
pub mod user;

use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue};
use clap::{CommandFactory, Parser, Subcommand};

use config::{DatabaseArgs, ServeArgs};

/// Seal your secrets, ship your servers.
#[derive(Parser)]
#[command(name = "sealport", version, about, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the server: dashboard, gateway, and the deployments of this machine.
    Serve(Box<ServeArgs>),
    /// People with an account.
    #[command(subcommand)]
    User(UserCommand),
    /// The master key.
    #[command(subcommand)]
    Key(KeyCommand),
    /// The record of every access: whether it is whole, and what becomes of its oldest part.
    #[command(subcommand)]
    Audit(audit::AuditCommand),
}

#[derive(Subcommand)]
enum UserCommand {
    /// Makes an account. The password comes from standard input.
    Add {
        email: String,
        /// May see how the installation is set up, and deploy directories of this machine.
        #[arg(long)]
        admin: bool,
        /// Says that the password comes from standard input: it is never taken from the command line.
        #[arg(long, required = true)]
        password_stdin: bool,
        #[command(flatten)]
        database: DatabaseArgs,
    },
}

#[derive(Subcommand)]
enum KeyCommand {
    /// Prints a new master key on standard output. Nothing is stored.
    New,
}

/// Reads the command line and runs the command. The exit status is 0 when it was done, 1 when it was refused or failed,
/// 2 when the command line is wrong.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misread(&error),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return refused(&anyhow::Error::new(error)),
    };
    let done = runtime.block_on(async {
        match cli.command {
            Command::Serve(args) => serve::run(*args).await,
            Command::User(UserCommand::Add {
                email,
                admin,
                database,
                ..
            }) => user::add(&email, admin, database).await,
            Command::Key(KeyCommand::New) => key::new(),
            Command::Audit(command) => audit::run(command).await,
        }
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => refused(&error),
    }
}

/// Says what is wrong with the command line, or shows the help that was asked for. A wrong value may have come from a variable,
/// of which clap names the flag alone.
fn misread(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    if let Some(variable) = variable_of(error) {
        #[allow(clippy::print_stderr)]
        {
            eprintln!("\nThis value can also come from the environment variable {variable}.");
        }
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// The variable beside the flag that an error names.
fn variable_of(error: &clap::Error) -> Option<String> {
    let ContextValue::String(named) = error.get(ContextKind::InvalidArg)? else {
        return None;
    };
    // As in `--addr <ADDR>`.
    let flag = named.strip_prefix("--")?.split([' ', '=']).next()?;
    let mut commands = vec![Cli::command()];
    while let Some(command) = commands.pop() {
        let argument = command
            .get_arguments()
            .find(|it| it.get_long() == Some(flag));
        if let Some(variable) = argument.and_then(|argument| argument.get_env()) {
            return Some(variable.to_string_lossy().into_owned());
        }
        commands.extend(command.get_subcommands().cloned());
    }
    None
}

/// Says on standard error why nothing was done.
fn refused(error: &anyhow::Error) -> ExitCode {
    #[allow(clippy::print_stderr)]
    {
        eprintln!("sealport: {error:#}");
    }
    ExitCode::FAILURE
}
