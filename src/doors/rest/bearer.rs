//! Who calls: a token of the API in `Authorization`, and nothing else. Cookies are never read here.

use std::num::NonZeroU32;
use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use governor::clock::{Clock, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};
use secrecy::SecretString;

use super::problems::Problem;
use crate::doors::web::{AppState, origin};
use crate::model::actors::{Caller, Origin};
use crate::store::tokens::PlainToken;

/// Tokens that are counted before those that have their whole quota again are forgotten.
const COUNTED_MAX: usize = 4_096;
const WINDOW_SECS: u32 = 60;

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// The token that came with a request. Not looked up yet.
#[derive(Clone)]
pub struct Shown(pub SecretString);

/// Whoever calls, looked up: the token held when this request began. What it opens is decided again at each access.
pub struct Bearer(pub Caller);

type Limiter =
    RateLimiter<String, DashMapStateStore<String>, DefaultClock, StateInformationMiddleware>;

/// How many requests a token has left, on this server.
#[derive(Clone)]
pub struct Quotas(Option<Arc<Limiter>>);

impl Quotas {
    /// None: as many as there come.
    pub fn per_minute(requests: u32) -> Self {
        Quotas(NonZeroU32::new(requests).map(|requests| {
            let limiter = RateLimiter::keyed(Quota::per_minute(requests));
            Arc::new(limiter.with_middleware::<StateInformationMiddleware>())
        }))
    }
}

impl Quotas {
    /// Counts a request with this token. Errors: too many within a minute; after so many seconds one more.
    pub fn take(&self, token: &PlainToken) -> Result<(), u64> {
        let Some(limiter) = &self.0 else {
            return Ok(());
        };
        if limiter.len() > COUNTED_MAX {
            limiter.retain_recent();
        }
        let counted = limiter.check_key(&token.hashed().into_string());
        counted.map(drop).map_err(|not_until| {
            let wait = not_until.wait_time_from(DefaultClock::default().now());
            wait.as_millis().div_ceil(1_000).max(1) as u64
        })
    }
}

/// Turns away what shows no token, and what shows one too often. In this order: what is no token is not counted, and what is no
/// token of ours does not stay counted.
pub async fn require(
    State((state, quotas)): State<(AppState, Quotas)>,
    mut request: Request,
    next: Next,
) -> Response {
    let shown = bearer(request.headers());
    let parsed = shown.as_ref().and_then(PlainToken::parse);
    let (Some(shown), Some(parsed)) = (shown, parsed) else {
        let caller = origin::of(&state.config, &request);
        let why = match bearer(request.headers()) {
            Some(_) => "malformed token",
            None => "no token",
        };
        if let Err(error) = state.db.api_turned_away(&caller, why).await {
            error.into_refusal();
        }
        return unauthenticated().into_response();
    };
    request.extensions_mut().insert(Shown(shown));
    let Some(limiter) = &quotas.0 else {
        return next.run(request).await;
    };
    if limiter.len() > COUNTED_MAX {
        limiter.retain_recent();
    }
    // By its hash: nothing else that is kept in memory is a token.
    match limiter.check_key(&parsed.hashed().into_string()) {
        Ok(left) => {
            let policy = left.quota().burst_size();
            let left = left.remaining_burst_capacity();
            let mut response = next.run(request).await;
            told(response.headers_mut(), policy, left, 0);
            response
        }
        Err(not_until) => {
            let wait = not_until.wait_time_from(DefaultClock::default().now());
            let wait_secs = wait.as_millis().div_ceil(1_000).max(1) as u64;
            let policy = not_until.quota().burst_size();
            metrics::counter!("sealport_refusals_total", "action" => "api.quota").increment(1);
            let mut response = Problem::new(
                "too-many",
                format!(
                    "This token made {policy} requests within a minute. Try again in {wait_secs} s, or ask for many values at once."
                ),
            )
            .into_response();
            told(response.headers_mut(), policy, 0, wait_secs);
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(wait_secs));
            response
        }
    }
}

/// As draft-ietf-httpapi-ratelimit-headers-10 writes them.
fn told(headers: &mut HeaderMap, policy: NonZeroU32, left: u32, reset_secs: u64) {
    let policy = format!("\"token\";q={policy};w={WINDOW_SECS}");
    let now = format!("\"token\";r={left};t={reset_secs}");
    if let (Ok(policy), Ok(now)) = (HeaderValue::try_from(policy), HeaderValue::try_from(now)) {
        headers.insert(RATE_LIMIT_POLICY, policy);
        headers.insert(RATE_LIMIT, now);
    }
}

/// The token in `Authorization: Bearer …`.
pub fn bearer(headers: &HeaderMap) -> Option<SecretString> {
    let text = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = text.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| SecretString::from(token.trim()))
}

pub fn unauthenticated() -> Problem {
    Problem::new(
        "unauthenticated",
        "Send an API token as Authorization: Bearer sp_…. Make one in the dashboard, under Tokens.",
    )
}

/// Where a request comes from, for the record.
pub struct From(pub Origin);

impl FromRequestParts<AppState> for From {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        Ok(From(origin::of_parts(&state.config, parts)))
    }
}

impl FromRequestParts<AppState> for Shown {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, Problem> {
        parts
            .extensions
            .get::<Shown>()
            .cloned()
            .ok_or_else(unauthenticated)
    }
}

impl FromRequestParts<AppState> for Bearer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let Shown(token) = Shown::from_request_parts(parts, state).await?;
        let caller = origin::of_parts(&state.config, parts);
        Ok(Bearer(state.db.api_token_open(&token, &caller).await?))
    }
}
