//! What `sealport doctor` asks of the database and the keys. It changes nothing: no role, no table, no key is made.

use sqlx::PgConnection;
use sqlx::postgres::PgConnectOptions;
use time::OffsetDateTime;

use super::db::{DatabaseConfig, Db, KeySource, Mode};
use super::keys::Keys;
use super::{Error, Result, roles, steps};
use crate::model::findings::Finding;

/// Ends of secrets, tokens and holds are told by the database's clock, and shown by the machine's.
const CLOCKS_APART_MAX_SECS: f64 = 5.0;

/// Looks at each in turn; what cannot be looked at because of what came before is left out. The store comes along if it opens.
pub async fn examine(config: &DatabaseConfig, source: KeySource) -> (Vec<Finding>, Option<Db>) {
    let mut findings = Vec::new();
    let db = match look(config, source, &mut findings).await {
        Ok(db) => Some(db),
        Err(finding) => {
            findings.push(finding);
            None
        }
    };
    (findings, db)
}

/// Errors: what keeps it from looking on.
async fn look(
    config: &DatabaseConfig,
    source: KeySource,
    findings: &mut Vec<Finding>,
) -> Result<Db, Finding> {
    let owner = config.owner.as_ref().unwrap_or(&config.app);
    let mut conn = connect("database", owner).await?;
    let step = step(&mut conn).await;
    let roles = roles_ready(&mut conn, config.app.get_username()).await;
    roles::close(conn).await;
    findings.push(step.map_err(|error| to_do("database", &error))?);
    findings.push(roles?);

    let mut conn = connect("roles", &config.app).await?;
    let bound = bound(&mut conn).await;
    let clock = clock(&mut conn).await;
    roles::close(conn).await;
    let mode = bound.map_err(|error| to_do("row level security", &error))?;
    findings.push(Finding::ok(
        "row level security",
        "forced on every table, and requests run as a role that it binds",
    ));
    let login = format!("The database is used with {}", mode.sentence());
    findings.push(match mode {
        Mode::TwoLogins => Finding::ok("logins", login),
        Mode::SingleLogin => Finding::note("logins", login),
    });
    findings.push(clock.unwrap_or_else(|error| to_do("clock", &error)));

    let db = keys(config, mode, source)
        .await
        .map_err(|error| to_do("master key", &error))?;
    let (key, backed_up) = key_findings(&db).await;
    findings.push(key);
    findings.push(backed_up);
    findings.push(record(&db).await);
    let damage = damage(&db).await;
    findings.push(damage.unwrap_or_else(|error| to_do("values", &error)));
    Ok(db)
}

/// The record of accesses: that its chain holds. That the server's role can only add to it was asked with the policies.
async fn record(db: &Db) -> Finding {
    match db.audit_verify(None).await {
        Ok(report) => match report.damage {
            None => Finding::ok(
                "record",
                format!(
                    "{} rows in {} batches are as they were sealed, {} are not sealed yet",
                    report.rows, report.batches, report.unsealed
                ),
            ),
            Some(damage) => Finding::to_do(
                "record",
                format!(
                    "{} Somebody with rights on the database changed the record, or it was put back in part: find out who and \
                     when, and compare it with a backup.",
                    damage.sentence
                ),
            ),
        },
        Err(error) => to_do("record", &error),
    }
}

async fn connect(check: &'static str, options: &PgConnectOptions) -> Result<PgConnection, Finding> {
    roles::connect(options).await.map_err(|error| {
        let says = format!(
            "{error} Start it, or mend DATABASE_URL and DATABASE_OWNER_URL. {}",
            cause(&error)
        );
        Finding::to_do(check, says.trim_end())
    })
}

async fn step(conn: &mut PgConnection) -> Result<Finding> {
    let server: String =
        sqlx::query_scalar!(r#"select current_setting('server_version') as "version!""#)
            .fetch_one(&mut *conn)
            .await?;
    match steps::fits(steps::step_of(conn).await?) {
        Ok(at) => Ok(Finding::ok(
            "database",
            format!("PostgreSQL {server}, at step {at}"),
        )),
        Err(why) => Err(Error::broken(format!("It {why}"))),
    }
}

/// Whether the bound role is there and the login may become it.
async fn roles_ready(conn: &mut PgConnection, login: &str) -> Result<Finding, Finding> {
    match roles::ready(conn, login).await {
        Ok(()) => Ok(Finding::ok(
            "roles",
            format!("{login} may become sealport_server"),
        )),
        Err(error) => Err(to_do("roles", &error)),
    }
}

async fn bound(conn: &mut PgConnection) -> Result<Mode> {
    sqlx::query("set role sealport_server")
        .execute(&mut *conn)
        .await
        .map_err(|error| {
            Error::caused(
                "The database login could not become the role sealport_server.",
                error,
            )
        })?;
    roles::prove_bound(conn).await
}

async fn clock(conn: &mut PgConnection) -> Result<Finding> {
    let before = OffsetDateTime::now_utc();
    let database = sqlx::query_scalar!(r#"select clock_timestamp() as "now!""#)
        .fetch_one(conn)
        .await?;
    let after = OffsetDateTime::now_utc();
    // It was read between the two.
    let apart = if database < before {
        before - database
    } else {
        database - after
    };
    let apart = apart.as_seconds_f64().max(0.0);
    Ok(if apart <= CLOCKS_APART_MAX_SECS {
        Finding::ok("clock", "this machine's and the database's agree")
    } else {
        Finding::to_do(
            "clock",
            format!(
                "This machine's and the database's are {apart:.0} seconds apart, so that ends of secrets and tokens come at \
                 another time than is shown. Let both follow a time server (chrony, systemd-timesyncd)."
            ),
        )
    })
}

/// The store with its keys. Made in a transaction that is not committed, from a key file that must be there already.
async fn keys(config: &DatabaseConfig, mode: Mode, source: KeySource) -> Result<Db> {
    let source = match source {
        KeySource::FileOrNew(path) if !path.exists() => {
            return Err(Error::broken(format!(
                "The key file {} is missing. Put it back from where you kept it, or give the key in SEALPORT_MASTER_KEY.",
                path.display()
            )));
        }
        KeySource::FileOrNew(path) => KeySource::File(path),
        given => given,
    };
    Db::look_at(config, mode, |mut tx| async move {
        let (keys, _) = Keys::establish(&mut tx, source).await?;
        tx.rollback().await?;
        Ok(keys)
    })
    .await
}

async fn key_findings(db: &Db) -> (Finding, Finding) {
    use crate::model::actors::{Caller, Job};
    let fingerprint = db.key_fingerprint();
    let key = Finding::ok(
        "master key",
        format!("here, and it opens the canary; its fingerprint is {fingerprint}"),
    );
    let backed_up = match db.key_backup_confirmed(&Caller::job(Job::Operator)).await {
        Ok(true) => Finding::ok(
            "key backup",
            "an administrator says that the key is backed up",
        ),
        Ok(false) => Finding::to_do(
            "key backup",
            "Nobody has said that the master key is backed up. Keep a copy apart from this machine, then say so under Settings.",
        ),
        Err(error) => to_do("key backup", &error),
    };
    (key, backed_up)
}

async fn damage(db: &Db) -> Result<Finding> {
    let found = db.damage().await?;
    if found.damaged == 0 {
        return Ok(Finding::ok(
            "values",
            format!("each of {} versions opens with its key", found.versions),
        ));
    }
    let more = found.damaged - found.named.len() as u64;
    let more = match more {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Ok(Finding::to_do(
        "values",
        format!(
            "{} damaged of {} versions: {}{more}. Replace these values, or bring them back from a backup (docs/troubleshooting.md).",
            found.damaged,
            found.versions,
            found.named.join("; ")
        ),
    ))
}

fn to_do(check: &'static str, error: &Error) -> Finding {
    Finding::to_do(check, format!("{error} {}", cause(error)).trim_end())
}

/// What is behind it: for whoever sits at the host.
fn cause(error: &Error) -> String {
    std::error::Error::source(error).map_or_else(String::new, |cause| format!("({cause})"))
}
