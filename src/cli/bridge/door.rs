//! The way in: `/mcp` and `/healthz`, and who may come.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use axum::routing::{any, get};
use futures::StreamExt;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::deploy::relay::{ClientKey, StdioRelay};
use crate::doors::gateway::trouble;
use crate::doors::quotas::bearer;

const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
/// An id of 16 bytes, in hex.
const ID_LEN_CHARS: usize = 32;

pub(super) struct Door {
    /// Of what callers have to send; none when anybody may call.
    secret: Option<[u8; 32]>,
    /// There once the server has answered the handshake.
    relay: OnceLock<Arc<StdioRelay>>,
}

impl Door {
    pub fn new(secret: Option<&SecretString>) -> Self {
        Door {
            secret: secret.map(digest),
            relay: OnceLock::new(),
        }
    }

    /// Calls reach the server from now on.
    pub fn open(&self, relay: Arc<StdioRelay>) {
        let _ = self.relay.set(relay);
    }

    /// Closes the server's input; whoever waits is told that it is gone.
    pub fn close(&self) {
        if let Some(relay) = self.relay.get() {
            relay.close();
        }
    }

    /// `cancel` ends streams that would go on for ever.
    pub fn router(self: Arc<Self>, cancel: CancellationToken) -> Router {
        let call = move |State(door): State<Arc<Door>>, request: Request| {
            let cancel = cancel.clone();
            async move { door.call(request, cancel).await }
        };
        Router::new()
            .route("/mcp", any(call))
            .route("/healthz", get(healthy))
            .with_state(self)
    }

    async fn call(&self, mut request: Request, cancel: CancellationToken) -> Response {
        // Not even of the same origin: there is no page here, and behind a provider any Host is right, so that a name which was
        // rebound to this address would be of the same origin too.
        if request.headers().contains_key(header::ORIGIN) {
            return trouble(
                StatusCode::FORBIDDEN,
                "This address is for MCP clients, not for pages in a browser: a request with an Origin is refused.",
            );
        }
        if !self.admits(request.headers()) {
            return unauthorised();
        }
        let Some(relay) = self.relay.get() else {
            return not_yet();
        };
        let client = take_client(request.headers_mut());
        let is_stream = request.method() == Method::GET;
        let mut response = relay.handle(client, request).await;
        name_client(response.headers_mut(), client);
        if is_stream {
            return response.map(|body| {
                Body::from_stream(body.into_data_stream().take_until(cancel.cancelled_owned()))
            });
        }
        response
    }

    fn admits(&self, headers: &HeaderMap) -> bool {
        let Some(secret) = &self.secret else {
            return true;
        };
        // In constant time, over digests, so that neither place nor length of a difference shows.
        bearer(headers).is_some_and(|sent| digest(&sent).ct_eq(secret).into())
    }
}

/// For the provider: whether calls would be answered.
async fn healthy(State(door): State<Arc<Door>>) -> (StatusCode, &'static str) {
    match door.relay.get() {
        Some(relay) if relay.reason().is_none() => (StatusCode::OK, "ok\n"),
        Some(_) => (StatusCode::SERVICE_UNAVAILABLE, "The server has ended.\n"),
        None => (
            StatusCode::SERVICE_UNAVAILABLE,
            "The server has not answered the MCP handshake yet.\n",
        ),
    }
}

fn digest(text: &SecretString) -> [u8; 32] {
    Sha256::digest(text.expose_secret()).into()
}

/// Takes out of a session's id whose it is. All callers have the one secret, and Sealport's gateway calls with it for all of its
/// clients, so the bearer cannot tell them apart: each session counts as a client, and so does each call outside of one. What the
/// relay keeps from other clients is thereby kept from other sessions. The id that a caller sees is the relay's and the client's.
fn take_client(headers: &mut HeaderMap) -> ClientKey {
    let parts = headers
        .get(&SESSION)
        .and_then(|id| id.to_str().ok())
        .filter(|id| id.len() == 2 * ID_LEN_CHARS)
        .and_then(|id| id.split_at_checked(ID_LEN_CHARS));
    let known = parts.and_then(|(session, client)| {
        let session = HeaderValue::from_str(session).ok()?;
        Some((session, Uuid::try_parse(client).ok()?))
    });
    match known {
        Some((session, client)) => {
            headers.insert(SESSION, session);
            ClientKey::alone(client)
        }
        // To an id that is none of ours, the relay says so.
        None => ClientKey::nobody(),
    }
}

/// Writes into a new session's id whose it is.
fn name_client(headers: &mut HeaderMap, client: ClientKey) {
    let session = headers
        .get(&SESSION)
        .and_then(|id| Uuid::try_parse(id.to_str().ok()?).ok());
    let named = session.and_then(|session| {
        let id = format!("{}{}", session.simple(), client.token.simple());
        HeaderValue::from_str(&id).ok()
    });
    if let Some(named) = named {
        headers.insert(SESSION, named);
    }
}

fn unauthorised() -> Response {
    let mut response = trouble(
        StatusCode::UNAUTHORIZED,
        "Send what SEALPORT_GATEWAY_SECRET is here as Authorization: Bearer. Clients call through Sealport's gateway, which does.",
    );
    response
        .headers_mut()
        .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

fn not_yet() -> Response {
    let mut response = trouble(
        StatusCode::SERVICE_UNAVAILABLE,
        "The server behind this address is still starting. Try again in a moment.",
    );
    response
        .headers_mut()
        .insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
    response
}
