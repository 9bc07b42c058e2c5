//! The gateway: `/s/<name>/mcp`, Streamable HTTP in front of any deployment. Reads `Authorization` only, and
//! answers the same 401 for any name to whoever has no token for it.

mod quota;

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::Extension;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, any};
use http_body::{Frame, SizeHint};
use serde_json::json;

use quota::CallQuota;

use super::quotas::bearer;
use super::web::{AppState, origin};
use crate::deploy::InUse;
use crate::deploy::relay::{ClientKey, Incoming, Limits, Room, Unconnected};
use crate::model::actors::Origin;
use crate::store::gateway::{CallersKeys, TurnedAway};

pub(super) fn routes(calls_per_minute: u32) -> MethodRouter<AppState> {
    any(call).layer(Extension(CallQuota::per_minute(calls_per_minute)))
}

/// One call of an MCP client.
async fn call(
    State(state): State<AppState>,
    Extension(quota): Extension<CallQuota>,
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
    if let Err(wait_secs) = quota.take(pass.user_id) {
        return too_many(wait_secs);
    }
    let client = ClientKey {
        token: pass.token_id,
        user: pass.user_id,
    };
    let deployer = &state.deployer;
    match &pass.keys {
        CallersKeys::Shared => match deployer.relay(pass.deployment_id).await {
            Ok(relay) => relay.handle(client, request).await,
            Err(why) => not_now(&why),
        },
        CallersKeys::Connected(versions) => {
            // Read first: a server may ask its one caller, and is told when it starts what their client can be asked.
            let (room, limits) = (Room::default(), Limits::default());
            let incoming = match Incoming::read(client, request, &room, &limits).await {
                Ok(incoming) => incoming,
                Err(refused) => return refused,
            };
            let asked = incoming.capabilities();
            let (deployment, user) = (pass.deployment_id, pass.user_id);
            let own = deployer.own_instance(deployment, user, versions, asked);
            match own.await {
                Ok(in_use) => {
                    let response = in_use.relay().answer(client, incoming).await;
                    response.map(|body| {
                        Body::new(InUseBody {
                            body,
                            _in_use: in_use,
                        })
                    })
                }
                Err(why) => not_now(&why),
            }
        }
        CallersKeys::Missing(names) => {
            deployer.retire_own(pass.deployment_id, pass.user_id);
            let url = format!("{}connect/{name}", state.config.public_url);
            let ask = Unconnected {
                server: &name,
                names,
                url: &url,
            };
            ask.handle(client, &Room::default(), request).await
        }
    }
}

fn too_many(wait_secs: u64) -> Response {
    let says = format!("You made too many calls within a minute. Try again in {wait_secs} s.");
    let mut response = trouble(StatusCode::TOO_MANY_REQUESTS, &says);
    response
        .headers_mut()
        .insert(header::RETRY_AFTER, HeaderValue::from(wait_secs));
    response
}

fn not_now(why: &str) -> Response {
    let mut response = trouble(StatusCode::SERVICE_UNAVAILABLE, why);
    response
        .headers_mut()
        .insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
    response
}

/// An answer during which a caller's instance counts as used: a stream is open as long as it is read.
struct InUseBody {
    body: Body,
    _in_use: InUse,
}

impl HttpBody for InUseBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
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
