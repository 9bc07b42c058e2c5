//! Which servers are alive, and which master keys each of them was given.

use sqlx::{Postgres, Transaction};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Db, Error, Result};
use crate::model::actors::{Caller, Job};

/// A server that was not heard of for this long is taken to be gone. It says that it is there several times as often.
pub const SERVER_GONE_AFTER_SECS: i32 = 30;
/// When the row of a server that is gone is removed.
const ROW_MAX_AGE_SECS: i32 = 60 * 60;
/// The longest name that is kept, in characters.
const NAME_LEN_CHARS: usize = 200;
/// The most servers of one list.
const LIST_MAX: i64 = 200;

/// A server that is alive.
#[derive(Clone, Debug)]
pub struct Server {
    pub id: Uuid,
    /// The machine and the process.
    pub name: String,
    pub version: String,
    /// Fingerprints of the master keys that it was given.
    pub keys: Vec<String>,
    pub started_at: OffsetDateTime,
}

impl Db {
    /// Says that this server is there and which keys it knows, and learns which key is active. Errors: a sentence, when the active
    /// key is not here; a server then must not start, and one that runs opens less and less.
    pub async fn server_step(&self, name: &str) -> Result<()> {
        let mut tx = self.begin_as(&Caller::job(Job::Rotation)).await?;
        // Not while a key is made the active one: whoever did that has seen this server, or this server sees the new key.
        sqlx::query!("select pg_advisory_xact_lock_shared(hashtext('sealport.master_keys'))")
            .execute(&mut *tx)
            .await?;
        let name: String = name
            .chars()
            .filter(|c| !c.is_control())
            .take(NAME_LEN_CHARS)
            .collect();
        sqlx::query!(
            "insert into servers (id, name, version, keys) values ($1, $2, $3, $4)
             on conflict (id) do update set seen_at = now(), keys = excluded.keys",
            self.id(),
            name,
            env!("CARGO_PKG_VERSION"),
            &self.keys().fingerprints(),
        )
        .execute(&mut *tx)
        .await?;
        sqlx::query!(
            "delete from servers where seen_at < now() - make_interval(secs => $1)",
            f64::from(ROW_MAX_AGE_SECS)
        )
        .execute(&mut *tx)
        .await?;
        let active = sqlx::query_scalar!("select active_master_key()")
            .fetch_one(&mut *tx)
            .await?;
        tx.commit().await?;
        if let Some(active) = active {
            self.keys().set_active(active);
        }
        self.keys().check_active()
    }

    /// Says that this server is gone, at a normal stop.
    pub async fn server_leave(&self) -> Result<()> {
        let mut tx = self.begin_as(&Caller::job(Job::Rotation)).await?;
        sqlx::query!("delete from servers where id = $1", self.id())
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(())
    }
}

/// The servers that are alive, the oldest first.
pub(super) async fn alive(tx: &mut Transaction<'_, Postgres>) -> Result<Vec<Server>> {
    let servers = sqlx::query_as!(
        Server,
        "select id, name, version, keys, started_at from servers
         where seen_at > now() - make_interval(secs => $1) order by started_at, id limit $2",
        f64::from(SERVER_GONE_AFTER_SECS),
        LIST_MAX + 1
    )
    .fetch_all(&mut **tx)
    .await?;
    if servers.len() as i64 > LIST_MAX {
        return Err(Error::broken(format!(
            "more than {LIST_MAX} servers say that they are alive"
        )));
    }
    Ok(servers)
}
