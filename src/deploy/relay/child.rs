//! A stdio server's two pipes: requests of many clients go in under numbers of our own, and each
//! answer comes back to the one who asked.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::StatusCode;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::called::{Called, Calling};
use super::guesses::Guesses;
use super::room::{Full, Held, Room, weigh};
use super::wire::{CANCELLED, Kind, METHOD_NOT_FOUND, RpcError, SERVER_GONE, is_id, kind};
use super::{ClientKey, Limits, Options};
use crate::deploy::masks::Masks;

/// Lines that wait to be written; each is at most a request's body long.
const LINES: usize = 16;
/// Our answers to the server's own requests; more are dropped, so that a server that asks without
/// reading cannot fill the memory.
const REPLIES: usize = 64;
/// Progress that waits for a slow client; more is dropped.
const PROGRESS: usize = 64;
const LOG_LINE_BYTES: usize = 16 << 10;

/// The buffer of a longer line is given back after it.
const KEPT_BUFFER_BYTES: usize = 64 << 10;

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

pub(super) struct Child {
    shared: Arc<Shared>,
}

struct Shared {
    limits: Limits,
    masks: Arc<Masks>,
    room: Room,
    guesses: Guesses,
    lines: mpsc::Sender<Outgoing>,
    calls: Option<mpsc::Sender<Called>>,
    state: Mutex<State>,
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
    /// Why the server is gone, once it is.
    ended: Option<String>,
}

struct Pending {
    asker: Asker,
    /// What the asker calls the request, for cancelling it.
    client_id: Value,
    /// None when it does not want any.
    progress: Option<mpsc::Sender<(Value, Held)>>,
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

/// A request that the server has not answered. Dropping it forgets the answer.
pub(super) struct Call {
    shared: Arc<Shared>,
    id: u64,
    client_id: Value,
    progress_token: Option<Value>,
    client: ClientKey,
    progress: mpsc::Receiver<(Value, Held)>,
    answer: oneshot::Receiver<Reply>,
    started: Instant,
    heard: Instant,
    timeout: Duration,
    cancel_on_drop: bool,
    calling: Option<Calling>,
}

/// What comes of a call; after an answer or a failure comes nothing more.
pub(super) enum Said {
    Progress(Value, Held),
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
            calls: options.calls,
            state: Mutex::new(State {
                next_id: 1,
                pending: HashMap::new(),
                ended: None,
            }),
            ended,
        });
        tokio::spawn(write(stdin, lines_out, replies_out, shared.ended.clone()));
        let reader = Reader {
            shared: Arc::clone(&shared),
            replies,
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
    pub async fn call(
        &self,
        asker: Asker,
        mut request: Value,
        held: Option<Held>,
    ) -> Result<Call, RpcError> {
        let (progress_in, progress) = mpsc::channel(PROGRESS);
        let (answer_in, answer) = oneshot::channel();
        let client_id = request["id"].clone();
        let progress_token = request
            .pointer("/params/_meta/progressToken")
            .filter(|token| is_id(token))
            .cloned();
        let pending = Pending {
            asker,
            client_id: client_id.clone(),
            progress: progress_token.is_some().then_some(progress_in),
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
            progress,
            answer,
            started: now,
            heard: now,
            timeout: self.shared.limits.request_timeout,
            cancel_on_drop: false,
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

    /// Waits for the handshake's answer.
    pub async fn handshake(
        &self,
        request: Value,
        timeout: Duration,
    ) -> Result<Value, super::HandshakeError> {
        use super::HandshakeError::{Ended, NotUnderstood, Refused, TimedOut};
        let asker = Asker {
            // Nobody's: what callers hold and guess is counted apart.
            client: ClientKey(uuid::Builder::from_random_bytes(rand::random()).into_uuid()),
            session: None,
        };
        let answered = async {
            let mut call = self.call(asker, request, None).await?;
            // A server may take longer to start than to answer; the wait around this one decides.
            call.timeout = self.shared.limits.request_total_timeout;
            call.answer().await
        };
        let answer = match tokio::time::timeout(timeout, answered).await {
            Err(_) => return Err(TimedOut(timeout)),
            Ok(Err(error)) => return Err(Ended(self.reason().unwrap_or(error.message))),
            Ok(Ok((answer, _))) => answer,
        };
        if let Some(message) = answer.pointer("/error/message") {
            return Err(Refused(
                message
                    .as_str()
                    .unwrap_or("no reason given")
                    .chars()
                    .take(500)
                    .collect(),
            ));
        }
        match answer.get("result") {
            Some(result)
                if result["protocolVersion"].is_string() && result["capabilities"].is_object() =>
            {
                Ok(result.clone())
            }
            _ => Err(NotUnderstood(
                "it has no protocolVersion or no capabilities.".to_owned(),
            )),
        }
    }

    /// Cancels what the asker calls `client_id`.
    pub async fn cancel(
        &self,
        asker: Asker,
        client_id: &Value,
        reason: Option<&Value>,
    ) -> Result<(), RpcError> {
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
        for id in self.shared.take(|pending| pending.asker == asker) {
            self.send(cancelled(id, Some(&json!("The session ended."))), None)
                .await?;
        }
        Ok(())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Ends both tasks, which closes the pipes: a stdio server stops when its input closes.
        self.shared.end("The relay was closed.");
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
        tokio::select! {
            // Progress came before the answer and goes out before it.
            biased;
            Some((mut progress, held)) = self.progress.recv() => {
                self.heard = Instant::now();
                let masked = self.shared.masks.json(&mut progress);
                progress["params"]["progressToken"] = self.progress_token.clone().unwrap_or_default();
                self.shared.guesses.slow(self.client, masked).await;
                Said::Progress(progress, held)
            }
            reply = &mut self.answer => match reply {
                Ok(Reply::Answer(mut message, held)) => {
                    if let Some(calling) = &mut self.calling {
                        calling.answered(&message);
                    }
                    let masked = self.shared.masks.json(&mut message);
                    message["id"] = self.client_id.clone();
                    self.shared.guesses.slow(self.client, masked).await;
                    Said::Answer(message, held)
                }
                Ok(Reply::Full(full)) => Said::Failed(full.answer_error()),
                Ok(Reply::Cancelled) => Said::Failed(RpcError::new(StatusCode::OK, CANCELLED, "The request was cancelled.")),
                Err(_) => Said::Failed(RpcError::gone()),
            },
            () = tokio::time::sleep_until(deadline) => {
                self.cancel_on_drop = true;
                Said::Failed(RpcError::timed_out(self.shared.limits.request_timeout))
            }
        }
    }

    /// The answer; progress is left out.
    pub async fn answer(&mut self) -> Result<(Value, Held), RpcError> {
        loop {
            match self.next().await {
                Said::Progress(..) => {}
                Said::Answer(message, held) => return Ok((message, held)),
                Said::Failed(error) => return Err(error),
            }
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let unanswered = self.shared.state().pending.remove(&self.id).is_some();
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
            .filter(|other| other.asker.client == pending.asker.client)
            .count();
        if state.pending.len() >= self.limits.pending || own >= self.limits.pending_per_client {
            return Err(RpcError::new(
                StatusCode::TOO_MANY_REQUESTS,
                SERVER_GONE,
                "Too many requests wait for this server; try again when some are answered.",
            ));
        }
        let id = state.next_id;
        state.next_id += 1;
        state.pending.insert(id, pending);
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

async fn write(
    mut stdin: impl AsyncWrite + Unpin,
    mut lines: mpsc::Receiver<Outgoing>,
    mut replies: mpsc::Receiver<Vec<u8>>,
    ended: CancellationToken,
) {
    loop {
        let Outgoing { line, _held } = tokio::select! {
            biased;
            () = ended.cancelled() => break,
            Some(line) = replies.recv() => Outgoing { line, _held: None },
            Some(outgoing) = lines.recv() => outgoing,
            else => break,
        };
        let written = async {
            stdin.write_all(&line).await?;
            stdin.flush().await
        };
        // A server that closed its input may still answer; its output's end is what counts.
        let failed = tokio::select! {
            () = ended.cancelled() => true,
            written = written => written.is_err(),
        };
        if failed {
            break;
        }
    }
}

struct Reader {
    shared: Arc<Shared>,
    replies: mpsc::Sender<Vec<u8>>,
    log: Option<mpsc::Sender<String>>,
    log_masks: Arc<Masks>,
    notify: Notify,
}

impl Reader {
    async fn run(self, mut stdout: impl AsyncBufRead + Unpin) {
        let ended = self.shared.ended.clone();
        let mut line = Vec::new();
        let reason = loop {
            line.clear();
            line.shrink_to(KEPT_BUFFER_BYTES);
            let read = tokio::select! {
                () = ended.cancelled() => break "The relay was closed.".to_owned(),
                read = read_line(&mut stdout, &mut line, self.shared.limits.message_bytes) => read,
            };
            match read {
                Ok(Line::Whole) => self.line(&line),
                Ok(Line::Last) => {
                    self.line(&line);
                    break "The server closed its output.".to_owned();
                }
                Ok(Line::TooLong) => {
                    break format!(
                        "The server sent a line of more than {} bytes.",
                        self.shared.limits.message_bytes
                    );
                }
                Err(error) => break format!("The server's output could not be read: {error}."),
            }
        };
        self.shared.end(&reason);
    }

    fn line(&self, line: &[u8]) {
        let line = line.trim_ascii();
        if line.is_empty() {
            return;
        }
        let weight = weigh(line);
        if self.shared.room.is_never(weight) {
            return self.too_heavy(line);
        }
        match serde_json::from_slice(line) {
            Ok(Value::Array(messages))
                if messages.iter().all(|message| kind(message).is_some()) =>
            {
                let weight = weight / messages.len().max(1);
                for message in messages {
                    self.message(message, weight);
                }
            }
            Ok(message) if kind(&message).is_some() => self.message(message, weight),
            _ => self.log(line),
        }
    }

    /// Whoever waits for a message that is never built is told so.
    fn too_heavy(&self, line: &[u8]) {
        #[derive(Deserialize)]
        struct Head {
            id: Option<u64>,
            method: Option<IgnoredAny>,
        }
        match serde_json::from_slice(line) {
            Ok(Head {
                id: Some(id),
                method: None,
            }) => {
                if let Some(pending) = self.shared.state().pending.remove(&id) {
                    let _ = pending.answer.send(Reply::Full(Full::Never));
                }
            }
            Ok(_) => {}
            Err(_) => self.log(line),
        }
    }

    fn message(&self, message: Value, weight: usize) {
        match kind(&message) {
            Some(Kind::Answer { id }) => {
                // An answer to nothing that was asked is dropped.
                let pending = id
                    .as_u64()
                    .and_then(|id| self.shared.state().pending.remove(&id));
                if let Some(pending) = pending {
                    let mut held = self.shared.room.hold(pending.asker.client);
                    let reply = match held.resize(weight) {
                        Ok(()) => Reply::Answer(message, held),
                        Err(full) => Reply::Full(full),
                    };
                    let _ = pending.answer.send(reply);
                }
            }
            Some(Kind::Request { id, method }) => self.refuse(id, method),
            Some(Kind::Notification {
                method: "notifications/progress",
            }) => self.progress(message, weight),
            // It cancels one of its own requests, and those were answered at once.
            Some(Kind::Notification {
                method: "notifications/cancelled",
            })
            | None => {}
            Some(Kind::Notification { .. }) => {
                let mut message = message;
                let masked = self.shared.masks.json(&mut message);
                (self.notify)(Told {
                    message: &message,
                    weight,
                    masked,
                });
            }
        }
    }

    /// A shared server's sampling or elicitation cannot be attributed to one of its clients.
    fn refuse(&self, id: &Value, method: &str) {
        let reply = match method {
            "ping" => json!({"jsonrpc": "2.0", "id": id, "result": {}}),
            _ => RpcError::new(
                StatusCode::OK,
                METHOD_NOT_FOUND,
                "This server is shared by several clients, so none of them can be asked.",
            )
            .message(id),
        };
        let mut line = reply.to_string().into_bytes();
        line.push(b'\n');
        let _ = self.replies.try_send(line);
    }

    fn progress(&self, message: Value, weight: usize) {
        let id = message
            .pointer("/params/progressToken")
            .and_then(Value::as_u64);
        let state = self.shared.state();
        let Some(pending) = id.and_then(|id| state.pending.get(&id)) else {
            return;
        };
        let mut held = self.shared.room.hold(pending.asker.client);
        if let (Some(progress), Ok(())) = (&pending.progress, held.resize(weight)) {
            let _ = progress.try_send((message, held));
        }
    }

    fn log(&self, line: &[u8]) {
        if let Some(log) = &self.log {
            let mut mask = self.log_masks.terminal();
            let mut masked = mask.feed(line);
            masked.extend(mask.finish());
            // Cut after masking: a value cut in two would not be found.
            let cut = &masked[..masked.len().min(LOG_LINE_BYTES)];
            let _ = log.try_send(String::from_utf8_lossy(cut).into_owned());
        }
    }
}

enum Line {
    Whole,
    /// The output ended; there may be a last line without an end.
    Last,
    TooLong,
}

async fn read_line(
    reader: &mut (impl AsyncBufRead + Unpin),
    line: &mut Vec<u8>,
    longest: usize,
) -> io::Result<Line> {
    loop {
        let available = reader.fill_buf().await?;
        if available.is_empty() {
            return Ok(Line::Last);
        }
        let end = available.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(available.len(), |end| end + 1);
        if line.len() + taken > longest {
            return Ok(Line::TooLong);
        }
        line.extend_from_slice(&available[..taken]);
        reader.consume(taken);
        if end.is_some() {
            return Ok(Line::Whole);
        }
    }
}
