//! The real program as an operator starts it: wrong configuration, one and two database logins, a lost key file, a copy.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::path::Path;

use sealport::model::actors::{Actor, Caller, Origin};
use sealport::model::paths::SecretPath;
use sealport::model::secrets::Kind;
use sealport::model::users::Email;
use sealport::store::data_dir::DataDir;
use sealport::store::embedded::Embedded;
use sealport::store::secrets::{NewSecret, NewValue};
use sealport::store::{DatabaseConfig, Db, KeySource, Mode};
use secrecy::SecretString;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, raw_sql};
use tempfile::TempDir;

use common::serving::{Server, ended, fed, home, sealport, serve, words};
use common::{SINGLE_ROLE, TestCluster};

const VALUE: &str = "a value to find again";

fn key() -> String {
    "5e".repeat(32)
}

#[tokio::test]
async fn a_wrong_value_stops_the_start_and_names_the_variable() {
    let database = common::new_database().await;
    let (url, owner) = (database.app_url.as_str(), database.owner_url.as_str());
    let nowhere = "/nowhere/at-all";
    for (variables, expected) in [
        (&[("SEALPORT_ADDR", "3000")][..], "SEALPORT_ADDR"),
        (
            &[("SEALPORT_ADDR", "192.0.2.1:3000")],
            "cannot be listened on",
        ),
        (
            &[("SEALPORT_ADDR", "0.0.0.0:0")],
            "SEALPORT_PUBLIC_URL must be an https address",
        ),
        (
            &[
                ("SEALPORT_ADDR", "[::]:0"),
                ("SEALPORT_PUBLIC_URL", "http://sealport.example.org"),
            ],
            "SEALPORT_PUBLIC_URL must be an https address",
        ),
        (
            &[("SEALPORT_PUBLIC_URL", "sealport")],
            "SEALPORT_PUBLIC_URL",
        ),
        (
            &[("SEALPORT_PUBLIC_URL", "https://sealport.example.org/sub")],
            "and nothing else",
        ),
        (
            &[("SEALPORT_PUBLIC_URL", "ftp://sealport.example.org")],
            "and nothing else",
        ),
        (&[("SEALPORT_DATA", "/dev/null/data")], "SEALPORT_DATA"),
        (
            &[("DATABASE_URL", "nonsense")],
            "no address of a PostgreSQL",
        ),
        (
            &[("DATABASE_URL", "postgres://nobody@127.0.0.1:1/none")],
            "DATABASE_URL",
        ),
        (
            &[("DATABASE_URL", url), ("DATABASE_OWNER_URL", "nonsense")],
            "DATABASE_OWNER_URL is no address",
        ),
        (
            &[("DATABASE_OWNER_URL", url)],
            "DATABASE_OWNER_URL is set without DATABASE_URL",
        ),
        (
            &[
                ("DATABASE_URL", url),
                ("DATABASE_OWNER_URL", owner),
                ("SEALPORT_MASTER_KEY", "too-short"),
            ],
            "SEALPORT_MASTER_KEY",
        ),
        (
            &[
                ("SEALPORT_MASTER_KEY", "x"),
                ("SEALPORT_MASTER_KEY_FILE", nowhere),
            ],
            "either SEALPORT_MASTER_KEY or SEALPORT_MASTER_KEY_FILE",
        ),
        (
            &[
                ("DATABASE_URL", url),
                ("DATABASE_OWNER_URL", owner),
                ("SEALPORT_MASTER_KEY_FILE", nowhere),
            ],
            "SEALPORT_MASTER_KEY_FILE names /nowhere/at-all",
        ),
        (
            &[("SEALPORT_TRUSTED_PROXIES", "10.0.0.0/8,10.0.0.0/33")],
            "10.0.0.0/33",
        ),
        (&[("SEALPORT_DIR_ROOTS", nowhere)], nowhere),
        (&[("SEALPORT_DIR_ROOTS", "/dev/null")], "it is no directory"),
        (
            &[(
                "SEALPORT_SOURCE_HOSTS",
                "git.example.org,https://git.example.org",
            )],
            "it is no host",
        ),
        (&[("SEALPORT_ALLOW_PLAIN_HTTP", "maybe")], "maybe"),
        (&[("SEALPORT_ALLOW_UNSANDBOXED", "maybe")], "maybe"),
        (&[("SEALPORT_LOG", "sealport=loudly")], "no log filter"),
    ] {
        let home = home();
        let ended = ended(serve(&home.path().join("data"), variables)).await;
        let told = words(&ended.stderr);
        assert!(!ended.status.success(), "{variables:?}");
        assert!(told.contains(expected), "{variables:?}: {told}");
        let (named, value) = variables[variables.len() - 1];
        assert!(told.contains(named), "{variables:?}: {told}");
        let is_secret = named.starts_with("DATABASE") || named == "SEALPORT_MASTER_KEY";
        assert!(!is_secret || !told.contains(value), "{variables:?}: {told}");
        assert_eq!(words(&ended.stdout), "", "{variables:?}");
        assert!(
            !home.path().join("data/master.key").exists(),
            "{variables:?}"
        );
    }
}

#[tokio::test]
async fn an_empty_variable_is_one_that_is_not_set() {
    let database = common::new_database().await;
    let home = home();
    let (url, owner) = (database.app_url.as_str(), database.owner_url.as_str());
    // As an environment file, or compose's `${NAME:-}`, has them.
    let variables = [
        ("DATABASE_URL", url),
        ("DATABASE_OWNER_URL", owner),
        ("SEALPORT_PUBLIC_URL", ""),
        ("SEALPORT_ALLOW_PLAIN_HTTP", ""),
        ("SEALPORT_TRUSTED_PROXIES", ""),
        ("SEALPORT_DIR_ROOTS", ""),
        ("SEALPORT_SOURCE_HOSTS", ""),
        ("SEALPORT_ALLOW_UNSANDBOXED", ""),
        ("SEALPORT_BRIDGE_IMAGE", ""),
        ("SEALPORT_RENDER_API", ""),
        ("SEALPORT_LOG", ""),
    ];
    let server = Server::up(serve(&home.path().join("data"), &variables)).await;
    assert_eq!(server.status("/healthz").await, "200");
    server.stop().await;

    // But not where it would lead to another database.
    let variables = [("DATABASE_URL", ""), ("SEALPORT_LOG", "")];
    let ended = ended(serve(&home.path().join("data"), &variables)).await;
    assert!(!ended.status.success());
    assert!(words(&ended.stderr).contains("DATABASE_URL"), "{ended:?}");
}

#[tokio::test]
async fn the_master_key_is_no_argument() {
    let home = home();
    for arguments in [vec![key()], vec!["--master-key".into(), key()]] {
        let mut command = serve(&home.path().join("data"), &[]);
        command.args(arguments);
        let ended = ended(command).await;
        assert_eq!(ended.status.code(), Some(2), "{}", words(&ended.stderr));
    }
}

#[tokio::test]
async fn a_logins_password_is_no_argument() {
    let database = common::new_database().await;
    let key = key();
    let home = home();
    let data = home.path().join("data");
    let made = [
        ("DATABASE_URL", database.app_url.as_str()),
        ("DATABASE_OWNER_URL", &database.owner_url),
        ("SEALPORT_MASTER_KEY", &key),
    ];
    let mut first = sealport(
        &["user", "add", "ann@example.org", "--password-stdin"],
        &data,
        &made,
    );
    let first = fed(&mut first, "correct horse battery").await;
    assert!(first.status.success(), "{}", words(&first.stderr));

    let with_password = |url: &str| url.replacen('@', ":hunter-of-old@", 1);
    let (app, owner) = (
        with_password(&database.app_url),
        with_password(&database.owner_url),
    );
    let queried = format!("{}&password=hunter-of-old", database.app_url);
    let equals = format!("--database-url={app}");
    for (flags, named) in [
        (&["--database-url", app.as_str()][..], "DATABASE_URL"),
        (&["--database-url", &queried], "DATABASE_URL"),
        (&[equals.as_str()], "DATABASE_URL"),
        (
            &[
                "--database-url",
                &database.app_url,
                "--database-owner-url",
                &owner,
            ],
            "DATABASE_OWNER_URL",
        ),
    ] {
        for command in [&["serve"][..], &["key", "status"], &["audit", "verify"]] {
            let refused = ended(sealport(&[command, flags].concat(), &data, &made)).await;
            let told = words(&refused.stderr);
            assert_eq!(
                refused.status.code(),
                Some(2),
                "{command:?} {flags:?}: {told}"
            );
            assert!(
                told.contains(&format!("variable {named} ")),
                "{flags:?}: {told}"
            );
            assert!(!told.contains("hunter-of-old"), "{flags:?}: {told}");
            assert_eq!(words(&refused.stdout), "");
        }
    }
    // A flag without one, and a variable with one, are as good as ever.
    let flags = [
        "--database-url",
        &database.app_url,
        "--database-owner-url",
        &database.owner_url,
    ];
    let by_flag = sealport(
        &[&["key", "status"][..], &flags].concat(),
        &data,
        &made[2..],
    );
    let by_variable = sealport(
        &["key", "status"],
        &data,
        &[
            ("DATABASE_URL", app.as_str()),
            ("DATABASE_OWNER_URL", &owner),
            made[2],
        ],
    );
    for command in [by_flag, by_variable] {
        let done = ended(command).await;
        assert!(done.status.success(), "{}", words(&done.stderr));
    }
}

/// All that lies below a directory.
fn below(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        found.push(path.display().to_string());
        if path.is_dir() {
            found.extend(below(&path));
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn a_command_in_the_wrong_directory_makes_nothing_there_and_says_where_it_looked() {
    let recipient = age::x25519::Identity::generate().to_public().to_string();
    let empty = home();
    let lived_in = home();
    // As other programs lay theirs out.
    fs::create_dir_all(lived_in.path().join("data/postgres/pgdata")).unwrap();
    fs::write(lived_in.path().join("data/numbers.csv"), "1,2\n").unwrap();
    let run = |at: &TempDir, arguments: &[&str]| {
        let mut command = sealport(arguments, Path::new("unused"), &[]);
        command.current_dir(at.path()).env_remove("SEALPORT_DATA");
        command
    };
    for at in [&empty, &lived_in] {
        let before = below(at.path());
        let place = fs::canonicalize(at.path()).unwrap().join("data");
        for arguments in [
            &["backup", "a.age", "--recipient", &recipient][..],
            &["key", "status"],
            &["key", "rotate"],
            &["key", "rotate", "--data-keys"],
            &["key", "rotate", "--data-keys-after", "30"],
            &["key", "split"],
            &["key", "join", "--rehearse"],
            &["audit", "verify"],
            &["audit", "verify", "--file", "old.jsonl"],
            &["audit", "export", "--before", "2027-01-01", "old.jsonl"],
            &["audit", "drop", "--exported", "old.jsonl"],
        ] {
            let refused = ended(run(at, arguments)).await;
            let told = words(&refused.stderr);
            assert_eq!(refused.status.code(), Some(1), "{arguments:?}: {told}");
            for expected in ["SEALPORT_DATA", "sealport serve", place.to_str().unwrap()] {
                assert!(told.contains(expected), "{arguments:?}: {told}");
            }
            assert_eq!(words(&refused.stdout), "", "{arguments:?}");
            assert_eq!(below(at.path()), before, "{arguments:?}");
        }
    }
    // The first account makes an installation, and there all of them work.
    let mut add = run(
        &empty,
        &["user", "add", "ann@example.org", "--password-stdin"],
    );
    let added = fed(&mut add, "correct horse battery").await;
    assert!(added.status.success(), "{}", words(&added.stderr));
    assert!(empty.path().join("data/master.key").exists());
    for arguments in [
        &["backup", "a.age", "--recipient", &recipient][..],
        &["key", "status"],
        &["audit", "verify"],
    ] {
        let done = ended(run(&empty, arguments)).await;
        assert!(
            done.status.success(),
            "{arguments:?}: {}",
            words(&done.stderr)
        );
    }
    assert!(empty.path().join("a.age").exists());
}

async fn as_admin(cluster: &TestCluster, database: &str, statements: &str) {
    let mut admin = cluster.admin_options(database).connect().await.unwrap();
    // One by one: a database is not made within several.
    for statement in statements.split(';').map(str::trim) {
        if !statement.is_empty() {
            raw_sql(AssertSqlSafe(statement.to_owned()))
                .execute(&mut admin)
                .await
                .unwrap_or_else(|error| panic!("{statement}: {error}"));
        }
    }
    admin.close().await.unwrap();
}

/// A PostgreSQL that has never heard of Sealport.
async fn foreign_cluster() -> TestCluster {
    let cluster = TestCluster::start().await;
    as_admin(
        &cluster,
        "postgres",
        "drop database sealport; drop role sealport_app; drop role sealport_owner; drop role sealport_server",
    )
    .await;
    cluster
}

/// The block of SQL in a section of the guide.
fn sql_of_the_guide(section: &str) -> String {
    let guide = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/guide.md")).unwrap();
    let (_, rest) = guide.split_once(&format!("### {section}\n")).unwrap();
    let (_, block) = rest.split_once("```sql\n").unwrap();
    block.split_once("```").unwrap().0.to_owned()
}

#[tokio::test]
async fn the_guides_two_logins_serve_also_from_two_servers_that_start_at_once() {
    let cluster = foreign_cluster().await;
    as_admin(
        &cluster,
        "postgres",
        &sql_of_the_guide("Your own PostgreSQL"),
    )
    .await;
    let (app, owner) = (
        cluster.url("sealport_app", "sealport"),
        cluster.url("sealport_owner", "sealport"),
    );
    let key = key();
    let variables = [
        ("DATABASE_URL", app.as_str()),
        ("DATABASE_OWNER_URL", owner.as_str()),
        ("SEALPORT_MASTER_KEY", key.as_str()),
    ];
    let (one, other) = (home(), home());
    let (one, other) = tokio::join!(
        Server::up(serve(&one.path().join("data"), &variables)),
        Server::up(serve(&other.path().join("data"), &variables)),
    );
    for server in [&one, &other] {
        assert!(
            server.said.contains("Database: two logins"),
            "{}",
            server.said
        );
        assert!(
            server.said.contains("Master key: fingerprint "),
            "{}",
            server.said
        );
        assert!(!server.said.contains(&key), "{}", server.said);
        assert_eq!(server.status("/readyz").await, "200");
    }
    // Each says which keys it was given; so the key is not changed to one that they lack, and they are named.
    let place = home();
    let both = format!("{key},{}", "77".repeat(32));
    let rotate = || {
        let variables = [variables[0], variables[1], ("SEALPORT_MASTER_KEY", &both)];
        sealport(&["key", "rotate"], &place.path().join("data"), &variables)
    };
    let refused = ended(rotate()).await;
    let told = words(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{told}");
    for server in [&one, &other] {
        let process = format!("process {},", server.child.id().unwrap());
        assert!(told.contains(&process), "{told}");
    }
    one.stop().await;
    other.stop().await;
    // A server that stopped is gone at once.
    let changed = ended(rotate()).await;
    assert!(changed.status.success(), "{}", words(&changed.stderr));
    let lacking = ended(serve(&place.path().join("data"), &variables)).await;
    assert!(
        words(&lacking.stderr).contains("missing or wrong"),
        "{}",
        words(&lacking.stderr)
    );
}

#[tokio::test]
async fn one_login_serves_and_says_that_it_is_the_weaker_mode() {
    let cluster = foreign_cluster().await;
    let key = key();
    let made = format!(
        "create role {SINGLE_ROLE} login; create database one owner {SINGLE_ROLE}; create database other owner {SINGLE_ROLE}"
    );
    as_admin(&cluster, "postgres", &made).await;
    let up = async |database: &str| {
        let url = cluster.url(SINGLE_ROLE, database);
        let variables = [
            ("DATABASE_URL", url.as_str()),
            ("SEALPORT_MASTER_KEY", &key),
        ];
        let home = home();
        let server = Server::up(serve(&home.path().join("data"), &variables)).await;
        assert!(
            server.said.contains("Database: one login"),
            "{}",
            server.said
        );
        assert_eq!(server.status("/readyz").await, "200");
        server.stop().await;
    };

    // A login that may not make roles is told what somebody else runs once.
    let url = cluster.url(SINGLE_ROLE, "one");
    let home = home();
    let variables = [
        ("DATABASE_URL", url.as_str()),
        ("SEALPORT_MASTER_KEY", &key),
    ];
    let refused = ended(serve(&home.path().join("data"), &variables)).await;
    let told = words(&refused.stderr);
    let (_, sql) = told.split_once("to run once: ").expect(&told);
    let sql = sql.rsplit_once(';').expect(&told).0;
    as_admin(&cluster, "one", sql).await;
    up("one").await;

    // One that may make roles needs nobody.
    let undone = "drop owned by sealport_server";
    as_admin(&cluster, "one", undone).await;
    let undone = format!("drop role sealport_server; alter role {SINGLE_ROLE} createrole");
    as_admin(&cluster, "postgres", &undone).await;
    up("other").await;
}

/// The store of a data directory, and whose secret stands in it.
async fn opened(data: &DataDir) -> (Embedded, sealport::store::Result<Db>) {
    let embedded = Embedded::start(data).await.unwrap();
    let config = DatabaseConfig::new(embedded.app_options(), Some(embedded.owner_options()));
    let db = Db::open(config, KeySource::FileOrNew(data.key_file())).await;
    (embedded, db)
}

#[tokio::test]
async fn a_lost_key_file_is_missed_and_a_copy_of_everything_opens_elsewhere() {
    let home = home();
    let (here, there) = (home.path().join("data"), home.path().join("restored"));
    let data = DataDir::open(&here).unwrap();
    let (embedded, db) = opened(&data).await;
    let db = db.unwrap();
    assert_eq!(db.mode(), Mode::TwoLogins);
    let email = Email::parse("ann@example.org").unwrap();
    let password = SecretString::from("correct horse battery");
    let ann = Caller {
        actor: Actor::User(db.user_add(&email, &password, true).await.unwrap()),
        origin: Origin::default(),
    };
    let new = NewSecret {
        owner: None,
        path: SecretPath::parse("KEY").unwrap(),
        value: NewValue::Typed(SecretString::from(VALUE)),
        kind: Kind::ApiKey,
        description: String::new(),
        tags: Vec::new(),
        expires_at: None,
    };
    let secret = db.secret_create(&ann, new).await.unwrap();
    let fingerprint = db.key_fingerprint();
    db.close().await;
    embedded.stop().await.unwrap();
    drop(data);

    // Without the key file the program does not start, and says which key it misses.
    let safe = home.path().join("safe.key");
    fs::rename(here.join("master.key"), &safe).unwrap();
    let refused = ended(serve(&here, &[])).await;
    let told = words(&refused.stderr);
    assert!(!refused.status.success(), "{told}");
    assert!(
        told.contains(&fingerprint) && told.contains("from your backup"),
        "{told}"
    );
    assert!(!here.join("master.key").exists(), "no new key was made");

    // With the copy of the file in its place it does, and so does a copy of all of it at another path.
    fs::copy(&safe, here.join("master.key")).unwrap();
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .args([&here, &there])
        .status()
        .unwrap();
    assert!(copied.success());
    for place in [&here, &there] {
        let server = Server::up(serve(place, &[])).await;
        assert!(server.said.contains(&fingerprint), "{}", server.said);
        assert!(
            !server.said.contains("A master key was made"),
            "{}",
            server.said
        );
        assert_eq!(server.status("/readyz").await, "200");
        server.stop().await;
        let data = DataDir::open(place).unwrap();
        let (embedded, db) = opened(&data).await;
        let db = db.unwrap();
        for (guess, same) in [(VALUE, true), ("another value", false)] {
            let compared = db
                .secret_compare(&ann, secret, SecretString::from(guess))
                .await;
            assert_eq!(compared.unwrap(), same, "{}", place.display());
        }
        db.close().await;
        embedded.stop().await.unwrap();
    }
}
