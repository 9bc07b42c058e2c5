//! Masked answers, counted for each user: a mask confirms a guess to whoever can make a server
//! repeat what they send, so confirmations come slowly.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use super::ClientKey;

/// Masked answers that a user gets at once; later ones come one in each [`PACE`].
const AT_ONCE: u32 = 60;
const PACE: Duration = Duration::from_secs(1);
/// Users that are counted at once; only those with masked answers in the last minute are.
const CALLERS: usize = 10_000;

/// The counts. Cheap to clone; by default those of this process, so that a server that starts again
/// does not begin them anew.
#[derive(Debug, Clone)]
pub struct Guesses(Arc<Mutex<HashMap<Uuid, Count>>>);

#[derive(Debug, Clone, Copy)]
struct Count {
    /// When all that the user got would have come at the pace.
    level: Instant,
    is_slowed: bool,
}

impl Default for Guesses {
    fn default() -> Self {
        static GUESSES: LazyLock<Guesses> = LazyLock::new(Guesses::new);
        GUESSES.clone()
    }
}

impl Guesses {
    /// Counts of their own.
    pub fn new() -> Self {
        Self(Arc::default())
    }

    /// Keeps an answer back when its caller got many masked ones; `masked` strings are in this one.
    pub(super) async fn slow(&self, client: ClientKey, masked: usize) {
        if masked > 0 {
            let wait = self.note(client.user, Instant::now());
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
        }
    }

    /// How long an answer waits that comes at `now`.
    fn note(&self, user: Uuid, now: Instant) -> Duration {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() >= CALLERS && !counts.contains_key(&user) {
            counts.retain(|_, count| count.level > now);
            // Whoever is left is guessing; the one who did the least makes room.
            if counts.len() >= CALLERS
                && let Some(least) = counts.iter().min_by_key(|(_, count)| count.level)
            {
                let least = *least.0;
                counts.remove(&least);
            }
        }
        let count = counts.entry(user).or_insert(Count {
            level: now,
            is_slowed: false,
        });
        if count.level <= now {
            *count = Count {
                level: now,
                is_slowed: false,
            };
        }
        // However many wait at once, they come one after the other.
        count.level += PACE;
        let wait = count.level.saturating_duration_since(now + PACE * AT_ONCE);
        if !wait.is_zero() && !std::mem::replace(&mut count.is_slowed, true) {
            tracing::warn!(
                %user,
                "more than {AT_ONCE} masked answers within a minute: this user's are slowed"
            );
        }
        wait
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    fn user(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    #[test]
    fn sixty_masked_answers_come_at_once_and_then_one_a_second() {
        let guesses = Guesses::new();
        let mut now = Instant::now();
        for _ in 0..AT_ONCE {
            assert_eq!(guesses.note(user(1), now), Duration::ZERO);
        }
        for _ in 0..20 {
            let wait = guesses.note(user(1), now);
            assert_eq!(wait, PACE);
            now += wait;
        }
        assert_eq!(guesses.note(user(2), now), Duration::ZERO, "another's");
        // Of many at once each waits for those before it, and a pause is enough to be quick again.
        for before in 1..=1000 {
            assert_eq!(guesses.note(user(1), now), PACE * before);
        }
        now += PACE * 1000 + PACE;
        assert_eq!(guesses.note(user(1), now), Duration::ZERO);
    }

    #[test]
    fn counts_are_bounded() {
        let guesses = Guesses::new();
        let now = Instant::now();
        for _ in 0..=AT_ONCE {
            guesses.note(user(0), now);
        }
        for number in 1..CALLERS as u128 + 50 {
            guesses.note(user(number), now);
        }
        assert_eq!(guesses.0.lock().unwrap().len(), CALLERS);
        assert!(
            !guesses.note(user(0), now).is_zero(),
            "the busiest is still known"
        );
    }
}
