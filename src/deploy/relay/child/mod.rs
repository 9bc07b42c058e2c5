//! A stdio server's two pipes: requests of many clients go in under numbers of our own, and each
//! answer comes back to the one who asked.

mod asks;
mod pipes;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite, BufReader};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::called::{Called, Calling};
use super::guesses::Guesses;
use super::room::{Full, Held, Room};
use super::wire::{CANCELLED, LISTEN, RpcError, SERVER_GONE, SUBSCRIPTION_KEY, is_id};
use super::{ClientKey, Limits, Options};
use crate::deploy::masks::Masks;
pub(super) use asks::{CanAnswer, ClientAnswer};
use asks::{Question, Waiting};

/// Lines that wait to be written; each is at most a request's body long.
const LINES: usize = 16;
/// Our answers to the server's own requests; more are dropped, so that a server that asks without
/// reading cannot fill the memory.
const REPLIES: usize = 64;
/// What comes before an answer and waits for a slow client; more is dropped.
const TOLD_PLACES: usize = 64;

/// Takes what the server tells everybody.
pub(super) type Notify = Box<dyn Fn(Told<'_>) + Send + Sync>;

/// A notification, masked.
pub(super) struct Told<'m> {
    pub message: &'m Value,
    /// What it takes of the room.
    pub weight: usize,
    /// How many strings were masked in it.
    pub masked: usize,
}

/// Cheap to clone; [`Closing`] ends it.
#[derive(Clone)]
pub(super) struct Child {
    shared: Arc<Shared>,
}

/// Closes the server's input when it is dropped.
pub(super) struct Closing(pub Child);

struct Shared {
    limits: Limits,
    masks: Arc<Masks>,
    room: Room,
    guesses: Guesses,
    lines: mpsc::Sender<Outgoing>,
    replies: mpsc::Sender<Vec<u8>>,
    /// Whether one caller alone is served, who can be asked.
    may_ask: bool,
    calls: Option<mpsc::Sender<Called>>,
    state: Mutex<State>,
    /// Something waits for somebody to be asked.
    waits: tokio::sync::Notify,
    ended: CancellationToken,
}

/// A line for the server, and the room it takes until it is written.
struct Outgoing {
    line: Vec<u8>,
    _held: Option<Held>,
}

struct State {
    next_id: u64,
    pending: HashMap<u64, Pending>,
    asked: HashMap<u64, Question>,
    waiting: Vec<Waiting>,
    /// Why the server is gone, once it is.
    ended: Option<String>,
}

struct Pending {
    asker: Asker,
    /// What the asker calls the request, for cancelling it.
    client_id: Value,
    can_answer: CanAnswer,
    wants_progress: bool,
    is_subscription: bool,
    told: mpsc::Sender<(Value, Held)>,
    answer: oneshot::Sender<Reply>,
}

enum Reply {
    Answer(Value, Held),
    /// The answer had no room.
    Full(Full),
    Cancelled,
}

/// On whose behalf a request is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asker {
    pub client: ClientKey,
    pub session: Option<Uuid>,
}

impl State {
    /// A number that nothing had before.
    fn number(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }
}

/// A request that the server has not answered. Dropping it forgets the answer.
pub(super) struct Call {
    shared: Arc<Shared>,
    id: u64,
    client_id: Value,
    progress_token: Option<Value>,
    client: ClientKey,
    is_subscription: bool,
    told: mpsc::Receiver<(Value, Held)>,
    answer: oneshot::Receiver<Reply>,
    started: Instant,
    heard: Instant,
    timeout: Duration,
    cancel_on_drop: bool,
    calling: Option<Calling>,
}

/// What comes of a call; after an answer or a failure comes nothing more.
pub(super) enum Said {
    /// Progress, what a subscription tells, or a question to the client.
    Told(Value, Held, usize),
    /// The whole message with the client's id.
    Answer(Value, Held),
    Failed(RpcError),
}

impl Child {
    pub fn new(
        stdin: impl AsyncWrite + Send + Unpin + 'static,
        stdout: impl AsyncRead + Send + Unpin + 'static,
        masks: Arc<Masks>,
        options: Options,
        notify: Notify,
    ) -> Self {
        let (lines, lines_out) = mpsc::channel(LINES);
        let (replies, replies_out) = mpsc::channel(REPLIES);
        let ended = CancellationToken::new();
        let shared = Arc::new(Shared {
            limits: options.limits,
            masks,
            room: options.room,
            guesses: options.guesses,
            lines,
            replies,
            may_ask: options.client_capabilities.is_some(),
            calls: options.calls,
            state: Mutex::new(State {
                next_id: 0,
                pending: HashMap::new(),
                asked: HashMap::new(),
                waiting: Vec::new(),
                ended: None,
            }),
            waits: tokio::sync::Notify::new(),
            ended,
        });
        tokio::spawn(asks::give_up_waiting(Arc::clone(&shared)));
        let ended = shared.ended.clone();
        tokio::spawn(pipes::write(stdin, lines_out, replies_out, ended));
        let reader = pipes::Reader {
            shared: Arc::clone(&shared),
            log: options.log,
            log_masks: options
                .log_masks
                .unwrap_or_else(|| Arc::clone(&shared.masks)),
            notify,
        };
        tokio::spawn(reader.run(BufReader::new(stdout)));
        Self { shared }
    }

    pub fn ended(&self) -> CancellationToken {
        self.shared.ended.clone()
    }

    /// Closes its input, for good.
    pub fn close(&self) {
        self.shared.end("The server was stopped.");
    }

    /// Why the server is gone, once it is.
    pub fn reason(&self) -> Option<String> {
        self.shared.state().ended.clone()
    }

    /// Sends a request under a number of our own; of it nothing is kept but what its answer needs.
    /// What it asks of the client during the call is passed on as far as the client can answer it.
    pub async fn call(
        &self,
        asker: Asker,
        can_answer: CanAnswer,
        mut request: Value,
        held: Option<Held>,
    ) -> Result<Call, RpcError> {
        let (told_in, told) = mpsc::channel(TOLD_PLACES);
        let (answer_in, answer) = oneshot::channel();
        let client_id = request["id"].clone();
        let progress_token = request
            .pointer("/params/_meta/progressToken")
            .filter(|token| is_id(token))
            .cloned();
        let is_subscription = request["method"] == LISTEN;
        let pending = Pending {
            asker,
            client_id: client_id.clone(),
            can_answer,
            wants_progress: progress_token.is_some(),
            is_subscription,
            told: told_in,
            answer: answer_in,
        };
        let calling = Calling::of(
            self.shared.calls.as_ref(),
            &self.shared.masks,
            asker.client,
            &request,
        );
        let id = self.shared.register(pending)?;
        let now = Instant::now();
        // Made before sending, so that giving up while sending forgets the request too.
        let call = Call {
            shared: Arc::clone(&self.shared),
            id,
            client_id,
            progress_token,
            client: asker.client,
            is_subscription,
            told,
            answer,
            started: now,
            heard: now,
            timeout: match is_subscription {
                true => self.shared.limits.stream_total,
                false => self.shared.limits.request_timeout,
            },
            cancel_on_drop: is_subscription,
            calling,
        };
        request["id"] = json!(id);
        if let Some(token) = request.pointer_mut("/params/_meta/progressToken") {
            *token = json!(id);
        }
        self.send(request, held).await?;
        Ok(call)
    }

    /// Sends a message, which takes its room until it is written.
    pub async fn send(&self, message: Value, held: Option<Held>) -> Result<(), RpcError> {
        let outgoing = Outgoing::new(message, held);
        tokio::select! {
            sent = self.shared.lines.send(outgoing) => sent.map_err(|_| RpcError::gone()),
            () = self.shared.ended.cancelled() => Err(RpcError::gone()),
            () = tokio::time::sleep(self.shared.limits.request_timeout) => Err(RpcError::timed_out(self.shared.limits.request_timeout)),
        }
    }

    /// Waits for the answer to what is sent before there are clients.
    pub async fn first(
        &self,
        request: Value,
        timeout: Duration,
    ) -> Result<Value, super::HandshakeError> {
        use super::HandshakeError::{Ended, TimedOut};
        let asker = Asker {
            // Nobody's: what callers hold and guess is counted apart.
            client: ClientKey::nobody(),
            session: None,
        };
        let answered = async {
            let mut call = self
                .call(asker, CanAnswer::default(), request, None)
                .await?;
            // A server may take longer to start than to answer; the wait around this one decides.
            call.timeout = self.shared.limits.request_total_timeout;
            call.answer().await
        };
        match tokio::time::timeout(timeout, answered).await {
            Err(_) => Err(TimedOut(timeout)),
            Ok(Err(error)) => Err(Ended(self.reason().unwrap_or(error.message))),
            Ok(Ok((answer, _))) => Ok(answer),
        }
    }

    /// Nothing yet of the room, in this caller's name.
    pub fn hold(&self, client: ClientKey) -> Held {
        self.shared.room.hold(client)
    }

    /// How many requests the server has not answered; what only listens does not count.
    pub fn answering(&self) -> usize {
        let state = self.shared.state();
        let pending = state.pending.values();
        pending.filter(|pending| !pending.is_subscription).count()
    }

    /// Cancels what the asker calls `client_id`.
    pub async fn cancel(
        &self,
        asker: Asker,
        client_id: &Value,
        reason: Option<&Value>,
    ) -> Result<(), RpcError> {
        self.shared.state().forget_questions(asker, Some(client_id));
        for id in self
            .shared
            .take(|pending| pending.asker == asker && pending.client_id == *client_id)
        {
            self.send(cancelled(id, reason), None).await?;
        }
        Ok(())
    }

    /// Cancels all that a session waits for, because it ends.
    pub async fn cancel_all(&self, asker: Asker) -> Result<(), RpcError> {
        self.shared.state().forget_questions(asker, None);
        for id in self.shared.take(|pending| pending.asker == asker) {
            self.send(cancelled(id, Some(&json!("The session ended."))), None)
                .await?;
        }
        Ok(())
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        // Ends both tasks, which closes the pipes: a stdio server stops when its input closes.
        self.0.shared.end("The relay was closed.");
    }
}

impl Call {
    /// Whether the server is told when the asker goes away, as the stateless era has it.
    pub fn cancel_on_drop(&mut self) {
        self.cancel_on_drop = true;
    }

    pub async fn next(&mut self) -> Said {
        let limits = self.shared.limits;
        let deadline = (self.heard + self.timeout).min(self.started + limits.request_total_timeout);
        let longest = match self.is_subscription {
            true => limits.stream_total,
            false => limits.request_total_timeout,
        };
        if self.started.elapsed() >= longest {
            // Also while there is always something more to tell.
            return self.late();
        }
        tokio::select! {
            // It came before the answer and goes out before it.
            biased;
            Some((message, held)) = self.told.recv() => {
                self.heard = Instant::now();
                self.tell(message, held).await
            }
            reply = &mut self.answer => match reply {
                Ok(Reply::Answer(mut message, held)) => {
                    if let Some(calling) = &mut self.calling {
                        calling.answered(&message);
                    }
                    let masked = self.shared.masks.json(&mut message);
                    message["id"] = self.client_id.clone();
                    if let Some(id) = message.pointer_mut("/result/_meta").and_then(|meta| meta.get_mut(SUBSCRIPTION_KEY)) {
                        *id = self.client_id.clone();
                    }
                    self.shared.guesses.slow(self.client, masked).await;
                    Said::Answer(message, held)
                }
                Ok(Reply::Full(full)) => Said::Failed(full.answer_error()),
                Ok(Reply::Cancelled) => Said::Failed(RpcError::new(StatusCode::OK, CANCELLED, "The request was cancelled.")),
                Err(_) => Said::Failed(RpcError::gone()),
            },
            () = tokio::time::sleep_until(deadline) => self.late(),
        }
    }

    fn late(&mut self) -> Said {
        self.cancel_on_drop = true;
        match self.is_subscription {
            true => self.enough(),
            false => Said::Failed(RpcError::timed_out(self.shared.limits.request_timeout)),
        }
    }

    /// A message that comes before the answer, under the client's own names.
    async fn tell(&mut self, mut message: Value, held: Held) -> Said {
        let masked = self.shared.masks.json(&mut message);
        if message.get("id").is_some() {
            // A person who is asked takes their time.
            self.timeout = self.shared.limits.request_total_timeout;
        } else if message["method"] == "notifications/progress" {
            message["params"]["progressToken"] = self.progress_token.clone().unwrap_or_default();
        } else if self.is_subscription
            && let Some(id) = message
                .pointer_mut("/params/_meta")
                .and_then(|meta| meta.get_mut(SUBSCRIPTION_KEY))
        {
            *id = self.client_id.clone();
        }
        if self.is_subscription {
            self.timeout = (self.shared.limits.stream_total).saturating_sub(self.started.elapsed());
        }
        self.shared.guesses.slow(self.client, masked).await;
        Said::Told(message, held, masked)
    }

    /// The end of a subscription that was open for as long as one may be: its client asks again.
    fn enough(&self) -> Said {
        let mut result = json!({"resultType": "complete"});
        result["_meta"][SUBSCRIPTION_KEY] = self.client_id.clone();
        let answer = json!({"jsonrpc": "2.0", "id": self.client_id, "result": result});
        Said::Answer(answer, self.shared.room.hold(self.client))
    }

    /// The answer; what comes before it is left out.
    pub async fn answer(&mut self) -> Result<(Value, Held), RpcError> {
        loop {
            match self.next().await {
                Said::Told(..) => {}
                Said::Answer(message, held) => return Ok((message, held)),
                Said::Failed(error) => return Err(error),
            }
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let (unanswered, asked) = {
            let mut state = self.shared.state();
            let unanswered = state.pending.remove(&self.id).is_some();
            (unanswered, state.forget_asked(self.id))
        };
        if unanswered {
            for id in asked {
                self.shared
                    .refuse(&id, "The client that was asked went away.");
            }
        }
        if unanswered && self.cancel_on_drop {
            // When there is no room the server learns nothing, and its answer is dropped.
            let told = Outgoing::new(cancelled(self.id, None), None);
            let _ = self.shared.lines.try_send(told);
        }
    }
}

impl Outgoing {
    fn new(message: Value, mut held: Option<Held>) -> Self {
        let mut line = message.to_string().into_bytes();
        line.push(b'\n');
        if let Some(held) = &mut held {
            held.shrink(line.len());
        }
        Self { line, _held: held }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn register(&self, pending: Pending) -> Result<u64, RpcError> {
        let mut state = self.state();
        if state.ended.is_some() {
            return Err(RpcError::gone());
        }
        let own = state
            .pending
            .values()
            .filter(|other| other.asker.client.user == pending.asker.client.user)
            .count();
        if state.pending.len() >= self.limits.pending || own >= self.limits.pending_per_user {
            return Err(RpcError::new(
                StatusCode::TOO_MANY_REQUESTS,
                SERVER_GONE,
                "Too many requests wait for this server; try again when some are answered.",
            ));
        }
        let id = state.number();
        state.pending.insert(id, pending);
        self.put_waiting(&mut state, id);
        Ok(id)
    }

    /// Takes the requests that `choose` chooses off the table and tells their askers.
    fn take(&self, choose: impl Fn(&Pending) -> bool) -> Vec<u64> {
        let mut state = self.state();
        let ids: Vec<u64> = state
            .pending
            .iter()
            .filter(|(_, pending)| choose(pending))
            .map(|(id, _)| *id)
            .collect();
        for id in &ids {
            if let Some(pending) = state.pending.remove(id) {
                let _ = pending.answer.send(Reply::Cancelled);
            }
        }
        ids
    }

    fn end(&self, reason: &str) {
        let mut state = self.state();
        if state.ended.is_none() {
            state.ended = Some(reason.to_owned());
        }
        // Whoever waits learns it by the closed channel.
        state.pending.clear();
        state.asked.clear();
        state.waiting.clear();
        drop(state);
        self.ended.cancel();
    }
}

fn cancelled(id: u64, reason: Option<&Value>) -> Value {
    let mut params = json!({"requestId": id});
    if let Some(reason) = reason {
        params["reason"] = reason.clone();
    }
    json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params})
}
