//! A guest that runs, and how it ends.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal};
use tokio::io::unix::AsyncFd;
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout};

use super::GuestSpec;
use super::memory::{Taken, TooMuch, Watch};
use super::network::Network;

/// How long the kernel may take to clear away a guest that was killed.
const CLEARING: Duration = Duration::from_secs(10);

/// Shells and bubblewrap give a process that a signal ended this status plus the signal.
const SIGNAL_BASE: i32 = 128;

/// A running guest. Dropping it kills all of it: its processes, its network, its way in.
#[derive(Debug)]
pub struct Guest {
    pub stdin: Option<ChildStdin>,
    pub stdout: Option<ChildStdout>,
    pub stderr: Option<ChildStderr>,
    /// A socket of ours that connects to the port that an HTTP guest listens on. A connection
    /// ends at once while nothing listens there.
    pub http_socket: Option<PathBuf>,
    child: Child,
    members: Arc<Members>,
    watch: Watch,
    network: Network,
    serves_http: bool,
    exit: Option<GuestExit>,
}

/// How a guest ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestExit {
    /// Its status, or 128 and the signal that ended it.
    pub code: i32,
}

impl GuestExit {
    pub fn success(self) -> bool {
        self.code == 0
    }
}

impl fmt::Display for GuestExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code - SIGNAL_BASE {
            signal @ 1..=64 => write!(f, "ended by signal {signal}"),
            _ => write!(f, "ended with status {}", self.code),
        }
    }
}

impl From<ExitStatus> for GuestExit {
    fn from(status: ExitStatus) -> Self {
        let signal = status.signal().map(|signal| SIGNAL_BASE + signal);
        GuestExit {
            code: status.code().or(signal).unwrap_or(SIGNAL_BASE),
        }
    }
}

impl Guest {
    pub(super) fn new(
        mut child: Child,
        members: Members,
        network: Network,
        spec: &GuestSpec,
    ) -> Self {
        let members = Arc::new(members);
        Guest {
            stdin: child.stdin.take(),
            stdout: child.stdout.take(),
            stderr: child.stderr.take(),
            http_socket: network.http_socket(),
            child,
            watch: Watch::start(members.clone(), spec),
            members,
            network,
            serves_http: spec.listen.is_some(),
            exit: None,
        }
    }

    /// Waits until the guest's program has ended; what it had started is gone then too.
    /// Can be cancelled and called again.
    pub async fn wait(&mut self) -> GuestExit {
        if let Some(exit) = self.exit {
            return exit;
        }
        let exit = match self.child.wait().await {
            Ok(status) => status.into(),
            // Nobody else waits for our child; if it cannot be waited for, it is gone.
            Err(_) => GuestExit { code: SIGNAL_BASE },
        };
        self.members.kill();
        self.members.gone().await;
        self.network = Network::default();
        self.exit = Some(exit);
        exit
    }

    /// Of what it took more than it may, so that it was killed.
    pub fn took_too_much(&self) -> Option<TooMuch> {
        self.watch.exceeded()
    }

    /// What it takes, as it was last looked at.
    pub fn taken(&self) -> Arc<Taken> {
        self.watch.taken()
    }

    /// Ends the guest politely, then surely: its input is closed, after half of `grace` (at once
    /// for an HTTP server, which does not read it) it is asked by SIGTERM, at the end of `grace`
    /// everything of it is killed. The caller drops what it took of `stdin` before.
    pub async fn stop(&mut self, grace: Duration) -> GuestExit {
        drop(self.stdin.take());
        let half = grace / 2;
        if !self.serves_http
            && let Ok(exit) = tokio::time::timeout(half, self.wait()).await
        {
            return exit;
        }
        self.members.ask();
        let rest = if self.serves_http { grace } else { half };
        if let Ok(exit) = tokio::time::timeout(rest, self.wait()).await {
            return exit;
        }
        self.members.kill();
        let _ = self.child.start_kill();
        self.wait().await
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // The child's own handle kills the outermost process, and with it all the rest; this is
        // the same from within, for the case that it is gone already.
        if self.exit.is_none() {
            self.members.kill();
        }
    }
}

/// Handles on a guest's processes that cannot come to mean another process.
#[derive(Debug)]
pub(super) struct Members {
    /// The first process of the guest's namespace: with it all others in there end.
    init: Option<OwnedFd>,
    /// The guest's program.
    program: OwnedFd,
    /// Without walls: the group, which a guest can leave.
    group: Option<Pid>,
    /// The process that all others of the guest are below.
    first: u32,
}

impl Members {
    /// Finds them while the launcher waits in there. `outer` is our own child.
    pub fn find(outer: u32, walled: bool) -> io::Result<Self> {
        if !walled {
            let pid = pid(outer)?;
            return Ok(Members {
                init: None,
                program: pidfd_open(pid, PidfdFlags::empty())?,
                group: Some(pid),
                first: outer,
            });
        }
        let init = first_child(outer)?;
        let program = first_child(init)?;
        Ok(Members {
            init: Some(pidfd_open(pid(init)?, PidfdFlags::empty())?),
            program: pidfd_open(pid(program)?, PidfdFlags::empty())?,
            group: None,
            first: init,
        })
    }

    /// Asks the program to end. Whether it is there still shows when it is waited for.
    fn ask(&self) {
        let _ = pidfd_send_signal(&self.program, Signal::TERM);
    }

    pub fn first(&self) -> u32 {
        self.first
    }

    pub fn kill(&self) {
        if let Some(init) = &self.init {
            let _ = pidfd_send_signal(init, Signal::KILL);
        }
        if let Some(group) = self.group {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }

    /// Waits until the kernel has cleared the guest's namespace, all of its processes included.
    async fn gone(&self) {
        let Some(init) = self.init.as_ref().and_then(|init| init.try_clone().ok()) else {
            return;
        };
        // Deprecated for types that could close their descriptor behind its back; ours owns it, and
        // the replacement is unsafe to call.
        #[allow(deprecated)]
        if let Ok(init) = AsyncFd::with_interest(init, tokio::io::Interest::READABLE) {
            let _ = tokio::time::timeout(CLEARING, init.readable()).await;
        }
    }
}

fn pid(number: u32) -> io::Result<Pid> {
    i32::try_from(number)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| io::Error::other("the sandbox's process has ended"))
}

fn first_child(of: u32) -> io::Result<u32> {
    let children = std::fs::read_to_string(format!("/proc/{of}/task/{of}/children"))?;
    let first = children.split_whitespace().next();
    first
        .and_then(|child| child.parse().ok())
        .ok_or_else(|| io::Error::other("the sandbox's process has ended"))
}
