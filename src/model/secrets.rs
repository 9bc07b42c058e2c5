//! Secrets as everyone but the store sees them: metadata, never a value.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use super::paths::{DeploymentName, SecretPath};

/// The largest value, in bytes.
pub const VALUE_LEN_BYTES: usize = 64 * 1024;
/// The most that the values of one deployment may have together: masks take many times as much memory.
pub const VALUES_LEN_BYTES: usize = 128 * 1024;
/// The longest description, in characters.
pub const DESCRIPTION_LEN_CHARS: usize = 1_000;

/// Values with fewer characters are not masked in what a server says: every "1" of its log would go.
pub const SHORTEST_MASKED_CHARS: usize = 6;
/// What is said of such a value.
pub const TOO_SHORT: &str = "The value is too short to be masked: where a server prints it, it stands in the log and in answers.";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    ApiKey,
    DatabaseUrl,
    JwtSecret,
    Certificate,
    Json,
    #[default]
    Custom,
}

impl Kind {
    pub const ALL: [Kind; 6] = [
        Kind::ApiKey,
        Kind::DatabaseUrl,
        Kind::JwtSecret,
        Kind::Certificate,
        Kind::Json,
        Kind::Custom,
    ];

    /// The name in the database and on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::ApiKey => "api_key",
            Kind::DatabaseUrl => "database_url",
            Kind::JwtSecret => "jwt_secret",
            Kind::Certificate => "certificate",
            Kind::Json => "json",
            Kind::Custom => "custom",
        }
    }

    /// The name a person reads.
    pub fn label(self) -> &'static str {
        match self {
            Kind::ApiKey => "API key",
            Kind::DatabaseUrl => "Database URL",
            Kind::JwtSecret => "JWT secret",
            Kind::Certificate => "Certificate",
            Kind::Json => "JSON",
            Kind::Custom => "Custom",
        }
    }

    pub fn from_name(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// A row of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretSummary {
    pub id: Uuid,
    /// The handle of the owner.
    pub owner: String,
    pub path: SecretPath,
    pub kind: Kind,
    pub description: String,
    pub version: i32,
    #[serde(with = "time::serde::rfc3339")]
    pub changed_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    pub expires_at: Option<OffsetDateTime>,
    pub active: bool,
    /// The deployments of this actor's sight that bind it, by name.
    pub used_by: Vec<String>,
    /// Those whose source is fetched with it.
    pub fetched_by: Vec<String>,
    /// Whether the newest value is long enough to be masked.
    pub maskable: bool,
}

impl SecretSummary {
    /// All that would miss it.
    pub fn deployments(&self) -> BTreeSet<&str> {
        let all = self.used_by.iter().chain(&self.fetched_by);
        all.map(String::as_str).collect()
    }

    /// Why nobody can use it now, in a word.
    pub fn unusable(&self, now: OffsetDateTime) -> Option<&'static str> {
        if !self.active {
            Some("switched off")
        } else if self.expires_at.is_some_and(|at| at <= now) {
            Some("expired")
        } else {
            None
        }
    }
}

/// A secret's page: all but the value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretDetail {
    pub summary: SecretSummary,
    pub versions: Vec<VersionSummary>,
    pub runs: Vec<SecretRun>,
}

/// A deployment that runs a secret now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretRun {
    pub deployment: DeploymentName,
    pub release: i32,
    pub version: i32,
    /// Whether its value is the newest one, also under an older version's number.
    pub is_current: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionSummary {
    pub version: i32,
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// Who made it, as named then.
    pub created_by: String,
    /// Made by Sealport rather than typed.
    pub generated: bool,
}

/// How a list is ordered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SecretSort {
    #[default]
    Path,
    Changed,
    Kind,
}
