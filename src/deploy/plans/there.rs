//! What the target says to a plan before anything is made: asked with the rights of whoever asks, and with nothing changed there.

use uuid::Uuid;

use super::{Deployer, Weighed, told};
use crate::deploy::targets::{Order, written_dockerfile};
use crate::model::actors::Caller;
use crate::model::deployments::DeploymentSpec;
use crate::model::errors::{Refusal, RefusalKind};
use crate::model::sources::Inspection;
use crate::model::targets::{Placed, Target};
use crate::store::deployment_checks::source_wrong;

impl Deployer {
    /// A Dockerfile for a git source that the target could not run as it is. None where none is needed.
    pub fn dockerfile_for(&self, spec: &DeploymentSpec) -> Option<String> {
        self.dockerfile(spec.target, &order_of(spec))
    }

    fn dockerfile(&self, target: Target, order: &Order) -> Option<String> {
        let bridge = self.0.providers.bridge_image.as_deref();
        target
            .is_remote()
            .then(|| written_dockerfile(&order.source, &order.start, &order.options, bridge))
            .flatten()
    }

    /// What this would make or change where it runs, line by line, asked with the caller's right to the provider's key. Makes nothing.
    /// Errors: what is in the way, at its field.
    pub async fn changes_of(
        &self,
        caller: &Caller,
        spec: &DeploymentSpec,
    ) -> Result<Vec<String>, Refusal> {
        if let Some(refusal) = source_wrong(caller, &spec.source, spec.target) {
            return Err(refusal);
        }
        self.planned(caller, spec.target, spec.provider_key, &order_of(spec))
            .await
    }

    /// Asks the target what would come of it, when nothing is in the way so far.
    pub(super) async fn look_there(
        &self,
        caller: &Caller,
        weighed: &mut Weighed,
        found: &Inspection,
    ) -> Result<(), Refusal> {
        let (true, Some(answered)) = (weighed.plan.is_ready(), &weighed.answered) else {
            return Ok(());
        };
        let order = Order {
            name: weighed.plan.name.clone(),
            source: found.resolved.clone(),
            start: found.start_plan(),
            options: weighed.parts.options.clone(),
            env_names: weighed.parts.names().map(ToString::to_string).collect(),
            placed: Placed::default(),
        };
        let (target, key) = (weighed.parts.target, answered.provider_key);
        weighed.plan.dockerfile = self.dockerfile(target, &order);
        match self.planned(caller, target, key, &order).await {
            Ok(lines) => weighed.plan.changes = lines,
            // Nothing is wrong with what is asked for.
            Err(refusal)
                if matches!(
                    refusal.kind,
                    RefusalKind::TooMany | RefusalKind::Unavailable
                ) =>
            {
                return Err(refusal);
            }
            Err(refusal) => weighed.plan.refuse(refusal),
        }
        Ok(())
    }

    /// With the provider's key, which is opened with the caller's right to it, on record.
    async fn planned(
        &self,
        caller: &Caller,
        target: Target,
        provider_key: Option<Uuid>,
        order: &Order,
    ) -> Result<Vec<String>, Refusal> {
        let asking = async {
            let key = match provider_key {
                Some(id) => {
                    let opened =
                        self.0
                            .db
                            .provider_key_open_to_look(caller, id, target, &order.name);
                    Some(told(opened.await)?)
                }
                None => None,
            };
            let driver = self
                .driver_with(target, key)
                .map_err(|says| Refusal::invalid("target", says))?;
            let can = driver.check().await;
            let can = can.map_err(|says| Refusal::invalid("key", says))?;
            let mut lines = vec![can.sentence];
            lines.extend(driver.plan(order).await?);
            Ok(lines)
        };
        self.look_up(caller, target, asking).await
    }

    /// What is other at the provider than it was left, and what the change would come to there.
    pub(super) async fn look_there_again(
        &self,
        caller: &Caller,
        weighed: &mut Weighed,
        found: Option<Inspection>,
    ) {
        let (true, Some(run)) = (weighed.plan.is_ready(), weighed.stands.clone()) else {
            return;
        };
        if !run.target.is_remote() {
            return;
        }
        let order = Order {
            name: run.name.clone(),
            source: found
                .as_ref()
                .map_or(&run.source, |found| &found.resolved)
                .clone(),
            start: found.map_or_else(|| run.start.clone(), |found| found.start_plan()),
            options: weighed.parts.options.clone(),
            env_names: weighed.parts.names().map(ToString::to_string).collect(),
            placed: run.placed.clone(),
        };
        weighed.plan.dockerfile = self.dockerfile(run.target, &order);
        let asking = async {
            let wrong = |says| Refusal::invalid("target", says);
            let driver = self.driver(&run).await;
            let driver = driver.map_err(|failure| wrong(failure.reason))?;
            let mut lines = driver.drift(&run).await.map_err(wrong)?;
            let plan = driver.plan(&order).await;
            lines.extend(plan.map_err(|refusal| wrong(refusal.detail))?);
            Ok(lines)
        };
        match self.look_up(caller, run.target, asking).await {
            Ok(lines) => weighed.plan.changes = lines,
            Err(refusal) => weighed.plan.refuse(refusal),
        }
    }
}

fn order_of(spec: &DeploymentSpec) -> Order {
    Order {
        name: spec.name.to_string(),
        source: spec.source.clone(),
        start: spec.start.clone(),
        options: spec.options.clone(),
        env_names: spec
            .bindings
            .iter()
            .map(|binding| binding.env.to_string())
            .collect(),
        placed: Placed::default(),
    }
}
