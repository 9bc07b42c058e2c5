//! The gateway: `/s/<name>/mcp`, Streamable HTTP in front of any deployment. Reads `Authorization` only, and
//! answers the same 401 for any name to whoever has no token for it.

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, any};
use serde_json::json;

use super::quotas::bearer;
use super::web::{AppState, origin};
use crate::deploy::relay::ClientKey;
use crate::model::actors::Origin;
use crate::store::tokens::TurnedAway;

pub(super) fn routes() -> MethodRouter<AppState> {
    any(call)
}

/// One call of an MCP client.
async fn call(
    State(state): State<AppState>,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    let caller = origin::of(&state.config, &request);
    // A page in a browser is no MCP client of ours unless it is our own (DNS rebinding).
    if request.headers().contains_key(header::ORIGIN)
        && !origin::is_from_us(&state.config, request.headers())
    {
        turned_away(&state, &caller, TurnedAway::ForeignOrigin).await;
        return trouble(
            StatusCode::FORBIDDEN,
            "This Origin may not call the gateway.",
        );
    }
    let Some(token) = bearer(request.headers()) else {
        turned_away(&state, &caller, TurnedAway::NoToken).await;
        return unauthorised();
    };
    // A call without a session begins one, and goes on record; the calls within it do not.
    let begins = !request.headers().contains_key("mcp-session-id");
    let pass = match state.db.gateway_open(&token, &name, &caller, begins).await {
        Ok(pass) => pass,
        Err(error) => {
            let refusal = error.into_refusal();
            return match refusal.kind {
                crate::model::errors::RefusalKind::Unauthenticated => unauthorised(),
                _ => trouble(StatusCode::SERVICE_UNAVAILABLE, &refusal.detail),
            };
        }
    };
    match state.deployer.relay(pass.deployment_id).await {
        Ok(relay) => relay.handle(ClientKey(pass.token_id), request).await,
        Err(why) => {
            let mut response = trouble(StatusCode::SERVICE_UNAVAILABLE, &why);
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
            response
        }
    }
}

/// On record where that can be; nothing is given out either way.
async fn turned_away(state: &AppState, caller: &Origin, why: TurnedAway) {
    if let Err(error) = state.db.gateway_turned_away(caller, why).await {
        error.into_refusal();
    }
}

fn unauthorised() -> Response {
    let mut response = trouble(
        StatusCode::UNAUTHORIZED,
        "Send a gateway token of this deployment as Authorization: Bearer sp_…; its page in Sealport makes one.",
    );
    response
        .headers_mut()
        .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

/// An error that an MCP client can show: JSON-RPC without an id, for the call was not read.
pub(crate) fn trouble(status: StatusCode, message: &str) -> Response {
    let body = json!({"jsonrpc": "2.0", "id": null, "error": {"code": -32000, "message": message}});
    (
        status,
        [(header::CONTENT_TYPE, "application/json")],
        Body::from(body.to_string()),
    )
        .into_response()
}
