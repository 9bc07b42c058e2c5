//! A command whose output is masked: it runs as a child, its signals and its exit status pass through.

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode, ExitStatus, Stdio};

use anyhow::Context;
use futures::stream::{SelectAll, StreamExt};
use rustix::process::{Pid, Signal, getpgrp, kill_process};
use rustix::termios::tcgetpgrp;
use secrecy::SecretString;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use super::not_started;
use crate::deploy::masks::{Masks, TerminalMask};

/// What is passed on, and whether a terminal sends it to the child by itself.
const SIGNALS: [(Signal, bool); 7] = [
    (Signal::INT, true),
    (Signal::QUIT, true),
    (Signal::WINCH, true),
    (Signal::TERM, false),
    (Signal::HUP, false),
    (Signal::USR1, false),
    (Signal::USR2, false),
];
const PIECE_LEN_BYTES: usize = 16 * 1024;

pub async fn run(mut command: Command, values: Vec<SecretString>) -> anyhow::Result<ExitCode> {
    let masks = Masks::build(values)
        .await
        .context("The masks were not made")?;
    // Before the child is there: what comes in between waits here.
    let mut signals = Signals::catch()?;
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = tokio::process::Command::from(command);
    let spawned = child.spawn();
    let mut child = spawned.map_err(|error| not_started(&error, child.as_std()))?;
    let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    let mut pumps = JoinSet::new();
    if let Some(out) = child.stdout.take() {
        pumps.spawn(pump(out, masks.terminal(), std::io::stdout()));
    }
    if let Some(out) = child.stderr.take() {
        pumps.spawn(pump(out, masks.terminal(), std::io::stderr()));
    }
    let status = loop {
        tokio::select! {
            status = child.wait() => break status.context("The command was lost")?,
            Some((signal, by_terminal)) = signals.next() => {
                if let Some(pid) = pid && !(by_terminal && has_terminal()) {
                    // It may have ended just now.
                    let _ = kill_process(pid, signal);
                }
            }
        }
    };
    // What it started may go on printing, as in a pipeline; a signal that would end us ends the waiting.
    loop {
        tokio::select! {
            pumped = pumps.join_next() => if pumped.is_none() { break },
            Some((signal, _)) = signals.next() => {
                if ![Signal::WINCH, Signal::USR1, Signal::USR2].contains(&signal) {
                    break;
                }
            }
        }
    }
    Ok(exit_code(status))
}

/// Passes on what comes, masked, until it ends or nobody reads it any more.
async fn pump(mut from: impl AsyncRead + Unpin, mut mask: TerminalMask, mut to: impl Write) {
    let mut piece = vec![0; PIECE_LEN_BYTES];
    loop {
        let safe = match from.read(&mut piece).await {
            Ok(0) | Err(_) => break,
            Ok(count) => mask.feed(&piece[..count]),
        };
        // Written where it stands: nothing else runs on this thread that could not wait. The child feels it as a full pipe.
        if tokio::task::block_in_place(|| to.write_all(&safe).and_then(|()| to.flush())).is_err() {
            return;
        }
    }
    let _ = to.write_all(&mask.finish()).and_then(|()| to.flush());
}

struct Signals(SelectAll<futures::stream::BoxStream<'static, (Signal, bool)>>);

impl Signals {
    /// Those that are not ignored: under `nohup` a hang-up stays ignored, by the child too.
    fn catch() -> anyhow::Result<Signals> {
        let ignored = ignored_mask();
        let mut all = SelectAll::new();
        for (which, by_terminal) in SIGNALS {
            let number = which.as_raw();
            if ignored & (1 << (number - 1)) != 0 {
                continue;
            }
            let caught = signal(SignalKind::from_raw(number))
                .context("A signal handler could not be set up")?;
            let comes = futures::stream::unfold(caught, move |mut caught| async move {
                caught.recv().await?;
                Some(((which, by_terminal), caught))
            });
            all.push(comes.boxed());
        }
        Ok(Signals(all))
    }

    async fn next(&mut self) -> Option<(Signal, bool)> {
        self.0.next().await
    }
}

/// The signals that this process was started with as ignored, one bit each (proc(5), `SigIgn`); none where that is not told.
fn ignored_mask() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}

/// Whether this process and its child are what the terminal speaks to: then the child has got its signals already.
fn has_terminal() -> bool {
    std::fs::File::open("/dev/tty")
        .ok()
        .and_then(|terminal| tcgetpgrp(terminal).ok())
        .is_some_and(|foreground| foreground == getpgrp())
}

fn exit_code(status: ExitStatus) -> ExitCode {
    let code = match (status.code(), status.signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => 1,
    };
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
