//! Changing the master key while servers run: the new one is staged, then promoted; then all that the former one wraps is wrapped
//! anew, in small batches; then the former one is retired. Every step is a transaction of its own, and doing it again goes on from
//! where it stopped.

use std::time::Duration;

use sqlx::{Postgres, Transaction};
use time::OffsetDateTime;
use uuid::Uuid;

use super::audit::{self, Entry};
use super::keyring::MasterKey;
use super::keys::seal_failed;
use super::servers::{self, SERVER_GONE_AFTER_SECS, Server};
use super::{Db, Error, Result};
use crate::model::actors::{Caller, Job};
use crate::model::audit::Action;
use crate::model::errors::{Refusal, RefusalKind};

/// Keys that are wrapped anew in one transaction.
const REWRAP_BATCH: i64 = 25;
/// Between two batches, so that requests have their turn.
const REWRAP_PAUSE: Duration = Duration::from_millis(20);
/// How often retiring is tried when something was wrapped by the former key meanwhile.
const RETIRE_TRIES: usize = 20;
/// The most damaged keys that are named.
const DAMAGED_NAMED: usize = 10;

/// What a rotation has done, as it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MasterKeyNews {
    /// The new key stands in the database; nothing is wrapped by it yet.
    Staged(String),
    /// All that is new is wrapped by it from now on.
    Promoted(String),
    /// So many more were wrapped anew.
    Rewrapped(u64),
    /// Nothing here hangs on this key any more.
    Retired(String),
}

/// A master key as the database knows it.
#[derive(Clone, Debug)]
pub struct MasterKeyStatus {
    pub fingerprint: String,
    /// `staged`, `active` or `retiring`.
    pub state: String,
    /// Whether it was given here.
    pub known_here: bool,
    /// The data keys that it wraps.
    pub data_keys: i64,
    pub since: OffsetDateTime,
}

/// Where all keys stand.
#[derive(Clone, Debug)]
pub struct KeysStatus {
    pub masters: Vec<MasterKeyStatus>,
    /// The keys that were retired last, the latest first: only backups hang on them.
    pub retired: Vec<(String, OffsetDateTime)>,
    /// Keys that were given here and that the database does not know.
    pub new_here: Vec<String>,
    pub oldest_data_key: Option<OffsetDateTime>,
    /// Data keys that have a successor and are not gone yet.
    pub former_data_keys: i64,
    /// Versions that a former data key sealed.
    pub versions_waiting: i64,
    /// The age at which a data key gets a successor; none: never.
    pub data_key_max_age_days: Option<i32>,
    pub servers: Vec<Server>,
}

/// What is wrapped by a master key. Another table that keeps wrapped keys is another word here, with its arm in each function of
/// this type; forgetting one shows, for its foreign key keeps the former master key from being retired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrapped {
    DataKeys,
}

const ALL_WRAPPED: [Wrapped; 1] = [Wrapped::DataKeys];

/// A key as it stands wrapped.
struct WrappedRow {
    id: Uuid,
    owner_id: Uuid,
    master_key: String,
    wrapped: Vec<u8>,
}

impl Wrapped {
    /// The next ones, after `after`, that the key `target` does not wrap; locked.
    async fn next(
        self,
        tx: &mut Transaction<'_, Postgres>,
        target: &str,
        after: Uuid,
    ) -> Result<Vec<WrappedRow>> {
        let rows = match self {
            // Not `for update`: new versions that refer to the key go on being written.
            Wrapped::DataKeys => {
                sqlx::query_as!(
                    WrappedRow,
                    "select id, owner_id, master_key, wrapped from data_keys
                     where master_key <> $1 and id > $2 order by id limit $3 for no key update",
                    target,
                    after,
                    REWRAP_BATCH
                )
                .fetch_all(&mut **tx)
                .await?
            }
        };
        Ok(rows)
    }

    fn wrap_anew(self, row: &WrappedRow, from: &MasterKey, to: &MasterKey) -> Result<Vec<u8>> {
        match self {
            Wrapped::DataKeys => from
                .unwrap(row.id, row.owner_id, &row.wrapped)
                .and_then(|key| to.wrap(&key, row.owner_id))
                .map_err(seal_failed),
        }
    }

    async fn put(
        self,
        tx: &mut Transaction<'_, Postgres>,
        target: &str,
        ids: &[Uuid],
        wrapped: &[Vec<u8>],
    ) -> Result<u64> {
        let done = match self {
            Wrapped::DataKeys => {
                sqlx::query!(
                    "update data_keys d set master_key = $1, wrapped = n.wrapped
                     from unnest($2::uuid[], $3::bytea[]) n(id, wrapped) where d.id = n.id",
                    target,
                    ids,
                    wrapped
                )
                .execute(&mut **tx)
                .await?
            }
        };
        Ok(done.rows_affected())
    }
}

impl Db {
    /// Changes the master key to the one that was given beside the active one, or goes on with a change that was begun. Works while
    /// servers run. Errors: `Conflict` when there is no new key, more than one, or a server that lacks it; or when something is
    /// damaged, after all else was wrapped anew.
    pub async fn master_key_rotate(&self, mut said: impl FnMut(MasterKeyNews)) -> Result<()> {
        let target = match self.master_key_stage().await? {
            Some(staged) => {
                said(MasterKeyNews::Staged(staged.clone()));
                self.master_key_promote(&staged).await?;
                said(MasterKeyNews::Promoted(staged.clone()));
                staged
            }
            None => self.key_fingerprint(),
        };
        let mut damaged = Vec::new();
        for _ in 0..RETIRE_TRIES {
            damaged = self.rewrap_all(&target, &mut said).await?;
            if !damaged.is_empty() {
                break;
            }
            let retired = self.master_keys_retire().await?;
            let all = retired.is_some();
            for fingerprint in retired.unwrap_or_default() {
                said(MasterKeyNews::Retired(fingerprint));
            }
            if all {
                return Ok(());
            }
        }
        if damaged.is_empty() {
            return Err(conflict(
                "Something goes on being wrapped by the former master key, so it is still needed. \
                 `sealport key status` tells which servers run; stop the one that is older than the others, and do this again.",
            ));
        }
        let more = damaged.len().saturating_sub(DAMAGED_NAMED);
        damaged.truncate(DAMAGED_NAMED);
        Err(conflict(format!(
            "All that opens was wrapped anew. These data keys do not open with the master key that wraps them: {}{}. Their rows were \
             changed or damaged; what they sealed opens with a backup of them alone. The former master key stays until they are \
             repaired or their owners' secrets deleted.",
            damaged.join(", "),
            if more > 0 {
                format!(", and {more} more")
            } else {
                String::new()
            }
        )))
    }

    /// Puts the new key beside the active one. None when there is none and a change that was begun is to go on.
    async fn master_key_stage(&self) -> Result<Option<String>> {
        let operator = Caller::job(Job::Operator);
        let mut tx = self.begin_as(&operator).await?;
        lock_master_keys(&mut tx).await?;
        let known = sqlx::query!("select fingerprint, state from master_keys")
            .fetch_all(&mut *tx)
            .await?;
        let given = self.keys().fingerprints();
        let retired = sqlx::query_scalar!(
            "select fingerprint from retired_master_keys where fingerprint = any($1)",
            &given
        )
        .fetch_all(&mut *tx)
        .await?;
        if let Some(active) = known.iter().find(|row| row.state == "active") {
            self.keys().set_active(active.fingerprint.clone());
            self.keys().check_active()?;
        }
        let in_use = |fingerprint: &String| {
            known
                .iter()
                .any(|row| row.fingerprint == *fingerprint && row.state != "staged")
        };
        let new: Vec<&String> = given
            .iter()
            .filter(|key| !in_use(key) && !retired.contains(key))
            .collect();
        let target = match new.as_slice() {
            [one] => (*one).clone(),
            [] if known.iter().any(|row| row.state == "retiring") => return Ok(None),
            [] => return Err(nothing_new(&retired)),
            many => {
                let names: Vec<&str> = many.iter().map(|key| key.as_str()).collect();
                return Err(conflict(format!(
                    "More than one new key was given: {}. Leave one of them beside the active key.",
                    names.join(", ")
                )));
            }
        };
        let staged = known.iter().find(|row| row.state == "staged");
        if staged.is_some_and(|row| row.fingerprint == target) {
            return Ok(Some(target));
        }
        // One that was staged and never promoted wraps nothing; it gives way to the one that is here.
        sqlx::query!("delete from master_keys where state = 'staged'")
            .execute(&mut *tx)
            .await?;
        sqlx::query!(
            "insert into master_keys (fingerprint, canary, state) values ($1, $2, 'staged')",
            target,
            self.keys().master(&target)?.canary().map_err(seal_failed)?
        )
        .execute(&mut *tx)
        .await?;
        record(&mut tx, &operator, "a new master key is staged").await?;
        tx.commit().await?;
        Ok(Some(target))
    }

    /// Makes the staged key the active one, if every server that is alive knows it. Errors: `Conflict`, naming those that do not.
    async fn master_key_promote(&self, target: &str) -> Result<()> {
        let operator = Caller::job(Job::Operator);
        let mut tx = self.begin_as(&operator).await?;
        // A server that starts says which keys it knows under the same lock.
        lock_master_keys(&mut tx).await?;
        let lacking: Vec<String> = servers::alive(&mut tx)
            .await?
            .into_iter()
            .filter(|server| !server.keys.iter().any(|key| key == target))
            .map(|server| server.name)
            .collect();
        if !lacking.is_empty() {
            tx.rollback().await?;
            let refusal = Refusal::new(
                RefusalKind::Conflict,
                format!(
                    "Not every server knows the new key {target}. It is missing at: {}. Give it to each beside the active key, in \
                     SEALPORT_MASTER_KEY or the key file, start it again, and do this again. One that is gone for good is forgotten \
                     {SERVER_GONE_AFTER_SECS} seconds after it was last heard of.",
                    lacking.join("; ")
                ),
            );
            let entry = Entry::of(Action::KeyRotate);
            return self
                .refuse_on_record(&operator, entry, "a server lacks the new key", refusal)
                .await;
        }
        // The former one first: one key is active at a time.
        sqlx::query!("update master_keys set state = 'retiring' where state = 'active'")
            .execute(&mut *tx)
            .await?;
        let promoted = sqlx::query!(
            "update master_keys set state = 'active', promoted_at = now() where fingerprint = $1 and state = 'staged'",
            target
        )
        .execute(&mut *tx)
        .await?;
        if promoted.rows_affected() != 1 {
            return Err(conflict(
                "Somebody else is changing the master key. Look at `sealport key status`, then do this again.",
            ));
        }
        record(&mut tx, &operator, "the new master key is active").await?;
        tx.commit().await?;
        self.keys().set_active(target.to_owned());
        Ok(())
    }

    /// Wraps anew all that another key than `target` wraps. Returns what does not open.
    async fn rewrap_all(
        &self,
        target: &str,
        said: &mut impl FnMut(MasterKeyNews),
    ) -> Result<Vec<String>> {
        let mut damaged = Vec::new();
        for what in ALL_WRAPPED {
            let mut after = Uuid::nil();
            while let Some(batch) = self.rewrap_batch(what, target, after).await? {
                after = batch.last;
                damaged.extend(batch.damaged);
                if batch.done > 0 {
                    said(MasterKeyNews::Rewrapped(batch.done));
                }
                tokio::time::sleep(REWRAP_PAUSE).await;
            }
        }
        Ok(damaged)
    }

    async fn rewrap_batch(
        &self,
        what: Wrapped,
        target: &str,
        after: Uuid,
    ) -> Result<Option<Batch>> {
        let mut tx = self.begin_as(&Caller::job(Job::Operator)).await?;
        let rows = what.next(&mut tx, target, after).await?;
        let Some(last) = rows.last().map(|row| row.id) else {
            return Ok(None);
        };
        let to = self.keys().master(target)?;
        let (mut ids, mut wrapped, mut damaged) = (Vec::new(), Vec::new(), Vec::new());
        for row in &rows {
            let from = self.keys().master(&row.master_key)?;
            match what.wrap_anew(row, from, to) {
                Ok(anew) => {
                    ids.push(row.id);
                    wrapped.push(anew);
                }
                Err(_) => damaged.push(row.id.to_string()),
            }
        }
        let done = what.put(&mut tx, target, &ids, &wrapped).await?;
        tx.commit().await?;
        Ok(Some(Batch {
            last,
            done,
            damaged,
        }))
    }

    /// Takes leave of the keys on which nothing hangs any more. None when something does: it was wrapped meanwhile.
    async fn master_keys_retire(&self) -> Result<Option<Vec<String>>> {
        let operator = Caller::job(Job::Operator);
        let mut tx = self.begin_as(&operator).await?;
        lock_master_keys(&mut tx).await?;
        // Waits for transactions that are just keeping something wrapped by the key; the foreign keys then tell.
        let gone = sqlx::query_scalar!(
            "delete from master_keys where state = 'retiring' returning fingerprint"
        )
        .fetch_all(&mut *tx)
        .await;
        let gone = match gone {
            Ok(gone) => gone,
            Err(sqlx::Error::Database(error)) if error.is_foreign_key_violation() => {
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        for fingerprint in &gone {
            sqlx::query!(
                "insert into retired_master_keys (fingerprint) values ($1) on conflict do nothing",
                fingerprint
            )
            .execute(&mut *tx)
            .await?;
            record(&mut tx, &operator, "the former master key is retired").await?;
        }
        tx.commit().await?;
        Ok(Some(gone))
    }

    /// Where all keys stand, for the operator.
    pub async fn keys_status(&self) -> Result<KeysStatus> {
        let mut tx = self.begin_as(&Caller::job(Job::Operator)).await?;
        let masters: Vec<MasterKeyStatus> = sqlx::query!(
            r#"select m.fingerprint, m.state, coalesce(m.promoted_at, m.created_at) as "since!",
                      (select count(*) from data_keys d where d.master_key = m.fingerprint) as "data_keys!"
               from master_keys m order by m.created_at"#
        )
        .fetch_all(&mut *tx)
        .await?
        .into_iter()
        .map(|row| MasterKeyStatus {
            known_here: self.keys().knows(&row.fingerprint),
            fingerprint: row.fingerprint,
            state: row.state,
            data_keys: row.data_keys,
            since: row.since,
        })
        .collect();
        let retired = sqlx::query!(
            "select fingerprint, retired_at from retired_master_keys order by retired_at desc limit 20"
        )
        .fetch_all(&mut *tx)
        .await?;
        let retired_here = sqlx::query_scalar!(
            "select fingerprint from retired_master_keys where fingerprint = any($1)",
            &self.keys().fingerprints()
        )
        .fetch_all(&mut *tx)
        .await?;
        let data_keys = sqlx::query!(
            r#"select min(created_at) as oldest, count(*) filter (where not active) as "former!" from data_keys"#
        )
        .fetch_one(&mut *tx)
        .await?;
        let servers = servers::alive(&mut tx).await?;
        tx.commit().await?;
        let data = self.data_keys_schedule().await?;
        Ok(KeysStatus {
            new_here: self
                .keys()
                .fingerprints()
                .into_iter()
                .filter(|key| {
                    !masters.iter().any(|row| row.fingerprint == *key)
                        && !retired_here.contains(key)
                })
                .collect(),
            masters,
            retired: retired
                .into_iter()
                .map(|row| (row.fingerprint, row.retired_at))
                .collect(),
            oldest_data_key: data_keys.oldest,
            former_data_keys: data_keys.former,
            versions_waiting: data.versions_waiting,
            data_key_max_age_days: data.max_age_days,
            servers,
        })
    }
}

struct Batch {
    last: Uuid,
    done: u64,
    damaged: Vec<String>,
}

/// One at a time changes which master key is what; a server's start waits for it too.
async fn lock_master_keys(tx: &mut Transaction<'_, Postgres>) -> Result<()> {
    sqlx::query!("select pg_advisory_xact_lock(hashtext('sealport.master_keys'))")
        .execute(&mut **tx)
        .await?;
    Ok(())
}

async fn record(
    tx: &mut Transaction<'_, Postgres>,
    operator: &Caller,
    what: &'static str,
) -> Result<()> {
    let entry = Entry {
        reason: Some(what),
        ..Entry::of(Action::KeyRotate)
    };
    audit::record(tx, operator, entry).await
}

fn nothing_new(retired: &[String]) -> Error {
    let can_go = match retired {
        [] => String::new(),
        keys => format!(
            " What was given beside it is retired here and can be taken away: {}.",
            keys.join(", ")
        ),
    };
    conflict(format!(
        "There is no new key to change to. Make one with `sealport key new`, give it to every server and to this command beside the \
         active one (in SEALPORT_MASTER_KEY, separated by a comma, or as another line of the key file), start the servers again, and do \
         this again.{can_go}"
    ))
}

fn conflict(detail: impl Into<String>) -> Error {
    Refusal::new(RefusalKind::Conflict, detail).into()
}
