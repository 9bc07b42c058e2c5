//! The real program changes keys while others read and write, and is killed between every two of its steps. The test holds a row
//! lock where the next step has to pass, waits until the program waits for it, and kills; nothing in the product helps.

use std::process::{Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sealport::model::actors::{Actor, Caller, Origin, SignedInUser};
use sealport::store::Db;
use sealport::store::secrets::NewValue;
use secrecy::{ExposeSecret, SecretString};
use sqlx::{AssertSqlSafe, ConnectOptions, PgConnection, raw_sql};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::common::{self, TestDatabase};
use crate::keys::{both_keys, next_key, number, open_with, past_guards, until};
use crate::opening::{as_admin, key, open};
use crate::people::{add, caller, recorded, text};
use crate::secrets::new;

const OWNERS: usize = 60;
const SECRETS_EACH: usize = 2;
const PATIENCE: Duration = Duration::from_secs(120);

/// `sealport key …` on the host of this database.
fn program(
    database: &TestDatabase,
    data: &TempDir,
    keys: &SecretString,
    words: &[&str],
) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sealport"));
    command
        .arg("key")
        .args(words)
        .env_clear()
        .env("SEALPORT_DATA", data.path().join("data"))
        .env("DATABASE_URL", &database.app_url)
        .env("DATABASE_OWNER_URL", &database.owner_url)
        .env("SEALPORT_MASTER_KEY", keys.expose_secret())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Runs it to its end with this on standard input.
async fn ended(mut command: Command, input: &str) -> Output {
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).await.unwrap();
    drop(stdin);
    let ended = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
    ended.expect("it did not end").unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// One owner's secret, and what it holds now.
struct Held {
    owner: Caller,
    id: Uuid,
    version: i32,
    value: String,
}

/// Reads and writes through two servers that were given both keys, and checks every value that it reads.
struct Load {
    stop: Arc<AtomicBool>,
    reads: Arc<AtomicUsize>,
    writes: Arc<AtomicUsize>,
    tasks: Vec<JoinHandle<Vec<Held>>>,
}

impl Load {
    fn start(database: &TestDatabase, servers: [Db; 2], held: Vec<Held>) -> Load {
        let mut load = Load {
            stop: Arc::default(),
            reads: Arc::default(),
            writes: Arc::default(),
            tasks: Vec::new(),
        };
        let mut shares: [Vec<Held>; 2] = Default::default();
        for (at, one) in held.into_iter().enumerate() {
            shares[at % 2].push(one);
        }
        for (at, mut held) in shares.into_iter().enumerate() {
            let servers = servers.clone();
            let (stop, reads, writes) =
                (load.stop.clone(), load.reads.clone(), load.writes.clone());
            let admin = database.admin_options.clone();
            load.tasks.push(tokio::spawn(async move {
                let mut admin = admin.connect().await.unwrap();
                let mut round = 0;
                while !stop.load(Ordering::Relaxed) {
                    let (writer, reader) = (&servers[at], &servers[1 - at]);
                    let place = round % held.len();
                    let one = &mut held[place];
                    if round % 6 == 0 {
                        let value = format!("value {round} of {}", one.id);
                        let new = NewValue::Typed(text(&value));
                        one.version = writer
                            .secret_replace(&one.owner, one.id, one.version, new)
                            .await
                            .unwrap();
                        one.value = value;
                        writes.fetch_add(1, Ordering::Relaxed);
                    }
                    if round % 40 == 39 {
                        // Somebody comes, whose first data key is made now; and comparing is not what is limited here.
                        held.push(newcomer(writer, &mut admin, &format!("n{at}-{round}")).await);
                        writes.fetch_add(1, Ordering::Relaxed);
                        sqlx::query("delete from attempts")
                            .execute(&mut admin)
                            .await
                            .unwrap();
                        writer.server_step("under load").await.unwrap();
                    }
                    let one = &held[place];
                    assert!(is(reader, one).await, "{} after {round} rounds", one.id);
                    reads.fetch_add(1, Ordering::Relaxed);
                    round += 1;
                }
                held
            }));
        }
        load
    }

    /// Waits until so many more have been read: the load goes on.
    async fn goes_on(&self) {
        let before = self.reads.load(Ordering::Relaxed);
        let more = async {
            while self.reads.load(Ordering::Relaxed) < before + 20 {
                assert!(
                    !self.tasks.iter().any(JoinHandle::is_finished),
                    "the load broke off"
                );
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, more)
            .await
            .expect("the load stands still");
    }

    async fn end(self) -> (usize, usize, Vec<Held>) {
        self.stop.store(true, Ordering::Relaxed);
        let mut held = Vec::new();
        for task in self.tasks {
            held.extend(task.await.unwrap());
        }
        (
            self.reads.load(Ordering::Relaxed),
            self.writes.load(Ordering::Relaxed),
            held,
        )
    }
}

async fn is(db: &Db, held: &Held) -> bool {
    db.secret_compare(&held.owner, held.id, text(&held.value))
        .await
        .unwrap()
}

/// An account, without the seconds that its password would take; and its first secret.
async fn newcomer(db: &Db, admin: &mut PgConnection, name: &str) -> Held {
    let owner = owner(admin, name).await;
    hold(db, owner, "KEY").await
}

async fn owner(admin: &mut PgConnection, name: &str) -> Caller {
    let user = SignedInUser {
        id: Uuid::now_v7(),
        handle: name.to_owned(),
        email: format!("{name}@example.org"),
        is_admin: false,
    };
    raw_sql(AssertSqlSafe(format!(
        "insert into owners (id, handle, kind) values ('{0}', '{name}', 'user'); \
         insert into users (id, email, password_hash) values ('{0}', '{1}', 'x')",
        user.id, user.email
    )))
    .execute(admin)
    .await
    .unwrap();
    Caller {
        actor: Actor::User(user),
        origin: Origin::default(),
    }
}

async fn hold(db: &Db, owner: Caller, path: &str) -> Held {
    let value = format!("first value at {path}");
    let id = db.secret_create(&owner, new(path, &value)).await.unwrap();
    Held {
        owner,
        id,
        version: 1,
        value,
    }
}

/// A store with owners, their secrets, and servers that read and write them.
struct House {
    database: TestDatabase,
    data: TempDir,
    load: Load,
    kills: Vec<&'static str>,
    begun: Instant,
}

impl House {
    async fn new(keys: SecretString) -> House {
        let database = common::new_database().await;
        // With the first key alone, so that it is the active one.
        let db = open(&database).await;
        let mut admin = database.admin_options.connect().await.unwrap();
        let mut held = Vec::new();
        for number in 0..OWNERS {
            let owner = owner(&mut admin, &format!("o{number}")).await;
            for secret in 0..SECRETS_EACH {
                held.push(hold(&db, owner.clone(), &format!("KEY_{secret}")).await);
            }
        }
        let servers = [
            open_with(&database, keys.clone()).await,
            open_with(&database, keys).await,
        ];
        for server in &servers {
            server.server_start("under load").await.unwrap();
        }
        let load = Load::start(&database, servers, held);
        House {
            database,
            data: tempfile::tempdir().unwrap(),
            load,
            kills: Vec::new(),
            begun: Instant::now(),
        }
    }

    async fn number(&self, sql: &str) -> i64 {
        let mut admin = self.database.admin_options.connect().await.unwrap();
        number(&mut admin, sql).await
    }

    /// Holds the row that `lock` selects, starts the program, waits until it waits for that row, and kills it.
    async fn killed_at(&mut self, step: &'static str, lock: &str, words: &[&str]) {
        self.load.goes_on().await;
        let mut holder = self.database.admin_options.connect().await.unwrap();
        let mut watch = self.database.admin_options.connect().await.unwrap();
        let locked = raw_sql(AssertSqlSafe(format!("begin; {lock}")))
            .fetch_all(&mut holder)
            .await
            .unwrap();
        assert_eq!(locked.len(), 1, "{step}: {lock}");
        let pid = number(&mut holder, "select pg_backend_pid()::bigint").await;
        let blocked = format!(
            "select count(*) from pg_stat_activity where {pid} = any(pg_blocking_pids(pid))"
        );
        let mut child = program(&self.database, &self.data, &both_keys(), words)
            .spawn()
            .unwrap();
        let waits = tokio::select! {
            () = until(&mut watch, &blocked) => true,
            _ = child.wait() => false,
        };
        assert!(
            waits,
            "{step}: it ended without passing: {:?}",
            child.wait_with_output().await
        );
        // `kill -9`.
        child.kill().await.unwrap();
        // The load goes on beside the lock, and beside what the dead program left waiting.
        self.load.goes_on().await;
        raw_sql("rollback").execute(&mut holder).await.unwrap();
        let left = format!(
            "select (count(*) = 0)::integer::bigint from pg_stat_activity where {pid} = any(pg_blocking_pids(pid))"
        );
        until(&mut watch, &left).await;
        self.kills.push(step);
    }

    async fn runs_through(&self, words: &[&str]) -> String {
        let output = ended(program(&self.database, &self.data, &both_keys(), words), "").await;
        assert!(output.status.success(), "{}", told(&output));
        said(&output)
    }

    /// Ends the load, and opens every value with these keys alone.
    async fn everything_opens(self, what: &str, keys: SecretString) -> TestDatabase {
        let (reads, writes, held) = self.load.end().await;
        as_admin(&self.database, "delete from attempts").await;
        let fresh = open_with(&self.database, keys).await;
        for one in &held {
            assert!(is(&fresh, one).await, "{}", one.id);
        }
        let mut admin = self.database.admin_options.connect().await.unwrap();
        println!(
            "{what}: {} data keys, {} versions, {} kills ({}); meanwhile {reads} values read and {writes} written, none lost, none \
             refused; {} secrets compared at the end; {:.1} s.",
            number(&mut admin, "select count(*) from data_keys").await,
            number(&mut admin, "select count(*) from secret_versions").await,
            self.kills.len(),
            self.kills.join("; "),
            held.len(),
            self.begun.elapsed().as_secs_f64()
        );
        self.database
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_master_key_is_changed_under_load_and_killed_between_every_two_steps() {
    let mut house = House::new(both_keys()).await;
    let active = "select state from master_keys where state = 'active' for no key update";
    let of = |state: &str| {
        format!(
            "select count(*) from data_keys where master_key in (select fingerprint from master_keys where state = '{state}')"
        )
    };
    let states = "select count(*) from master_keys where state = ";

    house
        .killed_at("staged, not promoted", active, &["rotate"])
        .await;
    assert_eq!(house.number(&format!("{states}'staged'")).await, 1);
    assert_eq!(house.number(&of("staged")).await, 0);

    // Chosen first: rows that an offset passes over would be locked as well.
    let nth = |skipped: i64| {
        format!(
            "select id from data_keys where id = (select id from data_keys where master_key in \
             (select fingerprint from master_keys where state <> 'staged' order by created_at limit 1) \
             order by id limit 1 offset {skipped}) for no key update"
        )
    };
    house
        .killed_at("promoted, nothing wrapped anew", &nth(0), &["rotate"])
        .await;
    assert_eq!(house.number(&format!("{states}'retiring'")).await, 1);
    let left = house.number(&of("retiring")).await;
    assert!(left >= OWNERS as i64, "{left}");

    house
        .killed_at("one batch wrapped anew", &nth(30), &["rotate"])
        .await;
    let less = house.number(&of("retiring")).await;
    assert!(less < left && less > 0, "{less} of {left}");

    house
        .killed_at("another batch wrapped anew", &nth(27), &["rotate"])
        .await;
    let least = house.number(&of("retiring")).await;
    assert!(least < less && least > 0, "{least} of {less}");

    let retiring = "select state from master_keys where state = 'retiring' for key share";
    house
        .killed_at(
            "all wrapped anew, the former key not retired",
            retiring,
            &["rotate"],
        )
        .await;
    assert_eq!(house.number(&of("retiring")).await, 0);
    assert_eq!(house.number(&format!("{states}'retiring'")).await, 1);

    let printed = house.runs_through(&["rotate"]).await;
    assert!(
        printed.contains("BACKUPS FROM BEFORE ARE NOT PROTECTED"),
        "{printed}"
    );
    assert_eq!(house.number("select count(*) from master_keys").await, 1);
    house.load.goes_on().await;
    let again = ended(
        program(&house.database, &house.data, &both_keys(), &["rotate"]),
        "",
    )
    .await;
    assert_eq!(again.status.code(), Some(1));
    assert!(told(&again).contains("no new key"), "{}", told(&again));

    let status = house.runs_through(&["status"]).await;
    assert!(
        status.contains("active since") && status.contains("retired"),
        "{status}"
    );
    assert!(status.contains("Rotation: none under way"), "{status}");
    assert_eq!(status.matches("Server under load").count(), 2, "{status}");
    for keys in [key(), next_key()] {
        assert!(!status.contains(keys.expose_secret()));
    }
    let database = house.everything_opens("master key", next_key()).await;
    let lines = recorded(&database).await;
    let about = lines
        .iter()
        .filter(|line| line.contains("key.rotate"))
        .count();
    assert_eq!(about, 3, "staged, active, retired, once each: {lines:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_keys_are_changed_under_load_and_killed_between_every_two_steps() {
    let mut house = House::new(key()).await;
    let words = ["rotate", "--data-keys"];
    let former = "select count(*) from data_keys where not active";
    let waiting = "select count(*) from secret_versions v join data_keys d on d.id = v.data_key_id where not d.active";
    let nth = |skipped: i64| {
        format!(
            "select id from data_keys where id = \
             (select id from data_keys where active order by owner_id limit 1 offset {skipped}) for no key update"
        )
    };
    let version = |skipped: i64| {
        // In the order in which they are sealed anew: key by key, then by secret.
        format!(
            "select version from secret_versions where (secret_id, version) = ( \
               select v.secret_id, v.version from secret_versions v join data_keys d on d.id = v.data_key_id where not d.active \
               order by d.id, v.secret_id, v.version limit 1 offset {skipped}) for no key update"
        )
    };

    house
        .killed_at("ordered, no successor", &nth(0), &words)
        .await;
    assert_eq!(house.number(former).await, 0);

    house
        .killed_at("some have successors", &nth(20), &words)
        .await;
    let some = house.number(former).await;
    assert!(some >= 20 && some < OWNERS as i64, "{some}");

    house
        .killed_at(
            "all have successors, nothing sealed anew",
            &version(0),
            &words,
        )
        .await;
    assert!(house.number(former).await >= OWNERS as i64);
    let left = house.number(waiting).await;
    assert!(left >= (OWNERS * SECRETS_EACH) as i64, "{left}");

    house
        .killed_at("some sealed anew", &version(100), &words)
        .await;
    let less = house.number(waiting).await;
    assert!(less < left && less > 0, "{less} of {left}");

    as_admin(
        &house.database,
        &past_guards(
            "update data_keys set retired_at = now() - interval '17 minutes' where not active",
        ),
    )
    .await;
    let gone = "select id from data_keys where not active order by id limit 1 for key share";
    house
        .killed_at("all sealed anew, former keys not gone", gone, &words)
        .await;
    assert_eq!(house.number(waiting).await, 0);
    assert!(house.number(former).await >= OWNERS as i64);

    // A server's next round does what was left, once the lease of the killed program has lapsed.
    let server = open(&house.database).await;
    let removed = async {
        loop {
            match server.rotation_step().await.unwrap() {
                Some(done) => return done.removed,
                None => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    };
    let removed = tokio::time::timeout(PATIENCE, removed).await.unwrap();
    assert!(removed >= OWNERS as u64, "{removed}");
    assert_eq!(house.number(former).await, 0);
    // And all of it again, with nobody in the way.
    let printed = house.runs_through(&words).await;
    assert!(
        printed.contains("Every data key gets a successor"),
        "{printed}"
    );
    assert_eq!(house.number(waiting).await, 0);
    house.load.goes_on().await;
    let database = house.everything_opens("data keys", key()).await;
    let lines = recorded(&database).await;
    let count = |what: &str| lines.iter().filter(|line| line.contains(what)).count();
    let (successors, removed) = (
        count("a new data key seals"),
        count("a former data key is gone"),
    );
    assert!(
        successors >= OWNERS && removed >= OWNERS && removed <= successors,
        "{successors}, {removed}"
    );
}

#[tokio::test]
async fn shares_are_printed_typed_joined_and_rehearsed() {
    let database = common::new_database().await;
    let data = tempfile::tempdir().unwrap();
    let db = open(&database).await;
    let ann = caller(&add(&db, "ann@example.org").await);
    db.secret_create(&ann, new("KEY", "value")).await.unwrap();
    let split = async |shares: &str, threshold: &str| -> Output {
        let words = ["split", "--shares", shares, "--threshold", threshold];
        ended(program(&database, &data, &key(), &words), "").await
    };
    let (one, another) = (split("5", "3").await, split("5", "3").await);
    assert!(one.status.success(), "{}", told(&one));
    let lines = |output: &Output| -> Vec<String> {
        let printed = said(output);
        let lines = printed
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines.map(str::to_owned).collect()
    };
    let (shares, others) = (lines(&one), lines(&another));
    assert_eq!(shares.len(), 5);
    assert!(said(&one).contains("keep no copy of them together"));
    // No part of the key in hex, in what was printed.
    assert!(!said(&one).contains(&key().expose_secret()[..16]));

    // Whoever lost the key has none to give: joining needs no database and no key.
    let join = async |input: &str, words: &[&str]| -> Output {
        let mut command = program(&database, &data, &key(), words);
        command.env_remove("SEALPORT_MASTER_KEY");
        ended(command, input).await
    };
    let typed = format!(
        "{}\n\n# a note\n{}\n{}\n",
        shares[3],
        shares[0].to_lowercase(),
        shares[4].replace(' ', "-")
    );
    let joined = join(&typed, &["join"]).await;
    assert_eq!(said(&joined), format!("{}\n", key().expose_secret()));
    // All that was printed can be given as it is.
    assert_eq!(said(&join(&said(&one), &["join"]).await), said(&joined));

    let swap = |line: &str| {
        let at = line.find(' ').unwrap() + 2;
        let other = if &line[at..=at] == "7" { "8" } else { "7" };
        format!("{}{other}{}", &line[..at], &line[at + 1..])
    };
    for (what, input, expected) in [
        (
            "a wrong character",
            format!("{}\n{}\n{}", shares[0], swap(&shares[1]), shares[2]),
            "line 2 has a wrong character in group 2",
        ),
        (
            "one that no share has",
            format!("{}\n{}", shares[0], shares[1].replacen(' ', "! ", 1)),
            "line 2 has '!' in group 1",
        ),
        ("a line cut short", shares[0][..40].to_owned(), "line 1 has"),
        (
            "two sets",
            format!("{}\n{}\n{}", shares[0], shares[1], others[2]),
            "lines 1 and 3 are of two sets",
        ),
        (
            "too few",
            format!("{}\n{}", shares[0], shares[1]),
            "2 of the 3 shares",
        ),
        ("none", String::new(), "There is no share"),
    ] {
        for words in [&["join"][..], &["join", "--rehearse"]] {
            let output = join(&input, words).await;
            assert_eq!(output.status.code(), Some(1), "{what}");
            assert!(
                told(&output).contains(expected),
                "{what}: {}",
                told(&output)
            );
            assert_eq!(said(&output), "", "{what}");
        }
    }

    let mut admin = database.admin_options.connect().await.unwrap();
    let rows = "select count(*) from audit";
    let before = number(&mut admin, rows).await;
    let rehearsed = join(&typed, &["join", "--rehearse"]).await;
    assert!(rehearsed.status.success(), "{}", told(&rehearsed));
    let fingerprint = db.key_fingerprint();
    for expected in [
        fingerprint.as_str(),
        "active",
        "1 of the 1 data key",
        "Nothing was changed",
    ] {
        assert!(
            said(&rehearsed).contains(expected),
            "{expected}: {}",
            said(&rehearsed)
        );
    }
    assert!(!said(&rehearsed).contains(key().expose_secret()));
    assert_eq!(number(&mut admin, rows).await, before);
    for (shares, threshold) in [("5", "1"), ("2", "3"), ("40", "3")] {
        let refused = split(shares, threshold).await;
        assert_eq!(refused.status.code(), Some(1));
        assert_eq!(said(&refused), "");
    }
    let lines = recorded(&database).await;
    let splits = lines.iter().filter(|line| line.contains("key.split"));
    assert_eq!(splits.count(), 2, "{lines:?}");
}
