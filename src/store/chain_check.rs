//! Whether the record is as it was sealed: every sealed row and batch, what stands beside them, and a link that was kept elsewhere.

use std::collections::HashMap;

use serde_json::Value;
use sqlx::{Postgres, Transaction};
use time::OffsetDateTime;
use uuid::Uuid;

use super::chain::{Batch, Damage, Dropped, Link, SealedRow, Walk, damage};
use super::chain_keys::ChainKey;
use super::{Db, Result};
use crate::model::actors::{Caller, Job};

/// Batches that are read at once, and about as many rows.
const BATCHES_AT_ONCE: i64 = 1_000;
const ROWS_AT_ONCE: i64 = 2_000;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChainReport {
    /// Sealed rows and batches that are as they were sealed.
    pub rows: i64,
    pub batches: i64,
    /// Rows that have no number yet.
    pub unsealed: i64,
    /// Where the record was exported and dropped.
    pub dropped: Option<Link>,
    /// The last batch: to be kept elsewhere.
    pub link: Option<Link>,
    /// The first thing that is wrong.
    pub damage: Option<Damage>,
}

impl Db {
    /// Checks all of it. With `kept`, a link of an earlier check, also that nothing up to there was cut off or made anew.
    pub async fn audit_verify(&self, kept: Option<Link>) -> Result<ChainReport> {
        let mut tx = self.begin_check().await?;
        let keys = self.chain_keys(&mut tx).await?;
        let mut report = ChainReport {
            unsealed: unsealed(&mut tx).await?,
            ..ChainReport::default()
        };
        report.damage = walk(&mut tx, &keys, kept, &mut report).await?.err();
        tx.commit().await?;
        Ok(report)
    }

    /// A transaction that sees one state of the record, however long it takes.
    pub(super) async fn begin_check(&self) -> Result<Transaction<'static, Postgres>> {
        let mut tx = self.begin_as(&Caller::job(Job::Operator)).await?;
        sqlx::query!("set transaction isolation level repeatable read read only")
            .execute(&mut *tx)
            .await?;
        // Moments as JSON shows them; and reading millions of rows takes its time.
        sqlx::query!(
            "select set_config('timezone', 'UTC', true) as a, set_config('statement_timeout', '10min', true) as b,
                    set_config('idle_in_transaction_session_timeout', '10min', true) as c"
        )
        .fetch_one(&mut *tx)
        .await?;
        Ok(tx)
    }
}

async fn walk(
    tx: &mut Transaction<'_, Postgres>,
    keys: &HashMap<Uuid, ChainKey>,
    kept: Option<Link>,
    report: &mut ChainReport,
) -> Result<Result<(), Damage>> {
    let start = match dropped(tx, keys).await? {
        Ok(start) => start,
        Err(damage) => return Ok(Err(damage)),
    };
    report.dropped = start.as_ref().map(|mark| Link {
        number: mark.number,
        hash: mark.hash,
    });
    let mut walk = Walk::from(keys, start.as_ref());
    let mut held = report.dropped.filter(|link| Some(*link) == kept).is_some();
    loop {
        let batches = batches(tx, walk.number).await?;
        if batches.is_empty() {
            break;
        }
        let mut rows = rows(tx, &batches).await?.into_iter().peekable();
        for batch in &batches {
            let mut own = Vec::new();
            let end = batch.first_seq.saturating_add(batch.rows.into());
            while let Some(row) = rows.next_if(|row| row.seq < end) {
                own.push(row);
            }
            if let Err(damage) = walk.take(batch, &own) {
                return Ok(Err(damage));
            }
            held |= walk.link() == kept;
            (report.rows, report.batches) = (walk.rows, walk.batches);
            report.link = walk.link();
        }
    }
    report.link = walk.link();
    if let Err(damage) = beside(tx, start.map_or(0, |mark| mark.last_seq), &walk).await? {
        return Ok(Err(damage));
    }
    Ok(match kept {
        Some(kept) if !held => not_held(kept, &walk, report),
        _ => Ok(()),
    })
}

/// What a kept link says that the chain here does not.
fn not_held(kept: Link, walk: &Walk<'_>, report: &ChainReport) -> Result<(), Damage> {
    match report.dropped {
        _ if kept.number > walk.number => damage(format!(
            "The record ends at batch {}, but batch {} was sealed once: its end was cut off.",
            walk.number, kept.number
        )),
        Some(dropped) if kept.number < dropped.number => damage(format!(
            "The link is of batch {}, and the record was dropped up to batch {}: check the link with the exported file.",
            kept.number, dropped.number
        )),
        _ => damage(format!(
            "Batch {} is not the one that the link is of: the record was made anew from there or before.",
            kept.number
        )),
    }
}

/// The mark of what was dropped, if any.
pub(super) async fn dropped(
    tx: &mut Transaction<'_, Postgres>,
    keys: &HashMap<Uuid, ChainKey>,
) -> Result<Result<Option<Dropped>, Damage>> {
    let row = sqlx::query!(
        "select number, last_seq, key_id, hash, mac, dropped_at from audit_drops order by number desc limit 1"
    )
    .fetch_optional(&mut **tx)
    .await?;
    let Some(row) = row else {
        return Ok(Ok(None));
    };
    let wrong = || damage("The mark of what was dropped from the record was changed.");
    let Ok(hash) = row.hash.try_into() else {
        return Ok(wrong());
    };
    let mark = Dropped {
        number: row.number,
        last_seq: row.last_seq,
        hash,
        dropped_at: row.dropped_at,
    };
    Ok(match keys.get(&row.key_id) {
        Some(key) if key.dropped(&mark)?.as_slice() == row.mac => Ok(Some(mark)),
        _ => wrong(),
    })
}

/// The batches after `number`, about as many as hold the rows of one read.
pub(super) async fn batches(tx: &mut Transaction<'_, Postgres>, number: i64) -> Result<Vec<Batch>> {
    let mut batches = sqlx::query_as!(
        Batch,
        "select number, first_seq, rows, key_id, previous, hash, sealed_at from audit_batches
         where number > $1 order by number limit $2",
        number,
        BATCHES_AT_ONCE
    )
    .fetch_all(&mut **tx)
    .await?;
    let mut rows = 0;
    let few = batches.iter().position(|batch| {
        rows += i64::from(batch.rows);
        rows > ROWS_AT_ONCE
    });
    batches.truncate(few.map_or(batches.len(), |few| few.max(1)));
    Ok(batches)
}

/// The rows that are numbered as those of these batches, in order.
pub(super) async fn rows(
    tx: &mut Transaction<'_, Postgres>,
    batches: &[Batch],
) -> Result<Vec<SealedRow>> {
    let (Some(first), Some(last)) = (batches.first(), batches.last()) else {
        return Ok(Vec::new());
    };
    let rows = sqlx::query_as!(
        SealedRow,
        r#"select s.seq, s.mac, jsonb_strip_nulls(to_jsonb(a) - 'xid') as "content?: Value"
           from audit_seals s left join audit a on a.id = s.audit_id
           where s.seq >= $1 and s.seq < $2 order by s.seq limit $3"#,
        first.first_seq,
        last.first_seq.saturating_add(last.rows.into()),
        ROWS_AT_ONCE + 500
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows)
}

/// Numbers in no batch, and rows that the sealer was never shown.
async fn beside(
    tx: &mut Transaction<'_, Postgres>,
    dropped_seq: i64,
    walk: &Walk<'_>,
) -> Result<Result<(), Damage>> {
    let stray = sqlx::query_scalar!(
        "select seq from audit_seals where seq <= $1 or seq > $2 order by seq limit 1",
        dropped_seq,
        walk.last_seq
    )
    .fetch_optional(&mut **tx)
    .await?;
    if let Some(seq) = stray {
        return Ok(damage(format!(
            "Row {seq} has a number and is in no batch."
        )));
    }
    let passed = sqlx::query!(
        "select a.id, a.at from audit a,
                (select after_xid, cluster from audit_batches order by number desc limit 1) last
         where a.xid < last.after_xid and last.cluster = this_cluster()
           and not exists (select 1 from audit_seals s where s.audit_id = a.id)
         order by a.id limit 1"
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(match passed {
        Some(row) => damage(format!(
            "A row was put in among sealed ones: its id is {}, it claims to be of {}, and it was never sealed.",
            row.id, row.at
        )),
        None => Ok(()),
    })
}

async fn unsealed(tx: &mut Transaction<'_, Postgres>) -> Result<i64> {
    let count = sqlx::query_scalar!(
        r#"select count(*) as "count!" from audit a
           where not exists (select 1 from audit_seals s where s.audit_id = a.id)"#
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(count)
}

/// The last moment of a batch that an export may take: the newest is never among them, for the sealer goes on from it.
pub(super) async fn closed_before(
    tx: &mut Transaction<'_, Postgres>,
    before: OffsetDateTime,
) -> Result<i64> {
    let number = sqlx::query_scalar!(
        r#"select least(
               (select max(number) - 1 from audit_batches),
               coalesce((select min(number) - 1 from audit_batches where sealed_at >= $1),
                        (select max(number) - 1 from audit_batches))
           ) as number"#,
        before
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(number.unwrap_or(0))
}
