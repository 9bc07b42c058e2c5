//! The supervisor: holds this server's deployments, starts what is wanted, stops what is not, and starts again what
//! crashed, with patience and a limit.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::instance::{Instance, StartAsk};
use super::log::Log;
use super::releases::remove_dir;
use super::{Deployer, Running};
use crate::model::deployments::DeploymentState;
use crate::store::deployments::Held;

/// A hold on deployments lasts so long; it is renewed at each poll.
const HOLD_SECS: i32 = 30;
/// Without a renewal for so long everything stops, well before another server may take it.
const HOLD_LOST_AFTER: Duration = Duration::from_secs(20);
/// The slow poll that is relied on; a wake only hastens it.
const POLL: Duration = Duration::from_secs(2);
/// Starts in a row that may fail before someone must act.
const STARTS_MAX: u32 = 6;
/// A server that ran so long has recovered.
const RECOVERED_AFTER: Duration = Duration::from_secs(300);

/// How patiently a server is started again.
#[derive(Clone, Copy)]
pub(super) struct Backoff {
    failures: u32,
    since: Instant,
    next: Instant,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff {
            failures: 0,
            since: Instant::now(),
            next: Instant::now(),
        }
    }
}

impl Backoff {
    /// After a failure: waits 1, 2, 4 … 32 seconds. False when it was the last that is forgiven.
    fn failed(&mut self) -> bool {
        if self.since.elapsed() > RECOVERED_AFTER {
            self.failures = 0;
        }
        self.failures += 1;
        self.since = Instant::now();
        self.next = Instant::now() + Duration::from_secs(1 << (self.failures - 1).min(5));
        self.failures < STARTS_MAX
    }
}

/// Deployments that are to be started again: when, and whether that is under way.
#[derive(Clone, Copy, Default)]
pub(super) struct Waiting {
    backoff: Backoff,
    starting: bool,
}

impl Deployer {
    /// Runs until cancelled; then every guest is stopped and every hold given up.
    pub async fn run(self, cancel: CancellationToken) {
        self.sweep_left().await;
        let mut held_at = Instant::now();
        while !cancel.is_cancelled() {
            if let Err(error) = self.round(&mut held_at).await {
                error.into_refusal();
            }
            if held_at.elapsed() > HOLD_LOST_AFTER {
                tracing::error!(
                    "the hold on deployments could not be renewed: all servers of this machine stop"
                );
                self.stop_all().await;
            }
            tokio::select! {
                () = cancel.cancelled() => {}
                () = self.0.wake.notified() => {}
                () = tokio::time::sleep(POLL) => {}
            }
        }
        self.stop_all().await;
        if let Err(error) = self.0.db.deployments_release_holds(self.0.holder).await {
            error.into_refusal();
        }
    }

    /// One round: hold, stop, start, release, inspect.
    async fn round(&self, held_at: &mut Instant) -> crate::store::Result<()> {
        let held = self.0.db.deployments_hold(self.0.holder, HOLD_SECS).await?;
        *held_at = Instant::now();
        self.stop_unheld(&held).await;
        for deployment in &held {
            // One that another server took, or that was just destroyed, does not hold up the others.
            if let Err(error) = self.look_after(deployment).await {
                error.into_refusal();
            }
        }
        while self.release_step().await? {}
        while self.inspect_step().await? {}
        Ok(())
    }

    /// What runs here and is held no more was destroyed, or taken by another server.
    async fn stop_unheld(&self, held: &[Held]) {
        let ids: HashSet<Uuid> = held.iter().map(|held| held.id).collect();
        self.0.waiting.lock().await.retain(|id, _| ids.contains(id));
        let gone: Vec<(Uuid, Running)> = {
            let mut running = self.0.running.lock().await;
            let gone: Vec<Uuid> = running
                .keys()
                .filter(|id| !ids.contains(id))
                .copied()
                .collect();
            gone.into_iter()
                .filter_map(|id| running.remove(&id).map(|found| (id, found)))
                .collect()
        };
        for (id, running) in gone {
            running.instance.stop().await;
            if self.0.db.deployment_is_gone(id).await.unwrap_or(false) {
                remove_dir(&self.deployment_dir(id)).await;
            }
        }
    }

    async fn look_after(&self, held: &Held) -> crate::store::Result<()> {
        if !held.wanted {
            let running = self.0.running.lock().await.remove(&held.id);
            if let Some(running) = running {
                running.instance.stop().await;
            }
            self.0.waiting.lock().await.remove(&held.id);
            return self
                .0
                .db
                .deployment_state(held.id, held.fence, DeploymentState::Stopped, None)
                .await;
        }
        if let Some((why, backoff)) = self.take_ended(held.id).await {
            self.after_failure(held, backoff, &why).await;
            return Ok(());
        }
        let is_running = self.0.running.lock().await.contains_key(&held.id);
        let to_run = matches!(
            held.state,
            DeploymentState::Running | DeploymentState::Restarting
        );
        if !is_running && to_run && held.live_release.is_some() {
            self.start_again(held).await;
        }
        Ok(())
    }

    /// An instance that ended by itself, taken out: why, and how often that happened.
    async fn take_ended(&self, id: Uuid) -> Option<(String, Backoff)> {
        let mut running = self.0.running.lock().await;
        if !running.get(&id)?.instance.has_ended() {
            return None;
        }
        running
            .remove(&id)
            .map(|found| (found.instance.why(), found.backoff))
    }

    /// Says that it will be started again, or that it will not.
    async fn after_failure(&self, held: &Held, mut backoff: Backoff, why: &str) {
        let mut waiting = self.0.waiting.lock().await;
        if backoff.failed() {
            waiting.insert(
                held.id,
                Waiting {
                    backoff,
                    starting: false,
                },
            );
            drop(waiting);
            let reason = format!("It is being started again. {why}");
            self.set_state(held, DeploymentState::Restarting, Some(&reason))
                .await;
        } else {
            waiting.remove(&held.id);
            drop(waiting);
            let reason = format!(
                "It ended {STARTS_MAX} times in a row and is not started again by itself. {why}"
            );
            self.set_state(held, DeploymentState::Failed, Some(&reason))
                .await;
        }
    }

    /// Starts the live release once more, when its time has come; beside the rounds, for it can take a minute.
    async fn start_again(&self, held: &Held) {
        let backoff = {
            let mut all = self.0.waiting.lock().await;
            let waiting = all.entry(held.id).or_default();
            if waiting.starting || waiting.backoff.next > Instant::now() {
                return;
            }
            waiting.starting = true;
            waiting.backoff
        };
        let (deployer, held) = (self.clone(), held.clone());
        self.0.tasks.spawn(async move {
            deployer.start_live(&held, backoff).await;
            if let Some(waiting) = deployer.0.waiting.lock().await.get_mut(&held.id) {
                waiting.starting = false;
            }
            deployer.wake();
        });
    }

    async fn start_live(&self, held: &Held, backoff: Backoff) {
        let Some(release) = held.live_release else {
            return;
        };
        let log = Log::open(self, held.id, held.owner_id, release);
        let Some(standing) = self.standing(held.id).await else {
            let why = "What was installed is not on this machine any more. Redeploy it.";
            self.set_state(held, DeploymentState::Failed, Some(why))
                .await;
            return;
        };
        log.say("The server is being started again.");
        let ask = StartAsk {
            deployment_id: held.id,
            ordinal: held.ordinal,
            owner_id: held.owner_id,
            release,
            home: self.deployment_dir(held.id).join(&standing.dir),
            installed: standing.installed,
            start: standing.start,
        };
        match Instance::start(self, ask, log.clone(), async || {}).await {
            Ok(instance) => {
                let instance = Arc::new(instance);
                if !self.set_state(held, DeploymentState::Running, None).await {
                    instance.stop().await;
                    return;
                }
                let running = Running { instance, backoff };
                let older = self.0.running.lock().await.insert(held.id, running);
                if let Some(older) = older {
                    older.instance.stop().await;
                }
                log.say("The server answered the handshake.");
            }
            Err(failure) => {
                log.say(&failure.reason);
                if failure.lasting {
                    self.set_state(held, DeploymentState::Failed, Some(&failure.reason))
                        .await;
                } else {
                    self.after_failure(held, backoff, &failure.reason).await;
                }
            }
        }
    }

    /// Returns whether it was stored, and so whether the deployment is still this server's.
    async fn set_state(&self, held: &Held, state: DeploymentState, reason: Option<&str>) -> bool {
        let stored = self
            .0
            .db
            .deployment_state(held.id, held.fence, state, reason)
            .await;
        self.0.changed.notify_waiters();
        stored.map_err(crate::store::Error::into_refusal).is_ok()
    }

    async fn stop_all(&self) {
        let all: Vec<Running> = self
            .0
            .running
            .lock()
            .await
            .drain()
            .map(|(_, running)| running)
            .collect();
        futures::future::join_all(all.iter().map(|running| running.instance.stop())).await;
    }

    /// Directories that a killed server left: of inspections, and of deployments that are gone.
    async fn sweep_left(&self) {
        let Ok(mut entries) = tokio::fs::read_dir(&self.0.guests_dir).await else {
            return;
        };
        while let Ok(Some(entry)) = entries.next_entry().await {
            let name = entry.file_name().to_string_lossy().into_owned();
            let left = match Uuid::parse_str(&name) {
                Ok(id) => self.0.db.deployment_is_gone(id).await.unwrap_or(false),
                Err(_) => name.starts_with("inspect-"),
            };
            if left {
                remove_dir(&entry.path()).await;
            }
        }
    }
}
