//! From bindings to a running server: sources, sandbox, relay, releases, supervisor.

pub mod sources;

pub mod sandbox;

pub mod masks;
pub mod relay;

pub mod json;
pub mod providers;

mod accounts;
mod callers;
mod calls;
mod drift;
mod inspections;
mod instance;
mod log;
mod looks;
mod lookups;
pub mod plans;
mod releases;
mod renewals;
mod supervisor;
mod targets;
mod unprobed;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use tokio::sync::{Mutex, Notify, OwnedMutexGuard, Semaphore};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::model::deployments::DeploymentState;
use crate::model::limits::GuestUsage;
use crate::store::Db;
use callers::Callers;
pub use callers::{CallersLimits, InUse};
use instance::Instance;
use looks::Looks;
use lookups::Lookups;
use relay::Relay;
use sandbox::{Isolation, Outside, Sandbox};
use sources::{InstallSettings, SourceHosts, Workshop};
use supervisor::{Backoff, Ending, Waiting};
pub use targets::{Providers, trial};
use unprobed::Unprobed;

/// Releases and inspections that run at once on this machine, each.
const WORK_AT_ONCE: usize = 2;

/// Callers' own instances that start at once.
const OWN_STARTS_AT_ONCE: usize = 8;

/// Where guests live, and what the administrator lets sources be.
pub struct DeployerConfig {
    pub guests_dir: PathBuf,
    /// Directories under which `dir:` sources may lie.
    pub dir_roots: Vec<PathBuf>,
    /// Hosts that sources may be fetched from although they are private.
    pub source_hosts: SourceHosts,
    pub providers: Providers,
    /// A server that crashed waits so long before it is started again, and twice as long each time after.
    pub restart_after: Duration,
    pub callers: CallersLimits,
}

/// The deploy room as the dashboard and the gateway see it. Cheap to clone.
#[derive(Clone)]
pub struct Deployer(Arc<Inner>);

struct Inner {
    db: Db,
    sandbox: Sandbox,
    workshop: Workshop,
    guests_dir: PathBuf,
    source_hosts: SourceHosts,
    providers: Providers,
    /// Deployments that are ended at their provider.
    ending: Mutex<HashMap<Uuid, Ending>>,
    /// One thing at a time is done at a provider for a deployment.
    turns: Mutex<HashMap<Uuid, Arc<Mutex<()>>>>,
    restart_after: Duration,
    /// New with each start of the server: holds of an earlier process are another's.
    holder: Uuid,
    /// There is work.
    wake: Notify,
    /// Something that pages show has changed.
    changed: Notify,
    running: Mutex<HashMap<Uuid, Running>>,
    unprobed: Unprobed,
    callers: Callers,
    callers_limits: CallersLimits,
    /// Callers' instances that start at once.
    own_starts: Semaphore,
    waiting: Mutex<HashMap<Uuid, Waiting>>,
    releases: Semaphore,
    inspections: Semaphore,
    /// The next inspection's id, so that no two that run at once share one.
    inspect_ids: AtomicU32,
    looks: Looks,
    look_patience: Duration,
    /// What providers are asked while somebody waits.
    lookups: Lookups,
    tasks: TaskTracker,
    /// Of calls and of lines of logs: waited for at the end, when nothing more is told.
    writers: TaskTracker,
}

/// What this server runs of one deployment.
struct Running {
    instance: Arc<Instance>,
    backoff: Backoff,
    /// It is being ended. It stays here until nothing of it is left, so that it is not started again before.
    stopping: bool,
}

impl Running {
    fn is_up(&self) -> bool {
        !self.stopping && !self.instance.has_ended()
    }
}

impl Deployer {
    pub fn new(db: Db, sandbox: Sandbox, config: DeployerConfig) -> Self {
        let workshop = Workshop::new(
            sandbox.clone(),
            InstallSettings::read(),
            config.dir_roots,
            config.source_hosts.clone(),
        );
        Deployer(Arc::new(Inner {
            db,
            sandbox,
            workshop,
            guests_dir: config.guests_dir,
            source_hosts: config.source_hosts,
            providers: config.providers,
            ending: Mutex::new(HashMap::new()),
            turns: Mutex::new(HashMap::new()),
            restart_after: config.restart_after,
            holder: Uuid::now_v7(),
            wake: Notify::new(),
            changed: Notify::new(),
            running: Mutex::new(HashMap::new()),
            unprobed: Unprobed::default(),
            callers: Callers::default(),
            callers_limits: config.callers,
            own_starts: Semaphore::new(OWN_STARTS_AT_ONCE),
            waiting: Mutex::new(HashMap::new()),
            releases: Semaphore::new(WORK_AT_ONCE),
            inspections: Semaphore::new(WORK_AT_ONCE),
            inspect_ids: AtomicU32::new(0),
            looks: Looks::default(),
            look_patience: looks::PATIENCE,
            lookups: Lookups::default(),
            tasks: TaskTracker::new(),
            writers: TaskTracker::new(),
        }))
    }

    /// For tests that are not patient: how long a request waits while a source is looked at.
    #[doc(hidden)]
    pub fn with_look_patience(mut self, patience: Duration) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.0) {
            inner.look_patience = patience;
        }
        self
    }

    /// There is work: the jobs look now rather than at their next poll.
    pub fn wake(&self) {
        self.0.wake.notify_one();
        self.0.changed.notify_waiters();
    }

    /// Ends when something that pages show may have changed. Only hastens: whoever waits also polls.
    pub async fn changed(&self) {
        self.0.changed.notified().await;
    }

    /// Waits for whatever is being done for this deployment at its provider. Held by whoever does something there.
    async fn turn(&self, deployment_id: Uuid) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.0.turns.lock().await;
            turns.retain(|id, turn| *id == deployment_id || Arc::strong_count(turn) > 1);
            Arc::clone(turns.entry(deployment_id).or_default())
        };
        turn.lock_owned().await
    }

    /// The same, if nothing is being done there now.
    async fn free_turn(&self, deployment_id: Uuid) -> Option<OwnedMutexGuard<()>> {
        let mut turns = self.0.turns.lock().await;
        Arc::clone(turns.entry(deployment_id).or_default())
            .try_lock_owned()
            .ok()
    }

    /// The relay of a running deployment. Errors: a sentence for the caller when nothing runs.
    pub async fn relay(&self, deployment_id: Uuid) -> Result<Arc<Relay>, String> {
        let running = self.0.running.lock().await;
        match running.get(&deployment_id) {
            Some(running) if running.is_up() => return Ok(running.instance.relay()),
            _ => drop(running),
        }
        Err(self.why_not_running(deployment_id).await)
    }

    /// A sentence for a caller: what became of a server that does not answer here. Its reason is for those who may see its page.
    async fn why_not_running(&self, deployment_id: Uuid) -> String {
        let state = self.0.db.deployment_standing(deployment_id).await;
        let state = state.unwrap_or_else(|error| {
            error.into_refusal();
            None
        });
        let became = match state {
            Some(DeploymentState::Stopped) => {
                "It was stopped, and stays so until somebody starts it on its page in Sealport."
            }
            Some(DeploymentState::Failed) => {
                "It failed and is not started again by itself: its page in Sealport says why."
            }
            Some(DeploymentState::Restarting) => {
                "It ended by itself and is being started again: try again in a moment."
            }
            Some(DeploymentState::Deploying | DeploymentState::Running) => {
                "It is being started: try again in a moment."
            }
            None => "Its page in Sealport says why.",
        };
        format!("This server is not running now. {became}")
    }

    /// What a shared server takes of this machine now; none when it does not run here.
    pub async fn usage(&self, deployment_id: Uuid) -> Option<GuestUsage> {
        let running = self.0.running.lock().await;
        running.get(&deployment_id)?.instance.usage()
    }

    /// How guests are confined on this machine, in sentences for pages and `/readyz`; the flag is false where that is
    /// weaker than it should be.
    pub fn confinement(&self) -> Vec<(bool, String)> {
        let report = self.0.sandbox.report();
        let sound =
            report.isolation == Isolation::Bubblewrap && report.network == Outside::UserMode;
        vec![(sound, report.to_string())]
    }
}
