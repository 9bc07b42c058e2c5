//! Restoring a backup, as the tables' owner and in one transaction: a restore that was killed leaves the database as it was.

use std::collections::{BTreeMap, BTreeSet};
use std::io::BufRead;

use sqlx::{AssertSqlSafe, Connection, PgConnection, Postgres, Transaction};

use super::super::db::{DatabaseConfig, KeySource};
use super::super::steps::{MIGRATIONS as STEPS, migrate_to};
use super::super::{Error, Result, key_source, roles};
use super::catalogue::{self, MIGRATIONS, Table, quote};
use super::lines::{Header, Line, Reader, TableMark, damaged};
use super::still::still;

/// Rows that are put back by one statement.
const BATCH_ROWS: usize = 500;
const BATCH_BYTES: usize = 1024 * 1024;

/// What was restored.
pub struct Restored {
    pub header: Header,
    /// The step that the database is at now.
    pub step: i64,
    pub tokens_revoked: u64,
    pub deployments_stopped: u64,
}

/// Brings back what `input` holds (a backup, decrypted) into an empty database. The master key is proven before anything is
/// touched. Revokes all tokens and starts no deployment. Errors: a sentence; the database is then as it was.
pub async fn restore(
    config: &DatabaseConfig,
    source: KeySource,
    input: impl BufRead,
) -> Result<Restored> {
    let (header, lines) = Reader::begin(input)?;
    let newest = STEPS.iter().map(|step| step.version).max().unwrap_or(0);
    if header.step > newest {
        return Err(Error::broken(format!(
            "Sealport {} made this backup at step {}, and this one knows steps up to {newest}. Restore it with that version or a newer one.",
            header.sealport, header.step
        )));
    }
    prove_keys(&header, source)?;

    let owner = config.owner.as_ref().unwrap_or(&config.app);
    let mut conn = roles::connect(owner).await?;
    let restored: Result<(u64, u64)> = async {
        roles::prepare(&mut conn, config.app.get_username()).await?;
        let mut tx = conn.begin().await.map_err(failed)?;
        // Servers that start meanwhile wait here for the end of it, as they do for each other's migrations.
        sqlx::migrate::Migrate::lock(&mut *tx)
            .await
            .map_err(failed)?;
        make_room(&mut tx).await?;
        migrate_to(&mut tx, Some(header.step)).await?;
        load(&mut tx, &header, lines).await?;
        migrate_to(&mut tx, None).await?;
        let (tokens_revoked, deployments_stopped) = still(&mut tx).await?;
        prove_forced(&mut tx).await?;
        tx.commit().await.map_err(failed)?;
        Ok((tokens_revoked, deployments_stopped))
    }
    .await;
    // Ends the lock as well.
    roles::close(conn).await;
    let (tokens_revoked, deployments_stopped) = restored?;
    Ok(Restored {
        header,
        step: newest,
        tokens_revoked,
        deployments_stopped,
    })
}

/// Errors: one of the keys that the backup needs is not among those given, or is another.
fn prove_keys(header: &Header, source: KeySource) -> Result<()> {
    let (masters, _) = key_source::read(source, Some(header.active_key()))?;
    for mark in header.master_keys.iter().filter(|mark| mark.needed) {
        let canary = hex::decode(&mark.canary).map_err(|_| damaged("a canary is no hex"))?;
        let opens = masters
            .iter()
            .any(|key| key.fingerprint() == mark.fingerprint && key.opens_canary(&canary));
        if !opens {
            return Err(Error::broken(format!(
                "The master key is missing or wrong: this backup is sealed with the key whose fingerprint is {}, and {}. \
                 Put that key into the key file or SEALPORT_MASTER_KEY, from where you kept it. Nothing was changed.",
                mark.fingerprint,
                key_source::describe(&masters)
            )));
        }
    }
    Ok(())
}

/// Takes the tables of an installation in which nobody ever lived away. Errors: somebody does, or they are not ours.
async fn make_room(tx: &mut Transaction<'_, Postgres>) -> Result<()> {
    let there: Vec<String> = all_tables(tx).await?;
    if there.is_empty() {
        return Ok(());
    }
    let others = others(tx, &there).await?;
    if !others.is_empty() {
        return Err(Error::broken(format!(
            "This database holds tables that are not Sealport's, or of a version that this one does not know ({}). Restore into an \
             empty one. Nothing was changed.",
            others.join(", ")
        )));
    }
    if there.iter().any(|name| name == "owners") {
        // The owner of the tables is bound by the policies too, until it says otherwise; with an error all of it is undone.
        run(tx, "alter table owners no force row level security".into()).await?;
        let owners: i64 = sqlx::query_scalar(AssertSqlSafe("select count(*) from owners"))
            .fetch_one(&mut **tx)
            .await
            .map_err(failed)?;
        if owners > 0 {
            return Err(Error::broken(
                "This database is not empty: it holds accounts. A backup is restored into an empty database alone. \
                 Give another in DATABASE_URL, or another data directory (SEALPORT_DATA). Nothing was changed.",
            ));
        }
    }
    for name in &there {
        run(tx, format!("drop table {} cascade", quote(name))).await?;
    }
    let functions = sqlx::query!(
        r#"select p.oid::regprocedure::text as "signature!", p.proname::text as "name!" from pg_proc p
           where p.pronamespace = current_schema()::regnamespace
             and not exists (select 1 from pg_depend d where d.objid = p.oid and d.deptype = 'e')"#
    )
    .fetch_all(&mut **tx)
    .await
    .map_err(failed)?;
    let ours = made("function");
    for function in functions {
        if ours.contains(function.name.as_str()) {
            // PostgreSQL writes the signature so that it can be read again.
            let drop = format!("drop routine if exists {} cascade", function.signature);
            run(tx, drop).await?;
        }
    }
    Ok(())
}

/// The tables that no migration of ours made. Everybody who uses sqlx has its table of migrations, so it is ours only if each of its
/// rows is; without it, or with others' rows in it, none of the tables is taken for ours.
async fn others(tx: &mut Transaction<'_, Postgres>, there: &[String]) -> Result<Vec<String>> {
    if !there.iter().any(|name| name == MIGRATIONS) {
        return Ok(there.to_vec());
    }
    let done: Vec<(i64, Vec<u8>)> = sqlx::query_as(AssertSqlSafe(format!(
        "select version, checksum from {MIGRATIONS}"
    )))
    .fetch_all(&mut **tx)
    .await
    .map_err(failed)?;
    let is_ours = |(version, checksum): &(i64, Vec<u8>)| {
        STEPS
            .iter()
            .any(|step| step.version == *version && *step.checksum == **checksum)
    };
    if !done.iter().all(is_ours) {
        return Ok(there.to_vec());
    }
    let ours = made("table");
    Ok(there
        .iter()
        .filter(|name| *name != MIGRATIONS && !ours.contains(name.as_str()))
        .cloned()
        .collect())
}

fn made(what: &str) -> BTreeSet<&'static str> {
    catalogue::made_by(STEPS.iter().map(|step| step.sql.as_str()), what)
}

/// Puts the rows back, as they were.
async fn load<R: BufRead>(
    tx: &mut Transaction<'_, Postgres>,
    header: &Header,
    mut lines: Reader<R>,
) -> Result<()> {
    let tables: BTreeMap<String, Table> = catalogue::tables(tx)
        .await?
        .into_iter()
        .map(|table| (table.name.clone(), table))
        .collect();
    for mark in &header.tables {
        match tables.get(&mark.name) {
            Some(table) if table.columns == mark.columns => {}
            _ => return Err(damaged("its tables are not those of its step")),
        }
    }
    let everything = all_tables(tx).await?;
    let ours = || everything.iter().filter(|name| *name != MIGRATIONS);
    for name in ours() {
        let name = quote(name);
        run(
            tx,
            format!("alter table {name} no force row level security"),
        )
        .await?;
        // What they guard against are changes; what they note is in the backup.
        run(tx, format!("alter table {name} disable trigger user")).await?;
    }
    // What migrations put there is in the backup too.
    for mark in header.tables.iter().rev() {
        run(tx, format!("delete from {}", quote(&mark.name))).await?;
    }
    let mut marks = header.tables.iter();
    let mut filling: Option<(&TableMark, Batch)> = None;
    loop {
        match lines.next()? {
            Line::Row(row) => {
                let (mark, batch) = filling
                    .as_mut()
                    .ok_or_else(|| damaged("a row is of no table"))?;
                batch.add(&row);
                if batch.is_full() {
                    batch.insert(tx, &tables[&mark.name]).await?;
                }
            }
            other => {
                if let Some((mark, mut batch)) = filling.take() {
                    batch.insert(tx, &tables[&mark.name]).await?;
                    count(tx, mark).await?;
                }
                let Line::Table(name) = other else {
                    break;
                };
                let mark = marks
                    .next()
                    .filter(|mark| mark.name == name)
                    .ok_or_else(|| damaged("its tables are not those of its header"))?;
                filling = Some((mark, Batch::default()));
            }
        }
    }
    if marks.next().is_some() {
        return Err(damaged("a table is missing"));
    }
    go_on_numbering(tx, header).await?;
    run(tx, "set constraints all immediate".into()).await?;
    for name in ours() {
        let name = quote(name);
        run(tx, format!("alter table {name} enable trigger user")).await?;
        run(tx, format!("alter table {name} force row level security")).await?;
    }
    Ok(())
}

/// Rows of one table that wait to be put back.
#[derive(Default)]
struct Batch {
    json: String,
    rows: usize,
}

impl Batch {
    fn add(&mut self, row: &str) {
        self.json.push(if self.rows == 0 { '[' } else { ',' });
        self.json.push_str(row);
        self.rows += 1;
    }

    fn is_full(&self) -> bool {
        self.rows >= BATCH_ROWS || self.json.len() >= BATCH_BYTES
    }

    async fn insert(&mut self, tx: &mut Transaction<'_, Postgres>, table: &Table) -> Result<()> {
        if self.rows == 0 {
            return Ok(());
        }
        self.json.push(']');
        // Names come from PostgreSQL's catalogue, quoted; what the backup holds is a parameter.
        let (name, columns) = (table.quoted(), table.quoted_columns());
        let insert = format!(
            "insert into {name} ({columns}) overriding system value \
             select {columns} from json_populate_recordset(null::{name}, $1::json)"
        );
        let done = sqlx::query(AssertSqlSafe(insert))
            .bind(&self.json)
            .execute(&mut **tx)
            .await
            .map_err(failed)?;
        if done.rows_affected() != self.rows as u64 {
            return Err(Error::broken("rows of the backup were not all put back"));
        }
        self.json.clear();
        self.rows = 0;
        Ok(())
    }
}

/// Errors: there are more or fewer rows than the header says.
async fn count(tx: &mut Transaction<'_, Postgres>, mark: &TableMark) -> Result<()> {
    let count = format!("select count(*) from {}", quote(&mark.name));
    let rows: i64 = sqlx::query_scalar(AssertSqlSafe(count))
        .fetch_one(&mut **tx)
        .await
        .map_err(failed)?;
    if rows.unsigned_abs() == mark.rows {
        Ok(())
    } else {
        Err(damaged(&format!(
            "it says {} rows of {}, and holds {rows}",
            mark.rows, mark.name
        )))
    }
}

/// Numbers go on where they stood, and after the largest that is there.
async fn go_on_numbering(tx: &mut Transaction<'_, Postgres>, header: &Header) -> Result<()> {
    let numbered = sqlx::query!(
        r#"select c.relname::text as "table!", a.attname::text as "column!", s.relname::text as "sequence!"
           from pg_depend d join pg_class s on s.oid = d.objid and s.relkind = 'S'
           join pg_class c on c.oid = d.refobjid
           join pg_attribute a on a.attrelid = c.oid and a.attnum = d.refobjsubid
           where d.classid = 'pg_class'::regclass and d.refclassid = 'pg_class'::regclass and d.deptype in ('a', 'i')
             and c.relnamespace = current_schema()::regnamespace"#
    )
    .fetch_all(&mut **tx)
    .await
    .map_err(failed)?;
    for row in numbered {
        let stood = header
            .sequences
            .iter()
            .find(|(name, _)| *name == row.sequence)
            .map_or(0, |(_, last)| *last);
        let set = format!(
            "select setval($1::regclass, greatest((select max({})::bigint from {}), $2)) where greatest((select max({0})::bigint from {1}), $2) > 0",
            quote(&row.column),
            quote(&row.table)
        );
        sqlx::query(AssertSqlSafe(set))
            .bind(quote(&row.sequence))
            .bind(stood)
            .execute(&mut **tx)
            .await
            .map_err(failed)?;
    }
    Ok(())
}

/// Errors: a table is not as the migrations left it.
async fn prove_forced(tx: &mut Transaction<'_, Postgres>) -> Result<()> {
    let open = sqlx::query_scalar!(
        r#"select relname::text as "name!" from pg_class
           where relnamespace = current_schema()::regnamespace and relkind in ('r', 'p') and relname <> '_sqlx_migrations'
             and not (relrowsecurity and relforcerowsecurity)"#
    )
    .fetch_all(&mut **tx)
    .await
    .map_err(failed)?;
    if open.is_empty() {
        Ok(())
    } else {
        Err(Error::broken(format!(
            "Row Level Security is not forced on {}",
            open.join(", ")
        )))
    }
}

async fn all_tables(conn: &mut PgConnection) -> Result<Vec<String>> {
    sqlx::query_scalar!(
        r#"select relname::text as "name!" from pg_class
           where relnamespace = current_schema()::regnamespace and relkind in ('r', 'p') order by 1"#
    )
    .fetch_all(conn)
    .await
    .map_err(failed)
}

async fn run(conn: &mut PgConnection, sql: String) -> Result<()> {
    sqlx::query(AssertSqlSafe(sql))
        .execute(conn)
        .await
        .map_err(failed)?;
    Ok(())
}

/// Not through `Error::from`, which takes what the database denies for something that a caller may not do.
pub(super) fn failed(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::caused(
        "The database refused a step of the restore, and is as it was before.",
        error,
    )
}
