//! Bodies and parameters, parsed: what does not fit comes back as a problem that says where.

use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::problems::Problem;
use crate::doors::web::AppState;
use crate::model::paths::KeyPath;

/// A JSON body, or an answer.
pub struct Json<T>(pub T);

impl<T: DeserializeOwned> FromRequest<AppState> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, Problem> {
        match axum::Json::<T>::from_request(request, state).await {
            Ok(axum::Json(body)) => Ok(Json(body)),
            Err(rejection) => Err(match rejection {
                JsonRejection::MissingJsonContentType(_) => Problem::new(
                    "unsupported-media-type",
                    "Send JSON, with Content-Type: application/json.",
                ),
                JsonRejection::JsonSyntaxError(error) => Problem::new(
                    "malformed",
                    format!("The body is no JSON{}.", place_of(&error)),
                ),
                JsonRejection::JsonDataError(error) => Problem::new("invalid", shape_of(&error)),
                JsonRejection::BytesRejection(_) => {
                    Problem::new("too-large", "The body is larger than this address takes.")
                }
                _ => Problem::new("malformed", "The body cannot be read."),
            }),
        }
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

/// Where JSON breaks. serde's own sentence would quote what stands there, which may be a piece of a value.
fn place_of(error: &(dyn std::error::Error + 'static)) -> String {
    match cause_of(error) {
        Some(error) => format!(", at line {} column {}", error.line(), error.column()),
        None => String::new(),
    }
}

/// Which shape was expected, without what stood there.
fn shape_of(error: &(dyn std::error::Error + 'static)) -> String {
    let Some(error) = cause_of(error) else {
        return "The body has another shape than this address takes: /api/docs shows it.".into();
    };
    let said = error.to_string();
    let names = ["missing field `", "unknown field `", "duplicate field `"];
    match names.iter().find(|name| said.contains(*name)) {
        Some(&what) if what.starts_with("missing") => {
            let field = said.split('`').nth(1).unwrap_or_default();
            format!("The body lacks {field}: /api/docs shows what this address takes.")
        }
        _ => format!(
            "The body has another shape than this address takes, at line {} column {}: /api/docs shows it.",
            error.line(),
            error.column()
        ),
    }
}

fn cause_of<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a serde_json::Error> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

/// The parameters behind the `?`.
pub struct Query<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<AppState> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        match axum::extract::Query::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Query(query)) => Ok(Query(query)),
            Err(QueryRejection::FailedToDeserializeQueryString(error)) => Err(Problem::new(
                "malformed",
                format!("The parameters cannot be read: {}", error.body_text()),
            )),
            Err(_) => Err(Problem::new("malformed", "The parameters cannot be read.")),
        }
    }
}

/// A part of the address, parsed by its type.
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send> FromRequestParts<AppState> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        match axum::extract::Path::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(path)) => Ok(Path(path)),
            Err(PathRejection::FailedToDeserializePathParams(_)) => Err(Problem::new(
                "malformed",
                "The address has a part that cannot be read.",
            )),
            Err(_) => Err(Problem::new("malformed", "The address cannot be read.")),
        }
    }
}

/// A secret's path at the end of the address, with its slashes: `handle:path` for another owner's.
pub struct Key(pub KeyPath);

impl FromRequestParts<AppState> for Key {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let Path(raw) = Path::<String>::from_request_parts(parts, state).await?;
        Ok(Key(KeyPath::parse(&raw)?))
    }
}
