//! The supervisor: holds this server's deployments, starts what is wanted, stops what is not, and starts again what
//! crashed, with patience and a limit.

use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use super::instance::Instance;
use super::log::Log;
use super::targets::{Run, Steps, names_in, remove_dir};
use super::{Deployer, Running};
use crate::model::deployments::DeploymentState;
use crate::store::deployments::Held;

/// A hold on deployments lasts so long; it is renewed at each poll.
const HOLD_SECS: i32 = 30;
/// A renewal that takes longer has failed.
const HOLD_TIMEOUT: Duration = Duration::from_secs(5);
/// Without a renewal for so long everything stops: with a poll, a time-out and the grace of a stop, that is done before
/// another server may take it.
const HOLD_LOST_AFTER: Duration = Duration::from_secs(15);
/// The slow poll that is relied on; a wake only hastens it.
const POLL: Duration = Duration::from_secs(2);
/// How often files of what was destroyed are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(10);
/// How soon a changed value is noticed by a deployment that follows changes.
const FOLLOW_EVERY: Duration = Duration::from_secs(3);
/// Before what failed at a provider is tried once more, when it failed often: each try has its key opened, on record.
const PROVIDER_AGAIN_AFTER: Duration = Duration::from_secs(600);
/// The first wait before something is stopped or destroyed there again; each is twice the one before.
const END_AGAIN_AFTER: Duration = Duration::from_secs(30);
/// At a stop, for what was told last of calls and logs.
const WRITTEN_WITHIN: Duration = Duration::from_secs(2);
/// Starts in a row that may fail before someone must act.
const STARTS_MAX: u32 = 6;
/// Each wait is twice the one before, up to this many times.
const WAITS_DOUBLED: u32 = 5;
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
    /// When it may be tried again.
    pub fn next(&self) -> Instant {
        self.next
    }

    /// So long ago that it says nothing any more.
    pub fn is_over(&self) -> bool {
        self.since.elapsed() > RECOVERED_AFTER
    }

    /// After a failure: waits `first`, then twice as long, and so on. False when it was the last that is forgiven.
    pub fn failed(&mut self, first: Duration) -> bool {
        if self.is_over() {
            self.failures = 0;
        }
        self.failures += 1;
        self.since = Instant::now();
        self.next = Instant::now() + first * (1 << (self.failures - 1).min(WAITS_DOUBLED));
        self.failures < STARTS_MAX
    }
}

/// Deployments that are to be started again: when, and how to give up a start that is under way.
#[derive(Default)]
pub(super) struct Waiting {
    backoff: Backoff,
    starting: Option<DropGuard>,
}

/// How far the end of a deployment at its provider is.
#[derive(Clone, Copy)]
pub(super) enum Ending {
    UnderWay,
    /// It failed, and is tried again.
    Waits {
        until: Instant,
        /// The wait after that.
        next: Duration,
    },
}

impl Deployer {
    /// Runs until cancelled; then every guest is stopped and every hold given up.
    pub async fn run(self, cancel: CancellationToken) {
        self.sweep_inspections().await;
        let (held, fresh) = watch::channel(Vec::new());
        tokio::join!(
            self.keep_hold(&cancel, held),
            self.rounds(&cancel, fresh),
            self.sweeps(&cancel),
            self.follow_changes(&cancel),
            self.look_after_callers(&cancel),
        );
        self.stop_all().await;
        if let Err(error) = self.0.db.deployments_release_holds(self.0.holder).await {
            error.into_refusal();
        }
    }

    /// Renews the hold, whatever else is going on, and stops everything when that fails for too long.
    async fn keep_hold(&self, cancel: &CancellationToken, held: watch::Sender<Vec<Held>>) {
        let mut held_at = Instant::now();
        while !cancel.is_cancelled() {
            let asked_at = Instant::now();
            let hold = self.0.db.deployments_hold(self.0.holder, HOLD_SECS);
            match tokio::time::timeout(HOLD_TIMEOUT, hold).await {
                Ok(Ok(now)) => {
                    held_at = asked_at;
                    held.send_replace(now);
                }
                Ok(Err(error)) => {
                    error.into_refusal();
                }
                Err(_) => tracing::warn!("the database does not answer"),
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
    }

    async fn rounds(&self, cancel: &CancellationToken, mut held: watch::Receiver<Vec<Held>>) {
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                renewed = held.changed() => if renewed.is_err() {
                    return;
                },
            }
            let held = held.borrow_and_update().clone();
            if let Err(error) = self.round(&held).await {
                error.into_refusal();
            }
        }
    }

    /// One round: stop, start, release, inspect. What takes long goes on beside it.
    async fn round(&self, held: &[Held]) -> crate::store::Result<()> {
        self.stop_unheld(held).await;
        for deployment in held {
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
        self.0.ending.lock().await.retain(|id, _| ids.contains(id));
        let running: Vec<Uuid> = self.0.running.lock().await.keys().copied().collect();
        for id in running.into_iter().filter(|id| !ids.contains(id)) {
            self.begin_stop(id).await;
        }
        let of_callers = self.0.callers.deployments();
        for id in of_callers.into_iter().filter(|id| !ids.contains(id)) {
            self.begin_retire(id);
        }
    }

    /// Callers' instances of a deployment give way, beside the rounds.
    fn begin_retire(&self, id: Uuid) {
        let deployer = self.clone();
        self.0.tasks.spawn(async move {
            deployer.retire_callers(id, true).await;
            deployer.wake();
        });
    }

    async fn look_after(&self, held: &Held) -> crate::store::Result<()> {
        if !held.wanted {
            if self.begin_stop(held.id).await {
                return Ok(());
            }
            if self.0.callers.deployments().contains(&held.id) {
                self.begin_retire(held.id);
                return Ok(());
            }
            self.0.waiting.lock().await.remove(&held.id);
            let has_more = held.destroying || held.state != DeploymentState::Stopped;
            if held.target.is_remote() && has_more {
                self.end_elsewhere(held).await;
                return Ok(());
            }
            return self
                .0
                .db
                .deployment_state(held.id, held.fence, None, DeploymentState::Stopped, None)
                .await;
        }
        let Some(live) = held.live_release else {
            return Ok(());
        };
        // What runs of it is started by its callers.
        if held.per_user {
            return Ok(());
        }
        if let Some((why, backoff)) = self.take_ended(held.id).await {
            self.after_failure(held, live, backoff, &why).await;
            return Ok(());
        }
        let is_running = self.0.running.lock().await.contains_key(&held.id);
        let to_run = matches!(
            held.state,
            DeploymentState::Running | DeploymentState::Restarting
        );
        if !is_running && to_run {
            self.start_again(held, live).await;
        }
        Ok(())
    }

    /// Ends what runs of a deployment, beside the rounds. Returns whether anything of it is still there.
    async fn begin_stop(&self, id: Uuid) -> bool {
        let mut running = self.0.running.lock().await;
        let Some(found) = running.get_mut(&id) else {
            return false;
        };
        if !std::mem::replace(&mut found.stopping, true) {
            let (deployer, instance) = (self.clone(), Arc::clone(&found.instance));
            self.0.tasks.spawn(async move {
                instance.stop().await;
                let mut running = deployer.0.running.lock().await;
                if running
                    .get(&id)
                    .is_some_and(|now| Arc::ptr_eq(&now.instance, &instance))
                {
                    running.remove(&id);
                }
                drop(running);
                deployer.wake();
            });
        }
        true
    }

    /// Stops or destroys what the provider has of a deployment, beside the rounds, until it is done.
    async fn end_elsewhere(&self, held: &Held) {
        let wait = {
            let mut ending = self.0.ending.lock().await;
            let entry = ending.entry(held.id).or_insert(Ending::Waits {
                until: Instant::now(),
                next: END_AGAIN_AFTER,
            });
            match *entry {
                Ending::Waits { until, next } if until <= Instant::now() => {
                    *entry = Ending::UnderWay;
                    next
                }
                _ => return,
            }
        };
        let (deployer, held) = (self.clone(), held.clone());
        self.0.tasks.spawn(async move {
            let ended = AssertUnwindSafe(deployer.ended_elsewhere(&held));
            // One that panics is tried again as one that fails.
            let ended = ended.catch_unwind().await.unwrap_or(Err(()));
            let mut ending = deployer.0.ending.lock().await;
            match ended {
                Ok(()) => ending.remove(&held.id),
                Err(()) => ending.insert(
                    held.id,
                    Ending::Waits {
                        until: Instant::now() + wait,
                        next: (wait * 2).min(PROVIDER_AGAIN_AFTER),
                    },
                ),
            };
            drop(ending);
            deployer.0.changed.notify_waiters();
            deployer.wake();
        });
    }

    async fn ended_elsewhere(&self, held: &Held) -> Result<(), ()> {
        let _turn = self.turn(held.id).await;
        // What was made until now may be more, and it may be wanted again.
        let now = self.0.db.deployments_hold(self.0.holder, HOLD_SECS).await;
        let now = now.map_err(|error| {
            error.into_refusal();
        })?;
        let held = match now.into_iter().find(|now| now.id == held.id) {
            Some(now) if !now.wanted => now,
            _ => return Ok(()),
        };
        let held = &held;
        let run = Run::of_held(held, held.release);
        let ended = async {
            let driver = self.driver(&run).await.map_err(|failure| failure.reason)?;
            match held.destroying {
                true => driver.destroy(&run).await,
                false => driver.stop(&run).await,
            }
        };
        let db = &self.0.db;
        let said = match ended.await {
            Ok(()) if held.destroying => db.deployment_destroyed(held).await.map(|()| true),
            Ok(()) => db
                .deployment_state(held.id, held.fence, None, DeploymentState::Stopped, None)
                .await
                .map(|()| true),
            Err(why) => {
                let what = match held.destroying {
                    true => "destroyed",
                    false => "stopped",
                };
                let reason = format!(
                    "It could not be {what} at {}, which is tried again. {why}",
                    held.target.title()
                );
                db.deployment_state(held.id, held.fence, None, held.state, Some(&reason))
                    .await
                    .map(|()| false)
            }
        };
        match said {
            Ok(true) => Ok(()),
            Ok(false) => Err(()),
            Err(error) => {
                error.into_refusal();
                Err(())
            }
        }
    }

    /// An instance that ended by itself, taken out: why, and how often that happened.
    async fn take_ended(&self, id: Uuid) -> Option<(String, Backoff)> {
        let mut running = self.0.running.lock().await;
        let found = running.get(&id)?;
        if found.stopping || !found.instance.has_ended() {
            return None;
        }
        running
            .remove(&id)
            .map(|found| (found.instance.why(), found.backoff))
    }

    /// Says that it will be started again, or that it will not.
    async fn after_failure(&self, held: &Held, release: i32, mut backoff: Backoff, why: &str) {
        let mut waiting = self.0.waiting.lock().await;
        let is_forgiven = backoff.failed(self.0.restart_after);
        if !is_forgiven && held.target.is_remote() {
            // It runs there all the while: a provider that is out of reach is waited for.
            backoff.next = Instant::now() + PROVIDER_AGAIN_AFTER;
        }
        if is_forgiven || held.target.is_remote() {
            waiting.insert(
                held.id,
                Waiting {
                    backoff,
                    starting: None,
                },
            );
            drop(waiting);
            let reason = format!("It is being started again. {why}");
            self.set_state(held, release, DeploymentState::Restarting, Some(&reason))
                .await;
        } else {
            waiting.remove(&held.id);
            drop(waiting);
            let reason = format!(
                "It ended {STARTS_MAX} times in a row and is not started again by itself. {why}"
            );
            self.set_state(held, release, DeploymentState::Failed, Some(&reason))
                .await;
        }
    }

    /// Starts the live release once more, when its time has come; beside the rounds, for it can take a minute.
    async fn start_again(&self, held: &Held, release: i32) {
        let given_up = CancellationToken::new();
        let backoff = {
            let mut all = self.0.waiting.lock().await;
            let waiting = all.entry(held.id).or_default();
            if waiting.starting.is_some() || waiting.backoff.next > Instant::now() {
                return;
            }
            // Whoever takes the entry out, because it is to stop or is held no more, gives the start up.
            waiting.starting = Some(given_up.clone().drop_guard());
            waiting.backoff
        };
        let (deployer, held) = (self.clone(), held.clone());
        self.0.tasks.spawn(async move {
            deployer
                .start_live(&held, release, backoff, &given_up)
                .await;
            if let Some(waiting) = deployer.0.waiting.lock().await.get_mut(&held.id) {
                waiting.starting = None;
            }
            deployer.wake();
        });
    }

    async fn start_live(
        &self,
        held: &Held,
        release: i32,
        backoff: Backoff,
        given_up: &CancellationToken,
    ) {
        let log = Log::open(self, held.id, release);
        log.say("The server is being started again.");
        let run = Run::of_held(held, release);
        let steps = Steps::none();
        let starting = async {
            let driver = self.driver(&run).await?;
            driver.join(&run, &steps, &log).await
        };
        let started = tokio::select! {
            started = starting => started,
            () = given_up.cancelled() => {
                log.say("The start was given up: the server is to stop.");
                return;
            }
        };
        match started {
            Ok(instance) => self.put_back(held, release, backoff, instance, &log).await,
            Err(failure) => {
                log.say(&failure.reason);
                if failure.lasting {
                    self.set_state(
                        held,
                        release,
                        DeploymentState::Failed,
                        Some(&failure.reason),
                    )
                    .await;
                } else {
                    self.after_failure(held, release, backoff, &failure.reason)
                        .await;
                }
            }
        }
    }

    /// A release that was started again runs, unless a newer one came first.
    async fn put_back(
        &self,
        held: &Held,
        release: i32,
        backoff: Backoff,
        instance: Instance,
        log: &Log,
    ) {
        let instance = Arc::new(instance);
        let said = self
            .set_state(held, release, DeploymentState::Running, None)
            .await;
        let mut running = self.0.running.lock().await;
        if !said || running.contains_key(&held.id) {
            drop(running);
            instance.stop().await;
            return;
        }
        let entry = Running {
            instance,
            backoff,
            stopping: false,
        };
        running.insert(held.id, entry);
        log.say("The server answered the handshake.");
    }

    /// Says where the deployment stands with its live release. Returns whether that was stored, and so whether it is still
    /// this server's and still that release.
    async fn set_state(
        &self,
        held: &Held,
        release: i32,
        state: DeploymentState,
        reason: Option<&str>,
    ) -> bool {
        let stored = self
            .0
            .db
            .deployment_state(held.id, held.fence, Some(release), state, reason)
            .await;
        self.0.changed.notify_waiters();
        stored.map_err(crate::store::Error::into_refusal).is_ok()
    }

    /// At a stop, when nothing runs any more: waits till what was told last of calls and logs is written, though not for long.
    pub async fn written(&self) {
        self.0.writers.close();
        let _ = tokio::time::timeout(WRITTEN_WITHIN, self.0.writers.wait()).await;
    }

    async fn stop_all(&self) {
        self.0.waiting.lock().await.clear();
        self.stop_all_callers().await;
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

    /// Removes what destroyed deployments left, now and again.
    async fn sweeps(&self, cancel: &CancellationToken) {
        while !cancel.is_cancelled() {
            self.sweep_destroyed().await;
            self.sweep_callers().await;
            tokio::select! {
                () = cancel.cancelled() => {}
                () = tokio::time::sleep(SWEEP_EVERY) => {}
            }
        }
    }

    /// Redeploys what follows changes and runs an older value.
    async fn follow_changes(&self, cancel: &CancellationToken) {
        while !cancel.is_cancelled() {
            match self.0.db.follow_step(self.0.holder).await {
                Ok(0) => {}
                Ok(_) => self.wake(),
                Err(error) => {
                    error.into_refusal();
                }
            }
            tokio::select! {
                () = cancel.cancelled() => {}
                () = tokio::time::sleep(FOLLOW_EVERY) => {}
            }
        }
    }

    async fn sweep_destroyed(&self) {
        let ids: Vec<Uuid> = names_in(&self.0.guests_dir)
            .await
            .iter()
            .filter_map(|name| Uuid::parse_str(name).ok())
            .collect();
        // What still runs is stopped first; its files go the next time.
        let running: HashSet<Uuid> = self.0.running.lock().await.keys().copied().collect();
        let of_callers = self.0.callers.deployments();
        let is_used = |id: &Uuid| running.contains(id) || of_callers.contains(id);
        let ids: Vec<Uuid> = ids.into_iter().filter(|id| !is_used(id)).collect();
        if ids.is_empty() {
            return;
        }
        match self.0.db.deployments_destroyed(&ids).await {
            Ok(gone) => {
                for id in gone {
                    remove_dir(&self.deployment_dir(id)).await;
                }
            }
            Err(error) => {
                error.into_refusal();
            }
        }
    }

    /// Inspections that a killed server left half-done.
    async fn sweep_inspections(&self) {
        for name in names_in(&self.0.guests_dir).await {
            if name.starts_with("inspect-") {
                remove_dir(&self.0.guests_dir.join(name)).await;
            }
        }
    }
}
