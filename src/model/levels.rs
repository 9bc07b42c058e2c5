//! How far someone reaches on a secret or a deployment. Each level includes those before it.

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// A secret: bind it in a deployment. A deployment: call it.
    Use = 1,
    /// A secret: compare a value with it. A deployment: see its page and log.
    Read,
    /// A secret: new versions and metadata. A deployment: redeploy, start, stop.
    Write,
    /// A secret: share, rename within its folder, delete. A deployment: source, target, bindings, sharing, destroy.
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

    /// What it allows on a secret, in words.
    pub fn on_secret(self) -> &'static str {
        match self {
            Level::Use => "bind it in a deployment",
            Level::Read => {
                "bind and compare it, and read its value with a token or the command line"
            }
            Level::Write => "bind, compare and read it, set new values and change its details",
            Level::Admin => "everything, with sharing, renaming and deleting",
        }
    }

    /// What it allows on a deployment, in words.
    pub fn on_deployment(self) -> &'static str {
        match self {
            Level::Use => "connect to it and call its tools",
            Level::Read => "call it, and see its page and its log",
            Level::Write => "call and see it, redeploy, start and stop it",
            Level::Admin => "everything, with bindings, sharing and destroying",
        }
    }

    pub fn from_name(name: &str) -> Option<Level> {
        Level::ALL.into_iter().find(|level| level.as_str() == name)
    }
}
