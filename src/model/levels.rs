//! How far someone reaches on a secret or a deployment. Each level includes those before it.

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// A secret: bind it in a deployment. A deployment: call it.
    Use = 1,
    /// A secret: reveal and compare. A deployment: see its page and log.
    Read,
    /// A secret: new versions and metadata. A deployment: redeploy, start, stop.
    Write,
    /// A secret: share, rename, move, delete. A deployment: source, target, bindings, sharing, destroy.
    Admin,
}

impl Level {
    pub const ALL: [Level; 4] = [Level::Use, Level::Read, Level::Write, Level::Admin];

    /// As the SQL function `reach` counts: 1 to 4.
    pub fn number(self) -> i32 {
        self as i32
    }

    /// None for 0, nothing.
    pub fn from_number(number: i32) -> Option<Level> {
        Level::ALL
            .into_iter()
            .find(|level| level.number() == number)
    }

    /// The name on the wire and on pages.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Use => "use",
            Level::Read => "read",
            Level::Write => "write",
            Level::Admin => "admin",
        }
    }

    pub fn from_name(name: &str) -> Option<Level> {
        Level::ALL.into_iter().find(|level| level.as_str() == name)
    }
}
