//! A server behind two pipes as Streamable HTTP: it serves all sessions and all requests that stand alone, whichever era it speaks.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use futures::future::join_all;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};

use super::child::{Asker, Child, Closing};
use super::conversation::{Conversation, Era, at_once, respond};
use super::guesses::Guesses;
use super::incoming::{Body, Incoming};
use super::room::{Held, Room};
use super::sessions::{Found, Introduction, Sessions};
use super::standing::Standing;
use super::stateless::{self, StatelessDoor};
use super::wire::{
    Accepts, Kind, METHOD_NOT_FOUND, Read, RpcError, SESSION_HEADER, SESSION_VERSIONS,
    VERSION_HEADER, accepted, is_id, json_response, kind,
};
use super::{ClientCapabilities, ClientKey, HandshakeError, Limits, Options};
use crate::deploy::masks::Masks;

/// Messages in one batch, which only versions before 2025-06-18 know.
const BATCH: usize = 64;
/// How long a server may take to say whether it speaks the stateless era, before it is greeted as one of sessions.
const PROBE: Duration = Duration::from_secs(5);

/// A stdio server that has answered the handshake. Dropping it closes the server's input.
pub struct StdioRelay {
    child: Child,
    sessions: Arc<Sessions>,
    stateless: StatelessDoor,
    /// At a server of the stateless era.
    standing: Option<Standing>,
    limits: Limits,
    room: Room,
    guesses: Guesses,
    info: Value,
    /// Whether one caller alone is served.
    is_own: bool,
    was_silent: bool,
    _closing: Closing,
}

impl StdioRelay {
    /// Joins a server's pipes and does the handshake, for at most `timeout`.
    pub async fn start(
        stdin: impl AsyncWrite + Send + Unpin + 'static,
        stdout: impl AsyncRead + Send + Unpin + 'static,
        masks: Arc<Masks>,
        timeout: Duration,
    ) -> Result<Self, HandshakeError> {
        Self::start_with(stdin, stdout, masks, timeout, Options::default()).await
    }

    /// The same with limits and a log of one's own.
    pub async fn start_with(
        stdin: impl AsyncWrite + Send + Unpin + 'static,
        stdout: impl AsyncRead + Send + Unpin + 'static,
        masks: Arc<Masks>,
        timeout: Duration,
        options: Options,
    ) -> Result<Self, HandshakeError> {
        let limits = options.limits;
        let (room, guesses) = (options.room.clone(), options.guesses.clone());
        let capabilities = options.client_capabilities;
        let may_probe = options.may_probe;
        let sessions = Arc::new(Sessions::new(limits, room.clone()));
        let notified = Arc::clone(&sessions);
        let notify = Box::new(move |told: super::child::Told<'_>| notified.notify(&told));
        let child = Child::new(stdin, stdout, masks, options, notify);
        let closing = Closing(child.clone());
        let (probed, was_silent) = match may_probe {
            true => probe(&child, timeout).await?,
            false => (None, false),
        };
        let (era, info) = match probed {
            Some(info) => (Era::Stateless, info),
            None => {
                let greeting = initialize_with(capabilities);
                match greet(&child, greeting, timeout).await {
                    Ok(info) => (Era::Session, info),
                    // It may be of the other era alone.
                    Err(refused @ HandshakeError::Refused(_)) if !may_probe => {
                        let (info, _) = probe(&child, timeout).await?;
                        (Era::Stateless, info.ok_or(refused)?)
                    }
                    Err(error) => return Err(error),
                }
            }
        };
        let is_own = capabilities.is_some();
        let standing =
            (era == Era::Stateless).then(|| Standing::new(child.clone(), Arc::clone(&sessions)));
        Ok(Self {
            stateless: StatelessDoor::new(child.clone(), era, is_own),
            child,
            sessions,
            standing,
            limits,
            room,
            guesses,
            info: offered(info, is_own),
            is_own,
            was_silent,
            _closing: closing,
        })
    }

    /// Whether it did not answer when it was asked for its era; then it is not asked again.
    pub fn was_silent(&self) -> bool {
        self.was_silent
    }

    /// Whether somebody waits for an answer, with a connection or without one.
    pub fn is_answering(&self) -> bool {
        self.child.answering() > 0
    }

    /// The server's `InitializeResult`, masked.
    pub fn server_info(&self) -> Value {
        self.info.clone()
    }

    /// Closes the server's input and answers whoever waits that it is gone.
    pub fn close(&self) {
        self.child.close();
    }

    /// Returns when the server's output has ended.
    pub async fn closed(&self) {
        self.child.ended().cancelled().await;
    }

    /// Why the server is gone, once it is, in a sentence.
    pub fn reason(&self) -> Option<String> {
        self.child.reason()
    }

    pub(super) fn bounds(&self) -> (&Room, &Limits) {
        (&self.room, &self.limits)
    }

    pub async fn handle(&self, client: ClientKey, request: Request) -> Response {
        match Incoming::read(client, request, &self.room, &self.limits).await {
            Ok(incoming) => self.answer(client, incoming).await,
            Err(refused) => refused,
        }
    }

    pub(super) async fn answer(&self, client: ClientKey, incoming: Incoming) -> Response {
        let is_delete = incoming.method() == Method::DELETE;
        let headers = incoming.headers().clone();
        let is_stateless = incoming.is_stateless();
        let answered = match incoming.body {
            // The text is let go of at once: the tree takes its place.
            Body::Message(Read { message, held, .. }) => {
                return self
                    .message(client, &headers, is_stateless, message, held)
                    .await;
            }
            Body::None(_) if is_stateless => return not_allowed(),
            Body::None(_) if is_delete => self.delete(client, &headers).await,
            Body::None(_) => self.get(client, &headers),
        };
        answered.unwrap_or_else(|error| error.response(&Value::Null))
    }

    async fn message(
        &self,
        client: ClientKey,
        headers: &HeaderMap,
        is_stateless: bool,
        message: Value,
        held: Held,
    ) -> Response {
        let id = message
            .get("id")
            .filter(|id| is_id(id))
            .cloned()
            .unwrap_or(Value::Null);
        if !is_stateless {
            return self
                .post(client, headers, message, held)
                .await
                .unwrap_or_else(|error| error.response(&id));
        }
        if headers.contains_key(SESSION_HEADER) {
            return no_session_here().response(&id);
        }
        self.sessions.called(client);
        self.stateless
            .post(&self.info, client, headers, message, held)
            .await
    }

    async fn post(
        &self,
        client: ClientKey,
        headers: &HeaderMap,
        message: Value,
        held: Held,
    ) -> Result<Response, RpcError> {
        let accepts = Accepts::of(headers);
        if !accepts.json && !accepts.events {
            return Err(RpcError {
                status: StatusCode::NOT_ACCEPTABLE,
                ..RpcError::invalid("Accept must allow application/json and text/event-stream.")
            });
        }
        if let Some(Kind::Request {
            method: "initialize",
            ..
        }) = kind(&message)
        {
            if headers.contains_key(SESSION_HEADER) {
                return Err(no_session_here());
            }
            return self.initialize(client, &message, accepts);
        }
        check_version(headers)?;
        let session = self.sessions.find(client, headers)?;
        match message {
            Value::Array(messages) => self.batch(client, &session, messages, held).await,
            message => self.single(client, &session, message, held, accepts).await,
        }
    }

    fn initialize(
        &self,
        client: ClientKey,
        message: &Value,
        accepts: Accepts,
    ) -> Result<Response, RpcError> {
        if self.child.ended().is_cancelled() {
            return Err(RpcError::gone());
        }
        let asked = message
            .pointer("/params/protocolVersion")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let version = SESSION_VERSIONS
            .into_iter()
            .find(|version| *version == asked)
            .unwrap_or(SESSION_VERSIONS[0]);
        let introduction = Introduction::of(message);
        let session = self.sessions.open(client, version, None, introduction);
        let mut result = self.info.clone();
        result["protocolVersion"] = json!(version);
        let answer = json!({"jsonrpc": "2.0", "id": message["id"], "result": result});
        let mut response = at_once(accepts, answer);
        if let Ok(session) = HeaderValue::from_str(&session.to_string()) {
            response.headers_mut().insert(SESSION_HEADER, session);
        }
        Ok(response)
    }

    async fn single(
        &self,
        client: ClientKey,
        session: &Found,
        message: Value,
        held: Held,
        accepts: Accepts,
    ) -> Result<Response, RpcError> {
        let asker = Asker {
            client,
            session: Some(session.id),
        };
        let (id, method) = match kind(&message) {
            _ if message["jsonrpc"] != "2.0" => {
                return Err(RpcError::invalid("The body is not a JSON-RPC 2.0 message."));
            }
            None => return Err(RpcError::invalid("The body is not a JSON-RPC 2.0 message.")),
            Some(Kind::Answer { .. }) => {
                self.child.answered(asker, message, Some(held)).await;
                return Ok(accepted());
            }
            Some(Kind::Notification { .. }) => {
                self.notification(asker, message, Some(held)).await?;
                return Ok(accepted());
            }
            Some(Kind::Request { id, method }) => (id.clone(), method),
        };
        if let Some(result) = self.answered_here(session, method, &message)? {
            return Ok(at_once(
                accepts,
                json!({"jsonrpc": "2.0", "id": id, "result": result}),
            ));
        }
        let conversation = self
            .conversation(asker, session, accepts, message, held)
            .await?;
        respond(conversation, (&self.sessions, session), accepts, id).await
    }

    async fn conversation(
        &self,
        asker: Asker,
        session: &Found,
        accepts: Accepts,
        message: Value,
        held: Held,
    ) -> Result<Conversation, RpcError> {
        Conversation::begin(
            &self.child,
            &self.room,
            self.stateless.era(),
            (asker, session),
            accepts,
            (message, held),
            self.limits.request_total_timeout,
        )
        .await
    }

    /// Requests that do not reach the server, since it does not know of sessions.
    fn answered_here(
        &self,
        session: &Found,
        method: &str,
        message: &Value,
    ) -> Result<Option<Value>, RpcError> {
        let uri = message
            .pointer("/params/uri")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let too_many = || RpcError::invalid("This session has too many subscriptions.");
        let nothing = Ok(Some(json!({})));
        match (method, &self.standing) {
            ("resources/subscribe", standing) => {
                if !self.sessions.subscribe(session.id, uri) {
                    return Err(too_many());
                }
                match standing {
                    Some(standing) if standing.resource(uri) => nothing,
                    Some(_) => Err(too_many()),
                    None => Ok(None),
                }
            }
            ("resources/unsubscribe", standing) => {
                let is_wanted = self.sessions.unsubscribe(session.id, uri);
                match standing {
                    _ if is_wanted => nothing,
                    Some(standing) => {
                        standing.no_resource(uri);
                        nothing
                    }
                    None => Ok(None),
                }
            }
            ("ping", Some(_)) => nothing,
            ("logging/setLevel", Some(_)) => {
                let level = message.pointer("/params/level").and_then(Value::as_str);
                self.sessions
                    .set_log_level(session.id, level.unwrap_or_default());
                nothing
            }
            _ if method.starts_with("tasks/") && !self.is_own => Err(RpcError::new(
                StatusCode::OK,
                METHOD_NOT_FOUND,
                "Tasks are not offered: this server is shared by several clients.",
            )),
            _ => Ok(None),
        }
    }

    async fn notification(
        &self,
        asker: Asker,
        message: Value,
        held: Option<Held>,
    ) -> Result<(), RpcError> {
        match message["method"].as_str().unwrap_or_default() {
            "notifications/cancelled" => {
                let params = &message["params"];
                self.child
                    .cancel(asker, &params["requestId"], params.get("reason"))
                    .await
            }
            // Of the handshake; the stateless era has none of the others.
            "notifications/initialized" => Ok(()),
            _ if self.standing.is_some() => Ok(()),
            // Of requests that a shared server cannot make.
            "notifications/roots/list_changed" | "notifications/progress" if !self.is_own => Ok(()),
            _ => self.child.send(message, held).await,
        }
    }

    /// Batches exist up to 2025-03-26; they are answered whole.
    async fn batch(
        &self,
        client: ClientKey,
        session: &Found,
        messages: Vec<Value>,
        mut held: Held,
    ) -> Result<Response, RpcError> {
        if session.version.as_str() >= "2025-06-18" {
            return Err(RpcError::invalid(
                "Batches are not part of this protocol version.",
            ));
        }
        if messages.is_empty() || messages.len() > BATCH {
            return Err(RpcError::invalid(format!(
                "A batch holds 1 to {BATCH} messages."
            )));
        }
        let asker = Asker {
            client,
            session: Some(session.id),
        };
        let answers = join_all(
            messages
                .into_iter()
                .map(|message| self.batched(asker, session, message)),
        )
        .await;
        let mut texts = Vec::new();
        for (answer, part) in answers.into_iter().flatten() {
            texts.push(answer);
            if let Some(part) = part {
                held.absorb(part);
            }
        }
        if texts.is_empty() {
            return Ok(accepted());
        }
        let answer = Value::Array(texts);
        Ok(json_response(StatusCode::OK, &answer, Some(held)))
    }

    async fn batched(
        &self,
        asker: Asker,
        session: &Found,
        message: Value,
    ) -> Option<(Value, Option<Held>)> {
        let id = message
            .get("id")
            .filter(|id| is_id(id))
            .cloned()
            .unwrap_or(Value::Null);
        let answered = async {
            match kind(&message) {
                None => Err(RpcError::invalid("This is not a JSON-RPC 2.0 message.")),
                Some(Kind::Answer { .. }) => {
                    self.child.answered(asker, message, None).await;
                    Ok(None)
                }
                Some(Kind::Notification { .. }) => {
                    self.notification(asker, message, None).await.map(|()| None)
                }
                // The server has had its handshake, and the client has its session.
                Some(Kind::Request {
                    method: "initialize",
                    ..
                }) => Err(RpcError::invalid("A batch holds no initialize.")),
                Some(Kind::Request { method, .. }) => {
                    match self.answered_here(session, method, &message)? {
                        Some(result) => Ok(Some((
                            json!({"jsonrpc": "2.0", "id": &id, "result": result}),
                            None,
                        ))),
                        None => {
                            let held = self.room.hold(asker.client);
                            let accepts = Accepts {
                                json: true,
                                events: false,
                            };
                            let conversation = self
                                .conversation(asker, session, accepts, message, held)
                                .await?;
                            let (answer, held) = conversation.answer().await?;
                            Ok(Some((answer, Some(held))))
                        }
                    }
                }
            }
        };
        answered
            .await
            .unwrap_or_else(|error: RpcError| Some((error.message(&id), None)))
    }

    /// The stream of what the server tells everybody, or of an answer that its client was cut off from.
    fn get(&self, client: ClientKey, headers: &HeaderMap) -> Result<Response, RpcError> {
        if !Accepts::of(headers).events {
            return Err(RpcError {
                status: StatusCode::NOT_ACCEPTABLE,
                ..RpcError::invalid("Accept must allow text/event-stream.")
            });
        }
        check_version(headers)?;
        let session = self.sessions.find(client, headers)?;
        if let Some((answer, last)) = self.sessions.cut_off(session.id, headers) {
            return Ok(answer.response(Some(last), std::future::pending()));
        }
        if self.child.ended().is_cancelled() {
            return Err(RpcError::gone());
        }
        if let Some(standing) = &self.standing {
            standing.lists(&self.info["capabilities"]);
        }
        let (told, after) = self.sessions.told(session.id, headers, &self.guesses);
        let (ended, longest) = (self.child.ended(), self.limits.stream_total);
        Ok(told.response(after, async move {
            let _ = tokio::time::timeout(longest, ended.cancelled()).await;
        }))
    }

    async fn delete(&self, client: ClientKey, headers: &HeaderMap) -> Result<Response, RpcError> {
        let session = self.sessions.find(client, headers)?;
        self.sessions.close(session.id);
        // A server that is gone has nothing left to cancel.
        let _ = self
            .child
            .cancel_all(Asker {
                client,
                session: Some(session.id),
            })
            .await;
        Ok(StatusCode::NO_CONTENT.into_response())
    }
}

/// Asks a server whether it speaks the stateless era. What it says of itself as of `initialize` if so; and whether it said nothing.
async fn probe(child: &Child, timeout: Duration) -> Result<(Option<Value>, bool), HandshakeError> {
    match child.first(stateless::discover(), PROBE.min(timeout)).await {
        Ok(answer) => Ok((stateless::introduced(&answer), false)),
        Err(HandshakeError::TimedOut(_)) => Ok((None, true)),
        Err(error) => Err(error),
    }
}

/// The handshake of the session era.
async fn greet(child: &Child, greeting: Value, timeout: Duration) -> Result<Value, HandshakeError> {
    let answer = child.first(greeting, timeout).await?;
    if let Some(message) = answer.pointer("/error/message") {
        let message = message.as_str().unwrap_or("no reason given");
        return Err(HandshakeError::Refused(message.chars().take(500).collect()));
    }
    let info = answer.get("result").filter(|result| {
        result["protocolVersion"].is_string() && result["capabilities"].is_object()
    });
    let Some(info) = info else {
        return Err(HandshakeError::NotUnderstood(
            "it has no protocolVersion or no capabilities.".to_owned(),
        ));
    };
    let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    child
        .send(initialized, None)
        .await
        .map_err(|error| HandshakeError::Ended(error.message))?;
    Ok(info.clone())
}

/// What is told of the server to its clients.
fn offered(mut info: Value, is_own: bool) -> Value {
    if let Some(capabilities) = info["capabilities"].as_object_mut()
        && !is_own
    {
        // A shared server's tasks are one list: a client would see the others'.
        capabilities.shift_remove("tasks");
    }
    info
}

/// What opens a session carries none: the gateway tells by it which calls go on record.
pub(super) fn no_session_here() -> RpcError {
    RpcError::invalid("This call begins anew, so it carries no Mcp-Session-Id.")
}

/// Without capabilities: a server that is shared cannot ask a client.
pub(super) fn initialize() -> Value {
    initialize_with(None)
}

fn initialize_with(capabilities: Option<ClientCapabilities>) -> Value {
    json!({
        "jsonrpc": "2.0",
        "id": 0,
        "method": "initialize",
        "params": {
            "protocolVersion": SESSION_VERSIONS[0],
            "capabilities": capabilities.map_or_else(|| json!({}), ClientCapabilities::json),
            "clientInfo": {"name": "sealport", "version": env!("CARGO_PKG_VERSION")},
        },
    })
}

pub(super) fn check_version(headers: &HeaderMap) -> Result<(), RpcError> {
    match headers
        .get(VERSION_HEADER)
        .map(|version| version.to_str().unwrap_or_default())
    {
        Some(version) if !SESSION_VERSIONS.contains(&version) => Err(RpcError::version(version)),
        _ => Ok(()),
    }
}

pub(super) fn not_allowed() -> Response {
    (
        StatusCode::METHOD_NOT_ALLOWED,
        [(header::ALLOW, "POST, GET, DELETE")],
    )
        .into_response()
}
