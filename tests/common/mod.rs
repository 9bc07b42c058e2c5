//! What several test binaries share: one PostgreSQL a process, one migrated database a test.
//!
//! ```ignore
//! mod common;
//! let database = common::new_database().await;
//! let app = database.app_options.connect().await?;
//! ```

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout
)]

pub mod left_out;
pub mod programs;
pub mod serving;
pub mod waiting;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use sealport::store::data_dir::DataDir;
use sealport::store::embedded::{Embedded, Settings};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, raw_sql};
use tokio::sync::OnceCell;

/// A role that may log in, for tests of the mode with a single login role. It does not exist until
/// a test makes it.
pub const SINGLE_ROLE: &str = "sealport_single";

/// How the temporary directories of test clusters begin.
pub const CLUSTER_PREFIX: &str = "sealport-test-cluster-";

/// A database of a test's own: migrated, empty.
pub struct TestDatabase {
    pub name: String,
    /// Connects as `sealport_owner`, which is no superuser.
    pub owner_options: PgConnectOptions,
    /// Connects as `sealport_app`, a member of `sealport_server`.
    pub app_options: PgConnectOptions,
    /// Connects as the cluster's superuser, for what the test itself must see or break.
    pub admin_options: PgConnectOptions,
    /// As a `postgres://` URL for programs that take one, as `sealport_app`.
    pub app_url: String,
    /// The same as `sealport_owner`.
    pub owner_url: String,
}

/// The PostgreSQL of this test process.
pub struct TestCluster {
    embedded: Embedded,
    dir: PathBuf,
}

static CLUSTER: OnceCell<TestCluster> = OnceCell::const_new();
static DATABASES: AtomicU32 = AtomicU32::new(0);

/// A new database of the shared cluster.
pub async fn new_database() -> TestDatabase {
    TestCluster::shared().await.new_database().await
}

impl TestCluster {
    /// Starts the cluster at first use. It ends with the process, however that ends.
    pub async fn shared() -> &'static TestCluster {
        CLUSTER.get_or_init(TestCluster::start).await
    }

    /// Copies the migrated database.
    pub async fn new_database(&self) -> TestDatabase {
        let name = format!("test_{}", DATABASES.fetch_add(1, Ordering::Relaxed));
        let mut admin = self
            .embedded
            .admin_options("postgres")
            .connect()
            .await
            .unwrap();
        for statement in [
            format!("create database {name} owner sealport_owner template sealport"),
            format!("revoke all on database {name} from public"),
            format!("grant connect on database {name} to sealport_app"),
        ] {
            raw_sql(AssertSqlSafe(statement))
                .execute(&mut admin)
                .await
                .unwrap();
        }
        admin.close().await.unwrap();
        self.database(name)
    }

    /// The cluster's directory, which goes away with the process.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Connects as the cluster's superuser.
    pub fn admin_options(&self, database: &str) -> PgConnectOptions {
        self.embedded.admin_options(database)
    }

    /// As a `postgres://` URL for programs that take one.
    pub fn url(&self, role: &str, database: &str) -> String {
        let socket_dir = self.embedded.socket_dir().to_string_lossy().into_owned();
        let host: String = url::form_urlencoded::byte_serialize(socket_dir.as_bytes()).collect();
        format!("postgres://{role}@localhost/{database}?host={host}")
    }

    pub fn process_id(&self) -> i32 {
        self.embedded.process_id().unwrap()
    }

    fn database(&self, name: String) -> TestDatabase {
        TestDatabase {
            owner_options: self.embedded.options("sealport_owner", &name),
            app_options: self.embedded.options("sealport_app", &name),
            admin_options: self.embedded.admin_options(&name),
            app_url: self.url("sealport_app", &name),
            owner_url: self.url("sealport_owner", &name),
            name,
        }
    }

    /// A cluster of a test's own, for what is about all of it.
    pub async fn start() -> TestCluster {
        let dir = tempfile::Builder::new()
            .prefix(CLUSTER_PREFIX)
            .permissions(Permissions::from_mode(0o711))
            .tempdir()
            .unwrap()
            // Statics are never dropped: the reaper removes it.
            .keep();
        let data = DataDir::open(&dir.join("data")).unwrap();
        spawn_reaper(&dir, &data);
        // Not supervised: the supervisor would end with the runtime of the first test.
        let embedded = Embedded::attach_or_start_with(
            &data,
            &Settings {
                durable: false,
                login_roles: vec![SINGLE_ROLE.to_owned()],
                ..Settings::default()
            },
        )
        .await
        .unwrap();
        let mut owner = embedded.owner_options().connect().await.unwrap();
        // As the owner, which is no superuser: a back-fill that sees no rows must be noticed here.
        sqlx::migrate!().run(&mut owner).await.unwrap();
        owner.close().await.unwrap();
        TestCluster { embedded, dir }
    }
}

/// A process that waits for the end of this one, on a pipe that closes even with `kill -9`, and
/// then ends PostgreSQL and removes its files.
#[allow(clippy::zombie_processes)] // It outlives this process, so there is nothing to wait for.
fn spawn_reaper(dir: &Path, data: &DataDir) {
    let script = r#"
        trap '' INT HUP TERM
        read -r _
        read -r pid 2>/dev/null < "$2/data/postmaster.pid"
        if [ -n "$pid" ]; then
            kill -QUIT "$pid" 2>/dev/null
            while kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
        fi
        rm -rf "$1"
    "#;
    let mut reaper = Command::new("sh")
        .args(["-c", script, "reaper"])
        .arg(dir)
        .arg(data.postgres_dir())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .current_dir("/")
        .process_group(0)
        .spawn()
        .unwrap();
    // The pipe stays open for as long as this process lives, and the reaper lives longer.
    std::mem::forget(reaper.stdin.take());
}
