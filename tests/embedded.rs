//! Our own PostgreSQL and the data directory, with real processes: this binary starts itself again
//! to be the other server, the killed one, or another user.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod common;
#[path = "embedded/fetched.rs"]
mod fetched;

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use sealport::store::data_dir::{
    DataDir, DataDirError, SOCKET_NAME_MAX_BYTES, SOCKET_PATH_MAX_BYTES,
};
use sealport::store::embedded::{Embedded, EmbeddedError, Settings};
use sqlx::{ConnectOptions, Connection};

const PATIENCE: Duration = Duration::from_secs(60);

/// Environment variables that make a run of this binary a helper.
const ROLE: &str = "HELPER_ROLE";
const DATA: &str = "HELPER_DATA";

#[tokio::test]
async fn first_start_second_start_and_stop() {
    let home = Home::new();
    let data = DataDir::open(&home.data()).unwrap();

    let clock = Instant::now();
    let embedded = Embedded::start(&data).await.unwrap();
    println!("first start: {} ms", clock.elapsed().as_millis());
    let pid = embedded.process_id().unwrap();

    let mut owner = embedded.owner_options().connect().await.unwrap();
    sqlx::raw_sql("create table kept (word text); insert into kept values ('durch')")
        .execute(&mut owner)
        .await
        .unwrap();
    owner.close().await.unwrap();
    embedded.stop().await.unwrap();
    assert!(!is_alive(pid), "PostgreSQL is stopped with the server");

    let clock = Instant::now();
    let embedded = Embedded::start(&data).await.unwrap();
    println!("second start: {} ms", clock.elapsed().as_millis());
    let mut owner = embedded.owner_options().connect().await.unwrap();
    let word: String = sqlx::query_scalar("select word from kept")
        .fetch_one(&mut owner)
        .await
        .unwrap();
    assert_eq!(word, "durch");
    owner.close().await.unwrap();

    let clock = Instant::now();
    embedded.stop().await.unwrap();
    println!("stop: {} ms", clock.elapsed().as_millis());
}

#[tokio::test]
async fn the_roles_can_do_what_they_must_and_no_more() {
    let home = Home::new();
    let data = DataDir::open(&home.data()).unwrap();
    let embedded = Embedded::start(&data).await.unwrap();

    let mut admin = embedded.admin_options("postgres").connect().await.unwrap();
    for role in ["sealport_owner", "sealport_app", "sealport_server"] {
        let (superuser, bypass, create_role, create_db, login): (bool, bool, bool, bool, bool) = sqlx::query_as(
            "select rolsuper, rolbypassrls, rolcreaterole, rolcreatedb, rolcanlogin from pg_roles where rolname = $1",
        )
        .bind(role)
        .fetch_one(&mut admin)
        .await
        .unwrap();
        assert!(
            !superuser && !bypass && !create_role && !create_db,
            "{role}"
        );
        assert_eq!(login, role != "sealport_server", "{role}");
    }
    for (setting, expected) in [
        ("fsync", "on"),
        ("synchronous_commit", "on"),
        ("full_page_writes", "on"),
        ("listen_addresses", ""),
        ("log_min_error_statement", "panic"),
        ("server_encoding", "UTF8"),
    ] {
        let value: String = sqlx::query_scalar("select current_setting($1)")
            .bind(setting)
            .fetch_one(&mut admin)
            .await
            .unwrap();
        assert_eq!(value, expected, "{setting}");
    }
    admin.close().await.unwrap();

    let mut owner = embedded.owner_options().connect().await.unwrap();
    sqlx::raw_sql("create table things (n int); grant select on things to sealport_server")
        .execute(&mut owner)
        .await
        .unwrap();
    assert!(refused(
        sqlx::raw_sql("create role more").execute(&mut owner).await
    ));
    owner.close().await.unwrap();

    let mut app = embedded.app_options().connect().await.unwrap();
    sqlx::raw_sql(
        "set role sealport_server; select n from things; reset role; select n from things",
    )
    .execute(&mut app)
    .await
    .unwrap();
    assert!(refused(
        sqlx::raw_sql("insert into things values (1)")
            .execute(&mut app)
            .await
    ));
    assert!(refused(
        sqlx::raw_sql("create table mine (n int)")
            .execute(&mut app)
            .await
    ));
    assert!(refused(
        sqlx::raw_sql("set role sealport_owner")
            .execute(&mut app)
            .await
    ));
    app.close().await.unwrap();
    assert!(
        embedded
            .options("sealport_app", "postgres")
            .connect()
            .await
            .is_err(),
        "the server's role has no business in other databases"
    );
    assert!(
        embedded
            .options("sealport_server", "sealport")
            .connect()
            .await
            .is_err(),
        "the bound role cannot log in"
    );
    embedded.stop().await.unwrap();
}

#[tokio::test]
async fn each_test_has_a_migrated_database_of_its_own() {
    let one = common::new_database().await;
    let two = common::new_database().await;
    let mut owner = one.owner_options.connect().await.unwrap();
    sqlx::raw_sql("create table only_here (n int)")
        .execute(&mut owner)
        .await
        .unwrap();
    owner.close().await.unwrap();

    let there = "select to_regclass('public.only_here') is not null and to_regclass('public.secrets') is not null";
    let migrated = "select to_regclass('public.secrets') is not null";
    for (database, statement, expected) in [
        (&one, there, true),
        (&two, there, false),
        (&two, migrated, true),
    ] {
        let mut app = database.app_options.connect().await.unwrap();
        let seen: bool = sqlx::query_scalar(statement)
            .fetch_one(&mut app)
            .await
            .unwrap();
        assert_eq!(seen, expected, "{statement}");
        app.close().await.unwrap();
    }
    let options: sqlx::postgres::PgConnectOptions = one.app_url.parse().unwrap();
    options.connect().await.unwrap().close().await.unwrap();
}

#[tokio::test]
async fn a_second_server_is_refused_by_name() {
    let home = Home::new();
    let server = Helper::start("serve", &home.data());
    let pid = server.process.id();

    let data = DataDir::open(&home.data()).unwrap();
    let refusal = data.lock_for_server().unwrap_err();
    assert!(matches!(refusal, DataDirError::Locked { pid: Some(other), .. } if other == pid));
    assert!(
        refusal.to_string().contains(&format!("(process {pid})")),
        "{refusal}"
    );

    let mut other = Helper::start("serve", &home.data());
    assert!(
        other.said.starts_with("refused another Sealport server"),
        "{}",
        other.said
    );
    other.process.wait().unwrap();

    server.stop();
    data.lock_for_server().unwrap();
}

#[tokio::test]
async fn a_killed_server_is_taken_up_again_with_postgresql_still_running() {
    let home = Home::new();
    let mut server = Helper::start("serve", &home.data());
    let postgres = server.postgres_pid();
    server.process.kill().unwrap();
    server.process.wait().unwrap();
    assert!(is_alive(postgres));

    let data = DataDir::open(&home.data()).unwrap();
    let _lock = data.lock_for_server().unwrap();
    let embedded = Embedded::start_with(&data, &quick()).await.unwrap();
    assert_eq!(
        embedded.process_id(),
        Some(postgres),
        "the running one was taken up"
    );
    ping(&embedded).await.unwrap();
    embedded.stop().await.unwrap();
    assert!(!is_alive(postgres));
}

#[tokio::test]
async fn a_killed_server_is_taken_up_again_with_postgresql_killed_too() {
    let home = Home::new();
    let mut server = Helper::start("serve", &home.data());
    let postgres = server.postgres_pid();
    server.process.kill().unwrap();
    server.process.wait().unwrap();
    kill(postgres, Signal::KILL);
    wait_until("the killed PostgreSQL is gone", || !is_alive(postgres));

    let data = DataDir::open(&home.data()).unwrap();
    let _lock = data.lock_for_server().unwrap();
    let embedded = Embedded::start_with(&data, &quick()).await.unwrap();
    assert_ne!(embedded.process_id(), Some(postgres));
    ping(&embedded).await.unwrap();
    embedded.stop().await.unwrap();
}

#[tokio::test]
async fn postgresql_is_restarted_when_it_dies_while_serving() {
    let home = Home::new();
    let data = DataDir::open(&home.data()).unwrap();
    let embedded = Embedded::start_with(&data, &quick()).await.unwrap();
    let first = embedded.process_id().unwrap();
    kill(first, Signal::KILL);

    let deadline = Instant::now() + PATIENCE;
    while ping(&embedded).await.is_err() || embedded.process_id() == Some(first) {
        assert!(Instant::now() < deadline, "PostgreSQL did not come back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let second = embedded.process_id().unwrap();
    embedded.stop().await.unwrap();
    assert!(!is_alive(second));
}

#[tokio::test]
async fn a_stale_pid_file_that_names_another_process_does_not_stop_the_start() {
    let home = Home::new();
    let data = DataDir::open(&home.data()).unwrap();
    let embedded = Embedded::start_with(&data, &quick()).await.unwrap();
    let postgres_uid = uid_of(embedded.process_id().unwrap());
    let pid_file = data.postgres_dir().join("data/postmaster.pid");
    let text = fs::read_to_string(&pid_file).unwrap();
    embedded.stop().await.unwrap();

    // As in a container that starts anew: the old id is now a process of the same user's.
    let mut bystander = Bystander(
        Command::new("sleep")
            .arg("600")
            .uid(postgres_uid)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let (_, after_pid) = text.split_once('\n').unwrap();
    fs::write(&pid_file, format!("{}\n{after_pid}", bystander.0.id())).unwrap();
    std::os::unix::fs::chown(&pid_file, Some(postgres_uid), None).unwrap();

    let embedded = Embedded::start_with(&data, &quick()).await.unwrap();
    ping(&embedded).await.unwrap();
    embedded.stop().await.unwrap();
    assert!(
        bystander.0.try_wait().unwrap().is_none(),
        "the bystander was left alone"
    );
}

#[tokio::test]
async fn a_first_start_that_was_killed_half_way_is_begun_again() {
    let home = Home::new();
    let data = DataDir::open(&home.data()).unwrap();
    let half = data.postgres_dir().join("data.new");
    fs::create_dir_all(&half).unwrap();
    fs::set_permissions(data.postgres_dir(), Permissions::from_mode(0o700)).unwrap();
    if is_root() {
        std::os::unix::fs::chown(data.postgres_dir(), Some(postgres_user()), None).unwrap();
    }
    fs::write(half.join("PG_VERSION"), "15\n").unwrap();

    let embedded = Embedded::start_with(&data, &quick()).await.unwrap();
    ping(&embedded).await.unwrap();
    embedded.stop().await.unwrap();
    assert!(!half.exists());
}

#[tokio::test]
async fn a_command_uses_the_running_postgresql_or_one_of_its_own() {
    let home = Home::new();
    let data = DataDir::open(&home.data()).unwrap();

    let command = Embedded::attach_or_start_with(&data, &quick())
        .await
        .unwrap();
    let own = command.process_id().unwrap();
    ping(&command).await.unwrap();
    command.stop().await.unwrap();
    assert!(!is_alive(own), "what the command started ends with it");

    let server = Helper::start("serve", &home.data());
    let postgres = server.postgres_pid();
    let command = Embedded::attach_or_start_with(&data, &quick())
        .await
        .unwrap();
    assert_eq!(command.process_id(), Some(postgres));
    command.stop().await.unwrap();
    assert!(
        is_alive(postgres),
        "the command leaves the server's PostgreSQL alone"
    );

    // The server stops while a command is at work: the command can finish, then PostgreSQL stops.
    let command = Embedded::attach_or_start_with(&data, &quick())
        .await
        .unwrap();
    server.stop();
    ping(&command).await.unwrap();
    command.stop().await.unwrap();
    assert!(!is_alive(postgres));
}

#[tokio::test]
async fn a_server_that_leaves_by_another_way_takes_postgresql_along() {
    let home = Home::new();
    let data = DataDir::open(&home.data()).unwrap();
    let embedded = Embedded::start_with(&data, &quick()).await.unwrap();
    let pid = embedded.process_id().unwrap();
    drop(embedded);
    wait_until("PostgreSQL stops", || !is_alive(pid));
}

#[tokio::test]
async fn postgresql_listens_on_no_port_and_inherits_nothing() {
    let home = Home::new();
    let server = Helper::start_with("serve", &home.data(), |command| {
        command.env("SEALPORT_MASTER_KEY", "canary-in-the-environment");
    });
    let postgres = server.postgres_pid();
    let environment = fs::read(format!("/proc/{postgres}/environ")).unwrap();
    let environment = String::from_utf8_lossy(&environment).into_owned();
    assert!(environment.contains("LANG=C.UTF-8"), "{environment}");
    assert!(!environment.contains("canary"), "{environment}");
    assert!(!environment.contains(DATA), "{environment}");

    assert_eq!(listening_sockets(postgres), 0);
    if is_root() {
        assert_ne!(uid_of(postgres), 0);
        let status = fs::read_to_string(format!("/proc/{postgres}/status")).unwrap();
        let groups = status
            .lines()
            .find(|line| line.starts_with("Groups:"))
            .unwrap();
        assert_eq!(groups.trim_end(), "Groups:", "no group of ours is left");
    }
    server.stop();

    // The same count does see a port.
    let _listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    assert_eq!(listening_sockets(std::process::id().cast_signed()), 1);
}

#[tokio::test]
async fn only_our_own_user_gets_an_answer() {
    if !is_root() {
        common::left_out::say("PostgreSQL as another user: only root can be one");
        return;
    }
    let home = Home::new();
    let data = DataDir::open(&home.data()).unwrap();
    let embedded = Embedded::start_with(&data, &quick()).await.unwrap();
    let knock = |uid: u32| {
        let helper = Helper::start_as("knock", embedded.socket_dir(), uid, &home);
        helper.said.clone()
    };
    // PostgreSQL's own user can enter the directory and is refused by PostgreSQL.
    let said = knock(uid_of(embedded.process_id().unwrap()));
    assert!(said.contains("Peer authentication failed"), "{said}");
    let said = knock(12_345);
    assert!(said.contains("Permission denied"), "{said}");
    assert_eq!(knock(0), "answered");
    embedded.stop().await.unwrap();
}

#[tokio::test]
async fn the_log_holds_errors_without_what_was_stored() {
    let home = Home::new();
    let data = DataDir::open(&home.data()).unwrap();
    let embedded = Embedded::start_with(&data, &quick()).await.unwrap();
    let mut owner = embedded.owner_options().connect().await.unwrap();
    sqlx::raw_sql("create table once (word text primary key)")
        .execute(&mut owner)
        .await
        .unwrap();
    for _ in 0..2 {
        let _ = sqlx::query("insert into once values ($1)")
            .bind("canary-in-a-row")
            .execute(&mut owner)
            .await;
    }
    let _ = sqlx::raw_sql("select 'canary-in-a-statement', 1/0")
        .execute(&mut owner)
        .await;
    owner.close().await.unwrap();
    embedded.stop().await.unwrap();

    let log = fs::read_to_string(data.root().join("postgres.log")).unwrap();
    assert!(
        log.contains("duplicate key value") && log.contains("division by zero"),
        "{log}"
    );
    assert!(!log.contains("canary"), "{log}");
}

#[tokio::test]
async fn a_user_without_rights_can_run_it_all() {
    let home = Home::new();
    if !is_root() {
        // Every other test is this one already.
        return;
    }
    let nobody = 65_534;
    let data = home.dir.path().join("of-nobody");
    fs::create_dir(&data).unwrap();
    std::os::unix::fs::chown(&data, Some(nobody), Some(nobody)).unwrap();
    let server = Helper::start_as("serve", &data, nobody, &home);
    let postgres = server.postgres_pid();
    assert_eq!(uid_of(postgres), nobody);
    assert_eq!(
        fs::metadata(data.join("postgres")).unwrap().mode() & 0o777,
        0o700
    );
    server.stop();
    assert!(!is_alive(postgres));

    let refusal = DataDir::open(&data).unwrap_err();
    assert!(
        matches!(
            refusal,
            DataDirError::NotOurs {
                owner: 65_534,
                uid: 0,
                ..
            }
        ),
        "{refusal}"
    );
}

#[tokio::test]
async fn below_a_closed_home_postgresql_lives_elsewhere_and_a_note_says_where() {
    if !is_root() {
        common::left_out::say(
            "a data directory below a closed home: only root runs PostgreSQL as another user",
        );
        return;
    }
    let home = Home::new();
    let closed = home.dir.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, Permissions::from_mode(0o700)).unwrap();
    let path = closed.join("data");
    let data = DataDir::open(&path).unwrap();
    let place = data.postgres_dir().parent().unwrap().to_owned();
    let _cleared = Cleared(place.clone());
    assert_eq!(place.parent(), Some(Path::new("/var/lib/sealport")));
    assert_eq!(data.guests_dir(), place.join("guests"));
    assert_eq!(data.key_file(), path.join("master.key"));
    let note = fs::read_to_string(path.join("where-the-rest-is.txt")).unwrap();
    assert!(note.contains(&place.display().to_string()), "{note}");

    let embedded = Embedded::start_with(&data, &quick()).await.unwrap();
    ping(&embedded).await.unwrap();
    embedded.stop().await.unwrap();

    // A moved data directory keeps its place, a copied one must not share it.
    let moved = closed.join("moved");
    fs::rename(&path, &moved).unwrap();
    assert_eq!(
        DataDir::open(&moved).unwrap().postgres_dir(),
        data.postgres_dir()
    );
    let copied = closed.join("copied");
    DataDir::open(&copied)
        .map(|data| Cleared(data.postgres_dir().parent().unwrap().to_owned()))
        .unwrap();
    fs::copy(
        moved.join("where-the-rest-is.txt"),
        copied.join("where-the-rest-is.txt"),
    )
    .unwrap();
    let refusal = DataDir::open(&copied).unwrap_err();
    assert!(matches!(refusal, DataDirError::Copied { .. }), "{refusal}");

    fs::remove_dir_all(&place).unwrap();
    let refusal = DataDir::open(&moved).unwrap_err();
    assert!(
        matches!(refusal, DataDirError::PlaceGone { .. }),
        "{refusal}"
    );
}

#[tokio::test]
async fn a_very_long_path_still_has_sockets() {
    let home = Home::new();
    let mut path = home.dir.path().to_owned();
    for part in 0..4 {
        path.push(format!("{part}-{}", "long".repeat(12)));
    }
    let data = DataDir::open(&path).unwrap();
    let runtime = data.runtime_dir().unwrap();
    assert!(path.as_os_str().len() > SOCKET_PATH_MAX_BYTES);
    assert!(runtime.as_os_str().len() + SOCKET_NAME_MAX_BYTES <= SOCKET_PATH_MAX_BYTES);
    assert_eq!(fs::metadata(&runtime).unwrap().mode() & 0o777, 0o700);
    let name = "n".repeat(SOCKET_NAME_MAX_BYTES - 1);
    drop(std::os::unix::net::UnixListener::bind(runtime.join(name)).unwrap());

    let lock = data.lock_for_server().unwrap();
    let embedded = Embedded::start_with(&data, &quick()).await.unwrap();
    let socket_dir = embedded.socket_dir().to_owned();
    assert!(!socket_dir.starts_with(&path));
    ping(&embedded).await.unwrap();
    embedded.stop().await.unwrap();
    drop(lock);
    assert!(
        !socket_dir.exists() && !runtime.exists(),
        "nothing is left outside"
    );

    let short = Home::new();
    let data = DataDir::open(&short.data()).unwrap();
    assert!(data.runtime_dir().unwrap().starts_with(data.root()));
}

#[test]
fn a_runtime_directory_that_somebody_else_made_is_refused() {
    let home = Home::new();
    let data = DataDir::open(&home.data()).unwrap();
    let run = data.root().join("run");
    std::os::unix::fs::symlink("/tmp", &run).unwrap();
    assert!(matches!(
        data.runtime_dir(),
        Err(DataDirError::UnsafeRuntimeDir(_))
    ));
    fs::remove_file(&run).unwrap();
    fs::create_dir(&run).unwrap();
    fs::set_permissions(&run, Permissions::from_mode(0o755)).unwrap();
    assert!(matches!(
        data.runtime_dir(),
        Err(DataDirError::UnsafeRuntimeDir(_))
    ));
    fs::set_permissions(&run, Permissions::from_mode(0o700)).unwrap();
    assert_eq!(data.runtime_dir().unwrap(), run);
}

#[test]
fn a_data_directory_that_others_can_write_to_is_refused() {
    let home = Home::new();
    fs::create_dir(home.data()).unwrap();
    fs::set_permissions(home.data(), Permissions::from_mode(0o777)).unwrap();
    let refusal = DataDir::open(&home.data()).unwrap_err();
    assert!(
        matches!(refusal, DataDirError::OpenToOthers(_)),
        "{refusal}"
    );
    fs::set_permissions(home.data(), Permissions::from_mode(0o755)).unwrap();
    DataDir::open(&home.data()).unwrap();
}

#[tokio::test]
async fn data_of_a_version_that_is_nowhere_says_so() {
    let home = Home::new();
    let data = DataDir::open(&home.data()).unwrap();
    let embedded = Embedded::start_with(&data, &quick()).await.unwrap();
    embedded.stop().await.unwrap();
    let version = data.postgres_dir().join("data/PG_VERSION");
    fs::write(&version, "999\n").unwrap();

    let clock = Instant::now();
    let refusal = Embedded::start_with(&data, &quick()).await.unwrap_err();
    println!(
        "no such version: after {} ms: {refusal}",
        clock.elapsed().as_millis()
    );
    assert!(matches!(
        refusal,
        EmbeddedError::NoPrograms {
            major: 999,
            wanted: true,
            ..
        }
    ));
    assert!(
        refusal.to_string().contains("apt install postgresql-999"),
        "{refusal}"
    );
}

#[test]
fn the_test_cluster_goes_away_with_its_process() {
    for way in ["exit", "kill"] {
        let home = Home::new();
        let mut helper = Helper::start("cluster", &home.data());
        let (pid, dir) = helper.said.split_once(' ').unwrap();
        let (pid, dir) = (pid.parse().unwrap(), PathBuf::from(dir));
        assert!(is_alive(pid) && dir.is_dir());
        match way {
            "kill" => helper.process.kill().unwrap(),
            _ => drop(helper.stdin.take()),
        }
        helper.process.wait().unwrap();
        wait_until("the cluster is gone", || !is_alive(pid) && !dir.exists());
    }
}

/// Not a test: what this binary does when it is started as a helper. Says one line that begins with
/// `HELPER `, then waits for the end of its standard input.
#[test]
fn helper() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let path = PathBuf::from(std::env::var_os(DATA).unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        match role.as_str() {
            "serve" => help_by_serving(&path, &quick()).await,
            "serve-fetched" => help_by_serving(&path, &nothing_installed()).await,
            "knock" => help_by_knocking(&path).await,
            "cluster" => {
                let cluster = common::TestCluster::shared().await;
                say(&format!(
                    "{} {}",
                    cluster.process_id(),
                    cluster.dir().display()
                ));
                wait_for_end_of_input();
            }
            other => panic!("no such role: {other}"),
        }
    });
}

async fn help_by_serving(path: &Path, settings: &Settings) {
    let data = DataDir::open(path).unwrap();
    let _lock = match data.lock_for_server() {
        Ok(lock) => lock,
        Err(refusal) => return say(&format!("refused {refusal}")),
    };
    let embedded = match Embedded::start_with(&data, settings).await {
        Ok(embedded) => embedded,
        Err(refusal) => return say(&format!("refused {refusal}")),
    };
    say(&format!("{}", embedded.process_id().unwrap()));
    wait_for_end_of_input();
    embedded.stop().await.unwrap();
}

async fn help_by_knocking(socket_dir: &Path) {
    let options = sqlx::postgres::PgConnectOptions::new_without_pgpass()
        .socket(socket_dir)
        .port(5432)
        .username("postgres")
        .database("postgres");
    match options.connect().await {
        Ok(_) => say("answered"),
        Err(error) => say(&error.to_string().replace('\n', " ")),
    }
}

fn say(line: &str) {
    // libtest writes the beginning of a line before.
    println!("\nHELPER {line}");
    std::io::stdout().flush().unwrap();
}

fn wait_for_end_of_input() {
    let _ = std::io::stdin().read_line(&mut String::new());
}

/// This binary again, in another process.
struct Helper {
    process: Child,
    stdin: Option<ChildStdin>,
    said: String,
}

impl Helper {
    fn start(role: &str, data: &Path) -> Helper {
        Helper::start_with(role, data, |_| {})
    }

    /// As another user, who may not be able to enter the build directory.
    fn start_as(role: &str, data: &Path, uid: u32, home: &Home) -> Helper {
        let program = home.dir.path().join("helper");
        if !program.exists() {
            common::programs::copied(&std::env::current_exe().unwrap(), &program);
        }
        let mut command = Command::new(&program);
        command.uid(uid).gid(uid).current_dir("/");
        Helper::run(role, data, command)
    }

    fn start_with(role: &str, data: &Path, change: impl FnOnce(&mut Command)) -> Helper {
        let mut command = Command::new(std::env::current_exe().unwrap());
        change(&mut command);
        Helper::run(role, data, command)
    }

    fn run(role: &str, data: &Path, mut command: Command) -> Helper {
        let mut process = command
            .args(["--exact", "helper", "--nocapture", "--test-threads=1"])
            .env(ROLE, role)
            .env(DATA, data)
            .env_remove("XDG_RUNTIME_DIR")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = process.stdin.take();
        let stdout = BufReader::new(process.stdout.take().unwrap());
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if let Some(said) = line.strip_prefix("HELPER ") {
                    let _ = sender.send(said.to_owned());
                }
            }
        });
        let said = receiver.recv_timeout(PATIENCE);
        if said.is_err() {
            let _ = process.kill();
        }
        Helper {
            process,
            stdin,
            said: said.expect("the helper says something"),
        }
    }

    /// Of a helper that serves: the process id of its PostgreSQL.
    fn postgres_pid(&self) -> i32 {
        self.said.parse().expect(&self.said)
    }

    /// Lets the helper end in order.
    fn stop(mut self) {
        drop(self.stdin.take());
        assert!(self.process.wait().unwrap().success());
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.process.wait();
    }
}

/// A process that ends with its test.
struct Bystander(Child);

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A directory outside the test's own, removed at the end.
struct Cleared(PathBuf);

impl Drop for Cleared {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// As an installation, but without waiting for the disk.
fn quick() -> Settings {
    Settings {
        durable: false,
        ..Settings::default()
    }
}

/// As on a machine without PostgreSQL.
fn nothing_installed() -> Settings {
    Settings {
        binary_dirs: Some(Vec::new()),
        ..quick()
    }
}

async fn ping(embedded: &Embedded) -> Result<(), sqlx::Error> {
    let mut app = embedded.app_options().connect().await?;
    sqlx::raw_sql("select 1").execute(&mut app).await?;
    app.close().await
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn kill(pid: i32, signal: Signal) {
    rustix::process::kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

fn uid_of(pid: i32) -> u32 {
    fs::metadata(format!("/proc/{pid}")).unwrap().uid()
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Who runs PostgreSQL here when we are root.
fn postgres_user() -> u32 {
    let output = Command::new("id")
        .args(["-u", "postgres"])
        .output()
        .unwrap();
    String::from_utf8(output.stdout)
        .unwrap()
        .trim()
        .parse()
        .unwrap_or(65_534)
}

/// How many TCP sockets a process listens on.
fn listening_sockets(pid: i32) -> usize {
    let tables = ["tcp", "tcp6"]
        .map(|name| fs::read_to_string(format!("/proc/{pid}/net/{name}")).unwrap_or_default());
    let listening: Vec<String> = tables
        .iter()
        .flat_map(|table| table.lines().skip(1))
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|columns| columns[3] == "0A")
        .map(|columns| format!("socket:[{}]", columns[9]))
        .collect();
    fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .filter(|target| {
            listening
                .iter()
                .any(|socket| target.as_os_str() == socket.as_str())
        })
        .count()
}

/// A statement that PostgreSQL refused for want of a right.
fn refused<T>(result: Result<T, sqlx::Error>) -> bool {
    match result {
        Err(sqlx::Error::Database(error)) => error.code().as_deref() == Some("42501"),
        _ => false,
    }
}

fn is_alive(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        !stat
            .rsplit_once(')')
            .unwrap()
            .1
            .trim_start()
            .starts_with(['Z', 'X'])
    })
}

/// A temporary directory that other users can enter, removed at the end.
struct Home {
    dir: tempfile::TempDir,
}

impl Home {
    fn new() -> Home {
        let dir = tempfile::Builder::new()
            .prefix("sealport-embedded-")
            .permissions(Permissions::from_mode(0o711))
            .tempdir()
            .unwrap();
        Home { dir }
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }
}
