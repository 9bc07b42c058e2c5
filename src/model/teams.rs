//! Teams: owners with members.

use serde::{Deserialize, Serialize};

use super::grants::Member;
use super::levels::Level;

/// Teams that one person can have made, without those that are dissolved.
pub const TEAMS_MADE_MAX: i64 = 100;
/// Members of one team.
pub const MEMBERS_MAX: i64 = 500;

/// A row of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TeamSummary {
    pub handle: String,
    /// One's own level on all that the team owns.
    pub level: Level,
    pub members: i64,
}

/// A team's page, for its members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TeamDetail {
    pub handle: String,
    /// One's own level on all that the team owns.
    pub level: Level,
    pub members: Vec<Member>,
    /// Paths of the secrets that it owns, the first 200.
    pub secrets: Vec<String>,
    /// Names of the deployments that it owns, the first 200.
    pub deployments: Vec<String>,
}
