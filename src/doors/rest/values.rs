//! `/values` and `/check`: the only routes that carry a stored value out, and the one that says whether another is the same.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize, Serializer};
use utoipa::{IntoParams, ToSchema};

use super::bearer::{Bearer, PresentedToken, RequestOrigin};
use super::bodies::{Json, Key, Query};
use super::problems::Problem;
use super::schemas::{KeyPathText, SecretPathText};
use super::secrets::tag_of;
use crate::doors::web::AppState;
use crate::model::audit::Action;
use crate::model::paths::{KeyPath, SecretPath};
use crate::store::secret_read::ReadValue;

/// A value, for whoever may read it.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct Value {
    #[schema(value_type = SecretPathText)]
    pub path: SecretPath,
    #[schema(minimum = 1)]
    pub version: i32,
    #[serde(serialize_with = "expose")]
    #[schema(value_type = String)]
    pub value: SecretString,
}

impl From<ReadValue> for Value {
    fn from(read: ReadValue) -> Self {
        Value {
            path: read.path,
            version: read.version,
            value: read.value,
        }
    }
}

/// The reveal path: a value goes into an answer.
pub(super) fn expose<S: Serializer>(
    value: &SecretString,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(value.expose_secret())
}

/// For bodies on their way from a client.
pub(super) fn expose_option<S: Serializer>(
    value: &Option<SecretString>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.serialize_some(value.expose_secret()),
        None => serializer.serialize_none(),
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ValueAsked {
    /// A version; the newest unless one is named.
    #[param(minimum = 1)]
    pub version: Option<i32>,
}

/// Paths whose values are asked for at once.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ValuesAsked {
    #[schema(value_type = Vec<KeyPathText>, min_items = 1, max_items = 200)]
    pub paths: Vec<KeyPath>,
}

/// In the order in which they were asked for.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct Values {
    pub values: Vec<Value>,
}

/// A guess at a value.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Guess {
    #[serde(serialize_with = "expose")]
    #[schema(value_type = String, max_length = 65536)]
    pub value: SecretString,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
pub struct Same {
    pub same: bool,
}

/// Reads one value. Needs `read`; each access is on record before the value leaves.
#[utoipa::path(get, path = "/api/v1/values/{path}", tag = "values", params(("path" = KeyPathText, Path,), ValueAsked),
    responses((status = 200, body = Value, headers(("ETag" = String)))))]
pub(super) async fn read(
    State(state): State<AppState>,
    PresentedToken(token): PresentedToken,
    RequestOrigin(origin): RequestOrigin,
    Key(key): Key,
    Query(asked): Query<ValueAsked>,
) -> Result<Response, Problem> {
    let read = state
        .db
        .secret_read(
            &token,
            key.owner.as_ref(),
            &key.path,
            asked.version,
            &origin,
        )
        .await?;
    let value = Value::from(read);
    Ok(([(header::ETAG, tag_of(value.version))], Json(value)).into_response())
}

/// Reads many values, all or nothing.
#[utoipa::path(post, path = "/api/v1/values", tag = "values", request_body = ValuesAsked,
    responses((status = 200, body = Values)))]
pub(super) async fn read_many(
    State(state): State<AppState>,
    PresentedToken(token): PresentedToken,
    RequestOrigin(origin): RequestOrigin,
    Json(asked): Json<ValuesAsked>,
) -> Result<Json<Values>, Problem> {
    let read = state.db.secrets_read(&token, &asked.paths, &origin).await?;
    let values = read.into_iter().map(Value::from).collect();
    Ok(Json(Values { values }))
}

/// Says whether a value is the stored one: 20 times an hour for a secret and a person. Needs `read`.
#[utoipa::path(post, path = "/api/v1/check/{path}", tag = "values", params(("path" = KeyPathText, Path,)), request_body = Guess,
    responses((status = 200, body = Same)))]
pub(super) async fn check(
    State(state): State<AppState>,
    Bearer(caller): Bearer,
    Key(key): Key,
    Json(guess): Json<Guess>,
) -> Result<Json<Same>, Problem> {
    let found = state
        .db
        .secret_at_for(&caller, &key, Action::SecretCompare)
        .await?;
    let same = state
        .db
        .secret_compare(&caller, found.id, guess.value)
        .await?;
    Ok(Json(Same { same }))
}
