//! Errors on the wire: RFC 9457 problem details, whose types are addresses that explain them.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::model::errors::{Refusal, RefusalKind};
use crate::store;

/// The content type of RFC 9457.
const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// What went wrong and what to do. The header X-Request-Id names the request in the server's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// `/problems/<slug>`: the same for every problem of its kind, and a page that explains it.
    #[serde(rename = "type")]
    #[schema(example = "/problems/not-found")]
    pub kind: String,
    /// The kind in words.
    #[schema(example = "Not found")]
    pub title: String,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599)]
    pub status: u16,
    /// What to do about this one. It never quotes a value.
    pub detail: String,
    /// The field, header or parameter that is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

/// A kind of problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProblemKind {
    Malformed,
    Unauthenticated,
    Denied,
    NotFound,
    MethodNotAllowed,
    Conflict,
    Taken,
    PreconditionFailed,
    TooLarge,
    UnsupportedMediaType,
    Invalid,
    TooMany,
    Internal,
    Unavailable,
}

impl ProblemKind {
    pub const ALL: [ProblemKind; 14] = [
        ProblemKind::Malformed,
        ProblemKind::Unauthenticated,
        ProblemKind::Denied,
        ProblemKind::NotFound,
        ProblemKind::MethodNotAllowed,
        ProblemKind::Conflict,
        ProblemKind::Taken,
        ProblemKind::PreconditionFailed,
        ProblemKind::TooLarge,
        ProblemKind::UnsupportedMediaType,
        ProblemKind::Invalid,
        ProblemKind::TooMany,
        ProblemKind::Internal,
        ProblemKind::Unavailable,
    ];

    pub fn slug(self) -> &'static str {
        match self {
            ProblemKind::Malformed => "malformed",
            ProblemKind::Unauthenticated => "unauthenticated",
            ProblemKind::Denied => "denied",
            ProblemKind::NotFound => "not-found",
            ProblemKind::MethodNotAllowed => "method-not-allowed",
            ProblemKind::Conflict => "conflict",
            ProblemKind::Taken => "taken",
            ProblemKind::PreconditionFailed => "precondition-failed",
            ProblemKind::TooLarge => "too-large",
            ProblemKind::UnsupportedMediaType => "unsupported-media-type",
            ProblemKind::Invalid => "invalid",
            ProblemKind::TooMany => "too-many",
            ProblemKind::Internal => "internal",
            ProblemKind::Unavailable => "unavailable",
        }
    }

    pub fn status(self) -> StatusCode {
        match self {
            ProblemKind::Malformed => StatusCode::BAD_REQUEST,
            ProblemKind::Unauthenticated => StatusCode::UNAUTHORIZED,
            ProblemKind::Denied => StatusCode::FORBIDDEN,
            ProblemKind::NotFound => StatusCode::NOT_FOUND,
            ProblemKind::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            ProblemKind::Conflict => StatusCode::CONFLICT,
            ProblemKind::Taken => StatusCode::CONFLICT,
            ProblemKind::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
            ProblemKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            ProblemKind::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            ProblemKind::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
            ProblemKind::TooMany => StatusCode::TOO_MANY_REQUESTS,
            ProblemKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            ProblemKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    pub fn title(self) -> &'static str {
        match self {
            ProblemKind::Malformed => "Malformed request",
            ProblemKind::Unauthenticated => "No valid token",
            ProblemKind::Denied => "Not allowed",
            ProblemKind::NotFound => "Not found",
            ProblemKind::MethodNotAllowed => "Method not allowed",
            ProblemKind::Conflict => "Not in this state",
            ProblemKind::Taken => "Name in use",
            ProblemKind::PreconditionFailed => "Changed meanwhile",
            ProblemKind::TooLarge => "Too large",
            ProblemKind::UnsupportedMediaType => "Not JSON",
            ProblemKind::Invalid => "Invalid",
            ProblemKind::TooMany => "Too many requests",
            ProblemKind::Internal => "Internal error",
            ProblemKind::Unavailable => "Not available now",
        }
    }

    /// What it means and what to do, for its page.
    pub fn about(self) -> &'static str {
        match self {
            ProblemKind::Malformed => {
                "The request cannot be read: the JSON is broken, or a parameter has the wrong form. The detail says where."
            }
            ProblemKind::Unauthenticated => {
                "Send an API token as Authorization: Bearer sp_…. One that was revoked, has ended, or is a gateway's opens nothing here. \
                 Tokens are made in the dashboard, under Tokens, and by `sealport token new`. Cookies are not read."
            }
            ProblemKind::Denied => {
                "The token may see this, but not do this with it: its ceiling, or the level of whoever made it, is too low, or it has no \
                 right to deploy. Ask the owner for a higher level, or make a token with a higher ceiling."
            }
            ProblemKind::NotFound => {
                "There is no such thing, or it is not for this token: the two are not told apart. A token sees one owner's things, \
                 under its prefix; look at the path and at both."
            }
            ProblemKind::MethodNotAllowed => {
                "This address takes other methods: the header Allow and /api/docs name them."
            }
            ProblemKind::Conflict => {
                "The state does not allow it: a secret is switched off, has expired, or changed meanwhile. The detail says which."
            }
            ProblemKind::Taken => {
                "Something else has this name. Two paths of one owner differ in more than case, and a deployment's name stays its owner's."
            }
            ProblemKind::PreconditionFailed => {
                "If-Match names another version than the newest, or If-None-Match: * met something that exists. Read it again, then decide."
            }
            ProblemKind::TooLarge => {
                "The body is larger than this address takes. A value has at most 64 KiB; send fewer at once."
            }
            ProblemKind::UnsupportedMediaType => {
                "Bodies are JSON. Send Content-Type: application/json."
            }
            ProblemKind::Invalid => {
                "A field breaks a rule: `field` names it and the detail says the rule. Nothing was changed."
            }
            ProblemKind::TooMany => {
                "A limit is met. Retry-After says in how many seconds to try again; RateLimit says how much is left."
            }
            ProblemKind::Internal => {
                "Something went wrong in the server. Its log has the cause under the id in X-Request-Id."
            }
            ProblemKind::Unavailable => {
                "A part that is needed does not answer now. Try again in a moment."
            }
        }
    }
}

impl Problem {
    pub fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        Problem {
            kind: format!("/problems/{}", kind.slug()),
            title: kind.title().to_owned(),
            status: kind.status().as_u16(),
            detail: detail.into(),
            field: None,
        }
    }

    pub fn at(mut self, field: &str) -> Self {
        self.field = Some(field.to_owned());
        self
    }

    /// The last part of its type.
    pub fn slug(&self) -> &str {
        self.kind.rsplit('/').next().unwrap_or_default()
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let kind = match refusal.kind {
            RefusalKind::NotFound => ProblemKind::NotFound,
            RefusalKind::Denied => ProblemKind::Denied,
            RefusalKind::Unauthenticated => ProblemKind::Unauthenticated,
            RefusalKind::Invalid => ProblemKind::Invalid,
            RefusalKind::Taken => ProblemKind::Taken,
            RefusalKind::Conflict => match refusal.field.as_deref() {
                Some("if-match" | "if-none-match") => ProblemKind::PreconditionFailed,
                _ => ProblemKind::Conflict,
            },
            RefusalKind::TooMany => ProblemKind::TooMany,
            RefusalKind::Unavailable => ProblemKind::Unavailable,
            RefusalKind::Internal => ProblemKind::Internal,
        };
        Problem {
            field: refusal.field,
            ..Problem::new(kind, refusal.detail)
        }
    }
}

impl From<store::Error> for Problem {
    fn from(error: store::Error) -> Self {
        error.into_refusal().into()
    }
}

/// Says that an answer is a problem.
pub(super) fn mark(response: &mut Response) {
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, PROBLEM_JSON);
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self)).into_response();
        mark(&mut response);
        let headers = response.headers_mut();
        match status {
            // RFC 6750: says which scheme is asked for.
            StatusCode::UNAUTHORIZED => {
                headers.insert(
                    header::WWW_AUTHENTICATE,
                    HeaderValue::from_static("Bearer realm=\"Sealport API\""),
                );
            }
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                headers
                    .entry(header::RETRY_AFTER)
                    .or_insert(HeaderValue::from_static("5"));
            }
            _ => {}
        }
        response
    }
}
