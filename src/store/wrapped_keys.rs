//! What a master key wraps, and wrapping it anew by another one.

use std::time::Duration;

use sqlx::{Postgres, Transaction};
use uuid::Uuid;

use super::keyring::{KeyFor, MasterKey};
use super::keys::seal_failed;
use super::master_keys::{MasterKeyNews, conflict};
use super::{Db, Result};
use crate::model::actors::{Caller, Job};

/// Keys that are wrapped anew in one transaction.
const REWRAP_BATCH: i64 = 25;
/// Between two batches, so that requests have their turn.
const REWRAP_PAUSE: Duration = Duration::from_millis(20);

/// What is wrapped by a master key. Another table that keeps wrapped keys is another word here, with its arm in each function of
/// this type; forgetting one shows, for its foreign key keeps the former master key from being retired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrapped {
    Data,
    Chain,
    Gateway,
}

const ALL_WRAPPED: [Wrapped; 3] = [Wrapped::Data, Wrapped::Chain, Wrapped::Gateway];

/// A key as it stands wrapped.
struct WrappedRow {
    id: Uuid,
    /// Nobody's, for keys of the record's chain.
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
            Wrapped::Data => {
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
            Wrapped::Chain => {
                sqlx::query_as!(
                    WrappedRow,
                    r#"select id, '00000000-0000-0000-0000-000000000000'::uuid as "owner_id!", master_key, wrapped from chain_keys
                       where master_key <> $1 and id > $2 order by id limit $3 for no key update"#,
                    target,
                    after,
                    REWRAP_BATCH
                )
                .fetch_all(&mut **tx)
                .await?
            }
            Wrapped::Gateway => {
                sqlx::query_as!(
                    WrappedRow,
                    "select deployment_id as id, owner_id, master_key, wrapped from gateway_keys
                     where master_key <> $1 and deployment_id > $2 order by deployment_id limit $3 for no key update",
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
            Wrapped::Data => from
                .unwrap(row.id, row.owner_id, &row.wrapped)
                .and_then(|key| to.wrap(&key, row.owner_id))
                .map_err(seal_failed),
            Wrapped::Chain => wrap_key_anew(KeyFor::Chain, row, from, to),
            Wrapped::Gateway => wrap_key_anew(KeyFor::Gateway, row, from, to),
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
            Wrapped::Data => {
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
            Wrapped::Chain => {
                sqlx::query!(
                    "update chain_keys c set master_key = $1, wrapped = n.wrapped
                     from unnest($2::uuid[], $3::bytea[]) n(id, wrapped) where c.id = n.id",
                    target,
                    ids,
                    wrapped
                )
                .execute(&mut **tx)
                .await?
            }
            Wrapped::Gateway => {
                sqlx::query!(
                    "update gateway_keys g set master_key = $1, wrapped = n.wrapped
                     from unnest($2::uuid[], $3::bytea[]) n(id, wrapped) where g.deployment_id = n.id",
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

fn wrap_key_anew(
    what_for: KeyFor,
    row: &WrappedRow,
    from: &MasterKey,
    to: &MasterKey,
) -> Result<Vec<u8>> {
    from.unwrap_key(what_for, row.id, &row.wrapped)
        .and_then(|key| to.wrap_key(what_for, row.id, &key))
        .map_err(seal_failed)
}

struct Batch {
    last: Uuid,
    done: u64,
    damaged: Vec<String>,
}

impl Db {
    /// Wraps anew all that another key than `target` wraps. Returns what does not open.
    pub(super) async fn rewrap_all(
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
        let active = sqlx::query_scalar!("select active_master_key()")
            .fetch_one(&mut *tx)
            .await?;
        if active.as_deref() != Some(target) {
            return Err(conflict(
                "Somebody else changed the master key meanwhile. Look at `sealport key status`, then do this again.",
            ));
        }
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
}
