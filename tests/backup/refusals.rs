//! What a backup and a restore refuse, and what they leave behind when they end half-way.

use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;

use age::x25519;
use rustix::process::{Pid, Signal, kill_process};
use sealport::store::backup::LEFT_OUT;
use secrecy::ExposeSecret;

use crate::common::{TestDatabase, new_database};
use crate::program::{PASSPHRASE, Place, column, emptied, ended, key, refused, said, sql, start};
use crate::world::World;

/// A store with something in it.
async fn world() -> World {
    let world = World::new().await;
    let ann = world.user("ann").await;
    for number in 0..300 {
        world
            .secret(
                &ann,
                &format!("KEY_{number}"),
                &format!("value {number} {}", "x".repeat(500)),
            )
            .await;
    }
    world
}

/// All that is in a database, as text, but for sqlx's own times.
async fn picture(database: &TestDatabase) -> Vec<String> {
    let tables = column(
        database,
        "select tablename::text from pg_tables where schemaname = 'public' order by 1",
    )
    .await;
    let mut rows = tables.clone();
    for table in tables {
        rows.extend(
            column(
                database,
                &format!("select '{table} ' || t::text from \"{table}\" t order by 1"),
            )
            .await,
        );
    }
    rows
}

#[tokio::test]
async fn every_table_is_backed_up_or_left_out_by_name() {
    let database = new_database().await;
    let tables = column(
        &database,
        "select relname::text from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p')
         and relname <> '_sqlx_migrations'",
    )
    .await;
    let read = column(
        &database,
        "select tablename::text from pg_policies where policyname = tablename || '_backup' and cmd = 'SELECT'
         and qual = '(current_job() = ''backup''::text)'",
    )
    .await;
    for table in &tables {
        let is_left_out = LEFT_OUT.iter().any(|(name, _)| name == table);
        assert!(
            read.contains(table) != is_left_out,
            "{table}: a migration gives it a policy {table}_backup for select using (current_job() = 'backup'), \
             or LEFT_OUT in store/backup/catalogue.rs says why it is not backed up"
        );
    }
    for (name, _) in LEFT_OUT {
        assert!(tables.iter().any(|table| table == name), "{name}");
    }
}

#[tokio::test]
async fn a_table_that_no_policy_opens_fails_the_backup_rather_than_be_empty_in_it() {
    let world = world().await;
    let place = Place::new();
    world
        .sql(
            "create table notes (text text); alter table notes owner to sealport_owner;
             alter table notes enable row level security; alter table notes force row level security;
             grant select on notes to sealport_server",
        )
        .await;
    let told = refused(
        &place
            .run(&world.database, &["backup", "a.age", "--passphrase-stdin"])
            .await,
    );
    assert!(told.contains("notes"), "{told}");
    assert_eq!(place.files(), [""; 0]);
}

#[tokio::test]
async fn a_backup_holds_no_value_no_key_and_nothing_that_signs_in() {
    let world = world().await;
    let place = Place::new();
    world
        .sql(
            "insert into sessions (id_hash, data, expires_at) values ('a session''s hash', '{}', now() + interval '1 hour');
             insert into one_time_links (hash, purpose, expires_at) values ('a link''s hash', 'first-administrator', now() + interval '1 hour')",
        )
        .await;
    let file = place.backup(&world.database, "a.age").await;
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let closed = std::fs::read(&file).unwrap();
    let open = String::from_utf8(opened(&closed)).unwrap();
    assert!(open.contains("KEY_299"), "paths are in it");
    for absent in ["value 299", &key(), "a session's hash", "a link's hash"] {
        assert!(!open.contains(absent), "{absent}");
        assert!(
            !closed
                .windows(absent.len())
                .any(|bytes| bytes == absent.as_bytes())
        );
    }
    assert!(!closed.windows(7).any(|bytes| bytes == b"KEY_299"));
    assert_eq!(
        column(
            &world.database,
            "select actor_name || ' ' || outcome from audit where action = 'store.backup'"
        )
        .await,
        ["operator done"]
    );
    let again = place
        .run(&world.database, &["backup", "a.age", "--passphrase-stdin"])
        .await;
    assert!(refused(&again).contains("is there already"));
    assert_eq!(std::fs::read(&file).unwrap(), closed);
    let short = start(
        place.command(&world.database, &["backup", "b.age", "--passphrase-stdin"]),
        "too short",
    );
    assert!(refused(&ended(short.await).await).contains("12 characters"));
    assert_eq!(place.files(), ["a.age"]);
}

/// What is inside the encryption.
pub fn opened(closed: &[u8]) -> Vec<u8> {
    let mut identity = age::scrypt::Identity::new(PASSPHRASE.into());
    identity.set_max_work_factor(20);
    age::decrypt(&identity, closed).unwrap()
}

#[tokio::test]
async fn a_backup_to_a_recipient_opens_with_its_identity_alone() {
    let world = world().await;
    let place = Place::new();
    let (own, other) = (x25519::Identity::generate(), x25519::Identity::generate());
    let to = own.to_public().to_string();
    let made = place
        .run(&world.database, &["backup", "a.age", "--recipient", &to])
        .await;
    assert!(made.status.success(), "{}", said(&made.stderr));
    let told = said(&made.stdout);
    assert!(
        told.contains("Read back and verified") && told.contains("MASTER KEY IS NOT IN IT"),
        "{told}"
    );
    for (name, identity) in [("own.txt", &own), ("other.txt", &other)] {
        let text = format!("# a comment\n{}\n", identity.to_string().expose_secret());
        written(&place, name, &text, 0o600);
    }
    let target = new_database().await;
    for (arguments, expected) in [
        (
            &["restore", "a.age", "--identity", "other.txt"][..],
            "another recipient",
        ),
        (&["restore", "a.age", "--passphrase-stdin"], "--identity"),
    ] {
        let told = refused(&place.run(&target, arguments).await);
        assert!(told.contains(expected), "{told}");
    }
    let restored = place
        .run(&target, &["restore", "a.age", "--identity", "own.txt"])
        .await;
    assert!(restored.status.success(), "{}", said(&restored.stderr));
    assert_eq!(
        column(&target, "select count(*)::text from secrets").await,
        ["300"]
    );

    let none = place
        .run(
            &world.database,
            &["backup", "b.age", "--recipient", "age1nonsense"],
        )
        .await;
    assert!(refused(&none).contains("no age recipient"));
}

/// Makes a file of exactly this mode.
fn written(place: &Place, name: &str, text: &str, mode: u32) {
    let path = place.file(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_passphrase_or_an_identity_that_others_can_read_is_refused() {
    let world = World::new().await;
    let place = Place::new();
    let identity = x25519::Identity::generate();
    let to = identity.to_public().to_string();
    let secret = identity.to_string();
    written(&place, "words", PASSPHRASE, 0o600);
    for arguments in [
        ["backup", "to.age", "--recipient", &to],
        ["backup", "a.age", "--passphrase-file", "words"],
    ] {
        let made = place.run(&world.database, &arguments).await;
        assert!(made.status.success(), "{}", said(&made.stderr));
    }
    let target = new_database().await;
    for mode in [0o644, 0o640, 0o602] {
        written(&place, "words", PASSPHRASE, mode);
        written(&place, "identity", secret.expose_secret(), mode);
        for (database, arguments) in [
            (
                &world.database,
                ["backup", "b.age", "--passphrase-file", "words"],
            ),
            (&target, ["restore", "a.age", "--passphrase-file", "words"]),
            (&target, ["restore", "to.age", "--identity", "identity"]),
        ] {
            let told = refused(&place.run(database, &arguments).await);
            let mode = format!("can be read by others (mode {mode:04o})");
            let mend = format!("chmod 600 {}", arguments[3]);
            assert!(
                told.contains(&mode) && told.contains(&mend),
                "{arguments:?}: {told}"
            );
        }
    }
    assert!(!place.file("b.age").exists());
    let owners = "select count(*)::text from owners";
    assert_eq!(column(&target, owners).await, ["0"]);

    // Nobody reads a pipe but who it was made for, whatever its mode.
    let piped = ["backup", "c.age", "--passphrase-file", "/dev/stdin"];
    let made = place.run(&world.database, &piped).await;
    assert!(made.status.success(), "{}", said(&made.stderr));
    let pipe = place.file("pipe");
    rustix::fs::mkfifoat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::Mode::from_raw_mode(0o644),
    )
    .unwrap();
    std::fs::set_permissions(&pipe, Permissions::from_mode(0o644)).unwrap();
    let feeding = tokio::task::spawn_blocking(move || {
        let mut end = std::fs::OpenOptions::new().write(true).open(pipe).unwrap();
        end.write_all(PASSPHRASE.as_bytes()).unwrap();
    });
    let from_pipe = ["restore", "c.age", "--passphrase-file", "pipe"];
    let restored = place.run(&target, &from_pipe).await;
    assert!(restored.status.success(), "{}", said(&restored.stderr));
    feeding.await.unwrap();
}

#[tokio::test]
async fn a_wrong_key_a_wrong_passphrase_and_a_store_that_is_lived_in_are_refused_before_anything() {
    let world = world().await;
    let place = Place::new();
    let file = place.backup(&world.database, "a.age").await;
    let file = file.to_str().unwrap();
    let target = new_database().await;
    let before = picture(&target).await;

    let mut wrong_key = place.command(&target, &["restore", file, "--passphrase-stdin"]);
    wrong_key.env("SEALPORT_MASTER_KEY", "17".repeat(32));
    let told = refused(&ended(start(wrong_key, PASSPHRASE).await).await);
    assert!(
        told.contains("master key is missing or wrong")
            && told.contains(world.db.key_fingerprint().as_str()),
        "{told}"
    );
    // None at all: none is made in its place.
    let mut no_key = place.command(&target, &["restore", file, "--passphrase-stdin"]);
    no_key.env_remove("SEALPORT_MASTER_KEY");
    let told = refused(&ended(start(no_key, PASSPHRASE).await).await);
    assert!(told.contains("master.key is missing"), "{told}");
    assert!(!place.file("data/master.key").exists());

    let wrong = place.command(&target, &["restore", file, "--passphrase-stdin"]);
    let told = refused(&ended(start(wrong, "another passphrase").await).await);
    assert!(told.contains("passphrase is wrong"), "{told}");
    std::fs::write(place.file("none.age"), "nothing of ours").unwrap();
    let told = refused(&place.restore(&target, &place.file("none.age")).await);
    assert!(told.contains("is no backup"), "{told}");
    assert_eq!(picture(&target).await, before);

    // Into the store itself, and into a database with tables of others.
    let lived_in = picture(&world.database).await;
    let told = refused(
        &place
            .restore(&world.database, place.file("a.age").as_path())
            .await,
    );
    assert!(told.contains("not empty"), "{told}");
    assert_eq!(picture(&world.database).await, lived_in);
    let others = new_database().await;
    emptied(&others).await;
    sql(
        &others,
        "create table orders (id integer); insert into orders values (1)",
    )
    .await;
    let told = refused(&place.restore(&others, place.file("a.age").as_path()).await);
    assert!(told.contains("orders"), "{told}");
    assert_eq!(column(&others, "select id::text from orders").await, ["1"]);
}

/// Whoever uses sqlx has a table of migrations, and may have accounts of which none is there yet.
#[tokio::test]
async fn what_is_another_applications_is_not_taken_for_an_empty_sealport() {
    let world = World::new().await;
    let place = Place::new();
    let file = place.backup(&world.database, "a.age").await;
    let migrations = "create table _sqlx_migrations (version bigint primary key, description text not null,
             installed_on timestamptz not null default now(), success boolean not null, checksum bytea not null,
             execution_time bigint not null)";
    for (theirs, named) in [
        // With a migration of theirs, by a number that is ours as well; and by one that is not.
        (
            "insert into _sqlx_migrations values (1, 'orders', now(), true, 'theirs', 1)",
            "_sqlx_migrations",
        ),
        (
            "insert into _sqlx_migrations values (20240101, 'orders', now(), true, 'theirs', 1)",
            "_sqlx_migrations",
        ),
        // With a table of theirs beside; and with one that is called like one of ours.
        ("create table orders (id integer)", "orders"),
        (
            "create table orders (id integer); create table owners (id integer)",
            "orders",
        ),
    ] {
        let others = new_database().await;
        emptied(&others).await;
        sql(
            &others,
            &format!(
                "{migrations}; {theirs}; do $$ declare r record; begin
                 for r in select tablename from pg_tables where schemaname = 'public' loop
                   execute format('alter table %I owner to sealport_owner', r.tablename);
                 end loop; end $$"
            ),
        )
        .await;
        let before = picture(&others).await;
        let told = refused(&place.restore(&others, &file).await);
        assert!(
            told.contains("not Sealport's") && told.contains(named),
            "{told}"
        );
        assert_eq!(picture(&others).await, before, "{theirs}");
    }
    // One in which nobody ever lived is ours, with each of its tables.
    let empty = new_database().await;
    let restored = place.restore(&empty, &file).await;
    assert!(restored.status.success(), "{}", said(&restored.stderr));
}

#[tokio::test]
async fn a_cut_or_changed_file_is_noticed_and_nothing_of_it_stays() {
    let world = world().await;
    let place = Place::new();
    let file = place.backup(&world.database, "a.age").await;
    let whole = std::fs::read(&file).unwrap();
    let target = new_database().await;
    let before = picture(&target).await;
    let damaged = place.file("damaged.age");
    let cuts = [40, 200, whole.len() / 2, whole.len() - 1];
    // A multiple of a chunk of age's: only its own end mark then tells.
    let aligned = whole.len() - whole.len() % (64 * 1024 + 16);
    for end in cuts.into_iter().chain([aligned]) {
        std::fs::write(&damaged, &whole[..end]).unwrap();
        let told = refused(&place.restore(&target, &damaged).await);
        assert!(
            told.contains("damaged") || told.contains("no backup"),
            "cut at {end}: {told}"
        );
    }
    for at in [30, 120, whole.len() / 3, whole.len() - 20] {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        std::fs::write(&damaged, &changed).unwrap();
        let output = place.restore(&target, &damaged).await;
        let told = refused(&output);
        assert!(
            [
                "damaged",
                "no backup",
                "passphrase is wrong",
                "to a recipient"
            ]
            .iter()
            .any(|word| told.contains(word)),
            "changed at {at}: {told}"
        );
    }
    // Whole inside age, but another row: made by whoever has the passphrase, and a count that is not its own.
    let lines = String::from_utf8(opened(&whole)).unwrap();
    let fewer: Vec<&str> = lines
        .lines()
        .filter(|line| !line.contains("\"KEY_7\""))
        .collect();
    assert_eq!(
        fewer.len(),
        lines.lines().count() - 2,
        "a secret and its line in the record"
    );
    let mut recipient = age::scrypt::Recipient::new(PASSPHRASE.into());
    recipient.set_work_factor(10);
    let again = age::encrypt(&recipient, format!("{}\n", fewer.join("\n")).as_bytes()).unwrap();
    std::fs::write(&damaged, again).unwrap();
    let told = refused(&place.restore(&target, &damaged).await);
    assert!(told.contains("damaged"), "{told}");

    assert_eq!(picture(&target).await, before);
    let restored = place.restore(&target, &file).await;
    assert!(restored.status.success(), "{}", said(&restored.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_is_killed_half_way_leaves_a_database_that_is_as_empty_as_before() {
    let world = world().await;
    let place = Place::new();
    let file = place.backup(&world.database, "a.age").await;
    let whole = std::fs::read(&file).unwrap();
    let target = new_database().await;
    emptied(&target).await;

    // Read from a pipe that gives no end: it waits in the middle of its rows.
    let pipe = place.file("pipe");
    rustix::fs::mkfifoat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
    )
    .unwrap();
    let arguments = ["restore", "pipe", "--passphrase-stdin"];
    let mut child = start(place.command(&target, &arguments), PASSPHRASE).await;
    let most = whole[..whole.len() - 70_000].to_vec();
    let feeding = tokio::task::spawn_blocking(move || {
        let mut end = std::fs::OpenOptions::new().write(true).open(pipe).unwrap();
        // What does not fit the pipe was read.
        end.write_all(&most).unwrap();
        end
    });
    let _end = feeding.await.unwrap();
    let waits = format!(
        "select query from pg_stat_activity where datname = '{}' and state = 'idle in transaction'
         and (query like 'insert into%' or query like 'select count(%')",
        target.name
    );
    while column(&target, &waits).await.is_empty() {
        assert!(child.try_wait().unwrap().is_none(), "it ended");
        tokio::task::yield_now().await;
    }
    let pid = Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    child.wait().await.unwrap();
    let here = format!(
        "select pid::text from pg_stat_activity where datname = '{}' and usename = 'sealport_owner'",
        target.name
    );
    while !column(&target, &here).await.is_empty() {
        tokio::task::yield_now().await;
    }

    assert_eq!(picture(&target).await, [""; 0], "nothing half-done");
    let looked = place.run(&target, &["doctor"]).await;
    assert_eq!(looked.status.code(), Some(1));
    assert!(
        said(&looked.stdout).contains("It is empty"),
        "{}",
        said(&looked.stdout)
    );
    let restored = place.restore(&target, &file).await;
    assert!(restored.status.success(), "{}", said(&restored.stderr));
    assert_eq!(
        column(&target, "select count(*)::text from secret_versions").await,
        ["300"]
    );
}
