//! The door of agents: `/mcp`, Streamable HTTP of both eras, with tools for secrets and deployments. Reads `Authorization` only, at
//! every request; there is no session, so nothing outlives a revoked token and nothing has to be kept or bounded.
//!
//! It reads the protocol itself, with what the relay knows of both eras, for the crate that could do it (rmcp) prints requests and
//! results into the log at its debug level. In one case that is the value that `set_secret` was given, in the other the value that
//! `get_secret` gives.

mod arguments;
mod deployments;
mod message;
mod outcome;
mod secrets;
mod tools;

use std::time::Duration;

use axum::Extension;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, any};
use secrecy::SecretString;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::quotas::{Quotas, Turned};
use super::web::{AppState, origin};
use crate::deploy::Deployer;
use crate::deploy::relay::{Accepts, INVALID_REQUEST, RpcError, is_type};
use crate::model::actors::Caller;
use crate::model::errors::{Refusal, RefusalKind};
use crate::store::Db;

/// The largest body, in bytes: a value of 64 KiB, each of its characters escaped, and what stands around it.
const BODY_LEN_BYTES: usize = 512 * 1024;
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// The code of errors that have none in the protocol.
const SERVER_ERROR: i64 = -32000;

/// Who calls, and what tools work with.
struct Called {
    db: Db,
    deployer: Deployer,
    /// Where people and agents reach this installation.
    public_url: url::Url,
    caller: Caller,
    token: SecretString,
}

pub(super) fn routes(quotas: Quotas) -> MethodRouter<AppState> {
    any(call).layer(Extension(quotas))
}

/// One request of an MCP client.
async fn call(
    State(state): State<AppState>,
    Extension(quotas): Extension<Quotas>,
    request: Request,
) -> Response {
    let from = origin::of(&state.config, &request);
    // A page in a browser is no MCP client of ours unless it is our own (DNS rebinding).
    if request.headers().contains_key(header::ORIGIN)
        && !origin::is_from_us(&state.config, request.headers())
    {
        return match quotas.turn_away(&state, &from, "foreign origin").await {
            Turned::Unauthenticated { .. } => {
                trouble(StatusCode::FORBIDDEN, "This Origin may not call Sealport.")
            }
            turned => refused(turned),
        };
    }
    let admitted = match quotas.admit(&state, request.headers(), &from).await {
        Ok(admitted) => admitted,
        Err(turned) => return refused(turned),
    };
    let opened = match admitted.caller.clone() {
        Some(caller) => Ok(caller),
        None => state.db.api_token_open(&admitted.token, &from).await,
    };
    let mut response = match opened {
        Ok(caller) => answer(state, caller, admitted.token.clone(), request).await,
        Err(error) => broken(error.into_refusal()),
    };
    if response.status() == StatusCode::UNAUTHORIZED {
        quotas.forget(&admitted, &from);
    }
    if let Some(left) = admitted.left {
        left.tell(response.headers_mut());
    }
    response
}

async fn answer(
    state: AppState,
    caller: Caller,
    token: SecretString,
    request: Request,
) -> Response {
    // No stream is offered that could be opened by GET, and no session that could be ended by DELETE.
    if *request.method() != Method::POST {
        return only_post();
    }
    let called = Called {
        db: state.db,
        deployer: state.deployer,
        public_url: state.config.public_url.clone(),
        caller,
        token,
    };
    let (parts, body) = request.into_parts();
    let read = tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, BODY_LEN_BYTES)).await;
    let Ok(Ok(body)) = read else {
        let text =
            format!("The body is longer than {BODY_LEN_BYTES} bytes or did not arrive whole.");
        return RpcError::new(StatusCode::PAYLOAD_TOO_LARGE, INVALID_REQUEST, text)
            .response(&Value::Null);
    };
    // It can hold a value.
    let body = Zeroizing::new(Vec::from(body));
    called.answer(&parts.headers, &body).await
}

impl Called {
    async fn answer(&self, headers: &HeaderMap, body: &[u8]) -> Response {
        if !is_type(headers, "application/json") {
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return RpcError::new(
                status,
                INVALID_REQUEST,
                "The body must be application/json.",
            )
            .response(&Value::Null);
        }
        let message = match message::read(body) {
            Ok(message) => message,
            Err(error) => return error.response(&Value::Null),
        };
        let Some(asked) = message.asked() else {
            // A notification, or an answer to what was never asked: nothing here waits for either.
            return StatusCode::ACCEPTED.into_response();
        };
        if !Accepts::of(headers).json {
            let status = StatusCode::NOT_ACCEPTABLE;
            let text = "Accept must allow application/json and text/event-stream.";
            return RpcError::new(status, INVALID_REQUEST, text).response(&asked.id);
        }
        match asked.reply(headers) {
            Ok(message::Reply::Result(result)) => message::answer(&asked.id, &result),
            Ok(message::Reply::Call {
                tool,
                arguments,
                era,
            }) => {
                match self.tool(&tool, arguments).await {
                    Ok(outcome) => outcome.answer(&asked.id, era),
                    // The token ended while it was used.
                    Err(refusal) if refusal.kind == RefusalKind::Unauthenticated => broken(refusal),
                    Err(refusal) => outcome::Outcome::refused(&refusal).answer(&asked.id, era),
                }
            }
            Err(error) => error.response(&asked.id),
        }
    }
}

fn refused(turned: Turned) -> Response {
    match turned {
        Turned::Unauthenticated { shown, .. } => unauthorised(shown),
        Turned::Broken(refusal) => broken(refusal),
        Turned::TooMany {
            detail,
            wait_secs,
            left,
        } => {
            let mut response = trouble(StatusCode::TOO_MANY_REQUESTS, &detail);
            let headers = response.headers_mut();
            headers.insert(header::RETRY_AFTER, HeaderValue::from(wait_secs));
            if let Some(left) = left {
                left.tell(headers);
            }
            response
        }
    }
}

fn broken(refusal: Refusal) -> Response {
    match refusal.kind {
        RefusalKind::Unauthenticated => unauthorised(true),
        _ => trouble(StatusCode::SERVICE_UNAVAILABLE, &refusal.detail),
    }
}

/// Without `resource_metadata` (RFC 9728): it would name an authorisation server, and there is none. Clients that read it would begin
/// an OAuth flow that cannot end, rather than say that a token is missing.
fn unauthorised(shown: bool) -> Response {
    let mut response = trouble(
        StatusCode::UNAUTHORIZED,
        "Send a token of the API as Authorization: Bearer sp_…; Tokens in Sealport's dashboard makes one. This one, if there was one, \
         opens nothing: it may have ended or been revoked.",
    );
    let challenge = if shown {
        "Bearer error=\"invalid_token\""
    } else {
        "Bearer"
    };
    response.headers_mut().insert(
        header::WWW_AUTHENTICATE,
        HeaderValue::from_static(challenge),
    );
    response
}

fn only_post() -> Response {
    let mut response = trouble(
        StatusCode::METHOD_NOT_ALLOWED,
        "Send messages by POST. There are no sessions, and no stream to listen to.",
    );
    response
        .headers_mut()
        .insert(header::ALLOW, HeaderValue::from_static("POST"));
    response
}

/// An error that an MCP client can show: JSON-RPC without an id, for the call was not read.
fn trouble(status: StatusCode, message: &str) -> Response {
    let body =
        json!({"jsonrpc": "2.0", "id": null, "error": {"code": SERVER_ERROR, "message": message}});
    (
        status,
        [(header::CONTENT_TYPE, "application/json")],
        body.to_string(),
    )
        .into_response()
}
