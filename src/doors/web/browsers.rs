//! The cookie by which a browser is known where somebody has signed in. It opens nothing; only wrong passwords are counted by it.

use std::convert::Infallible;

use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponseParts, ResponseParts};
use tower_sessions::cookie::{Cookie, SameSite};

use super::{AppState, WebConfig};
use crate::store::sign_in::Account;

/// Browsers keep none longer (RFC 6265bis, section 5.5).
const KEPT_DAYS: i64 = 400;

/// Sets the cookie, or nothing.
#[derive(Default)]
pub struct Mark(Option<HeaderValue>);

impl IntoResponseParts for Mark {
    type Error = Infallible;

    fn into_response_parts(self, mut response: ResponseParts) -> Result<ResponseParts, Infallible> {
        let headers = response.headers_mut();
        if let Some(cookie) = self.0 {
            headers.append(header::SET_COOKIE, cookie);
        }
        Ok(response)
    }
}

/// A new mark for whoever has just signed in. Without one all works but for this.
pub fn mark(state: &AppState, account: &Account) -> Mark {
    let set = state.db.browser_mark(account).ok().and_then(|mark| {
        let cookie = Cookie::build((name(&state.config), mark))
            .http_only(true)
            .secure(state.config.is_https())
            .same_site(SameSite::Lax)
            .path("/")
            .max_age(time::Duration::days(KEPT_DAYS))
            .build();
        HeaderValue::from_str(&cookie.to_string()).ok()
    });
    Mark(set)
}

/// The mark that the browser shows.
pub fn shown(config: &WebConfig, headers: &HeaderMap) -> Option<String> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| Cookie::split_parse(line.to_owned()))
        .filter_map(Result::ok)
        .find(|cookie| cookie.name() == name(config))
        .map(|cookie| cookie.value().to_owned())
}

fn name(config: &WebConfig) -> &'static str {
    match config.is_https() {
        true => "__Host-sealport-browser",
        false => "sealport-browser",
    }
}
