//! Tokens as they are listed: never the credential.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenSummary {
    pub id: Uuid,
    pub name: String,
    /// The deployment whose gateway it opens.
    pub deployment: String,
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

/// Shown once, to its maker: the only browser type that carries a credential, and never a secret's value.
#[derive(Clone, Serialize, Deserialize)]
pub struct NewToken {
    pub id: Uuid,
    pub token: String,
}
