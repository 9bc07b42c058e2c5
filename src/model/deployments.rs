//! Deployments and their releases, as they are shown.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use super::levels::Level;
use super::paths::{DeploymentName, EnvName, Handle, SecretPath};
use super::sources::{Source, StartPlan};
use super::targets::{Placed, Target};

/// A line of a log is cut here, in bytes.
pub const LOG_LINE_LEN_BYTES: usize = 8 * 1024;
/// Lines of one deployment that are kept.
pub const LOG_LINES_KEPT: i64 = 5_000;
/// Days that log lines are kept.
pub const LOG_MAX_AGE_DAYS: i64 = 30;

/// What is asked for: what runs, and with which names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentSpec {
    /// A team that one administers, or oneself for none.
    pub owner: Option<Handle>,
    pub name: DeploymentName,
    /// Pinned to what inspecting resolved.
    pub source: Source,
    pub start: StartPlan,
    pub target: Target,
    /// What the target wants to know, by name.
    pub options: BTreeMap<String, String>,
    /// The secret with the provider's key.
    pub provider_key: Option<Uuid>,
    pub fetch_key: Option<Uuid>,
    pub bindings: Vec<Binding>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    pub env: EnvName,
    pub to: Bound,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Bound {
    /// By id, so a rename keeps it.
    Secret { id: Uuid },
    /// Visible to whoever may see the deployment.
    Text { text: String },
    /// Each caller brings it; the sentence says what it is.
    PerUser { description: String },
}

/// A description of a variable that callers bring is cut here, in characters.
const DESCRIPTION_LEN_CHARS: usize = 300;

/// What a source says of a variable, as it is kept with a binding: one line, cut.
pub fn described(said: &str) -> String {
    let line = said.split_whitespace().collect::<Vec<_>>().join(" ");
    let shown = line.chars().filter(|c| !c.is_control());
    shown.take(DESCRIPTION_LEN_CHARS).collect()
}

/// Where a deployment stands. `Running` means that it answered the MCP handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeploymentState {
    /// A release is under way.
    Deploying,
    Running,
    /// It exited and is waiting to be started again.
    Restarting,
    /// It will not be started again until someone acts; the reason says why.
    Failed,
    Stopped,
}

impl DeploymentState {
    pub fn as_str(self) -> &'static str {
        match self {
            DeploymentState::Deploying => "deploying",
            DeploymentState::Running => "running",
            DeploymentState::Restarting => "restarting",
            DeploymentState::Failed => "failed",
            DeploymentState::Stopped => "stopped",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        [
            DeploymentState::Deploying,
            DeploymentState::Running,
            DeploymentState::Restarting,
            DeploymentState::Failed,
            DeploymentState::Stopped,
        ]
        .into_iter()
        .find(|state| state.as_str() == name)
    }
}

/// Where a release stands; the last three are ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReleaseState {
    Queued,
    Running,
    Live,
    Failed,
    /// A newer release, a stop or a destroy came first.
    Superseded,
}

impl ReleaseState {
    pub fn as_str(self) -> &'static str {
        match self {
            ReleaseState::Queued => "queued",
            ReleaseState::Running => "running",
            ReleaseState::Live => "live",
            ReleaseState::Failed => "failed",
            ReleaseState::Superseded => "superseded",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        [
            ReleaseState::Queued,
            ReleaseState::Running,
            ReleaseState::Live,
            ReleaseState::Failed,
            ReleaseState::Superseded,
        ]
        .into_iter()
        .find(|state| state.as_str() == name)
    }
}

/// The steps of a release, in their order; each target has some of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepName {
    Fetch,
    Install,
    /// What the provider is to have of it is made, or changed.
    Provision,
    /// The provider builds and starts it.
    Build,
    Start,
    Handshake,
}

impl StepName {
    pub const ALL: [StepName; 6] = [
        StepName::Fetch,
        StepName::Install,
        StepName::Provision,
        StepName::Build,
        StepName::Start,
        StepName::Handshake,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            StepName::Fetch => "fetch",
            StepName::Install => "install",
            StepName::Provision => "provision",
            StepName::Build => "build",
            StepName::Start => "start",
            StepName::Handshake => "handshake",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        StepName::ALL.into_iter().find(|step| step.as_str() == name)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    pub name: StepName,
    /// `waiting`, `running`, `done` or `failed`.
    pub state: String,
    #[serde(with = "time::serde::rfc3339::option")]
    pub started_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    pub ended_at: Option<OffsetDateTime>,
    /// What happened, in a sentence, masked.
    pub detail: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentSummary {
    pub id: Uuid,
    pub name: DeploymentName,
    /// The handle of the owner.
    pub owner: String,
    pub source: Source,
    pub state: DeploymentState,
    /// Why it is in this state, where there is something to say.
    pub reason: Option<String>,
    #[serde(with = "time::serde::rfc3339")]
    pub state_since: OffsetDateTime,
    pub release: i32,
    /// Callers bring keys of their own.
    pub per_user: bool,
    /// How far one reaches on it. With `use` alone there is no reason, no start, no binding, no release and no log.
    pub level: Level,
}

/// A row of the list of deployments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentRow {
    pub summary: DeploymentSummary,
    pub target: Target,
    /// It goes as soon as the provider has nothing of it any more.
    pub destroying: bool,
    /// It runs an older value of a bound secret than the newest. Never with `use` alone.
    pub is_older: bool,
    /// The newest; none with `use` alone.
    pub last: Option<LastRelease>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastRelease {
    pub number: i32,
    pub state: ReleaseState,
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    pub created_by: String,
}

impl BindingSummary {
    /// Bound to a secret of the owner's, also to one that is gone.
    pub fn is_secret(&self) -> bool {
        self.text.is_none() && !self.per_user
    }
}

impl DeploymentDetail {
    /// Another text whenever state, reason or steps are other ones: a page tells by it whether it is fresh.
    pub fn gist(&self) -> String {
        let mut hasher = DefaultHasher::new();
        (self.summary.state.as_str(), &self.summary.reason).hash(&mut hasher);
        if let Some(release) = self.releases.first() {
            (release.number, release.state.as_str()).hash(&mut hasher);
            for step in &release.steps {
                (step.name.as_str(), &step.state, &step.detail).hash(&mut hasher);
            }
        }
        format!("{:016x}", hasher.finish())
    }
}

/// A deployment's page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentDetail {
    pub summary: DeploymentSummary,
    pub start: StartPlan,
    pub target: Target,
    /// What the target was told, by name.
    pub options: BTreeMap<String, String>,
    /// What the provider has of it.
    pub placed: Placed,
    /// It goes as soon as the provider has nothing of it any more.
    pub destroying: bool,
    pub bindings: Vec<BindingSummary>,
    /// A changed value redeploys it by itself.
    pub follows_changes: bool,
    /// Newest first, at most 20.
    pub releases: Vec<ReleaseSummary>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindingSummary {
    pub env: EnvName,
    /// The secret's path now, or none for plain text or a secret that is gone.
    pub secret: Option<SecretPath>,
    pub text: Option<String>,
    /// Each caller brings it.
    pub per_user: bool,
    /// The path when it was bound, of a secret that the deployment's owner may not use any more, or that is gone.
    pub lost: Option<String>,
    /// The version that the running release uses, and the newest.
    pub running_version: Option<i32>,
    pub current_version: Option<i32>,
    /// The running release has another value than the newest.
    pub is_older: bool,
    /// Why the next start will not get it, in words after its path.
    pub unusable: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseSummary {
    pub number: i32,
    pub state: ReleaseState,
    pub reason: Option<String>,
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    pub ended_at: Option<OffsetDateTime>,
    pub created_by: String,
    /// What the provider built for it from git.
    pub commit: Option<String>,
    /// The older release whose code it runs.
    pub code_of: Option<i32>,
    pub steps: Vec<Step>,
    /// Env name and the version of its secret.
    pub versions: Vec<(EnvName, i32)>,
}

/// A masked line of a server's output or of Sealport's own remarks on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// Rises with each line of one deployment.
    pub seq: i64,
    pub release: i32,
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// `stdout`, `stderr`, `install` or `sealport`.
    pub stream: String,
    pub line: String,
}
