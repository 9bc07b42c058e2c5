//! Sealed batches as a file of JSON lines: written, checked, and then dropped from the record, their link kept.

use std::io::{BufRead, Read, Write};

use serde::{Deserialize, Serialize};
use sqlx::{Connection, Postgres, Transaction};
use time::OffsetDateTime;

use super::audit::{self, Entry};
use super::chain::{BATCH_ROWS_MAX, Batch, Damage, Dropped, Link, SealedRow, Walk};
use super::chain_check::{ChainReport, batches, closed_before, dropped, rows};
use super::db::OwnerLogin;
use super::{Db, Error, Result, roles};
use crate::model::actors::{Caller, Job};
use crate::model::audit::Action;
use crate::model::errors::{Refusal, RefusalKind};

/// Another number is another kind of file.
const FILE_FORMAT: u32 = 1;
/// A row's fields are all short: a longer line is no line of ours.
const LINE_MAX_BYTES: u64 = 64 * 1024;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    /// First: after which batch it begins.
    SealportRecord {
        format: u32,
        after: After,
    },
    Batch(Batch),
    Sealed(SealedRow),
    /// Last, so that a file that was cut short is known.
    End {
        number: i64,
        rows: i64,
    },
}

#[derive(Serialize, Deserialize)]
struct After {
    number: i64,
    last_seq: i64,
    #[serde(with = "hex::serde")]
    hash: Vec<u8>,
}

/// What stands in a file whose chain is whole.
struct Checked {
    after: Dropped,
    end: Dropped,
    key_id: uuid::Uuid,
    rows: i64,
    batches: i64,
}

impl Db {
    /// Writes the oldest batches, all that were sealed before a moment but the newest. Puts the export on record. Errors: when
    /// there is nothing to export, or when what is sealed is damaged.
    pub async fn audit_export(
        &self,
        before: OffsetDateTime,
        out: &mut impl Write,
    ) -> Result<ChainReport> {
        let mut tx = self.begin_check().await?;
        let keys = self.chain_keys(&mut tx).await?;
        let start = dropped(&mut tx, &keys).await?.map_err(damaged)?;
        let last = closed_before(&mut tx, before).await?;
        let mut walk = Walk::from(&keys, start.as_ref());
        if last <= walk.number {
            return Err(Refusal::new(
                RefusalKind::NotFound,
                "Nothing was sealed before that day that could be exported. The newest batch always stays.",
            )
            .into());
        }
        let after = After {
            number: walk.number,
            last_seq: walk.last_seq,
            hash: walk.hash.to_vec(),
        };
        let format = FILE_FORMAT;
        put(out, &Line::SealportRecord { format, after })?;
        while walk.number < last {
            let mut batches = batches(&mut tx, walk.number).await?;
            batches.retain(|batch| batch.number <= last);
            let mut rows = rows(&mut tx, &batches).await?.into_iter().peekable();
            if batches.is_empty() {
                return Err(Error::broken("a batch of the record is missing"));
            }
            for batch in batches {
                let mut own = Vec::new();
                let end = batch.first_seq.saturating_add(batch.rows.into());
                while let Some(row) = rows.next_if(|row| row.seq < end) {
                    own.push(row);
                }
                walk.take(&batch, &own).map_err(damaged)?;
                put(out, &Line::Batch(batch))?;
                for row in own {
                    put(out, &Line::Sealed(row))?;
                }
            }
        }
        let (number, rows) = (walk.number, walk.rows);
        put(out, &Line::End { number, rows })?;
        out.flush().map_err(unwritten)?;
        tx.commit().await?;

        let operator = Caller::job(Job::Operator);
        let mut tx = self.begin_as(&operator).await?;
        audit::record(&mut tx, &operator, Entry::of(Action::AuditExport)).await?;
        tx.commit().await?;
        Ok(report(&walk))
    }

    /// Checks an exported file with the keys of this installation. With `kept`, also that this link is of one of its batches.
    pub async fn audit_verify_file(
        &self,
        file: impl BufRead,
        kept: Option<Link>,
    ) -> Result<ChainReport> {
        let mut tx = self.begin_check().await?;
        let (report, _) = self.checked(&mut tx, file, kept).await?;
        Ok(report)
    }

    /// Drops from the record what stands in an exported file, after checking that the file has it whole and that it is the oldest
    /// part of this record. As the tables' owner: the server's role cannot.
    pub async fn audit_drop(&self, owner: &OwnerLogin, file: impl BufRead) -> Result<ChainReport> {
        let mut check = self.begin_check().await?;
        let (report, checked) = self.checked(&mut check, file, None).await?;
        let (None, Some(checked)) = (&report.damage, checked) else {
            return Ok(report);
        };
        let keys = self.chain_keys(&mut check).await?;
        let Some(key) = keys.get(&checked.key_id) else {
            return Err(Error::broken("the key of the last batch is missing"));
        };
        check.commit().await?;

        let mut conn = roles::connect(&owner.0).await?;
        let done = async {
            let mut tx = conn.begin().await?;
            sqlx::query!("select set_config('sealport.job', 'operator', true)")
                .fetch_one(&mut *tx)
                .await?;
            // One at a time; the second then finds that its file does not begin here any more.
            sqlx::query!("select pg_advisory_xact_lock(hashtext('sealport.audit_drops'))")
                .fetch_one(&mut *tx)
                .await?;
            fits(&mut tx, &checked).await?;
            let now = sqlx::query_scalar!(r#"select now() as "now!""#)
                .fetch_one(&mut *tx)
                .await?;
            let mark = Dropped {
                dropped_at: now,
                ..checked.end.clone()
            };
            let mac = key.dropped(&mark)?;
            sqlx::query!(
                "insert into audit_drops (number, last_seq, key_id, hash, mac, dropped_at) values ($1, $2, $3, $4, $5, $6)",
                mark.number,
                mark.last_seq,
                checked.key_id,
                mark.hash.as_slice(),
                mac.as_slice(),
                mark.dropped_at
            )
            .execute(&mut *tx)
            .await?;
            remove(&mut tx, &mark, &checked).await?;
            let operator = Caller::job(Job::Operator);
            audit::record(&mut tx, &operator, Entry::of(Action::AuditDrop)).await?;
            tx.commit().await?;
            Ok(())
        }
        .await;
        roles::close(conn).await;
        done.map(|()| report)
    }

    async fn checked(
        &self,
        tx: &mut Transaction<'_, Postgres>,
        file: impl BufRead,
        kept: Option<Link>,
    ) -> Result<(ChainReport, Option<Checked>)> {
        let keys = self.chain_keys(tx).await?;
        let mut lines = Lines { file, read: 0 };
        let Some(Line::SealportRecord { format, after }) = lines.next()? else {
            return Err(no_file("This is no export of Sealport's record."));
        };
        let Ok(hash) = after.hash.try_into() else {
            return Err(no_file("This is no export of Sealport's record."));
        };
        if format != FILE_FORMAT {
            return Err(no_file(
                "This export is of a newer Sealport; this one cannot read it.",
            ));
        }
        let after = Dropped {
            number: after.number,
            last_seq: after.last_seq,
            hash,
            dropped_at: OffsetDateTime::UNIX_EPOCH,
        };
        let mut walk = Walk::from(&keys, Some(&after));
        let mut held = false;
        let mut key_id = uuid::Uuid::nil();
        let mut line = lines.next()?;
        let ended = loop {
            match line {
                Some(Line::Batch(batch)) => {
                    let mut own = Vec::new();
                    line = lines.next()?;
                    while let Some(Line::Sealed(row)) = line {
                        own.push(row);
                        line = lines.next()?;
                        if own.len() > BATCH_ROWS_MAX {
                            break;
                        }
                    }
                    if let Err(damage) = whole(&mut walk, &batch, &own) {
                        let report = ChainReport {
                            damage: Some(damage),
                            ..report(&walk)
                        };
                        return Ok((report, None));
                    }
                    key_id = batch.key_id;
                    held |= walk.link() == kept;
                }
                Some(Line::End { number, rows }) => {
                    break number == walk.number && rows == walk.rows && lines.next()?.is_none();
                }
                _ => break false,
            }
        };
        let wrong = if !ended {
            Some("The file is cut short, or something was added to it.")
        } else if kept.is_some() && !held {
            Some("The link is of none of the batches in this file.")
        } else {
            None
        };
        let report = ChainReport {
            damage: wrong.map(|sentence| Damage {
                sentence: sentence.into(),
            }),
            ..report(&walk)
        };
        let end = Dropped {
            number: walk.number,
            last_seq: walk.last_seq,
            hash: walk.hash,
            dropped_at: OffsetDateTime::UNIX_EPOCH,
        };
        let checked = Checked {
            after,
            end,
            key_id,
            rows: walk.rows,
            batches: walk.batches,
        };
        Ok((report, Some(checked)))
    }
}

/// A batch with exactly its rows.
fn whole(walk: &mut Walk<'_>, batch: &Batch, own: &[SealedRow]) -> Result<(), Damage> {
    walk.take(batch, own)?;
    if own.len() as i64 == i64::from(batch.rows) {
        return Ok(());
    }
    Err(Damage {
        sentence: format!("Batch {} has a row too many.", batch.number),
    })
}

fn report(walk: &Walk<'_>) -> ChainReport {
    ChainReport {
        rows: walk.rows,
        batches: walk.batches,
        link: walk.link(),
        ..ChainReport::default()
    }
}

/// That the file begins where this record does, and ends with a batch of it that is not the newest. The hash of its last batch
/// stands for all before.
async fn fits(tx: &mut Transaction<'_, Postgres>, checked: &Checked) -> Result<()> {
    let here = sqlx::query!(
        r#"select (select hash from audit_batches where number = $1) as hash,
                  (select max(number) from audit_batches) as newest,
                  (select min(number) from audit_batches) as oldest"#,
        checked.end.number
    )
    .fetch_one(&mut **tx)
    .await?;
    let fits = here.oldest == Some(checked.after.number + 1)
        && here.newest > Some(checked.end.number)
        && here.hash.as_deref() == Some(checked.end.hash.as_slice())
        && checked.batches > 0;
    if fits {
        Ok(())
    } else {
        Err(Refusal::new(
            RefusalKind::Conflict,
            "The file is not the oldest part of this record: it was dropped already, or the file is of another installation. \
             Nothing was dropped.",
        )
        .into())
    }
}

async fn remove(
    tx: &mut Transaction<'_, Postgres>,
    mark: &Dropped,
    checked: &Checked,
) -> Result<()> {
    sqlx::query!(
        "delete from audit a using audit_seals s where s.audit_id = a.id and s.seq <= $1",
        mark.last_seq
    )
    .execute(&mut **tx)
    .await?;
    let seals = sqlx::query!("delete from audit_seals where seq <= $1", mark.last_seq)
        .execute(&mut **tx)
        .await?;
    let batches = sqlx::query!("delete from audit_batches where number <= $1", mark.number)
        .execute(&mut **tx)
        .await?;
    let all = seals.rows_affected() as i64 == checked.rows
        && batches.rows_affected() as i64 == checked.batches;
    if all {
        Ok(())
    } else {
        Err(Refusal::new(
            RefusalKind::Conflict,
            "What is sealed here is damaged, and nothing was dropped. `sealport audit verify` says where.",
        )
        .into())
    }
}

/// The lines of a file, none of them longer than ours are.
struct Lines<F> {
    file: F,
    read: u64,
}

impl<F: BufRead> Lines<F> {
    fn next(&mut self) -> Result<Option<Line>> {
        let mut line = Vec::new();
        let read = (&mut self.file)
            .take(LINE_MAX_BYTES)
            .read_until(b'\n', &mut line)
            .map_err(|error| Error::caused("The file could not be read.", error))?;
        if read == 0 {
            return Ok(None);
        }
        self.read += 1;
        serde_json::from_slice(&line).map(Some).map_err(|_| {
            no_file(&format!(
                "Line {} of the file is no line of an export of Sealport's record.",
                self.read
            ))
        })
    }
}

fn put(out: &mut impl Write, line: &Line) -> Result<()> {
    let mut text = serde_json::to_vec(line)
        .map_err(|error| Error::caused("a line of the record could not be written", error))?;
    text.push(b'\n');
    out.write_all(&text).map_err(unwritten)
}

fn unwritten(error: std::io::Error) -> Error {
    Error::caused("The file could not be written.", error)
}

fn no_file(sentence: &str) -> Error {
    Refusal::invalid("file", sentence).into()
}

fn damaged(damage: Damage) -> Error {
    Refusal::new(
        RefusalKind::Conflict,
        format!(
            "The record is damaged, so nothing was exported. {}",
            damage.sentence
        ),
    )
    .into()
}
