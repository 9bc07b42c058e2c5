//! A backup of an older Sealport: its rows go into tables as they were then, and these then go the way of any other.

use sqlx::{AssertSqlSafe, ConnectOptions};

use crate::common::new_database;
use crate::program::{PASSPHRASE, Place, column, emptied, said, sql};
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
async fn made(older: &crate::common::TestDatabase, fingerprint: &str, canary: &str) -> Vec<u8> {
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
    let told = crate::program::refused(&place.restore(&target, &file).await);
    assert!(told.contains("newer one"), "{told}");
    let mut admin = target.admin_options.connect().await.unwrap();
    let owners: i64 = sqlx::query_scalar(AssertSqlSafe("select count(*) from owners"))
        .fetch_one(&mut admin)
        .await
        .unwrap();
    assert_eq!(owners, 0);
}
