//! An HTTP server as if it stood behind two pipes, so that clients of the era that it does not speak reach it as they reach a stdio
//! server. All of them share what the server knows of a client.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use super::events::Events;
use super::http::bounded;
use super::room::{Full, Held, Room, weigh};
use super::stateless::VERSION_KEY;
use super::wire::{
    Kind, RpcError, SESSION_HEADER, SESSION_VERSIONS, VERSION_HEADER, is_type, kind, named_in,
};
use super::{ClientKey, Limits};
use crate::deploy::json;

/// What a pipe holds.
const PIPE_BYTES: usize = 64 << 10;
const LINES: usize = 2;
/// Messages that want no answer, on their way at once, and for how long.
const TOLD: usize = 16;
const TOLD_FOR: Duration = Duration::from_secs(30);

/// Where the server is.
#[derive(Clone)]
pub(super) struct Address {
    pub http: reqwest::Client,
    pub url: String,
    /// What one elsewhere is shown with each request.
    pub bearer: Option<HeaderValue>,
}

/// The server's input and output.
pub(super) fn pipes(address: Address, room: Room, limits: Limits) -> (DuplexStream, DuplexStream) {
    let (stdin, requests) = tokio::io::duplex(PIPE_BYTES);
    let (mut answers, stdout) = tokio::io::duplex(PIPE_BYTES);
    let (lines, mut written) = mpsc::channel::<Vec<u8>>(LINES);
    let over = Over {
        address,
        room,
        limits,
        lines,
        session: Arc::default(),
        asking: Arc::default(),
        telling: Arc::new(Semaphore::new(TOLD)),
        ended: CancellationToken::new(),
    };
    let ended = over.ended.clone();
    tokio::spawn(async move {
        while let Some(mut line) = tokio::select! {
            line = written.recv() => line,
            () = ended.cancelled() => None,
        } {
            line.push(b'\n');
            if answers.write_all(&line).await.is_err() {
                break;
            }
        }
    });
    tokio::spawn(over.run(BufReader::new(requests)));
    (stdin, stdout)
}

/// With a server of that era.
#[derive(Default)]
struct Session {
    has_begun: bool,
    /// Some servers give none.
    id: Option<HeaderValue>,
}

#[derive(Clone)]
struct Over {
    address: Address,
    room: Room,
    limits: Limits,
    lines: mpsc::Sender<Vec<u8>>,
    session: Arc<Mutex<Session>>,
    /// Requests without an answer, by their ids as text.
    asking: Arc<Mutex<HashMap<String, AbortHandle>>>,
    telling: Arc<Semaphore>,
    ended: CancellationToken,
}

impl Over {
    async fn run(self, mut requests: BufReader<DuplexStream>) {
        let mut line = Vec::new();
        loop {
            line.clear();
            // Only the relay writes there, and its messages are bounded.
            let read = tokio::select! {
                read = requests.read_until(b'\n', &mut line) => read,
                () = self.ended.cancelled() => break,
            };
            if !matches!(read, Ok(1..)) {
                break;
            }
            if let Ok(message) = json::tree(&line) {
                self.send(message).await;
            }
        }
        self.ended.cancel();
        let asking = std::mem::take(&mut *self.asking());
        for request in asking.into_values() {
            request.abort();
        }
    }

    async fn send(&self, message: Value) {
        if message["method"] == "notifications/cancelled" {
            let id = message["params"]["requestId"].to_string();
            if let Some(request) = self.asking().remove(&id) {
                request.abort();
            }
            if !self.session().has_begun {
                // Where there are no sessions, closing the stream is what cancels.
                return;
            }
        }
        match kind(&message) {
            Some(Kind::Request { id, .. }) => {
                let id = id.clone();
                let is_full = self.asking().len() >= self.limits.pending;
                match is_full {
                    true => self.line(&RpcError::gone().message(&id)).await,
                    false => self.ask(id, message),
                }
            }
            // What wants no answer is left out when there is too much of it.
            _ => self.tell(message),
        }
    }

    fn ask(&self, id: Value, message: Value) {
        let (over, key) = (self.clone(), id.to_string());
        let mut asking = self.asking();
        let request = tokio::spawn(async move {
            let longest = over.limits.request_total_timeout;
            let asked = tokio::time::timeout(longest, over.asked(&message)).await;
            let failed = match asked {
                Ok(asked) => asked.err(),
                Err(_) => Some(RpcError::timed_out(longest)),
            };
            if let Some(error) = failed {
                over.line(&error.message(&id)).await;
            }
            over.asking().remove(&id.to_string());
        });
        asking.insert(key, request.abort_handle());
    }

    fn tell(&self, message: Value) {
        let Ok(place) = Arc::clone(&self.telling).try_acquire_owned() else {
            return;
        };
        let over = self.clone();
        tokio::spawn(async move {
            let _place = place;
            let _ = tokio::time::timeout(TOLD_FOR, over.asked(&message)).await;
        });
    }

    /// Sends one message and passes on what comes back.
    async fn asked(&self, message: &Value) -> Result<(), RpcError> {
        let mut request = self
            .address
            .http
            .post(&self.address.url)
            .header(ACCEPT, "application/json, text/event-stream")
            .header(CONTENT_TYPE, "application/json")
            .body(message.to_string());
        if let Some(bearer) = &self.address.bearer {
            request = request.header(AUTHORIZATION, bearer);
        }
        request = match message["params"]["_meta"][VERSION_KEY].as_str() {
            Some(version) => stated(request.header(VERSION_HEADER, version), message),
            None if message["method"] == "initialize" => request,
            None => {
                let request = request.header(VERSION_HEADER, SESSION_VERSIONS[0]);
                match self.session().id.clone() {
                    Some(session) => request.header(SESSION_HEADER, session),
                    None => request,
                }
            }
        };
        let answer = request.send().await.map_err(|_| RpcError::gone())?;
        let status = answer.status();
        if message["method"] == "initialize" {
            *self.session() = Session {
                has_begun: true,
                id: answer.headers().get(SESSION_HEADER).cloned(),
            };
        } else if status == StatusCode::NOT_FOUND && self.session().id.is_some() {
            // The session is over: whoever calls next begins another.
            self.ended.cancel();
            return Err(RpcError::gone());
        }
        if message.get("id").is_none() {
            return Ok(());
        }
        let nobody = ClientKey::nobody();
        let mut held = self.room.hold(nobody);
        if is_type(answer.headers(), "text/event-stream") && status.is_success() {
            return self.streamed(answer, held).await;
        }
        let body = bounded(answer, self.limits.message_bytes, &mut held).await?;
        held.resize_soon(weigh(&body))
            .await
            .map_err(Full::answer_error)?;
        match json::tree(&body) {
            Ok(answer) if matches!(kind(&answer), Some(Kind::Answer { .. })) => {
                self.line(&answer).await;
                Ok(())
            }
            _ => Err(RpcError::new(
                StatusCode::BAD_GATEWAY,
                super::wire::SERVER_GONE,
                format!("The server answered with HTTP {}.", status.as_u16()),
            )),
        }
    }

    /// What a stream tells, up to the answer.
    async fn streamed(
        &self,
        mut answer: reqwest::Response,
        mut held: Held,
    ) -> Result<(), RpcError> {
        let mut events = Events::new(self.limits.message_bytes);
        while let Some(chunk) = answer.chunk().await.map_err(|_| RpcError::gone())? {
            held.resize_soon(events.held_bytes() + chunk.len())
                .await
                .map_err(Full::answer_error)?;
            let read = events.feed(&chunk).map_err(|_| RpcError::gone())?;
            for data in read.into_iter().filter_map(|event| event.data) {
                held.resize_soon(events.held_bytes() + weigh(data.as_bytes()))
                    .await
                    .map_err(Full::answer_error)?;
                // As one line, whatever line ends stand in it.
                if let Ok(message) = json::tree(data.as_bytes()) {
                    self.line(&message).await;
                    if matches!(kind(&message), Some(Kind::Answer { .. })) {
                        return Ok(());
                    }
                }
            }
        }
        Err(RpcError::gone())
    }

    async fn line(&self, message: &Value) {
        // Nobody reads any more when it cannot be sent.
        let _ = self.lines.send(message.to_string().into_bytes()).await;
    }

    fn session(&self) -> std::sync::MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn asking(&self) -> std::sync::MutexGuard<'_, HashMap<String, AbortHandle>> {
        self.asking.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The headers that repeat what the body says, in the stateless era.
pub(super) fn stated(request: reqwest::RequestBuilder, message: &Value) -> reqwest::RequestBuilder {
    let method = message["method"].as_str().unwrap_or_default();
    let name = named_in(message);
    let request = request.header("mcp-method", method);
    match name {
        Some(name)
            if name.bytes().all(|byte| byte.is_ascii_graphic()) && !name.starts_with("=?") =>
        {
            request.header("mcp-name", name)
        }
        Some(name) => request.header("mcp-name", format!("=?base64?{}?=", STANDARD.encode(name))),
        None => request,
    }
}
