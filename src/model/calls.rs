//! Calls of a deployed server's tools: who, which, how it went and how long it took. Never what a tool was given or gave.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// A call of a tool, as it is listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallRow {
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// The caller's handle.
    pub who: String,
    pub tool: String,
    pub outcome: Outcome,
    pub took_ms: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    Done,
    /// The tool answered that it failed.
    Failed,
    /// An error in the tool's place.
    Refused,
    /// Nobody waited for the answer any more, or none came.
    GivenUp,
}

impl Outcome {
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Done => "done",
            Outcome::Failed => "failed",
            Outcome::Refused => "refused",
            Outcome::GivenUp => "given-up",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        [
            Outcome::Done,
            Outcome::Failed,
            Outcome::Refused,
            Outcome::GivenUp,
        ]
        .into_iter()
        .find(|outcome| outcome.as_str() == name)
    }
}
