//! Why a source cannot be used.

use std::fmt;

use crate::model::errors::{Refusal, RefusalKind};

/// A sentence that a person can act on, and what the tools printed last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFailure {
    /// `Invalid` where the source is wrong, `Unavailable` where this machine or a registry is.
    pub kind: RefusalKind,
    pub sentence: String,
    /// The last lines, cleaned, without the fetch key; empty where nothing foreign ran.
    pub output: Vec<String>,
}

impl SourceFailure {
    pub(super) fn wrong(sentence: impl Into<String>) -> Self {
        SourceFailure {
            kind: RefusalKind::Invalid,
            sentence: sentence.into(),
            output: Vec::new(),
        }
    }

    pub(super) fn unavailable(sentence: impl Into<String>) -> Self {
        SourceFailure {
            kind: RefusalKind::Unavailable,
            ..SourceFailure::wrong(sentence)
        }
    }

    pub(super) fn with_output(mut self, output: Vec<String>) -> Self {
        self.output = output;
        self
    }
}

impl fmt::Display for SourceFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl std::error::Error for SourceFailure {}

impl From<SourceFailure> for Refusal {
    fn from(failure: SourceFailure) -> Self {
        let detail = match failure.output.last() {
            None => failure.sentence,
            Some(line) => format!("{} The last line was: {line}", failure.sentence),
        };
        Refusal::new(failure.kind, detail).at("source")
    }
}
