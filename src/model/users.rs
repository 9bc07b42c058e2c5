//! People with an account.

use std::fmt::{self, Display, Formatter};

use serde::{Deserialize, Serialize};

use time::OffsetDateTime;
use uuid::Uuid;

use super::errors::Refusal;

/// The shortest password, in characters. Length is what resists guessing (NIST SP 800-63B).
pub const PASSWORD_MIN_CHARS: usize = 12;
/// The longest password, in bytes: enough for any passphrase, and a bound on hashing work.
pub const PASSWORD_MAX_BYTES: usize = 1_024;
/// How long a password that was typed counts for what asks for it again, in minutes.
pub const CONFIRMED_MINUTES: i32 = 10;

/// An e-mail address in the one form under which it is stored, compared and counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Email(String);

impl Email {
    /// Trims and lower-cases. Errors: `Invalid` at the field `email`.
    pub fn parse(raw: &str) -> Result<Self, Refusal> {
        let email = raw.trim().to_lowercase();
        let (local, domain) = email.rsplit_once('@').unwrap_or_default();
        let plain = |part: &str| {
            !part.is_empty()
                && !part
                    .chars()
                    .any(|c| c.is_whitespace() || c.is_control() || c == '@')
        };
        if email.len() <= 254 && plain(local) && plain(domain) {
            Ok(Email(email))
        } else {
            Err(Refusal::invalid(
                "email",
                "That is not an e-mail address. It looks like name@example.org.",
            ))
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Somebody with an account, as administrators see them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    pub id: Uuid,
    pub email: String,
    pub handle: String,
    pub is_admin: bool,
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    pub signed_in_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    pub ended_at: Option<OffsetDateTime>,
}

/// An invitation that can still be used. The link itself is shown once, when it is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation {
    pub id: Uuid,
    pub email: String,
    pub as_administrator: bool,
    /// As named then.
    pub made_by: String,
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    pub expires_at: OffsetDateTime,
}

/// What a one-time link says to whoever holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkSays {
    pub email: String,
    pub as_administrator: bool,
}

/// A browser that is signed in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenSession {
    pub id: Uuid,
    /// From where it was begun.
    pub address: Option<String>,
    pub agent: Option<String>,
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// To the minute.
    #[serde(with = "time::serde::rfc3339")]
    pub last_seen: OffsetDateTime,
    /// The one that asks.
    pub here: bool,
}

/// What ends with an account, before it does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    pub id: Uuid,
    pub handle: String,
    pub email: String,
    pub secrets: i64,
    pub deployments: i64,
    /// Teams that nobody else administers.
    pub last_admin_of: Vec<String>,
    /// Nobody else looks after the accounts.
    pub last_administrator: bool,
    /// Folders whose rule of rotation does not go with what is in them.
    pub rules_lost: Listed,
    /// Whom folders that the heir shares let in to what comes, and how far; nobody while no heir is named.
    pub let_in: Listed,
}

/// The first of a list, and how many more there are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    pub named: Vec<String>,
    pub more: i64,
}

impl Listed {
    pub fn is_empty(&self) -> bool {
        self.named.is_empty()
    }
}

impl Display for Listed {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.named.join(", "))?;
        match self.more {
            ..=0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}
