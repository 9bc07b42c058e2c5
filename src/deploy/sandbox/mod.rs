//! Where other people's code is inspected, fetched, installed and run.
//!
//! A guest runs as an id of its own, in namespaces of its own, sees its home, the host's programs
//! and nothing else, reaches the outside by a stack that cannot reach the host, and dies with
//! Sealport. What of this a host can do is tried out by [`Sandbox::probe`], not assumed.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::AsFd;
use std::os::unix::fs::fchown;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Child;

pub(super) use clearing::clear;
pub use doctor::{examine, orphans, trial_place};
pub use guest::{Guest, GuestExit};
pub use launcher::{entry, harden_self};
pub(super) use memory::kept_bytes;
pub use memory::{Taken, TooMuch};
pub(super) use network::GATEWAY;
pub use report::{Isolation, Outside, SandboxReport};
pub use walls::DATA;

mod clearing;
mod descriptors;
mod doctor;
mod filter;
mod guest;
mod host;
mod keeper;
mod launcher;
mod memory;
mod network;
mod report;
mod tools;
mod walls;

/// How long all the walls and the network of one guest may take to stand.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// Ids for guests start here when we are root; the one before tries the walls out.
pub const FIRST_GUEST_ID: u32 = 210_000;
const PROBE_ID: u32 = FIRST_GUEST_ID - 1;

/// What the administrator decides about guests, and where they live.
#[derive(Clone, Debug)]
pub struct SandboxConfig {
    /// Run guests without walls when the host has none.
    pub allow_unsandboxed: bool,
    /// Private ranges that guests may reach, a proxy's address included when packages are fetched
    /// through one. With a loopback address listed, a guest reaches the
    /// host's 127.0.0.1 at 10.0.2.2, which it also knows as `host.sealport.internal`.
    pub private_networks: Vec<IpNet>,
    /// Ours alone (0700), with a short path: a socket's path ends at 107 bytes.
    pub runtime_dir: PathBuf,
    /// The parent of all guests' homes. Guests' ids must be able to pass through to it.
    pub guests_dir: PathBuf,
    /// What no guest may see, wherever it lies: the data directory, and a key file elsewhere.
    pub private: Vec<PathBuf>,
    /// The PATH by which Node.js and Python are found where they lie apart from the host's programs.
    pub tools_path: OsString,
    /// Our own executable.
    pub launcher: PathBuf,
}

/// The sandbox of this host. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Sandbox(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: SandboxConfig,
    programs: host::Programs,
    layout: host::Layout,
    means: walls::Means,
    report: SandboxReport,
    tools: Vec<tools::Tool>,
    unusable: Vec<tools::Unusable>,
}

/// One guest to be: what it runs, what it sees and what it is told.
#[derive(Clone, Debug)]
pub struct GuestSpec {
    /// Its id outside, used only when we are root: one for each deployment, from
    /// [`FIRST_GUEST_ID`].
    pub uid: u32,
    /// The only place that it can write and that stays; it sees it as `/srv`, its HOME.
    pub home: PathBuf,
    /// Other guests have the same home: it reads what is there, and writes nothing.
    pub home_is_shared: bool,
    /// What outlives this home: it sees it as `/data`.
    pub data: Option<PathBuf>,
    /// Where it starts, as it sees it: `/srv` when None.
    pub cwd: Option<PathBuf>,
    /// More of the host that it may read and run: (on the host, inside).
    pub read_only: Vec<(PathBuf, PathBuf)>,
    pub argv: Vec<String>,
    /// Exactly its environment; PATH, HOME and LANG are filled in when absent.
    pub env: Vec<(String, SecretString)>,
    pub network: GuestNetwork,
    /// The TCP port of its own loopback that an HTTP server listens on.
    pub listen: Option<u16>,
    pub limits: Limits,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestNetwork {
    /// It may open connections to the outside.
    Outgoing,
    /// It has its own loopback and nothing else.
    None,
}

/// What one guest may take of the host, by the kernel's resource limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Of each of its processes, held by the kernel, and of all together, looked at every second.
    pub memory_bytes: u64,
    /// Of each of its processes.
    pub open_files: u64,
    /// Threads count too.
    pub processes: u64,
    /// The longest file that it may write.
    pub file_bytes: u64,
    /// Of all that it keeps, looked at now and then.
    pub disk_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            memory_bytes: 2 << 30,
            open_files: 4096,
            processes: 512,
            file_bytes: 2 << 30,
            disk_bytes: 8 << 30,
        }
    }
}

/// Why a guest does not run. Never carries a value: guests' own output is not in it.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    #[error("the sandbox needs the package {0}, which is not installed")]
    Missing(String),
    #[error(
        "this host has no sandbox to run servers in ({0}); mend that, or set \
         SEALPORT_ALLOW_UNSANDBOXED to run them without walls"
    )]
    Unsandboxed(String),
    /// Not mended by the wish to run servers without walls, so it does not name that.
    #[error(
        "a server that speaks HTTP needs a network of its own, and this host gives it none \
         ({why}); {}. SEALPORT_ALLOW_UNSANDBOXED does not change that, and a server that speaks \
         stdio runs without",
        report::remedy_for_network(*.walls)
    )]
    NoNetwork {
        why: String,
        /// Whether bubblewrap stands: without it nothing else helps.
        walls: bool,
    },
    /// Landlock opens whole trees, so without walls nothing can hide a place within one.
    #[error(
        "{} lies among the programs that servers may read, and there is no sandbox to hide it; \
         put it elsewhere (SEALPORT_DATA, SEALPORT_MASTER_KEY_FILE), such as below /var/lib, or \
         install bubblewrap",
        .0.display()
    )]
    Exposed(PathBuf),
    #[error("{0}")]
    Invalid(String),
    #[error("the sandbox's place on the host cannot be used: {0}")]
    Host(String),
    #[error("{what} could not be started: {detail}")]
    Start { what: &'static str, detail: String },
    #[error("the sandbox did not stand within {} seconds", START_TIMEOUT.as_secs())]
    Late,
}

impl From<SandboxError> for crate::model::errors::Refusal {
    fn from(error: SandboxError) -> Self {
        use crate::model::errors::RefusalKind::{Invalid, Unavailable};
        let kind = match error {
            SandboxError::Invalid(_) => Invalid,
            _ => Unavailable,
        };
        Self::new(kind, error.to_string())
    }
}

impl Sandbox {
    /// Tries out what the host can do by running a guest, with less each time until one runs.
    /// Fails only when the configured places cannot be used: a host without walls is reported,
    /// and refuses at [`Sandbox::spawn`].
    pub async fn probe(config: SandboxConfig) -> Result<Sandbox, SandboxError> {
        let root = rustix::process::geteuid().is_root();
        let layout = {
            let config = config.clone();
            // Copying the launcher is a matter of megabytes.
            tokio::task::spawn_blocking(move || host::lay_out(&config, root))
                .await
                .map_err(|error| SandboxError::Host(error.to_string()))??
        };
        let programs = host::Programs::find();
        let mut report = SandboxReport::new(&config);
        let mut means = walls::Means {
            bubblewrap: true,
            own_network: true,
            no_inner_namespaces: true,
            root,
        };
        let missing = programs.missing_for_network();
        if !missing.is_empty() {
            means.own_network = false;
            report.why_open = Some(format!("not installed: {}", missing.join(", ")));
        }
        let missing = programs.missing_for_walls();
        if !missing.is_empty() {
            means.bubblewrap = false;
            report.why_none = Some(format!("not installed: {}", missing.join(", ")));
        }
        let inner = Inner {
            config,
            programs,
            layout,
            means,
            report,
            tools: Vec::new(),
            unusable: Vec::new(),
        };
        let mut inner = inner.try_out().await?;
        inner.try_tools().await;
        Ok(Sandbox(Arc::new(inner)))
    }

    /// What holds guests on this host, for `readyz` and the pages.
    pub fn report(&self) -> SandboxReport {
        self.0.report.clone()
    }

    /// Where guests find a program of this host, as they see it.
    pub fn program(&self, name: &str) -> Option<PathBuf> {
        let folders = self.0.folders();
        folders
            .into_iter()
            .map(|folder| folder.join(name))
            .find(|path| path.is_file())
    }

    /// Why guests have no such program although this host has one, in a sentence for the operator.
    pub fn why_without(&self, name: &str) -> Option<&str> {
        let provider = tools::provider(name)?;
        let unusable = self.0.unusable.iter();
        unusable
            .filter(|tool| tool.name == provider)
            .map(|tool| tool.why.as_str())
            .next()
    }

    /// Makes a guest's home: 0700, and when we are root its own, with all that lies in it.
    pub async fn prepare_home(&self, uid: u32, home: &Path) -> Result<(), SandboxError> {
        let (home, root) = (home.to_owned(), self.0.means.root);
        tokio::task::spawn_blocking(move || host::home(&home, uid, root))
            .await
            .map_err(|error| SandboxError::Host(error.to_string()))?
    }

    /// Starts a guest, its network first. Dropping the guest ends it and all that it started.
    pub async fn spawn(&self, guest: GuestSpec) -> Result<Guest, SandboxError> {
        if let Some(why) = &self.0.report.why_none
            && !self.0.config.allow_unsandboxed
        {
            return Err(SandboxError::Unsandboxed(why.clone()));
        }
        // On the host's own network two HTTP guests would meet at one port, and one would answer for the other.
        if guest.listen.is_some() && !self.0.means.own_network {
            let report = &self.0.report;
            let why = report.why_none.as_ref().or(report.why_open.as_ref());
            return Err(SandboxError::NoNetwork {
                why: why.cloned().unwrap_or_default(),
                walls: self.0.means.bubblewrap,
            });
        }
        self.0.start(guest).await
    }
}

impl Inner {
    async fn try_out(mut self) -> Result<Self, SandboxError> {
        let home = self.config.guests_dir.join(".probe");
        host::home(&home, PROBE_ID, self.means.root)?;
        let mut again = true;
        while self.means.bubblewrap {
            let Err(error) = self.probe(&home, vec!["true".into()]).await else {
                break;
            };
            // A passing fault must not take a wall away for as long as Sealport runs.
            if std::mem::take(&mut again) {
                continue;
            }
            again = true;
            // Less each time: an older bubblewrap, then no network of its own, then nothing.
            if self.means.no_inner_namespaces {
                self.means.no_inner_namespaces = false;
            } else if self.means.own_network {
                self.means.own_network = false;
                self.means.no_inner_namespaces = true;
                self.report.why_open = Some(error.to_string());
            } else {
                self.means.bubblewrap = false;
                tracing::warn!(%error, "bubblewrap builds no sandbox here");
                let closed = host::namespaces_closed(Path::new("/proc/sys"));
                self.report.why_none = Some(closed.unwrap_or_else(|| error.to_string()));
                self.report.why_open = None;
            }
        }
        if !self.means.bubblewrap {
            self.means.own_network = false;
        }
        self.report.conclude(self.means, launcher::landlock_here());
        if !self.means.bubblewrap
            && let Some((path, _)) = walls::exposed(&[], &self.private()).pop()
        {
            self.report.runs_guests = false;
            self.report.why_none = Some(SandboxError::Exposed(path).to_string());
        }
        Ok(self)
    }

    /// Keeps what runs in a guest; a Node.js may need more of the host than its own folder.
    async fn try_tools(&mut self) {
        if !self.report.runs_guests {
            return;
        }
        let (root, private) = (self.means.root, self.private());
        let home = self.config.guests_dir.join(".probe");
        for found in tools::find(&self.config.tools_path, &private, root).await {
            let tried = match found {
                Ok(tool) => {
                    let (name, trial) = (tool.name, tool.trial());
                    let why = format!("{} does not run in the sandbox", trial[0]);
                    self.tools.push(tool);
                    self.probe(&home, trial).await.map_err(|error| {
                        self.tools.pop();
                        tools::Unusable {
                            name,
                            why: format!("{why}: {error}."),
                        }
                    })
                }
                Err(unusable) => Err(unusable),
            };
            if let Err(unusable) = tried {
                tracing::warn!(why = unusable.why, "a program is kept from servers");
                self.unusable.push(unusable);
            }
        }
    }

    /// Runs a program in a first guest.
    async fn probe(&self, home: &Path, argv: Vec<String>) -> Result<(), SandboxError> {
        let mut guest = self
            .start(GuestSpec {
                uid: PROBE_ID,
                home: home.to_owned(),
                home_is_shared: false,
                cwd: None,
                data: None,
                read_only: Vec::new(),
                argv,
                env: Vec::new(),
                network: GuestNetwork::Outgoing,
                listen: None,
                limits: Limits::default(),
            })
            .await?;
        let exit = tokio::time::timeout(START_TIMEOUT, guest.wait())
            .await
            .map_err(|_| SandboxError::Late)?;
        if exit.success() {
            return Ok(());
        }
        Err(SandboxError::Start {
            what: "a first guest",
            detail: exit.to_string(),
        })
    }

    async fn start(&self, mut guest: GuestSpec) -> Result<Guest, SandboxError> {
        check(&guest)?;
        let prefixes = self.tools.iter().map(|tool| &tool.prefix);
        guest
            .read_only
            .extend(prefixes.map(|prefix| (prefix.clone(), prefix.clone())));
        tokio::time::timeout(START_TIMEOUT, self.raise(guest))
            .await
            .map_err(|_| SandboxError::Late)?
    }

    async fn raise(&self, spec: GuestSpec) -> Result<Guest, SandboxError> {
        let private = self.private();
        if !self.means.bubblewrap
            && let Some((path, _)) = walls::exposed(&spec.read_only, &private).pop()
        {
            return Err(SandboxError::Exposed(path));
        }
        let command = walls::chain(self.means, &self.programs, &self.layout, &spec, &private)?;
        let mut child = keeper::spawn(command)
            .await
            .map_err(network::starting("the sandbox"))?;
        if !launcher_is_ready(&mut child).await {
            return Err(network::failed("the sandbox", &mut child).await);
        }
        if self.means.root {
            own_streams(&child, spec.uid).map_err(network::starting("the sandbox"))?;
        }
        let pid = child.id().unwrap_or_default();
        let members = guest::Members::find(pid, self.means.bubblewrap)
            .map_err(network::starting("the sandbox"))?;
        let plan = network::Plan {
            means: self.means,
            programs: &self.programs,
            layout: &self.layout,
            listed: &self.config.private_networks,
            runtime_dir: &self.config.runtime_dir,
        };
        let network = plan.raise(&spec, pid).await?;
        let frame = self
            .frame(&spec)
            .to_bytes()
            .map_err(|error| SandboxError::Invalid(error.to_string()))?;
        if let Some(stdin) = child.stdin.as_mut() {
            let told = async {
                stdin.write_all(&frame).await?;
                stdin.flush().await
            };
            told.await.map_err(network::starting("the guest"))?;
        }
        Ok(Guest::new(child, members, network, &spec))
    }

    /// A guest's PATH.
    fn folders(&self) -> Vec<PathBuf> {
        let tools = self.tools.iter().map(|tool| tool.bin.clone());
        tools.chain(tools::FOLDERS.map(PathBuf::from)).collect()
    }

    /// What is ours alone, among what guests may see.
    fn private(&self) -> Vec<PathBuf> {
        let own = [&self.config.runtime_dir, &self.config.guests_dir];
        let mut private = self.config.private.clone();
        private.extend(own.into_iter().cloned());
        private
    }

    /// What the launcher is told, values included: the last moment before the guest.
    fn frame(&self, spec: &GuestSpec) -> launcher::Frame {
        // Without walls a guest sees the host's own paths.
        let below = |text: &str, folder: &str, place: &Path| match text.strip_prefix(folder) {
            Some(rest) if !self.means.bubblewrap && (rest.is_empty() || rest.starts_with('/')) => {
                Some(format!("{}{rest}", place.display()))
            }
            _ => None,
        };
        let data = spec.data.as_deref().unwrap_or(&spec.home);
        let seen = |text: &str| {
            below(text, walls::HOME, &spec.home)
                .or_else(|| below(text, walls::DATA, data))
                .unwrap_or_else(|| text.to_owned())
        };
        let mut env: BTreeMap<String, String> = spec
            .env
            .iter()
            .map(|(name, value)| (name.clone(), seen(value.expose_secret())))
            .collect();
        let folders = self.folders();
        let folders: Vec<_> = folders.iter().map(|path| path.to_string_lossy()).collect();
        for (name, value) in [
            ("PATH", folders.join(":").as_str()),
            ("HOME", walls::HOME),
            ("LANG", "C.UTF-8"),
        ] {
            env.entry(name.into()).or_insert_with(|| seen(value));
        }
        if !self.means.bubblewrap {
            // The host's /tmp is not for guests.
            env.entry("TMPDIR".into())
                .or_insert_with(|| seen(walls::HOME));
        }
        let cwd = spec.cwd.as_deref().unwrap_or(Path::new(walls::HOME));
        let (readable, writable) = walls::paths(self.means, spec);
        launcher::Frame {
            argv: spec.argv.iter().map(|argument| seen(argument)).collect(),
            env,
            cwd: seen(&cwd.to_string_lossy()).into(),
            limits: spec.limits,
            readable,
            writable,
        }
    }
}

/// Refuses what could not be run as it is written, before anything is started for it.
fn check(guest: &GuestSpec) -> Result<(), SandboxError> {
    let bad = |what: &str| Err(SandboxError::Invalid(what.to_owned()));
    if guest.uid == 0 {
        return bad("a guest never runs as root");
    }
    if guest.argv.first().is_none_or(String::is_empty) {
        return bad("there is no program to run");
    }
    let nul = |text: &str| text.contains('\0');
    if guest.argv.iter().any(|argument| nul(argument)) {
        return bad("an argument holds a NUL");
    }
    for (name, value) in &guest.env {
        if name.is_empty() || name.contains('=') || nul(name) {
            return bad("a variable's name cannot be set");
        }
        if nul(value.expose_secret()) {
            return Err(SandboxError::Invalid(format!(
                "the value of {name} holds a NUL, which no environment can carry"
            )));
        }
    }
    let inside = guest.read_only.iter().map(|(_, inside)| inside);
    if !inside.chain(&guest.cwd).all(|path| path.is_absolute()) {
        return bad("paths inside a guest are absolute");
    }
    // What it writes itself could lead such a mount elsewhere.
    let own = |inside: &Path| {
        [walls::HOME, walls::DATA]
            .iter()
            .any(|own| inside.starts_with(own))
    };
    if guest.read_only.iter().any(|(_, inside)| own(inside)) {
        return bad("nothing of the host is shown to a guest below what is its own");
    }
    Ok(())
}

/// A guest's streams are its own, so that it can open /dev/stdout and /dev/stderr by name too.
fn own_streams(child: &Child, uid: u32) -> std::io::Result<()> {
    let streams = [
        child.stdin.as_ref().map(AsFd::as_fd),
        child.stdout.as_ref().map(AsFd::as_fd),
        child.stderr.as_ref().map(AsFd::as_fd),
    ];
    for stream in streams.into_iter().flatten() {
        fchown(stream, Some(uid), Some(uid))?;
    }
    Ok(())
}

/// Reads the launcher's first line byte by byte, so that what follows is left for the caller.
async fn launcher_is_ready(child: &mut Child) -> bool {
    let Some(stdout) = child.stdout.as_mut() else {
        return false;
    };
    for expected in launcher::READY {
        match stdout.read_u8().await {
            Ok(byte) if byte == *expected => {}
            _ => return false,
        }
    }
    true
}
