//! Our own PostgreSQL, for who gives no `DATABASE_URL`: one cluster a data directory, behind a
//! private socket, run as another user when we are root.
//!
//! Who uses it, server or command, holds a shared lock for as long. The first starts PostgreSQL
//! and the last stops it. Locks end with their process, so after `kill -9` the next one finds
//! PostgreSQL either running, and takes it up, or dead, and starts it.

mod binaries;
mod configuration;
mod postmaster;
mod roles;
mod system_user;

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;
use tokio::process::Child;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::postmaster::{Postmaster, Running};
use super::data_dir::{DataDir, DataDirError, open_lock_file};

/// The database that a cluster is for.
const DATABASE: &str = "sealport";

/// Another process that starts or stops PostgreSQL is waited for this long.
const PHASE_TIMEOUT: Duration = Duration::from_secs(120);

const LOG_CHECK_INTERVAL: Duration = Duration::from_secs(30);
const RESTART_DELAY_MIN: Duration = Duration::from_millis(200);
const RESTART_DELAY_MAX: Duration = Duration::from_secs(30);

/// Our PostgreSQL, running. Ends with [`Embedded::stop`].
#[derive(Debug)]
pub struct Embedded {
    postmaster: Arc<Postmaster>,
    data: DataDir,
    socket_dir: PathBuf,
    port: u16,
    users: File,
    watch: Watch,
}

/// What differs between an installation and a test.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Directories with PostgreSQL's programs, instead of the machine's.
    pub binary_dirs: Option<Vec<PathBuf>>,
    /// Roles that our user may log in as, beside those that are made here.
    pub login_roles: Vec<String>,
    /// Whether what is committed must be on disk. Only a test says no.
    pub durable: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            binary_dirs: None,
            login_roles: Vec::new(),
            durable: true,
        }
    }
}

/// Why our PostgreSQL does not run. Each message is for the person who starts the server.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error(
        "PostgreSQL {major}{} is not installed here, and fetching it failed: {reason}. Install it \
         with your package manager (Debian: apt install {}), or set DATABASE_URL to a PostgreSQL \
         {} or newer",
        if *wanted { ", which made the data here," } else { "" },
        if *wanted { format!("postgresql-{major}") } else { "postgresql".to_owned() },
        binaries::OLDEST_MAJOR
    )]
    NoPrograms {
        major: u32,
        /// Whether existing data asks for exactly this version.
        wanted: bool,
        reason: String,
    },
    #[error(
        "PostgreSQL's programs in {} cannot be run by another user, because {} is closed to \
         others; PostgreSQL refuses to run as root",
        dir.display(), closed.display()
    )]
    ProgramsClosed { dir: PathBuf, closed: PathBuf },
    #[error(
        "PostgreSQL refuses to run as root, and there is no user `postgres` or `nobody` to run it \
         as; make one, or start Sealport as another user"
    )]
    NoUser,
    #[error("the user that Sealport runs as has no name that `id -un` tells; PostgreSQL needs one")]
    NoName,
    #[error("initdb could not make the database: {output}")]
    NoCluster { output: String },
    #[error("PostgreSQL did not start ({status}): {log}")]
    DidNotStart { status: String, log: String },
    #[error("PostgreSQL was not ready after {seconds} seconds; its log is {}", log.display())]
    NotReady { seconds: u64, log: PathBuf },
    #[error("PostgreSQL did not stop")]
    DidNotStop,
    #[error("another process has been starting or stopping PostgreSQL for {0} seconds")]
    Busy(u64),
    #[error("PostgreSQL runs, but its roles or its database could not be made: {0}")]
    Database(#[from] sqlx::Error),
}

#[derive(Debug)]
enum Watch {
    /// Nobody restarts PostgreSQL. The child is ours to wait for, if we started it.
    None(Option<Child>),
    Supervised {
        stop: CancellationToken,
        task: JoinHandle<Option<Child>>,
    },
}

impl Embedded {
    /// Starts PostgreSQL for a server, or takes it up where it still runs, and restarts it should
    /// it die. The first start makes the cluster, the roles and the database.
    ///
    /// # Errors
    ///
    /// When there is no PostgreSQL to be had, or it does not start; the message says what to do.
    pub async fn start(data: &DataDir) -> Result<Embedded, EmbeddedError> {
        Embedded::start_with(data, &Settings::default()).await
    }

    /// [`Embedded::start`] with settings of one's own.
    ///
    /// # Errors
    ///
    /// As [`Embedded::start`].
    pub async fn start_with(
        data: &DataDir,
        settings: &Settings,
    ) -> Result<Embedded, EmbeddedError> {
        let mut embedded = Embedded::open(data, settings).await?;
        embedded.supervise();
        Ok(embedded)
    }

    /// For a command: uses the running PostgreSQL, or starts one for as long as the command runs.
    ///
    /// # Errors
    ///
    /// As [`Embedded::start`].
    pub async fn attach_or_start(data: &DataDir) -> Result<Embedded, EmbeddedError> {
        Embedded::open(data, &Settings::default()).await
    }

    /// [`Embedded::attach_or_start`] with settings of one's own.
    ///
    /// # Errors
    ///
    /// As [`Embedded::start`].
    pub async fn attach_or_start_with(
        data: &DataDir,
        settings: &Settings,
    ) -> Result<Embedded, EmbeddedError> {
        Embedded::open(data, settings).await
    }

    /// Connects as the cluster's superuser: to make roles and databases, and for nothing else.
    pub fn admin_options(&self, database: &str) -> PgConnectOptions {
        self.options("postgres", database)
    }

    /// Connects as the owner of the database, which is no superuser: for migrations.
    pub fn owner_options(&self) -> PgConnectOptions {
        self.options("sealport_owner", DATABASE)
    }

    /// Connects as the login role of the server, a member of the bound role `sealport_server`.
    pub fn app_options(&self) -> PgConnectOptions {
        self.options("sealport_app", DATABASE)
    }

    /// Connects as any role that our user may log in as.
    #[doc(hidden)]
    pub fn options(&self, role: &str, database: &str) -> PgConnectOptions {
        connect_options(&self.socket_dir, self.port, role, database)
    }

    /// The directory of PostgreSQL's socket. Only the user of this process gets an answer there.
    pub fn socket_dir(&self) -> &Path {
        &self.socket_dir
    }

    /// The process id of PostgreSQL at this moment; `None` while it is being restarted.
    pub fn process_id(&self) -> Option<i32> {
        let running = self.postmaster.running()?;
        Some(running.pid.as_raw_nonzero().get())
    }

    /// Ends the use of PostgreSQL. Stops it and waits for its end, unless another process uses it:
    /// then the last one stops it.
    ///
    /// # Errors
    ///
    /// When PostgreSQL does not stop.
    pub async fn stop(mut self) -> Result<(), EmbeddedError> {
        let child = match std::mem::replace(&mut self.watch, Watch::None(None)) {
            Watch::None(child) => child,
            Watch::Supervised { stop, task } => {
                stop.cancel();
                task.await.unwrap_or_default()
            }
        };
        let _phase = lock_phase(&self.data).await?;
        match self.users.try_lock() {
            Ok(()) => self.postmaster.stop(child).await,
            Err(TryLockError::WouldBlock) => {
                tracing::info!("PostgreSQL stays up: another command is using it");
                Ok(())
            }
            Err(TryLockError::Error(source)) => Err(DataDirError::Io {
                doing: "lock",
                path: users_path(&self.data),
                source,
            }
            .into()),
        }
    }

    async fn open(data: &DataDir, settings: &Settings) -> Result<Embedded, EmbeddedError> {
        let _phase = lock_phase(data).await?;
        let path = users_path(data);
        let users = open_lock_file(&path)?;
        // Nobody holds it alone now: that happens only under the lock that we hold.
        users.lock_shared().map_err(|source| DataDirError::Io {
            doing: "lock",
            path,
            source,
        })?;

        let postmaster = Arc::new(Postmaster::new(data, settings)?);
        let (child, running) = match postmaster.adopt().await? {
            Some(running) => (None, running),
            None => {
                let (child, running) = postmaster.launch().await?;
                (Some(child), running)
            }
        };
        // From here on an error ends in `drop`, which stops what was started.
        let embedded = Embedded {
            postmaster,
            data: data.clone(),
            socket_dir: running.socket_dir,
            port: running.port,
            users,
            watch: Watch::None(child),
        };
        roles::prepare(
            &embedded.admin_options("postgres"),
            &embedded.admin_options(DATABASE),
        )
        .await?;
        Ok(embedded)
    }

    fn supervise(&mut self) {
        let Watch::None(child) = &mut self.watch else {
            return;
        };
        let child = child.take();
        let stop = CancellationToken::new();
        let task = tokio::spawn(supervise(
            Arc::clone(&self.postmaster),
            self.data.clone(),
            child,
            stop.clone(),
        ));
        self.watch = Watch::Supervised { stop, task };
    }
}

impl Drop for Embedded {
    /// For ways out that do not pass [`Embedded::stop`]: asks PostgreSQL to stop and does not wait.
    fn drop(&mut self) {
        if let Watch::Supervised { stop, .. } = &self.watch {
            stop.cancel();
        }
        if self.users.try_lock().is_ok() {
            self.postmaster.ask_to_stop();
        }
    }
}

/// Restarts PostgreSQL when it dies, and keeps its log bounded. Gives the child back at the end.
async fn supervise(
    postmaster: Arc<Postmaster>,
    data: DataDir,
    mut child: Option<Child>,
    stop: CancellationToken,
) -> Option<Child> {
    let mut log_check = tokio::time::interval(LOG_CHECK_INTERVAL);
    let mut delay = RESTART_DELAY_MIN;
    let mut pid = postmaster.running().map(|running| running.pid);
    let mut since = Instant::now();
    loop {
        let ended = async {
            if let Some(pid) = pid {
                postmaster.ended(pid, child.as_mut()).await;
            }
        };
        tokio::select! {
            () = stop.cancelled() => return child,
            _ = log_check.tick() => {
                if let Err(error) = postmaster.bound_log() {
                    tracing::warn!(%error, "PostgreSQL's log could not be shortened");
                }
                continue;
            }
            () = ended => {}
        }
        if since.elapsed() > RESTART_DELAY_MAX {
            delay = RESTART_DELAY_MIN;
        }
        tracing::error!(?delay, "PostgreSQL ended; starting it again");
        tokio::select! {
            () = stop.cancelled() => return None,
            () = tokio::time::sleep(delay) => {}
        }
        delay = (delay * 2).min(RESTART_DELAY_MAX);
        // Not cancelled half-way: a start that has begun is waited for, so that it can be stopped.
        match restart(&postmaster, &data).await {
            Ok((started, running)) => {
                child = started;
                pid = Some(running.pid);
                since = Instant::now();
            }
            Err(error) => {
                tracing::error!(%error, "PostgreSQL did not start");
                child = None;
                pid = None;
            }
        }
    }
}

async fn restart(
    postmaster: &Postmaster,
    data: &DataDir,
) -> Result<(Option<Child>, Running), EmbeddedError> {
    let _phase = lock_phase(data).await?;
    if let Some(running) = postmaster.adopt().await? {
        return Ok((None, running));
    }
    let (child, running) = postmaster.launch().await?;
    Ok((Some(child), running))
}

/// Held while PostgreSQL is being started or stopped, by one process at a time.
async fn lock_phase(data: &DataDir) -> Result<File, EmbeddedError> {
    let path = data.place().join("postgres-start.lock");
    let file = open_lock_file(&path)?;
    let deadline = Instant::now() + PHASE_TIMEOUT;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(TryLockError::WouldBlock) => {
                return Err(EmbeddedError::Busy(PHASE_TIMEOUT.as_secs()));
            }
            Err(TryLockError::Error(source)) => {
                return Err(DataDirError::Io {
                    doing: "lock",
                    path,
                    source,
                }
                .into());
            }
        }
    }
}

fn users_path(data: &DataDir) -> PathBuf {
    data.place().join("postgres-users.lock")
}

fn connect_options(socket_dir: &Path, port: u16, role: &str, database: &str) -> PgConnectOptions {
    // Without the environment's PGPASSFILE; what else libpq's variables could say is set here.
    PgConnectOptions::new_without_pgpass()
        .socket(socket_dir)
        .port(port)
        .username(role)
        .database(database)
        .application_name("sealport")
}
