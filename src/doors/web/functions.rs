//! What a server function answers when it refuses: Leptos says 500 for everything.

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::identity::status_of;
use crate::model::errors::Refusal;

/// The longest refusal, in bytes.
const REFUSAL_LEN_BYTES: usize = 64 * 1024;

/// Gives a refusal of `/_fn/…` the status of its kind. A form's POST is answered by a redirect and passes as it is.
pub async fn give_status(request: Request, next: Next) -> Response {
    let is_function = request.uri().path().starts_with("/_fn/");
    let response = next.run(request).await;
    if !is_function || response.status() != StatusCode::INTERNAL_SERVER_ERROR {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let Ok(bytes) = to_bytes(body, REFUSAL_LEN_BYTES).await else {
        return parts.status.into_response();
    };
    if let Ok(refusal) = serde_json::from_slice::<Refusal>(&bytes) {
        parts.status = status_of(refusal.kind);
    }
    Response::from_parts(parts, Body::from(bytes))
}
