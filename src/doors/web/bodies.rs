//! How much a form may carry, and what is said when it carries more.

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use futures::StreamExt;
use tower_sessions::Session;
use url::Url;

use super::identity::safe_next;
use crate::app::wire::{FLASH_KEY, Flash};
use crate::model::imports::IMPORT_LEN_BYTES;

/// The largest body of a form, in bytes: a value of 64 KiB, percent-encoded, and its metadata.
const FORM_LEN_BYTES: usize = 256 * 1024;
/// The wizard's secrets step carries a name for each of 2,000 secrets, and several new values.
const SECRETS_STEP_LEN_BYTES: usize = 1024 * 1024;
/// A file of variables and what stands around it.
const IMPORT_FORM_LEN_BYTES: usize = IMPORT_LEN_BYTES + 64 * 1024;
/// What is read of a body that is too long, in bytes: a browser looks at an answer once it has sent everything.
const DISCARDED_LEN_BYTES: usize = 8 * 1024 * 1024;

/// Reads a body up to its limit. One that is longer leads back to its form, which says what to do.
pub async fn bound(request: Request, next: Next) -> Response {
    let limit = match request.uri().path() {
        "/_fn/draft_secrets" => SECRETS_STEP_LEN_BYTES,
        "/secrets/import" => IMPORT_FORM_LEN_BYTES,
        _ => FORM_LEN_BYTES,
    };
    let (parts, body) = request.into_parts();
    let named = parts
        .headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if named.is_some_and(|length| length > limit) {
        discard(body).await;
    } else if let Ok(bytes) = to_bytes(body, limit).await {
        return next
            .run(Request::from_parts(parts, Body::from(bytes)))
            .await;
    }
    let flash = Flash {
        errors: [(String::new(), too_long(limit))].into(),
        ..Flash::default()
    };
    // A stranger gets no session for it: that would be a row for each such request.
    let kept = match parts.extensions.get::<Session>() {
        Some(session) if session.id().is_some() => session.insert(FLASH_KEY, flash).await.is_ok(),
        _ => false,
    };
    if kept {
        Redirect::to(&form_of(&parts.headers)).into_response()
    } else {
        (StatusCode::PAYLOAD_TOO_LARGE, too_long(limit)).into_response()
    }
}

async fn discard(body: Body) {
    let mut pieces = body.into_data_stream();
    let mut left = DISCARDED_LEN_BYTES;
    while let Some(Ok(piece)) = pieces.next().await {
        left = left.saturating_sub(piece.len());
        if left == 0 {
            return;
        }
    }
}

fn too_long(limit: usize) -> String {
    format!(
        "That was more than one form can carry ({} KiB), and nothing of it was kept. A value has at most 64 KiB. \
         Of several long ones, save each by itself.",
        limit / 1024
    )
}

/// The page that the form stands on; the list of secrets where the browser does not say.
fn form_of(headers: &HeaderMap) -> String {
    let page = headers
        .get(header::REFERER)
        .and_then(|page| Url::parse(page.to_str().ok()?).ok());
    // Only the path is taken: it leads nowhere but to ourselves.
    let path = page.map_or(String::new(), |page| page.path().to_owned());
    safe_next(&path).to_owned()
}
