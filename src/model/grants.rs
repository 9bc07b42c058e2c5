//! What is shared, with whom, and how far it reaches.

use std::fmt;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use super::errors::Refusal;
use super::levels::Level;
use super::paths::{DeploymentName, Folder, Handle, SecretPath};

/// Deployments that one grant can be narrowed to.
pub const ONLY_MAX: usize = 50;

/// What a level can be given on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Shareable {
    Secret {
        id: Uuid,
    },
    /// Every path under the prefix, also those that are made later.
    Folder {
        owner: Handle,
        prefix: Folder,
    },
    Deployment {
        name: DeploymentName,
    },
}

impl Shareable {
    /// As addresses and forms name it: `secret/ID`, `folder/HANDLE/PREFIX` or `deployment/NAME`. Errors: `NotFound`.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let nothing = || Refusal::not_found("share");
        let (kind, rest) = text.split_once('/').ok_or_else(nothing)?;
        match kind {
            "secret" => Uuid::parse_str(rest)
                .map(|id| Shareable::Secret { id })
                .map_err(|_| nothing()),
            "folder" => {
                let (owner, prefix) = rest.split_once('/').ok_or_else(nothing)?;
                Ok(Shareable::Folder {
                    owner: Handle::parse(owner).map_err(|_| nothing())?,
                    prefix: Folder::parse(prefix).map_err(|_| nothing())?,
                })
            }
            "deployment" => DeploymentName::parse(rest)
                .map(|name| Shareable::Deployment { name })
                .map_err(|_| nothing()),
            _ => Err(nothing()),
        }
    }
}

impl fmt::Display for Shareable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Shareable::Secret { id } => write!(f, "secret/{id}"),
            Shareable::Folder { owner, prefix } => write!(f, "folder/{owner}/{prefix}"),
            Shareable::Deployment { name } => write!(f, "deployment/{name}"),
        }
    }
}

/// The same, as a person names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Shared {
    Secret { id: Uuid, path: SecretPath },
    Folder { prefix: Folder },
    Deployment { name: DeploymentName },
}

/// A level that was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    pub id: Uuid,
    pub on: Shared,
    /// The handle of the owner of what is shared.
    pub owner: String,
    pub grantee: Holder,
    pub level: Level,
    /// `use` in these deployments alone; empty for everywhere.
    pub only: Vec<String>,
    /// As named then.
    pub given_by: String,
    #[serde(with = "time::serde::rfc3339")]
    pub given_at: OffsetDateTime,
    /// Whether who asks can take it back, or give it back.
    pub endable: bool,
}

/// A user or a team, by handle.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Holder {
    pub handle: String,
    pub is_team: bool,
    /// The account or the team has ended.
    pub ended: bool,
}

/// A member of a team, with a level on all that the team owns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub handle: String,
    pub level: Level,
    /// As named then.
    pub added_by: String,
    #[serde(with = "time::serde::rfc3339")]
    pub added_at: OffsetDateTime,
}

/// Everyone who reaches something, and by what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reachers {
    pub on: Shared,
    pub owner: Holder,
    /// Of the team that owns it; empty for a person's own.
    pub members: Vec<Member>,
    pub grants: Vec<Grant>,
    /// The people in the teams among the grantees: team, then handle.
    pub through: Vec<(String, String)>,
}

/// All levels that a user or team has, as far as the viewer may know: on what the viewer administers, or everything of one's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HolderReach {
    pub holder: Holder,
    /// It is the viewer.
    pub is_self: bool,
    /// Teams, with the level on all that they own.
    pub teams: Vec<(String, Level)>,
    /// Given to the holder or to one of these teams.
    pub grants: Vec<Grant>,
}

/// What a rename changes for somebody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LevelChange {
    pub holder: Holder,
    pub before: Option<Level>,
    pub after: Option<Level>,
}

impl LevelChange {
    /// As in "bob gains read" or "the team ops loses write".
    pub fn sentence(&self) -> String {
        let who = if self.holder.is_team {
            format!("the team {}", self.holder.handle)
        } else {
            self.holder.handle.clone()
        };
        match (self.before, self.after) {
            (None, Some(after)) => format!("{who} gains {}", after.as_str()),
            (Some(before), None) => format!("{who} loses {}", before.as_str()),
            (Some(before), Some(after)) => {
                format!(
                    "{who} has {} instead of {}",
                    after.as_str(),
                    before.as_str()
                )
            }
            (None, None) => format!("{who} is as before"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_shared_reads_as_it_is_written() {
        for text in [
            "secret/0192f0c1-2345-7abc-8def-0123456789ab",
            "folder/ann/project/shop",
            "folder/ops/meta",
            "deployment/weather",
        ] {
            assert_eq!(Shareable::parse(text).unwrap().to_string(), text);
        }
        for wrong in [
            "",
            "secret",
            "secret/1",
            "folder/ann",
            "folder/ann/",
            "folder/Ann/project",
            "folder/ann/other/x",
            "folder/ann/project/../x",
            "deployment/",
            "deployment/A",
            "team/x",
        ] {
            assert!(Shareable::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_prefix_covers_whole_segments() {
        let prefix = Folder::parse("project/shop/").unwrap();
        let covers = |path: &str| prefix.covers(&SecretPath::parse(path).unwrap());
        assert!(covers("project/shop/KEY") && covers("project/shop/a/KEY"));
        assert!(
            !covers("project/shopping/KEY")
                && !covers("project/Shop/KEY")
                && !covers("meta/shop/KEY")
        );
    }
}
