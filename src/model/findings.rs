//! What `sealport doctor` finds, a line for each thing that it looks at.

use serde::Serialize;

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at, in a word or two.
    pub check: &'static str,
    pub state: State,
    /// What was found; for something to do, what to do.
    pub says: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    Ok,
    /// As it was set up, and worth knowing.
    Note,
    ToDo,
}

impl Finding {
    pub fn ok(check: &'static str, says: impl Into<String>) -> Self {
        Finding {
            check,
            state: State::Ok,
            says: says.into(),
        }
    }

    pub fn note(check: &'static str, says: impl Into<String>) -> Self {
        Finding {
            check,
            state: State::Note,
            says: says.into(),
        }
    }

    pub fn to_do(check: &'static str, says: impl Into<String>) -> Self {
        Finding {
            check,
            state: State::ToDo,
            says: says.into(),
        }
    }
}
