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
use super::modern;
use super::sessions::{Found, Sessions};
use super::wire::{
    Accepts, Kind, METHOD_NOT_FOUND, MODERN_VERSION, RpcError, SESSION_HEADER, SESSION_VERSIONS,
    VERSION_HEADER, accepted, event_response, json_response, kind, read_message,
};
use super::{ClientKey, HandshakeError, Limits, Options};
use crate::deploy::masks::Masks;

/// Messages in one batch, which only versions before 2025-06-18 know.
const BATCH: usize = 64;

/// The clients' sessions, kept while a server is started again: they need not notice.
#[derive(Clone)]
pub struct KeptSessions(Arc<Sessions>);

impl std::fmt::Debug for KeptSessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeptSessions")
    }
}

/// A stdio server that has answered the handshake. Dropping it closes the server's input.
pub struct StdioRelay {
    child: Child,
    sessions: Arc<Sessions>,
    limits: Limits,
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
        let kept = options.sessions.clone();
        let sessions = kept.map_or_else(|| Arc::new(Sessions::new(limits)), |kept| kept.0);
        let notified = Arc::clone(&sessions);
        let child = Child::new(
            stdin,
            stdout,
            masks,
            options,
            Box::new(move |message| notified.notify(&message)),
        );
        let mut info = child.handshake(&initialize(), timeout).await?;
        let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        child
            .send(&initialized)
            .await
            .map_err(|error| HandshakeError::Ended(error.message))?;
        for uri in sessions.subscriptions() {
            // The old server was told of these; the answer concerns nobody, so its id is none of ours.
            let subscribe = json!({"jsonrpc": "2.0", "id": "again", "method": "resources/subscribe", "params": {"uri": uri}});
            child
                .send(&subscribe)
                .await
                .map_err(|error| HandshakeError::Ended(error.message))?;
        }
        if let Some(capabilities) = info["capabilities"].as_object_mut() {
            // The server's tasks are one list: a client would see the others'.
            capabilities.shift_remove("tasks");
        }
        Ok(Self {
            child,
            sessions,
            limits,
            info,
        })
    }

    /// The server's `InitializeResult`, masked.
    pub fn server_info(&self) -> Value {
        self.info.clone()
    }

    /// The sessions, for the options of the relay that comes after this one.
    pub fn sessions(&self) -> KeptSessions {
        KeptSessions(Arc::clone(&self.sessions))
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
            (&Method::POST, _) => match read_message(headers, body, &self.limits).await {
                Ok((_, message))
                    if version == Some(MODERN_VERSION) || modern::is_modern(&message) =>
                {
                    if headers.contains_key(SESSION_HEADER) {
                        let id = message.get("id").cloned().unwrap_or(Value::Null);
                        return no_session_here().response(&id);
                    }
                    return modern::post(&self.child, &self.info, client, headers, message).await;
                }
                Ok((_, message)) => self.post(client, headers, message).await,
                Err(error) => Err((Value::Null, error)),
            },
            (&Method::GET, version) if version != Some(MODERN_VERSION) => self
                .get(client, headers)
                .map_err(|error| (Value::Null, error)),
            (&Method::DELETE, version) if version != Some(MODERN_VERSION) => self
                .delete(client, headers)
                .await
                .map_err(|error| (Value::Null, error)),
            _ => return not_allowed(),
        };
        answered.unwrap_or_else(|(id, error)| error.response(&id))
    }

    async fn post(
        &self,
        client: ClientKey,
        headers: &HeaderMap,
        message: Value,
    ) -> Result<Response, (Value, RpcError)> {
        let id = message.get("id").cloned().unwrap_or(Value::Null);
        let accepts = Accepts::of(headers);
        let answered = async {
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
                Value::Array(messages) => self.batch(client, &session, messages).await,
                message => self.single(client, &session, &message, accepts).await,
            }
        };
        answered.await.map_err(|error| (id, error))
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
        let mut response = respond(accepts, answer, 0);
        if let Ok(session) = HeaderValue::from_str(&session.to_string()) {
            response.headers_mut().insert(SESSION_HEADER, session);
        }
        Ok(response)
    }

    async fn single(
        &self,
        client: ClientKey,
        session: &Found,
        message: &Value,
        accepts: Accepts,
    ) -> Result<Response, RpcError> {
        let asker = Asker {
            client,
            session: Some(session.id),
        };
        let (id, method) = match kind(message) {
            _ if message["jsonrpc"] != "2.0" => {
                return Err(RpcError::invalid("The body is not a JSON-RPC 2.0 message."));
            }
            None => return Err(RpcError::invalid("The body is not a JSON-RPC 2.0 message.")),
            Some(Kind::Answer { .. }) => return Ok(accepted()),
            Some(Kind::Notification { method }) => {
                self.notification(asker, method, message).await?;
                return Ok(accepted());
            }
            Some(Kind::Request { id, method }) => (id, method),
        };
        if let Some(result) = self.answered_here(session, method, message)? {
            return Ok(respond(
                accepts,
                json!({"jsonrpc": "2.0", "id": id, "result": result}),
                0,
            ));
        }
        let mut call = self.child.call(asker, message).await?;
        let wants_progress = message.pointer("/params/_meta/progressToken").is_some();
        if accepts.events && (wants_progress || !accepts.json) {
            return Ok(event_response(messages(call, id.clone())));
        }
        let (answer, masked) = call.answer().await?;
        Ok(json_response(StatusCode::OK, &answer, masked))
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
        method: &str,
        message: &Value,
    ) -> Result<(), RpcError> {
        match method {
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
            _ => self.child.send(message).await,
        }
    }

    /// Batches exist up to 2025-03-26; they are answered whole.
    async fn batch(
        &self,
        client: ClientKey,
        session: &Found,
        messages: Vec<Value>,
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
                .iter()
                .map(|message| self.batched(asker, session, message)),
        )
        .await;
        let (answers, masked): (Vec<Value>, Vec<usize>) = answers.into_iter().flatten().unzip();
        if answers.is_empty() {
            return Ok(accepted());
        }
        Ok(json_response(
            StatusCode::OK,
            &Value::Array(answers),
            masked.into_iter().sum(),
        ))
    }

    async fn batched(
        &self,
        asker: Asker,
        session: &Found,
        message: &Value,
    ) -> Option<(Value, usize)> {
        let answered = async {
            match kind(message) {
                None => Err(RpcError::invalid("This is not a JSON-RPC 2.0 message.")),
                Some(Kind::Answer { .. }) => Ok(None),
                Some(Kind::Notification { method }) => self
                    .notification(asker, method, message)
                    .await
                    .map(|()| None),
                Some(Kind::Request { id, method }) => {
                    match self.answered_here(session, method, message)? {
                        Some(result) => Ok(Some((
                            json!({"jsonrpc": "2.0", "id": id, "result": result}),
                            0,
                        ))),
                        None => self
                            .child
                            .call(asker, message)
                            .await?
                            .answer()
                            .await
                            .map(Some),
                    }
                }
            }
        };
        answered.await.unwrap_or_else(|error| {
            Some((error.message(message.get("id").unwrap_or(&Value::Null)), 0))
        })
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
        let notifications =
            tokio_stream::wrappers::ReceiverStream::new(self.sessions.stream(session.id));
        Ok(event_response(
            notifications.take_until(self.child.ended().cancelled_owned()),
        ))
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
pub(super) fn respond(accepts: Accepts, message: Value, masked: usize) -> Response {
    if accepts.json {
        json_response(StatusCode::OK, &message, masked)
    } else {
        event_response(stream::iter([message]))
    }
}

/// A call's progress and then its answer.
pub(super) fn messages(
    call: Call,
    id: Value,
) -> impl futures::Stream<Item = Value> + Send + 'static {
    stream::unfold(Some((call, id)), |state| async move {
        let (mut call, id) = state?;
        match call.next().await {
            Said::Progress(message) => Some((message, Some((call, id)))),
            Said::Answer(message, _) => Some((message, None)),
            Said::Failed(error) => Some((error.message(&id), None)),
        }
    })
}
