//! A server that speaks Streamable HTTP itself, behind a unix socket or at an address of its own. Only what the protocol needs
//! passes in either direction; sessions get an id of ours, bound to their client.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use bytes::{Bytes, BytesMut};
use futures::stream;
use http::header::{ACCEPT, AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;
use url::Url;
use zeroize::Zeroizing;

use super::called::{Called, Calling};
use super::events::{Event, Events};
use super::guesses::Guesses;
use super::incoming::{self, Incoming};
use super::over_http::{self, Address};
use super::room::{Full, Held, Room, weigh};
use super::sessions::{Found, Introduction, Sessions};
use super::stateless;
use super::stdio::{StdioRelay, initialize, no_session_here};
use super::wire::{
    Kind, Read, RpcError, SERVER_GONE, SESSION_HEADER, SESSION_VERSIONS, STATELESS_VERSION,
    VERSION_HEADER, is_id, is_type, json_response, kind,
};
use super::{ClientKey, HandshakeError, Limits, Options};
use crate::deploy::json::tree as json_tree;
use crate::deploy::masks::Masks;

/// Between two tries to reach a server that is starting.
const RETRY: Duration = Duration::from_millis(100);
/// How long the look whether a server is open to all may take.
const OPEN_TIMEOUT: Duration = Duration::from_secs(20);
/// How long the handshake for clients of the other era may take.
const OTHER_ERA: Duration = Duration::from_secs(20);
/// Between two looks whether the server still listens.
const LOOK: Duration = Duration::from_secs(2);

/// The eras of a server.
#[derive(Debug, Clone, Copy, Default)]
struct Speaks {
    sessions: bool,
    stateless: bool,
}

/// A server that has answered the handshake.
pub struct HttpRelay {
    address: Address,
    /// Where it listens on this machine.
    socket: Option<PathBuf>,
    speaks: Speaks,
    /// For clients of the era that it does not speak; made when one comes.
    other_era: tokio::sync::Mutex<Option<Arc<StdioRelay>>>,
    masks: Arc<Masks>,
    limits: Limits,
    room: Room,
    guesses: Guesses,
    sessions: Sessions,
    calls: Option<mpsc::Sender<Called>>,
    pending: Arc<Mutex<HashMap<ClientKey, usize>>>,
    info: Value,
}

impl HttpRelay {
    /// Waits until the server accepts and answers the handshake at `path`, for at most `timeout`.
    pub async fn start(
        socket: PathBuf,
        path: String,
        masks: Arc<Masks>,
        timeout: Duration,
    ) -> Result<Self, HandshakeError> {
        Self::start_with(socket, path, masks, timeout, Options::default()).await
    }

    /// The same with limits of one's own; such a server's output is not ours to log.
    pub async fn start_with(
        socket: PathBuf,
        path: String,
        masks: Arc<Masks>,
        timeout: Duration,
        options: Options,
    ) -> Result<Self, HandshakeError> {
        // reqwest panics without one, though nothing here is encrypted; one that stands already stays.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .unix_socket(socket.clone())
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(|error| HandshakeError::Ended(error.to_string()))?;
        // The name is what servers that check their Host header expect; nothing is resolved.
        let url = format!("http://localhost/{}", path.trim_start_matches('/'));
        Self::shake_hands(http, Some(socket), url, None, masks, timeout, options).await
    }

    /// One at an address of its own, which is shown `secret` with each request. `http` follows no redirect and connects to nothing
    /// that it should not. Waits as for a server that is starting, for at most `timeout`.
    pub async fn start_remote(
        http: reqwest::Client,
        url: &Url,
        secret: &SecretString,
        masks: Arc<Masks>,
        timeout: Duration,
        options: Options,
    ) -> Result<Self, HandshakeError> {
        let text = Zeroizing::new(format!("Bearer {}", secret.expose_secret()));
        let mut bearer = HeaderValue::from_str(&text)
            .map_err(|_| HandshakeError::Ended("The gateway's secret is no header.".into()))?;
        bearer.set_sensitive(true);
        Self::shake_hands(
            http,
            None,
            url.to_string(),
            Some(bearer),
            masks,
            timeout,
            options,
        )
        .await
    }

    async fn shake_hands(
        http: reqwest::Client,
        socket: Option<PathBuf>,
        url: String,
        bearer: Option<HeaderValue>,
        masks: Arc<Masks>,
        timeout: Duration,
        options: Options,
    ) -> Result<Self, HandshakeError> {
        let limits = options.limits;
        let mut relay = Self {
            address: Address { http, url, bearer },
            socket,
            speaks: Speaks::default(),
            other_era: tokio::sync::Mutex::default(),
            masks,
            limits,
            sessions: Sessions::new(limits, options.room.clone()),
            room: options.room,
            guesses: options.guesses,
            calls: options.calls,
            pending: Arc::default(),
            info: Value::Null,
        };
        (relay.info, relay.speaks) = match tokio::time::timeout(timeout, relay.handshake()).await {
            Ok(answered) => answered?,
            Err(_) => return Err(HandshakeError::TimedOut(timeout)),
        };
        Ok(relay)
    }

    /// The server's `InitializeResult`, masked.
    pub fn server_info(&self) -> Value {
        self.info.clone()
    }

    /// Returns when the server no longer listens. Whoever runs its process knows earlier. Of one elsewhere nobody knows: a call tells.
    pub async fn closed(&self) {
        let Some(socket) = &self.socket else {
            return std::future::pending().await;
        };
        while tokio::net::UnixStream::connect(socket).await.is_ok() {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Whether somebody waits for an answer in the era that it does not speak; in the other an answer is as long as its connection.
    pub fn is_answering(&self) -> bool {
        let other = self.other_era.try_lock();
        other.is_ok_and(|other| other.as_ref().is_some_and(|relay| relay.is_answering()))
    }

    /// Whether it answers to whoever comes without the secret; none when it cannot be told.
    pub async fn is_open(&self) -> Option<bool> {
        let mut request = initialize();
        request["id"] = json!(1);
        let asked = self
            .asked(Method::POST, None, None)
            .body(request.to_string())
            .send();
        let answer = tokio::time::timeout(OPEN_TIMEOUT, asked).await.ok()?.ok()?;
        match answer.status() {
            status if status.is_success() => Some(true),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Some(false),
            _ => None,
        }
    }

    pub(super) fn bounds(&self) -> (&Room, &Limits) {
        (&self.room, &self.limits)
    }

    pub(super) async fn answer(&self, client: ClientKey, incoming: Incoming) -> Response {
        let is_spoken = match incoming.is_stateless() {
            true => self.speaks.stateless,
            false => self.speaks.sessions,
        };
        if !is_spoken {
            return match self.in_other_era().await {
                Ok(relay) => relay.answer(client, incoming).await,
                Err(error) => error.response(&incoming.id()),
            };
        }
        let (method, headers) = (incoming.method().clone(), incoming.headers().clone());
        let asked = match incoming.body {
            incoming::Body::Message(read) => {
                let sink = self.calls.as_ref();
                let calling = Calling::of(sink, &self.masks, client, &read.message);
                Asked::of(read, calling)
            }
            incoming::Body::None(held) => Asked::without_body(held),
        };
        let id = asked.id.clone();
        match self.pass(client, method, &headers, asked).await {
            Ok(response) => response,
            Err(error) => error.response(&id),
        }
    }

    async fn pass(
        &self,
        client: ClientKey,
        method: Method,
        headers: &HeaderMap,
        asked: Asked,
    ) -> Result<Response, RpcError> {
        let Asked {
            id,
            opens,
            body,
            mut held,
            calling,
        } = asked;
        if opens && headers.contains_key(SESSION_HEADER) {
            return Err(no_session_here());
        }
        let session = match headers.contains_key(SESSION_HEADER) {
            true => Some(self.sessions.find(client, headers)?),
            false => None,
        };
        let slot = Slot::take(&self.pending, client, &self.limits)?;
        let request = self
            .address
            .http
            .request(method.clone(), &self.address.url)
            .headers(self.passed_in(headers, session.as_ref()))
            .body(body);
        let answer = match tokio::time::timeout(self.limits.request_timeout, request.send()).await {
            Ok(answer) => answer.map_err(|_| RpcError::gone())?,
            Err(_) => return Err(RpcError::timed_out(self.limits.request_timeout)),
        };
        // The body is sent; what follows is held for the answer.
        held.shrink(0);
        if let Some(session) = &session
            && (answer.status() == StatusCode::NOT_FOUND
                || (method == Method::DELETE && answer.status().is_success()))
        {
            self.sessions.close(session.id);
        }
        let opened = match answer
            .headers()
            .get(SESSION_HEADER)
            .and_then(|id| id.to_str().ok())
        {
            Some(upstream) if opens && answer.status().is_success() => Some(self.sessions.open(
                client,
                SESSION_VERSIONS[0],
                Some(upstream.to_owned()),
                // Its server knows it.
                Introduction::default(),
            )?),
            _ => None,
        };
        let mut response = self
            .passed_out(answer, method, id, held, slot, calling)
            .await?;
        if let Some(id) = opened.or(session.map(|session| session.id))
            && let Ok(id) = HeaderValue::from_str(&id.to_string())
        {
            response.headers_mut().insert(SESSION_HEADER, id);
        }
        Ok(response)
    }

    /// The answer as JSON or events, masked; of its headers only the type.
    async fn passed_out(
        &self,
        answer: reqwest::Response,
        method: Method,
        id: Value,
        mut held: Held,
        slot: Slot,
        mut calling: Option<Calling>,
    ) -> Result<Response, RpcError> {
        let status = answer.status();
        let refused = |text: String| RpcError::new(StatusCode::BAD_GATEWAY, SERVER_GONE, text);
        if status.is_redirection()
            || matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
        {
            // A client would take it for the gateway's own word.
            return Err(refused(format!(
                "The server answered with HTTP {}.",
                status.as_u16()
            )));
        }
        if answer
            .headers()
            .get(CONTENT_ENCODING)
            .is_some_and(|encoding| encoding != "identity")
        {
            return Err(refused(
                "The server's answer was compressed though nobody asked.".to_owned(),
            ));
        }
        if is_type(answer.headers(), "text/event-stream") && status.is_success() {
            let streamed = Streamed {
                answer,
                events: Events::new(self.limits.message_bytes),
                masks: Arc::clone(&self.masks),
                guesses: self.guesses.clone(),
                client: slot.client,
                held,
                // A GET's stream may be silent for as long as it lasts.
                silence: match method {
                    Method::POST => self.limits.request_timeout,
                    _ => self.limits.stream_total,
                },
                until: Instant::now()
                    + match method {
                        Method::POST => self.limits.request_total_timeout,
                        _ => self.limits.stream_total,
                    },
                id,
                answered: method != Method::POST,
                calling,
                _slot: slot,
            };
            let headers = [
                (CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
                (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
                (
                    http::HeaderName::from_static("x-accel-buffering"),
                    HeaderValue::from_static("no"),
                ),
            ];
            return Ok((status, headers, Body::from_stream(streamed.into_stream())).into_response());
        }
        if is_type(answer.headers(), "application/json") {
            let body = match tokio::time::timeout(
                self.limits.request_timeout,
                bounded(answer, self.limits.message_bytes, &mut held),
            )
            .await
            {
                Ok(body) => body?,
                Err(_) => return Err(RpcError::timed_out(self.limits.request_timeout)),
            };
            held.resize_soon(weigh(&body))
                .await
                .map_err(Full::answer_error)?;
            let mut answer = json_tree(&body)
                .map_err(|_| refused("The server's answer is not JSON.".to_owned()))?;
            if let Some(calling) = &mut calling {
                calling.answered(&answer);
            }
            let is_for = answer.get("id") == Some(&id);
            let masked = self.masks.json(&mut answer);
            if is_for {
                answer["id"] = id;
            }
            self.guesses.slow(slot.client, masked).await;
            return Ok(json_response(status, &answer, Some(held)));
        }
        if status.is_success() || status == StatusCode::METHOD_NOT_ALLOWED {
            return Ok(status.into_response());
        }
        Err(RpcError::new(
            status,
            SERVER_GONE,
            format!("The server answered with HTTP {}.", status.as_u16()),
        ))
    }

    /// With our own credential where the server takes one.
    fn passed_in(&self, headers: &HeaderMap, session: Option<&Found>) -> HeaderMap {
        let mut passed = protocol_headers(headers, session);
        if let Some(bearer) = &self.address.bearer {
            passed.insert(AUTHORIZATION, bearer.clone());
        }
        passed
    }

    /// The server for clients of the era that it does not speak: translated as for one behind pipes.
    async fn in_other_era(&self) -> Result<Arc<StdioRelay>, RpcError> {
        let mut other = tokio::time::timeout(OTHER_ERA, self.other_era.lock())
            .await
            .map_err(|_| RpcError::gone())?;
        if let Some(relay) = other.as_ref().filter(|relay| relay.reason().is_none()) {
            return Ok(Arc::clone(relay));
        }
        let (room, limits) = (self.room.clone(), self.limits);
        let (stdin, stdout) = over_http::pipes(self.address.clone(), room, limits);
        let options = Options {
            limits,
            room: self.room.clone(),
            guesses: self.guesses.clone(),
            calls: self.calls.clone(),
            // It has said which it speaks.
            may_probe: self.speaks.stateless,
            ..Options::default()
        };
        let masks = Arc::clone(&self.masks);
        let joined = StdioRelay::start_with(stdin, stdout, masks, OTHER_ERA, options);
        let relay = Arc::new(joined.await.map_err(|_| RpcError::gone())?);
        *other = Some(Arc::clone(&relay));
        Ok(relay)
    }

    /// What the server says of itself, and which eras it speaks.
    async fn handshake(&self) -> Result<(Value, Speaks), HandshakeError> {
        let greeted = self.greet().await;
        let stateless = tokio::time::timeout(OPEN_TIMEOUT, self.discover()).await;
        let stateless = stateless.unwrap_or_default();
        let speaks = Speaks {
            sessions: greeted.is_ok(),
            stateless: stateless.is_some(),
        };
        match (greeted, stateless) {
            (Ok(info), _) | (Err(_), Some(info)) => Ok((info, speaks)),
            (Err(error), None) => Err(error),
        }
    }

    /// What it says of itself in the stateless era, if it speaks it.
    async fn discover(&self) -> Option<Value> {
        let request = stateless::discover();
        let asked = self
            .own_request(Method::POST, None)
            .header(VERSION_HEADER, STATELESS_VERSION)
            .body(request.to_string());
        let answer = over_http::stated(asked, &request).send().await.ok()?;
        if !answer.status().is_success() {
            return None;
        }
        stateless::introduced(&self.first_answer(answer).await.ok()?)
    }

    /// The handshake of the session era.
    async fn greet(&self) -> Result<Value, HandshakeError> {
        let mut request = initialize();
        request["id"] = json!(1);
        let answer = loop {
            let sent = self
                .own_request(Method::POST, None)
                .body(request.to_string())
                .send()
                .await;
            match sent {
                // A server that just started may listen before it has its routes.
                Ok(answer)
                    if answer.status().is_server_error()
                        || (answer.status() == StatusCode::NOT_FOUND
                            && !is_type(answer.headers(), "application/json")) => {}
                Ok(answer) => break answer,
                Err(_) => {}
            }
            tokio::time::sleep(RETRY).await;
        };
        let session = answer.headers().get(SESSION_HEADER).cloned();
        let status = answer.status();
        let answer = self.first_answer(answer).await?;
        if let Some(message) = answer.pointer("/error/message").and_then(Value::as_str) {
            return Err(HandshakeError::Refused(message.chars().take(500).collect()));
        }
        let Some(info) = answer
            .get("result")
            .filter(|result| result["protocolVersion"].is_string())
        else {
            return Err(HandshakeError::NotUnderstood(format!(
                "HTTP {} without a result.",
                status.as_u16()
            )));
        };
        if let Some(session) = session {
            // Not kept: each client opens its own. A server that knows no DELETE forgets it some time.
            let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
            let _ = self
                .own_request(Method::POST, Some(&session))
                .body(initialized.to_string())
                .send()
                .await;
            let _ = self
                .own_request(Method::DELETE, Some(&session))
                .send()
                .await;
        }
        Ok(info.clone())
    }

    fn own_request(
        &self,
        method: Method,
        session: Option<&HeaderValue>,
    ) -> reqwest::RequestBuilder {
        self.asked(method, session, self.address.bearer.as_ref())
    }

    fn asked(
        &self,
        method: Method,
        session: Option<&HeaderValue>,
        bearer: Option<&HeaderValue>,
    ) -> reqwest::RequestBuilder {
        let mut request = self
            .address
            .http
            .request(method, &self.address.url)
            .header(ACCEPT, "application/json, text/event-stream");
        request = request.header(CONTENT_TYPE, "application/json");
        if let Some(bearer) = bearer {
            request = request.header(AUTHORIZATION, bearer);
        }
        match session {
            Some(session) => request
                .header(SESSION_HEADER, session)
                .header(VERSION_HEADER, SESSION_VERSIONS[0]),
            None => request,
        }
    }

    /// The message that answers the handshake, masked.
    async fn first_answer(&self, mut answer: reqwest::Response) -> Result<Value, HandshakeError> {
        let not_understood = |text: &str| HandshakeError::NotUnderstood(text.to_owned());
        // Nobody's: what callers hold is counted apart.
        let nobody = ClientKey::nobody();
        let mut held = self.room.hold(nobody);
        let mut message = if is_type(answer.headers(), "text/event-stream") {
            let mut events = Events::new(self.limits.message_bytes);
            'found: loop {
                let chunk = answer
                    .chunk()
                    .await
                    .ok()
                    .flatten()
                    .ok_or_else(|| not_understood("its stream ended."))?;
                for event in events
                    .feed(&chunk)
                    .map_err(|_| not_understood("it is too long."))?
                {
                    let data = event.data.as_deref().unwrap_or_default();
                    held.resize_soon(weigh(data.as_bytes()))
                        .await
                        .map_err(|full| not_understood(&full.answer_error().message))?;
                    let message = json_tree(data.as_bytes());
                    if let Some(message) = message
                        .ok()
                        .filter(|message| matches!(kind(message), Some(Kind::Answer { .. })))
                    {
                        break 'found message;
                    }
                }
            }
        } else {
            let status = answer.status().as_u16();
            let body = bounded(answer, self.limits.message_bytes, &mut held)
                .await
                .map_err(|error| not_understood(&error.message))?;
            held.resize_soon(weigh(&body))
                .await
                .map_err(|full| not_understood(&full.answer_error().message))?;
            json_tree(&body).map_err(|_| not_understood(&format!("HTTP {status}, not JSON.")))?
        };
        self.masks.json(&mut message);
        Ok(message)
    }
}

/// The protocol's own headers; never a credential, a cookie or who asks.
fn protocol_headers(headers: &HeaderMap, session: Option<&Found>) -> HeaderMap {
    let mut passed: HeaderMap = headers
        .iter()
        .filter(|(name, _)| {
            let name = name.as_str();
            matches!(name, "accept" | "content-type" | "last-event-id")
                || (name.starts_with("mcp-") && name != "mcp-session-id")
        })
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    if let Some(upstream) =
        session.and_then(|session| HeaderValue::from_str(session.upstream.as_deref()?).ok())
    {
        passed.insert(SESSION_HEADER, upstream);
    }
    passed
}

pub(super) async fn bounded(
    mut answer: reqwest::Response,
    longest_bytes: usize,
    held: &mut Held,
) -> Result<BytesMut, RpcError> {
    let mut body = BytesMut::new();
    while let Some(chunk) = answer.chunk().await.map_err(|_| RpcError::gone())? {
        if body.len() + chunk.len() > longest_bytes {
            let text = format!("The server's answer is longer than {longest_bytes} bytes.");
            return Err(RpcError::new(StatusCode::BAD_GATEWAY, SERVER_GONE, text));
        }
        held.resize_soon(held.bytes() + chunk.len())
            .await
            .map_err(Full::answer_error)?;
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// What of a request is needed once its tree is let go of.
struct Asked {
    id: Value,
    opens: bool,
    body: Bytes,
    held: Held,
    calling: Option<Calling>,
}

impl Asked {
    fn of(read: Read, calling: Option<Calling>) -> Self {
        let message = read.message;
        let mut held = read.held;
        held.shrink(read.bytes.len());
        Self {
            id: message
                .get("id")
                .filter(|id| is_id(id))
                .cloned()
                .unwrap_or(Value::Null),
            opens: matches!(
                kind(&message),
                Some(Kind::Request {
                    method: "initialize",
                    ..
                })
            ),
            body: read.bytes,
            held,
            calling,
        }
    }

    fn without_body(held: Held) -> Self {
        Self {
            id: Value::Null,
            opens: false,
            body: Bytes::new(),
            held,
            calling: None,
        }
    }
}

/// One of the requests that may wait at once, for as long as its answer is read.
struct Slot {
    pending: Arc<Mutex<HashMap<ClientKey, usize>>>,
    client: ClientKey,
}

impl Slot {
    fn take(
        pending: &Arc<Mutex<HashMap<ClientKey, usize>>>,
        client: ClientKey,
        limits: &Limits,
    ) -> Result<Self, RpcError> {
        let mut counts = pending.lock().unwrap_or_else(PoisonError::into_inner);
        let total: usize = counts.values().sum();
        let own = counts.entry(client).or_default();
        if *own >= limits.pending_per_client || total >= limits.pending {
            let text = "Too many requests wait for this server; try again when some are answered.";
            return Err(RpcError::new(
                StatusCode::TOO_MANY_REQUESTS,
                SERVER_GONE,
                text,
            ));
        }
        *own += 1;
        Ok(Self {
            pending: Arc::clone(pending),
            client,
        })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut counts = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = counts.get_mut(&self.client) {
            *own -= 1;
            if *own == 0 {
                counts.remove(&self.client);
            }
        }
    }
}

/// An event stream on its way through.
struct Streamed {
    answer: reqwest::Response,
    events: Events,
    masks: Arc<Masks>,
    guesses: Guesses,
    client: ClientKey,
    /// For what was read of events, and for those that are being written.
    held: Held,
    silence: Duration,
    until: Instant,
    id: Value,
    answered: bool,
    calling: Option<Calling>,
    _slot: Slot,
}

impl Streamed {
    fn into_stream(
        self,
    ) -> impl futures::Stream<Item = Result<Bytes, std::convert::Infallible>> + Send + 'static {
        stream::unfold(Some(self), |state| async move {
            let mut streamed = state?;
            loop {
                // What was handed on before has been written.
                streamed.held.shrink(streamed.events.held_bytes());
                let deadline = (Instant::now() + streamed.silence).min(streamed.until);
                let chunk = tokio::time::timeout_at(deadline, streamed.answer.chunk()).await;
                match chunk {
                    Ok(Ok(Some(chunk))) => {
                        let bytes = streamed.held.bytes() + chunk.len();
                        if let Err(full) = streamed.held.resize_soon(bytes).await {
                            return streamed.failed(&full.answer_error().message);
                        }
                        match streamed.events.feed(&chunk) {
                            Ok(events) if events.is_empty() => {}
                            Ok(events) => match streamed.written(events).await {
                                Ok(written) => return Some((Ok(written), Some(streamed))),
                                Err(full) => {
                                    return streamed.failed(&full.answer_error().message);
                                }
                            },
                            Err(_) => {
                                return streamed
                                    .failed("The server sent an event that is too long.");
                            }
                        }
                    }
                    Err(_) if streamed.answered => return None,
                    Ok(Ok(None) | Err(_)) if streamed.answered => return None,
                    Ok(Ok(None) | Err(_)) => return streamed.failed(&RpcError::gone().message),
                    Err(_) => {
                        return streamed.failed(
                            "The server did not answer in time; the request was given up.",
                        );
                    }
                }
            }
        })
    }

    async fn written(&mut self, events: Vec<Event>) -> Result<Bytes, Full> {
        let mut written = String::new();
        for mut event in events {
            let weight = weigh(event.data.as_deref().unwrap_or_default().as_bytes());
            let bytes = self.events.held_bytes() + written.len() + weight;
            self.held.resize_soon(bytes).await?;
            let (masked, message) = event.mask(&self.masks);
            let answers = message.as_ref().and_then(kind);
            if matches!(answers, Some(Kind::Answer { id }) if *id == self.id) {
                self.answered = true;
                if let (Some(calling), Some(message)) = (&mut self.calling, &message) {
                    calling.answered(message);
                }
            }
            drop(message);
            self.guesses.slow(self.client, masked).await;
            written.push_str(&event.write());
        }
        self.held.shrink(self.events.held_bytes() + written.len());
        Ok(Bytes::from(written))
    }

    /// The last event, when the request has not been answered.
    fn failed(self, text: &str) -> Option<(Result<Bytes, std::convert::Infallible>, Option<Self>)> {
        if self.answered {
            return None;
        }
        let message = RpcError::new(StatusCode::OK, SERVER_GONE, text).message(&self.id);
        let event = Event {
            name: Some("message".to_owned()),
            data: Some(message.to_string()),
            ..Event::default()
        };
        Some((Ok(Bytes::from(event.write())), None))
    }
}
