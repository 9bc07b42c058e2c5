//! An installation of a test's own, with people in it.

use sealport::model::actors::{Actor, Caller, Origin, SignedInUser};
use sealport::model::deployments::{Binding, Bound, DeploymentSpec, ReleaseState};
use sealport::model::errors::{Refusal, RefusalKind};
use sealport::model::paths::{DeploymentName, EnvName, Handle, SecretPath};
use sealport::model::secrets::Kind;
use sealport::model::sources::{Runtime, Source, StartPlan, Transport};
use sealport::model::targets::Target;
use sealport::store::releases::ReleaseTask;
use sealport::store::secrets::{NewSecret, NewValue};
use sealport::store::{DatabaseConfig, Db, Error, KeySource};
use secrecy::SecretString;
use sqlx::{AssertSqlSafe, ConnectOptions, PgConnection};
use uuid::Uuid;

use crate::common::{self, TestDatabase};

pub struct World {
    pub db: Db,
    pub database: TestDatabase,
}

impl World {
    pub async fn new() -> World {
        let database = common::new_database().await;
        let config = DatabaseConfig::new(
            database.app_options.clone(),
            Some(database.owner_options.clone()),
        );
        let key = SecretString::from("42".repeat(32));
        let db = Db::open(config, KeySource::Variable(key)).await.unwrap();
        World { db, database }
    }

    pub async fn user(&self, handle: &str) -> Caller {
        let id = Uuid::now_v7();
        self.sql(&format!(
            "insert into owners (id, handle, kind) values ('{id}', '{handle}', 'user')"
        ))
        .await;
        self.sql(&format!(
            "insert into users (id, email, password_hash) values ('{id}', '{handle}@example.org', 'none')"
        ))
        .await;
        Caller {
            actor: Actor::User(SignedInUser {
                id,
                handle: handle.to_owned(),
                email: format!("{handle}@example.org"),
                is_admin: false,
            }),
            origin: Origin {
                address: Some("192.0.2.7".parse().unwrap()),
                agent: Some("a test".into()),
                request_id: None,
            },
        }
    }

    pub async fn secret(&self, caller: &Caller, path: &str, value: &str) -> Uuid {
        let new = NewSecret {
            owner: None,
            path: SecretPath::parse(path).unwrap(),
            value: NewValue::Typed(SecretString::from(value)),
            kind: Kind::ApiKey,
            description: String::new(),
            tags: Vec::new(),
            expires_at: None,
        };
        self.db.secret_create(caller, new).await.unwrap()
    }

    /// A deployment of the caller's, as just made.
    pub async fn deployment(
        &self,
        caller: &Caller,
        name: &str,
        bindings: Vec<Binding>,
    ) -> DeploymentName {
        self.db
            .deployment_create(caller, None, &spec(name, bindings))
            .await
            .unwrap()
    }

    /// One that runs with the newest values, as far as the store knows.
    pub async fn running(
        &self,
        caller: &Caller,
        name: &str,
        bindings: Vec<Binding>,
    ) -> DeploymentName {
        let name = self.deployment(caller, name, bindings).await;
        let task = self.claim(Uuid::now_v7()).await;
        let opened = self
            .db
            .bindings_open(task.deployment_id, task.owner_id, task.number);
        opened.await.unwrap();
        let ended = self.db.release_end(&task, ReleaseState::Live, None);
        ended.await.unwrap();
        name
    }

    /// Holds and claims the one queued release.
    pub async fn claim(&self, holder: Uuid) -> ReleaseTask {
        self.db.deployments_hold(holder, 60).await.unwrap();
        self.db.release_claim(holder).await.unwrap().unwrap()
    }

    /// Lets every hold lapse, as when a server was killed some time ago.
    pub async fn lapse(&self) {
        self.sql("set sealport.job = 'supervisor'; update deployments set held_until = now() - interval '1 second'")
            .await;
    }

    /// SQL as the superuser: what time or an intruder could do.
    pub async fn sql(&self, sql: &str) {
        let mut admin = self.admin().await;
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
            .execute(&mut admin)
            .await
            .unwrap();
    }

    pub async fn count(&self, from: &str) -> i64 {
        let mut admin = self.admin().await;
        sqlx::query_scalar(AssertSqlSafe(format!("select count(*) from {from}")))
            .fetch_one(&mut admin)
            .await
            .unwrap()
    }

    pub async fn text(&self, sql: &str) -> Option<String> {
        let mut admin = self.admin().await;
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
            .fetch_one(&mut admin)
            .await
            .unwrap()
    }

    /// The record, oldest first: actor's kind, action, outcome, reason.
    pub async fn record(&self, action: &str) -> Vec<(String, String, String)> {
        let mut admin = self.admin().await;
        sqlx::query_as(AssertSqlSafe(format!(
            "select actor_kind, outcome, coalesce(reason, '') from audit where action = '{action}' order by id"
        )))
        .fetch_all(&mut admin)
        .await
        .unwrap()
    }

    /// Every row of every table as text, as a dump would hold it.
    pub async fn dump(&self) -> String {
        let mut admin = self.admin().await;
        let tables: Vec<String> =
            sqlx::query_scalar("select tablename::text from pg_tables where schemaname = 'public'")
                .fetch_all(&mut admin)
                .await
                .unwrap();
        let mut dump = String::new();
        for table in tables {
            let rows: Vec<String> =
                sqlx::query_scalar(AssertSqlSafe(format!("select t::text from \"{table}\" t")))
                    .fetch_all(&mut admin)
                    .await
                    .unwrap();
            dump.push_str(&rows.join("\n"));
        }
        dump
    }

    pub async fn dump_of(&self, table: &str) -> Option<String> {
        self.text(&format!("select string_agg(t::text, E'\n') from {table} t"))
            .await
    }

    pub async fn admin(&self) -> PgConnection {
        self.database.admin_options.connect().await.unwrap()
    }
}

pub fn id(caller: &Caller) -> Uuid {
    caller.user().unwrap().id
}

/// The caller's own handle.
pub fn own(caller: &Caller) -> Handle {
    Handle::parse(&caller.user().unwrap().handle).unwrap()
}

pub fn spec(name: &str, bindings: Vec<Binding>) -> DeploymentSpec {
    DeploymentSpec {
        owner: None,
        name: DeploymentName::parse(name).unwrap(),
        source: Source::parse("npm:firecrawl-mcp@1.2.3").unwrap(),
        start: StartPlan {
            runtime: Runtime::Node,
            command: vec!["node_modules/.bin/firecrawl-mcp".into()],
            transport: Transport::Stdio,
            said_by: "package.json (bin)".into(),
            wants: Vec::new(),
        },
        target: Target::Local,
        options: Default::default(),
        provider_key: None,
        fetch_key: None,
        bindings,
    }
}

pub fn secret(env: &str, id: Uuid) -> Binding {
    Binding {
        env: EnvName::parse(env).unwrap(),
        to: Bound::Secret { id },
    }
}

pub fn text(env: &str, text: &str) -> Binding {
    Binding {
        env: EnvName::parse(env).unwrap(),
        to: Bound::Text { text: text.into() },
    }
}

/// Each caller brings it.
pub fn brought(env: &str) -> Binding {
    Binding {
        env: EnvName::parse(env).unwrap(),
        to: Bound::PerUser {
            description: format!("The {env} of whoever calls"),
        },
    }
}

/// The refusal that it ended with.
#[track_caller]
pub fn refusal<T>(result: Result<T, Error>) -> Refusal {
    match result {
        Err(Error::Refused(refusal)) => refusal,
        Err(broken) => panic!("broken: {broken:?}"),
        Ok(_) => panic!("it was allowed"),
    }
}

#[track_caller]
pub fn assert_refused<T>(result: Result<T, Error>, kind: RefusalKind, field: Option<&str>) {
    let refusal = refusal(result);
    assert_eq!(
        (refusal.kind, refusal.field.as_deref()),
        (kind, field),
        "{refusal}"
    );
}
