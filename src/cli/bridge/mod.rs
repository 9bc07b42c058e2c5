//! `sealport bridge`: a stdio server as Streamable HTTP, for providers that run only what listens. It knows no database, no data
//! directory and no master key, so that this program alone can be copied into another image.

mod door;
mod said;
mod server;

use std::env::VarError;
use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use secrecy::{ExposeSecret, SecretString};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::failures::{Exit, Failure};
use super::serve::StopSignal;
use super::shown::{aside, plain};
use crate::deploy::masks::Masks;
use crate::deploy::relay::{Limits, Options, Room, RoomLimits, StdioRelay};
use crate::deploy::sandbox::GuestExit;
use crate::doors::listening;
use door::Door;
use server::{Pipes, Server};

/// What a caller has to know. The server behind the bridge does not get it.
const SECRET: &str = "SEALPORT_GATEWAY_SECRET";
/// Shorter ones can be guessed: nothing here counts wrong ones.
const SECRET_LEN_CHARS: usize = 16;
/// How long a server may take to answer the handshake: its command may first have to fetch it.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(300);
/// How long what is under way may take to be answered, once the bridge is to stop.
const DRAIN: Duration = Duration::from_secs(3);
/// How long a server may take to end after its input was closed. With the time above it is less than the ten seconds after which
/// a container is usually killed.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// How long a server may take to end by itself once its output has: its status says more.
const EXIT_AFTER_OUTPUT: Duration = Duration::from_secs(2);
/// How long what a server said last may take to arrive through its pipes, once it has ended.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Lines that are no messages, waiting to be printed.
const STRAY_LINES: usize = 256;

/// All that is held of messages. A caller has no share of its own, for each session and each call outside of one counts as a caller;
/// what is small always has room.
const ROOM: RoomLimits = RoomLimits {
    all_bytes: 96 << 20,
    user_bytes: 48 << 20,
    small_bytes: 4 << 10,
};
const SESSIONS: usize = 4096;

#[derive(Args)]
#[command(after_help = CALLERS)]
pub struct BridgeArgs {
    /// The port to listen on.
    #[arg(long, env = "PORT", default_value_t = 8080)]
    port: u16,

    /// The address to listen on: every one of this machine, unless given.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0")]
    host: IpAddr,

    /// Variables whose values are masked in the log, beside those that look like secrets.
    #[arg(
        long,
        env = "SEALPORT_BRIDGE_MASK",
        value_name = "NAMES",
        value_delimiter = ','
    )]
    mask: Vec<String>,

    /// The server: a command and its arguments, behind --.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

/// What `--help` ends with.
const CALLERS: &str = "\
SEALPORT_GATEWAY_SECRET in the environment is what callers have to send as Authorization: Bearer. Without it anybody may call.
The command gets all of the environment but that. /healthz answers 200 from the MCP handshake until the command ends.
Ends as the command does; 0 after SIGTERM; 125, 126 and 127 as `sealport run`.";

/// Ends as the server does, or well when it was asked to by a signal.
pub async fn run(args: BridgeArgs) -> anyhow::Result<ExitCode> {
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::WARN)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    let secret = gateway_secret()?;
    let masks = said::masks(&args.mask, secret.as_ref()).await?;
    let address = SocketAddr::new(args.host, args.port);
    let listener = TcpListener::bind(address).await.map_err(|error| {
        not_started(format!(
            "PORT {} of {} cannot be listened on: {error}.",
            args.port, args.host
        ))
    })?;
    let listening = listener
        .local_addr()
        .map_err(|error| not_started(error.to_string()))?;
    let mut stop = StopSignal::listen()
        .map_err(|error| not_started(format!("Signals cannot be listened for: {error}.")))?;
    let (mut server, mut pipes) = Server::start(&args.command, &[SECRET, "SEALPORT_MASTER_KEY"])?;

    let door = Arc::new(Door::new(secret.as_ref()));
    let cancel = CancellationToken::new();
    let router = door.clone().router(cancel.clone());
    let mut serving = tokio::spawn(listening::serve(listener, router, cancel.clone()));
    aside(format!("sealport: bridge at http://{listening}/mcp"));
    if secret.is_none() {
        aside(OPEN);
    }
    let pumps = TaskTracker::new();
    let (stray, strays) = mpsc::channel(STRAY_LINES);
    pumps.spawn(said::print(strays));
    if let Some(stderr) = pipes.stderr.take() {
        pumps.spawn(said::pump(stderr, Arc::clone(&masks)));
    }
    pumps.close();
    let options = Options {
        limits: Limits {
            sessions: SESSIONS,
            ..Limits::default()
        },
        log: Some(stray),
        log_masks: Some(Arc::clone(&masks)),
        room: Room::new(ROOM),
        ..Options::default()
    };

    let end = until_the_end(&door, &mut server, pipes, options, &mut stop).await;
    // Streams of notifications end with it, and no new call comes in.
    cancel.cancel();
    let drained = tokio::time::timeout(DRAIN, &mut serving);
    let code = match end {
        End::Asked => {
            tokio::select! {
                _ = drained => {}
                () = stop.wait() => {}
            }
            door.close();
            put_down(&mut server, &mut stop).await;
            Exit::Done.into()
        }
        End::Server(exit) => {
            server.clear().await;
            let _ = drained.await;
            ExitCode::from(u8::try_from(exit.code).unwrap_or(1))
        }
        End::Failed(_) | End::Never(_) => {
            put_down(&mut server, &mut stop).await;
            let _ = drained.await;
            Exit::No.into()
        }
    };
    let _ = tokio::time::timeout(LAST_WORDS, pumps.wait()).await;
    // Last, so that it is found at the end of a log.
    aside(plain(&masks.text(&format!("sealport: {end}"))));
    Ok(code)
}

/// Said where no caller has to prove anything.
const OPEN: &str = "\
sealport: WARNING: SEALPORT_GATEWAY_SECRET is not set, so this server is OPEN.
sealport: WARNING: Anybody who finds its URL can call it, and use what it can do with the keys in its environment.";

/// How it came to an end, as the last line of the log says it.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("The bridge was asked to stop.")]
    Asked,
    #[error("The server {0}, and the bridge ends as it did.")]
    Server(GuestExit),
    /// Before it had answered the handshake, in a sentence.
    #[error("{0}")]
    Never(String),
    #[error("The server was stopped. {0}")]
    Failed(String),
}

/// Joins the server to the door, and watches over it.
async fn until_the_end(
    door: &Door,
    server: &mut Server,
    pipes: Pipes,
    options: Options,
    stop: &mut StopSignal,
) -> End {
    // Answers pass as they are: Sealport's gateway masks them, where it also counts who makes a server confirm a guess.
    let masks = Arc::new(Masks::none());
    let handshake =
        StdioRelay::start_with(pipes.stdin, pipes.stdout, masks, HANDSHAKE_TIMEOUT, options);
    let mut handshake = std::pin::pin!(handshake);
    let joined = tokio::select! {
        () = stop.wait() => return End::Asked,
        joined = &mut handshake => joined,
        exit = server.wait() => {
            // What it printed before may say why.
            let _ = tokio::time::timeout(LAST_WORDS, handshake).await;
            return never(exit);
        }
    };
    let relay = match joined {
        Ok(relay) => Arc::new(relay),
        Err(error) => {
            let exit = tokio::time::timeout(EXIT_AFTER_OUTPUT, server.wait()).await;
            return exit.map_or_else(|_| End::Never(error.to_string()), never);
        }
    };
    aside("sealport: the server answered the handshake.");
    door.open(Arc::clone(&relay));
    tokio::select! {
        () = stop.wait() => End::Asked,
        exit = server.wait() => {
            let _ = tokio::time::timeout(LAST_WORDS, relay.closed()).await;
            End::Server(exit)
        }
        () = relay.closed() => {
            let exit = tokio::time::timeout(EXIT_AFTER_OUTPUT, server.wait()).await;
            exit.map_or_else(|_| End::Failed(relay.reason().unwrap_or_default()), End::Server)
        }
    }
}

/// A server that ended before there was anything to call. That it did so well is no success: then this is a failure all the same.
fn never(exit: GuestExit) -> End {
    if exit.success() {
        End::Never(format!(
            "The server {exit} before it answered the MCP handshake. Does its command start an MCP server that speaks over \
             standard input and output?"
        ))
    } else {
        End::Server(exit)
    }
}

/// Ends the server politely, then surely; at once when a second signal comes.
async fn put_down(server: &mut Server, stop: &mut StopSignal) {
    let hasty = tokio::select! {
        () = server.stop(STOP_GRACE) => false,
        () = stop.wait() => true,
    };
    if hasty {
        server.stop(Duration::ZERO).await;
    }
    server.clear().await;
}

/// Errors: it is set to what no caller could send. Never a flag: a command line is read by everybody on the machine.
fn gateway_secret() -> Result<Option<SecretString>, Failure> {
    let secret = match std::env::var(SECRET) {
        Ok(text) => SecretString::from(text),
        Err(VarError::NotPresent) => return Ok(None),
        Err(VarError::NotUnicode(_)) => {
            return Err(Failure::usage(format!("{SECRET} is not text.")));
        }
    };
    let text = secret.expose_secret();
    // A variable that was left empty by mistake must not open what was meant to be closed.
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Failure::usage(format!(
            "{SECRET} is empty, or has blanks or characters in it that no header carries. Set it to 32 random bytes, as `openssl \
             rand -hex 32` prints; without the variable anybody may call."
        )));
    }
    if text.len() < SECRET_LEN_CHARS {
        aside(format!(
            "sealport: WARNING: {SECRET} has fewer than {SECRET_LEN_CHARS} characters. It can be guessed: use 32 random bytes."
        ));
    }
    Ok(Some(secret))
}

/// It did not come to starting the server.
fn not_started(detail: String) -> Failure {
    Failure::new(Exit::NotStarted, detail)
}
