//! Tokens as they are listed: never the credential.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use super::levels::Level;
use super::paths::Folder;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenSummary {
    pub id: Uuid,
    pub name: String,
    pub opens: Opens,
    /// The handle of its maker.
    pub maker: String,
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    pub expires_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    pub last_used_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    pub revoked_at: Option<OffsetDateTime>,
}

/// What a token is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Opens {
    /// The gateway of one deployment, by name.
    Gateway(String),
    Api {
        /// The handle of the owner for whom it acts.
        owner: String,
        /// How far it reaches, at most.
        ceiling: Level,
        /// Only paths under it; none: all of the owner's.
        under: Option<Folder>,
        /// May make and change deployments.
        deploys: bool,
    },
}

/// Shown once, to its maker: the only browser type that carries a credential, and never a secret's value.
#[derive(Clone, Serialize, Deserialize)]
pub struct NewToken {
    pub id: Uuid,
    pub token: String,
}
