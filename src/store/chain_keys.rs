//! Keys of the record's chain: random, wrapped by a master key, kept for as long as there is anything that they sealed.

use std::collections::HashMap;

use sqlx::{Postgres, Transaction};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::keyring::{KEY_LEN_BYTES, KeyFor, random_key};
use super::keys::seal_failed;
use super::{Db, Error, Result};

/// A key, opened.
pub(super) struct ChainKey {
    pub(super) id: Uuid,
    pub(super) key: Zeroizing<[u8; KEY_LEN_BYTES]>,
}

impl Db {
    /// The key for new batches, made on first need. Only by whoever holds the sealer's lease, so that one is made.
    pub(super) async fn newest_chain_key(
        &self,
        tx: &mut Transaction<'_, Postgres>,
    ) -> Result<ChainKey> {
        let row = sqlx::query!(
            "select id, master_key, wrapped from chain_keys order by created_at desc, id desc limit 1"
        )
        .fetch_optional(&mut **tx)
        .await?;
        if let Some(row) = row {
            let master = self.keys().master(&row.master_key)?;
            let key = master
                .unwrap_key(KeyFor::Chain, row.id, &row.wrapped)
                .map_err(seal_failed)?;
            return Ok(ChainKey { id: row.id, key });
        }
        let made = ChainKey {
            id: Uuid::now_v7(),
            key: random_key().map_err(seal_failed)?,
        };
        let fingerprint = sqlx::query_scalar!("select active_master_key()")
            .fetch_one(&mut **tx)
            .await?
            .ok_or_else(|| Error::broken("the database names no active master key"))?;
        let wrapped = self
            .keys()
            .master(&fingerprint)?
            .wrap_key(KeyFor::Chain, made.id, &made.key)
            .map_err(seal_failed)?;
        let kept = sqlx::query!(
            "insert into chain_keys (id, master_key, wrapped) select $1, $2, $3 where active_master_key() = $2",
            made.id,
            fingerprint,
            wrapped
        )
        .execute(&mut **tx)
        .await?;
        match kept.rows_affected() {
            1 => Ok(made),
            // The next step wraps with the new one.
            _ => Err(Error::broken("the master key was changed meanwhile")),
        }
    }

    /// All keys that open here, by id. One that does not is as one that is missing: what it sealed cannot be checked.
    pub(super) async fn chain_keys(
        &self,
        tx: &mut Transaction<'_, Postgres>,
    ) -> Result<HashMap<Uuid, ChainKey>> {
        let rows = sqlx::query!("select id, master_key, wrapped from chain_keys")
            .fetch_all(&mut **tx)
            .await?;
        let opened = rows.into_iter().filter_map(|row| {
            let master = self.keys().master(&row.master_key).ok()?;
            let key = master
                .unwrap_key(KeyFor::Chain, row.id, &row.wrapped)
                .ok()?;
            Some((row.id, ChainKey { id: row.id, key }))
        });
        Ok(opened.collect())
    }
}
