//! `sealport serve`: opens the store, mounts the doors and the dashboard, starts the background jobs under one cancellation.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use secrecy::ExposeSecret;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing_subscriber::EnvFilter;

use super::config::ServeArgs;
use crate::deploy::sandbox::{Sandbox, SandboxConfig};
use crate::deploy::sources::SourceHosts;
use crate::deploy::{CallersLimits, Deployer, DeployerConfig, Providers};
use crate::doors;
use crate::doors::web::{AppState, WebConfig};
use crate::store::Db;
use crate::store::db::Opening;

/// How long requests under way may take to end at a stop.
const DRAIN_SECS: u64 = 10;
/// Between two looks at what is under way at a provider: its limits let us look so often at many.
const LOOK_EVERY: Duration = Duration::from_secs(3);
/// The first wait before a server that crashed is started again.
const RESTART_AFTER: Duration = Duration::from_secs(1);
/// How often what is past its age is removed.
const RETENTION_EVERY_SECS: u64 = 600;
/// How often it is looked whether rows of the record wait to be sealed; and after a failure.
const SEALING_EVERY: Duration = Duration::from_millis(300);
const SEALING_AFTER_FAILURE: Duration = Duration::from_secs(5);
/// How often this server says that it is there and which keys it knows: several times before it would be taken to be gone.
const SEEN_EVERY_SECS: u64 = 5;
/// How often it is looked whether data keys are due for successors.
const ROTATION_EVERY_SECS: u64 = 60;
/// How often is looked whether secrets have expired or are to be generated anew.
const CARETAKING_EVERY_SECS: u64 = 30;
/// How often opened data keys past their age are forgotten.
const FORGETTING_EVERY_SECS: u64 = 60;

pub async fn run(args: ServeArgs) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&args.log)
        .with_context(|| format!("SEALPORT_LOG {:?} is no log filter", args.log))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .json()
        .flatten_event(true)
        .init();

    let data = args.database.data_dir(Opening::Server)?;
    let _lock = data.lock_for_server()?;
    let listener = TcpListener::bind(args.addr)
        .await
        .with_context(|| format!("SEALPORT_ADDR {} cannot be listened on", args.addr))?;
    let listening = listener.local_addr()?;
    let public_url = args.checked_public_url(listening)?;

    // What cannot be served is said before a key or a database is made.
    check_assets()?;
    let options = leptos::prelude::get_configuration(Some("Leptos.toml"))
        .context("The dashboard's settings cannot be read: start it in the folder of Leptos.toml")?
        .leptos_options;

    let source_hosts = SourceHosts::new(args.guests.source_hosts.iter().cloned());
    let sandbox_config = SandboxConfig {
        allow_unsandboxed: args.guests.allow_unsandboxed,
        private_networks: source_hosts.private_networks().await,
        runtime_dir: data.runtime_dir()?,
        guests_dir: data.guests_dir(),
        private: args.database.private_places(&data),
        tools_path: std::env::var_os("PATH").unwrap_or_default(),
        launcher: std::env::current_exe().context("This program's own file cannot be found")?,
    };
    // Side by side, for each waits for other processes. Neither is cut off when the other fails: a database that starts is stopped.
    let (opened, sandbox) = tokio::join!(
        args.database.open(&data, Opening::Server),
        Sandbox::probe(sandbox_config)
    );
    let opened = opened?;
    let db = opened.db.clone();
    announce_key(&db)?;
    let name = server_name(listening);
    if let Err(error) = db.server_start(&name).await {
        db.server_leave().await?;
        return Err(error.into());
    }

    let deployer = Deployer::new(
        db.clone(),
        sandbox?,
        DeployerConfig {
            guests_dir: data.guests_dir(),
            dir_roots: args.dir_roots.clone(),
            source_hosts,
            providers: Providers {
                render_api: args.providers.apis.render_api.clone(),
                railway_api: args.providers.apis.railway_api.clone(),
                bridge_image: args.providers.bridge_image.clone(),
                look_every: LOOK_EVERY,
            },
            restart_after: RESTART_AFTER,
            callers: CallersLimits::default(),
        },
    );

    if opened.embedded.is_some() {
        // Alone on this database, so every hold is of a process that is gone.
        db.deployments_release_all_holds().await?;
    }
    let cancel = CancellationToken::new();
    let jobs = TaskTracker::new();
    jobs.spawn(deployer.clone().run(cancel.clone()));
    jobs.spawn(retention(db.clone(), cancel.clone()));
    jobs.spawn(caretaking(db.clone(), cancel.clone()));
    jobs.spawn(forgetting(db.clone(), cancel.clone()));
    jobs.spawn(sealing(db.clone(), cancel.clone()));
    jobs.spawn(seen(db.clone(), name, cancel.clone()));
    jobs.spawn(rotation(db.clone(), cancel.clone()));
    jobs.close();

    let stopping = deployer.clone();
    let router = doors::router(AppState {
        options: Arc::new(options),
        db: db.clone(),
        deployer,
        config: Arc::new(WebConfig {
            public_url: public_url.clone(),
            trusted_proxies: args.trusted_proxies.clone(),
            api_requests_per_minute: args.api_requests_per_minute,
            calls_per_minute: args.calls_per_minute,
        }),
    });
    let mut stop = StopSignal::listen().context("Signals cannot be listened for")?;
    announce(&db, &public_url).await?;
    if public_url.scheme() == "https" && args.trusted_proxies.is_empty() {
        tracing::warn!(
            "SEALPORT_TRUSTED_PROXIES is empty: behind the proxy that speaks TLS everybody has its address, in the record and \
             where wrong passwords are counted. Set it to the proxy's address."
        );
    }

    let serving = tokio::spawn(doors::listening::serve(listener, router, cancel.clone()));
    stop.wait().await;
    tracing::info!("stopping");
    cancel.cancel();
    // Streams that are followed for ever do not hold up the stop.
    let _ = tokio::time::timeout(Duration::from_secs(DRAIN_SECS), serving).await;
    let _ = tokio::time::timeout(Duration::from_secs(DRAIN_SECS * 2), jobs.wait()).await;
    stopping.written().await;
    if let Err(error) = db.server_leave().await {
        error.into_refusal();
    }
    db.close().await;
    if let Some(embedded) = opened.embedded {
        embedded.stop().await?;
    }
    Ok(())
}

/// What other servers and commands call this one.
fn server_name(listening: SocketAddr) -> String {
    let machine = rustix::system::uname();
    format!(
        "{}, process {}, at {listening}",
        machine.nodename().to_string_lossy(),
        std::process::id()
    )
}

/// The names of the browser side's files, which pages need, stand beside this program once it was built with them.
fn check_assets() -> anyhow::Result<()> {
    let names = std::env::current_exe()?.with_file_name("hash.txt");
    if !names.exists() {
        anyhow::bail!(
            "{} is missing: the dashboard's files were not built with this program. `make build` builds both.",
            names.display()
        );
    }
    Ok(())
}

/// Says loudly that a key file was made, for nothing opens without it.
fn announce_key(db: &Db) -> anyhow::Result<()> {
    if let Some(path) = db.new_key_file() {
        writeln!(
            std::io::stdout(),
            "\n  A master key was made: {}\n  BACK IT UP NOW, apart from the database. Without it no secret opens again,\n  and whoever has it and the database opens them all.\n",
            path.display()
        )?;
    }
    Ok(())
}

/// Says where the server is and, while there is nobody, how the first administrator comes in.
async fn announce(db: &Db, public_url: &url::Url) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "Database: {}", db.mode().sentence())?;
    writeln!(out, "Master key: fingerprint {}", db.key_fingerprint())?;
    writeln!(out, "Sealport is at {public_url}")?;
    if let Some(link) = db.first_administrator_link().await? {
        writeln!(
            out,
            "Make the first administrator with this link (once, within an hour):\n  {public_url}welcome/{}",
            link.expose_secret()
        )?;
    }
    out.flush()?;
    Ok(())
}

async fn retention(db: Db, cancel: CancellationToken) {
    loop {
        if let Err(error) = db.retention_step().await {
            error.into_refusal();
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(Duration::from_secs(RETENTION_EVERY_SECS)) => {}
        }
    }
}

/// Seals the record as it grows; at the stop what came last, as far as others are done.
async fn sealing(db: Db, cancel: CancellationToken) {
    loop {
        let rest = match db.seal_step().await {
            Ok(true) => continue,
            Ok(false) => SEALING_EVERY,
            Err(error) => {
                error.into_refusal();
                SEALING_AFTER_FAILURE
            }
        };
        if cancel.is_cancelled() {
            return;
        }
        tokio::select! {
            () = cancel.cancelled() => {}
            () = tokio::time::sleep(rest) => {}
        }
    }
}

async fn seen(db: Db, name: String, cancel: CancellationToken) {
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(Duration::from_secs(SEEN_EVERY_SECS)) => {}
        }
        if let Err(error) = db.server_step(&name).await {
            error.into_refusal();
        }
    }
}

async fn rotation(db: Db, cancel: CancellationToken) {
    loop {
        tokio::select! {
            // What it leaves half way, the next round finds.
            () = cancel.cancelled() => return,
            rotated = db.rotation_step() => if let Err(error) = rotated {
                error.into_refusal();
            },
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(Duration::from_secs(ROTATION_EVERY_SECS)) => {}
        }
    }
}

async fn caretaking(db: Db, cancel: CancellationToken) {
    loop {
        if let Err(error) = db.caretaker_step().await {
            error.into_refusal();
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(Duration::from_secs(CARETAKING_EVERY_SECS)) => {}
        }
    }
}

async fn forgetting(db: Db, cancel: CancellationToken) {
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(Duration::from_secs(FORGETTING_EVERY_SECS)) => {
                db.keys_step();
                doors::requests::counters().run_upkeep();
            }
        }
    }
}

/// The signals that end it. Heard from when this is made: before anybody is told that the server is there.
pub(super) struct StopSignal {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignal {
    pub(super) fn listen() -> std::io::Result<StopSignal> {
        Ok(StopSignal {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Ends with the next of them.
    pub(super) async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
