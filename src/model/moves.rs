//! A secret's way to another owner, as it is shown before it is gone.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::levels::Level;
use super::paths::SecretPath;

/// What moving a secret would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MovePlan {
    pub id: Uuid,
    pub path: SecretPath,
    /// The handle of whose it is.
    pub owner: String,
    /// To whom the caller may move it: handles.
    pub targets: Vec<String>,
    /// Once one of them is chosen.
    pub effect: Option<MoveEffect>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveEffect {
    pub to: String,
    /// There is a secret with this path already.
    pub taken: bool,
    /// Who reaches it otherwise than before, as far as the caller may know.
    pub changes: Vec<ReachChange>,
    /// Deployments of others than the new owner that bind it or fetch their code with it.
    pub used_by: Vec<String>,
    /// The folder by whose rule it has to be rotated now, and then no more.
    pub rule_lost: Option<String>,
}

/// A user or team that reaches a secret otherwise than before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReachChange {
    pub handle: String,
    pub before: Option<Level>,
    pub after: Option<Level>,
}
