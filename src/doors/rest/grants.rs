//! `/grants`: who reaches what, giving a level and taking it back.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::bearer::Bearer;
use super::bodies::{Json, Path, Query};
use super::pages::Page;
use super::problems::{Problem, ProblemKind};
use super::schemas::{KeyPathText, LevelName};
use crate::doors::web::AppState;
use crate::model::actors::Caller;
use crate::model::audit::Action;
use crate::model::errors::Refusal;
use crate::model::grants::{Grant, Shareable, Shared};
use crate::model::levels::Level;
use crate::model::paths::{DeploymentName, Folder, Handle, KeyPath};
use crate::store;

/// On what: one of the three.
#[derive(Clone, Debug, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct GrantsAsked {
    /// A path, or `handle:path`.
    pub secret: Option<String>,
    /// A folder, or `handle:folder`: every path under it.
    pub under: Option<String>,
    pub deployment: Option<String>,
    /// Only what was given to this one: an e-mail address or a handle.
    #[param(max_length = 254)]
    pub grantee: Option<String>,
}

/// A level to give, on one of `secret`, `under` and `deployment`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GrantBody {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<KeyPathText>)]
    pub secret: Option<String>,
    /// A folder, or `handle:folder`: every path under it, also those that are made later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub under: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<String>,
    /// The e-mail address or handle of a user, or the handle of a team.
    #[schema(max_length = 254)]
    pub grantee: String,
    #[schema(value_type = LevelName)]
    pub level: Level,
    /// Narrows `use` to these deployments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 50)]
    pub only: Vec<String>,
}

/// A level that was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Given {
    pub id: Uuid,
    /// The handle of the owner of what is shared.
    pub owner: String,
    pub secret: Option<String>,
    pub under: Option<String>,
    pub deployment: Option<String>,
    /// The handle of a user or a team.
    pub grantee: String,
    pub is_team: bool,
    #[schema(value_type = LevelName)]
    pub level: Level,
    pub only: Vec<String>,
    /// As named then.
    pub given_by: String,
    #[serde(with = "time::serde::rfc3339")]
    pub given_at: OffsetDateTime,
}

/// The grant that was made or changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GrantMade {
    pub id: Uuid,
}

impl From<Grant> for Given {
    fn from(grant: Grant) -> Self {
        let (secret, under, deployment) = match grant.on {
            Shared::Secret { path, .. } => (Some(path.into()), None, None),
            Shared::Folder { prefix } => (None, Some(prefix.into()), None),
            Shared::Deployment { name } => (None, None, Some(name.into())),
        };
        Given {
            id: grant.id,
            owner: grant.owner,
            secret,
            under,
            deployment,
            grantee: grant.grantee.handle,
            is_team: grant.grantee.is_team,
            level: grant.level,
            only: grant.only,
            given_by: grant.given_by,
            given_at: grant.given_at,
        }
    }
}

/// Who was given a level on a secret, a folder or a deployment. Needs `admin` on it.
#[utoipa::path(get, path = "/api/v1/grants", tag = "grants", params(GrantsAsked), responses((status = 200, body = Page<Given>)))]
pub(super) async fn list(
    State(state): State<AppState>,
    Bearer(caller): Bearer,
    Query(asked): Query<GrantsAsked>,
) -> Result<Json<Page<Given>>, Problem> {
    let grantee = asked.grantee.clone();
    let on = shareable(&state, &caller, asked).await?;
    let found = match grantee {
        Some(grantee) => {
            let given = state.db.grants_to(&caller, &on, &grantee).await;
            given.map_err(at_grantee)?
        }
        None => state.db.reachers(&caller, &on).await?.grants,
    };
    let grants = found.into_iter().map(Given::from).collect();
    Ok(Json(Page::last(grants)))
}

/// Gives a level, or changes the one that was given. Needs `admin` on what is shared.
#[utoipa::path(post, path = "/api/v1/grants", tag = "grants", request_body = GrantBody, responses((status = 201, body = GrantMade)))]
pub(super) async fn give(
    State(state): State<AppState>,
    Bearer(caller): Bearer,
    Json(body): Json<GrantBody>,
) -> Result<Response, Problem> {
    let asked = GrantsAsked {
        secret: body.secret,
        under: body.under,
        deployment: body.deployment,
        grantee: None,
    };
    let on = shareable(&state, &caller, asked).await?;
    let only: Vec<DeploymentName> = body
        .only
        .iter()
        .map(|name| DeploymentName::parse(name).map_err(|refusal| refusal.at("only")))
        .collect::<Result<_, _>>()?;
    let given = state
        .db
        .share(&caller, &on, &body.grantee, body.level, &only)
        .await;
    let id = given.map_err(at_grantee)?;
    let place = format!("/api/v1/grants/{id}");
    Ok((
        StatusCode::CREATED,
        [(header::LOCATION, place)],
        Json(GrantMade { id }),
    )
        .into_response())
}

/// Takes a level back. It holds no more from the next request on.
#[utoipa::path(delete, path = "/api/v1/grants/{id}", tag = "grants", params(("id" = Uuid, Path,)), responses((status = 204)))]
pub(super) async fn take_back(
    State(state): State<AppState>,
    Bearer(caller): Bearer,
    Path(id): Path<Uuid>,
) -> Result<StatusCode, Problem> {
    state.db.unshare(&caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The store calls whoever is named `with`.
fn at_grantee(error: store::Error) -> Refusal {
    let refusal = error.into_refusal();
    match refusal.field.as_deref() {
        Some("with") => refusal.at("grantee"),
        _ => refusal,
    }
}

async fn shareable(
    state: &AppState,
    caller: &Caller,
    asked: GrantsAsked,
) -> Result<Shareable, Problem> {
    match (asked.secret, asked.under, asked.deployment) {
        (Some(secret), None, None) => {
            let key = KeyPath::parse(&secret).map_err(|refusal| refusal.at("secret"))?;
            let id = state
                .db
                .secret_at_for(caller, &key, Action::Share)
                .await?
                .id;
            Ok(Shareable::Secret { id })
        }
        (None, Some(under), None) => {
            let own = caller.own().map_or("", |(_, own)| own);
            let (owner, prefix) = under.split_once(':').unwrap_or((own, &under));
            Ok(Shareable::Folder {
                owner: Handle::parse(owner).map_err(|refusal| refusal.at("under"))?,
                prefix: Folder::parse(prefix)?,
            })
        }
        (None, None, Some(name)) => Ok(Shareable::Deployment {
            name: DeploymentName::parse(&name).map_err(|refusal| refusal.at("deployment"))?,
        }),
        _ => Err(Problem::new(
            ProblemKind::Invalid,
            "Give one of secret, under and deployment.",
        )),
    }
}
