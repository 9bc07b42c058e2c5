//! `/redeploy`: a secret's newest value, everywhere where an older one runs.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::bearer::Bearer;
use super::bodies::{Json, Key};
use super::deployments::DeploymentNameText;
use super::problems::Problem;
use super::schemas::KeyPathText;
use crate::doors::web::AppState;
use crate::model::audit::Action;
use crate::model::paths::DeploymentName;
use crate::model::renewals::Renewed;

/// What came of it. Of a deployment that the token may not see nothing is said, and nothing is done to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Redeployed {
    pub begun: Vec<BegunRelease>,
    pub skipped: Vec<SkippedDeployment>,
    /// There are more than the 100 that one request redeploys: send it again.
    pub more: bool,
}

/// A release that was begun; `GET /deployments/{name}/releases/{number}` tells how it goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BegunRelease {
    #[schema(value_type = DeploymentNameText)]
    pub deployment: DeploymentName,
    #[schema(minimum = 1)]
    pub release: i32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SkippedDeployment {
    #[schema(value_type = DeploymentNameText)]
    pub deployment: DeploymentName,
    /// Why it still runs an older value, in a sentence.
    pub why: String,
}

/// Redeploys every deployment that runs an older value of this secret than its newest. Needs `write` on each, and the right to deploy;
/// what this token may not redeploy is named with the reason. What has the newest value, or is on its way to it, is left alone.
#[utoipa::path(post, path = "/api/v1/redeploy/{path}", tag = "deployments", params(("path" = KeyPathText, Path,)),
    responses((status = 202, body = Redeployed), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(super) async fn redeploy_using(
    State(state): State<AppState>,
    Bearer(caller): Bearer,
    Key(key): Key,
) -> Result<Response, Problem> {
    let action = Action::DeploymentRedeploy;
    let found = state.db.secret_at_for(&caller, &key, action).await?;
    let renewed = state.deployer.redeploy_using(&caller, found.id).await?;
    Ok((StatusCode::ACCEPTED, Json(Redeployed::from(renewed))).into_response())
}

impl From<Renewed> for Redeployed {
    fn from(renewed: Renewed) -> Self {
        Redeployed {
            begun: renewed
                .begun
                .into_iter()
                .map(|begun| BegunRelease {
                    deployment: begun.name,
                    release: begun.release,
                })
                .collect(),
            skipped: renewed
                .skipped
                .into_iter()
                .map(|skipped| SkippedDeployment {
                    deployment: skipped.deployment,
                    why: skipped.why,
                })
                .collect(),
            more: renewed.more,
        }
    }
}
