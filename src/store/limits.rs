//! Limits on tries: guessing is slow, on every server together.

use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use super::{Db, Result};
use crate::model::actors::{Caller, Job};
use crate::model::errors::{Refusal, RefusalKind};

/// A window is counted in this many parts, so that it slides: at its end there is no moment with twice the tries.
const PARTS: i32 = 12;

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
        let mut tx = self.begin_as(&Caller::job(Job::Limits)).await?;
        let mut keys: Vec<String> = limits.iter().map(|limit| limit.key.clone()).collect();
        // In one order for everybody, so that two never wait for each other.
        keys.sort_unstable();
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

#[cfg(test)]
mod tests {
    use super::Limit;

    #[test]
    fn no_two_lists_of_parts_share_a_counter() {
        let key = |kind, over: &[&str]| Limit::new(kind, over, 60, 1).key;
        assert_ne!(key("a", &["bc", "d"]), key("a", &["b", "cd"]));
        assert_ne!(key("a", &["b"]), key("ab", &[]));
        assert_eq!(key("a", &["b"]), key("a", &["b"]));
    }
}
