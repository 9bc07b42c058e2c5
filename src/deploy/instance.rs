//! One start of a deployment: its bindings opened, its guest, its relay.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use secrecy::SecretString;
use tokio::io::AsyncRead;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::Deployer;
use super::calls;
use super::log::{LastLines, Log};
use super::masks::Masks;
use super::relay::{
    Called, ClientCapabilities, HandshakeError, HttpRelay, Options, Relay, StdioRelay,
};
use super::sandbox::{
    DATA, FIRST_GUEST_ID, Guest, GuestExit, GuestNetwork, GuestSpec, Limits, Taken, TooMuch,
};
use super::sources::Installed;
use crate::model::limits::{GuestLimits, GuestUsage};
use crate::model::sources::{Source, StartPlan, Transport};
use crate::store;

/// How long a server may take to answer the handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a server may take to end after its input was closed, before it is killed.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// What an HTTP server listens on, in a network of its own.
const GUEST_PORT: u16 = 8080;
/// How long a server may take to end by itself once its output has: its status says more.
const EXIT_AFTER_OUTPUT: Duration = Duration::from_secs(2);
/// How long what a server said last may take to arrive through its pipes, once it has ended.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Names that a failure lists of what the source asks for and is not bound.
const MISSING_MAX: usize = 8;
/// Lines of a stdio server that are no messages, waiting to be logged.
const STRAY_LINES: usize = 256;

/// What a start needs to know.
#[derive(Clone)]
pub(super) struct StartAsk {
    pub deployment_id: Uuid,
    pub ordinal: i32,
    pub owner_id: Uuid,
    pub release: i32,
    pub home: PathBuf,
    /// What outlives its installs.
    pub data: PathBuf,
    pub installed: Installed,
    /// What was installed.
    pub source: Source,
    pub start: StartPlan,
    pub limits: GuestLimits,
    /// Whose own instance it is, where callers bring keys.
    pub own: Option<Own>,
}

/// A caller, and the versions of their own secrets.
#[derive(Clone)]
pub(super) struct Own {
    pub user_id: Uuid,
    pub versions: String,
    /// What their clients can be asked.
    pub capabilities: ClientCapabilities,
}

/// Why a start failed, in a masked sentence with the server's last lines.
pub(super) struct StartFailure {
    pub reason: String,
    /// Trying again cannot help until someone acts, as when a binding's right is gone.
    pub lasting: bool,
}

/// A server that answered the handshake.
pub(super) struct Instance {
    pub release: i32,
    relay: Arc<Relay>,
    /// Of one that runs elsewhere: another release there may give it other values.
    masks: Option<Arc<Masks>>,
    /// What it takes of this machine.
    taken: Option<Arc<Taken>>,
    stop: CancellationToken,
    ended: Arc<Ended>,
}

#[derive(Default)]
struct Ended {
    flag: AtomicBool,
    notify: Notify,
    why: std::sync::Mutex<String>,
}

impl Instance {
    /// Opens the bindings (on record, with the owner's rights now), starts the guest, does the handshake.
    /// `began` is called between the start and the handshake.
    pub(super) async fn start(
        deployer: &Deployer,
        ask: StartAsk,
        log: Log,
        began: impl AsyncFnOnce(),
    ) -> Result<Instance, StartFailure> {
        let refused = |error: store::Error| StartFailure {
            lasting: matches!(error, store::Error::Refused(_)),
            reason: error.into_refusal().detail,
        };
        let db = &deployer.0.db;
        let of_owner = db.bindings_open(ask.deployment_id, ask.owner_id, ask.release);
        let of_owner = of_owner.await.map_err(refused);
        let mut opened = match (of_owner, &ask.own) {
            (Ok(opened), _) => opened,
            (Err(failure), None) => return Err(failure),
            // Which secrets the owner binds is not a caller's to know.
            (Err(failure), Some(_)) => {
                Log::open(deployer, ask.deployment_id, ask.release).say(&failure.reason);
                return Err(StartFailure {
                    reason: "What its owner binds cannot be opened now. The server’s log says why to its owner."
                        .into(),
                    lasting: false,
                });
            }
        };
        if let Some(own) = &ask.own {
            let brought = db
                .connections_open(ask.deployment_id, own.user_id, &own.versions)
                .await
                .map_err(refused)?;
            for (env, value) in brought {
                opened.secrets.push(value.clone());
                opened.environment.push((env, value));
            }
        }
        let masks = Masks::build(opened.secrets).await.map_err(|error| {
            tracing::error!(%error, "masks could not be built");
            StartFailure {
                reason: "The masks of its secrets could not be made.".into(),
                lasting: false,
            }
        })?;
        let masks = Arc::new(masks);
        let http_path = match &ask.start.transport {
            Transport::Stdio => None,
            Transport::Http { path } => Some(path.clone()),
        };
        let missing = not_bound(&ask.start.wants, |name| {
            opened
                .environment
                .iter()
                .any(|(bound, _)| bound.as_str() == name)
        });
        let mut env: Vec<(String, SecretString)> = opened
            .environment
            .into_iter()
            .map(|(name, value)| (name.to_string(), value))
            .collect();
        env.push(("NODE_ENV".into(), SecretString::from("production")));
        if ask.own.is_some() {
            // What is installed is everybody's; what this caller's instance writes is its own.
            env.push(("HOME".into(), SecretString::from(DATA)));
        }
        env.push(("PORT".into(), SecretString::from(GUEST_PORT.to_string())));
        let spec = GuestSpec {
            uid: FIRST_GUEST_ID + ask.ordinal.unsigned_abs(),
            home: ask.home.clone(),
            home_is_shared: ask.own.is_some(),
            data: Some(ask.data.clone()),
            cwd: Some(ask.installed.cwd.clone().into()),
            read_only: Vec::new(),
            argv: ask.installed.argv.clone(),
            env,
            network: match ask.limits.network {
                true => GuestNetwork::Outgoing,
                false => GuestNetwork::None,
            },
            listen: http_path.as_ref().map(|_| GUEST_PORT),
            limits: limits_of(&ask.limits),
        };
        let heard = Heard {
            log: log.at_most(ask.limits.log_lines),
            last: LastLines::default(),
            pumps: TaskTracker::new(),
            missing,
        };
        let mut start = Start {
            deployer,
            ask: &ask,
            masks: &masks,
            heard,
            spec,
            http_path,
        };
        let (guest, relay) = start.joined(began).await?;
        let mut heard = start.heard;
        // From now on it is not for want of a variable that it ends.
        heard.missing.clear();
        let instance = Instance {
            release: ask.release,
            relay: Arc::new(relay),
            masks: None,
            taken: Some(guest.taken()),
            stop: CancellationToken::new(),
            ended: Arc::default(),
        };
        instance.watch(deployer, guest, heard);
        Ok(instance)
    }

    /// A server that runs elsewhere and has answered there: of it there is the relay here, and what goes on beside it, such as its log.
    pub(super) fn elsewhere(
        deployer: &Deployer,
        release: i32,
        relay: Relay,
        masks: Arc<Masks>,
        beside: impl Future<Output = ()> + Send + 'static,
    ) -> Instance {
        let instance = Instance {
            release,
            relay: Arc::new(relay),
            masks: Some(masks),
            taken: None,
            stop: CancellationToken::new(),
            ended: Arc::default(),
        };
        let (stop, ended) = (instance.stop.clone(), Arc::clone(&instance.ended));
        deployer.0.tasks.spawn(async move {
            stop.run_until_cancelled(async {
                beside.await;
                std::future::pending::<()>().await;
            })
            .await;
            ended.flag.store(true, Ordering::Release);
            ended.notify.notify_waiters();
        });
        instance
    }

    /// From now on it masks what these do, which is more than before.
    pub(super) fn mask_more(&self, masks: &Masks) {
        if let Some(own) = &self.masks {
            own.become_like(masks);
        }
    }

    /// Who answered the handshake, in a sentence.
    pub(super) fn answered(&self) -> String {
        let name = self.relay.server_info()["serverInfo"]["name"].to_string();
        format!("{name} answered.")
    }

    /// Watches over the guest until it ends or is to stop; then nothing of it is left.
    fn watch(&self, deployer: &Deployer, mut guest: Guest, heard: Heard) {
        let (stop, ended, relay) = (
            self.stop.clone(),
            Arc::clone(&self.ended),
            Arc::clone(&self.relay),
        );
        let waker = deployer.clone();
        deployer.0.tasks.spawn(async move {
            let why = tokio::select! {
                () = stop.cancelled() => {
                    relay.close();
                    guest.stop(STOP_GRACE).await;
                    heard.log.say("The server was stopped.");
                    String::new()
                }
                exit = ending(&mut guest, &relay) => {
                    let why = match exit {
                        Some(exit) => format!("The server {}.", how(&guest, exit)),
                        None => {
                            guest.stop(STOP_GRACE).await;
                            "The server closed its output and was stopped.".to_owned()
                        }
                    };
                    heard.log.say(&why);
                    heard.with_last_lines(&why).await
                }
            };
            drop(guest);
            if let Ok(mut slot) = ended.why.lock() {
                *slot = why;
            }
            ended.flag.store(true, Ordering::Release);
            ended.notify.notify_waiters();
            waker.wake();
        });
    }

    /// What it takes of this machine now; none of one elsewhere.
    pub(super) fn usage(&self) -> Option<GuestUsage> {
        let taken = self.taken.as_ref()?;
        let mib = |bytes: u64| u32::try_from(bytes >> 20).unwrap_or(u32::MAX);
        Some(GuestUsage {
            memory_mib: mib(taken.memory_bytes()),
            processes: taken.processes(),
            disk_mib: mib(taken.disk_bytes()),
        })
    }

    pub(super) fn relay(&self) -> Arc<Relay> {
        Arc::clone(&self.relay)
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.flag.load(Ordering::Acquire)
    }

    /// Returns when nothing of it is left.
    pub(super) async fn ended(&self) {
        loop {
            let ended = self.ended.notify.notified();
            if self.has_ended() {
                return;
            }
            ended.await;
        }
    }

    /// Why it ended; empty when it was stopped.
    pub(super) fn why(&self) -> String {
        self.ended
            .why
            .lock()
            .map(|why| why.clone())
            .unwrap_or_default()
    }

    /// Stops it and waits until nothing of it is left.
    pub(super) async fn stop(&self) {
        self.stop.cancel();
        self.ended().await;
    }
}

/// A start on its way to a server that answers.
struct Start<'a> {
    deployer: &'a Deployer,
    ask: &'a StartAsk,
    masks: &'a Arc<Masks>,
    heard: Heard,
    spec: GuestSpec,
    http_path: Option<String>,
}

/// Why a guest did not answer the handshake.
struct NotJoined {
    why: String,
    has_ended: bool,
}

impl Start<'_> {
    /// Starts the guest and does the handshake. A stdio server is asked first whether it speaks the stateless era; one that ends at
    /// that is started once more and not asked.
    async fn joined(&mut self, began: impl AsyncFnOnce()) -> Result<(Guest, Relay), StartFailure> {
        let unprobed = &self.deployer.0.unprobed;
        let may_probe = self.http_path.is_none() && unprobed.may_be_asked(self.ask);
        let mut guest = self.spawn().await?;
        began().await;
        let mut joined = self.join(&mut guest, may_probe).await;
        if may_probe && matches!(&joined, Err(not) if not.has_ended) {
            guest.stop(Duration::ZERO).await;
            unprobed.not_again(self.ask);
            self.heard.last = LastLines::default();
            guest = self.spawn().await?;
            joined = self.join(&mut guest, false).await;
        }
        match joined {
            Ok(relay) => Ok((guest, relay)),
            Err(NotJoined { why, .. }) => {
                guest.stop(Duration::ZERO).await;
                Err(StartFailure {
                    reason: self.heard.with_last_lines(&why).await,
                    lasting: false,
                })
            }
        }
    }

    async fn spawn(&self) -> Result<Guest, StartFailure> {
        let spawned = self.deployer.0.sandbox.spawn(self.spec.clone()).await;
        let mut guest = spawned.map_err(|error| StartFailure {
            reason: format!("The sandbox could not start the server: {error}"),
            lasting: false,
        })?;
        if let Some(stderr) = guest.stderr.take() {
            self.heard.pump("stderr", stderr, self.masks);
        }
        Ok(guest)
    }

    async fn join(&self, guest: &mut Guest, may_probe: bool) -> Result<Relay, NotJoined> {
        let calls = calls::open(self.deployer, self.ask.deployment_id, self.ask.own.clone());
        match &self.http_path {
            Some(path) => {
                if let Some(stdout) = guest.stdout.take() {
                    self.heard.pump("stdout", stdout, self.masks);
                }
                self.join_http(guest, path.clone(), calls).await
            }
            None => self.join_stdio(guest, calls, may_probe).await,
        }
    }

    async fn join_http(
        &self,
        guest: &mut Guest,
        path: String,
        calls: mpsc::Sender<Called>,
    ) -> Result<Relay, NotJoined> {
        let Some(socket) = guest.http_socket.clone() else {
            return Err(NotJoined::because("The server has no way in."));
        };
        let options = Options {
            calls: Some(calls),
            ..Options::default()
        };
        let masks = Arc::clone(self.masks);
        let handshake = HttpRelay::start_with(socket, path, masks, HANDSHAKE_TIMEOUT, options);
        tokio::select! {
            relay = handshake => relay.map(Relay::Http).map_err(|error| NotJoined::because(&error.to_string())),
            exit = guest.wait() => Err(NotJoined::ended(guest, exit)),
        }
    }

    async fn join_stdio(
        &self,
        guest: &mut Guest,
        calls: mpsc::Sender<Called>,
        may_probe: bool,
    ) -> Result<Relay, NotJoined> {
        let (Some(stdin), Some(stdout)) = (guest.stdin.take(), guest.stdout.take()) else {
            return Err(NotJoined::because("The server's pipes are gone."));
        };
        let (stray, mut strays) = mpsc::channel::<String>(STRAY_LINES);
        let (log, last) = (self.heard.log.clone(), self.heard.last.clone());
        self.heard.pumps.spawn(async move {
            while let Some(line) = strays.recv().await {
                last.push(&line);
                log.push("stdout", line);
            }
        });
        let own = self.ask.own.as_ref();
        let options = Options {
            log: Some(stray),
            calls: Some(calls),
            client_capabilities: own.map(|own| own.capabilities),
            may_probe,
            ..Options::default()
        };
        let masks = Arc::clone(self.masks);
        match StdioRelay::start_with(stdin, stdout, masks, HANDSHAKE_TIMEOUT, options).await {
            Ok(relay) => {
                if relay.was_silent() {
                    self.deployer.0.unprobed.not_again(self.ask);
                }
                Ok(Relay::Stdio(relay))
            }
            Err(error) => {
                // With the exit status where it ended by itself, which says more.
                let exit = tokio::time::timeout(EXIT_AFTER_OUTPUT, guest.wait()).await;
                Err(match exit {
                    Ok(exit) => NotJoined::ended(guest, exit),
                    Err(_) => NotJoined {
                        has_ended: matches!(error, HandshakeError::Ended(_)),
                        why: error.to_string(),
                    },
                })
            }
        }
    }
}

impl NotJoined {
    fn because(why: &str) -> Self {
        Self {
            why: why.to_owned(),
            has_ended: false,
        }
    }

    fn ended(guest: &Guest, exit: GuestExit) -> Self {
        let how = how(guest, exit);
        Self {
            why: format!("The server {how} before it answered the MCP handshake."),
            has_ended: true,
        }
    }
}

/// What a guest says, on its way into the log.
struct Heard {
    log: Log,
    last: LastLines,
    /// What reads its pipes.
    pumps: TaskTracker,
    /// Variables that the source asks for and nothing is bound to.
    missing: Vec<String>,
}

impl Heard {
    fn pump(
        &self,
        stream: &'static str,
        pipe: impl AsyncRead + Send + Unpin + 'static,
        masks: &Arc<Masks>,
    ) {
        let log = self.log.clone();
        self.pumps
            .spawn(log.pump(stream, pipe, Arc::clone(masks), self.last.clone()));
    }

    /// The reason with what was missing and the last lines, which arrive as the pipes of an ended server close.
    async fn with_last_lines(&self, why: &str) -> String {
        self.pumps.close();
        let _ = tokio::time::timeout(LAST_WORDS, self.pumps.wait()).await;
        let mut said = why.to_owned();
        if !self.missing.is_empty() {
            said.push_str(&format!(
                " Its source asks for {}, which nothing is bound to.",
                self.missing.join(", ")
            ));
        }
        match self.last.joined() {
            last if last.is_empty() => said,
            last => format!("{said} Its last lines: {last}"),
        }
    }
}

/// Waits until a guest ends by itself; none when only its output has ended.
async fn ending(guest: &mut Guest, relay: &Relay) -> Option<GuestExit> {
    tokio::select! {
        exit = guest.wait() => return Some(exit),
        () = relay.closed() => {}
    }
    tokio::time::timeout(EXIT_AFTER_OUTPUT, guest.wait())
        .await
        .ok()
}

/// Of the variables that a source asks for, those without a binding.
fn not_bound(wants: &[String], is_bound: impl Fn(&str) -> bool) -> Vec<String> {
    let missing = wants.iter().filter(|name| !is_bound(name));
    missing.take(MISSING_MAX).cloned().collect()
}

fn limits_of(limits: &GuestLimits) -> Limits {
    let bytes = |mib: u32| u64::from(mib) << 20;
    Limits {
        memory_bytes: bytes(limits.memory_mib),
        open_files: limits.open_files.into(),
        processes: limits.processes.into(),
        file_bytes: bytes(limits.file_mib),
        disk_bytes: bytes(limits.disk_mib),
    }
}

/// How a guest ended, in words that follow "the server".
fn how(guest: &Guest, exit: GuestExit) -> String {
    match guest.took_too_much() {
        Some(TooMuch::Memory) => "took more memory than it may have and was ended".to_owned(),
        Some(TooMuch::Disk) => "kept more on the disk than it may have and was ended".to_owned(),
        None => exit.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A guest that is told nothing is bound as a server that is told nothing.
    #[test]
    fn what_is_usual_is_so_in_both_places() {
        let told = limits_of(&GuestLimits::default());
        assert_eq!(told, Limits::default());
    }
}
