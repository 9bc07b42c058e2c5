//! The program, run as an operator runs it.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use sqlx::{AssertSqlSafe, ConnectOptions, Executor};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

use crate::common::TestDatabase;

pub const PATIENCE: Duration = Duration::from_secs(180);
pub const PASSPHRASE: &str = "a passphrase of several words";

/// The key of [`crate::world::World`].
pub fn key() -> String {
    "42".repeat(32)
}

/// A folder of a test's own: backups, and the data directory that the program wants.
pub struct Place(tempfile::TempDir);

impl Place {
    pub fn new() -> Place {
        // Other users pass through, as guests and PostgreSQL do when root starts them.
        let mut place = tempfile::Builder::new();
        let open = place.permissions(Permissions::from_mode(0o711));
        Place(open.prefix("sealport-backup-").tempdir().unwrap())
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// What lies beside the data directory.
    pub fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "data")
            .collect();
        names.sort();
        names
    }

    pub fn command(&self, database: &TestDatabase, arguments: &[&str]) -> Command {
        let data = self.file("data");
        std::fs::create_dir_all(&data).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_sealport"));
        command
            .args(arguments)
            .current_dir(self.0.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("SEALPORT_DATA", data)
            .env("DATABASE_URL", &database.app_url)
            .env("DATABASE_OWNER_URL", &database.owner_url)
            .env("SEALPORT_MASTER_KEY", key())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Runs it with the passphrase on standard input.
    pub async fn run(&self, database: &TestDatabase, arguments: &[&str]) -> Output {
        ended(start(self.command(database, arguments), PASSPHRASE).await).await
    }

    /// Makes a backup and returns its file.
    pub async fn backup(&self, database: &TestDatabase, name: &str) -> PathBuf {
        let made = self
            .run(database, &["backup", name, "--passphrase-stdin"])
            .await;
        assert!(made.status.success(), "{}", said(&made.stderr));
        self.file(name)
    }

    pub async fn restore(&self, database: &TestDatabase, file: &Path) -> Output {
        let file = file.to_str().unwrap();
        self.run(database, &["restore", file, "--passphrase-stdin"])
            .await
    }
}

pub async fn start(mut command: Command, input: &str) -> Child {
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // It may end before it reads.
    let _ = stdin.write_all(format!("{input}\n").as_bytes()).await;
    child
}

pub async fn ended(child: Child) -> Output {
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
    output.expect("it did not end").unwrap()
}

pub fn said(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// It failed, with a sentence; the sentence.
#[track_caller]
pub fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", said(&output.stdout));
    assert_eq!(said(&output.stdout), "");
    said(&output.stderr)
}

pub async fn sql(database: &TestDatabase, sql: &str) {
    let mut admin = database.admin_options.connect().await.unwrap();
    admin
        .execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned())))
        .await
        .unwrap();
}

/// The one column of each row, as text.
pub async fn column(database: &TestDatabase, sql: &str) -> Vec<String> {
    let mut admin = database.admin_options.connect().await.unwrap();
    sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
        .fetch_all(&mut admin)
        .await
        .unwrap()
}

/// No table at all, as before a first start.
pub async fn emptied(database: &TestDatabase) {
    sql(
        database,
        "drop schema public cascade; create schema public authorization sealport_owner",
    )
    .await;
}
