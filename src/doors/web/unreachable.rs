//! A page where the session store said nothing: tower-sessions answers with an empty 500 when it cannot reach the database.

use axum::body::HttpBody as _;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::doors::requests::REQUEST_ID;

const RETRY_AFTER_SECS: &str = "10";
const SAYS: &str = "Sealport does not reach its database at the moment. What you sent last may not have been done: \
                    try again in a minute, and look whether it was.";

/// Puts words into an answer that has none, for a browser as a page.
pub async fn explain(request: Request, next: Next) -> Response {
    // The id is our own: `requests::number` put it there.
    let id = text(request.headers(), REQUEST_ID);
    let takes_pages = text(request.headers(), header::ACCEPT).contains("text/html");
    let response = next.run(request).await;
    let is_empty = response.body().size_hint().exact() == Some(0);
    if response.status() != StatusCode::INTERNAL_SERVER_ERROR || !is_empty {
        return response;
    }
    let (kind, body) = match takes_pages {
        true => ("text/html; charset=utf-8", page(&id)),
        false => ("text/plain; charset=utf-8", SAYS.to_owned()),
    };
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::RETRY_AFTER, RETRY_AFTER_SECS),
    ];
    (StatusCode::SERVICE_UNAVAILABLE, headers, body).into_response()
}

fn text(headers: &HeaderMap, name: HeaderName) -> String {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or_default().to_owned()
}

/// Without styles and scripts: nothing of what pages need is asked for.
fn page(id: &str) -> String {
    format!(
        "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <meta name=\"color-scheme\" content=\"light dark\"><title>Sealport: no database</title></head><body><main>\
         <h1>No database</h1><p>{SAYS}</p><p>If it stays so, whoever runs Sealport finds the reason in its log, under the \
         request id <code>{id}</code>.</p><p><a href=\"\">Load this page again</a></p></main></body></html>"
    )
}
