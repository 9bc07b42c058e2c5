//! What stands around Leptos: each request in a scope of its own, and a refusal with the status of its kind.

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use leptos::prelude::Owner;
use leptos::reactive::computed::ScopedFuture;

use super::identity::status_of;
use crate::model::errors::Refusal;

/// The longest refusal, in bytes.
const REFUSAL_LEN_BYTES: usize = 64 * 1024;

/// Nothing of one request is in another's reach. Leptos keeps the current scope by thread, and a page that waits may
/// leave its own behind: the next request on that thread would find its headers there, and take them.
pub async fn keep_apart(request: Request, next: Next) -> Response {
    Owner::new_root(None)
        .with(|| ScopedFuture::new(next.run(request)))
        .await
}

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
