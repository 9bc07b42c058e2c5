//! A backup of an older Sealport: its rows go into tables as they were then, and these then go the way of any other.

use sealport::store::{DatabaseConfig, Db, KeySource};
use sqlx::{AssertSqlSafe, ConnectOptions};

use crate::common::{TestDatabase, new_database};
use crate::program::{PASSPHRASE, Place, column, emptied, key, refused, said, sql};
use crate::world::World;

/// Before backups were there at all.
const STEP: i64 = 3;

#[tokio::test]
async fn an_older_backup_is_loaded_at_its_own_step_and_then_brought_forward() {
    let place = Place::new();
    // The canary of the key that the program is given.
    let world = World::new().await;
    let canary = world
        .text("select encode(canary, 'hex') from master_keys")
        .await
        .unwrap();
    let fingerprint = world.db.key_fingerprint();

    let older = new_database().await;
    emptied(&older).await;
    let mut owner = older.owner_options.connect().await.unwrap();
    let steps = sqlx::migrate!();
    steps
        .run_direct(Some(STEP), &mut owner, false)
        .await
        .unwrap();
    let ann = uuid::Uuid::now_v7();
    sql(
        &older,
        &format!(
            "insert into owners (id, handle, kind) values ('{ann}', 'ann', 'user');
             insert into users (id, email, password_hash) values ('{ann}', 'ann@example.org', 'none');
             insert into master_keys (fingerprint, canary, active) values ('{fingerprint}', '\\x{canary}', true);
             insert into settings (key, value) values ('colour', '{{\"is\": [\"blue\", 1.50]}}');"
        ),
    )
    .await;
    let file = place.file("older.age");
    std::fs::write(&file, made(&older, &fingerprint, &canary).await).unwrap();

    let target = new_database().await;
    let restored = place.restore(&target, &file).await;
    assert!(restored.status.success(), "{}", said(&restored.stderr));
    let newest = steps.iter().map(|step| step.version).max().unwrap();
    let told = said(&restored.stdout);
    assert!(
        told.contains(&format!("step {STEP}, now at step {newest}")),
        "{told}"
    );
    assert_eq!(
        column(&target, "select max(version)::text from _sqlx_migrations").await,
        [newest.to_string()]
    );
    assert_eq!(
        column(&target, "select email from users").await,
        ["ann@example.org"]
    );
    assert_eq!(
        column(&target, "select value::text from settings").await,
        column(&older, "select value::text from settings").await
    );
}

/// A backup of this database, made by hand.
async fn made(older: &TestDatabase, fingerprint: &str, canary: &str) -> Vec<u8> {
    use sha2::Digest;
    let mut tables = Vec::new();
    let mut lines = String::new();
    for name in ["owners", "settings", "master_keys", "users"] {
        let columns = column(
            older,
            &format!(
                "select attname::text from pg_attribute where attrelid = '{name}'::regclass and attnum > 0 order by attnum"
            ),
        )
        .await;
        let rows = column(older, &format!("select row_to_json(t)::text from {name} t")).await;
        lines.push_str(&format!("#table {name}\n"));
        for row in &rows {
            lines.push_str(&format!("{row}\n"));
        }
        tables.push(serde_json::json!({"name": name, "columns": columns, "rows": rows.len()}));
    }
    let header = serde_json::json!({
        "format": "sealport-backup", "version": 1, "sealport": "0.0.9", "step": STEP,
        "taken_at": "2026-01-02T03:04:05Z",
        "master_keys": [{"fingerprint": fingerprint, "canary": canary, "active": true, "needed": true}],
        "tables": tables, "sequences": [],
    });
    let text = format!("{header}\n{lines}");
    let rows = text.lines().filter(|line| !line.starts_with('#')).count() - 1;
    let digest = hex::encode(sha2::Sha256::digest(&text));
    let mut recipient = age::scrypt::Recipient::new(PASSPHRASE.into());
    recipient.set_work_factor(10);
    age::encrypt(
        &recipient,
        format!("{text}#end {rows} {digest}\n").as_bytes(),
    )
    .unwrap()
}

#[tokio::test]
async fn a_newer_backup_is_refused() {
    let place = Place::new();
    let world = World::new().await;
    let file = place.backup(&world.database, "a.age").await;
    let lines = crate::refusals::opened(&std::fs::read(&file).unwrap());
    let lines = String::from_utf8(lines).unwrap();
    let newest = sqlx::migrate!()
        .iter()
        .map(|step| step.version)
        .max()
        .unwrap();
    let newer = lines.replacen(
        &format!("\"step\":{newest}"),
        &format!("\"step\":{}", newest + 1),
        1,
    );
    assert_ne!(newer, lines);
    let mut recipient = age::scrypt::Recipient::new(PASSPHRASE.into());
    recipient.set_work_factor(10);
    std::fs::write(&file, age::encrypt(&recipient, newer.as_bytes()).unwrap()).unwrap();
    let target = new_database().await;
    let told = refused(&place.restore(&target, &file).await);
    assert!(told.contains("newer one"), "{told}");
    let mut admin = target.admin_options.connect().await.unwrap();
    let owners: i64 = sqlx::query_scalar(AssertSqlSafe("select count(*) from owners"))
        .fetch_one(&mut admin)
        .await
        .unwrap();
    assert_eq!(owners, 0);
}

/// The newest step that a database went through.
async fn step(database: &TestDatabase) -> String {
    let steps = column(database, "select max(version)::text from _sqlx_migrations").await;
    steps.into_iter().next().unwrap()
}

#[tokio::test]
async fn only_a_server_brings_an_older_database_forward() {
    let place = Place::new();
    let steps = sqlx::migrate!();
    let mut versions: Vec<i64> = steps.iter().map(|step| step.version).collect();
    versions.sort_unstable();
    let (newest, before) = (versions[versions.len() - 1], versions[versions.len() - 2]);
    let database = new_database().await;
    emptied(&database).await;
    let mut owner = database.owner_options.connect().await.unwrap();
    steps
        .run_direct(Some(before), &mut owner, false)
        .await
        .unwrap();

    let backup = ["backup", "a.age", "--passphrase-stdin"];
    let add = ["user", "add", "ann@example.org", "--password-stdin"];
    for arguments in [
        &backup[..],
        &add,
        &["key", "status"],
        &["key", "split"],
        &["audit", "verify"],
    ] {
        let told = refused(&place.run(&database, arguments).await);
        for expected in [
            format!("at step {before}"),
            format!("wants {newest}"),
            String::from("sealport serve"),
        ] {
            assert!(told.contains(&expected), "{arguments:?}: {told}");
        }
        assert_eq!(step(&database).await, before.to_string(), "{arguments:?}");
    }
    assert_eq!(place.files(), [""; 0]);

    let config = DatabaseConfig::new(
        database.app_options.clone(),
        Some(database.owner_options.clone()),
    );
    let server = Db::open(config, KeySource::Variable(key().into())).await;
    server.unwrap().close().await;
    assert_eq!(step(&database).await, newest.to_string());
    for arguments in [&add[..], &backup, &["key", "status"]] {
        let done = place.run(&database, arguments).await;
        assert!(done.status.success(), "{}", said(&done.stderr));
    }

    // A newer one is for the newer program, as it is for a server.
    sql(
        &database,
        &format!(
            "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
             values ({}, 'of tomorrow', true, '', 0)",
            newest + 1
        ),
    )
    .await;
    for arguments in [&add[..], &["key", "status"]] {
        let told = refused(&place.run(&database, arguments).await);
        assert!(
            told.contains("by a newer Sealport"),
            "{arguments:?}: {told}"
        );
    }
}

#[tokio::test]
async fn an_empty_database_is_filled_by_the_first_account_and_by_no_other_command() {
    let place = Place::new();
    let database = new_database().await;
    // First with its tables and no key, as when the first start was cut short; then with nothing.
    for expected in ["no master key", "empty"] {
        let tables = "select count(*)::text from pg_tables where schemaname = 'public'";
        let before = column(&database, tables).await;
        for arguments in [
            &["backup", "a.age", "--passphrase-stdin"][..],
            &["key", "split"],
            &["audit", "verify"],
        ] {
            let mut command = place.command(&database, arguments);
            command.env_remove("SEALPORT_MASTER_KEY");
            let child = crate::program::start(command, PASSPHRASE).await;
            let told = refused(&crate::program::ended(child).await);
            assert!(
                told.contains(expected) && told.contains("sealport serve"),
                "{arguments:?}: {told}"
            );
            assert!(!place.file("data/master.key").exists(), "{arguments:?}");
        }
        assert_eq!(column(&database, tables).await, before);
        emptied(&database).await;
    }
    let add = ["user", "add", "ann@example.org", "--password-stdin"];
    let added = place.run(&database, &add).await;
    assert!(added.status.success(), "{}", said(&added.stderr));
    let status = place.run(&database, &["key", "status"]).await;
    assert!(status.status.success(), "{}", said(&status.stderr));
}
