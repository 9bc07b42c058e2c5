//! A stdio server as Streamable HTTP: one child serves all sessions.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use futures::future::join_all;
use futures::{StreamExt as _, stream};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};

use super::child::{Asker, Call, Child, Said};
use super::guesses::Guesses;
use super::modern;
use super::room::{Held, Room};
use super::sessions::{Found, Sessions};
use super::wire::{
    Accepts, Kind, METHOD_NOT_FOUND, MODERN_VERSION, Read, RpcError, SESSION_HEADER,
    SESSION_VERSIONS, VERSION_HEADER, accepted, event_response, is_id, json_response, kind,
    read_message,
};
use super::{ClientKey, HandshakeError, Limits, Options};
use crate::deploy::masks::Masks;

/// Messages in one batch, which only versions before 2025-06-18 know.
const BATCH: usize = 64;

/// A stdio server that has answered the handshake. Dropping it closes the server's input.
pub struct StdioRelay {
    child: Child,
    sessions: Arc<Sessions>,
    limits: Limits,
    room: Room,
    guesses: Guesses,
    info: Value,
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
        let sessions = Arc::new(Sessions::new(limits, room.clone()));
        let notified = Arc::clone(&sessions);
        let child = Child::new(
            stdin,
            stdout,
            masks,
            options,
            Box::new(move |told| notified.notify(&told)),
        );
        let mut info = child.handshake(initialize(), timeout).await?;
        let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        child
            .send(initialized, None)
            .await
            .map_err(|error| HandshakeError::Ended(error.message))?;
        if let Some(capabilities) = info["capabilities"].as_object_mut() {
            // The server's tasks are one list: a client would see the others'.
            capabilities.shift_remove("tasks");
        }
        Ok(Self {
            child,
            sessions,
            limits,
            room,
            guesses,
            info,
        })
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

    pub async fn handle(&self, client: ClientKey, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let headers = &parts.headers;
        let version = headers
            .get(VERSION_HEADER)
            .map(|version| version.to_str().unwrap_or_default());
        let answered = match (&parts.method, version) {
            (&Method::POST, _) => {
                let held = self.room.hold(client);
                match read_message(headers, body, &self.limits, held).await {
                    // The text is let go of at once: the tree takes its place.
                    Ok(Read { message, held, .. }) => {
                        return self.answer(client, headers, message, held).await;
                    }
                    Err(error) => Err(error),
                }
            }
            (&Method::GET, version) if version != Some(MODERN_VERSION) => self.get(client, headers),
            (&Method::DELETE, version) if version != Some(MODERN_VERSION) => {
                self.delete(client, headers).await
            }
            _ => return not_allowed(),
        };
        answered.unwrap_or_else(|error| error.response(&Value::Null))
    }

    async fn answer(
        &self,
        client: ClientKey,
        headers: &HeaderMap,
        message: Value,
        held: Held,
    ) -> Response {
        let id = message
            .get("id")
            .filter(|id| is_id(id))
            .cloned()
            .unwrap_or(Value::Null);
        let stateless = headers
            .get(VERSION_HEADER)
            .is_some_and(|version| version == MODERN_VERSION)
            || modern::is_modern(&message);
        if !stateless {
            return self
                .post(client, headers, message, held)
                .await
                .unwrap_or_else(|error| error.response(&id));
        }
        if headers.contains_key(SESSION_HEADER) {
            return no_session_here().response(&id);
        }
        self.sessions.called(client);
        modern::post(&self.child, &self.info, client, headers, message, held).await
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
        let session = self.sessions.open(client, version, None)?;
        let mut result = self.info.clone();
        result["protocolVersion"] = json!(version);
        let answer = json!({"jsonrpc": "2.0", "id": message["id"], "result": result});
        let mut response = respond(accepts, answer);
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
            Some(Kind::Answer { .. }) => return Ok(accepted()),
            Some(Kind::Notification { .. }) => {
                self.notification(asker, message, Some(held)).await?;
                return Ok(accepted());
            }
            Some(Kind::Request { id, method }) => (id.clone(), method),
        };
        if let Some(result) = self.answered_here(session, method, &message)? {
            return Ok(respond(
                accepts,
                json!({"jsonrpc": "2.0", "id": id, "result": result}),
            ));
        }
        let wants_progress = message.pointer("/params/_meta/progressToken").is_some();
        let mut call = self.child.call(asker, message, Some(held)).await?;
        if accepts.events && (wants_progress || !accepts.json) {
            return Ok(event_response(messages(call, id)));
        }
        let (answer, held) = call.answer().await?;
        Ok(json_response(StatusCode::OK, &answer, Some(held)))
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
        match method {
            "resources/subscribe" if !self.sessions.subscribe(session.id, uri) => Err(
                RpcError::invalid("This session has too many subscriptions."),
            ),
            "resources/unsubscribe" if self.sessions.unsubscribe(session.id, uri) => {
                Ok(Some(json!({})))
            }
            _ if method.starts_with("tasks/") => Err(RpcError::new(
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
            // Of the handshake, and of requests that a shared server cannot make.
            "notifications/initialized"
            | "notifications/roots/list_changed"
            | "notifications/progress" => Ok(()),
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
                Some(Kind::Answer { .. }) => Ok(None),
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
                            let mut call = self.child.call(asker, message, None).await?;
                            let (answer, held) = call.answer().await?;
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

    /// The stream of what the server tells everybody.
    fn get(&self, client: ClientKey, headers: &HeaderMap) -> Result<Response, RpcError> {
        if !Accepts::of(headers).events {
            return Err(RpcError {
                status: StatusCode::NOT_ACCEPTABLE,
                ..RpcError::invalid("Accept must allow text/event-stream.")
            });
        }
        check_version(headers)?;
        let session = self.sessions.find(client, headers)?;
        if self.child.ended().is_cancelled() {
            return Err(RpcError::gone());
        }
        let guesses = self.guesses.clone();
        let notifications = tokio_stream::wrappers::ReceiverStream::new(
            self.sessions.stream(session.id),
        )
        .then(move |queued| {
            let guesses = guesses.clone();
            async move {
                guesses.slow(client, queued.masked).await;
                (queued.message, Some(queued.held))
            }
        });
        let (ended, longest) = (self.child.ended(), self.limits.stream_total);
        Ok(event_response(notifications.take_until(async move {
            let _ = tokio::time::timeout(longest, ended.cancelled()).await;
        })))
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

/// No capabilities: the server is shared, so it cannot ask a client.
/// What opens a session carries none: the gateway tells by it which calls go on record.
pub(super) fn no_session_here() -> RpcError {
    RpcError::invalid("This call begins anew, so it carries no Mcp-Session-Id.")
}

pub(super) fn initialize() -> Value {
    json!({
        "jsonrpc": "2.0",
        "id": 0,
        "method": "initialize",
        "params": {
            "protocolVersion": SESSION_VERSIONS[0],
            "capabilities": {},
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

/// One message in the form that the client takes, JSON where it can choose.
pub(super) fn respond(accepts: Accepts, message: Value) -> Response {
    if accepts.json {
        json_response(StatusCode::OK, &message, None)
    } else {
        event_response(stream::iter([(message, None)]))
    }
}

/// A call's progress and then its answer.
pub(super) fn messages(
    call: Call,
    id: Value,
) -> impl futures::Stream<Item = (Value, Option<Held>)> + Send + 'static {
    stream::unfold(Some((call, id)), |state| async move {
        let (mut call, id) = state?;
        match call.next().await {
            Said::Progress(message, held) => Some(((message, Some(held)), Some((call, id)))),
            Said::Answer(message, held) => Some(((message, Some(held)), None)),
            Said::Failed(error) => Some(((error.message(&id), None), None)),
        }
    })
}
