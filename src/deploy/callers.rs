//! Each caller's own instance of a per-user deployment: started at a call, alone with its caller's keys, and stopped when it is not used
//! or a right of its caller's has ended.

mod left;
mod rounds;
mod slots;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use uuid::Uuid;

use super::Deployer;
use super::instance::{Instance, Own, StartFailure};
use super::log::Log;
use super::relay::ClientCapabilities;
use super::targets::Run;
use crate::model::connections::OwnInstance;
use crate::model::deployments::DeploymentState;
pub(super) use slots::Callers;
pub use slots::InUse;
use slots::{Found, Slot, Started, Whose};

/// How long the calls of an instance that gives way may go on.
const DRAIN: Duration = Duration::from_secs(30);

/// How many instances of callers there may be, and how long one stays unused.
#[derive(Clone, Copy, Debug)]
pub struct CallersLimits {
    pub of_user: usize,
    pub of_deployment: usize,
    pub of_server: usize,
    pub idle: Duration,
}

impl Default for CallersLimits {
    fn default() -> Self {
        CallersLimits {
            of_user: 10,
            of_deployment: 50,
            of_server: 100,
            idle: Duration::from_secs(600),
        }
    }
}

impl Deployer {
    /// The instance of a caller, started if it is not there. Errors: a sentence for the caller.
    pub async fn own_instance(
        &self,
        deployment_id: Uuid,
        user_id: Uuid,
        versions: &str,
        client: Option<ClientCapabilities>,
    ) -> Result<InUse, String> {
        let whose = Whose {
            deployment_id,
            user_id,
        };
        let found = self
            .0
            .callers
            .find(whose, versions, client, self.0.callers_limits);
        let (slot, in_use) = match found {
            Found::Slot(slot, in_use) => (slot, in_use),
            Found::No(why) => return Err(why),
            Found::New(slot, in_use, started) => {
                let (deployer, new) = (self.clone(), slot.clone());
                // To its end, also when the caller hangs up.
                self.0
                    .tasks
                    .spawn(async move { deployer.keep(whose, new, started).await });
                (slot, in_use)
            }
        };
        let mut started = slot.started.clone();
        let told = started.wait_for(Option::is_some).await;
        let told = told.map(|told| told.clone());
        let ended = || "Your own instance of this server has ended. Call again.".to_owned();
        match told {
            Ok(Some(Ok(instance))) => Ok(InUse {
                instance,
                _use: in_use,
            }),
            Ok(Some(Err(why))) => Err(why),
            Ok(None) | Err(_) => Err(ended()),
        }
    }

    /// Starts an instance and stays with it until nothing of it is left.
    async fn keep(&self, whose: Whose, slot: Slot, started: watch::Sender<Started>) {
        let starting = async {
            // A few at once on this machine; the others wait their turn.
            let _turn = self.0.own_starts.acquire().await;
            self.start_own(whose, &slot).await
        };
        let outcome = tokio::select! {
            outcome = starting => outcome,
            () = slot.retired.cancelled() => Err(StartFailure {
                reason: "The server was changed or stopped meanwhile. Call again.".into(),
                lasting: true,
            }),
        };
        let instance = match outcome {
            Ok(instance) => Arc::new(instance),
            Err(failure) => {
                let why =
                    (!failure.lasting).then(|| (failure.reason.clone(), self.0.restart_after));
                self.0.callers.ended(whose, &slot, why);
                started.send_replace(Some(Err(failure.reason)));
                return;
            }
        };
        started.send_replace(Some(Ok(Arc::clone(&instance))));
        let why = tokio::select! {
            () = instance.ended() => {
                let why = Some(instance.why()).filter(|why| !why.is_empty());
                why.map(|why| (why, self.0.restart_after))
            }
            () = slot.retired.cancelled() => {
                tokio::select! {
                    _ = tokio::time::timeout(DRAIN, slot.uses.none()) => {}
                    () = slot.at_once.cancelled() => {}
                }
                instance.stop().await;
                None
            }
        };
        self.0.callers.ended(whose, &slot, why);
    }

    async fn start_own(&self, whose: Whose, slot: &Slot) -> Result<Instance, StartFailure> {
        let versions = &slot.versions;
        let later = |reason: &str| StartFailure {
            reason: reason.to_owned(),
            lasting: true,
        };
        let held = self
            .0
            .db
            .deployment_held(self.0.holder, whose.deployment_id)
            .await;
        let held = held.map_err(|error| later(&error.into_refusal().detail))?;
        let runs = |state| matches!(state, DeploymentState::Running | DeploymentState::Deploying);
        let (held, release) = match held {
            Some(held) if held.wanted && runs(held.state) => match held.live_release {
                Some(release) => (held, release),
                None => return Err(later("The first release of this server is not live yet.")),
            },
            _ => {
                return Err(later(&self.why_not_running(whose.deployment_id).await));
            }
        };
        // What the caller agreed to, and what is read here, are of one moment.
        if !versions.starts_with(&format!("{} ", held.terms)) {
            return Err(later("The server was changed a moment ago. Call again."));
        }
        let own = Own {
            user_id: whose.user_id,
            versions: versions.clone(),
            capabilities: slot.capabilities,
        };
        let log = Log::open_own(self, held.id, release, whose.user_id);
        let started = self
            .start_for(&Run::of_held(&held, release), own, &log)
            .await;
        match &started {
            Ok(_) => log.say("Your own instance answered the handshake."),
            Err(failure) => log.say(&failure.reason),
        }
        started
    }

    /// How a caller's own instance is: what it takes of this machine while it runs, or why it ended lately.
    pub fn own_state(&self, deployment_id: Uuid, user_id: Uuid) -> OwnInstance {
        let whose = Whose {
            deployment_id,
            user_id,
        };
        let callers = &self.0.callers;
        match callers.instance(whose).filter(|own| !own.has_ended()) {
            Some(own) => OwnInstance::Runs(own.usage().unwrap_or_default()),
            None => callers
                .failed(whose)
                .map_or(OwnInstance::Stopped, OwnInstance::Failed),
        }
    }

    /// The caller's own gives way: their keys were changed or taken away.
    pub fn retire_own(&self, deployment_id: Uuid, user_id: Uuid) {
        let whose = Whose {
            deployment_id,
            user_id,
        };
        self.0.callers.retire(|other, _| *other == whose, false);
    }

    /// How many there are on this server, with those that are on their way out.
    pub fn callers_instances(&self) -> usize {
        self.0.callers.count()
    }

    /// Those of a deployment give way: something newer runs, or it stops, and then at once. Returns when nothing of them is left.
    pub(super) async fn retire_callers(&self, deployment_id: Uuid, at_once: bool) {
        let is_of = |whose: &Whose, _: &Slot| whose.deployment_id == deployment_id;
        for gone in self.0.callers.retire(is_of, at_once) {
            gone.cancelled().await;
        }
    }

    pub(super) async fn stop_all_callers(&self) {
        for gone in self.0.callers.retire(|_, _| true, true) {
            gone.cancelled().await;
        }
    }
}
