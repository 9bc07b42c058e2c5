//! `/connections`: one's own keys of a per-user deployment. Values come in; none goes out here or anywhere.

use axum::extract::State;
use axum::http::StatusCode;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::bearer::Bearer;
use super::bodies::{Json, Path};
use super::deployments::{DeploymentNameText, DeploymentStateName};
use super::problems::{Problem, ProblemKind};
use super::schemas::SecretPathText;
use crate::doors::web::AppState;
use crate::model::actors::Caller;
use crate::model::connections::{ConnectPage, Slot, SlotState};
use crate::model::deployments::DeploymentState;
use crate::model::errors::{Refusal, RefusalKind};
use crate::model::paths::{DeploymentName, EnvName, SecretPath};
use crate::store::secrets::NewValue;

/// What a caller of a per-user deployment brings, and what of it stands. To connect is to agree to what is said here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Connections {
    #[schema(value_type = DeploymentNameText)]
    pub deployment: DeploymentName,
    /// The handle of its owner.
    pub owner: String,
    /// The code that gets the keys, pinned to an exact version or commit.
    pub source: String,
    /// Where it runs. `local`: on the machine of Sealport.
    #[schema(example = "local")]
    pub target: String,
    /// What starts the server: its program and arguments, as the source was looked at. Empty where that is known only once it is installed.
    #[serde(default)]
    pub command: String,
    /// Whether it may open connections to the outside.
    #[serde(default)]
    pub network: bool,
    #[schema(value_type = DeploymentStateName)]
    pub state: DeploymentState,
    /// Another number whenever its owner, source, target, start, network or variables are others: what was connected is not used until it is
    /// connected again.
    #[schema(minimum = 1)]
    pub terms: i32,
    /// All that is asked for is connected: calls are answered.
    pub connected: bool,
    /// What has changed since this caller connected, in sentences; empty while everything stands.
    pub changes: Vec<String>,
    /// When the far service last refused this caller's keys, as far as a tool's answer told; null since a call passed or one was replaced.
    /// It cannot be known which of several it was.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub refused_at: Option<OffsetDateTime>,
    pub slots: Vec<Connection>,
    /// The page on which a person does the same.
    pub url: String,
}

/// A variable that each caller brings, as it is for this one. Never its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Connection {
    #[schema(value_type = EnvNameText)]
    pub env: String,
    /// What it is, in the source's own words.
    pub description: String,
    /// Where the value is kept, or would be.
    #[schema(value_type = SecretPathText)]
    pub path: SecretPath,
    #[schema(value_type = ConnectionStateName)]
    pub state: SlotState,
    #[serde(with = "time::serde::rfc3339::option")]
    pub expires_at: Option<OffsetDateTime>,
}

/// `missing`: no value is kept. `kept`: one is, and was never connected. `changed`: the deployment is another than it was connected to.
/// `expiring`: connected, and its end comes soon. `refused`: connected, and the far service refused it, or another that was used with it;
/// calls go on. With `expired` and `off` it is connected and not used.
#[derive(ToSchema)]
#[schema(rename_all = "kebab-case")]
#[allow(dead_code)]
pub enum ConnectionStateName {
    Missing,
    Kept,
    Changed,
    Connected,
    Expiring,
    Refused,
    Expired,
    Off,
}

/// The name of a variable.
#[derive(ToSchema)]
#[schema(value_type = String, pattern = "^[A-Za-z_][A-Za-z0-9_]*$", max_length = 255, example = "STRIPE_KEY")]
#[allow(dead_code)]
pub struct EnvNameText(String);

/// What to connect.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConnectionBody {
    /// A new value, up to 64 KiB, without NUL. Left out: the one that is kept.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "super::values::expose_option"
    )]
    #[schema(value_type = Option<String>, max_length = 65536, min_length = 1)]
    pub value: Option<SecretString>,
    /// `terms` of what was looked at: 409 when it is another by now. Left out: whatever it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub terms: Option<i32>,
}

/// What this deployment asks of its callers, and what of it this token's maker has connected. Whoever may call the deployment may ask,
/// with a token for what is their own, and `write`.
#[utoipa::path(get, path = "/api/v1/connections/{deployment}", tag = "connections",
    params(("deployment" = DeploymentNameText, Path,)),
    responses((status = 200, body = Connections), (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 422, description = "It is shared: there is nothing to connect", body = Problem)))]
pub(super) async fn show(
    State(state): State<AppState>,
    Bearer(caller): Bearer,
    Path(name): Path<DeploymentName>,
) -> Result<Json<Connections>, Problem> {
    let page = state.db.connect_page(&caller, &name).await?;
    let url = format!("{}connect/{name}", state.config.public_url);
    Ok(Json(Connections {
        owner: page.owner.clone(),
        source: page.source.to_string(),
        target: page.target.as_str().into(),
        command: page.command.clone(),
        network: page.network,
        refused_at: page.refused_at,
        state: page.state,
        terms: page.terms,
        connected: page.is_connected(),
        changes: page.changes,
        slots: page.slots.into_iter().map(Connection::from).collect(),
        deployment: name,
        url,
    }))
}

/// Lets the deployment use a value of the caller's own: a new one, which is stored by the same step or not at all, or the one that is
/// kept. From then on nobody is shown it, its owner included. The next call runs with it.
#[utoipa::path(put, path = "/api/v1/connections/{deployment}/{env}", tag = "connections", request_body = ConnectionBody,
    params(("deployment" = DeploymentNameText, Path,), ("env" = EnvNameText, Path,)),
    responses((status = 200, body = Connection), (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 409, description = "It is not what was looked at any more", body = Problem), (status = 422, body = Problem)))]
pub(super) async fn put(
    State(state): State<AppState>,
    Bearer(caller): Bearer,
    Path((name, env)): Path<(DeploymentName, EnvName)>,
    Json(body): Json<ConnectionBody>,
) -> Result<Json<Connection>, Problem> {
    let db = &state.db;
    let value = body.value.map(NewValue::Typed);
    db.connection_put(&caller, &name, &env, body.terms, value)
        .await?;
    let page = db.connect_page(&caller, &name).await?;
    retire(&state, &caller, &page);
    match page.slots.into_iter().find(|slot| slot.env == env) {
        Some(slot) => Ok(Json(slot.into())),
        None => Err(Refusal::new(
            RefusalKind::Conflict,
            format!("{name} was changed in this moment, and does not ask for {env} any more."),
        )
        .into()),
    }
}

/// Clears the caller's own value, for good: the connection, and the secret with its versions. Needs `admin`, as every deletion of
/// a secret does.
#[utoipa::path(delete, path = "/api/v1/connections/{deployment}/{env}", tag = "connections",
    params(("deployment" = DeploymentNameText, Path,), ("env" = EnvNameText, Path,)),
    responses((status = 204), (status = 403, body = Problem), (status = 404, body = Problem), (status = 422, body = Problem)))]
pub(super) async fn delete(
    State(state): State<AppState>,
    Bearer(caller): Bearer,
    Path((name, env)): Path<(DeploymentName, EnvName)>,
) -> Result<StatusCode, Problem> {
    let page = state.db.connect_page(&caller, &name).await?;
    let is_none = |slot: &Slot| slot.env == env && slot.secret_id.is_none();
    if page.slots.iter().any(is_none) {
        return Err(Problem::new(
            ProblemKind::NotFound,
            format!("No value of yours is kept here for {env}, or it is not this token’s to see."),
        ));
    }
    state.db.connection_end(&caller, &name, &env).await?;
    retire(&state, &caller, &page);
    Ok(StatusCode::NO_CONTENT)
}

/// The caller's instance runs with what they had before: the next call gets another.
fn retire(state: &AppState, caller: &Caller, page: &ConnectPage) {
    if let Some(user) = caller.user() {
        state.deployer.retire_own(page.id, user.id);
    }
}

impl From<Slot> for Connection {
    fn from(slot: Slot) -> Self {
        Connection {
            env: slot.env.into(),
            description: slot.description,
            path: slot.path,
            state: slot.state,
            expires_at: slot.expires_at,
        }
    }
}
