//! What `sealport doctor` says, line by line, with damage and without.

use std::collections::BTreeMap;

use tokio::process::Command;

use crate::common::new_database;
use crate::program::{Place, emptied, ended, said, start};
use crate::world::World;

/// The lines by what was looked at: state and words. And the exit status.
async fn looked(command: Command) -> (BTreeMap<String, (String, String)>, i32) {
    let output = ended(start(command, "").await).await;
    let found: Vec<BTreeMap<String, String>> = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", said(&output.stderr)));
    let lines = found
        .into_iter()
        .map(|line| {
            (
                line["check"].clone(),
                (line["state"].clone(), line["says"].clone()),
            )
        })
        .collect();
    (lines, output.status.code().unwrap())
}

#[track_caller]
fn assert_line(lines: &BTreeMap<String, (String, String)>, check: &str, state: &str, word: &str) {
    let (is, says) = lines
        .get(check)
        .unwrap_or_else(|| panic!("{check}: {lines:#?}"));
    assert!(is == state && says.contains(word), "{check}: {is}: {says}");
}

#[tokio::test]
async fn each_line_is_ok_or_says_what_to_do() {
    let world = World::new().await;
    let place = Place::new();
    let ann = world.user("ann").await;
    let id = world
        .secret(&ann, "service/shop/KEY", "a value that stays")
        .await;
    world.secret(&ann, "OTHER", "another value").await;
    let doctor = || {
        let mut command = place.command(&world.database, &["doctor", "--json"]);
        // What this machine has no sandbox for is not what is looked at here.
        command.env("SEALPORT_ALLOW_UNSANDBOXED", "true");
        command
    };
    let (lines, status) = looked(doctor()).await;
    for check in [
        "data directory",
        "database",
        "roles",
        "row level security",
        "logins",
        "record",
        "clock",
        "master key",
        "values",
        "left processes",
    ] {
        assert_line(&lines, check, "ok", "");
    }
    assert_ne!(lines["sandbox"].0, "to-do", "{lines:#?}");
    assert_line(&lines, "values", "ok", "2 versions");
    assert_line(&lines, "key backup", "to-do", "Settings");
    assert_eq!(status, 1);

    // An administrator says that it is done.
    world
        .sql(&format!(
            "insert into settings (key, value) values ('master_key_backup_confirmed', to_jsonb('{}'::text))",
            world.db.key_fingerprint()
        ))
        .await;
    let (lines, status) = looked(doctor()).await;
    assert_line(&lines, "key backup", "ok", "");
    let to_do: Vec<_> = lines.iter().filter(|(_, line)| line.0 == "to-do").collect();
    // The disk is this machine's own.
    assert_eq!(status, i32::from(!to_do.is_empty()), "{to_do:?}");
    assert!(
        to_do.iter().all(|(check, _)| check.starts_with("disk")),
        "{to_do:?}"
    );

    // Damage is named by owner, path and version, and the other values stay.
    world
        .sql(&format!(
            "update secret_versions set sealed = set_byte(sealed, 40, get_byte(sealed, 40) # 1) where secret_id = '{id}';
             set session_replication_role = replica; update secrets set path = 'no/../path' where path = 'OTHER'"
        ))
        .await;
    let (lines, status) = looked(doctor()).await;
    assert_line(&lines, "values", "to-do", "ann:service/shop/KEY, version 1");
    assert_line(&lines, "values", "to-do", "no/../path");
    assert!(!lines["values"].1.contains("a value that stays"));
    assert_eq!(status, 1);
    assert_eq!(
        world.record("store.check").await.len(),
        3,
        "each look is on record"
    );
}

#[tokio::test]
async fn what_keeps_it_from_looking_on_is_said_and_nothing_is_made() {
    let world = World::new().await;
    let place = Place::new();
    let doctor = || place.command(&world.database, &["doctor", "--json"]);

    let mut wrong = doctor();
    wrong.env("SEALPORT_MASTER_KEY", "17".repeat(32));
    let (lines, status) = looked(wrong).await;
    assert_line(&lines, "master key", "to-do", &world.db.key_fingerprint());
    assert!(!lines.contains_key("values"));
    assert_eq!(status, 1);
    let mut none = doctor();
    none.env_remove("SEALPORT_MASTER_KEY");
    let (lines, _) = looked(none).await;
    assert_line(&lines, "master key", "to-do", "master.key");
    assert!(!place.file("data/master.key").exists());

    world
        .sql("alter table secrets no force row level security")
        .await;
    let (lines, _) = looked(doctor()).await;
    assert_line(&lines, "row level security", "to-do", "secrets");
    assert!(!lines.contains_key("master key"));

    let empty = new_database().await;
    emptied(&empty).await;
    let (lines, _) = looked(place.command(&empty, &["doctor", "--json"])).await;
    assert_line(&lines, "database", "to-do", "sealport restore");

    let mut nowhere = doctor();
    nowhere.env("DATABASE_URL", "postgres://nobody@127.0.0.1:1/none");
    nowhere.env_remove("DATABASE_OWNER_URL");
    let (lines, status) = looked(nowhere).await;
    assert_line(&lines, "database", "to-do", "DATABASE_URL");
    assert_eq!(status, 1);

    // Without a database of its own yet: it makes none.
    let mut alone = doctor();
    alone
        .env_remove("DATABASE_URL")
        .env_remove("DATABASE_OWNER_URL");
    let (lines, _) = looked(alone).await;
    assert_line(&lines, "database", "to-do", "sealport serve");
    let mut absent = doctor();
    absent.env("SEALPORT_DATA", place.file("not-there"));
    let (lines, _) = looked(absent).await;
    assert_line(&lines, "data directory", "to-do", "SEALPORT_DATA");
    assert!(!place.file("not-there").exists());
}
