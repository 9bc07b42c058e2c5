//! Seals the record: numbers the rows of finished transactions, and adds a batch to the chain. Nothing waits for it.

use std::sync::{Mutex, PoisonError};

use serde_json::Value;
use sqlx::{Postgres, Transaction};
use time::OffsetDateTime;
use uuid::Uuid;

use super::chain::{BATCH_ROWS_MAX, Batch, NOTHING_BEFORE, SealedRow};
use super::{Db, Error, Result};
use crate::model::actors::{Caller, Job};

/// The lease that gives the work to one server at a time.
const LEASE: &str = "sealer";
/// For how long another server leaves it to this one. A server that was killed holds up the seals no longer than this.
const LEASE_SECS: i32 = 2;

/// The end of the chain as this server saw it last: its number and hash.
#[derive(Default)]
pub(super) struct LastSeen(Mutex<Option<(i64, Vec<u8>)>>);

impl LastSeen {
    fn get(&self) -> Option<(i64, Vec<u8>)> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.clone()
    }

    fn set(&self, number: i64, hash: Vec<u8>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((number, hash));
    }
}

/// Where the chain ends, and where the next batch begins to look.
struct End {
    number: i64,
    last_seq: i64,
    hash: Vec<u8>,
    after_xid: String,
    after_id: Uuid,
    /// Transactions are numbered otherwise than when it was sealed: the database was restored elsewhere.
    moved: bool,
    cluster: String,
    /// The oldest transaction that may still be under way.
    xmin: String,
    now: OffsetDateTime,
}

impl Db {
    /// Seals what waits, one batch at most. Returns whether more may wait.
    pub async fn seal_step(&self) -> Result<bool> {
        let mut tx = self.begin_as(&Caller::job(Job::Sealer)).await?;
        // Reads the beginning of an index alone, and writes nothing while there is nothing to seal.
        let waits = sqlx::query_scalar!(
            // Its parameters are plain ones: Row Level Security lets no other expression near an index.
            r#"with here as materialized (
                 select coalesce(last.after_xid, '0') as after_xid,
                        coalesce(last.after_id, '00000000-0000-0000-0000-000000000000') as after_id,
                        coalesce(last.cluster <> this_cluster() or last.after_xid > pg_snapshot_xmax(pg_current_snapshot()), false)
                            as moved
                 from (select true) always
                 left join (select * from audit_batches order by number desc limit 1) last on true
               )
               select (select moved from here) or (
                   -- In order, so that it looks at the index alone: where no row is behind the end it would look at all.
                   select true from audit a
                   where (a.xid, a.id) > ((select after_xid from here), (select after_id from here))
                     and a.xid < pg_snapshot_xmin(pg_current_snapshot())
                   order by a.xid, a.id limit 1
               ) is not null as "waits!""#
        )
        .fetch_one(&mut *tx)
        .await?;
        if !waits
            || self
                .lease_hold_in(&mut tx, LEASE, LEASE_SECS)
                .await?
                .is_none()
        {
            tx.commit().await?;
            return Ok(false);
        }
        self.prove_seen(&mut tx).await?;
        let end = end(&mut tx).await?;
        let waiting = if end.moved {
            unsealed(&mut tx).await?
        } else {
            finished(&mut tx, &end).await?
        };
        let more = waiting.len() == BATCH_ROWS_MAX;
        let mut last = (end.number, end.hash.clone());
        if !waiting.is_empty() || end.moved {
            last = self.add_batch(&mut tx, &end, waiting).await?;
        }
        tx.commit().await?;
        let (number, hash) = last;
        self.last_seen().set(number, hash);
        Ok(more)
    }

    /// Seals nothing on top of a record that somebody cut or made anew: with our key it would look whole.
    async fn prove_seen(&self, tx: &mut Transaction<'_, Postgres>) -> Result<()> {
        let Some((number, hash)) = self.last_seen().get().filter(|(number, _)| *number > 0) else {
            return Ok(());
        };
        let there = sqlx::query_scalar!(
            r#"select exists (select 1 from audit_batches where number = $1 and hash = $2)
                 or exists (select 1 from audit_drops where number >= $1) as "there!""#,
            number,
            hash
        )
        .fetch_one(&mut **tx)
        .await?;
        if there {
            return Ok(());
        }
        Err(Error::broken(format!(
            "Batch {number} of the record is not there as this server saw it: somebody changed the record past Sealport, or put an \
             earlier state of the database back. Nothing more is sealed until the server is started again. Keep the database as it \
             is, and run `sealport audit verify`."
        )))
    }

    async fn add_batch(
        &self,
        tx: &mut Transaction<'_, Postgres>,
        end: &End,
        waiting: Vec<Waiting>,
    ) -> Result<(i64, Vec<u8>)> {
        let key = self.newest_chain_key(tx).await?;
        let first_seq = end.last_seq + 1;
        let full = waiting.len() == BATCH_ROWS_MAX;
        let last = waiting.last().map(|row| (row.xid.clone(), row.id));
        let (mut ids, mut rows) = (Vec::new(), Vec::new());
        for (seq, row) in (first_seq..).zip(waiting) {
            ids.push(row.id);
            rows.push(SealedRow {
                seq,
                mac: key.row(seq, &row.content)?.to_vec(),
                content: Some(row.content),
            });
        }
        let mut batch = Batch {
            number: end.number + 1,
            first_seq,
            rows: i32::try_from(rows.len()).unwrap_or(i32::MAX),
            key_id: key.id,
            previous: end.hash.clone(),
            hash: Vec::new(),
            sealed_at: end.now,
        };
        batch.hash = key.batch(&batch, &rows)?.to_vec();
        // A full batch may have stopped within a transaction's rows. One that is not has seen all that was finished; of a restored
        // database all is looked through until then.
        let (after_xid, after_id, cluster) = match last {
            Some((xid, id)) if full && !end.moved => (xid, id, end.cluster.clone()),
            _ if full => (end.after_xid.clone(), end.after_id, String::from("moved")),
            _ => (end.xmin.clone(), Uuid::nil(), end.cluster.clone()),
        };
        sqlx::query!(
            "insert into audit_batches
                 (number, first_seq, rows, key_id, previous, hash, sealed_at, after_xid, after_id, cluster)
             values ($1, $2, $3, $4, $5, $6, $7, $8::text::xid8, $9, $10)",
            batch.number,
            batch.first_seq,
            batch.rows,
            batch.key_id,
            batch.previous,
            batch.hash,
            batch.sealed_at,
            after_xid,
            after_id,
            cluster
        )
        .execute(&mut **tx)
        .await?;
        let seqs: Vec<i64> = rows.iter().map(|row| row.seq).collect();
        let macs: Vec<Vec<u8>> = rows.into_iter().map(|row| row.mac).collect();
        sqlx::query!(
            "insert into audit_seals (seq, audit_id, mac) select * from unnest($1::bigint[], $2::uuid[], $3::bytea[])",
            &seqs,
            &ids,
            &macs
        )
        .execute(&mut **tx)
        .await?;
        Ok((batch.number, batch.hash))
    }
}

async fn end(tx: &mut Transaction<'_, Postgres>) -> Result<End> {
    // As JSON shows moments.
    sqlx::query!("select set_config('timezone', 'UTC', true) as a, set_config('statement_timeout', '10min', true) as b")
        .fetch_one(&mut **tx)
        .await?;
    let row = sqlx::query!(
        r#"select number as "number?", first_seq + rows - 1 as last_seq, hash as "hash?", after_xid::text as after_xid,
                  after_id as "after_id?", here.cluster as "cluster!",
                  coalesce(last.cluster <> here.cluster or last.after_xid > pg_snapshot_xmax(pg_current_snapshot()), false) as "moved!",
                  pg_snapshot_xmin(pg_current_snapshot())::text as "xmin!", clock_timestamp() as "now!"
           from (select this_cluster() as cluster) here
           left join (select * from audit_batches order by number desc limit 1) last on true"#
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(End {
        number: row.number.unwrap_or(0),
        last_seq: row.last_seq.unwrap_or(0),
        hash: row.hash.unwrap_or_else(|| NOTHING_BEFORE.to_vec()),
        after_xid: row.after_xid.unwrap_or_else(|| "0".into()),
        after_id: row.after_id.unwrap_or(Uuid::nil()),
        moved: row.moved,
        cluster: row.cluster,
        xmin: row.xmin,
        now: row.now,
    })
}

/// A row without a number.
struct Waiting {
    id: Uuid,
    xid: String,
    content: Value,
}

/// Rows of finished transactions behind the end. Those of a transaction stand together, so a full batch can stop within one.
async fn finished(tx: &mut Transaction<'_, Postgres>, end: &End) -> Result<Vec<Waiting>> {
    let rows = sqlx::query_as!(
        Waiting,
        r#"select a.id, a.xid::text as "xid!", jsonb_strip_nulls(to_jsonb(a) - 'xid') as "content!: Value"
           from audit a
           where (a.xid, a.id) > ($1::text::xid8, $2) and a.xid < $3::text::xid8
             -- Some are sealed already where a database was copied within its cluster.
             and not exists (select 1 from audit_seals s where s.audit_id = a.id)
           order by a.xid, a.id limit $4"#,
        end.after_xid,
        end.after_id,
        end.xmin,
        BATCH_ROWS_MAX as i64
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows)
}

/// All that has no number. Looks through the whole record, once after a restore: what is seen here is finished.
async fn unsealed(tx: &mut Transaction<'_, Postgres>) -> Result<Vec<Waiting>> {
    let rows = sqlx::query_as!(
        Waiting,
        r#"select a.id, a.xid::text as "xid!", jsonb_strip_nulls(to_jsonb(a) - 'xid') as "content!: Value"
           from audit a
           where not exists (select 1 from audit_seals s where s.audit_id = a.id)
           order by a.id limit $1"#,
        BATCH_ROWS_MAX as i64
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows)
}
