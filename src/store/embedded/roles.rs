//! The roles and the database that a fresh cluster needs. They are made here, by the superuser,
//! because the owner role that migrates may not make roles.

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection, raw_sql};

/// Makes what is missing. Runs at every start: it is a few statements, and it finishes what a
/// killed first start left undone.
///
/// These statements stand outside the compile-time check, which needs the schema that they come
/// before.
pub(super) async fn prepare(
    postgres_database: &PgConnectOptions,
    sealport_database: &PgConnectOptions,
) -> Result<(), sqlx::Error> {
    let mut admin = postgres_database.connect().await?;
    make_roles(&mut admin).await?;
    make_database(&mut admin).await?;
    admin.close().await?;

    let mut admin = sealport_database.connect().await?;
    // Before PostgreSQL 15 everybody may create in `public`, and the database's owner does not own it.
    raw_sql(
        "alter schema public owner to sealport_owner;
         revoke create on schema public from public;
         grant usage on schema public to public;",
    )
    .execute(&mut admin)
    .await?;
    admin.close().await
}

/// The roles belong to the whole cluster, so two starts can meet here: the later one finds them made.
async fn make_roles(admin: &mut PgConnection) -> Result<(), sqlx::Error> {
    raw_sql(
        "do $$ begin
             create role sealport_server nologin;
         exception when duplicate_object or unique_violation then null; end $$;
         do $$ begin
             create role sealport_owner login;
         exception when duplicate_object or unique_violation then null; end $$;
         do $$ begin
             create role sealport_app login;
         exception when duplicate_object or unique_violation then null; end $$;
         alter role sealport_server nosuperuser nobypassrls nocreatedb nocreaterole noreplication;
         alter role sealport_owner nosuperuser nobypassrls nocreatedb nocreaterole noreplication;
         alter role sealport_app nosuperuser nobypassrls nocreatedb nocreaterole noreplication inherit;",
    )
    .execute(&mut *admin)
    .await?;
    // From 16 on, `set role` is a right of its own; older versions do not know the word.
    if admin
        .server_version_num()
        .is_some_and(|version| version >= 160_000)
    {
        raw_sql("grant sealport_server to sealport_app with set true")
            .execute(admin)
            .await?;
    } else {
        raw_sql("grant sealport_server to sealport_app")
            .execute(admin)
            .await?;
    }
    Ok(())
}

async fn make_database(admin: &mut PgConnection) -> Result<(), sqlx::Error> {
    let made =
        raw_sql("create database sealport owner sealport_owner template template0 encoding 'UTF8'")
            .execute(&mut *admin)
            .await;
    match made {
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("42P04") => {}
        other => {
            other?;
        }
    }
    raw_sql(
        "revoke all on database sealport from public;
         grant connect on database sealport to sealport_app;
         revoke all on database postgres from public;
         revoke all on database template1 from public;",
    )
    .execute(admin)
    .await?;
    Ok(())
}
