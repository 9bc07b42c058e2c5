//! Renewing a secret everywhere: what runs an older value of it is redeployed.

use uuid::Uuid;

use super::Deployer;
use crate::model::actors::Caller;
use crate::model::errors::Refusal;
use crate::model::paths::DeploymentName;
use crate::model::plans::Begun;
use crate::model::renewals::Renewed;

impl Deployer {
    /// Queues a release of each deployment within the caller's sight that runs an older value; they run as few at once as any.
    /// Errors: `NotFound`; `Conflict` while nobody can use the secret.
    pub async fn redeploy_using(
        &self,
        caller: &Caller,
        secret_id: Uuid,
    ) -> Result<Renewed, Refusal> {
        let renewed = self.0.db.redeploy_using(caller, secret_id).await;
        self.wake();
        renewed.map_err(crate::store::Error::into_refusal)
    }

    /// A new release with the code of an older one, with what is bound now and its newest values. No provider's own roll back: that
    /// would bring back the variables of then, and so older values. Errors: `NotFound`, `Denied`; `Conflict` where its code is not known.
    pub async fn run_again(
        &self,
        caller: &Caller,
        name: &DeploymentName,
        of: i32,
    ) -> Result<Begun, Refusal> {
        let release = self.0.db.deployment_run_again(caller, name, of).await;
        let release = release.map_err(crate::store::Error::into_refusal)?;
        self.wake();
        Ok(Begun {
            name: name.clone(),
            release,
        })
    }
}
