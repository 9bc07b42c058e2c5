//! Master keys and data keys. Callers name keys; they never carry them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use secrecy::SecretString;
use sqlx::{PgConnection, Postgres, Transaction};
use uuid::Uuid;

use super::key_source::{self, KeySource};
use super::keyring::{DataKey, MasterKey, SealError};
pub use super::keyring::{Place, Sealed};
use super::{Db, Error, Result};

/// An opened data key is forgotten this long after its opening.
const OPENED_MAX_AGE: Duration = Duration::from_secs(5 * 60);
/// Opened data keys that are remembered at once.
const OPENED_MAX: usize = 256;

/// The master keys, and the data keys opened lately.
pub(super) struct Keys {
    masters: Vec<MasterKey>,
    /// The fingerprint of the key that wraps new data keys.
    active: String,
    opened: Mutex<HashMap<Uuid, (Instant, Arc<DataKey>)>>,
}

impl Keys {
    /// Reads the master keys and proves them against the database; at the very first start makes what is missing.
    /// Runs in a transaction of the operator. Returns the key file when it was made now.
    pub(super) async fn establish(
        conn: &mut PgConnection,
        source: KeySource,
    ) -> Result<(Keys, Option<std::path::PathBuf>)> {
        // Two servers at their first start: one makes, the other then finds.
        sqlx::query!("select pg_advisory_xact_lock(hashtext('sealport.master_keys'))")
            .execute(&mut *conn)
            .await?;
        let known = sqlx::query!(
            r#"select fingerprint, canary, active,
                      (active or exists (select 1 from data_keys where master_key = fingerprint)
                              or exists (select 1 from chain_keys where master_key = fingerprint)) as "needed!"
               from master_keys order by created_at"#
        )
        .fetch_all(&mut *conn)
        .await?;
        let active = known.iter().find(|row| row.active);
        let (masters, made) = key_source::read(source, active.map(|row| row.fingerprint.as_str()))?;

        let active = match active {
            Some(row) => row.fingerprint.clone(),
            None => {
                let first = masters
                    .first()
                    .ok_or_else(|| Error::broken("there is no master key"))?;
                sqlx::query!(
                    "insert into master_keys (fingerprint, canary, active) values ($1, $2, true)",
                    first.fingerprint(),
                    first.canary().map_err(seal_failed)?
                )
                .execute(&mut *conn)
                .await?;
                first.fingerprint()
            }
        };
        for row in known.iter().filter(|row| row.needed) {
            let opens = masters
                .iter()
                .find(|key| key.fingerprint() == row.fingerprint)
                .is_some_and(|key| key.opens_canary(&row.canary));
            if !opens {
                return Err(Error::broken(format!(
                    "The master key is missing or wrong: secrets here are sealed with the key whose fingerprint is {}, \
                     and {}. Give that key in SEALPORT_MASTER_KEY or the key file (from your backup); several keys can stand \
                     there, separated by commas. A new key (`sealport key new`) cannot open what another one sealed.",
                    row.fingerprint,
                    key_source::describe(&masters)
                )));
            }
        }
        let keys = Keys {
            masters,
            active,
            opened: Mutex::default(),
        };
        Ok((keys, made))
    }

    /// The fingerprint of the active master key.
    pub(super) fn active_fingerprint(&self) -> &str {
        &self.active
    }

    pub(super) fn master(&self, fingerprint: &str) -> Result<&MasterKey> {
        self.masters
            .iter()
            .find(|key| key.fingerprint() == fingerprint)
            .ok_or_else(|| Error::broken(format!("the master key {fingerprint} is not here")))
    }

    fn remembered(&self, id: Uuid) -> Option<Arc<DataKey>> {
        self.forget_old(Instant::now());
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        opened.get(&id).map(|(_, key)| key.clone())
    }

    fn forget_old(&self, now: Instant) {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        opened.retain(|_, (since, _)| now.saturating_duration_since(*since) < OPENED_MAX_AGE);
    }

    fn remember(&self, key: DataKey) -> Arc<DataKey> {
        let key = Arc::new(key);
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if opened.len() >= OPENED_MAX {
            let oldest = opened.iter().min_by_key(|(_, (since, _))| *since);
            if let Some(id) = oldest.map(|(id, _)| *id) {
                opened.remove(&id);
            }
        }
        opened.insert(key.id, (Instant::now(), key.clone()));
        key
    }
}

impl Db {
    /// One round of forgetting: opened data keys past their age go, also when no other is asked for.
    pub fn keys_step(&self) {
        self.keys().forget_old(Instant::now());
    }

    /// Seals a value to its place with the owner's active data key, made on first need. Returns the data key's id too.
    pub(super) async fn seal(
        &self,
        tx: &mut Transaction<'_, Postgres>,
        place: Place,
        value: &SecretString,
    ) -> Result<(Uuid, Sealed)> {
        let key = self.active_data_key(tx, place.owner_id).await?;
        let sealed = key.seal(place, value).map_err(seal_failed)?;
        Ok((key.id, sealed))
    }

    /// Opens a value at its place. Errors: `Broken` when it does not open there.
    pub(super) async fn unseal(
        &self,
        tx: &mut Transaction<'_, Postgres>,
        place: Place,
        sealed: &Sealed,
    ) -> Result<SecretString> {
        let id = sealed
            .data_key_id()
            .ok_or_else(|| seal_failed(SealError::DoesNotOpen))?;
        let key = match self.keys().remembered(id) {
            Some(key) => key,
            None => {
                let row = sqlx::query!(
                    "select master_key, wrapped from data_keys where id = $1 and owner_id = $2",
                    id,
                    place.owner_id
                )
                .fetch_optional(&mut **tx)
                .await?
                .ok_or_else(|| seal_failed(SealError::DoesNotOpen))?;
                self.open_data_key(id, place.owner_id, &row.master_key, &row.wrapped)?
            }
        };
        key.open(place, sealed).map_err(seal_failed)
    }

    async fn active_data_key(
        &self,
        tx: &mut Transaction<'_, Postgres>,
        owner_id: Uuid,
    ) -> Result<Arc<DataKey>> {
        for _ in 0..2 {
            let row = sqlx::query!(
                "select id, master_key, wrapped from data_keys where owner_id = $1 and active",
                owner_id
            )
            .fetch_optional(&mut **tx)
            .await?;
            if let Some(row) = row {
                return match self.keys().remembered(row.id) {
                    Some(key) => Ok(key),
                    None => self.open_data_key(row.id, owner_id, &row.master_key, &row.wrapped),
                };
            }
            let made = DataKey::generate(Uuid::now_v7()).map_err(seal_failed)?;
            let fingerprint = self.keys().active_fingerprint();
            let wrapped = self
                .keys()
                .master(fingerprint)?
                .wrap(&made, owner_id)
                .map_err(seal_failed)?;
            // Waits for another who is making one; then theirs is found in the second round.
            sqlx::query!(
                "insert into data_keys (id, owner_id, master_key, wrapped) values ($1, $2, $3, $4)
                 on conflict do nothing",
                made.id,
                owner_id,
                fingerprint,
                wrapped
            )
            .execute(&mut **tx)
            .await?;
        }
        Err(Error::broken("a data key could not be made"))
    }

    fn open_data_key(
        &self,
        id: Uuid,
        owner_id: Uuid,
        master: &str,
        wrapped: &[u8],
    ) -> Result<Arc<DataKey>> {
        let key = self
            .keys()
            .master(master)?
            .unwrap(id, owner_id, wrapped)
            .map_err(seal_failed)?;
        Ok(self.keys().remember(key))
    }
}

pub(super) fn seal_failed(error: SealError) -> Error {
    Error::caused("a value could not be sealed or opened", error)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn an_opened_key_is_forgotten_in_time_though_none_is_asked_for() {
        let keys = Keys {
            masters: Vec::new(),
            active: String::new(),
            opened: Mutex::default(),
        };
        let here = || keys.opened.lock().unwrap().len();
        keys.remember(DataKey::generate(Uuid::now_v7()).unwrap());
        keys.forget_old(Instant::now() + OPENED_MAX_AGE - Duration::from_secs(1));
        assert_eq!(here(), 1);
        keys.forget_old(Instant::now() + OPENED_MAX_AGE);
        assert_eq!(here(), 0);
    }
}
