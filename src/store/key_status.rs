//! Where all keys stand: which there are, what hangs on each, and which servers know them.

use time::OffsetDateTime;

use super::servers::{self, Server};
use super::{Db, Result};
use crate::model::actors::{Caller, Job};

/// A master key as the database knows it.
#[derive(Clone, Debug)]
pub struct MasterKeyStatus {
    pub fingerprint: String,
    /// `staged`, `active` or `retiring`.
    pub state: String,
    /// Whether it was given here.
    pub known_here: bool,
    /// The data keys that it wraps.
    pub data_keys: i64,
    pub since: OffsetDateTime,
}

/// Where all keys stand.
#[derive(Clone, Debug)]
pub struct KeysStatus {
    pub masters: Vec<MasterKeyStatus>,
    /// The keys that were retired last, the latest first: only backups hang on them.
    pub retired: Vec<(String, OffsetDateTime)>,
    /// Keys that were given here and that the database does not know.
    pub new_here: Vec<String>,
    pub oldest_data_key: Option<OffsetDateTime>,
    /// Data keys that have a successor and are not gone yet.
    pub former_data_keys: i64,
    /// Versions that a former data key sealed.
    pub versions_waiting: i64,
    /// The age at which a data key gets a successor; none: never.
    pub data_key_max_age_days: Option<i32>,
    pub servers: Vec<Server>,
}

impl Db {
    /// Where all keys stand, for the operator.
    pub async fn keys_status(&self) -> Result<KeysStatus> {
        let mut tx = self.begin_as(&Caller::job(Job::Operator)).await?;
        let masters: Vec<MasterKeyStatus> = sqlx::query!(
            r#"select m.fingerprint, m.state, coalesce(m.promoted_at, m.created_at) as "since!",
                      (select count(*) from data_keys d where d.master_key = m.fingerprint) as "data_keys!"
               from master_keys m order by m.created_at"#
        )
        .fetch_all(&mut *tx)
        .await?
        .into_iter()
        .map(|row| MasterKeyStatus {
            known_here: self.keys().knows(&row.fingerprint),
            fingerprint: row.fingerprint,
            state: row.state,
            data_keys: row.data_keys,
            since: row.since,
        })
        .collect();
        let retired = sqlx::query!(
            "select fingerprint, retired_at from retired_master_keys order by retired_at desc limit 20"
        )
        .fetch_all(&mut *tx)
        .await?;
        let retired_here = sqlx::query_scalar!(
            "select fingerprint from retired_master_keys where fingerprint = any($1)",
            &self.keys().fingerprints()
        )
        .fetch_all(&mut *tx)
        .await?;
        let data_keys = sqlx::query!(
            r#"select min(created_at) as oldest, count(*) filter (where not active) as "former!" from data_keys"#
        )
        .fetch_one(&mut *tx)
        .await?;
        let servers = servers::alive(&mut tx).await?;
        tx.commit().await?;
        let data = self.data_keys_schedule().await?;
        Ok(KeysStatus {
            new_here: self
                .keys()
                .fingerprints()
                .into_iter()
                .filter(|key| {
                    !masters.iter().any(|row| row.fingerprint == *key)
                        && !retired_here.contains(key)
                })
                .collect(),
            masters,
            retired: retired
                .into_iter()
                .map(|row| (row.fingerprint, row.retired_at))
                .collect(),
            oldest_data_key: data_keys.oldest,
            former_data_keys: data_keys.former,
            versions_waiting: data.versions_waiting,
            data_key_max_age_days: data.max_age_days,
            servers,
        })
    }
}
