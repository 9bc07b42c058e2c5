//! What a caller is told when something is refused. Causes stay in the log, under the request's id.

use serde::{Deserialize, Serialize};

/// The one error on the wire. `detail` is a sentence a person can act on; it never quotes a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{detail}")]
pub struct Refusal {
    pub kind: RefusalKind,
    /// The form field or argument that is wrong, by its name.
    pub field: Option<String>,
    pub detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalKind {
    /// Not there, or not visible to this actor: the two are not told apart.
    NotFound,
    /// Visible, but the level does not reach.
    Denied,
    /// Nobody is signed in, or the credential does not hold.
    Unauthenticated,
    /// A field is malformed.
    Invalid,
    /// The name is in use.
    Taken,
    /// The state moved on, or does not allow it.
    Conflict,
    /// A limit; try later.
    TooMany,
    /// A part that is needed is not there now.
    Unavailable,
    /// Our fault; the log has the cause.
    Internal,
}

impl Refusal {
    pub fn new(kind: RefusalKind, detail: impl Into<String>) -> Self {
        Refusal {
            kind,
            field: None,
            detail: detail.into(),
        }
    }

    pub fn invalid(field: &str, detail: impl Into<String>) -> Self {
        Refusal::new(RefusalKind::Invalid, detail).at(field)
    }

    pub fn not_found(what: &str) -> Self {
        Refusal::new(
            RefusalKind::NotFound,
            format!("There is no {what} here, or it is not yours to see."),
        )
    }

    pub fn internal() -> Self {
        Refusal::new(
            RefusalKind::Internal,
            "Something went wrong on our side. The log has the cause under the request id below.",
        )
    }

    pub fn at(mut self, field: &str) -> Self {
        self.field = Some(field.to_owned());
        self
    }
}
