//! Secrets as everyone but the store sees them: metadata, never a value.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use super::errors::Refusal;
use super::levels::Level;
use super::paths::{Folder, Handle, SecretPath, Tag};
use super::renewals::SecretRun;

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
    pub tags: Vec<Tag>,
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
    /// It was connected to a deployment: no door shows its value any more.
    pub use_only: bool,
    /// How far one reaches on it.
    pub level: Level,
}

impl SecretSummary {
    /// All that would miss it.
    pub fn deployments(&self) -> BTreeSet<&str> {
        let all = self.used_by.iter().chain(&self.fetched_by);
        all.map(String::as_str).collect()
    }

    /// Why nobody can use it now, in a word.
    pub fn unusable(&self, now: OffsetDateTime) -> Option<&'static str> {
        if self.expires_at.is_some_and(|at| at <= now) {
            Some("expired")
        } else if !self.active {
            Some("switched off")
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
    /// At most 100.
    pub runs: Vec<SecretRun>,
    /// For its admins: how many more run it, of which they may not read.
    pub runs_hidden: i64,
    /// When its value has to be another, if anything says so.
    pub rotation: Option<Rotation>,
    /// For its admins: deployments that bind it though their owner may not use it any more.
    pub lost_by: Vec<BoundWithoutUse>,
}

/// A deployment that was given a secret's value and would not be given it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundWithoutUse {
    pub deployment: String,
    /// The handle of the deployment's owner.
    pub owner: String,
    /// It runs with what it was given; its next start stops it.
    pub runs: bool,
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
    /// From where, for those who may write.
    pub address: Option<String>,
    pub agent: Option<String>,
    /// The older version whose value it has again.
    pub rolled_back_from: Option<i32>,
    /// Nothing sealed is left of it.
    #[serde(with = "time::serde::rfc3339::option")]
    pub destroyed_at: Option<OffsetDateTime>,
    pub destroyed_by: Option<String>,
}

/// After how long a value has to be another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotation {
    pub rule: RotationRule,
    /// The folder that it was set for; none for the secret itself.
    pub folder: Option<Folder>,
    #[serde(with = "time::serde::rfc3339")]
    pub due_at: OffsetDateTime,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RotationRule {
    pub after_days: i32,
    /// A value that Sealport generated is generated anew when it is due; others are only reminded of.
    pub regenerate: bool,
}

/// The longest time after which a rotation can be asked for, in days.
pub const ROTATION_DAYS_MAX: i32 = 3_650;

impl RotationRule {
    /// Errors: `Invalid` at `after_days`.
    pub fn new(after_days: i32, regenerate: bool) -> Result<Self, Refusal> {
        if (1..=ROTATION_DAYS_MAX).contains(&after_days) {
            Ok(RotationRule {
                after_days,
                regenerate,
            })
        } else {
            Err(Refusal::invalid(
                "after_days",
                format!("Give a number of days from 1 to {ROTATION_DAYS_MAX}."),
            ))
        }
    }
}

/// What a list is narrowed to; an empty one narrows nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretFilter {
    /// A part of the path or the description.
    pub text: String,
    pub owner: Option<Handle>,
    pub under: Option<Folder>,
    pub scope: Option<Scope>,
    pub kind: Option<Kind>,
    pub tag: Option<Tag>,
}

/// Where a path begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// A name without a folder.
    Bare,
    Meta,
    Project,
    Service,
}

impl Scope {
    pub const ALL: [Scope; 4] = [Scope::Bare, Scope::Meta, Scope::Project, Scope::Service];

    pub fn as_str(self) -> &'static str {
        match self {
            Scope::Bare => "bare",
            Scope::Meta => "meta",
            Scope::Project => "project",
            Scope::Service => "service",
        }
    }

    pub fn from_name(name: &str) -> Option<Scope> {
        Scope::ALL.into_iter().find(|scope| scope.as_str() == name)
    }
}

/// What can be chosen to narrow a list by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facets {
    /// Handles of the owners of what is in sight.
    pub owners: Vec<String>,
    pub tags: Vec<Tag>,
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

/// Which old versions of each secret an installation keeps; none of the two set keeps all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionsKept {
    /// So many besides the newest.
    pub count: Option<i32>,
    /// So many days after another took their place.
    pub days: Option<i32>,
}

impl VersionsKept {
    pub const COUNT_MAX: i32 = 10_000;

    /// Errors: `Invalid` at `keep_count` or `keep_days`.
    pub fn new(count: Option<i32>, days: Option<i32>) -> Result<Self, Refusal> {
        if count.is_some_and(|count| !(0..=Self::COUNT_MAX).contains(&count)) {
            return Err(Refusal::invalid(
                "keep_count",
                "Give a number from 0 to 10,000, or leave it empty to keep all.",
            ));
        }
        if days.is_some_and(|days| !(1..=ROTATION_DAYS_MAX).contains(&days)) {
            return Err(Refusal::invalid(
                "keep_days",
                format!("Give a number of days from 1 to {ROTATION_DAYS_MAX}, or leave it empty."),
            ));
        }
        Ok(VersionsKept { count, days })
    }
}

/// What limits of an installation would destroy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VersionsBeyond {
    pub versions: usize,
    /// Of so many secrets.
    pub secrets: usize,
    /// There are more than were counted.
    pub more: bool,
}

impl VersionsBeyond {
    /// As in "at least 2 old versions of 1 secret".
    pub fn counted(self) -> String {
        let at_least = if self.more { "at least " } else { "" };
        let some = |count: usize, what: &str| match count {
            1 => format!("1 {what}"),
            count => format!("{count} {what}s"),
        };
        let versions = some(self.versions, "old version");
        format!("{at_least}{versions} of {}", some(self.secrets, "secret"))
    }
}
