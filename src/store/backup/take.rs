//! Taking a backup: every row of every table it holds, as they were at one moment, while the server goes on.

use std::fs;
use std::io::Write;
use std::path::Path;

use futures::TryStreamExt;
use sqlx::{AssertSqlSafe, PgConnection, Postgres, Transaction};

use super::super::audit::{self, Entry};
use super::super::{Db, Error, Result};
use super::catalogue::{self, MIGRATIONS, Table};
use super::file::{Lock, Unfinished};
use super::lines::{Header, KeyMark, TableMark, Writer};
use crate::model::actors::{Caller, Job};
use crate::model::audit::Action;

/// A backup that was made, read back and verified.
pub struct Taken {
    pub header: Header,
    pub file_bytes: u64,
}

impl Db {
    /// Writes a backup to `path`, which must not be there yet: to another name first, read back and verified, then renamed.
    /// Put on record before anything is read. Memory does not grow with what is stored.
    pub async fn backup(&self, path: &Path, lock: &Lock) -> Result<Taken> {
        let (unfinished, mut out) = Unfinished::begin(path, lock)?;
        let header = self.backup_lines(&mut out).await?;
        out.finish()?;
        let read_back = unfinished.check()?;
        if read_back != header {
            return Err(Error::broken(
                "The backup was read back and is not what was written. Is the disk sound?",
            ));
        }
        let file_bytes = fs::metadata(unfinished.path()).map_or(0, |found| found.len());
        unfinished.keep()?;
        Ok(Taken { header, file_bytes })
    }

    /// Writes the lines of a backup.
    pub(super) async fn backup_lines(&self, out: &mut impl Write) -> Result<Header> {
        let operator = Caller::job(Job::Operator);
        let mut tx = self.begin_as(&operator).await?;
        audit::record(&mut tx, &operator, Entry::of(Action::StoreBackup)).await?;
        tx.commit().await?;

        let mut tx = self.snapshot().await?;
        let tables = catalogue::tables(&mut tx).await?;
        refuse_unread(&mut tx, &tables).await?;
        let header = header(&mut tx, &tables).await?;
        let mut writer = Writer::begin(out, &header)?;
        for (table, mark) in tables.iter().zip(&header.tables) {
            writer.table(&table.name)?;
            // Names come from PostgreSQL's catalogue, quoted.
            let rows = format!(
                "select row_to_json(t)::text from (select {} from {}) t",
                table.quoted_columns(),
                table.quoted()
            );
            let mut written = 0;
            let mut rows = sqlx::query_scalar::<_, String>(AssertSqlSafe(rows)).fetch(&mut *tx);
            while let Some(row) = rows.try_next().await? {
                writer.row(&row)?;
                written += 1;
            }
            if written != mark.rows {
                return Err(Error::broken("a table changed within its snapshot"));
            }
        }
        writer.end()?;
        Ok(header)
    }

    /// A transaction that sees one moment, for as long as it takes.
    async fn snapshot(&self) -> Result<Transaction<'static, Postgres>> {
        let mut tx = self.begin_as(&Caller::job(Job::Backup)).await?;
        for setting in [
            "set transaction isolation level repeatable read, read only",
            "set local statement_timeout = 0",
            // Writing and encrypting go on between two statements.
            "set local idle_in_transaction_session_timeout = '10min'",
            "set local bytea_output = 'hex'",
        ] {
            sqlx::query(setting).execute(&mut *tx).await?;
        }
        Ok(tx)
    }
}

/// Refuses when a table has no policy that lets a backup read it: Row Level Security would show it as empty.
async fn refuse_unread(conn: &mut PgConnection, tables: &[Table]) -> Result<()> {
    let read = sqlx::query_scalar!(
        r#"select tablename::text as "name!" from pg_policies
           where schemaname = current_schema() and policyname = tablename || '_backup'"#
    )
    .fetch_all(conn)
    .await?;
    match tables.iter().find(|table| !read.contains(&table.name)) {
        None => Ok(()),
        Some(table) => Err(Error::broken(format!(
            "The table {} is neither backed up nor left out by name. This is a fault of Sealport's.",
            table.name
        ))),
    }
}

async fn header(conn: &mut PgConnection, tables: &[Table]) -> Result<Header> {
    let step = format!("select max(version) from {MIGRATIONS}");
    let step: i64 = sqlx::query_scalar(AssertSqlSafe(step))
        .fetch_one(&mut *conn)
        .await?;
    let mut header = Header::new(step);
    let keys = sqlx::query!(
        r#"select fingerprint, canary, (state = 'active') as "active!",
                  (state = 'active' or exists (select 1 from data_keys where master_key = fingerprint)
                                      or exists (select 1 from chain_keys where master_key = fingerprint)
                                      or exists (select 1 from gateway_keys where master_key = fingerprint)) as "needed!"
           from master_keys order by created_at"#
    )
    .fetch_all(&mut *conn)
    .await?;
    header.master_keys = keys
        .into_iter()
        .map(|key| KeyMark {
            fingerprint: key.fingerprint,
            canary: hex::encode(key.canary),
            active: key.active,
            needed: key.needed,
        })
        .collect();
    for table in tables {
        let count = format!("select count(*) from {}", table.quoted());
        let rows: i64 = sqlx::query_scalar(AssertSqlSafe(count))
            .fetch_one(&mut *conn)
            .await?;
        header.tables.push(TableMark {
            name: table.name.clone(),
            columns: table.columns.clone(),
            rows: rows.unsigned_abs(),
        });
    }
    header.sequences = sqlx::query!(
        r#"select sequencename::text as "name!", last_value as "last!" from pg_sequences
           where schemaname = current_schema() and last_value is not null order by 1"#
    )
    .fetch_all(conn)
    .await?
    .into_iter()
    .map(|sequence| (sequence.name, sequence.last))
    .collect();
    Ok(header)
}
