//! Asking a provider while somebody waits: a few at once on this server, fewer of one person, and not for ever.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use uuid::Uuid;

use super::Deployer;
use crate::model::actors::Caller;
use crate::model::errors::{Refusal, RefusalKind};
use crate::model::targets::Target;

/// Asked at once by this server. A provider answers slowly, and each of them holds a request.
const LOOKUPS_AT_ONCE: usize = 6;
/// Those of one person, over all tokens.
const LOOKUPS_OF_ONE: usize = 2;
/// For others to be answered.
const WAIT_FOR_A_PLACE: Duration = Duration::from_secs(10);
/// Shorter than the minute after which clients and proxies give up.
const PATIENCE: Duration = Duration::from_secs(40);

pub(super) struct Lookups {
    places: Semaphore,
    /// How many each person has under way.
    of: Arc<Mutex<HashMap<Uuid, usize>>>,
}

impl Default for Lookups {
    fn default() -> Self {
        Lookups {
            places: Semaphore::new(LOOKUPS_AT_ONCE),
            of: Arc::default(),
        }
    }
}

/// One of a person's, until it is dropped.
struct Turn {
    of: Arc<Mutex<HashMap<Uuid, usize>>>,
    who: Uuid,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = of.get_mut(&self.who) {
            *count -= 1;
            if *count == 0 {
                of.remove(&self.who);
            }
        }
    }
}

impl Lookups {
    fn turn(&self, who: Uuid) -> Option<Turn> {
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        let count = of.entry(who).or_default();
        if *count >= LOOKUPS_OF_ONE {
            return None;
        }
        *count += 1;
        Some(Turn {
            of: Arc::clone(&self.of),
            who,
        })
    }
}

impl Deployer {
    /// Does what asks this provider, when there is room. Errors: those of `asking`; `TooMany` and `Unavailable` at `target`, when nothing was
    /// asked, or the answer takes too long.
    pub(super) async fn look_up<T>(
        &self,
        caller: &Caller,
        target: Target,
        asking: impl Future<Output = Result<T, Refusal>>,
    ) -> Result<T, Refusal> {
        if !target.is_remote() {
            return asking.await;
        }
        let title = target.title();
        let who = caller.user().map(|user| user.id).unwrap_or_default();
        let Some(_turn) = self.0.lookups.turn(who) else {
            let says = format!(
                "You have {LOOKUPS_OF_ONE} questions to providers under way. Try again when one of them is answered."
            );
            return Err(Refusal::new(RefusalKind::TooMany, says).at("target"));
        };
        let place = self.0.lookups.places.acquire();
        let Ok(Ok(_place)) = tokio::time::timeout(WAIT_FOR_A_PLACE, place).await else {
            let says = format!(
                "Sealport is busy asking providers for others, and did not ask {title}. Try again in a moment."
            );
            return Err(Refusal::new(RefusalKind::Unavailable, says).at("target"));
        };
        match tokio::time::timeout(PATIENCE, asking).await {
            Ok(answer) => answer,
            Err(_) => {
                let says = format!(
                    "{title} did not answer within {} seconds. Look at its status page, and try again.",
                    PATIENCE.as_secs()
                );
                Err(Refusal::new(RefusalKind::Unavailable, says).at("target"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn one_person_has_a_few_and_gets_them_back() {
        let lookups = Lookups::default();
        let (ada, bob) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let first = lookups.turn(ada).unwrap();
        let second = lookups.turn(ada).unwrap();
        assert!(lookups.turn(ada).is_none());
        assert!(lookups.turn(bob).is_some());
        drop(first);
        let third = lookups.turn(ada).unwrap();
        assert!(lookups.turn(ada).is_none());
        drop((second, third));
        assert!(lookups.of.lock().unwrap().is_empty());
    }
}
