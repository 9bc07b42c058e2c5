//! The steps that the tables go through, oldest first, and where a database stands among them.

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{AssertSqlSafe, PgConnection};

use super::{Error, Result};

pub(super) static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// Brings the tables to a step, or to the newest.
pub(super) async fn migrate_to(owner: &mut PgConnection, step: Option<i64>) -> Result<()> {
    // sqlx takes an advisory lock, so a second server waits and then finds nothing to do.
    MIGRATIONS
        .run_direct(step, owner, false)
        .await
        .map_err(|error| match error {
            MigrateError::VersionMissing(version) => Error::broken(format!(
                "The database was brought to step {version} by a newer Sealport; this one is too old for it."
            )),
            error => Error::caused("The database could not be brought up to date.", error),
        })
}

/// The step that a database is at; none for an empty one.
pub(super) async fn step_of(conn: &mut PgConnection) -> Result<Option<i64>> {
    let migrated =
        sqlx::query_scalar!(r#"select to_regclass('_sqlx_migrations') is not null as "there!""#)
            .fetch_one(&mut *conn)
            .await?;
    if !migrated {
        return Ok(None);
    }
    let at = "select max(version) from _sqlx_migrations where success";
    Ok(sqlx::query_scalar(AssertSqlSafe(at))
        .fetch_one(conn)
        .await?)
}

/// Whether this program can work with a database at this step as it stands. Errors: why not and what to do, to be read after the
/// database's name.
pub(super) fn fits(step: Option<i64>) -> Result<i64, String> {
    let newest = MIGRATIONS
        .iter()
        .map(|step| step.version)
        .max()
        .unwrap_or(0);
    match step {
        Some(at) if at == newest => Ok(at),
        Some(at) if at > newest => Err(format!(
            "was brought to step {at} by a newer Sealport, and this one knows {newest}. Use the newer one."
        )),
        Some(at) => Err(format!(
            "is at step {at}, and this Sealport wants {newest}. Start `sealport serve` of this Sealport once, which brings it there, \
             or use the Sealport that serves it now."
        )),
        None => Err(String::from(
            "is empty. Start `sealport serve` for a new installation, or bring one back by `sealport restore`.",
        )),
    }
}
