//! Starting: roles, migrations, the proof that Row Level Security binds, the master key.

use sealport::model::errors::RefusalKind;
use sealport::store::{DatabaseConfig, Db, KeySource, Mode, new_key};
use secrecy::{ExposeSecret, SecretString};
use sqlx::{AssertSqlSafe, ConnectOptions, raw_sql};

use crate::common::{self, SINGLE_ROLE, TestCluster, TestDatabase};
use crate::people::{add, caller, refusal};
use crate::secrets::new;

pub fn config(database: &TestDatabase) -> DatabaseConfig {
    DatabaseConfig::new(
        database.app_options.clone(),
        Some(database.owner_options.clone()),
    )
}

pub fn key() -> SecretString {
    SecretString::from("11".repeat(32))
}

pub async fn open(database: &TestDatabase) -> Db {
    Db::open(config(database), KeySource::Variable(key()))
        .await
        .unwrap()
}

/// Runs SQL as the superuser: what an intruder or a careless administrator could do.
pub async fn as_admin(database: &TestDatabase, sql: &str) {
    let mut admin = database.admin_options.connect().await.unwrap();
    raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(&mut admin)
        .await
        .unwrap();
}

/// Takes all tables away, as before the very first start.
async fn emptied(database: &TestDatabase, owner: &str) {
    as_admin(
        database,
        &format!("drop schema public cascade; create schema public authorization {owner}"),
    )
    .await;
}

async fn refused(database: &TestDatabase, key: SecretString) -> String {
    Db::open(config(database), KeySource::Variable(key))
        .await
        .unwrap_err()
        .to_string()
}

#[tokio::test]
async fn two_logins_are_the_stronger_mode() {
    let database = common::new_database().await;
    let db = open(&database).await;
    assert_eq!(db.mode(), Mode::TwoLogins);
    db.ready().await.unwrap();
    assert_eq!(db.new_key_file(), None);
}

#[tokio::test]
async fn an_empty_database_is_migrated_also_by_two_servers_at_once() {
    let cluster = TestCluster::shared().await;
    let database = cluster.new_database().await;
    emptied(&database, "sealport_owner").await;
    let (one, other) = tokio::join!(
        Db::open(config(&database), KeySource::Variable(key())),
        Db::open(config(&database), KeySource::Variable(key()))
    );
    one.unwrap().ready().await.unwrap();
    other.unwrap().ready().await.unwrap();
}

#[tokio::test]
async fn one_login_role_is_the_weaker_mode() {
    let database = common::new_database().await;
    as_admin(
        &database,
        &format!(
            "create role {SINGLE_ROLE} login createrole; grant connect on database {} to {SINGLE_ROLE}",
            database.name
        ),
    )
    .await;
    emptied(&database, SINGLE_ROLE).await;
    let config = DatabaseConfig::new(database.app_options.clone().username(SINGLE_ROLE), None);
    let db = Db::open(config, KeySource::Variable(key())).await.unwrap();
    assert_eq!(db.mode(), Mode::SingleLogin);
    db.ready().await.unwrap();
}

#[tokio::test]
async fn a_login_that_may_not_become_the_role_is_told_what_an_administrator_runs() {
    let database = common::new_database().await;
    as_admin(
        &database,
        &format!(
            "create role stranger_{0} login; grant connect on database {0} to stranger_{0}",
            database.name
        ),
    )
    .await;
    let stranger = format!("stranger_{}", database.name);
    // Only the owner connects before the grant is tried.
    let config = DatabaseConfig::new(
        database.app_options.clone().username(&stranger),
        Some(database.owner_options.clone()),
    );
    let told = Db::open(config, KeySource::Variable(key()))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        told.contains(&format!("grant sealport_server to \"{stranger}\"")),
        "{told}"
    );
}

#[tokio::test]
async fn a_table_without_forced_row_level_security_stops_the_start() {
    for (sql, table) in [
        ("alter table secrets no force row level security", "secrets"),
        ("alter table drafts disable row level security", "drafts"),
        ("create table notes (text text)", "notes"),
    ] {
        let database = common::new_database().await;
        as_admin(&database, sql).await;
        let told = refused(&database, key()).await;
        assert!(
            told.contains(table) && told.contains("Row Level Security"),
            "{told}"
        );
    }
}

#[tokio::test]
async fn a_role_that_owns_a_table_or_changes_the_record_stops_the_start() {
    let database = common::new_database().await;
    as_admin(&database, "alter table settings owner to sealport_server").await;
    let told = refused(&database, key()).await;
    assert!(told.contains("owns the table settings"), "{told}");

    let database = common::new_database().await;
    as_admin(
        &database,
        "grant update (reason) on audit to sealport_server",
    )
    .await;
    let told = refused(&database, key()).await;
    assert!(told.contains("change the record"), "{told}");
}

#[tokio::test]
async fn a_wrong_master_key_stops_the_start_and_the_right_one_still_opens() {
    let database = common::new_database().await;
    let fingerprint = open(&database).await.key_fingerprint();
    let wrong = new_key().unwrap();
    let told = refused(&database, wrong.clone()).await;
    assert!(told.contains(&fingerprint), "{told}");
    assert!(told.contains("sealport key new"), "{told}");
    assert!(!told.contains(wrong.expose_secret()), "{told}");
    // Beside others, the right one is found wherever it stands.
    let both = format!("{},{}", wrong.expose_secret(), key().expose_secret());
    let db = Db::open(
        config(&database),
        KeySource::Variable(SecretString::from(both)),
    )
    .await
    .unwrap();
    assert_eq!(db.key_fingerprint(), fingerprint);
    open(&database).await;
}

#[tokio::test]
async fn the_key_file_is_made_once_and_missed_when_it_is_gone() {
    let database = common::new_database().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("master.key");
    let source = || KeySource::FileOrNew(path.clone());
    let db = Db::open(config(&database), source()).await.unwrap();
    assert_eq!(db.new_key_file(), Some(path.as_path()));
    let again = Db::open(config(&database), source()).await.unwrap();
    assert_eq!(again.new_key_file(), None);
    assert_eq!(again.key_fingerprint(), db.key_fingerprint());

    std::fs::remove_file(&path).unwrap();
    let told = Db::open(config(&database), source())
        .await
        .unwrap_err()
        .to_string();
    assert!(
        told.contains("backup") && told.contains(&db.key_fingerprint()),
        "{told}"
    );
    assert!(!path.exists());
}

#[tokio::test]
async fn a_damaged_canary_stops_the_start() {
    let database = common::new_database().await;
    open(&database).await;
    as_admin(
        &database,
        "update master_keys set canary = set_byte(canary, 20, (get_byte(canary, 20) + 1) % 256)",
    )
    .await;
    let told = refused(&database, key()).await;
    assert!(told.contains("missing or wrong"), "{told}");
}

/// The database's own language says what the small letters are: in Turkish that of `I` is not `i`.
#[tokio::test]
async fn paths_that_differ_in_case_alone_are_one_in_every_language() {
    let mut database = common::new_database().await;
    let name = format!("{}_tr", database.name);
    as_admin(
        &database,
        &format!(
            "create database {name} owner sealport_owner template template0 encoding 'UTF8' locale 'C' \
             locale_provider icu icu_locale 'tr'"
        ),
    )
    .await;
    for options in [
        &mut database.app_options,
        &mut database.owner_options,
        &mut database.admin_options,
    ] {
        *options = options.clone().database(&name);
    }
    let db = open(&database).await;
    let ann = caller(&add(&db, "ann@example.org").await);
    db.secret_create(&ann, new("API", "value")).await.unwrap();
    let twice = db.secret_create(&ann, new("api", "another")).await;
    assert_eq!(refusal(twice).kind, RefusalKind::Taken);
}
