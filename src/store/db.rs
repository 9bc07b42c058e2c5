//! The way into the database. A transaction knows its actor: there is no other entrance.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, Executor, PgConnection, PgPool, Postgres, Transaction};
use uuid::Uuid;

use super::api_tokens;
use super::audit::{self, Entry};
use super::gateway::GatewayQuestion;
pub use super::key_source::{KeySource, new_key};
use super::keys::Keys;
use super::limits::{Floods, Turns};
use super::queues::Queues;
use super::sealer::LastSeen;
use super::secret_read::ReadQuestion;
use super::{Error, Result, passwords::Passwords, roles, steps};
use crate::model::actors::{Actor, Caller, Job, Presented};
use crate::model::audit::Action;

/// How long a request waits for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections of one server for requests, unless told otherwise.
const MAX_CONNECTIONS: u32 = 10;
/// Those for work in the background: however many requests wait, the hold on deployments is renewed and the record sealed.
const JOB_CONNECTIONS: u32 = 4;

/// Where the database is, and who logs in.
#[derive(Clone)]
pub struct DatabaseConfig {
    /// The login of requests; it becomes the role sealport_server.
    pub app: PgConnectOptions,
    /// The login that owns the tables and migrates; absent: `app`, and Row Level Security then guards only against our own bugs.
    pub owner: Option<PgConnectOptions>,
    pub max_connections: u32,
}

/// The login that owns the tables: for what an operator does that the server may not.
pub struct OwnerLogin(pub(super) PgConnectOptions);

impl DatabaseConfig {
    pub fn owner_login(&self) -> OwnerLogin {
        OwnerLogin(self.owner.as_ref().unwrap_or(&self.app).clone())
    }

    pub fn new(app: PgConnectOptions, owner: Option<PgConnectOptions>) -> Self {
        DatabaseConfig {
            app: app.application_name("sealport"),
            owner: owner.map(|owner| owner.application_name("sealport")),
            max_connections: MAX_CONNECTIONS,
        }
    }

    /// From `DATABASE_URL` and `DATABASE_OWNER_URL`. Errors name the variable; they never quote it, for it can hold a password.
    pub fn from_urls(app: &str, owner: Option<&str>) -> Result<Self> {
        let parse = |name: &str, url: &str| {
            PgConnectOptions::from_str(url).map_err(|_| {
                Error::broken(format!(
                    "{name} is no address of a PostgreSQL database. It looks like postgres://user:password@host:5432/name."
                ))
            })
        };
        Ok(DatabaseConfig::new(
            parse("DATABASE_URL", app)?,
            owner
                .map(|url| parse("DATABASE_OWNER_URL", url))
                .transpose()?,
        ))
    }
}

/// How strongly the database guards against the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Requests log in as one that cannot become the tables' owner. Injected SQL could still name any actor.
    TwoLogins,
    /// One login owns the tables and serves requests: injected SQL could also lift the policies and rewrite the record.
    SingleLogin,
}

impl Mode {
    /// What an operator should know of it.
    pub fn sentence(self) -> &'static str {
        match self {
            Mode::TwoLogins => {
                "two logins. The server's own can neither lift Row Level Security nor change the record."
            }
            Mode::SingleLogin => {
                "one login, which owns the tables: whoever manages to inject SQL could lift Row Level Security and \
                 change the record. DATABASE_OWNER_URL makes it two."
            }
        }
    }
}

/// Who opens the store, and so what of it may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// A server that starts: whatever is missing is made, and the tables are brought to the newest step.
    Server,
    /// A command that may be the first there is: an empty database is filled, and any other left at its step.
    FirstCommand,
    /// Any other command: neither tables nor a key are made. A server of another version may be using them.
    Command,
}

/// The store: a pool of connections as the bound role, and the keys. Cheap to clone.
#[derive(Clone)]
pub struct Db {
    inner: Arc<Inner>,
}

struct Inner {
    pool: PgPool,
    job_pool: PgPool,
    keys: Keys,
    passwords: Passwords,
    floods: Floods,
    turns: Turns,
    read_queues: Queues<ReadQuestion>,
    gateway_queues: Queues<GatewayQuestion>,
    last_seen: LastSeen,
    mode: Mode,
    new_key_file: Option<PathBuf>,
    /// New with each opening: names this server, or this command, to the others.
    id: Uuid,
}

impl fmt::Debug for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Db")
            .field("mode", &self.inner.mode)
            .finish_non_exhaustive()
    }
}

impl Db {
    /// Opens it as a server does that starts. Safe when two start at once.
    pub async fn open(config: DatabaseConfig, source: KeySource) -> Result<Db> {
        Db::open_for(Opening::Server, config, source).await
    }

    /// Makes what is missing and may be made, proves that requests are bound by Row Level Security, and proves the master key.
    /// Errors: a sentence that says why the server must not start, or the command not run.
    pub async fn open_for(
        opening: Opening,
        config: DatabaseConfig,
        source: KeySource,
    ) -> Result<Db> {
        let owner = config.owner.as_ref().unwrap_or(&config.app);
        let mut conn = roles::connect(owner).await?;
        let prepared: Result<()> = async {
            let migrates = migrates(opening, &mut conn).await?;
            roles::prepare(&mut conn, config.app.get_username()).await?;
            if migrates {
                steps::migrate_to(&mut conn, None).await?;
            }
            Ok(())
        }
        .await;
        roles::close(conn).await;
        prepared?;

        // Tried by a plain login first: the pool would hide the reason behind a timeout.
        roles::close(roles::connect(&config.app).await?).await;
        let pool = pool(&config).await?;
        let job_pool = job_pool(&config);
        let mode = {
            #[allow(clippy::disallowed_methods)]
            // Looks at roles and policies only, before anyone acts.
            let mut conn = pool.acquire().await?;
            roles::prove_bound(&mut conn).await?
        };
        let operator = Caller::job(Job::Operator);
        let mut tx = begin(&pool, &operator).await?;
        if opening == Opening::Command {
            keyed(&mut tx).await?;
        }
        let (keys, new_key_file) = Keys::establish(&mut tx, source).await?;
        if new_key_file.is_some() {
            audit::record(&mut tx, &operator, Entry::of(Action::KeyCreate)).await?;
        }
        tx.commit().await?;
        Ok(Db::of(pool, job_pool, keys, mode, new_key_file))
    }

    /// For looking without changing anything: the keys come from `keys`, in a transaction of the operator.
    pub(super) async fn look_at<F>(
        config: &DatabaseConfig,
        mode: Mode,
        keys: impl FnOnce(Transaction<'static, Postgres>) -> F,
    ) -> Result<Db>
    where
        F: Future<Output = Result<Keys>>,
    {
        let pool = pool(config).await?;
        let tx = begin(&pool, &Caller::job(Job::Operator)).await?;
        let job_pool = job_pool(config);
        Ok(Db::of(pool, job_pool, keys(tx).await?, mode, None))
    }

    fn of(
        pool: PgPool,
        job_pool: PgPool,
        keys: Keys,
        mode: Mode,
        new_key_file: Option<PathBuf>,
    ) -> Db {
        Db {
            inner: Arc::new(Inner {
                pool,
                job_pool,
                keys,
                passwords: Passwords::new(),
                floods: Floods::default(),
                turns: Turns::default(),
                read_queues: Queues::default(),
                gateway_queues: Queues::default(),
                last_seen: LastSeen::default(),
                mode,
                new_key_file,
                id: Uuid::now_v7(),
            }),
        }
    }

    pub fn mode(&self) -> Mode {
        self.inner.mode
    }

    /// The key file, if this start made it: whoever started the server is told, loudly, to back it up.
    pub fn new_key_file(&self) -> Option<&Path> {
        self.inner.new_key_file.as_deref()
    }

    /// The fingerprint of the master key in use: names it, says nothing of it.
    pub fn key_fingerprint(&self) -> String {
        self.inner.keys.active_fingerprint()
    }

    /// Whether the database answers the bound role now, and the active master key is here.
    pub async fn ready(&self) -> Result<()> {
        let mut tx = self
            .begin_as(&Caller {
                actor: Actor::Anonymous(Presented::Nothing),
                origin: Default::default(),
            })
            .await?;
        let role = sqlx::query_scalar!(r#"select current_user::text as "role!""#)
            .fetch_one(&mut *tx)
            .await?;
        if role != "sealport_server" {
            return Err(Error::broken("the database role is not sealport_server"));
        }
        self.inner.keys.check_active()
    }

    /// Waits for running statements and closes all connections, at a normal stop.
    pub async fn close(&self) {
        self.inner.pool.close().await;
        self.inner.job_pool.close().await;
    }

    /// For functions that check a credential and set the actor within their one statement; nothing else goes past `begin_as`.
    pub(super) fn pool(&self) -> &PgPool {
        &self.inner.pool
    }

    pub(super) fn id(&self) -> Uuid {
        self.inner.id
    }

    pub(super) fn keys(&self) -> &Keys {
        &self.inner.keys
    }

    pub(super) fn passwords(&self) -> &Passwords {
        &self.inner.passwords
    }

    pub(super) fn turns(&self) -> &Turns {
        &self.inner.turns
    }

    pub(super) fn read_queues(&self) -> &Queues<ReadQuestion> {
        &self.inner.read_queues
    }

    pub(super) fn gateway_queues(&self) -> &Queues<GatewayQuestion> {
        &self.inner.gateway_queues
    }

    pub(super) fn last_seen(&self) -> &LastSeen {
        &self.inner.last_seen
    }

    pub(super) fn floods(&self) -> &Floods {
        &self.inner.floods
    }

    /// A transaction in which the actor is known to the database, so that Row Level Security holds.
    pub(super) async fn begin_as(&self, caller: &Caller) -> Result<Transaction<'static, Postgres>> {
        let pool = match caller.actor {
            Actor::Job(job) if job.is_in_background() => &self.inner.job_pool,
            _ => &self.inner.pool,
        };
        begin(pool, caller).await
    }
}

/// The row of a token that is shown, checked; the transaction acts by it from then on.
async fn enter_by_token(tx: &mut Transaction<'_, Postgres>, hash: &str) -> Result<()> {
    match api_tokens::enter(tx, hash).await?.refused {
        None => Ok(()),
        Some(_) => Err(api_tokens::refused()),
    }
}

/// Whether the tables are made or brought forward now. Errors: they are of another step, which this opening leaves as it is.
async fn migrates(opening: Opening, owner: &mut PgConnection) -> Result<bool> {
    if opening == Opening::Server {
        return Ok(true);
    }
    match steps::step_of(owner).await? {
        None if opening == Opening::FirstCommand => Ok(true),
        step => match steps::fits(step) {
            Ok(_) => Ok(false),
            Err(why) => Err(Error::broken(format!("The database {why}"))),
        },
    }
}

/// Errors: there is no master key in use, so that one would be made.
async fn keyed(tx: &mut Transaction<'_, Postgres>) -> Result<()> {
    let known = sqlx::query!("select fingerprint, state from master_keys")
        .fetch_all(&mut **tx)
        .await?;
    if known.iter().any(|key| key.state == "active") {
        return Ok(());
    }
    Err(Error::broken(
        "The database has no master key yet: no server has started on it. Start `sealport serve`, which makes one.",
    ))
}

async fn begin(pool: &PgPool, caller: &Caller) -> Result<Transaction<'static, Postgres>> {
    let (actor, job, presented) = match &caller.actor {
        Actor::User(user) => (Some(user.id), None, None),
        Actor::Token(token) => (None, None, Some(token.hash.as_str())),
        Actor::Deployment { owner_id, .. } => (Some(*owner_id), None, None),
        Actor::Job(job) => (None, Some(*job), None),
        Actor::Anonymous(shown) => match shown {
            Presented::Nothing => (None, None, None),
            Presented::Email(text) | Presented::Hash(text) => (None, None, Some(text.as_str())),
        },
    };
    // Sent with `begin` in one round trip. Ids, our own words and hashes cannot end the quotes; anything else goes as a parameter.
    let (inline, bound) = match presented {
        Some(text) if text.bytes().all(|b| b.is_ascii_hexdigit()) => (text, None),
        Some(text) => ("", Some(text)),
        None => ("", None),
    };
    let begin = format!(
        "begin; set local sealport.actor = '{}'; set local sealport.job = '{}'; set local sealport.presented = '{inline}'",
        actor.map(|id| id.to_string()).unwrap_or_default(),
        job.map(Job::as_str).unwrap_or_default(),
    );
    let mut tx = begin_on_a_live_connection(pool, begin).await?;
    if let Some(text) = bound {
        sqlx::query!("select set_config('sealport.presented', $1, true)", text)
            .fetch_one(&mut *tx)
            .await?;
    }
    if let Actor::Token(token) = &caller.actor {
        enter_by_token(&mut tx, &token.hash).await?;
    }
    Ok(tx)
}

/// Connections are not pinged before use; one that died meanwhile shows here, where nothing has been done yet.
#[allow(clippy::disallowed_methods)] // The one place that may.
async fn begin_on_a_live_connection(
    pool: &PgPool,
    begin: String,
) -> Result<Transaction<'static, Postgres>> {
    let mut tries = pool.options().get_max_connections();
    loop {
        let (pool, begin) = (pool.clone(), begin.clone());
        // Whoever asked may be gone before it has begun: a page is left, a client hangs up. sqlx knows of no transaction then, and
        // would give the connection back with one open, in which the next statement is neither committed nor its locks let go.
        // Begun apart, it is there to the end, and rolled back when nobody takes it.
        let begun = tokio::spawn(async move { pool.begin_with(AssertSqlSafe(begin)).await });
        let begun = begun
            .await
            .map_err(|error| Error::caused("a transaction was not begun", error))?;
        match begun {
            Ok(tx) => return Ok(tx),
            Err(error) if tries > 0 && is_lost_connection(&error) => tries -= 1,
            Err(error) => return Err(error.into()),
        }
    }
}

impl Db {
    /// Asks one statement, which is a transaction of its own. Connections are not pinged before use: one that died meanwhile shows
    /// here, and another is taken.
    pub(super) async fn on_a_live_connection<T, F>(&self, ask: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = Result<T, sqlx::Error>>,
    {
        let mut tries = self.pool().options().get_max_connections();
        loop {
            match ask().await {
                Err(error) if tries > 0 && is_lost_connection(&error) => tries -= 1,
                other => return Ok(other?),
            }
        }
    }
}

/// For proving something without changing anything: no migrations, no keys, and a transaction that can only read. With its pool,
/// to be closed after it.
pub(super) async fn begin_to_read(
    config: &DatabaseConfig,
    caller: &Caller,
) -> Result<(PgPool, Transaction<'static, Postgres>)> {
    roles::close(roles::connect(&config.app).await?).await;
    let pool = pool(config).await?;
    let mut tx = begin(&pool, caller).await?;
    sqlx::query!("set transaction read only")
        .execute(&mut *tx)
        .await?;
    Ok((pool, tx))
}

pub(super) fn is_lost_connection(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) => true,
        // Terminated by an administrator, or the server is shutting down.
        sqlx::Error::Database(error) => {
            matches!(error.code().as_deref(), Some("57P01" | "57P02"))
        }
        _ => false,
    }
}

async fn pool(config: &DatabaseConfig) -> Result<PgPool> {
    bound(config.max_connections)
        .connect_with(config.app.clone())
        .await
        .map_err(|error| {
            Error::caused(
                "The database login could not become the role sealport_server.",
                error,
            )
        })
}

/// Connects when it is first used: a command that runs nothing in the background never does.
fn job_pool(config: &DatabaseConfig) -> PgPool {
    bound(JOB_CONNECTIONS).connect_lazy_with(config.app.clone())
}

/// Connections as the role that Row Level Security binds.
fn bound(max_connections: u32) -> PgPoolOptions {
    PgPoolOptions::new()
        .max_connections(max_connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .test_before_acquire(false)
        .after_connect(|conn, _| {
            Box::pin(async move {
                conn.execute(
                    "set role sealport_server; set statement_timeout = '15s'; set lock_timeout = '10s'; \
                     set idle_in_transaction_session_timeout = '30s'",
                )
                .await?;
                Ok(())
            })
        })
}

/// For tests of what the bound role can do by SQL alone: a transaction as any caller.
#[doc(hidden)]
pub async fn begin_for_tests(db: &Db, caller: &Caller) -> Result<Transaction<'static, Postgres>> {
    db.begin_as(caller).await
}
