//! A server that speaks Streamable HTTP itself, behind a unix socket or at an address of its own. Only what the protocol needs
//! passes in either direction; sessions get an id of ours, bound to their client.

mod greeting;
mod slots;
mod streamed;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use bytes::{Bytes, BytesMut};
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::Instant;
use url::Url;
use zeroize::Zeroizing;

use super::called::{Called, Calling};
use super::events::Events;
use super::guesses::Guesses;
use super::incoming::{self, Incoming};
use super::over_http::{self, Address};
use super::room::{Full, Held, Room, weigh};
use super::sessions::{Found, Introduction, Sessions};
use super::stdio::{StdioRelay, no_session_here};
use super::wire::{
    Kind, Read, RpcError, SERVER_GONE, SESSION_HEADER, SESSION_VERSIONS, is_id, is_type,
    json_response, kind,
};
use super::{ClientKey, HandshakeError, Limits, Options};
use crate::deploy::json::tree as json_tree;
use crate::deploy::masks::Masks;
use greeting::Speaks;
use slots::{Slot, Slots};
use streamed::Streamed;

/// How long the handshake for clients of the other era may take.
const OTHER_ERA: Duration = Duration::from_secs(20);
/// Between two looks whether the server still listens.
const LOOK: Duration = Duration::from_secs(2);

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
    slots: Slots,
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
            slots: Slots::default(),
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
            is_asked,
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
        let slot = self.slots.take(client, &self.limits)?;
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
            )),
            _ => None,
        };
        let passing = Passing {
            id,
            is_asked,
            held,
            slot,
            calling,
        };
        let mut response = self.passed_out(answer, method, passing).await?;
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
        passing: Passing,
    ) -> Result<Response, RpcError> {
        let status = answer.status();
        if status.is_redirection()
            || matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
        {
            // A client would take it for the gateway's own word.
            return Err(refused(&answered_with(status)));
        }
        if answer
            .headers()
            .get(CONTENT_ENCODING)
            .is_some_and(|encoding| encoding != "identity")
        {
            return Err(refused(
                "The server's answer was compressed though nobody asked.",
            ));
        }
        if is_type(answer.headers(), "text/event-stream") && status.is_success() {
            return Ok(self.stream(answer, &method, passing));
        }
        if is_type(answer.headers(), "application/json") {
            return self.message(answer, passing).await;
        }
        if status.is_success() && passing.is_asked {
            return Err(refused(
                "The server answered with something else than JSON or events.",
            ));
        }
        if status.is_success() || status == StatusCode::METHOD_NOT_ALLOWED {
            return Ok(status.into_response());
        }
        Err(RpcError::new(status, SERVER_GONE, answered_with(status)))
    }

    fn stream(&self, answer: reqwest::Response, method: &Method, passing: Passing) -> Response {
        let limits = &self.limits;
        // A GET's stream may be silent for as long as it lasts.
        let (silence, total) = match *method {
            Method::POST => (limits.request_timeout, limits.request_total_timeout),
            _ => (limits.stream_total, limits.stream_total),
        };
        let status = answer.status();
        let streamed = Streamed {
            answer,
            events: Events::new(limits.message_bytes),
            masks: Arc::clone(&self.masks),
            guesses: self.guesses.clone(),
            silence,
            until: Instant::now() + total,
            answered: *method != Method::POST,
            passing,
        };
        let headers = [
            (CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
            (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
            (
                http::HeaderName::from_static("x-accel-buffering"),
                HeaderValue::from_static("no"),
            ),
        ];
        (status, headers, Body::from_stream(streamed.into_stream())).into_response()
    }

    async fn message(
        &self,
        answer: reqwest::Response,
        mut passing: Passing,
    ) -> Result<Response, RpcError> {
        let (status, held) = (answer.status(), &mut passing.held);
        let whole = bounded(answer, self.limits.message_bytes, held);
        let body = tokio::time::timeout(self.limits.request_timeout, whole)
            .await
            .map_err(|_| RpcError::timed_out(self.limits.request_timeout))??;
        let read = held.resize_soon(weigh(&body)).await;
        read.map_err(Full::answer_error)?;
        let mut answer =
            json_tree(&body).map_err(|_| refused("The server's answer is not JSON."))?;
        let is_for = answer.get("id") == Some(&passing.id);
        if passing.is_asked && !is_for && !is_of_none(&answer, status) {
            return Err(refused(
                "The server's answer is to another request than this one.",
            ));
        }
        if let Some(calling) = &mut passing.calling {
            calling.answered(&answer);
        }
        let masked = self.masks.json(&mut answer);
        if is_for {
            answer["id"] = passing.id;
        }
        self.guesses.slow(passing.slot.client, masked).await;
        Ok(json_response(status, &answer, Some(passing.held)))
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

fn refused(text: &str) -> RpcError {
    RpcError::new(StatusCode::BAD_GATEWAY, SERVER_GONE, text)
}

/// Whether a body names no request and is no answer either: an error of one that was not read, or the server's own words beside a
/// status that tells of one.
fn is_of_none(body: &Value, status: StatusCode) -> bool {
    let is_unnamed = body.get("id").is_none_or(Value::is_null);
    is_unnamed && (body.get("error").is_some() || !status.is_success())
}

fn answered_with(status: StatusCode) -> String {
    format!("The server answered with HTTP {}.", status.as_u16())
}

/// What a request holds until its answer has passed.
struct Passing {
    id: Value,
    is_asked: bool,
    /// Of the room: for what was read of the answer, and for what is being written.
    held: Held,
    slot: Slot,
    calling: Option<Calling>,
}

/// What of a request is needed once its tree is let go of.
struct Asked {
    id: Value,
    /// It is a request, so it has one answer; a client's own answers have an id too.
    is_asked: bool,
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
            is_asked: matches!(kind(&message), Some(Kind::Request { .. })),
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
            is_asked: false,
            opens: false,
            body: Bytes::new(),
            held,
            calling: None,
        }
    }
}
