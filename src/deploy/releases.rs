//! Releases: what their target needs, step by step, to the handshake. Each ends in a named state, with its reason.

use std::sync::Arc;
use std::time::Duration;

use super::instance::Instance;
use super::log::Log;
use super::supervisor::Backoff;
use super::targets::{Driver, Run, Work};
use super::{Deployer, Running};
use crate::model::deployments::{DeploymentState, ReleaseState, StepName};
use crate::model::targets::Placed;
use crate::store::releases::ReleaseTask;

/// How often a release under way looks whether it is still wanted.
const WANTED_POLL: Duration = Duration::from_secs(2);
impl Deployer {
    /// Takes one queued release and runs it beside the others. Returns whether there was one.
    pub(super) async fn release_step(&self) -> crate::store::Result<bool> {
        if self.0.releases.available_permits() == 0 {
            return Ok(false);
        }
        let Some(task) = self.0.db.release_claim(self.0.holder).await? else {
            return Ok(false);
        };
        let deployer = self.clone();
        self.0.tasks.spawn(async move {
            let Ok(_permit) = deployer.0.releases.acquire().await else {
                return;
            };
            deployer.release(task).await;
            deployer.wake();
        });
        Ok(true)
    }

    async fn release(&self, task: ReleaseTask) {
        let log = Log::open(self, task.deployment_id, task.number);
        log.say(format!("Release {} begins.", task.number));
        let bringing_up = async {
            match task.per_user {
                true => self.make_ready(&task, &log).await.map(|()| None),
                false => self.bring_up(&task, &log).await.map(Some),
            }
        };
        let outcome = tokio::select! {
            outcome = bringing_up => outcome,
            () = self.unwanted(&task) => {
                log.say("The release was given up: something newer was asked for.");
                self.end(&task, ReleaseState::Superseded, None).await;
                self.sweep(&task).await;
                return;
            }
        };
        match outcome {
            Ok(instance) => {
                log.say(format!("Release {} is live.", task.number));
                self.take_over(&task, instance).await;
            }
            Err(reason) => {
                // A reason holds the server's last lines.
                for line in format!("Release {} failed. {reason}", task.number).lines() {
                    log.say(line);
                }
                self.end(&task, ReleaseState::Failed, Some(&reason)).await;
                self.keep_older(&task, &reason).await;
                self.sweep(&task).await;
            }
        }
    }

    async fn bring_up(&self, task: &ReleaseTask, log: &Log) -> Result<Instance, String> {
        let driver = self.driver(&Run::of_task(task)).await;
        let driver: Arc<dyn Driver> = Arc::from(driver.map_err(|failure| failure.reason)?);
        let applying = applied(self.clone(), Arc::clone(&driver), task.clone(), log.clone());
        let placed = match task.target.is_remote() {
            // To its end, also when the release is given up: what is half-made at a provider would be made twice.
            true => self
                .0
                .tasks
                .spawn(applying)
                .await
                .map_err(|_| "The release was interrupted.".to_owned())??,
            false => applying.await?,
        };
        let work = Work::new(self, task, log, placed);
        driver.watch(&work).await?;
        let joined = driver.join(&work.run().await, &work.steps(), log).await;
        joined.map_err(|failure| failure.reason)
    }

    /// Installs what callers' own instances are started from, and sees that the owner's part of their environment opens.
    async fn make_ready(&self, task: &ReleaseTask, log: &Log) -> Result<(), String> {
        let run = Run::of_task(task);
        let driver = self.driver(&run).await.map_err(|failure| failure.reason)?;
        let work = Work::new(self, task, log, task.placed.clone());
        driver.apply(&work).await?;
        let opened = self
            .0
            .db
            .bindings_open(run.id, run.owner_id, run.release)
            .await;
        opened.map_err(|error| error.into_refusal().detail)?;
        for step in [StepName::Start, StepName::Handshake] {
            let says = "Each caller’s own instance is started at their first call.";
            self.step(task, step, "done", says).await;
        }
        Ok(())
    }

    /// Puts the new instance in the place of the older one, and says that it is live. None where callers have instances of their own.
    async fn take_over(&self, task: &ReleaseTask, instance: Option<Instance>) {
        let instance = instance.map(Arc::new);
        if !self.end(task, ReleaseState::Live, None).await {
            // Another server took the deployment, or someone stopped it meanwhile.
            if let Some(instance) = instance {
                instance.stop().await;
            }
            return;
        }
        let older = {
            let mut running = self.0.running.lock().await;
            match instance {
                Some(instance) => running.insert(
                    task.deployment_id,
                    Running {
                        instance,
                        backoff: Backoff::default(),
                        stopping: false,
                    },
                ),
                None => running.remove(&task.deployment_id),
            }
        };
        if let Some(older) = older {
            older.instance.stop().await;
        }
        // Beside what comes next: their calls may go on for a while.
        let (deployer, task) = (self.clone(), task.clone());
        self.0.tasks.spawn(async move {
            deployer.retire_callers(task.deployment_id, false).await;
            deployer.sweep(&task).await;
        });
    }

    /// A failed release leaves an older one running, and says so.
    async fn keep_older(&self, task: &ReleaseTask, reason: &str) {
        let older = match task.per_user {
            // Callers' instances start from what was installed before.
            true => {
                let held = self.0.db.deployment_held(self.0.holder, task.deployment_id);
                held.await.ok().flatten().and_then(|held| held.live_release)
            }
            false => {
                let running = self.0.running.lock().await;
                let up = running
                    .get(&task.deployment_id)
                    .filter(|found| found.is_up());
                up.map(|found| found.instance.release)
            }
        };
        if let Some(older) = older {
            let reason = format!(
                "Release {} failed; release {older} still runs. {reason}",
                task.number
            );
            let kept = self
                .0
                .db
                .deployment_state(
                    task.deployment_id,
                    task.fence,
                    Some(older),
                    DeploymentState::Running,
                    Some(&reason),
                )
                .await;
            if let Err(error) = kept {
                error.into_refusal();
            }
        }
    }

    /// Ends when the release is wanted no more.
    async fn unwanted(&self, task: &ReleaseTask) {
        loop {
            match self.0.db.release_wanted(task).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    error.into_refusal();
                }
            }
            let _ = tokio::time::timeout(WANTED_POLL, self.changed()).await;
        }
    }

    pub(super) async fn step(&self, task: &ReleaseTask, step: StepName, state: &str, detail: &str) {
        if let Err(error) = self.0.db.release_step(task, step, state, detail).await {
            error.into_refusal();
        }
        self.0.changed.notify_waiters();
    }

    /// Returns whether the end was stored.
    async fn end(&self, task: &ReleaseTask, state: ReleaseState, reason: Option<&str>) -> bool {
        let stored = self.0.db.release_end(task, state, reason).await;
        self.0.changed.notify_waiters();
        stored.map_err(crate::store::Error::into_refusal).is_ok()
    }
}

/// What the target has of it afterwards. At a provider one thing is done after the other.
async fn applied(
    deployer: Deployer,
    driver: Arc<dyn Driver>,
    task: ReleaseTask,
    log: Log,
) -> Result<Placed, String> {
    let mut placed = task.placed.clone();
    let _turn = match task.target.is_remote() {
        true => {
            let turn = deployer.turn(task.deployment_id).await;
            let now = deployer.0.db.placed_now(&task).await;
            let now = now.map_err(|error| error.into_refusal().detail)?;
            placed = now.ok_or("Something newer was asked for.")?;
            Some(turn)
        }
        false => None,
    };
    let work = Work::new(&deployer, &task, &log, placed);
    driver.apply(&work).await?;
    Ok(work.placed().await)
}
