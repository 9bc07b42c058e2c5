//! Changing the master key while servers run: the new one is staged, then promoted; then all that the former one wraps is wrapped
//! anew, in small batches; then the former one is retired. Every step is a transaction of its own, and doing it again goes on from
//! where it stopped.

use sqlx::{Postgres, Transaction};

use super::audit::{self, Entry};
use super::keys::seal_failed;
use super::servers::{self, SERVER_GONE_AFTER_SECS};
use super::{Db, Error, Result};
use crate::model::actors::{Caller, Job};
use crate::model::audit::Action;
use crate::model::errors::{Refusal, RefusalKind};

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
