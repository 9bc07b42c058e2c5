//! JSON-RPC and HTTP, as far as the relay must understand them.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt as _};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::{Value, json};

use super::Limits;
use super::room::{Full, Held, weigh};

/// The stateless era's version that is translated.
pub const STATELESS_VERSION: &str = "2026-07-28";
/// What sessions may speak; the first is offered to a client that asks for something else.
pub const SESSION_VERSIONS: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];

/// All that are spoken, as an error for any other names them too.
pub fn versions() -> Vec<&'static str> {
    std::iter::once(STATELESS_VERSION)
        .chain(SESSION_VERSIONS)
        .collect()
}

pub(super) const SESSION_HEADER: HeaderName = HeaderName::from_static("mcp-session-id");
pub const VERSION_HEADER: HeaderName = HeaderName::from_static("mcp-protocol-version");

/// Keeps a request open for what a server tells, in the stateless era.
pub(super) const LISTEN: &str = "subscriptions/listen";
/// Which request for [`LISTEN`] a notification belongs to.
pub(super) const SUBSCRIPTION_KEY: &str = "io.modelcontextprotocol/subscriptionId";

pub const PARSE_ERROR: i64 = -32700;
pub const INVALID_REQUEST: i64 = -32600;
pub const METHOD_NOT_FOUND: i64 = -32601;
pub(super) const SERVER_GONE: i64 = -32000;
pub(super) const SESSION_UNKNOWN: i64 = -32001;
/// As the SDKs number a request that ran out of time.
pub(super) const TIMED_OUT: i64 = -32001;
pub(super) const CANCELLED: i64 = -32800;
pub(super) const HEADER_MISMATCH: i64 = -32020;
pub(super) const CAPABILITY_MISSING: i64 = -32021;
pub(super) const VERSION_UNSUPPORTED: i64 = -32022;

/// The longest id or progress token of a client.
const ID_LEN_BYTES: usize = 1024;
const KEEP_ALIVE: Duration = Duration::from_secs(15);
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// An error as a client sees it.
#[derive(Debug, Clone)]
pub struct RpcError {
    pub status: StatusCode,
    pub code: i64,
    pub message: String,
    pub data: Option<Value>,
}

impl RpcError {
    /// The server let `timeout` pass.
    pub fn timed_out(timeout: Duration) -> Self {
        let seconds = timeout.as_secs_f32();
        Self::new(
            StatusCode::OK,
            TIMED_OUT,
            format!(
                "The server did not answer within {seconds} seconds; the request was given up."
            ),
        )
    }

    pub fn new(status: StatusCode, code: i64, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            data: None,
        }
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, INVALID_REQUEST, message)
    }

    pub fn gone() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            SERVER_GONE,
            "The server behind this address stopped. It comes back by itself unless it was stopped on purpose; try again in a moment.",
        )
    }

    pub fn version(requested: &str) -> Self {
        Self {
            data: Some(json!({"supported": versions(), "requested": requested})),
            ..Self::new(
                StatusCode::BAD_REQUEST,
                VERSION_UNSUPPORTED,
                "This protocol version is not supported.",
            )
        }
    }

    pub fn message(&self, id: &Value) -> Value {
        let mut error = json!({"code": self.code, "message": self.message});
        if let Some(data) = &self.data {
            error["data"] = data.clone();
        }
        json!({"jsonrpc": "2.0", "id": id, "error": error})
    }

    pub fn response(&self, id: &Value) -> Response {
        let mut response = json_response(self.status, &self.message(id), None);
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response
                .headers_mut()
                .insert(http::header::RETRY_AFTER, HeaderValue::from_static("2"));
        }
        response
    }
}

/// The tool, prompt or resource that a request is about, as the stateless era has it in a header too.
pub(super) fn named_in(message: &Value) -> Option<&str> {
    let params = &message["params"];
    match message["method"].as_str()? {
        "tools/call" | "prompts/get" => params["name"].as_str(),
        "resources/read" => params["uri"].as_str(),
        _ => None,
    }
}

/// What a JSON-RPC object is.
pub(super) enum Kind<'m> {
    Request { id: &'m Value, method: &'m str },
    Notification { method: &'m str },
    Answer { id: &'m Value },
}

/// `None` when it is no JSON-RPC message.
pub(super) fn kind(message: &Value) -> Option<Kind<'_>> {
    let object = message.as_object()?;
    let id = object.get("id");
    match (object.get("method"), id) {
        (Some(Value::String(method)), Some(id)) if is_id(id) => Some(Kind::Request { id, method }),
        (Some(Value::String(method)), None) => Some(Kind::Notification { method }),
        (None, Some(id)) if object.contains_key("result") || object.contains_key("error") => {
            Some(Kind::Answer { id })
        }
        _ => None,
    }
}

/// Ids are kept until the answer, so they have a bound.
pub(super) fn is_id(id: &Value) -> bool {
    match id {
        Value::String(text) => text.len() <= ID_LEN_BYTES,
        Value::Number(number) => number.as_str().len() <= ID_LEN_BYTES,
        _ => false,
    }
}

/// The forms of answer that a client's `Accept` allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepts {
    pub json: bool,
    pub events: bool,
}

impl Accepts {
    /// A missing header allows both, as HTTP has it.
    pub fn of(headers: &HeaderMap) -> Self {
        if !headers.contains_key(ACCEPT) {
            return Self {
                json: true,
                events: true,
            };
        }
        let mut accepts = Self {
            json: false,
            events: false,
        };
        for value in headers
            .get_all(ACCEPT)
            .iter()
            .filter_map(|value| value.to_str().ok())
        {
            for kind in value
                .split(',')
                .map(|part| part.split(';').next().unwrap_or_default().trim())
            {
                accepts.json |= matches!(kind, "application/json" | "application/*" | "*/*");
                accepts.events |= matches!(kind, "text/event-stream" | "text/*" | "*/*");
            }
        }
        accepts
    }
}

/// A POST's body as it came and as a tree, with the room that both take.
pub(super) struct Read {
    pub bytes: Bytes,
    pub message: Value,
    pub held: Held,
}

/// Reads and parses a POST's body, holding room before each part of it.
pub(super) async fn read_message(
    headers: &HeaderMap,
    body: Body,
    limits: &Limits,
    mut held: Held,
) -> Result<Read, RpcError> {
    if !is_type(headers, "application/json") {
        return Err(RpcError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            INVALID_REQUEST,
            "The body must be application/json.",
        ));
    }
    let read = read_bytes(body, limits.body_bytes, &mut held);
    let Ok(bytes) = tokio::time::timeout(BODY_TIMEOUT, read).await else {
        return Err(RpcError::new(
            StatusCode::REQUEST_TIMEOUT,
            INVALID_REQUEST,
            "The body took too long to arrive.",
        ));
    };
    let bytes = bytes?;
    held.resize_soon(weigh(&bytes)).await.map_err(Full::error)?;
    match crate::deploy::json::tree(&bytes) {
        Ok(message) => Ok(Read {
            bytes,
            message,
            held,
        }),
        Err(_) => Err(RpcError::new(
            StatusCode::BAD_REQUEST,
            PARSE_ERROR,
            "The body is not JSON.",
        )),
    }
}

async fn read_bytes(body: Body, longest_bytes: usize, held: &mut Held) -> Result<Bytes, RpcError> {
    let mut bytes = BytesMut::new();
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk
            .ok()
            .filter(|chunk| bytes.len() + chunk.len() <= longest_bytes);
        let Some(chunk) = chunk else {
            return Err(RpcError::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                INVALID_REQUEST,
                format!("The body is longer than {longest_bytes} bytes or did not arrive whole."),
            ));
        };
        held.resize_soon(held.bytes() + chunk.len())
            .await
            .map_err(Full::error)?;
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes.freeze())
}

pub fn is_type(headers: &HeaderMap, expected: &str) -> bool {
    headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|value| value.trim().eq_ignore_ascii_case(expected))
}

/// A message as JSON; what it takes of the room is held until it is written.
pub(super) fn json_response(status: StatusCode, message: &Value, held: Option<Held>) -> Response {
    let text = message.to_string();
    let body = match held {
        Some(mut held) => {
            held.shrink(text.len());
            Bytes::from_owner(HeldText { text, _held: held })
        }
        None => Bytes::from(text),
    };
    (status, [(CONTENT_TYPE, "application/json")], body).into_response()
}

struct HeldText {
    text: String,
    _held: Held,
}

impl AsRef<[u8]> for HeldText {
    fn as_ref(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

/// Messages as server-sent events. What a message takes of the room is held until the next is asked for, when it has been written.
pub(super) fn event_response(
    messages: impl Stream<Item = (Value, Option<Held>)> + Send + 'static,
) -> Response {
    let messages = Box::pin(messages);
    events_of(futures::stream::unfold(
        (messages, None),
        |(mut messages, written)| async move {
            drop::<Option<Held>>(written);
            let (message, mut held) = messages.next().await?;
            // JSON escapes line ends, so a message is one line of data.
            let text = message.to_string();
            if let Some(held) = &mut held {
                held.shrink(text.len());
            }
            let event = Event::default().event("message").data(text);
            Some((Ok(event), (messages, held)))
        },
    ))
}

/// Events as they are sent; comments in between keep proxies from closing the connection.
pub(super) fn events_of(
    events: impl Stream<Item = Result<Event, Infallible>> + Send + 'static,
) -> Response {
    let mut response = Sse::new(events)
        .keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
        .into_response();
    response
        .headers_mut()
        .insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

pub(super) fn accepted() -> Response {
    StatusCode::ACCEPTED.into_response()
}
