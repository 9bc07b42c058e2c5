//! What `sealport doctor` says, line by line, with damage and without.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::common::{left_out, new_database};
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

/// A shell under another file name, that runs this and says `up` before it waits for its end.
async fn shell(program: &Path, uid: Option<u32>, script: &str, rest: &[&str]) -> (Child, i32) {
    // A process is named after the link. A copy could still be open for writing in a child that another test starts just now.
    if !program.exists() {
        std::os::unix::fs::symlink("/bin/sh", program).unwrap();
    }
    let mut command = std::process::Command::new(program);
    command.args(["-c", script]).args(rest).current_dir("/");
    if let Some(uid) = uid {
        command.uid(uid).gid(uid);
    }
    up(command).await
}

/// Starts it, and waits for a line with the process id that is asked about.
async fn up(command: std::process::Command) -> (Child, i32) {
    let mut child = Command::from(command)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = lines.next_line().await.unwrap().expect("it ended");
    (child, line.parse().unwrap())
}

#[tokio::test]
async fn a_left_guest_is_named_whatever_it_calls_itself_and_cannot_write_to_the_terminal() {
    let place = tempfile::Builder::new()
        .permissions(Permissions::from_mode(0o755))
        .tempdir()
        .unwrap();
    let guests = place.path().join("guests");
    let guests_text = guests.to_str().unwrap();
    let orphans = || sealport::deploy::sandbox::orphans(&guests).says;
    let (server, guest) = (place.path().join("sealport"), place.path().join("bwrap"));
    let waits = "echo $$; read -r _";
    // A guest by its start, named as these are; `true` keeps the shell above it in its place.
    let with_guest = format!("'{}' -c '{waits}' {guests_text}; true", guest.display());

    let (_alone, alone) = shell(&guest, None, waits, &[guests_text]).await;
    let (_held, held) = shell(&server, None, &with_guest, &[]).await;
    let told = orphans();
    assert!(told.contains(&format!("{alone} (bwrap)")), "{told}");
    assert!(
        !told.contains(&format!("{held} (")),
        "it has its Sealport: {told}"
    );

    // What lives in a user namespace of its own is no Sealport of ours.
    let mut deceiver = std::process::Command::new("unshare");
    deceiver
        .args(["--user", "--map-root-user", "--"])
        .arg(&server)
        .args(["-c", &with_guest]);
    let may = std::process::Command::new("unshare")
        .args(["--user", "--map-root-user", "true"])
        .output()
        .is_ok_and(|tried| tried.status.success());
    if may {
        let (_deceiver, below) = up(deceiver).await;
        let told = orphans();
        assert!(told.contains(&format!("{below} (bwrap)")), "{told}");
    } else {
        left_out::say("a guest in a user namespace that calls itself sealport: none can be made");
    }

    if !rustix::process::geteuid().is_root() {
        left_out::say("a guest by its id that calls itself sealport: only root gives ids");
        return;
    }
    // By its id; below it one that is a guest by its start.
    let renamed = |name: &str| format!("printf '{name}' > /proc/self/comm; {waits}");
    let uid = |more| Some(sealport::deploy::sandbox::FIRST_GUEST_ID + 90_000 + more);
    let (_named, named) = shell(&guest, uid(1), &renamed("sealport"), &[]).await;
    let (_above, below) = shell(&server, uid(2), &with_guest, &[]).await;
    let (_raw, raw) = shell(&guest, uid(3), &renamed(r"\033[2J\377)("), &[]).await;
    let told = orphans();
    assert!(told.contains(&format!("{named} (sealport)")), "{told}");
    assert!(told.contains(&format!("{below} (bwrap)")), "{told}");
    assert!(
        told.contains(&format!("{raw} (\\u{{1b}}[2J\u{fffd})()")),
        "{told}"
    );
    assert!(!told.contains('\u{1b}'), "{told:?}");
}
