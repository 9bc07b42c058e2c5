//! Data keys that are old get successors, and what they sealed is sealed anew, one version at a time, beside requests. One server at
//! a time does it; whatever is killed when, the next round goes on.

use std::time::{Duration, Instant};

use time::OffsetDateTime;
use uuid::Uuid;

use super::audit::{self, Entry};
use super::keys::{Place, Sealed, is_damage};
use super::{Db, Result};
use crate::model::actors::{Caller, Job};
use crate::model::audit::Action;
use crate::model::errors::Refusal;
use crate::model::imports::IMPORT_WAITS_MINUTES;

/// The age at which a data key gets a successor, unless set otherwise.
const MAX_AGE_DAYS: i32 = 90;
/// The longest age that can be set: ten years.
const MAX_AGE_DAYS_MAX: i32 = 3_650;
const MAX_AGE_SETTING: &str = "data_keys.max_age_days";
/// Data keys that are older than this get a successor now.
const BEFORE_SETTING: &str = "data_keys.rotate_before";
/// Longer than an import waits that was sealed by the key before it had a successor; far longer than a transaction that found the key
/// goes on for. One that is later yet is refused by the foreign key and changes nothing.
const FORMER_MIN_AGE_SECS: i32 = (IMPORT_WAITS_MINUTES + 1) * 60;

/// For this long an order that is not done goes on rather than giving way to another. Not for ever: what is damaged is never done.
const ORDER_MAX_AGE_SECS: i32 = 24 * 60 * 60;

const LEASE: &str = "rotation";
const LEASE_SECS: i32 = 5;
const LEASE_RENEWED_EVERY: Duration = Duration::from_secs(1);

/// Rows that are looked for at once.
const BATCH: i64 = 100;
/// After each version, so that requests have their turn.
const PAUSE: Duration = Duration::from_millis(2);

/// What one round did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DataKeysRotated {
    /// Owners whose data key got a successor.
    pub successors: u64,
    /// Versions that were sealed anew.
    pub resealed: u64,
    /// Former data keys that went.
    pub removed: u64,
    /// Versions that do not open, and stay as they are.
    pub damaged: u64,
}

/// When data keys get successors, and what is left to do.
pub(super) struct Schedule {
    pub max_age_days: Option<i32>,
    pub versions_waiting: i64,
}

/// A data key that is due a successor.
struct DueKey {
    id: Uuid,
    owner_id: Uuid,
}

struct Waiting {
    secret_id: Uuid,
    owner_id: Uuid,
    version: i32,
    data_key_id: Uuid,
    sealed: Vec<u8>,
}

impl Db {
    /// One round over all that is due. None when another server is at it.
    pub async fn rotation_step(&self) -> Result<Option<DataKeysRotated>> {
        let mut lease = Lease::new(self);
        if !lease.renewed().await? {
            return Ok(None);
        }
        let mut done = DataKeysRotated::default();
        let finished = self.rotate_all(&mut lease, &mut done).await;
        self.lease_release(Job::Rotation, LEASE).await?;
        Ok(finished?.then_some(done))
    }

    /// Whether the lease held to the end.
    async fn rotate_all(&self, lease: &mut Lease<'_>, done: &mut DataKeysRotated) -> Result<bool> {
        // Each owner once: where the clock went back, a successor seems due as well.
        let mut after = Uuid::nil();
        loop {
            let due = self.data_keys_due(after).await?;
            let Some(last) = due.last() else { break };
            after = last.owner_id;
            for key in due {
                if !lease.renewed().await? {
                    return Ok(false);
                }
                done.successors += u64::from(self.data_key_succeed(key.id).await?);
            }
        }
        let mut after = Uuid::nil();
        loop {
            let former = self.data_keys_former(after).await?;
            let Some(last) = former.last() else { break };
            after = *last;
            for data_key_id in former {
                if !self.versions_reseal(data_key_id, lease, done).await? {
                    return Ok(false);
                }
            }
        }
        done.removed = self.data_keys_remove().await?;
        Ok(true)
    }

    /// By owner, of whom each has one that is active.
    async fn data_keys_due(&self, after: Uuid) -> Result<Vec<DueKey>> {
        let mut tx = self.begin_as(&Caller::job(Job::Rotation)).await?;
        let due = sqlx::query_as!(
            DueKey,
            "select id, owner_id from data_keys d where active and owner_id > $5 and (
               d.created_at < (select (value #>> '{}')::timestamptz from settings where key = $1)
               or (d.created_at < now() - make_interval(days => nullif(
                 coalesce((select (value #>> '{}')::integer from settings where key = $2), $3), 0))))
             order by owner_id limit $4",
            BEFORE_SETTING,
            MAX_AGE_SETTING,
            MAX_AGE_DAYS,
            BATCH,
            after
        )
        .fetch_all(&mut *tx)
        .await?;
        Ok(due)
    }

    /// Gives a data key a successor. False when it has one already.
    async fn data_key_succeed(&self, id: Uuid) -> Result<bool> {
        let caller = Caller::job(Job::Rotation);
        let mut tx = self.begin_as(&caller).await?;
        let owner_id = sqlx::query_scalar!(
            "update data_keys set active = false, retired_at = now() where id = $1 and active returning owner_id",
            id
        )
        .fetch_optional(&mut *tx)
        .await?;
        let Some(owner_id) = owner_id else {
            return Ok(false);
        };
        self.active_data_key(&mut tx, owner_id).await?;
        let entry = Entry {
            owner_id: Some(owner_id),
            reason: Some("a new data key seals from now on"),
            ..Entry::of(Action::DataKeyRotate)
        };
        audit::record(&mut tx, &caller, entry).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Former data keys that sealed something.
    async fn data_keys_former(&self, after: Uuid) -> Result<Vec<Uuid>> {
        let mut tx = self.begin_as(&Caller::job(Job::Rotation)).await?;
        let former = sqlx::query_scalar!(
            "select id from data_keys d where not active and id > $1
               and exists (select 1 from secret_versions v where v.data_key_id = d.id)
             order by id limit $2",
            after,
            BATCH
        )
        .fetch_all(&mut *tx)
        .await?;
        Ok(former)
    }

    /// Seals anew what a former data key sealed. Whether the lease held to the end.
    async fn versions_reseal(
        &self,
        data_key_id: Uuid,
        lease: &mut Lease<'_>,
        done: &mut DataKeysRotated,
    ) -> Result<bool> {
        let mut after = (Uuid::nil(), 0);
        loop {
            let waiting = self.versions_waiting(data_key_id, after).await?;
            let Some(last) = waiting.last() else {
                return Ok(true);
            };
            after = (last.secret_id, last.version);
            for version in waiting {
                if !lease.renewed().await? {
                    return Ok(false);
                }
                match self.version_reseal(&version).await {
                    Ok(sealed) => done.resealed += u64::from(sealed),
                    Err(error) if is_damage(&error) => {
                        // One sentence a round; `key status` has the number.
                        if done.damaged == 0 {
                            tracing::error!("{error} It stays with its former data key.");
                        }
                        done.damaged += 1;
                    }
                    Err(error) => return Err(error),
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    async fn versions_waiting(
        &self,
        data_key_id: Uuid,
        after: (Uuid, i32),
    ) -> Result<Vec<Waiting>> {
        let mut tx = self.begin_as(&Caller::job(Job::Rotation)).await?;
        let waiting = sqlx::query_as!(
            Waiting,
            r#"select secret_id, owner_id, version, data_key_id as "data_key_id!", sealed from secret_versions
             where data_key_id = $1 and (secret_id, version) > ($2, $3)
             order by secret_id, version limit $4"#,
            data_key_id,
            after.0,
            after.1,
            BATCH
        )
        .fetch_all(&mut *tx)
        .await?;
        Ok(waiting)
    }

    /// Seals one version anew, in a transaction that holds no other row: nobody waits for it in a circle. False when it is gone, or
    /// was sealed anew by another.
    async fn version_reseal(&self, version: &Waiting) -> Result<bool> {
        let place = Place {
            owner_id: version.owner_id,
            secret_id: version.secret_id,
            version: version.version,
        };
        let former = Sealed(version.sealed.clone());
        let mut tx = self.begin_as(&Caller::job(Job::Rotation)).await?;
        let value = self.unseal(&mut tx, place, &former).await?;
        let (data_key_id, sealed) = self.seal(&mut tx, place, &value).await?;
        // Only over what was opened: a version that was destroyed meanwhile does not come back.
        let done = sqlx::query!(
            "update secret_versions set data_key_id = $1, sealed = $2
             where secret_id = $3 and version = $4 and data_key_id = $5 and sealed = $6",
            data_key_id,
            sealed.0,
            version.secret_id,
            version.version,
            version.data_key_id,
            former.0
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(done.rows_affected() == 1)
    }

    /// Removes former data keys that nothing is sealed by.
    async fn data_keys_remove(&self) -> Result<u64> {
        let caller = Caller::job(Job::Rotation);
        let mut removed = 0;
        loop {
            let mut tx = self.begin_as(&caller).await?;
            let gone = sqlx::query_scalar!(
                "delete from data_keys where id in (
                   select d.id from data_keys d
                   where not d.active and d.retired_at < now() - make_interval(secs => $1)
                     and not exists (select 1 from secret_versions v where v.data_key_id = d.id)
                   order by d.id limit $2)
                 returning owner_id",
                f64::from(FORMER_MIN_AGE_SECS),
                BATCH
            )
            .fetch_all(&mut *tx)
            .await;
            let gone = match gone {
                Ok(gone) => gone,
                // Something was sealed by one of them meanwhile: it is sealed anew in the next round.
                Err(sqlx::Error::Database(error)) if error.is_foreign_key_violation() => {
                    return Ok(removed);
                }
                Err(error) => return Err(error.into()),
            };
            for owner_id in &gone {
                let entry = Entry {
                    owner_id: Some(*owner_id),
                    reason: Some("a former data key is gone"),
                    ..Entry::of(Action::DataKeyRotate)
                };
                audit::record(&mut tx, &caller, entry).await?;
            }
            tx.commit().await?;
            if gone.is_empty() {
                return Ok(removed);
            }
            removed += gone.len() as u64;
        }
    }

    /// Orders that every data key there is now gets a successor; the rounds do it. When such an order of the last day is not done
    /// yet, that one goes on, and its time is returned.
    pub async fn data_keys_rotate_all(&self) -> Result<Option<OffsetDateTime>> {
        if self.data_keys_left().await? != (0, 0) {
            let mut tx = self.begin_as(&Caller::job(Job::Operator)).await?;
            let begun = sqlx::query_scalar!(
                "select changed_at from settings where key = $1 and changed_at > now() - make_interval(secs => $2)",
                BEFORE_SETTING,
                f64::from(ORDER_MAX_AGE_SECS)
            )
            .fetch_optional(&mut *tx)
            .await?;
            if begun.is_some() {
                return Ok(begun);
            }
        }
        let operator = Caller::job(Job::Operator);
        let mut tx = self.begin_as(&operator).await?;
        // The database's clock, for it is what keys' ages are told by.
        sqlx::query!(
            "insert into settings (key, value) values ($1, to_jsonb(now()))
             on conflict (key) do update set value = excluded.value, changed_at = now()",
            BEFORE_SETTING
        )
        .execute(&mut *tx)
        .await?;
        let entry = Entry {
            reason: Some("every data key gets a successor"),
            ..Entry::of(Action::KeyRotate)
        };
        audit::record(&mut tx, &operator, entry).await?;
        tx.commit().await?;
        Ok(None)
    }

    /// Sets the age at which a data key gets a successor; 0: never. Errors: `Invalid`.
    pub async fn data_keys_max_age(&self, days: i32) -> Result<()> {
        if !(0..=MAX_AGE_DAYS_MAX).contains(&days) {
            return Err(Refusal::invalid(
                "data-keys-after",
                format!("The age of data keys is 0 (never) to {MAX_AGE_DAYS_MAX} days."),
            )
            .into());
        }
        let operator = Caller::job(Job::Operator);
        let mut tx = self.begin_as(&operator).await?;
        sqlx::query!(
            "insert into settings (key, value) values ($1, to_jsonb($2::integer))
             on conflict (key) do update set value = excluded.value, changed_at = now()",
            MAX_AGE_SETTING,
            days
        )
        .execute(&mut *tx)
        .await?;
        let entry = Entry {
            reason: Some("the age of data keys was set"),
            ..Entry::of(Action::KeyRotate)
        };
        audit::record(&mut tx, &operator, entry).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Data keys without the successor they are due, and versions that a former one sealed.
    pub async fn data_keys_left(&self) -> Result<(usize, i64)> {
        let due = self.data_keys_due(Uuid::nil()).await?.len();
        Ok((due, self.data_keys_schedule().await?.versions_waiting))
    }

    pub(super) async fn data_keys_schedule(&self) -> Result<Schedule> {
        let mut tx = self.begin_as(&Caller::job(Job::Rotation)).await?;
        let row = sqlx::query!(
            r#"select coalesce((select (value #>> '{}')::integer from settings where key = $1), $2) as "days!",
                      (select count(*) from secret_versions v join data_keys d on d.id = v.data_key_id
                       where not d.active) as "waiting!""#,
            MAX_AGE_SETTING,
            MAX_AGE_DAYS
        )
        .fetch_one(&mut *tx)
        .await?;
        Ok(Schedule {
            max_age_days: (row.days > 0).then_some(row.days),
            versions_waiting: row.waiting,
        })
    }
}

/// The lease on this work, renewed as time goes by.
struct Lease<'a> {
    db: &'a Db,
    renewed_at: Option<Instant>,
}

impl<'a> Lease<'a> {
    fn new(db: &'a Db) -> Self {
        Lease {
            db,
            renewed_at: None,
        }
    }

    /// False when another has it. Only the pace hangs on it: each write says over what it writes.
    async fn renewed(&mut self) -> Result<bool> {
        if self
            .renewed_at
            .is_some_and(|at| at.elapsed() < LEASE_RENEWED_EVERY)
        {
            return Ok(true);
        }
        let held = self
            .db
            .lease_hold(Job::Rotation, LEASE, LEASE_SECS)
            .await?
            .is_some();
        self.renewed_at = held.then(Instant::now);
        Ok(held)
    }
}
