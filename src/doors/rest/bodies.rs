//! Bodies and parameters, parsed: what does not fit comes back as a problem that says where.

use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::misfits;
use super::problems::{Problem, ProblemKind};
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
                    ProblemKind::UnsupportedMediaType,
                    "Send JSON, with Content-Type: application/json.",
                ),
                JsonRejection::JsonSyntaxError(error) => misfits::of_syntax(&error),
                JsonRejection::JsonDataError(error) => misfits::of_body(&error),
                JsonRejection::BytesRejection(_) => Problem::new(
                    ProblemKind::TooLarge,
                    "The body is larger than this address takes.",
                ),
                _ => Problem::new(ProblemKind::Malformed, "The body cannot be read."),
            }),
        }
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

/// The parameters behind the `?`.
pub struct Query<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<AppState> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        match axum::extract::Query::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Query(query)) => Ok(Query(query)),
            Err(QueryRejection::FailedToDeserializeQueryString(error)) => {
                Err(misfits::of_query(&error))
            }
            Err(_) => Err(Problem::new(
                ProblemKind::Malformed,
                "The parameters cannot be read.",
            )),
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
                ProblemKind::Malformed,
                "The address has a part that cannot be read.",
            )),
            Err(_) => Err(Problem::new(
                ProblemKind::Malformed,
                "The address cannot be read.",
            )),
        }
    }
}

/// A secret's path at the end of the address, with its slashes; `handle:path` where the owner is to be said.
pub struct Key(pub KeyPath);

impl FromRequestParts<AppState> for Key {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let Path(raw) = Path::<String>::from_request_parts(parts, state).await?;
        Ok(Key(KeyPath::parse(&raw)?))
    }
}
