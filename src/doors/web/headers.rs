//! Response headers, each with its reason.

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use leptos::nonce::use_nonce;
use leptos::prelude::*;
use leptos_axum::ResponseOptions;

use super::AppState;

/// Sets the page's Content-Security-Policy with the nonce of its scripts. Runs inside a page's context.
pub fn content_security_policy() {
    let (Some(response), Some(nonce)) = (use_context::<ResponseOptions>(), use_nonce()) else {
        return;
    };
    // Scripts only by nonce; wasm needs its own word. Styles are ours alone. Nothing frames us, nothing is embedded,
    // forms go home only.
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}' 'wasm-unsafe-eval' 'strict-dynamic'; style-src 'self' 'nonce-{nonce}'; \
         img-src 'self' data:; font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    );
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        response.insert_header(header::CONTENT_SECURITY_POLICY, policy);
    }
}

/// What every answer carries.
pub async fn add(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let is_asset = request.uri().path().starts_with("/pkg/");
    let mut response = next.run(request).await;
    // What is not there now may come with the next version.
    let is_there = response.status().is_success() || response.status() == StatusCode::NOT_MODIFIED;
    let headers = response.headers_mut();
    let mut set = |name: HeaderName, value: &'static str| {
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    };
    // No guessing of content types: a log line stays text.
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    // For what carries no page policy: nothing may be loaded or framed.
    set(
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; frame-ancestors 'none'",
    );
    // same-origin, not no-referrer: forms go back to the page they came from.
    set(header::REFERRER_POLICY, "same-origin");
    // A page of ours shares no process with another site's window.
    set(
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    );
    set(
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    );
    // No camera, microphone or place is ever asked for.
    set(
        HeaderName::from_static("permissions-policy"),
        "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
    );
    set(
        header::CACHE_CONTROL,
        if is_asset && is_there {
            "public, max-age=31536000, immutable"
        } else {
            "no-store"
        },
    );
    if state.config.is_https() {
        // Two years: once over TLS, always over TLS.
        set(header::STRICT_TRANSPORT_SECURITY, "max-age=63072000");
    }
    response
}
