//! What a provider says of a key that is kept here.

use super::Deployer;
use crate::model::actors::Caller;
use crate::model::audit::Action;
use crate::model::errors::Refusal;
use crate::model::paths::KeyPath;
use crate::model::targets::{AccountSays, Target};
use crate::store::Error;

impl Deployer {
    /// What the key can do at its provider, asked with the caller's right to use it, on record. Errors: `NotFound` or `Denied` at `key`, on
    /// record too; `Invalid` at `key` with what the provider says, masked; those of [`Deployer::look_up`].
    pub async fn account_says(
        &self,
        caller: &Caller,
        target: Target,
        key: &KeyPath,
    ) -> Result<AccountSays, Refusal> {
        let db = &self.0.db;
        let at_key = |error: Error| error.into_refusal().at("key");
        let found = db.secret_at_for(caller, key, Action::SecretBind).await;
        let secret = found.map_err(at_key)?;
        let asking = async {
            let opened = db.provider_key_open_to_check(caller, secret.id, target);
            let key = opened.await.map_err(at_key)?;
            let driver = self
                .driver_with(target, Some(key))
                .map_err(|says| Refusal::invalid("key", says))?;
            let says = driver.check().await;
            says.map_err(|says| Refusal::invalid("key", says))
        };
        let says = self.look_up(caller, target, asking).await?;
        Ok(says.shortened())
    }
}
