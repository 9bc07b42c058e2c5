//! The commands, one file a noun. `serve` composes the rooms; the others work beside it.

pub mod config;
mod opened;
pub mod serve;

pub mod audit;
pub mod backup;
pub mod doctor;
pub mod key;
pub mod mcp;
pub mod token;
pub mod user;

pub mod client;
mod credentials;
mod events;
pub mod failures;
mod places;
pub mod server;
mod shown;
mod times;
mod typed;
mod values;

mod audit_list;
pub mod bridge;
pub mod completions;
pub mod connect;
pub mod deploy;
pub mod deployments;
pub mod export;
pub mod import;
pub mod login;
pub mod logs;
pub mod run;
pub mod secret;
pub mod share;
pub mod target;

use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use backup::{BackupArgs, RestoreArgs};
use config::{DatabaseArgs, ServeArgs};
use doctor::DoctorArgs;

/// Seal your secrets, ship your servers.
#[derive(Parser)]
#[command(name = "sealport", version, about, disable_help_subcommand = true, after_help = failures::STATUSES)]
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
    /// Credentials for programs.
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// The master key, its recovery shares, and the data keys below it.
    #[command(subcommand)]
    Key(KeyCommand),
    /// The record of every access: what it says, whether it is whole, and what becomes of its oldest part.
    Audit(Box<audit::AuditArgs>),
    /// Writes all that is stored into one encrypted file, while the server runs. The master key is not in it.
    Backup(Box<BackupArgs>),
    /// Brings a backup back into an empty database.
    Restore(Box<RestoreArgs>),
    /// Looks at keys, database, record, clock, disk and sandbox, and says what to do. Ends with 0 when there is nothing to do.
    Doctor(Box<DoctorArgs>),

    /// Keeps a server and a token for the commands over the API.
    Login(login::LoginArgs),
    /// Removes the token that `login` kept.
    Logout,
    /// Secrets: store, list, change, compare. `get` alone prints a value.
    #[command(subcommand)]
    Secret(Box<secret::SecretCommand>),
    /// Gives a person or a team a level on a secret, on all under a prefix, or on a deployment.
    Share(Box<share::ShareArgs>),
    /// Takes back a level that `share` gave.
    Unshare(Box<share::UnshareArgs>),
    /// Stores the variables of files or of the environment as secrets.
    Import(Box<import::ImportArgs>),
    /// Prints the values under a prefix as a file. Needs the level `read`.
    Export(Box<export::ExportArgs>),
    /// Runs a command with the secrets under a prefix in its environment. Needs the level `read`.
    Run(Box<run::RunArgs>),
    /// Makes a deployment out of a source, with secrets bound by their paths.
    Deploy(Box<deploy::DeployArgs>),
    /// Gives a per-user deployment one's own key. The value comes from standard input or a prompt, and is shown to nobody.
    Connect(connect::ConnectArgs),
    /// Lists deployments.
    Deployments(server::ApiArgs),
    /// Prints the log of a deployment.
    Logs(logs::LogsArgs),
    /// Starts a deployment that was stopped.
    Start(deployments::ReleaseArgs),
    /// Stops a deployment.
    Stop(deployments::StopArgs),
    /// Deploys anew, with the newest versions of its secrets.
    Redeploy(deployments::RedeployArgs),
    /// Destroys a deployment. Its secrets stay. Asks at a terminal; elsewhere it needs --yes.
    Destroy(deployments::DestroyArgs),
    /// Providers where deployments run: what a key can do there, and whether Sealport's work goes well with it.
    #[command(subcommand)]
    Target(target::TargetCommand),
    /// Serves a program that speaks MCP over its standard input and output as Streamable HTTP, at /mcp. Needs no database and no key.
    Bridge(bridge::BridgeArgs),
    /// Joins standard input and output to the MCP tools of a running Sealport, for agents that only start programs.
    Mcp(mcp::McpArgs),
    /// Prints what a shell needs to complete the commands.
    Completions(completions::CompletionsArgs),
}

#[derive(Subcommand)]
enum UserCommand {
    /// Makes an account. The password comes from standard input.
    Add {
        /// The e-mail address to sign in with.
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
    /// Says which keys there are, what hangs on each, and which servers know them.
    Status {
        #[command(flatten)]
        database: DatabaseArgs,
    },
    /// Prints a new master key on standard output. Nothing is stored.
    New,
    /// Changes to the new master key that was given beside the active one, while servers run. Done again, it goes on where it stopped.
    Rotate {
        /// Change the data keys rather than the master key: each gets a successor, and every version is sealed anew.
        #[arg(long)]
        data_keys: bool,
        /// Set the age in days at which a data key gets a successor by itself (0: never), and change nothing now.
        #[arg(long, value_name = "DAYS", conflicts_with = "data_keys")]
        data_keys_after: Option<i32>,
        #[command(flatten)]
        database: DatabaseArgs,
    },
    /// Prints recovery shares of the active master key on standard output.
    Split {
        /// How many shares there are.
        #[arg(long, default_value_t = 5)]
        shares: u8,
        /// How many of them give the key back.
        #[arg(long, default_value_t = 3)]
        threshold: u8,
        #[command(flatten)]
        database: DatabaseArgs,
    },
    /// Reads recovery shares from standard input, one a line, and prints the master key on standard output.
    Join {
        /// Print no key: prove that it opens this store, and change nothing.
        #[arg(long)]
        rehearse: bool,
        #[command(flatten)]
        database: DatabaseArgs,
    },
}

/// Reads the command line and runs the command. The exit statuses are those of [`failures::Exit`].
pub fn main() -> ExitCode {
    let cli = match read() {
        Ok(cli) => cli,
        Err(error) => return misread(error),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return refused(&anyhow::Error::new(error)),
    };
    let done = runtime.block_on(done(cli.command));
    match done {
        Ok(code) => code,
        Err(error) => refused(&error),
    }
}

async fn done(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        // These have more to say than that it was done.
        Command::Doctor(args) => return doctor::run(*args).await,
        Command::Run(args) => return run::run(*args).await,
        Command::Bridge(args) => return bridge::run(args).await,
        Command::Secret(command) => return Ok(secret::run(*command).await?.into()),
        Command::Import(args) => return Ok(import::run(*args).await?.into()),
        Command::Deploy(args) => return Ok(deploy::run(*args).await?.into()),
        Command::Start(args) => return Ok(deployments::start(args).await?.into()),
        Command::Stop(args) => return Ok(deployments::stop(args).await?.into()),
        Command::Redeploy(args) => return Ok(deployments::redeploy(args).await?.into()),
        Command::Logs(args) => return Ok(logs::run(args).await?.into()),
        Command::Target(command) => return Ok(target::run(command).await?.into()),
        Command::Backup(args) => backup::take(*args).await,
        Command::Restore(args) => backup::restore(*args).await,
        Command::Serve(args) => serve::run(*args).await,
        Command::User(UserCommand::Add {
            email,
            admin,
            database,
            ..
        }) => user::add(&email, admin, database).await,
        Command::Token(command) => token::run(command).await,
        Command::Key(command) => run_key(command).await,
        Command::Audit(args) => audit::run(*args).await,
        Command::Mcp(args) => mcp::run(args).await,
        Command::Login(args) => login::login(args).await,
        Command::Logout => login::logout().await,
        Command::Share(args) => share::share(*args).await,
        Command::Unshare(args) => share::unshare(*args).await,
        Command::Export(args) => export::run(*args).await,
        Command::Connect(args) => connect::run(args).await,
        Command::Deployments(api) => deployments::list(api).await,
        Command::Destroy(args) => deployments::destroy(args).await,
        Command::Completions(args) => completions::run(&args),
    }
    .map(|()| ExitCode::SUCCESS)
}

fn read() -> Result<Cli, clap::Error> {
    let mut command = config::without_empty_variables(Cli::command());
    let mut matches = command.try_get_matches_from_mut(std::env::args_os())?;
    config::refuse_passwords_in_flags(&matches)
        .map_err(|why| command.error(ErrorKind::ValueValidation, why))?;
    Cli::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))
}

async fn run_key(command: KeyCommand) -> anyhow::Result<()> {
    match command {
        KeyCommand::Status { database } => key::status(database).await,
        KeyCommand::New => key::new(),
        KeyCommand::Rotate {
            data_keys,
            data_keys_after,
            database,
        } => match data_keys_after {
            Some(days) => key::data_keys_after(database, days).await,
            None if data_keys => key::rotate_data_keys(database).await,
            None => key::rotate(database).await,
        },
        KeyCommand::Split {
            shares,
            threshold,
            database,
        } => key::split(database, shares, threshold).await,
        KeyCommand::Join { rehearse, database } => key::join(database, rehearse).await,
    }
}

/// Says what is wrong with the command line, or shows the help that was asked for. A wrong value may have come from a variable,
/// of which clap names the flag alone.
fn misread(mut error: clap::Error) -> ExitCode {
    if let Some((command, what)) = takes_by_mistake(std::env::args_os())
        && error.kind() == ErrorKind::UnknownArgument
    {
        // clap repeats it, and in its tips once more.
        let words = [std::ffi::OsString::new()];
        return match typed::refuse_argument(&words, command, what) {
            Err(failure) => refused(&failure.into()),
            Ok(()) => ExitCode::from(2),
        };
    }
    if !is_of_the_host(std::env::args_os()) {
        forget_values(&mut error);
    }
    let error = &error;
    let _ = error.print();
    if let Some(variable) = variable_of(error) {
        #[allow(clippy::print_stderr)]
        {
            eprintln!("\nThis value can also come from the environment variable {variable}.");
        }
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// Whether the command runs beside the server. The others are those into whose lines values are typed by mistake.
fn is_of_the_host(command_line: impl IntoIterator<Item = std::ffi::OsString>) -> bool {
    let name = command_line.into_iter().nth(1);
    let name = name.as_deref().and_then(std::ffi::OsStr::to_str);
    name.is_some_and(|name| {
        [
            "serve", "user", "token", "key", "backup", "restore", "doctor",
        ]
        .contains(&name)
    })
}

/// Takes out of an error what was typed: what was taken for a path or a binding may be a value, as in KEY=value.
fn forget_values(error: &mut clap::Error) {
    let kept = || ContextValue::String("…".into());
    if error.get(ContextKind::InvalidValue).is_some() {
        error.insert(ContextKind::InvalidValue, kept());
    }
    let stray = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(argument)) => !argument.starts_with('-'),
        _ => false,
    };
    if stray && error.kind() == ErrorKind::UnknownArgument {
        error.insert(ContextKind::InvalidArg, kept());
    }
}

/// The command into whose line people type a value or a token by mistake, and which of the two.
fn takes_by_mistake(
    command_line: impl IntoIterator<Item = std::ffi::OsString>,
) -> Option<(&'static str, &'static str)> {
    let mut words = command_line.into_iter().skip(1);
    match (words.next()?.to_str()?, words.next()?.to_str()?) {
        ("login", _) => Some(("login", "token")),
        ("connect", _) => Some(("connect NAME ENV", "value")),
        ("secret", "set") => Some(("secret set PATH", "value")),
        ("secret", "check") => Some(("secret check PATH", "value")),
        ("target", "check") => Some(("target check PROVIDER", "key")),
        _ => None,
    }
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

/// Says on standard error why it was not done.
fn refused(error: &anyhow::Error) -> ExitCode {
    if !failures::is_broken_pipe(error) {
        #[allow(clippy::print_stderr)]
        {
            eprintln!("sealport: {error:#}");
        }
    }
    failures::exit_of(error).into()
}
