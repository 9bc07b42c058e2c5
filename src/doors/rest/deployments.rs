//! `/deployments`: made, watched, changed and ended by programs. What is looked at and checked is the wizard's own.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

use super::bearer::Bearer;
use super::bodies::{Json, Path, Query};
use super::pages::{self, Cursor, Page};
use super::plans::{
    DeploymentPatch, DeploymentPlan, DeploymentProblem, NewDeployment, transport_name,
};
use super::problems::Problem;
use super::schemas::LevelName;
use crate::doors::web::AppState;
use crate::model::actors::Caller;
use crate::model::deployments::{
    BindingSummary, DeploymentDetail, DeploymentState, DeploymentSummary, ReleaseState,
    ReleaseSummary, Step,
};
use crate::model::levels::Level;
use crate::model::paths::DeploymentName;
use crate::model::plans::Begun;
use crate::model::sources::Runtime;
use crate::model::targets::Placed;

/// A deployment, in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Deployment {
    #[schema(value_type = DeploymentNameText)]
    pub name: DeploymentName,
    /// The handle of its owner.
    pub owner: String,
    /// Pinned to an exact version or commit.
    pub source: String,
    #[schema(value_type = DeploymentStateName)]
    pub state: DeploymentState,
    /// `shared`: one server, with its owner's secrets; or `per-user`: an instance for each caller, who connects keys of their own.
    #[schema(example = "shared")]
    pub mode: String,
    /// Why it is in this state, where there is something to say.
    pub reason: Option<String>,
    #[serde(with = "time::serde::rfc3339")]
    pub state_since: OffsetDateTime,
    /// The number of the newest release.
    pub release: i32,
    /// How far this token reaches on it. With `use` alone there is no reason, command, release or log, and no binding but what callers
    /// bring.
    #[schema(value_type = LevelName)]
    pub level: Level,
    /// Where MCP clients connect, each with a gateway token of this deployment.
    pub url: String,
}

/// A deployment with what it is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeploymentShown {
    #[serde(flatten)]
    pub deployment: Deployment,
    /// `local`: on this machine; or the provider.
    pub target: String,
    /// What the target was told.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// What the provider has of it; null on this machine, and before anything is made.
    #[serde(default)]
    pub at_provider: Option<AtProvider>,
    /// `node` or `python`.
    pub runtime: String,
    /// `stdio` or `http`.
    pub transport: String,
    pub command: Vec<String>,
    pub bindings: Vec<BindingShown>,
    /// A changed value of a bound secret redeploys it by itself.
    pub follows_changes: bool,
    /// Newest first, at most 20.
    pub releases: Vec<Release>,
}

/// What a provider has of a deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AtProvider {
    /// The service's id there.
    pub service: Option<String>,
    /// Its own address. Clients go by the gateway's.
    pub url: Option<String>,
    /// Whoever knows that address can call it: the server does not check `SEALPORT_GATEWAY_SECRET`. Null: not known.
    pub open: Option<bool>,
}

/// A variable, and what it is. Never a secret's value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BindingShown {
    pub env: String,
    /// The path of its secret, where that is in sight.
    pub secret: Option<String>,
    pub text: Option<String>,
    /// Each caller brings it: `/connections/{deployment}`.
    #[serde(default)]
    pub per_user: bool,
    /// The path when it was bound, of a secret that the owner may not use any more, or that is gone.
    pub lost: Option<String>,
    /// The version that runs, and the newest.
    pub running_version: Option<i32>,
    pub current_version: Option<i32>,
    /// What runs has another value than the newest.
    pub is_older: bool,
    /// Why the next start will not get it.
    pub unusable: Option<String>,
}

/// One attempt to run a deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Release {
    #[schema(value_type = DeploymentNameText)]
    pub deployment: DeploymentName,
    #[schema(minimum = 1)]
    pub number: i32,
    #[schema(value_type = ReleaseStateName)]
    pub state: ReleaseState,
    /// Why it ended so.
    pub reason: Option<String>,
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    pub ended_at: Option<OffsetDateTime>,
    /// Who asked for it.
    pub created_by: String,
    /// What the provider built from git.
    pub commit: Option<String>,
    /// The older release whose code it runs.
    pub code_of: Option<i32>,
    /// `fetch`, `install`, `start`, `handshake`, in this order; at a provider `provision`, `build`, `handshake`.
    pub steps: Vec<ReleaseStep>,
    /// The versions that it used.
    pub versions: Vec<VersionUsed>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReleaseStep {
    pub name: String,
    /// `waiting`, `running`, `done` or `failed`.
    pub state: String,
    #[serde(with = "time::serde::rfc3339::option")]
    pub started_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    pub ended_at: Option<OffsetDateTime>,
    /// What happened, masked.
    pub detail: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VersionUsed {
    pub env: String,
    pub version: i32,
}

/// A deployment's name.
#[derive(ToSchema)]
#[schema(value_type = String, pattern = "^[a-z][a-z0-9-]{0,38}$", example = "shop-tools")]
pub struct DeploymentNameText(pub String);

/// `running`: it answered the MCP handshake. `restarting`: it ended by itself and is started again. `failed`: somebody has to act.
#[derive(ToSchema)]
#[schema(rename_all = "kebab-case")]
pub enum DeploymentStateName {
    Deploying,
    Running,
    Restarting,
    Failed,
    Stopped,
}

/// The last three are ends. `superseded`: a newer release, a stop or a destroy came first.
#[derive(ToSchema)]
#[schema(rename_all = "kebab-case")]
pub enum ReleaseStateName {
    Queued,
    Running,
    Live,
    Failed,
    Superseded,
}

/// What a change answers that takes no release: of a dry run the plan, or else the deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Changed {
    Plan(Box<DeploymentPlan>),
    Deployment(Box<DeploymentShown>),
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct DeploymentsAsked {
    /// Rows of a page.
    #[param(minimum = 1, maximum = 500)]
    pub limit: Option<i64>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct DryRun {
    /// Only says what it would come to.
    #[serde(default)]
    #[param(required = false)]
    pub dry_run: bool,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct RollbackTo {
    /// The release whose code shall run again.
    #[param(minimum = 1)]
    pub rollback_to: Option<i32>,
}

/// Lists what the token may see, by name.
#[utoipa::path(get, path = "/api/v1/deployments", tag = "deployments", params(DeploymentsAsked),
    responses((status = 200, body = Page<Deployment>)))]
pub(super) async fn list(
    State(state): State<AppState>,
    Bearer(caller): Bearer,
    Query(asked): Query<DeploymentsAsked>,
) -> Result<Json<Page<Deployment>>, Problem> {
    let limit = pages::limit(asked.limit)?;
    let after: Option<DeploymentName> = pages::after(asked.cursor.as_deref())?;
    let found = state
        .db
        .deployments_page(&caller, after.as_ref(), limit + 1)
        .await?;
    let page = Page::of(found, limit, |last| Cursor::new(&last.name));
    Ok(Json(page.map(|summary| shown_short(&state, summary))))
}

/// Makes a deployment and its first release. The source is looked at before the answer, which takes seconds: where it takes longer
/// than 45, the answer is 503, nothing was made, and the same request sent again goes on from there.
///
/// With `dry_run` nothing is made: the answer says what is missing, expired and refused. Without it the same stands in the problem.
/// The token needs the right to deploy; of the secrets that it binds, `use` is enough.
#[utoipa::path(post, path = "/api/v1/deployments", tag = "deployments", params(DryRun), request_body = NewDeployment,
    responses(
        (status = 200, description = "A dry run", body = DeploymentPlan),
        (status = 202, description = "The release that was begun; Location is its address", body = Release,
            headers(("Location" = String))),
        (status = 403, body = DeploymentProblem), (status = 409, body = DeploymentProblem),
        (status = 422, body = DeploymentProblem)))]
pub(super) async fn post(
    State(state): State<AppState>,
    Bearer(caller): Bearer,
    Query(DryRun { dry_run }): Query<DryRun>,
    Json(new): Json<NewDeployment>,
) -> Result<Response, Response> {
    let request = new.into();
    if dry_run {
        let plan = state.deployer.plan(&caller, &request).await;
        return plan.map(answer_plan).map_err(problem);
    }
    match state.deployer.deploy(&caller, &request).await {
        Ok(begun) => released(&state, &caller, begun).await.map_err(problem),
        Err(not) => Err(DeploymentProblem::from(not).into_response()),
    }
}

/// A deployment with its bindings and newest releases.
#[utoipa::path(get, path = "/api/v1/deployments/{name}", tag = "deployments",
    params(("name" = DeploymentNameText, Path,)),
    responses((status = 200, body = DeploymentShown), (status = 404, body = Problem)))]
pub(super) async fn show(
    State(state): State<AppState>,
    Bearer(caller): Bearer,
    Path(name): Path<DeploymentName>,
) -> Result<Json<DeploymentShown>, Problem> {
    let detail = state.db.deployment_show(&caller, &name).await?;
    Ok(Json(shown(&state, detail)))
}

/// Changes the source, the bindings, the fetch key, or whether it follows changes. Needs `admin` on it and the right to deploy, and
/// `use` of what it binds: with another source, of everything that is bound.
#[utoipa::path(patch, path = "/api/v1/deployments/{name}", tag = "deployments", request_body = DeploymentPatch,
    params(("name" = DeploymentNameText, Path,), DryRun),
    responses(
        (status = 200, description = "A dry run, or a change that takes no release", body = Changed),
        (status = 202, description = "The release that was begun; Location is its address", body = Release,
            headers(("Location" = String))),
        (status = 403, body = DeploymentProblem), (status = 404, body = Problem), (status = 422, body = DeploymentProblem)))]
pub(super) async fn patch(
    State(state): State<AppState>,
    Bearer(caller): Bearer,
    Path(name): Path<DeploymentName>,
    Query(DryRun { dry_run }): Query<DryRun>,
    Json(patch): Json<DeploymentPatch>,
) -> Result<Response, Response> {
    let request = patch.into();
    if dry_run {
        let plan = state.deployer.plan_change(&caller, &name, &request).await;
        return plan.map(answer_plan).map_err(problem);
    }
    match state.deployer.change(&caller, &name, &request).await {
        Ok(Some(begun)) => released(&state, &caller, begun).await.map_err(problem),
        Ok(None) => {
            let detail = state.db.deployment_show(&caller, &name).await;
            let detail = detail.map_err(|error| problem(error.into_refusal()))?;
            Ok(Json(shown(&state, detail)).into_response())
        }
        Err(not) => Err(DeploymentProblem::from(not).into_response()),
    }
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Destroying {
    /// Forget here what is being destroyed and cannot be reached at its provider any more; what is there stays there.
    #[serde(default)]
    forget: bool,
}

/// Destroys it, with its releases, its log and its gateway tokens. Its secrets stay, and its name stays its owner's. What a provider
/// has of it goes first.
#[utoipa::path(delete, path = "/api/v1/deployments/{name}", tag = "deployments",
    params(("name" = DeploymentNameText, Path,), Destroying),
    responses((status = 204), (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem)))]
pub(super) async fn delete(
    State(state): State<AppState>,
    Bearer(caller): Bearer,
    Path(name): Path<DeploymentName>,
    Query(how): Query<Destroying>,
) -> Result<StatusCode, Problem> {
    match how.forget {
        true => state.deployer.forget(&caller, &name).await?,
        false => state.deployer.destroy(&caller, &name).await?,
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Wants it running. The answer is the release that is begun for it, or the one that runs.
#[utoipa::path(post, path = "/api/v1/deployments/{name}/start", tag = "deployments",
    params(("name" = DeploymentNameText, Path,)),
    responses((status = 202, body = Release, headers(("Location" = String))),
        (status = 403, body = Problem), (status = 404, body = Problem)))]
pub(super) async fn start(
    State(state): State<AppState>,
    Bearer(caller): Bearer,
    Path(name): Path<DeploymentName>,
) -> Result<Response, Problem> {
    let begun = state.deployer.start(&caller, &name).await?;
    Ok(released(&state, &caller, begun).await?)
}

/// Wants it stopped. It says `stopped` once it is.
#[utoipa::path(post, path = "/api/v1/deployments/{name}/stop", tag = "deployments",
    params(("name" = DeploymentNameText, Path,)),
    responses((status = 202, body = DeploymentShown), (status = 403, body = Problem), (status = 404, body = Problem)))]
pub(super) async fn stop(
    State(state): State<AppState>,
    Bearer(caller): Bearer,
    Path(name): Path<DeploymentName>,
) -> Result<Response, Problem> {
    state.deployer.stop(&caller, &name).await?;
    let detail = state.db.deployment_show(&caller, &name).await?;
    Ok((StatusCode::ACCEPTED, Json(shown(&state, detail))).into_response())
}

/// Redeploys it, with the newest versions of its secrets. With `rollback_to` it runs the code of that release again, with the values of
/// now, where a provider built it from git and that release was live, otherwise 409; that takes `admin`, as another source does.
#[utoipa::path(post, path = "/api/v1/deployments/{name}/releases", tag = "deployments",
    params(("name" = DeploymentNameText, Path,), RollbackTo),
    responses((status = 202, body = Release, headers(("Location" = String))),
        (status = 403, body = Problem), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(super) async fn redeploy(
    State(state): State<AppState>,
    Bearer(caller): Bearer,
    Path(name): Path<DeploymentName>,
    Query(RollbackTo { rollback_to }): Query<RollbackTo>,
) -> Result<Response, Problem> {
    let deployer = &state.deployer;
    let begun = match rollback_to {
        Some(release) => deployer.run_again(&caller, &name, release).await?,
        None => deployer.redeploy(&caller, &name).await?,
    };
    Ok(released(&state, &caller, begun).await?)
}

/// A release: its steps, how it ended and why, and which versions it used.
#[utoipa::path(get, path = "/api/v1/deployments/{name}/releases/{number}", tag = "deployments",
    params(("name" = DeploymentNameText, Path,), ("number" = i32, Path, minimum = 1)),
    responses((status = 200, body = Release), (status = 404, body = Problem)))]
pub(super) async fn release(
    State(state): State<AppState>,
    Bearer(caller): Bearer,
    Path((name, number)): Path<(DeploymentName, i32)>,
) -> Result<Json<Release>, Problem> {
    let found = state.db.release_show(&caller, &name, number).await?;
    Ok(Json(release_shown(&name, found)))
}

fn problem(refusal: crate::model::errors::Refusal) -> Response {
    Problem::from(refusal).into_response()
}

fn answer_plan(plan: crate::model::plans::Plan) -> Response {
    Json(DeploymentPlan::from(plan)).into_response()
}

/// 202 with the release and its address.
async fn released(
    state: &AppState,
    caller: &Caller,
    begun: Begun,
) -> Result<Response, crate::model::errors::Refusal> {
    let Begun { name, release } = begun;
    let found = state.db.release_show(caller, &name, release).await;
    let found = found.map_err(crate::store::Error::into_refusal)?;
    let at = format!("/api/v1/deployments/{name}/releases/{release}");
    let mut response = (StatusCode::ACCEPTED, Json(release_shown(&name, found))).into_response();
    if let Ok(at) = HeaderValue::from_str(&at) {
        response.headers_mut().insert(header::LOCATION, at);
    }
    Ok(response)
}

fn shown_short(state: &AppState, summary: DeploymentSummary) -> Deployment {
    Deployment {
        url: format!("{}s/{}/mcp", state.config.public_url, summary.name),
        owner: summary.owner,
        source: summary.source.to_string(),
        state: summary.state,
        mode: match summary.per_user {
            true => "per-user",
            false => "shared",
        }
        .into(),
        reason: summary.reason,
        state_since: summary.state_since,
        release: summary.release,
        level: summary.level,
        name: summary.name,
    }
}

fn shown(state: &AppState, detail: DeploymentDetail) -> DeploymentShown {
    let name = detail.summary.name.clone();
    DeploymentShown {
        deployment: shown_short(state, detail.summary),
        target: detail.target.as_str().into(),
        options: detail.options,
        at_provider: (detail.placed != Placed::default()).then_some(AtProvider {
            service: detail.placed.service,
            url: detail.placed.url,
            open: detail.placed.open,
        }),
        runtime: match detail.start.runtime {
            Runtime::Node => "node",
            Runtime::Python => "python",
        }
        .into(),
        transport: transport_name(&detail.start.transport).into(),
        command: detail.start.command,
        bindings: detail.bindings.into_iter().map(binding_shown).collect(),
        follows_changes: detail.follows_changes,
        releases: detail
            .releases
            .into_iter()
            .map(|release| release_shown(&name, release))
            .collect(),
    }
}

fn binding_shown(binding: BindingSummary) -> BindingShown {
    BindingShown {
        env: binding.env.into(),
        secret: binding.secret.map(String::from),
        text: binding.text,
        per_user: binding.per_user,
        lost: binding.lost,
        running_version: binding.running_version,
        current_version: binding.current_version,
        is_older: binding.is_older,
        unusable: binding.unusable,
    }
}

fn release_shown(name: &DeploymentName, release: ReleaseSummary) -> Release {
    Release {
        deployment: name.clone(),
        number: release.number,
        state: release.state,
        reason: release.reason,
        created_at: release.created_at,
        ended_at: release.ended_at,
        created_by: release.created_by,
        commit: release.commit,
        code_of: release.code_of,
        steps: release.steps.into_iter().map(step_shown).collect(),
        versions: release
            .versions
            .into_iter()
            .map(|(env, version)| VersionUsed {
                env: env.into(),
                version,
            })
            .collect(),
    }
}

fn step_shown(step: Step) -> ReleaseStep {
    ReleaseStep {
        name: step.name.as_str().to_owned(),
        state: step.state,
        started_at: step.started_at,
        ended_at: step.ended_at,
        detail: step.detail,
    }
}
