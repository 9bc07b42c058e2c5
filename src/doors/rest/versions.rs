//! `/versions` and `/rollback`: what stood under a path before.

use axum::extract::State;
use axum::http::HeaderMap;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::bearer::Bearer;
use super::bodies::{Json, Key};
use super::pages::Page;
use super::problems::Problem;
use super::schemas::KeyPathText;
use super::secrets::check_expected;
use crate::doors::web::AppState;
use crate::model::audit::Action;
use crate::model::secrets::VersionSummary;

/// One version, without its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Version {
    #[schema(minimum = 1)]
    pub version: i32,
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// Who made it, as named then.
    pub created_by: String,
    /// Made by Sealport rather than given.
    pub generated: bool,
    /// From where, for those who may write.
    pub address: Option<String>,
    pub agent: Option<String>,
    /// The older version whose value it has again.
    pub rolled_back_from: Option<i32>,
    /// Nothing sealed is left of it.
    #[serde(with = "time::serde::rfc3339::option")]
    pub destroyed_at: Option<OffsetDateTime>,
    pub destroyed_by: Option<String>,
}

impl From<VersionSummary> for Version {
    fn from(summary: VersionSummary) -> Self {
        Version {
            version: summary.version,
            created_at: summary.created_at,
            created_by: summary.created_by,
            generated: summary.generated,
            address: summary.address,
            agent: summary.agent,
            rolled_back_from: summary.rolled_back_from,
            destroyed_at: summary.destroyed_at,
            destroyed_by: summary.destroyed_by,
        }
    }
}

/// Which version shall be the newest again.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rollback {
    #[schema(minimum = 1)]
    pub version: i32,
}

/// The number that its value has now.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
pub struct RolledBack {
    #[schema(minimum = 1)]
    pub version: i32,
}

/// The versions of a secret, the newest first.
#[utoipa::path(get, path = "/api/v1/versions/{path}", tag = "versions", params(("path" = KeyPathText, Path,)),
    responses((status = 200, body = Page<Version>)))]
pub(super) async fn list(
    State(state): State<AppState>,
    Bearer(caller): Bearer,
    Key(key): Key,
) -> Result<Json<Page<Version>>, Problem> {
    let versions = state.db.secret_history(&caller, &key).await?;
    let versions = versions.into_iter().map(Version::from).collect();
    Ok(Json(Page::last(versions)))
}

/// Makes an old version's value the newest again, as a new version. Needs `write`.
#[utoipa::path(post, path = "/api/v1/rollback/{path}", tag = "versions", request_body = Rollback,
    params(("path" = KeyPathText, Path,), ("If-Match" = Option<String>, Header,)),
    responses((status = 200, body = RolledBack), (status = 412, body = Problem)))]
pub(super) async fn roll_back(
    State(state): State<AppState>,
    Bearer(caller): Bearer,
    Key(key): Key,
    headers: HeaderMap,
    Json(to): Json<Rollback>,
) -> Result<Json<RolledBack>, Problem> {
    let found = state
        .db
        .secret_at_for(&caller, &key, Action::SecretRollBack)
        .await?;
    check_expected(&headers, &found)?;
    let version = state
        .db
        .secret_roll_back(&caller, found.id, found.version, to.version)
        .await?;
    Ok(Json(RolledBack { version }))
}
