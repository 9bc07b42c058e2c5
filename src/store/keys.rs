//! Master keys and data keys. Callers name keys; they never carry them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use secrecy::SecretString;
use sqlx::{PgConnection, Postgres, Transaction};
use uuid::Uuid;

use super::key_source::{self, KeySource};
use super::keyring::{DataKey, ImportPlace, MasterKey, SealError};
pub use super::keyring::{Place, Sealed};
use super::{Db, Error, Result, damage};

/// An opened data key is forgotten this long after its opening.
const OPENED_MAX_AGE: Duration = Duration::from_secs(5 * 60);
/// Opened data keys that are remembered at once.
const OPENED_MAX: usize = 256;
/// How often making a data key is tried when others make one, or the master key changes, at the same time.
const DATA_KEY_TRIES: usize = 4;

/// The master keys, and the data keys opened lately.
pub(super) struct Keys {
    masters: Vec<MasterKey>,
    /// The fingerprint of the key that wraps what is new, as the database named it last. It can change while servers run, so
    /// whoever wraps something asks the database in the same statement.
    active: RwLock<String>,
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
            r#"select fingerprint, canary, state,
                      (state = 'active' or exists (select 1 from data_keys where master_key = fingerprint)
                                          or exists (select 1 from chain_keys where master_key = fingerprint)
                                          or exists (select 1 from gateway_keys where master_key = fingerprint)) as "needed!"
               from master_keys order by created_at"#
        )
        .fetch_all(&mut *conn)
        .await?;
        let active = known.iter().find(|row| row.state == "active");
        let (masters, made) = key_source::read(source, active.map(|row| row.fingerprint.as_str()))?;

        let active = match active {
            Some(row) => row.fingerprint.clone(),
            None => {
                let first = masters
                    .first()
                    .ok_or_else(|| Error::broken("there is no master key"))?;
                sqlx::query!(
                    "insert into master_keys (fingerprint, canary, state, promoted_at) values ($1, $2, 'active', now())",
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
                let given: Vec<String> = masters.iter().map(MasterKey::fingerprint).collect();
                let retired = sqlx::query_scalar!(
                    "select fingerprint from retired_master_keys where fingerprint = any($1)",
                    &given
                )
                .fetch_all(&mut *conn)
                .await?;
                let retired = match retired.as_slice() {
                    [] => String::new(),
                    keys => format!(
                        " Retired here by `sealport key rotate`: {}.",
                        keys.join(", ")
                    ),
                };
                return Err(Error::broken(format!(
                    "The master key is missing or wrong: secrets here are sealed with the key whose fingerprint is {}, \
                     and {}. Give that key in SEALPORT_MASTER_KEY or the key file (from your backup); several keys can stand \
                     there, separated by commas. A new key (`sealport key new`) cannot open what another one sealed.{retired}",
                    row.fingerprint,
                    key_source::describe(&masters)
                )));
            }
        }
        let keys = Keys {
            masters,
            active: RwLock::new(active),
            opened: Mutex::default(),
        };
        Ok((keys, made))
    }

    /// The fingerprint of the active master key, as last heard of.
    pub(super) fn active_fingerprint(&self) -> String {
        self.active
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn set_active(&self, fingerprint: String) {
        *self.active.write().unwrap_or_else(PoisonError::into_inner) = fingerprint;
    }

    /// Errors: a sentence, when the key that wraps what is new became one that was not given here.
    pub(super) fn check_active(&self) -> Result<()> {
        let active = self.active_fingerprint();
        if self.knows(&active) {
            return Ok(());
        }
        Err(Error::broken(format!(
            "The master key was changed: the active one is {active} now, and {}. Give this server the new key in \
             SEALPORT_MASTER_KEY or the key file, and start it again.",
            key_source::describe(&self.masters)
        )))
    }

    /// The keys that were given.
    pub(super) fn masters(&self) -> &[MasterKey] {
        &self.masters
    }

    /// Fingerprints of the keys that were given.
    pub(super) fn fingerprints(&self) -> Vec<String> {
        self.masters.iter().map(MasterKey::fingerprint).collect()
    }

    pub(super) fn knows(&self, fingerprint: &str) -> bool {
        self.master(fingerprint).is_ok()
    }

    /// A key that was given, by name. Errors: `Broken` when it is not here.
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

    /// Opens a value at its place. Errors: `Broken` when it does not open there, with the reason.
    pub(super) async fn unseal(
        &self,
        tx: &mut Transaction<'_, Postgres>,
        place: Place,
        sealed: &Sealed,
    ) -> Result<SecretString> {
        let key = self
            .data_key_of(tx, place.owner_id, sealed)
            .await?
            .map_err(|why| broken(place, why))?;
        key.open(place, sealed)
            .map_err(|error| does_not_open(place, error))
    }

    /// Opens a value with a data key that is open already; nothing when it has to be fetched first. Errors: as `unseal`.
    pub(super) fn unseal_with_open_key(
        &self,
        place: Place,
        sealed: &Sealed,
    ) -> Option<Result<SecretString>> {
        let key = self.keys().remembered(sealed.data_key_id()?)?;
        Some(
            key.open(place, sealed)
                .map_err(|error| does_not_open(place, error)),
        )
    }

    /// Seals the values of an import that waits, with its owner's active data key.
    pub(super) async fn seal_import(
        &self,
        tx: &mut Transaction<'_, Postgres>,
        place: ImportPlace,
        values: &SecretString,
    ) -> Result<Sealed> {
        let key = self.active_data_key(tx, place.owner_id).await?;
        key.seal_import(place, values).map_err(seal_failed)
    }

    /// Errors: `Broken` when it does not open as this import.
    pub(super) async fn unseal_import(
        &self,
        tx: &mut Transaction<'_, Postgres>,
        place: ImportPlace,
        sealed: &Sealed,
    ) -> Result<SecretString> {
        let key = self
            .data_key_of(tx, place.owner_id, sealed)
            .await?
            .map_err(|_| seal_failed(SealError::DoesNotOpen))?;
        key.open_import(place, sealed).map_err(seal_failed)
    }

    /// The owner's data key that sealed this, or why there is none.
    async fn data_key_of(
        &self,
        tx: &mut Transaction<'_, Postgres>,
        owner_id: Uuid,
        sealed: &Sealed,
    ) -> Result<Result<Arc<DataKey>, &'static str>> {
        let Some(id) = sealed.data_key_id() else {
            return Ok(Err("it is no sealed value of a known format"));
        };
        if let Some(key) = self.keys().remembered(id) {
            return Ok(Ok(key));
        }
        let row = sqlx::query!(
            "select master_key, wrapped from data_keys where id = $1 and owner_id = $2",
            id,
            owner_id
        )
        .fetch_optional(&mut **tx)
        .await?;
        match row {
            Some(row) => self
                .open_data_key(id, owner_id, &row.master_key, &row.wrapped)
                .map(Ok),
            None => Ok(Err(
                "it was sealed by a data key that is not one of this owner's",
            )),
        }
    }

    /// The owner's key that seals what is new, made on first need.
    pub(super) async fn active_data_key(
        &self,
        tx: &mut Transaction<'_, Postgres>,
        owner_id: Uuid,
    ) -> Result<Arc<DataKey>> {
        for _ in 0..DATA_KEY_TRIES {
            let row = sqlx::query!(
                "select id, master_key, wrapped from data_keys where owner_id = $1 and active",
                owner_id
            )
            .fetch_optional(&mut **tx)
            .await?;
            if let Some(row) = row {
                return match self.keys().remembered(row.id) {
                    Some(key) => Ok(key),
                    None => self
                        .open_data_key(row.id, owner_id, &row.master_key, &row.wrapped)
                        .map_err(|error| match error.is_damage() {
                            true => damage::key_refusal(row.id),
                            false => error,
                        }),
                };
            }
            let fingerprint = sqlx::query_scalar!("select active_master_key()")
                .fetch_one(&mut **tx)
                .await?
                .ok_or_else(|| Error::broken("the database names no active master key"))?;
            let made = DataKey::generate(Uuid::now_v7()).map_err(seal_failed)?;
            let wrapped = self
                .keys()
                .master(&fingerprint)?
                .wrap(&made, owner_id)
                .map_err(seal_failed)?;
            // Waits for another who is making one; then theirs is found in the next round. Keeps nothing when the master key was
            // changed meanwhile; then the next round wraps with the new one.
            sqlx::query!(
                "insert into data_keys (id, owner_id, master_key, wrapped)
                 select $1, $2, $3, $4 where active_master_key() = $3
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
            .map_err(|error| damaged(format!(
                "The data key {id} does not open: it was wrapped by another master key, for another owner or under another id, or its \
                 bytes were changed."
            ), error))?;
        Ok(self.keys().remember(key))
    }
}

fn does_not_open(place: Place, error: SealError) -> Error {
    match error {
        SealError::DoesNotOpen => broken(
            place,
            "it was sealed for another owner, secret, version or data key, or its bytes were changed",
        ),
        error => Error::caused("a value could not be opened", error),
    }
}

fn broken(place: Place, why: &str) -> Error {
    damaged(
        format!(
            "Version {} of the secret {} does not open: {why}.",
            place.version, place.secret_id
        ),
        SealError::DoesNotOpen,
    )
}

pub(super) fn seal_failed(error: SealError) -> Error {
    Error::caused("a value could not be sealed", error)
}

/// What stands in the database does not open, with a sentence that says why not.
fn damaged(why: String, error: SealError) -> Error {
    Error::caused(why, error)
}

/// Whether it is what stands in the database that does not open, and not the way to it.
pub(super) fn is_damage(error: &Error) -> bool {
    matches!(error, Error::Broken(_, Some(cause)) if cause.downcast_ref::<SealError>() == Some(&SealError::DoesNotOpen))
}

/// For fuzzing what reads sealed bytes: keys of their own, without a database.
#[doc(hidden)]
pub struct KeysForTests {
    master: MasterKey,
    data: DataKey,
}

#[doc(hidden)]
impl KeysForTests {
    pub fn generate() -> Result<Self, SealError> {
        Ok(KeysForTests {
            master: MasterKey::generate()?,
            data: DataKey::generate(Uuid::now_v7())?,
        })
    }

    pub fn seal(&self, place: Place, value: &SecretString) -> Result<Sealed, SealError> {
        self.data.seal(place, value)
    }

    pub fn open(&self, place: Place, sealed: &Sealed) -> Result<SecretString, SealError> {
        self.data.open(place, sealed)
    }

    pub fn wrap(&self, owner_id: Uuid) -> Result<Vec<u8>, SealError> {
        self.master.wrap(&self.data, owner_id)
    }

    /// Whether these bytes open as the data key, and as a canary.
    pub fn opens(&self, owner_id: Uuid, bytes: &[u8]) -> (bool, bool) {
        let key = self.master.unwrap(self.data.id, owner_id, bytes);
        (key.is_ok(), self.master.opens_canary(bytes))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn an_opened_key_is_forgotten_in_time_though_none_is_asked_for() {
        let keys = Keys {
            masters: Vec::new(),
            active: RwLock::default(),
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
