//! What is shown once: a new token, kept in this process's memory between the POST that made it and the page that shows it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use secrecy::SecretString;
use uuid::Uuid;

/// What is not looked at within this time is gone.
const WAITS: Duration = Duration::from_secs(120);
/// More than this of one person never wait at once; that person's oldest goes.
const WAITING_OF_ONE_MAX: usize = 8;
/// More than this of all together never wait at once; the oldest goes.
const WAITING_MAX: usize = 1_024;

/// Tokens that wait to be shown to their makers. Cheap to clone; never on disk.
#[derive(Clone, Default)]
pub struct ShownOnce(Arc<Mutex<HashMap<Uuid, Waiting>>>);

struct Waiting {
    user_id: Uuid,
    until: Instant,
    token: SecretString,
}

impl ShownOnce {
    /// Returns the id under which the maker sees it.
    pub fn keep(&self, user_id: Uuid, token: SecretString) -> Uuid {
        let id = Uuid::new_v4();
        if let Ok(mut all) = self.0.lock() {
            let now = Instant::now();
            all.retain(|_, waiting| waiting.until > now);
            let of_one = all.values().filter(|waiting| waiting.user_id == user_id);
            let full_for_one = of_one.count() >= WAITING_OF_ONE_MAX;
            if (full_for_one || all.len() >= WAITING_MAX)
                && let Some(oldest) = all
                    .iter()
                    .filter(|(_, waiting)| !full_for_one || waiting.user_id == user_id)
                    .min_by_key(|(_, waiting)| waiting.until)
                    .map(|(id, _)| *id)
            {
                all.remove(&oldest);
            }
            all.insert(
                id,
                Waiting {
                    user_id,
                    until: now + WAITS,
                    token,
                },
            );
        }
        id
    }

    /// The token, once, for its maker.
    pub fn take(&self, user_id: Uuid, id: Uuid) -> Option<SecretString> {
        let mut all = self.0.lock().ok()?;
        let waiting = all.get(&id)?;
        if waiting.user_id != user_id || waiting.until < Instant::now() {
            return None;
        }
        all.remove(&id).map(|waiting| waiting.token)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn whoever_makes_many_tokens_drops_their_own() {
        let (shown, ann, bob) = (ShownOnce::default(), Uuid::now_v7(), Uuid::now_v7());
        let anns = shown.keep(ann, SecretString::from("ann's"));
        let bobs: Vec<Uuid> = (0..WAITING_MAX + 1)
            .map(|_| shown.keep(bob, SecretString::from("bob's")))
            .collect();
        let left = bobs.iter().filter(|id| shown.take(bob, **id).is_some());
        assert_eq!(left.count(), WAITING_OF_ONE_MAX);
        assert!(shown.take(bob, anns).is_none());
        assert!(shown.take(ann, anns).is_some());
        assert!(shown.take(ann, anns).is_none());
    }
}
