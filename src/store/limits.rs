//! Limits on tries: guessing is slow, on every server together. And a guard against floods: strangers do not fill the disk.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Db, Result};
use crate::model::actors::{Caller, Job};
use crate::model::errors::{Refusal, RefusalKind};

/// A window is counted in this many parts, so that it slides: at its end there is no moment with twice the tries.
const PARTS: i32 = 12;

/// What one source may leave in a minute, of one kind: rows in the record, sessions.
const LEFT_BY_ONE: u32 = 20;
/// What all strangers together may leave in a minute, of one kind, on this server.
const LEFT_BY_ALL: u32 = 60;
/// Sources that are counted at once; one that finds no room leaves nothing.
const SOURCES_MAX: usize = 4_096;

/// So many tries of one kind within a sliding window.
pub(super) struct Limit {
    /// SHA-256 over what is limited, in hex: no names stand in the table.
    key: String,
    window_secs: i32,
    max: i64,
}

impl Limit {
    pub(super) fn new(kind: &'static str, over: &[&str], window_secs: i32, max: i64) -> Self {
        let mut hash = Sha256::new();
        for part in std::iter::once(&kind).chain(over) {
            // With its length before it, so that no two lists of parts read alike.
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        Limit {
            key: hex::encode(hash.finalize()),
            window_secs,
            max,
        }
    }

    fn part_secs(&self) -> i32 {
        (self.window_secs / PARTS).max(1)
    }

    /// Counts how often the limit itself was met.
    fn met_key(&self) -> String {
        hex::encode(Sha256::digest(format!("met/{}", self.key)))
    }
}

/// Tries that were counted; can be given back when they turn out to be right.
pub(super) struct Taken(Vec<(String, OffsetDateTime)>);

/// A limit is met; nothing was counted.
pub(super) struct Full {
    retry_secs: i64,
    /// Goes on record: the first within a part of the window. Each one would let a stranger fill the record.
    pub(super) on_record: bool,
}

impl Full {
    pub(super) fn refusal(&self, what: &str) -> Refusal {
        let minutes = (self.retry_secs + 59) / 60;
        let unit = if minutes == 1 { "minute" } else { "minutes" };
        Refusal::new(
            RefusalKind::TooMany,
            format!("{what} Try again in {minutes} {unit}."),
        )
    }
}

impl Db {
    /// Counts one try against all the limits, or against none when one of them is met.
    pub(super) async fn limits_take(&self, limits: &[Limit]) -> Result<Result<Taken, Full>> {
        let mut keys: Vec<String> = limits.iter().map(|limit| limit.key.clone()).collect();
        // In one order for everybody, so that two never wait for each other.
        keys.sort_unstable();
        let _turn = self.turns().take(&keys).await?;
        let mut tx = self.begin_as(&Caller::job(Job::Limits)).await?;
        sqlx::query!(
            "select pg_advisory_xact_lock(hashtextextended(key, 0)) from unnest($1::text[]) as key",
            &keys
        )
        .execute(&mut *tx)
        .await?;
        for limit in limits {
            let used = sqlx::query!(
                r#"select coalesce(sum(count), 0)::bigint as "tries!",
                          coalesce(extract(epoch from min(window_start) + make_interval(secs => $2::integer + $3::integer) - now()), 0)::bigint as "retry_secs!"
                   from attempts
                   where key = $1 and count > 0 and window_start > now() - make_interval(secs => $2::integer + $3::integer)"#,
                limit.key,
                limit.window_secs,
                limit.part_secs(),
            )
            .fetch_one(&mut *tx)
            .await?;
            if used.tries >= limit.max {
                let met = count(&mut tx, &limit.met_key(), limit.part_secs()).await?;
                tx.commit().await?;
                return Ok(Err(Full {
                    retry_secs: used.retry_secs.max(1),
                    on_record: met.tries == 1,
                }));
            }
        }
        let mut taken = Vec::with_capacity(limits.len());
        for limit in limits {
            let counted = count(&mut tx, &limit.key, limit.part_secs()).await?;
            taken.push((limit.key.clone(), counted.window_start));
        }
        tx.commit().await?;
        Ok(Ok(Taken(taken)))
    }

    /// Takes tries back: only wrong ones count.
    pub(super) async fn limits_give_back(&self, taken: Taken) -> Result<()> {
        let (keys, starts): (Vec<String>, Vec<OffsetDateTime>) = taken.0.into_iter().unzip();
        let mut tx = self.begin_as(&Caller::job(Job::Limits)).await?;
        sqlx::query!(
            "update attempts set count = greatest(attempts.count - 1, 0)
             from unnest($1::text[], $2::timestamptz[]) as t (key, window_start)
             where attempts.key = t.key and attempts.window_start = t.window_start",
            &keys,
            &starts
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }
}

/// Whose try is counted now. Tries at one thing wait for each other before they have a connection to the database, and all
/// together hold a few at most: however many come at once, pages and deployments keep theirs.
pub(super) struct Turns {
    all: Arc<Semaphore>,
    by_key: Mutex<HashMap<String, Weak<Semaphore>>>,
}

/// Connections that counting may hold at once.
const COUNTED_AT_ONCE: usize = 3;
/// How long a try waits for its turn.
const TURN_TIMEOUT: Duration = Duration::from_secs(5);

impl Default for Turns {
    fn default() -> Self {
        Turns {
            all: Arc::new(Semaphore::new(COUNTED_AT_ONCE)),
            by_key: Mutex::default(),
        }
    }
}

impl Turns {
    /// Held until it is dropped. Keys come in order. Errors: `Unavailable` when others take too long.
    async fn take(&self, keys: &[String]) -> Result<Vec<OwnedSemaphorePermit>> {
        let mut places: Vec<Arc<Semaphore>> = keys.iter().map(|key| self.of(key)).collect();
        places.push(self.all.clone());
        let taken = tokio::time::timeout(TURN_TIMEOUT, async {
            let mut turn = Vec::with_capacity(places.len());
            for place in places {
                turn.push(place.acquire_owned().await.ok()?);
            }
            Some(turn)
        });
        match taken.await {
            Ok(Some(turn)) => Ok(turn),
            Ok(None) | Err(_) => Err(Refusal::new(
                RefusalKind::Unavailable,
                "Too many try this at once. Try again in a moment.",
            )
            .into()),
        }
    }

    fn of(&self, key: &str) -> Arc<Semaphore> {
        let mut places = self.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = places.get(key).and_then(Weak::upgrade) {
            return place;
        }
        // What nobody waits for is forgotten, so that there are never more than tries under way.
        places.retain(|_, place| place.strong_count() > 0);
        let place = Arc::new(Semaphore::new(1));
        places.insert(key.to_owned(), Arc::downgrade(&place));
        place
    }
}

struct Counted {
    window_start: OffsetDateTime,
    tries: i32,
}

async fn count(
    tx: &mut sqlx::Transaction<'_, sqlx::Postgres>,
    key: &str,
    part_secs: i32,
) -> Result<Counted> {
    let counted = sqlx::query_as!(
        Counted,
        r#"insert into attempts (key, window_start, count)
           values ($1, to_timestamp(floor(extract(epoch from now()) / $2::integer)::double precision * $2::integer), 1)
           on conflict (key, window_start) do update set count = attempts.count + 1
           returning window_start, count as tries"#,
        key,
        part_secs
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(counted)
}

/// Counts by the minute what sources without an account leave, in this server's memory: whoever is turned away for nothing
/// must not fill the disk for nothing. What is not let through is counted in the log.
#[derive(Default)]
pub(super) struct Floods(Mutex<Windows>);

/// By kind and source: when counting began, and how many there were.
type Windows = HashMap<(&'static str, String), (Instant, u32)>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Noted {
    /// Leaves its row.
    Each,
    /// Leaves its row, which stands for all that follow in this minute.
    Last,
    /// Leaves nothing.
    Passed,
}

impl Floods {
    /// Something of a kind from a stranger at an address.
    pub(super) fn of_stranger(&self, kind: &'static str, place: &str) -> Noted {
        self.note(kind, place, true)
    }

    /// Something of a kind from the bearer of a known credential: strangers do not use up what it may leave.
    pub(super) fn of_bearer(&self, kind: &'static str, credential: &str) -> Noted {
        self.note(kind, credential, false)
    }

    /// What the next one would be, without counting it.
    pub(super) fn next_of_bearer(&self, kind: &'static str, credential: &str) -> Noted {
        let count = self.count_of(kind, credential);
        noted(count.saturating_add(1), LEFT_BY_ONE)
    }

    /// How many more of them leave a row.
    pub(super) fn left_to_bearer(&self, kind: &'static str, credential: &str) -> u32 {
        LEFT_BY_ONE.saturating_sub(self.count_of(kind, credential))
    }

    fn count_of(&self, kind: &'static str, source: &str) -> u32 {
        let windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        windows
            .get(&(kind, source.to_owned()))
            .filter(|(start, _)| start.elapsed() < MINUTE)
            .map_or(0, |(_, count)| *count)
    }

    fn note(&self, kind: &'static str, source: &str, with_all: bool) -> Noted {
        // A poisoned counter counts on: nothing here can be half-done.
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        windows.retain(|_, (start, _)| start.elapsed() < MINUTE);
        // Strangers get half of the room: with many addresses they cannot take it from bearers.
        let room = if with_all {
            SOURCES_MAX / 2
        } else {
            SOURCES_MAX
        };
        let key = (kind, source.to_owned());
        let by_one = if windows.len() < room || windows.contains_key(&key) {
            noted(counted(&mut windows, key), LEFT_BY_ONE)
        } else {
            Noted::Passed
        };
        let by_all = match by_one {
            Noted::Passed => Noted::Passed,
            _ if with_all => noted(counted(&mut windows, (kind, ALL.into())), LEFT_BY_ALL),
            _ => Noted::Each,
        };
        match (by_one, by_all) {
            (Noted::Passed, _) | (_, Noted::Passed) => {
                let passed = counted(&mut windows, (kind, PASSED.into()));
                if passed.is_power_of_two() {
                    tracing::warn!(kind, passed, "a flood: not on record one by one");
                }
                Noted::Passed
            }
            (Noted::Last, _) | (_, Noted::Last) => Noted::Last,
            (Noted::Each, Noted::Each) => Noted::Each,
        }
    }
}

const MINUTE: Duration = Duration::from_secs(60);
/// No place and no hash reads like these.
const ALL: &str = "all";
const PASSED: &str = "passed";

fn noted(count: u32, max: u32) -> Noted {
    match count.cmp(&max) {
        std::cmp::Ordering::Less => Noted::Each,
        std::cmp::Ordering::Equal => Noted::Last,
        std::cmp::Ordering::Greater => Noted::Passed,
    }
}

fn counted(windows: &mut Windows, key: (&'static str, String)) -> u32 {
    let (_, count) = windows.entry(key).or_insert_with(|| (Instant::now(), 0));
    *count = count.saturating_add(1);
    *count
}

#[cfg(test)]
mod tests {
    use super::{Floods, LEFT_BY_ALL, LEFT_BY_ONE, Limit, Noted, SOURCES_MAX, Turns};

    #[tokio::test]
    async fn tries_at_one_thing_wait_for_each_other_and_hold_up_nothing_else() {
        let turns = Turns::default();
        let (one, other) = (["a".to_owned()], ["b".to_owned()]);
        let first = turns.take(&one).await;
        assert!(first.is_ok());
        let mut second = Box::pin(turns.take(&one));
        assert!(futures::poll!(&mut second).is_pending());
        assert!(turns.take(&other).await.is_ok());
        drop(first);
        let second = second.await;
        assert!(second.is_ok());
        // All together have an end.
        let (two, three) = (["c".to_owned()], ["d".to_owned()]);
        let held = (turns.take(&two).await, turns.take(&three).await);
        let mut late = Box::pin(turns.take(&other));
        assert!(futures::poll!(&mut late).is_pending());
        drop(held);
        assert!(late.await.is_ok());
        drop(second);
        drop(turns.of("e"));
        assert_eq!(turns.by_key.lock().map(|places| places.len()).ok(), Some(1));
    }

    #[test]
    fn a_flood_leaves_some_and_then_nothing() {
        let floods = Floods::default();
        let left = |kind, place: &str| {
            (0..10_000)
                .map(|_| floods.of_stranger(kind, place))
                .filter(|noted| *noted != Noted::Passed)
                .collect::<Vec<_>>()
        };
        let one = left("a", "192.0.2.1");
        assert_eq!(one.len(), LEFT_BY_ONE as usize);
        assert_eq!(one.last(), Some(&Noted::Last));
        assert_eq!(one[0], Noted::Each);
        // Neither another address nor another kind pays for it.
        assert_eq!(left("a", "192.0.2.2").len(), LEFT_BY_ONE as usize);
        assert_eq!(left("b", "192.0.2.1").len(), LEFT_BY_ONE as usize);
    }

    #[test]
    fn many_addresses_together_have_an_end_and_take_no_bearers_room() {
        let floods = Floods::default();
        let places = (0..2 * SOURCES_MAX).map(|number| format!("2001:db8:{number:x}::/64"));
        let left = places
            .filter(|place| floods.of_stranger("a", place) != Noted::Passed)
            .count();
        assert_eq!(left, LEFT_BY_ALL as usize);
        assert!(
            floods
                .0
                .lock()
                .is_ok_and(|windows| windows.len() <= SOURCES_MAX)
        );
        for _ in 1..LEFT_BY_ONE {
            assert_eq!(floods.of_bearer("a", "0a"), Noted::Each);
        }
        assert_eq!(floods.next_of_bearer("a", "0a"), Noted::Last);
        assert_eq!(floods.of_bearer("a", "0a"), Noted::Last);
        assert_eq!(floods.next_of_bearer("a", "0a"), Noted::Passed);
        assert_eq!(floods.of_bearer("a", "0b"), Noted::Each);
    }

    #[test]
    fn no_two_lists_of_parts_share_a_counter() {
        let key = |kind, over: &[&str]| Limit::new(kind, over, 60, 1).key;
        assert_ne!(key("a", &["bc", "d"]), key("a", &["b", "cd"]));
        assert_ne!(key("a", &["b"]), key("ab", &[]));
        assert_eq!(key("a", &["b"]), key("a", &["b"]));
    }
}
