//! Where deployments run: a driver for each target, and the list of them. Releases and the supervisor know drivers alone.

mod local;
mod railway;
mod remote;
mod render;
mod shape;
pub mod trial;
mod watching;

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Mutex;
use url::Url;
use uuid::Uuid;

use super::Deployer;
use super::instance::{Instance, StartFailure};
use super::log::Log;
use crate::model::deployments::StepName;
use crate::model::errors::Refusal;
use crate::model::paths::EnvName;
use crate::model::sources::{Source, StartPlan};
use crate::model::targets::{AccountSays, Placed, Target};
use crate::store::deployments::Held;
use crate::store::releases::ReleaseTask;

pub(super) use local::{names_in, remove_dir};
pub(super) use shape::written_dockerfile;

/// Where providers are asked, and what runs there of what is no image.
#[derive(Clone)]
pub struct Providers {
    pub render_api: Url,
    pub railway_api: Url,
    /// The image with `sealport bridge` and an npm or PyPI runner: its name without `-node` or `-python`, and its tag.
    pub bridge_image: Option<String>,
    /// Between two looks at what is under way there.
    pub look_every: Duration,
}

/// One place where deployments run. Each function can be called again after it was cut off, and goes on from what is there.
#[async_trait]
pub(super) trait Driver: Send + Sync {
    /// Whom the key belongs to and what it can do. Errors: a sentence.
    async fn check(&self) -> Result<AccountSays, String>;

    /// What a release would make or change there, line by line. Asks, and changes nothing.
    async fn plan(&self, order: &Order) -> Result<Vec<String>, Refusal>;

    /// Everything until it is on its way: installed here, or made and begun there. Errors: a masked sentence.
    async fn apply(&self, work: &Work<'_>) -> Result<(), String>;

    /// Waits until it is up, with its log.
    async fn watch(&self, work: &Work<'_>) -> Result<(), String>;

    /// Joins what is up, or starts what is installed, until it has answered the handshake.
    async fn join(&self, run: &Run, steps: &Steps<'_>, log: &Log)
    -> Result<Instance, StartFailure>;

    /// Stops what runs there; it stays there and is started by the next release.
    async fn stop(&self, run: &Run) -> Result<(), String>;

    /// Removes all that Sealport made there; what is gone already is no error.
    async fn destroy(&self, run: &Run) -> Result<(), String>;

    /// What is other there than Sealport left it, in sentences.
    async fn drift(&self, run: &Run) -> Result<Vec<String>, String>;
}

/// What is to be deployed, before it is.
pub(super) struct Order {
    pub name: String,
    pub source: Source,
    pub start: StartPlan,
    pub options: BTreeMap<String, String>,
    pub env_names: Vec<String>,
    pub placed: Placed,
}

/// A deployment as it is to run or runs: of a release that is brought up, or the one that is live.
#[derive(Clone)]
pub(super) struct Run {
    pub id: Uuid,
    pub ordinal: i32,
    pub name: String,
    pub owner_id: Uuid,
    pub release: i32,
    pub source: Source,
    pub start: StartPlan,
    pub target: Target,
    pub options: BTreeMap<String, String>,
    pub placed: Placed,
}

impl Run {
    pub fn of_task(task: &ReleaseTask) -> Run {
        Run {
            id: task.deployment_id,
            ordinal: task.ordinal,
            name: task.name.clone(),
            owner_id: task.owner_id,
            release: task.number,
            source: task.source.clone(),
            start: task.start.clone(),
            target: task.target,
            options: task.options.clone(),
            placed: task.placed.clone(),
        }
    }

    pub fn of_held(held: &Held, release: i32) -> Run {
        Run {
            id: held.id,
            ordinal: held.ordinal,
            name: held.name.to_string(),
            owner_id: held.owner_id,
            release,
            source: held.source.clone(),
            start: held.start.clone(),
            target: held.target,
            options: held.options.clone(),
            placed: held.placed.clone(),
        }
    }
}

/// A release under way.
pub(super) struct Work<'a> {
    pub deployer: &'a Deployer,
    pub task: &'a ReleaseTask,
    pub log: &'a Log,
    placed: Mutex<Placed>,
}

impl<'a> Work<'a> {
    pub fn new(
        deployer: &'a Deployer,
        task: &'a ReleaseTask,
        log: &'a Log,
        placed: Placed,
    ) -> Self {
        Work {
            deployer,
            task,
            log,
            placed: Mutex::new(placed),
        }
    }

    pub fn steps(&self) -> Steps<'_> {
        Steps { work: Some(self) }
    }

    /// With what the provider has by now.
    pub async fn run(&self) -> Run {
        Run {
            placed: self.placed().await,
            ..Run::of_task(self.task)
        }
    }

    pub async fn placed(&self) -> Placed {
        self.placed.lock().await.clone()
    }

    /// Writes down what the provider has, before anything is built on it. Errors: it could not be: then nothing more is made.
    pub async fn note(&self, change: impl FnOnce(&mut Placed)) -> Result<(), String> {
        let mut placed = self.placed.lock().await;
        let mut new = placed.clone();
        change(&mut new);
        if new == *placed {
            return Ok(());
        }
        let noted = self.deployer.0.db.release_placed(self.task, &new).await;
        noted.map_err(|error| error.into_refusal().detail)?;
        *placed = new;
        Ok(())
    }
}

/// The steps of a release, where there is one: what is started again has none.
pub(super) struct Steps<'a> {
    work: Option<&'a Work<'a>>,
}

impl Steps<'_> {
    pub fn none() -> Self {
        Steps { work: None }
    }

    pub async fn say(&self, step: StepName, state: &str, detail: &str) {
        if let Some(work) = self.work {
            work.deployer.step(work.task, step, state, detail).await;
        }
    }

    /// As [`Work::note`]; of what is started again it is known already.
    pub async fn note(&self, change: impl FnOnce(&mut Placed)) -> Result<(), String> {
        match self.work {
            Some(work) => work.note(change).await,
            None => Ok(()),
        }
    }
}

/// Why a target would not take a variable's text as it is: said before anything is made.
pub(super) fn text_refused(target: Target, env: &EnvName, text: &str) -> Option<Refusal> {
    let says = match target {
        Target::Railway => railway::text_refused(env, text)?,
        Target::Local | Target::Render => return None,
    };
    Some(Refusal::invalid(&format!("bindings.{env}"), says))
}

impl Deployer {
    /// What brings a deployment's target about. The provider's key is opened for it, on record. Errors: a sentence; the flag says that
    /// only a person can help.
    pub(super) async fn driver(&self, run: &Run) -> Result<Box<dyn Driver>, StartFailure> {
        if run.target == Target::Local {
            return Ok(Box::new(local::Local {
                deployer: self.clone(),
            }));
        }
        let opened = self.0.db.provider_key_open(run.id, run.owner_id).await;
        let key = opened.map_err(|error| StartFailure {
            lasting: matches!(error, crate::store::Error::Refused(_)),
            reason: error.into_refusal().detail,
        })?;
        self.driver_with(run.target, Some(key))
            .map_err(|reason| StartFailure {
                reason,
                lasting: true,
            })
    }
}
