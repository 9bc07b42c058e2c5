//! What a store function can end with.

use super::keyring::SealError;
use crate::model::errors::{Refusal, RefusalKind};

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Told to the caller as it is.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Our fault or the database's: logged with its cause, told only as "something went wrong".
    #[error("{0}")]
    Broken(
        String,
        #[source] Option<Box<dyn std::error::Error + Send + Sync>>,
    ),
}

impl Error {
    pub fn broken(what: impl Into<String>) -> Self {
        Error::Broken(what.into(), None)
    }

    pub fn caused(
        what: impl Into<String>,
        cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Error::Broken(what.into(), Some(cause.into()))
    }

    /// Whether a sealed value did not open: it, its place or its key was changed.
    pub(super) fn is_damage(&self) -> bool {
        let Error::Broken(_, Some(cause)) = self else {
            return false;
        };
        matches!(
            cause.downcast_ref(),
            Some(SealError::DoesNotOpen | SealError::NoText)
        )
    }

    /// What may go out: a refusal as it is, anything else without its cause, which goes to the log here.
    pub fn into_refusal(self) -> Refusal {
        match self {
            Error::Refused(refusal) => refusal,
            Error::Broken(what, cause) => {
                tracing::error!(
                    cause = cause.as_deref().map(tracing::field::display),
                    "{what}"
                );
                match cause.as_deref().and_then(|cause| cause.downcast_ref()) {
                    // More is asked of the database than it does in that time, or it is not there.
                    Some(sqlx::Error::PoolTimedOut) => Refusal::new(
                        RefusalKind::Unavailable,
                        "Sealport waited too long for its database. Try again in a moment.",
                    ),
                    _ => Refusal::internal(),
                }
            }
        }
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        // Row Level Security refused a write: the same answer as for a thing that is not there.
        if let sqlx::Error::Database(database) = &error
            && database.code().as_deref() == Some("42501")
        {
            return Refusal::new(
                RefusalKind::Denied,
                "That is not yours to change: it takes write on it, and to rename, share or delete it admin. Its owner can give you \
                 that, and whoever has admin on it.",
            )
            .into();
        }
        Error::caused("the database did not do what it should", error)
    }
}

/// Tells a violated constraint as what it means.
pub(super) trait OnConstraint<T> {
    /// Maps the violation of the constraint `name` to a refusal; any other error passes.
    fn on_constraint(self, name: &str, refusal: impl FnOnce() -> Refusal) -> Result<T>;
}

impl<T> OnConstraint<T> for Result<T, sqlx::Error> {
    fn on_constraint(self, name: &str, refusal: impl FnOnce() -> Refusal) -> Result<T> {
        self.map_err(|error| match &error {
            sqlx::Error::Database(database) if database.constraint() == Some(name) => {
                refusal().into()
            }
            _ => error.into(),
        })
    }
}
