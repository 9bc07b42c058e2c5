//! Each caller's own instance of a per-user deployment: started at a call, alone with its caller's keys, and stopped when it is not used.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Deployer;
use super::instance::{Instance, Own, StartFailure};
use super::log::Log;
use super::relay::Relay;
use super::supervisor::Backoff;
use super::targets::Run;
use crate::model::connections::OwnInstance;
use crate::model::deployments::DeploymentState;

/// How often unused instances are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(5);
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

/// Whose instance of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Whose {
    deployment_id: Uuid,
    user_id: Uuid,
}

type Started = Option<Result<Arc<Instance>, String>>;

/// An instance, from the moment that it is asked for.
#[derive(Clone)]
struct Slot {
    /// The caller's secrets and their versions.
    versions: String,
    started: watch::Receiver<Started>,
    uses: Arc<Uses>,
    /// It gives way: no new call comes to it, and it stops when those under way have ended.
    retired: CancellationToken,
    /// It stops, whatever is under way.
    at_once: CancellationToken,
    /// Nothing of it is left.
    gone: CancellationToken,
}

/// What is under way on an instance.
struct Uses {
    count: AtomicUsize,
    last: std::sync::Mutex<Instant>,
    ended: Notify,
}

/// How an instance failed lately.
struct Failed {
    versions: String,
    why: String,
    backoff: Backoff,
}

/// All of them on this server.
#[derive(Default)]
pub(super) struct Callers {
    state: std::sync::Mutex<State>,
}

#[derive(Default)]
struct State {
    slots: HashMap<Whose, Slot>,
    /// Those that gave way and are not gone yet.
    draining: Vec<(Whose, Slot)>,
    failed: HashMap<Whose, Failed>,
}

/// A caller's instance, which does not count as unused until this is dropped.
pub struct InUse {
    instance: Arc<Instance>,
    _use: Use,
}

/// One use of an instance, from the moment that it is looked for: also a caller who hangs up while it starts ends theirs.
struct Use(Arc<Uses>);

impl InUse {
    pub fn relay(&self) -> Arc<Relay> {
        self.instance.relay()
    }
}

impl Use {
    fn of(uses: &Arc<Uses>) -> Self {
        uses.count.fetch_add(1, Ordering::AcqRel);
        Use(Arc::clone(uses))
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        let mut last = self.0.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Instant::now();
        drop(last);
        self.0.count.fetch_sub(1, Ordering::AcqRel);
        self.0.ended.notify_waiters();
    }
}

impl Uses {
    fn none_yet() -> Arc<Self> {
        Arc::new(Uses {
            count: AtomicUsize::new(0),
            last: std::sync::Mutex::new(Instant::now()),
            ended: Notify::new(),
        })
    }

    fn is_unused(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    fn last(&self) -> Instant {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn none(&self) {
        loop {
            let ended = self.ended.notified();
            if self.is_unused() {
                return;
            }
            ended.await;
        }
    }
}

/// What came of looking for a caller's instance.
enum Found {
    /// There, or on its way.
    Slot(Slot, Use),
    /// To be started, by whoever gets this.
    New(Slot, Use, watch::Sender<Started>),
    /// Not now, in a sentence.
    No(String),
}

impl Callers {
    /// The instance of a caller with these versions, counted as used. One with other versions gives way.
    fn find(&self, whose: Whose, versions: &str, limits: CallersLimits) -> Found {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = state.slots.get(&whose) {
            let is_up = match &*slot.started.borrow() {
                // Nobody starts it any more when whoever did is gone.
                None => slot.started.has_changed().is_ok(),
                Some(Ok(instance)) => !instance.has_ended(),
                Some(Err(_)) => false,
            };
            if is_up && slot.versions == versions && !slot.retired.is_cancelled() {
                return Found::Slot(slot.clone(), Use::of(&slot.uses));
            }
            state.give_way(whose);
        }
        if let Some(wait) = state
            .failed
            .get(&whose)
            .filter(|failed| failed.versions == versions)
        {
            let now = Instant::now();
            if wait.backoff.next() > now {
                let secs = (wait.backoff.next() - now).as_secs() + 1;
                return Found::No(format!(
                    "Your own instance of this server ended, and is started again in {secs} s at the earliest. {}",
                    wait.why
                ));
            }
        }
        if let Some(full) = state.make_room(whose, limits) {
            return Found::No(full);
        }
        let (sender, started) = watch::channel(None);
        let slot = Slot {
            versions: versions.to_owned(),
            started,
            uses: Uses::none_yet(),
            retired: CancellationToken::new(),
            at_once: CancellationToken::new(),
            gone: CancellationToken::new(),
        };
        let first = Use::of(&slot.uses);
        state.slots.insert(whose, slot.clone());
        Found::New(slot, first, sender)
    }

    /// Takes an instance out when nothing of it is left, and notes why it failed, if it did.
    fn ended(&self, whose: Whose, slot: &Slot, why: Option<(String, Duration)>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((why, first)) = why {
            let known = state.failed.remove(&whose);
            let known = known.filter(|known| known.versions == slot.versions);
            let mut backoff = known.map(|known| known.backoff).unwrap_or_default();
            // Whoever calls asks for it each time: there is no last try, only the longest wait.
            backoff.failed(first);
            state.failed.retain(|_, failed| !failed.backoff.is_over());
            state.failed.insert(
                whose,
                Failed {
                    versions: slot.versions.clone(),
                    why,
                    backoff,
                },
            );
        }
        let is_this = |found: &Slot| Arc::ptr_eq(&found.uses, &slot.uses);
        if state.slots.get(&whose).is_some_and(is_this) {
            state.slots.remove(&whose);
        }
        state.draining.retain(|(_, slot)| !is_this(slot));
        drop(state);
        slot.gone.cancel();
    }

    /// Those that `which` names give way. Returns their ends, with those of what gave way before.
    fn retire(
        &self,
        which: impl Fn(&Whose, &Slot) -> bool,
        at_once: bool,
    ) -> Vec<CancellationToken> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let slots = state
            .slots
            .iter()
            .filter(|(whose, slot)| which(whose, slot));
        let retired: Vec<Whose> = slots.map(|(whose, _)| *whose).collect();
        for whose in retired {
            state.give_way(whose);
        }
        let ends = state.draining.iter();
        let ends = ends.filter(|(whose, slot)| which(whose, slot));
        ends.map(|(_, slot)| {
            if at_once {
                slot.at_once.cancel();
            }
            slot.gone.clone()
        })
        .collect()
    }

    fn count(&self) -> usize {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.slots.len() + state.draining.len()
    }

    fn instance(&self, whose: Whose) -> Option<Arc<Instance>> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let started = state.slots.get(&whose)?.started.borrow();
        started.as_ref()?.as_ref().ok().cloned()
    }

    fn failed(&self, whose: Whose) -> Option<String> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.failed.get(&whose).map(|failed| failed.why.clone())
    }

    /// The deployments of which something is here.
    pub fn deployments(&self) -> HashSet<Uuid> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let draining = state.draining.iter().map(|(whose, _)| whose);
        let all = state.slots.keys().chain(draining);
        all.map(|whose| whose.deployment_id).collect()
    }
}

impl State {
    /// Where a limit is reached, an unused one within it gives way to a new one; a sentence when none is unused.
    fn make_room(&mut self, whose: Whose, limits: CallersLimits) -> Option<String> {
        type Within = fn(&Whose, &Whose) -> bool;
        let within: [(usize, Within, &str); 3] = [
            (
                limits.of_user,
                |one, other| one.user_id == other.user_id,
                "You have",
            ),
            (
                limits.of_deployment,
                |one, other| one.deployment_id == other.deployment_id,
                "This server has",
            ),
            (limits.of_server, |_, _| true, "This installation has"),
        ];
        for (most, is_within, who) in within {
            let slots = || {
                self.slots
                    .iter()
                    .filter(|(other, _)| is_within(&whose, other))
            };
            let draining = self.draining.iter();
            let draining = draining.filter(|(other, _)| is_within(&whose, other));
            // What gives way is there for a while yet: so many more of it, and no more.
            if slots().count() + draining.count() >= 2 * most {
                return Some(format!(
                    "{who} too many instances that are on their way out. Try again in a moment."
                ));
            }
            if slots().count() < most {
                continue;
            }
            let unused = slots().filter(|(_, slot)| slot.uses.is_unused());
            let oldest = unused.min_by_key(|(_, slot)| slot.uses.last());
            let Some(oldest) = oldest.map(|(other, _)| *other) else {
                return Some(format!(
                    "{who} {most} instances in use at once, the most there may be. Try again when one is not used."
                ));
            };
            self.give_way(oldest);
        }
        None
    }

    fn give_way(&mut self, whose: Whose) {
        if let Some(slot) = self.slots.remove(&whose) {
            slot.retired.cancel();
            self.draining.push((whose, slot));
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
    ) -> Result<InUse, String> {
        let whose = Whose {
            deployment_id,
            user_id,
        };
        let found = self.0.callers.find(whose, versions, self.0.callers_limits);
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
            self.start_own(whose, &slot.versions).await
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

    async fn start_own(&self, whose: Whose, versions: &str) -> Result<Instance, StartFailure> {
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
                return Err(later(
                    "This server is not running now. Its page in Sealport says why.",
                ));
            }
        };
        // What the caller agreed to, and what is read here, are of one moment.
        if !versions.starts_with(&format!("{} ", held.terms)) {
            return Err(later("The server was changed a moment ago. Call again."));
        }
        let own = Own {
            user_id: whose.user_id,
            versions: versions.to_owned(),
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

    /// Stops what nobody uses, now and again.
    pub(super) async fn stop_unused(&self, cancel: &CancellationToken) {
        let idle = self.0.callers_limits.idle;
        while !cancel.is_cancelled() {
            let is_idle = |_: &Whose, slot: &Slot| {
                slot.uses.is_unused() && slot.uses.last().elapsed() >= idle
            };
            self.0.callers.retire(is_idle, false);
            tokio::select! {
                () = cancel.cancelled() => {}
                () = tokio::time::sleep(LOOK_EVERY.min(idle)) => {}
            }
        }
    }
}
