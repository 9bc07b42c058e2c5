//! Joins one MCP server to Streamable HTTP. Knows no store and no tokens: whoever calls has already
//! been recognised and is a [`ClientKey`] here.
//!
//! It works on JSON values rather than on typed messages, so that fields it does not know pass
//! unchanged. Every answer is masked before it is sent.

mod called;
mod capabilities;
mod child;
mod conversation;
mod events;
mod guesses;
mod http;
mod incoming;
mod over_http;
mod parked;
mod room;
mod sessions;
mod standing;
mod stateless;
mod stdio;
mod streams;
mod unconnected;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::response::Response;
use serde_json::Value;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::masks::Masks;
pub use called::{Called, Outcome};
pub use capabilities::ClientCapabilities;
pub use events::{Event, Events};
pub use guesses::Guesses;
pub use http::HttpRelay;
pub use incoming::Incoming;
pub use room::{Room, RoomLimits};
pub use stateless::{INVALID_PARAMS, SERVER_KEY, VERSION_KEY, check_envelope};
pub use stdio::StdioRelay;
pub use unconnected::Unconnected;
pub use wire::{
    Accepts, INVALID_REQUEST, METHOD_NOT_FOUND, PARSE_ERROR, RpcError, SESSION_VERSIONS,
    STATELESS_VERSION, VERSION_HEADER, is_type, versions,
};

/// Who calls. A session belongs to one key, and another key does not see it; what is bounded is counted for the user, for whoever may
/// make one token may make many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientKey {
    pub token: Uuid,
    pub user: Uuid,
}

impl ClientKey {
    /// One who is counted alone.
    pub fn alone(id: Uuid) -> Self {
        Self {
            token: id,
            user: id,
        }
    }

    /// Nobody's: what is held and guessed under it is counted apart.
    pub(crate) fn nobody() -> Self {
        Self::alone(uuid::Builder::from_random_bytes(rand::random()).into_uuid())
    }
}

/// A running server, whichever transport it speaks.
#[expect(
    clippy::large_enum_variant,
    reason = "there is one for each running server"
)]
pub enum Relay {
    Stdio(StdioRelay),
    Http(HttpRelay),
}

impl Relay {
    /// The server's `InitializeResult`, masked.
    pub fn server_info(&self) -> Value {
        match self {
            Self::Stdio(relay) => relay.server_info(),
            Self::Http(relay) => relay.server_info(),
        }
    }

    /// Answers one HTTP request to the server's MCP endpoint. Origin, Host and the caller have been
    /// checked before.
    pub async fn handle(&self, client: ClientKey, request: Request) -> Response {
        let (room, limits) = match self {
            Self::Stdio(relay) => relay.bounds(),
            Self::Http(relay) => relay.bounds(),
        };
        match Incoming::read(client, request, room, limits).await {
            Ok(incoming) => self.answer(client, incoming).await,
            Err(refused) => refused,
        }
    }

    /// The same for one that has been read.
    pub async fn answer(&self, client: ClientKey, incoming: Incoming) -> Response {
        match self {
            Self::Stdio(relay) => relay.answer(client, incoming).await,
            Self::Http(relay) => relay.answer(client, incoming).await,
        }
    }

    /// Whether somebody waits for an answer, with a connection or cut off from it.
    pub fn is_answering(&self) -> bool {
        match self {
            Self::Stdio(relay) => relay.is_answering(),
            Self::Http(relay) => relay.is_answering(),
        }
    }

    /// Closes the server's input, which asks a stdio server to end; one that speaks HTTP reads none.
    pub fn close(&self) {
        if let Self::Stdio(relay) = self {
            relay.close();
        }
    }

    /// Returns when the server has gone.
    pub async fn closed(&self) {
        match self {
            Self::Stdio(relay) => relay.closed().await,
            Self::Http(relay) => relay.closed().await,
        }
    }
}

/// Why a server did not come up.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    #[error("The server did not answer the MCP handshake within {} seconds.", .0.as_secs_f32())]
    TimedOut(Duration),
    /// With the reason, as in "The server closed its output."
    #[error("The server stopped before it answered the MCP handshake. {0}")]
    Ended(String),
    /// With the server's own message, masked.
    #[error("The server refused the MCP handshake: {0}")]
    Refused(String),
    #[error("The server's answer to the MCP handshake was not understood: {0}")]
    NotUnderstood(String),
}

/// How much the relay holds and how long it waits.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// A request without a sign of life (an answer or progress) for so long is given up.
    pub request_timeout: Duration,
    /// Progress prolongs a request, up to this.
    pub request_total_timeout: Duration,
    /// The largest request body from a client.
    pub body_bytes: usize,
    /// The longest line, event or JSON body from the server.
    pub message_bytes: usize,
    /// Sessions at once; of one user, [`Limits::sessions_per_user`].
    pub sessions: usize,
    pub sessions_per_user: usize,
    /// A session without a request or an open stream for so long is forgotten.
    pub session_idle: Duration,
    /// A stream of notifications ends after so long, and its client asks again: a revoke holds from then on.
    pub stream_total: Duration,
    /// Requests that wait for the server at once; of one user, [`Limits::pending_per_user`].
    pub pending: usize,
    pub pending_per_user: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_timeout: Duration::from_secs(300),
            request_total_timeout: Duration::from_secs(3600),
            body_bytes: 4 << 20,
            message_bytes: 16 << 20,
            sessions: 1024,
            sessions_per_user: 64,
            session_idle: Duration::from_secs(1800),
            stream_total: Duration::from_secs(300),
            pending: 1024,
            pending_per_user: 256,
        }
    }
}

/// What may be set when a relay starts.
#[derive(Debug, Default)]
pub struct Options {
    pub limits: Limits,
    /// Takes what a stdio server prints that is no message, line by line and masked. Lines that find
    /// no room are dropped.
    pub log: Option<mpsc::Sender<String>>,
    /// What is masked in these lines; by default what is masked in answers.
    pub log_masks: Option<Arc<Masks>>,
    /// What the server is told that its client can be asked, where one caller alone is served. None: nobody can be.
    pub client_capabilities: Option<ClientCapabilities>,
    /// Whether the server may be asked first whether it speaks the stateless era. Some end at a question that they do not know.
    pub may_probe: bool,
    /// Takes what there is to tell of tool calls. One that finds no room is left out.
    pub calls: Option<mpsc::Sender<Called>>,
    /// Where messages are held; by default the room of all relays.
    pub room: Room,
    /// How many masked answers callers got; by default counted over all relays.
    pub guesses: Guesses,
}
