//! How a command over the API ends when it was not done: an exit status that scripts can rely on, and what to do.

use std::process::ExitCode;

use serde_json::Value;

use crate::model::errors::Refusal;

/// The exit statuses, as `sealport --help` and docs/cli.md list them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    Done = 0,
    /// Not done for a reason on this machine, or the answer is no: not the same value, something due, a failed release.
    No = 1,
    /// The command line, or what was given with it, is wrong.
    Usage = 2,
    NotFound = 3,
    /// No token, one that is not valid, or one without the right.
    Denied = 4,
    /// Stored already, changed meanwhile, switched off, expired.
    Conflict = 5,
    /// The server is not reached, or failed.
    Unavailable = 6,
    /// A limit; later it may be done.
    TooMany = 7,
    /// `run` did not come to starting its command (as of `env` and `timeout`); `bridge` neither.
    NotStarted = 125,
    NotRunnable = 126,
    NoSuchCommand = 127,
}

/// What `--help` ends with.
pub const STATUSES: &str = "\
Exit statuses of the commands over the API:
  0    done; `secret check`: the same value; `secret due`: nothing is due
  1    not done, or the answer is no: another value, something due, a failed release
  2    the command line, or what was given, is wrong
  3    there is no such thing, or it is not yours to see
  4    no token, one that is not valid, or one without the right
  5    stored already, changed meanwhile, switched off or expired
  6    the server is not reached, or failed
  7    too many requests: try later
  `run` and `bridge` end as their command does (128 and the signal's number for a signal); 125: it did not come to starting it;
  126: the command cannot be run; 127: there is no such command

SEALPORT_URL and SEALPORT_TOKEN say which server and as whom; `sealport login` keeps both.";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// Why a command was not done.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{detail}")]
pub struct Failure {
    pub exit: Exit,
    pub detail: String,
    /// What the server said, for those who know more of it.
    pub problem: Option<Box<Value>>,
}

impl Failure {
    pub fn new(exit: Exit, detail: impl Into<String>) -> Self {
        Failure {
            exit,
            detail: detail.into(),
            problem: None,
        }
    }

    pub fn usage(detail: impl Into<String>) -> Self {
        Failure::new(Exit::Usage, detail)
    }
}

/// What is refused here is refused before anything was sent.
impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Failure::usage(refusal.detail)
    }
}

/// The exit status of an error, wherever it was raised.
pub fn exit_of(error: &anyhow::Error) -> Exit {
    // A context is found by the error alone, a cause by the chain alone.
    let failure = error.downcast_ref::<Failure>().or_else(|| {
        let mut causes = error.chain();
        causes.find_map(|cause| cause.downcast_ref::<Failure>())
    });
    match failure {
        Some(failure) => failure.exit,
        None if error.chain().any(|cause| cause.is::<Refusal>()) => Exit::Usage,
        None => Exit::No,
    }
}

/// Whoever read our output has left, as `head` does: nothing to complain of.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    })
}
