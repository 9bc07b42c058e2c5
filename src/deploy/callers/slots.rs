//! Which callers' instances there are, from the moment that one is asked for until nothing of it is left.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::CallersLimits;
use crate::deploy::instance::Instance;
use crate::deploy::relay::{ClientCapabilities, Relay};
use crate::deploy::supervisor::Backoff;

/// Callers whose clients' capabilities are remembered; more are forgotten and told anew.
const TOLD: usize = 10_000;

/// Whose instance of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Whose {
    pub deployment_id: Uuid,
    pub user_id: Uuid,
}

pub(super) type Started = Option<Result<Arc<Instance>, String>>;

/// An instance, from the moment that it is asked for.
#[derive(Clone)]
pub(super) struct Slot {
    /// The caller's secrets and their versions.
    pub versions: String,
    /// What the server was told that its caller's clients can be asked.
    pub capabilities: ClientCapabilities,
    pub started: watch::Receiver<Started>,
    pub uses: Arc<Uses>,
    /// It gives way: no new call comes to it, and it stops when those under way have ended.
    pub retired: CancellationToken,
    /// It stops, whatever is under way.
    pub at_once: CancellationToken,
    /// Nothing of it is left.
    gone: CancellationToken,
}

/// What is under way on an instance.
pub(super) struct Uses {
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
pub(in crate::deploy) struct Callers {
    state: std::sync::Mutex<State>,
}

#[derive(Default)]
struct State {
    slots: HashMap<Whose, Slot>,
    /// Those that gave way and are not gone yet.
    draining: Vec<(Whose, Slot)>,
    failed: HashMap<Whose, Failed>,
    told: HashMap<Whose, ClientCapabilities>,
    /// Their directories are being removed.
    removing: HashSet<Whose>,
}

/// A caller's instance, which does not count as unused until this is dropped.
pub struct InUse {
    pub(super) instance: Arc<Instance>,
    pub(super) _use: Use,
}

/// One use of an instance, from the moment that it is looked for: also a caller who hangs up while it starts ends theirs.
pub(super) struct Use(Arc<Uses>);

impl Slot {
    /// Whether somebody waits for an answer who was cut off and may come for it again.
    pub fn is_answering(&self) -> bool {
        let started = self.started.borrow();
        matches!(&*started, Some(Ok(instance)) if instance.relay().is_answering())
    }
}

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

    pub fn is_unused(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    pub fn last(&self) -> Instant {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub async fn none(&self) {
        loop {
            let ended = self.ended.notified();
            if self.is_unused() {
                return;
            }
            ended.await;
        }
    }
}

/// A caller's directory, as it is being removed.
pub(super) struct Removing<'a> {
    callers: &'a Callers,
    whose: Whose,
}

/// What came of looking for a caller's instance.
pub(super) enum Found {
    /// There, or on its way.
    Slot(Slot, Use),
    /// To be started, by whoever gets this.
    New(Slot, Use, watch::Sender<Started>),
    /// Not now, in a sentence.
    No(String),
}

impl Callers {
    /// The instance of a caller with these versions, counted as used. One with other versions gives way, and so does one that was told
    /// of fewer capabilities than the client has.
    pub(super) fn find(
        &self,
        whose: Whose,
        versions: &str,
        client: Option<ClientCapabilities>,
        limits: CallersLimits,
    ) -> Found {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = state.slots.get(&whose) {
            let is_up = match &*slot.started.borrow() {
                // Nobody starts it any more when whoever did is gone.
                None => slot.started.has_changed().is_ok(),
                Some(Ok(instance)) => !instance.has_ended(),
                Some(Err(_)) => false,
            };
            let is_told = client.is_none_or(|client| slot.capabilities.cover(client));
            if is_up && is_told && slot.versions == versions && !slot.retired.is_cancelled() {
                return Found::Slot(slot.clone(), Use::of(&slot.uses));
            }
            state.give_way(whose);
        }
        if state.removing.contains(&whose) {
            return Found::No(
                "What your last instance of this server kept is being removed. Call again in a moment."
                    .into(),
            );
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
            capabilities: state.told(whose, client),
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
    pub(super) fn ended(&self, whose: Whose, slot: &Slot, why: Option<(String, Duration)>) {
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
    pub(super) fn retire(
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

    pub(super) fn count(&self) -> usize {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.slots.len() + state.draining.len()
    }

    pub(super) fn instance(&self, whose: Whose) -> Option<Arc<Instance>> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let started = state.slots.get(&whose)?.started.borrow();
        started.as_ref()?.as_ref().ok().cloned()
    }

    pub(super) fn failed(&self, whose: Whose) -> Option<String> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.failed.get(&whose).map(|failed| failed.why.clone())
    }

    /// All that are here, with what they run with.
    pub(super) fn all(&self) -> Vec<(Whose, String)> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let slots = state.slots.iter().map(|(whose, slot)| (*whose, slot));
        let draining = state.draining.iter().map(|(whose, slot)| (*whose, slot));
        let all = slots.chain(draining);
        all.map(|(whose, slot)| (whose, slot.versions.clone()))
            .collect()
    }

    /// Marks that a caller's directory is being removed, until this is dropped: nothing is started in it. None while something of theirs
    /// is here.
    pub(super) fn removing(&self, whose: Whose) -> Option<Removing<'_>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let is_here = state.slots.contains_key(&whose)
            || state.draining.iter().any(|(other, _)| *other == whose);
        (!is_here && state.removing.insert(whose)).then_some(Removing {
            callers: self,
            whose,
        })
    }

    /// The deployments of which something is here.
    pub fn deployments(&self) -> HashSet<Uuid> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let draining = state.draining.iter().map(|(whose, _)| whose);
        let all = state.slots.keys().chain(draining);
        all.map(|whose| whose.deployment_id).collect()
    }
}

impl Drop for Removing<'_> {
    fn drop(&mut self) {
        let mut state = self
            .callers
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        state.removing.remove(&self.whose);
    }
}

impl State {
    /// What a new instance is told: all that the caller's clients could be asked until now.
    fn told(&mut self, whose: Whose, client: Option<ClientCapabilities>) -> ClientCapabilities {
        if self.told.len() >= TOLD {
            self.told.clear();
        }
        let told = self.told.entry(whose).or_default();
        if let Some(client) = client {
            *told = told.with(client);
        }
        *told
    }

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
