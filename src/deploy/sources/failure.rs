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
        let last = failure.output.iter().rev().find(|line| !is_of_a_log(line));
        let detail = match last {
            None => failure.sentence,
            Some(line) => format!("{} The last line was: {line}", failure.sentence),
        };
        Refusal::new(failure.kind, detail).at("source")
    }
}

/// npm ends with the place of its own log, which nobody can look at: what it says stands before.
fn is_of_a_log(line: &str) -> bool {
    line.contains("A complete log of this run can be found in")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_is_one_that_says_something() {
        let end =
            "npm error A complete log of this run can be found in: /guest/.npm/_logs/1-debug-0.log";
        let told = |lines: &[&str]| {
            let output = lines.iter().map(|line| (*line).to_owned()).collect();
            Refusal::from(SourceFailure::wrong("It failed.").with_output(output)).detail
        };
        assert_eq!(
            told(&["npm error code E404", end]),
            "It failed. The last line was: npm error code E404"
        );
        assert_eq!(told(&[end]), "It failed.");
    }
}
