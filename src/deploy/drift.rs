//! Looking at a provider for what is other there than Sealport left it, when somebody asks.

use super::Deployer;
use super::targets::Run;
use crate::model::actors::Caller;
use crate::model::errors::{Refusal, RefusalKind};
use crate::model::paths::DeploymentName;
use crate::store::Error;

impl Deployer {
    /// What is other there, in sentences; none: nothing. Asked with the provider's key, which is opened with its owner's rights; that
    /// somebody looked is on record. Nothing waits for it, since it only reads.
    /// Errors: `NotFound`, with `use` alone too; `Conflict` where there is nothing to ask, or something is under way there;
    /// `Unavailable`: what the provider said to it, without its own words, for they may quote what is set there; as [`Deployer::look_up`].
    pub async fn look_for_drift(
        &self,
        caller: &Caller,
        name: &DeploymentName,
    ) -> Result<Vec<String>, Refusal> {
        let db = &self.0.db;
        let looked = db.deployment_look(caller, name).await;
        let owner_id = looked.map_err(Error::into_refusal)?;
        let detail = db.deployment_show(caller, name).await;
        let detail = detail.map_err(Error::into_refusal)?;
        let (id, title) = (detail.summary.id, detail.target.title());
        let conflict = |says: String| Refusal::new(RefusalKind::Conflict, says);
        if !detail.target.is_remote() {
            return Err(conflict(format!(
                "{name} runs on this machine: there is no provider to ask."
            )));
        }
        if detail.placed.service.is_none() {
            return Err(conflict(format!("{title} has nothing of {name} yet.")));
        }
        if self.free_turn(id).await.is_none() {
            return Err(conflict(format!(
                "Something is being done for {name} at {title}. Look when it is done."
            )));
        }
        let run = Run {
            id,
            // Of guests of this machine, which are not asked about here.
            ordinal: 0,
            name: name.to_string(),
            owner_id,
            release: detail.summary.release,
            source: detail.summary.source,
            start: detail.start,
            target: detail.target,
            options: detail.options,
            placed: detail.placed,
        };
        let unavailable = |says: String| Refusal::new(RefusalKind::Unavailable, says);
        let asking = async {
            let driver = self.driver(&run).await;
            let driver = driver.map_err(|failure| unavailable(failure.reason))?;
            driver.drift(&run).await.map_err(unavailable)
        };
        self.look_up(caller, run.target, asking).await
    }
}
