//! Who calls: a token of the API in `Authorization`, and nothing else. Cookies are never read here.

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use secrecy::SecretString;

use super::problems::{Problem, ProblemKind};
use crate::doors::quotas::{Quotas, Turned};
use crate::doors::web::{AppState, origin};
use crate::model::actors::{Caller, Origin};

/// The token that came with a request.
#[derive(Clone)]
pub struct PresentedToken(pub SecretString);

/// Whoever calls, looked up: the token held when this request began. What it opens is decided again at each access.
#[derive(Clone)]
pub struct Bearer(pub Caller);

/// Turns away what shows no token or one that opens nothing, and what shows one too often.
pub async fn require(
    State((state, quotas)): State<(AppState, Quotas)>,
    mut request: Request,
    next: Next,
) -> Response {
    let from = origin::of(&state.config, &request);
    let admitted = match quotas.admit(&state, request.headers(), &from).await {
        Ok(admitted) => admitted,
        Err(turned) => return turned.into_response(),
    };
    let extensions = request.extensions_mut();
    extensions.insert(PresentedToken(admitted.token.clone()));
    if let Some(caller) = &admitted.caller {
        extensions.insert(Bearer(caller.clone()));
    }
    let mut response = next.run(request).await;
    if response.status() == StatusCode::UNAUTHORIZED {
        quotas.forget(&admitted, &from);
    }
    if let Some(left) = admitted.left {
        left.tell(response.headers_mut());
    }
    response
}

impl IntoResponse for Turned {
    fn into_response(self) -> Response {
        match self {
            Turned::Unauthenticated { refusal, .. } => refusal
                .map_or_else(unauthenticated, Problem::from)
                .into_response(),
            Turned::Broken(refusal) => Problem::from(refusal).into_response(),
            Turned::TooMany {
                detail,
                wait_secs,
                left,
            } => {
                let mut response = Problem::new(ProblemKind::TooMany, detail).into_response();
                let headers = response.headers_mut();
                headers.insert(header::RETRY_AFTER, HeaderValue::from(wait_secs));
                if let Some(left) = left {
                    left.tell(headers);
                }
                response
            }
        }
    }
}

pub fn unauthenticated() -> Problem {
    Problem::new(
        ProblemKind::Unauthenticated,
        "Send an API token as Authorization: Bearer sp_…. Make one in the dashboard, under Tokens.",
    )
}

/// Where a request comes from, for the record.
pub struct RequestOrigin(pub Origin);

impl FromRequestParts<AppState> for RequestOrigin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        Ok(RequestOrigin(origin::of_parts(&state.config, parts)))
    }
}

impl FromRequestParts<AppState> for PresentedToken {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, Problem> {
        parts
            .extensions
            .get::<PresentedToken>()
            .cloned()
            .ok_or_else(unauthenticated)
    }
}

impl FromRequestParts<AppState> for Bearer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        if let Some(bearer) = parts.extensions.remove::<Bearer>() {
            return Ok(bearer);
        }
        let PresentedToken(token) = PresentedToken::from_request_parts(parts, state).await?;
        let caller = origin::of_parts(&state.config, parts);
        Ok(Bearer(state.db.api_token_open(&token, &caller).await?))
    }
}
