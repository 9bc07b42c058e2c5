//! What a provider has of a deployment, and the keys that it takes: the provider's own, and the one that the gateway shows the server.

use secrecy::SecretString;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::audit::{self, Entry};
use super::deployments::{Held, about};
use super::drafts::storable;
use super::holds::held_elsewhere;
use super::keyring::{KEY_LEN_BYTES, KeyFor, random_key};
use super::keys::seal_failed;
use super::releases::ReleaseTask;
use super::{Db, Error, Result};
use crate::model::actors::{Caller, Job};
use crate::model::audit::Action;
use crate::model::paths::DeploymentName;
use crate::model::targets::Placed;

impl Db {
    /// Notes what the provider has, before anything is built on it; also for a release that was given up meanwhile, for it is there all
    /// the same. Errors: `Conflict` when another server took the deployment.
    pub async fn release_placed(&self, task: &ReleaseTask, placed: &Placed) -> Result<()> {
        let mut tx = self.begin_as(&Caller::job(Job::Supervisor)).await?;
        let noted = sqlx::query!(
            "update deployments set placed = $2 where id = $1 and fence = $3",
            task.deployment_id,
            storable(placed)?,
            task.fence,
        )
        .execute(&mut *tx)
        .await?;
        if noted.rows_affected() == 0 {
            tx.rollback().await?;
            return Err(held_elsewhere());
        }
        tx.commit().await?;
        Ok(())
    }

    /// What the provider has by now; none when the release is wanted no more.
    pub async fn placed_now(&self, task: &ReleaseTask) -> Result<Option<Placed>> {
        if !self.release_wanted(task).await? {
            return Ok(None);
        }
        let mut tx = self.begin_as(&Caller::job(Job::Supervisor)).await?;
        let placed = sqlx::query_scalar!(
            "select placed from deployments where id = $1",
            task.deployment_id
        )
        .fetch_optional(&mut *tx)
        .await?;
        tx.commit().await?;
        let unreadable = |_| Error::broken("a deployment's row does not read");
        placed
            .map(|placed| serde_json::from_value(placed).map_err(unreadable))
            .transpose()
    }

    /// That somebody who may read about it looks for drift at its provider, on record. Returns whose rights open the provider's key.
    /// Errors: `NotFound`, with `use` alone too.
    pub async fn deployment_look(&self, caller: &Caller, name: &DeploymentName) -> Result<Uuid> {
        let (mut tx, id) = self
            .readable(caller, name, "deployment at a provider")
            .await?;
        let owner_id = sqlx::query_scalar!("select owner_id from deployments where id = $1", id);
        let owner_id = owner_id.fetch_one(&mut *tx).await?;
        let entry = Entry {
            reason: Some("looked for drift at the provider"),
            ..about(Action::DeploymentShow, owner_id, name)
        };
        audit::record(&mut tx, caller, entry).await?;
        tx.commit().await?;
        Ok(owner_id)
    }

    /// The provider has nothing of it any more: it goes here too, on record. Errors: `Conflict` when another server took it.
    pub async fn deployment_destroyed(&self, held: &Held) -> Result<()> {
        let mut tx = self.begin_as(&Caller::job(Job::Supervisor)).await?;
        let gone = sqlx::query!(
            "delete from deployments where id = $1 and fence = $2 and destroying",
            held.id,
            held.fence,
        )
        .execute(&mut *tx)
        .await?;
        if gone.rows_affected() == 0 {
            tx.rollback().await?;
            return Err(held_elsewhere());
        }
        let entry = Entry {
            reason: Some("nothing of it is left at the provider"),
            ..about(Action::DeploymentDestroy, held.owner_id, &held.name)
        };
        audit::record(&mut tx, &Caller::job(Job::Supervisor), entry).await?;
        tx.commit().await?;
        Ok(())
    }

    /// What the gateway shows this deployment's server at its provider: made on first need, and the same from then on.
    pub async fn gateway_key_open(&self, deployment_id: Uuid) -> Result<SecretString> {
        let mut tx = self.begin_as(&Caller::job(Job::Supervisor)).await?;
        let made = Zeroizing::new(*random_key().map_err(seal_failed)?);
        let fingerprint = sqlx::query_scalar!("select active_master_key()")
            .fetch_one(&mut *tx)
            .await?
            .ok_or_else(|| Error::broken("the database names no active master key"))?;
        let wrapped = self
            .keys()
            .master(&fingerprint)?
            .wrap_key(KeyFor::Gateway, deployment_id, &made)
            .map_err(seal_failed)?;
        // With one that is wrapped by a key which was changed meanwhile the retiring of that key would wait for ever.
        sqlx::query!(
            "insert into gateway_keys (deployment_id, owner_id, master_key, wrapped)
             select d.id, d.owner_id, $2, $3 from deployments d where d.id = $1 and active_master_key() = $2
             on conflict (deployment_id) do nothing",
            deployment_id,
            fingerprint,
            wrapped,
        )
        .execute(&mut *tx)
        .await?;
        let row = sqlx::query!(
            "select master_key, wrapped from gateway_keys where deployment_id = $1",
            deployment_id
        )
        .fetch_optional(&mut *tx)
        .await?
        .ok_or_else(|| Error::broken("the master key was changed meanwhile"))?;
        let key = self
            .keys()
            .master(&row.master_key)?
            .unwrap_key(KeyFor::Gateway, deployment_id, &row.wrapped)
            .map_err(seal_failed)?;
        tx.commit().await?;
        Ok(shown(&key))
    }
}

/// As text that goes into a header and an environment.
fn shown(key: &[u8; KEY_LEN_BYTES]) -> SecretString {
    SecretString::from(hex::encode(key))
}
