//! The session store: rows keyed by the SHA-256 of the session id, so that a dump signs nobody in.

use std::collections::HashMap;

use async_trait::async_trait;
use serde_json::Value;
use sha2::{Digest, Sha256};
use sqlx::types::Json;
use sqlx::{Postgres, Transaction};
use time::{Duration, OffsetDateTime};
use tower_sessions::SessionStore;
use tower_sessions::session::{Id, Record};
use tower_sessions::session_store;
use uuid::Uuid;

use super::audit::{self, Entry};
use super::deployments::person;
use super::limits::Noted;
use super::sign_in::place_name;
use super::{Db, Error, Result};
use crate::model::actors::{Actor, Caller, Origin, Presented};
use crate::model::audit::Action;
use crate::model::errors::Refusal;
use crate::model::users::OpenSession;

/// A session that nobody used for so long is over.
pub const SESSION_IDLE_DAYS: i64 = 14;
/// A session of nobody holds one form's errors until the form is shown again.
const ANONYMOUS_IDLE_MINUTES: i64 = 15;

/// Where axum-login keeps who is signed in (its default `data_key`).
const SIGNED_IN_KEY: &str = "axum-login.data";
/// How often another id is drawn when one is in use: with 128 random bits, never.
const ID_TRIES: usize = 3;
/// Where a session keeps where it was begun: `address` and `agent`.
pub const BEGUN_KEY: &str = "begun";
/// The most sessions of one list.
const SESSIONS_LISTED: i64 = 200;

/// What tower-sessions keeps its sessions in.
#[derive(Clone, Debug)]
pub struct Sessions(pub Db);

/// The SHA-256 of a session id in hex: what stands in the database, and what `password_change` keeps.
pub fn id_hash(id: &Id) -> String {
    hex::encode(Sha256::digest(id.0.to_le_bytes()))
}

impl Db {
    /// Whether a session may be made for somebody who is not signed in: each is a row, so in each minute an address gets some.
    pub fn may_begin_anonymous_session(&self, origin: &Origin) -> bool {
        let noted = self.floods().of_stranger("session", &place_name(origin));
        noted != Noted::Passed
    }

    /// Whether the session is still the caller's: it was not ended meanwhile, and neither was the account.
    pub async fn session_lasts(&self, caller: &Caller, id: &Id) -> Result<bool> {
        let mut tx = self.begin_as(caller).await?;
        let lasts = sqlx::query_scalar!(
            r#"select exists (select 1 from sessions s join users u on u.id = s.user_id
                      where s.id_hash = $1 and s.user_id = current_actor() and s.expires_at > now()
                        and u.ended_at is null) as "lasts!""#,
            id_hash(id)
        )
        .fetch_one(&mut *tx)
        .await?;
        Ok(lasts)
    }
}

impl Db {
    /// The caller's own sessions, the one used last first. `here` is the one that asks.
    pub async fn sessions_list(&self, caller: &Caller, here: &Id) -> Result<Vec<OpenSession>> {
        person(caller)?;
        let mut tx = self.begin_as(caller).await?;
        let open = sqlx::query_as!(
            OpenSession,
            r#"select id, data #>> '{begun,address}' as address, data #>> '{begun,agent}' as agent, created_at, last_seen,
                      id_hash = $1 as "here!"
               from sessions where user_id = current_actor() and expires_at > now()
               order by id_hash = $1 desc, last_seen desc, id limit $2"#,
            id_hash(here),
            SESSIONS_LISTED
        )
        .fetch_all(&mut *tx)
        .await?;
        Ok(open)
    }

    /// Ends one of the caller's sessions. Errors: `NotFound`.
    pub async fn session_end(&self, caller: &Caller, id: Uuid) -> Result<()> {
        person(caller)?;
        let mut tx = self.begin_as(caller).await?;
        let ended = sqlx::query!(
            "delete from sessions where id = $1 and user_id = current_actor()",
            id
        )
        .execute(&mut *tx)
        .await?;
        if ended.rows_affected() != 1 {
            return Err(Refusal::not_found("session").into());
        }
        self.sessions_ended(tx, caller, "one session").await
    }

    /// Ends all of the caller's sessions but the one that asks.
    pub async fn sessions_end_others(&self, caller: &Caller, here: &Id) -> Result<()> {
        person(caller)?;
        let mut tx = self.begin_as(caller).await?;
        sqlx::query!(
            "delete from sessions where user_id = current_actor() and id_hash <> $1",
            id_hash(here)
        )
        .execute(&mut *tx)
        .await?;
        self.sessions_ended(tx, caller, "all other sessions").await
    }

    async fn sessions_ended(
        &self,
        mut tx: Transaction<'static, Postgres>,
        caller: &Caller,
        which: &'static str,
    ) -> Result<()> {
        let entry = Entry {
            owner_id: caller.user().map(|user| user.id),
            reason: Some(which),
            ..Entry::of(Action::SessionEnd)
        };
        audit::record(&mut tx, caller, entry).await?;
        tx.commit().await?;
        Ok(())
    }
}

#[async_trait]
impl SessionStore for Sessions {
    async fn create(&self, record: &mut Record) -> session_store::Result<()> {
        for _ in 0..ID_TRIES {
            if self.insert(record).await.map_err(told)? {
                return Ok(());
            }
            record.id = Id::default();
        }
        Err(session_store::Error::Backend(
            "no free session id was found".into(),
        ))
    }

    async fn save(&self, record: &Record) -> session_store::Result<()> {
        self.update(record).await.map_err(told)
    }

    async fn load(&self, session_id: &Id) -> session_store::Result<Option<Record>> {
        self.select(session_id).await.map_err(told)
    }

    async fn delete(&self, session_id: &Id) -> session_store::Result<()> {
        self.remove(session_id).await.map_err(told)
    }
}

impl Sessions {
    async fn insert(&self, record: &Record) -> Result<bool> {
        let hash = id_hash(&record.id);
        let mut tx = self.0.begin_as(&presenting(&hash)).await?;
        let made = sqlx::query!(
            "insert into sessions (id_hash, user_id, data, expires_at) values ($1, $2, $3, $4) on conflict do nothing",
            hash,
            signed_in(record),
            Json(&record.data) as _,
            expiry(record)
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(made.rows_affected() == 1)
    }

    /// Changes a session that is there. One that was signed out meanwhile stays gone: a request that began before
    /// does not bring it back.
    async fn update(&self, record: &Record) -> Result<()> {
        let hash = id_hash(&record.id);
        let mut tx = self.0.begin_as(&presenting(&hash)).await?;
        sqlx::query!(
            "update sessions set user_id = $2, data = $3, expires_at = $4 where id_hash = $1",
            hash,
            signed_in(record),
            Json(&record.data) as _,
            expiry(record)
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }

    async fn select(&self, id: &Id) -> Result<Option<Record>> {
        let hash = id_hash(id);
        let mut tx = self.0.begin_as(&presenting(&hash)).await?;
        let row = sqlx::query!(
            r#"select data as "data: Json<HashMap<String, Value>>", expires_at,
                      user_id is not null and last_seen < now() - interval '1 minute' as "unseen!"
               from sessions where id_hash = $1 and expires_at > now()"#,
            hash
        )
        .fetch_optional(&mut *tx)
        .await?;
        // Once a minute is often enough to tell whether a session is in use.
        if row.as_ref().is_some_and(|row| row.unseen) {
            sqlx::query!(
                "update sessions set last_seen = now() where id_hash = $1",
                hash
            )
            .execute(&mut *tx)
            .await?;
            tx.commit().await?;
        }
        Ok(row.map(|row| Record {
            id: *id,
            data: row.data.0,
            expiry_date: row.expires_at,
        }))
    }

    async fn remove(&self, id: &Id) -> Result<()> {
        let hash = id_hash(id);
        let mut tx = self.0.begin_as(&presenting(&hash)).await?;
        sqlx::query!("delete from sessions where id_hash = $1", hash)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(())
    }
}

/// Who is signed in, so that a change of the password can end the sessions.
fn signed_in(record: &Record) -> Option<Uuid> {
    let id = record.data.get(SIGNED_IN_KEY)?.get("user_id")?.as_str()?;
    Uuid::parse_str(id).ok()
}

fn expiry(record: &Record) -> OffsetDateTime {
    let idle = match signed_in(record) {
        Some(_) => Duration::days(SESSION_IDLE_DAYS),
        None => Duration::minutes(ANONYMOUS_IDLE_MINUTES),
    };
    let latest = OffsetDateTime::now_utc() + idle;
    record.expiry_date.min(latest)
}

fn presenting(hash: &str) -> Caller {
    Caller {
        actor: Actor::Anonymous(Presented::Hash(hash.to_owned())),
        origin: Origin::default(),
    }
}

/// The cause goes to the log; the session's layer hears only that it failed.
fn told(error: Error) -> session_store::Error {
    session_store::Error::Backend(error.into_refusal().detail)
}
