//! The server behind the bridge: a command in a process group of its own, and whatever it starts.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, getpid, kill_process, kill_process_group,
    set_child_subreaper,
};
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};
use tokio::signal::unix::{self, SignalKind};

use super::not_started;
use crate::cli::failures::{Exit, Failure};
use crate::deploy::sandbox::GuestExit;

/// How long the kernel may take to clear away what was killed.
const CLEARING: Duration = Duration::from_secs(2);

/// It is waited for here and nowhere else, together with all orphans: in a container the bridge is the first process, and nobody else
/// would take in what has ended.
pub(super) struct Server {
    leader: Pid,
    children: unix::Signal,
    exit: Option<GuestExit>,
    _child: Child,
}

pub(super) struct Pipes {
    pub stdin: ChildStdin,
    pub stdout: ChildStdout,
    pub stderr: Option<ChildStderr>,
}

impl Server {
    /// Starts it with our environment but for what is `kept_back`. Errors: 126 and 127, as `env` and shells tell it.
    pub fn start(command: &[OsString], kept_back: &[&str]) -> Result<(Server, Pipes), Failure> {
        let Some((program, arguments)) = command.split_first() else {
            return Err(Failure::usage("Give the server's command behind --."));
        };
        // Before it is there, so that no end is missed.
        let children = unix::signal(SignalKind::child()).map_err(|error| {
            not_started(format!("The end of a process cannot be heard of: {error}."))
        })?;
        // What loses its parent becomes ours, wherever it put itself. Where the kernel does not have this, the group is what is ended.
        let _ = set_child_subreaper(Some(getpid()));
        let mut command = Command::new(program);
        command
            .args(arguments)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        for name in kept_back {
            command.env_remove(name);
        }
        let mut child = command.spawn().map_err(|error| {
            let program = program.to_string_lossy();
            match error.kind() {
                ErrorKind::NotFound => Failure::new(
                    Exit::NoSuchCommand,
                    format!("{program}: there is no such command."),
                ),
                _ => Failure::new(Exit::NotRunnable, format!("{program}: {error}.")),
            }
        })?;
        let pipes = Pipes::of(&mut child)
            .map_err(|error| not_started(format!("The server's pipes cannot be read: {error}.")))?;
        let server = Server {
            leader: Pid::from_child(&child),
            children,
            exit: None,
            _child: child,
        };
        Ok((server, pipes))
    }

    /// Waits until the command has ended. Can be cancelled and called again.
    pub async fn wait(&mut self) -> GuestExit {
        loop {
            self.take_in();
            if let Some(exit) = self.exit {
                return exit;
            }
            self.children.recv().await;
        }
    }

    /// Ends it politely, then surely: its input was closed by the caller, after half of `grace` it is asked by SIGTERM, at the end of
    /// `grace` it is killed.
    pub async fn stop(&mut self, grace: Duration) {
        if tokio::time::timeout(grace / 2, self.wait()).await.is_ok() {
            return;
        }
        self.signal(Signal::TERM);
        if tokio::time::timeout(grace / 2, self.wait()).await.is_ok() {
            return;
        }
        self.signal(Signal::KILL);
        self.wait().await;
    }

    /// Ends what it left behind.
    pub async fn clear(&mut self) {
        self.signal(Signal::KILL);
        let cleared = async {
            while self.take_in() {
                for orphan in children() {
                    let _ = kill_process(orphan, Signal::KILL);
                }
                // The end of one brings its own children to us, and tells us.
                self.children.recv().await;
            }
        };
        let _ = tokio::time::timeout(CLEARING, cleared).await;
    }

    fn signal(&self, signal: Signal) {
        let _ = kill_process_group(self.leader, signal);
    }

    /// Takes in all that has ended. Whether anything of ours still runs.
    fn take_in(&mut self) -> bool {
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == self.leader => self.exit = Some(exit(status)),
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Ok(None) => return true,
                Err(_) => {
                    // There is nothing left to wait for, so it is gone, however that came.
                    self.exit.get_or_insert(GuestExit { code: 128 });
                    return false;
                }
            }
        }
    }
}

impl Pipes {
    fn of(child: &mut Child) -> std::io::Result<Pipes> {
        let gone = || std::io::Error::other("they are gone");
        Ok(Pipes {
            stdin: ChildStdin::from_std(child.stdin.take().ok_or_else(gone)?)?,
            stdout: ChildStdout::from_std(child.stdout.take().ok_or_else(gone)?)?,
            stderr: child.stderr.take().map(ChildStderr::from_std).transpose()?,
        })
    }
}

fn exit(status: WaitStatus) -> GuestExit {
    let signal = status.terminating_signal().map(|signal| 128 + signal);
    GuestExit {
        code: status.exit_status().or(signal).unwrap_or(128),
    }
}

/// The processes that are children of this one now; none where the kernel does not tell.
fn children() -> Vec<Pid> {
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else {
        return Vec::new();
    };
    let lists = threads
        .flatten()
        .filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| {
            let numbers = list.split_whitespace().map(str::to_owned);
            numbers.collect::<Vec<_>>()
        })
        .filter_map(|number| Pid::from_raw(number.parse().ok()?))
        .collect()
}
