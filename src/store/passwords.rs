//! Argon2id, at the same cost for every name, and never more at once than the machine can bear.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use argon2::password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash};
use argon2::{Algorithm, Argon2, Params, Version};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Error, Result};
use crate::model::errors::{Refusal, RefusalKind};
use crate::model::users::{PASSWORD_MAX_BYTES, PASSWORD_MIN_CHARS};

/// OWASP's Password Storage Cheat Sheet: Argon2id with 19 MiB of memory, two passes, one lane.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// Runs of each queue that may wait for their turn; the next one is told to come back.
const WAITING_MAX: usize = 64;

/// Verified in place of an unknown account's hash: the same work, and nothing opens it.
const NOBODYS_HASH: &str = "$argon2id$v=19$m=19456,t=2,p=1$c2VhbHBvcnQvbm9ib2R5IQ$\
                            AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Where a run waits: a crowd of strangers fills its own queue alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Queue {
    Strangers,
    /// Whoever is signed in, holds a link, or has signed in from there before.
    Known,
}

pub(super) struct Passwords {
    turns: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
    known: Arc<Semaphore>,
    runs: Arc<AtomicU64>,
}

impl Passwords {
    pub(super) fn new() -> Self {
        let turns = std::thread::available_parallelism().map_or(1, |cores| cores.get().min(4));
        Passwords {
            turns: Arc::new(Semaphore::new(turns)),
            strangers: Arc::new(Semaphore::new(turns + WAITING_MAX)),
            known: Arc::new(Semaphore::new(turns + WAITING_MAX)),
            runs: Arc::default(),
        }
    }

    /// How often Argon2 has run since the start.
    pub(super) fn runs(&self) -> u64 {
        self.runs.load(Ordering::SeqCst)
    }

    /// The hash to store, with a salt of its own. Nobody comes so far who has shown nothing.
    pub(super) async fn hash(&self, password: &SecretString) -> Result<String> {
        let password = password.clone();
        self.run(Queue::Known, move || {
            argon2()?
                .hash_password(password.expose_secret().as_bytes())
                .map(|hash| hash.to_string())
                .map_err(failed)
        })
        .await
    }

    /// Whether the password is the hash's; with no hash the same work is done, and the answer is no.
    pub(super) async fn verify(
        &self,
        password: &SecretString,
        hash: Option<String>,
        queue: Queue,
    ) -> Result<bool> {
        let password = password.clone();
        self.run(queue, move || {
            let known = hash.is_some();
            let hash = hash.unwrap_or_else(|| NOBODYS_HASH.to_owned());
            let hash = PasswordHash::new(&hash)
                .map_err(|error| Error::caused("a stored password hash is damaged", error))?;
            let same = argon2()?.verify_password(password.expose_secret().as_bytes(), &hash);
            match same {
                Ok(()) => Ok(known),
                Err(argon2::password_hash::Error::PasswordInvalid) => Ok(false),
                Err(error) => Err(failed(error)),
            }
        })
        .await
    }

    async fn run<T: Send + 'static>(
        &self,
        queue: Queue,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let places = match queue {
            Queue::Strangers => &self.strangers,
            Queue::Known => &self.known,
        };
        let place = places.clone().try_acquire_owned().map_err(|_| {
            Refusal::new(
                RefusalKind::TooMany,
                "Many people are signing in right now. Try again in a moment.",
            )
        })?;
        let turn = self
            .turns
            .clone()
            .acquire_owned()
            .await
            .map_err(|error| Error::caused("the turns have ended", error))?;
        self.runs.fetch_add(1, Ordering::SeqCst);
        // The permits go with the work: a caller who hangs up does not free them early.
        let held: (OwnedSemaphorePermit, OwnedSemaphorePermit) = (place, turn);
        tokio::task::spawn_blocking(move || {
            let done = work();
            drop(held);
            done
        })
        .await
        .map_err(|error| Error::caused("hashing a password ended early", error))?
    }
}

/// The rules for a new password. Errors: `Invalid` at `field`.
pub(super) fn check_rules(password: &SecretString, field: &str) -> Result<(), Refusal> {
    let text = password.expose_secret();
    if text.chars().count() < PASSWORD_MIN_CHARS {
        return Err(Refusal::invalid(
            field,
            format!(
                "A password has at least {PASSWORD_MIN_CHARS} characters. A few words in a row are easy to keep in mind."
            ),
        ));
    }
    if text.len() > PASSWORD_MAX_BYTES {
        return Err(Refusal::invalid(
            field,
            format!("A password has at most {PASSWORD_MAX_BYTES} bytes."),
        ));
    }
    Ok(())
}

fn argon2() -> Result<Argon2<'static>> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None)
        .map_err(|error| Error::caused("Argon2's parameters", error))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

fn failed(error: argon2::password_hash::Error) -> Error {
    Error::caused("a password could not be hashed", error)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    fn password(text: &str) -> SecretString {
        SecretString::from(text)
    }

    #[tokio::test]
    async fn a_crowd_of_strangers_fills_its_own_queue_alone() {
        let passwords = Passwords::new();
        let all = passwords.strangers.available_permits();
        let crowd = passwords.strangers.clone();
        let _crowd = crowd.try_acquire_many_owned(u32::try_from(all).unwrap());
        let password = SecretString::from("a wrong password");
        let refused = passwords.verify(&password, None, Queue::Strangers).await;
        let kind = refused.unwrap_err().into_refusal().kind;
        assert_eq!(kind, RefusalKind::TooMany);
        let right = passwords.verify(&password, None, Queue::Known).await;
        assert!(!right.unwrap());
    }

    #[tokio::test]
    async fn a_hash_verifies_its_own_password_only() {
        let passwords = Passwords::new();
        let hash = passwords
            .hash(&password("correct horse battery"))
            .await
            .unwrap();
        assert!(
            hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{hash}"
        );
        let right = passwords
            .verify(
                &password("correct horse battery"),
                Some(hash.clone()),
                Queue::Strangers,
            )
            .await;
        assert!(right.unwrap());
        let wrong = passwords
            .verify(
                &password("Correct horse battery"),
                Some(hash),
                Queue::Strangers,
            )
            .await;
        assert!(!wrong.unwrap());
    }

    #[tokio::test]
    async fn an_unknown_name_costs_one_run_of_the_same_parameters() {
        let passwords = Passwords::new();
        assert!(
            !passwords
                .verify(&password("x"), None, Queue::Strangers)
                .await
                .unwrap()
        );
        assert_eq!(passwords.runs(), 1);
        let nobody = PasswordHash::new(NOBODYS_HASH).unwrap();
        let somebody = passwords.hash(&password("x")).await.unwrap();
        let somebody = PasswordHash::new(&somebody).unwrap();
        assert_eq!(nobody.algorithm, somebody.algorithm);
        assert_eq!(nobody.version, somebody.version);
        assert_eq!(nobody.params.to_string(), somebody.params.to_string());
        assert_eq!(
            nobody.hash.unwrap().as_bytes().len(),
            somebody.hash.unwrap().as_bytes().len()
        );
    }

    #[test]
    fn rules() {
        for (text, fine) in [
            ("short", false),
            ("elevenchars", false),
            ("twelve chars", true),
            ("äöüäöüäöüäöü", true),
        ] {
            assert_eq!(check_rules(&password(text), "new").is_ok(), fine, "{text}");
        }
        assert!(check_rules(&password(&"x".repeat(1_024)), "new").is_ok());
        let refused = check_rules(&password(&"x".repeat(1_025)), "new").unwrap_err();
        assert_eq!(refused.field.as_deref(), Some("new"));
    }
}
