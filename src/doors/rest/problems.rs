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
pub struct Kind {
    pub slug: &'static str,
    pub status: StatusCode,
    pub title: &'static str,
    /// What it means and what to do, for its page.
    pub about: &'static str,
}

pub const KINDS: [Kind; 14] = [
    Kind {
        slug: "malformed",
        status: StatusCode::BAD_REQUEST,
        title: "Malformed request",
        about: "The request cannot be read: the JSON is broken, or a parameter has the wrong form. The detail says where.",
    },
    Kind {
        slug: "unauthenticated",
        status: StatusCode::UNAUTHORIZED,
        title: "No valid token",
        about: "Send an API token as Authorization: Bearer sp_…. One that was revoked, has ended, or is a gateway's opens nothing here. \
                Tokens are made in the dashboard, under Tokens, and by `sealport token new`. Cookies are not read.",
    },
    Kind {
        slug: "denied",
        status: StatusCode::FORBIDDEN,
        title: "Not allowed",
        about: "The token may see this, but not do this with it: its ceiling, or the level of whoever made it, is too low, or it has no \
                right to deploy. Ask the owner for a higher level, or make a token with a higher ceiling.",
    },
    Kind {
        slug: "not-found",
        status: StatusCode::NOT_FOUND,
        title: "Not found",
        about: "There is no such thing, or it is not for this token: the two are not told apart. Look at the path, the owner \
                (handle:path), and the token's prefix.",
    },
    Kind {
        slug: "method-not-allowed",
        status: StatusCode::METHOD_NOT_ALLOWED,
        title: "Method not allowed",
        about: "This address takes other methods: the header Allow and /api/docs name them.",
    },
    Kind {
        slug: "conflict",
        status: StatusCode::CONFLICT,
        title: "Not in this state",
        about: "The state does not allow it: a secret is switched off, has expired, or changed meanwhile. The detail says which.",
    },
    Kind {
        slug: "taken",
        status: StatusCode::CONFLICT,
        title: "Name in use",
        about: "Something else has this name. Two paths of one owner differ in more than case, and a deployment's name stays its owner's.",
    },
    Kind {
        slug: "precondition-failed",
        status: StatusCode::PRECONDITION_FAILED,
        title: "Changed meanwhile",
        about: "If-Match names another version than the newest, or If-None-Match: * met something that exists. Read it again, then decide.",
    },
    Kind {
        slug: "too-large",
        status: StatusCode::PAYLOAD_TOO_LARGE,
        title: "Too large",
        about: "The body is larger than this address takes. A value has at most 64 KiB; send fewer at once.",
    },
    Kind {
        slug: "unsupported-media-type",
        status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
        title: "Not JSON",
        about: "Bodies are JSON. Send Content-Type: application/json.",
    },
    Kind {
        slug: "invalid",
        status: StatusCode::UNPROCESSABLE_ENTITY,
        title: "Invalid",
        about: "A field breaks a rule: `field` names it and the detail says the rule. Nothing was changed.",
    },
    Kind {
        slug: "too-many",
        status: StatusCode::TOO_MANY_REQUESTS,
        title: "Too many requests",
        about: "A limit is met. Retry-After says in how many seconds to try again; RateLimit says how much is left.",
    },
    Kind {
        slug: "internal",
        status: StatusCode::INTERNAL_SERVER_ERROR,
        title: "Our fault",
        about: "Something went wrong in the server. Its log has the cause under the id in X-Request-Id.",
    },
    Kind {
        slug: "unavailable",
        status: StatusCode::SERVICE_UNAVAILABLE,
        title: "Not available now",
        about: "A part that is needed does not answer now. Try again in a moment.",
    },
];

impl Problem {
    /// Of the kind with this slug; an unknown one is our fault.
    pub fn new(slug: &str, detail: impl Into<String>) -> Self {
        let kind = KINDS.iter().find(|kind| kind.slug == slug);
        let kind = kind.unwrap_or(&KINDS[12]);
        Problem {
            kind: format!("/problems/{}", kind.slug),
            title: kind.title.to_owned(),
            status: kind.status.as_u16(),
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
        let slug = match refusal.kind {
            RefusalKind::NotFound => "not-found",
            RefusalKind::Denied => "denied",
            RefusalKind::Unauthenticated => "unauthenticated",
            RefusalKind::Invalid => "invalid",
            RefusalKind::Taken => "taken",
            RefusalKind::Conflict => match refusal.field.as_deref() {
                Some("if-match" | "if-none-match") => "precondition-failed",
                _ => "conflict",
            },
            RefusalKind::TooMany => "too-many",
            RefusalKind::Unavailable => "unavailable",
            RefusalKind::Internal => "internal",
        };
        Problem {
            field: refusal.field,
            ..Problem::new(slug, refusal.detail)
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
