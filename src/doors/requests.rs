//! What every request gets: an id, a log line, and the two questions of an orchestrator.

use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tracing::Instrument;
use uuid::Uuid;

use super::web::AppState;

/// Carries the id of a request, in the answer and in the log.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Gives the request an id of ours, whatever it came with, and logs its end. The log names the route, not the
/// address: an address can hold a one-time link.
pub async fn number(mut request: Request, next: Next) -> Response {
    let id = Uuid::now_v7().to_string();
    let header = HeaderValue::from_str(&id).unwrap_or(HeaderValue::from_static("-"));
    request.headers_mut().insert(REQUEST_ID, header.clone());
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "-".to_owned(), |path| path.as_str().to_owned());
    let method = request.method().clone();
    let started = Instant::now();
    let span = tracing::info_span!("request", id = %id);
    let mut response = next.run(request).instrument(span).await;
    tracing::info!(
        request_id = %id,
        %method,
        route,
        status = response.status().as_u16(),
        took_ms = started.elapsed().as_millis() as u64,
        "request"
    );
    response.headers_mut().insert(REQUEST_ID, header);
    response
}

/// The process answers.
pub async fn healthy() -> &'static str {
    "ok\n"
}

/// The database answers too, and whether guests are confined as they should be. Strangers ask too: what exactly is
/// open, and why, stands on Settings.
pub async fn ready(State(state): State<AppState>) -> Response {
    if let Err(error) = state.db.ready().await {
        error.into_refusal();
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            "The database does not answer.\n",
        )
            .into_response();
    }
    let (sound, words) = state.deployer.confinement_in_short();
    let mark = if sound { "ok" } else { "weaker" };
    format!("ready\n{mark}: {words}\n").into_response()
}
