//! The role that requests run as, and the proof at the start that it is bound.

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::db::Mode;
use super::{Error, Result};

/// The oldest PostgreSQL, as `server_version_num`.
const OLDEST_SERVER: i32 = 140_000;
/// `set role` is a right of its own from here on.
const SERVER_WITH_SET: i32 = 160_000;
/// How often making roles is tried when another server makes them at the same time.
const TRIES: usize = 10;

/// Makes the bound role and lets `login` become it, where that is missing. Roles are cluster-wide, so another server may be
/// doing the same, also for another database.
pub(super) async fn prepare(owner: &mut PgConnection, login: &str) -> Result<()> {
    let version = server_version(owner).await?;
    if version < OLDEST_SERVER {
        return Err(Error::broken(format!(
            "This PostgreSQL is version {}; Sealport wants 14 or newer.",
            version / 10_000
        )));
    }
    let mut tries = 0;
    loop {
        let Err(error) = prepare_once(owner, login, version).await else {
            return Ok(());
        };
        tries += 1;
        let code = error.as_database_error().and_then(|e| e.code());
        match code.as_deref() {
            // Not allowed to: the administrator can.
            Some("42501") => {
                return Err(Error::caused(
                    how_an_administrator_does_it(login, version),
                    error,
                ));
            }
            // Made meanwhile (duplicate object, unique violation), or "tuple concurrently updated".
            Some("42710" | "23505" | "XX000") if tries < TRIES => {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
            _ => {
                return Err(Error::caused(
                    "The role sealport_server could not be made.",
                    error,
                ));
            }
        }
    }
}

/// Whether all that [`prepare`] makes is there. Errors: a sentence for an administrator of the database.
pub(super) async fn ready(owner: &mut PgConnection, login: &str) -> Result<()> {
    let version = server_version(owner).await?;
    let is_there = sqlx::query_scalar!(
        r#"select exists (select 1 from pg_roles where rolname = 'sealport_server') as "there!""#
    )
    .fetch_one(&mut *owner)
    .await?;
    if is_there && may_become(owner, login, version).await? {
        return Ok(());
    }
    Err(Error::broken(format!(
        "The login {login} may not become the role sealport_server. An administrator of the database runs: {};",
        grant_sql(login, version)
    )))
}

async fn prepare_once(
    owner: &mut PgConnection,
    login: &str,
    version: i32,
) -> Result<(), sqlx::Error> {
    if !sqlx::query_scalar!(
        r#"select exists (select 1 from pg_roles where rolname = 'sealport_server') as "there!""#
    )
    .fetch_one(&mut *owner)
    .await?
    {
        sqlx::query("create role sealport_server nologin noinherit")
            .execute(&mut *owner)
            .await?;
    }
    if !may_become(owner, login, version).await? {
        let grant = grant_sql(login, version);
        // The one word that is not ours is quoted as an identifier.
        sqlx::query(AssertSqlSafe(grant))
            .execute(&mut *owner)
            .await?;
    }
    if !sqlx::query_scalar!(
        r#"select has_schema_privilege('sealport_server', current_schema(), 'usage') as "there!""#
    )
    .fetch_one(&mut *owner)
    .await?
    {
        sqlx::query(
            "do $$ begin execute format('grant usage on schema %I to sealport_server', current_schema()); end $$",
        )
        .execute(&mut *owner)
        .await?;
    }
    Ok(())
}

async fn may_become(
    owner: &mut PgConnection,
    login: &str,
    version: i32,
) -> Result<bool, sqlx::Error> {
    // The word `set` is an error before version 16, so it is no part of a checked query.
    let privilege = if version >= SERVER_WITH_SET {
        "set"
    } else {
        "member"
    };
    sqlx::query_scalar!(
        r#"select pg_has_role($1::text::name, 'sealport_server', $2) as "may!""#,
        login,
        privilege
    )
    .fetch_one(owner)
    .await
}

fn grant_sql(login: &str, version: i32) -> String {
    let login = login.replace('"', "\"\"");
    let set = if version >= SERVER_WITH_SET {
        " with inherit false, set true"
    } else {
        ""
    };
    format!("grant sealport_server to \"{login}\"{set}")
}

fn how_an_administrator_does_it(login: &str, version: i32) -> String {
    format!(
        "The database login may not make or grant the role sealport_server. Ask an administrator of the database to run once: \
         create role sealport_server nologin noinherit; {}; grant usage on schema public to sealport_server;",
        grant_sql(login, version)
    )
}

async fn server_version(conn: &mut PgConnection) -> Result<i32> {
    let version = sqlx::query_scalar!(
        r#"select current_setting('server_version_num')::integer as "version!""#
    )
    .fetch_one(conn)
    .await?;
    Ok(version)
}

/// Connects as an owner or a login, with a sentence when that fails.
pub(super) async fn connect(options: &PgConnectOptions) -> Result<PgConnection> {
    use sqlx::ConnectOptions;
    options.connect().await.map_err(|error| {
        Error::caused(
            format!(
                "PostgreSQL at {} does not let {} in.",
                options.get_socket().map_or_else(
                    || options.get_host().to_owned(),
                    |s| s.display().to_string()
                ),
                options.get_username()
            ),
            error,
        )
    })
}

/// Ends a connection that was opened for preparing; a failure to say goodbye changes nothing.
pub(super) async fn close(conn: PgConnection) {
    let _ = conn.close().await;
}

/// Proves on a connection of the pool that requests are bound by Row Level Security. Errors: a sentence for each way in which
/// they would not be; the server then refuses to start.
pub(super) async fn prove_bound(conn: &mut PgConnection) -> Result<Mode> {
    let role = sqlx::query!(
        r#"select current_user::text as "name!", rolsuper as "superuser!", rolbypassrls as "bypasses!"
           from pg_roles where rolname = current_user"#
    )
    .fetch_one(&mut *conn)
    .await?;
    let refuse = |why: String| {
        Err(Error::broken(format!(
            "{why} Row Level Security would not hold, so Sealport does not start."
        )))
    };
    if role.name != "sealport_server" {
        return refuse(format!(
            "Requests would run as the database role {}, not as sealport_server.",
            role.name
        ));
    }
    if role.superuser || role.bypasses {
        return refuse("The database role sealport_server is a superuser or has BYPASSRLS.".into());
    }
    let tables = sqlx::query!(
        r#"select c.relname::text as "name!", c.relrowsecurity as "enabled!", c.relforcerowsecurity as "forced!",
                  pg_has_role(current_user, c.relowner, 'member') as "owned!",
                  pg_has_role(session_user, c.relowner, 'member') as "login_owns!"
           from pg_class c
           where c.relnamespace = current_schema()::regnamespace and c.relkind in ('r', 'p')
             and c.relname <> '_sqlx_migrations'
           order by 1"#
    )
    .fetch_all(&mut *conn)
    .await?;
    if tables.is_empty() {
        return refuse("The database has no tables of Sealport's.".into());
    }
    for table in &tables {
        if table.owned {
            return refuse(format!(
                "The role sealport_server owns the table {}, or is a member of its owner.",
                table.name
            ));
        }
        if !(table.enabled && table.forced) {
            return refuse(format!(
                "Row Level Security is not forced on the table {}.",
                table.name
            ));
        }
    }
    let rewritten = sqlx::query_scalar!(
        r#"select name as "name!" from unnest(array['audit', 'audit_seals', 'audit_batches', 'audit_drops']) as name
           where has_table_privilege(name, 'update') or has_any_column_privilege(name, 'update')
              or has_table_privilege(name, 'delete') or has_table_privilege(name, 'truncate')"#
    )
    .fetch_optional(conn)
    .await?;
    if let Some(table) = rewritten {
        return Err(Error::broken(format!(
            "The role sealport_server may change the record of accesses, so Sealport does not start. \
             Revoke update, delete and truncate on the table {table}."
        )));
    }
    Ok(if tables.iter().any(|table| table.login_owns) {
        Mode::SingleLogin
    } else {
        Mode::TwoLogins
    })
}
