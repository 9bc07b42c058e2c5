//! A caller's own keys of a per-user deployment: what is to be brought, and what of it is connected.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use super::deployments::DeploymentState;
use super::limits::GuestUsage;
use super::paths::{DeploymentName, EnvName, SecretPath};
use super::sources::Source;
use super::targets::Target;

/// What somebody agrees to who connects a key: whose server, which code, where, and what callers bring.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agreed {
    /// The handle of the owner.
    pub owner: String,
    pub source: String,
    pub target: Target,
    pub names: Vec<EnvName>,
    /// The program and its arguments. What was agreed to before these were shown has none.
    #[serde(default)]
    pub command: Option<String>,
    #[serde(default)]
    pub network: Option<bool>,
}

impl Agreed {
    /// What is another now, in sentences.
    pub fn changes(&self, now: &Agreed) -> Vec<String> {
        let mut says = Vec::new();
        if self.owner != now.owner {
            says.push(format!(
                "It belonged to {} and now belongs to {}.",
                self.owner, now.owner
            ));
        }
        if self.source != now.source {
            says.push(format!(
                "It ran {} and now runs {}.",
                self.source, now.source
            ));
        }
        if self.target != now.target {
            says.push(format!(
                "It ran on {} and now runs on {}.",
                self.target.title(),
                now.target.title()
            ));
        }
        let lacking = |of: &Agreed, other: &Agreed| {
            let names = of.names.iter().filter(|name| !other.names.contains(name));
            names
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", ")
        };
        match lacking(now, self) {
            new if new.is_empty() => {}
            new => says.push(format!("It now asks for {new} too.")),
        }
        match lacking(self, now) {
            old if old.is_empty() => {}
            old => says.push(format!("It does not ask for {old} any more.")),
        }
        if let (Some(was), Some(is)) = (&self.command, &now.command)
            && was != is
        {
            says.push(format!("It was started with {was} and now with {is}."));
        }
        match (self.network, now.network) {
            (Some(false), Some(true)) => says.push("It now reaches the network.".to_owned()),
            (Some(true), Some(false)) => {
                says.push("It does not reach the network any more.".to_owned())
            }
            _ => {}
        }
        if says.is_empty() {
            says.push("How it starts, whether it reaches the network, or one of its other variables was changed.".to_owned());
        }
        says
    }
}

/// The page on which a caller connects their own keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectPage {
    pub id: Uuid,
    /// Another number whenever it would be another thing to agree to.
    pub terms: i32,
    pub name: DeploymentName,
    pub owner: String,
    pub source: Source,
    pub target: Target,
    /// The program and its arguments, as the source was looked at: a value never stands there.
    pub command: String,
    /// Whether it may open connections to the outside.
    pub network: bool,
    pub state: DeploymentState,
    pub slots: Vec<Slot>,
    /// What has changed since the caller connected, in sentences; empty while everything stands.
    pub changes: Vec<String>,
    /// When the far service last refused what is connected now; none since a call passed. Which of several it was, nobody can tell.
    #[serde(with = "time::serde::rfc3339::option")]
    pub refused_at: Option<OffsetDateTime>,
}

impl ConnectPage {
    /// Calls are answered.
    pub fn is_connected(&self) -> bool {
        self.slots.iter().all(|slot| slot.state.is_used())
    }
}

/// A variable that each caller brings, as it is for one of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    pub env: EnvName,
    /// From the source: foreign text.
    pub description: String,
    /// Where the caller's value is kept.
    pub path: SecretPath,
    pub state: SlotState,
    /// The caller's secret, where there is one.
    pub secret_id: Option<Uuid>,
    #[serde(with = "time::serde::rfc3339::option")]
    pub expires_at: Option<OffsetDateTime>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SlotState {
    /// No value is kept.
    Missing,
    /// A value is kept and was never connected.
    Kept,
    /// It was connected to what has changed since.
    Changed,
    Connected,
    /// Connected, and its end comes soon.
    Expiring,
    /// Connected, and when it was last used, the far service refused it, or another that was used with it.
    Refused,
    Expired,
    Off,
}

impl SlotState {
    pub fn as_str(self) -> &'static str {
        match self {
            SlotState::Missing => "missing",
            SlotState::Kept => "kept",
            SlotState::Changed => "changed",
            SlotState::Connected => "connected",
            SlotState::Expiring => "expiring",
            SlotState::Refused => "refused",
            SlotState::Expired => "expired",
            SlotState::Off => "off",
        }
    }

    /// Whether the caller's next call has it.
    pub fn is_used(self) -> bool {
        matches!(
            self,
            SlotState::Connected | SlotState::Expiring | SlotState::Refused
        )
    }
}

/// Somebody who has connected keys, as the deployment's owner sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectedPerson {
    pub handle: String,
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
    pub state: PersonState,
}

/// How all that somebody has connected stands together: the worst of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PersonState {
    Connected,
    /// Some end comes soon.
    Expiring,
    /// The far service refused it when it was last used.
    Refused,
    /// Something is not connected to what it is now, has expired or is switched off: their calls wait for it.
    Missing,
}

/// How a caller's own instance is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OwnInstance {
    Runs(GuestUsage),
    /// Their next call starts it.
    Stopped,
    /// Why it ended, lately, masked; the next call starts it again.
    Failed(String),
}
