//! What needs a look soon: ends that come, values that have to be others.

use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::levels::Level;
use super::paths::SecretPath;

/// Days before its end from which a secret is due.
pub const DUE_DAYS: i64 = 30;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Due {
    pub id: Uuid,
    /// The handle of the owner.
    pub owner: String,
    pub path: SecretPath,
    pub why: DueWhy,
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// How far the caller reaches on it.
    pub level: Level,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DueWhy {
    Expired,
    Expires,
    /// Its value has to be another, and nobody but a person can make it so.
    Rotate,
}

impl DueWhy {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            DueWhy::Expired => "expired",
            DueWhy::Expires => "expires",
            DueWhy::Rotate => "rotate",
        }
    }
}

/// How near a moment is, as it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Nearness {
    Past,
    Day,
    Week,
    Month,
}

impl Due {
    pub fn nearness(&self, now: OffsetDateTime) -> Nearness {
        match self.at - now {
            left if left <= Duration::ZERO => Nearness::Past,
            left if left <= Duration::days(1) => Nearness::Day,
            left if left <= Duration::days(7) => Nearness::Week,
            _ => Nearness::Month,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use time::macros::datetime;

    #[test]
    fn a_moment_is_told_in_four_steps() {
        let now = datetime!(2026-11-23 12:00 UTC);
        let nearness = |hours: i64| {
            let due = Due {
                id: Uuid::nil(),
                owner: "ann".into(),
                path: SecretPath::parse("KEY").unwrap(),
                why: DueWhy::Expires,
                at: now + Duration::hours(hours),
                level: Level::Use,
            };
            due.nearness(now)
        };
        for (hours, is) in [
            (-1, Nearness::Past),
            (0, Nearness::Past),
            (24, Nearness::Day),
            (25, Nearness::Week),
            (7 * 24, Nearness::Week),
            (7 * 24 + 1, Nearness::Month),
        ] {
            assert_eq!(nearness(hours), is, "{hours}");
        }
    }
}
