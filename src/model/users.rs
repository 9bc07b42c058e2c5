//! People with an account.

use serde::{Deserialize, Serialize};

use super::errors::Refusal;

/// The shortest password, in characters. Length is what resists guessing (NIST SP 800-63B).
pub const PASSWORD_MIN_CHARS: usize = 12;
/// The longest password, in bytes: enough for any passphrase, and a bound on hashing work.
pub const PASSWORD_MAX_BYTES: usize = 1_024;

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
