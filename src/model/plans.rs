//! What a program wants deployed, and what Sealport says to that before anything is made. Requests hold names, and text that was not
//! looked at yet: nothing prints them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::errors::{Refusal, RefusalKind};
use super::paths::{DeploymentName, EnvName};
use super::sources::{Source, Transport, WantedVariable};

/// A deployment as a program asks for it: as it was sent, valid or not.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeployRequest {
    pub name: String,
    pub source: String,
    /// None for this machine.
    #[serde(default)]
    pub target: Option<String>,
    /// None for shared.
    #[serde(default)]
    pub mode: Option<String>,
    #[serde(default)]
    pub bindings: Vec<BindingRequest>,
    /// The path of the provider's key, for remote targets; none for the target's usual one.
    #[serde(default)]
    pub key: Option<String>,
    /// The path of the secret with the credential to fetch.
    #[serde(default)]
    pub fetch_key: Option<String>,
    /// What the target wants to know: `model::targets` lists it.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

/// What a variable shall be: one of `secret`, `text` and `per_user`.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BindingRequest {
    pub env: String,
    /// A path: the caller's own, or `handle:path`.
    #[serde(default)]
    pub secret: Option<String>,
    /// Visible to whoever may see the deployment.
    #[serde(default)]
    pub text: Option<String>,
    /// The text is no secret, although it looks like one.
    #[serde(default)]
    pub plain: bool,
    #[serde(default)]
    pub per_user: bool,
}

/// What shall be another at a deployment that is there; what is none stays.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeRequest {
    #[serde(default)]
    pub source: Option<String>,
    /// With it the source is looked at anew.
    #[serde(default)]
    pub options: Option<BTreeMap<String, String>>,
    /// The path of another key of the provider's.
    #[serde(default)]
    pub key: Option<String>,
    /// All of them, in the place of those that are there.
    #[serde(default)]
    pub bindings: Option<Vec<BindingRequest>>,
    /// Empty: none any more.
    #[serde(default)]
    pub fetch_key: Option<String>,
    #[serde(default)]
    pub follows_changes: Option<bool>,
}

impl ChangeRequest {
    /// Whether the source is to be looked at.
    pub fn looks(&self) -> bool {
        self.source.is_some() || self.options.is_some()
    }

    /// Whether what runs is another afterwards, so that it takes a release.
    pub fn releases(&self) -> bool {
        self.looks() || self.bindings.is_some() || self.fetch_key.is_some() || self.key.is_some()
    }
}

/// What a request would come to. It can be carried out when nothing is missing, expired or refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    pub name: String,
    /// What looking at the source found; none where it was not looked at.
    pub found: Option<Found>,
    /// The variables that it would have.
    pub bound: Vec<EnvName>,
    /// What would be made or changed where it runs, in sentences; empty while something is in the way.
    pub changes: Vec<String>,
    /// For a git source that the target could not run as it is: a Dockerfile that makes it one, to be put into the repository.
    pub dockerfile: Option<String>,
    /// Secrets that are not there or not in sight, and variables that the source requires and nothing is bound to.
    pub missing: Vec<Lack>,
    pub expired: Vec<Lack>,
    pub refused: Vec<Lack>,
}

/// A source that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// Pinned to an exact version or commit.
    pub source: Source,
    /// As the source gives them: foreign text.
    pub title: String,
    pub description: String,
    pub command: Vec<String>,
    pub transport: Transport,
    /// What it asks for, with what only its code suggests.
    pub variables: Vec<WantedVariable>,
    /// What one should know, in sentences.
    pub notes: Vec<String>,
}

/// Why it cannot be carried out, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lack {
    pub kind: RefusalKind,
    /// The part of the request: `name`, `source`, `bindings.ENV`, `options.command`, `token` and the like.
    pub field: String,
    /// The variable that it is about.
    pub env: Option<String>,
    /// The path of the secret that it is about.
    pub secret: Option<String>,
    /// A sentence to act on, without a value.
    pub says: String,
}

/// Under which of its three a plan names a lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lacking {
    Missing,
    Expired,
    Refused,
}

impl Plan {
    pub fn is_ready(&self) -> bool {
        self.first_lack().is_none()
    }

    /// What stands in the way most: a refusal before what is expired or missing.
    pub fn first_lack(&self) -> Option<&Lack> {
        self.lacks().next()
    }

    pub fn lacks(&self) -> impl Iterator<Item = &Lack> {
        self.refused
            .iter()
            .chain(&self.expired)
            .chain(&self.missing)
    }

    /// All sentences in one, for whoever gets one refusal.
    pub fn refusal(&self) -> Option<Refusal> {
        let first = self.first_lack()?;
        let says: Vec<&str> = self.lacks().map(|lack| lack.says.as_str()).collect();
        Some(Refusal::new(first.kind, says.join(" ")).at(&first.field))
    }

    pub fn add(&mut self, how: Lacking, lack: Lack) {
        match how {
            Lacking::Missing => self.missing.push(lack),
            Lacking::Expired => self.expired.push(lack),
            Lacking::Refused => self.refused.push(lack),
        }
    }

    pub fn refuse(&mut self, refusal: Refusal) {
        self.add(Lacking::Refused, Lack::of(refusal));
    }
}

impl Lack {
    pub fn of(refusal: Refusal) -> Self {
        let field = refusal.field.unwrap_or_default();
        Lack {
            kind: refusal.kind,
            env: field.strip_prefix("bindings.").map(str::to_owned),
            field,
            secret: None,
            says: refusal.detail,
        }
    }
}

/// A release that was begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    pub name: DeploymentName,
    pub release: i32,
}

/// How a request ended without a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotBegun {
    /// What is in the way, all of it.
    Lacking(Box<Plan>),
    Refused(Refusal),
}

impl From<Refusal> for NotBegun {
    fn from(refusal: Refusal) -> Self {
        NotBegun::Refused(refusal)
    }
}

impl NotBegun {
    /// In one sentence or more, for a door that shows one refusal.
    pub fn into_refusal(self) -> Refusal {
        match self {
            NotBegun::Refused(refusal) => refusal,
            NotBegun::Lacking(plan) => plan.refusal().unwrap_or_else(Refusal::internal),
        }
    }
}
