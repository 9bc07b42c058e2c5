//! `/tokens`: which there are, and their end. They are made by people: in the dashboard, or on the host.

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::bearer::Bearer;
use super::bodies::{Json, Path};
use super::pages::Page;
use super::problems::Problem;
use super::schemas::LevelName;
use crate::doors::web::AppState;
use crate::model::levels::Level;
use crate::model::tokens::{Opens, TokenSummary};

/// A token, never its credential.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Token {
    pub id: Uuid,
    pub name: String,
    /// `api`, or `gateway` of one deployment.
    #[schema(example = "api")]
    pub audience: String,
    /// Of a gateway's.
    pub deployment: Option<String>,
    /// Of the API's: for whom it acts.
    pub owner: Option<String>,
    /// How far it reaches, at most.
    #[schema(value_type = Option<LevelName>)]
    pub can: Option<Level>,
    /// Only paths under it.
    pub under: Option<String>,
    /// May make and change deployments.
    pub deploy: bool,
    /// The handle of its maker.
    pub maker: String,
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    pub expires_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    pub last_used_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    pub revoked_at: Option<OffsetDateTime>,
}

impl From<TokenSummary> for Token {
    fn from(summary: TokenSummary) -> Self {
        let token = Token {
            id: summary.id,
            name: summary.name,
            audience: "api".to_owned(),
            deployment: None,
            owner: None,
            can: None,
            under: None,
            deploy: false,
            maker: summary.maker,
            created_at: summary.created_at,
            expires_at: summary.expires_at,
            last_used_at: summary.last_used_at,
            revoked_at: summary.revoked_at,
        };
        match summary.opens {
            Opens::Gateway(deployment) => Token {
                audience: "gateway".to_owned(),
                deployment: Some(deployment),
                ..token
            },
            Opens::Api {
                owner,
                ceiling,
                under,
                deploys,
            } => Token {
                owner: Some(owner),
                can: Some(ceiling),
                under: under.map(String::from),
                deploy: deploys,
                ..token
            },
        }
    }
}

/// The tokens in this one's sight: itself, and with `admin` on all of its owner's also the others of that owner that its maker made.
#[utoipa::path(get, path = "/api/v1/tokens", tag = "tokens", responses((status = 200, body = Page<Token>)))]
pub(super) async fn list(
    State(state): State<AppState>,
    Bearer(caller): Bearer,
) -> Result<Json<Page<Token>>, Problem> {
    let tokens = state.db.tokens_list(&caller).await?;
    Ok(Json(Page::last(
        tokens.into_iter().map(Token::from).collect(),
    )))
}

/// Revokes a token; it opens nothing from the next request on. One may revoke itself.
#[utoipa::path(delete, path = "/api/v1/tokens/{id}", tag = "tokens", params(("id" = Uuid, Path,)), responses((status = 204)))]
pub(super) async fn revoke(
    State(state): State<AppState>,
    Bearer(caller): Bearer,
    Path(id): Path<Uuid>,
) -> Result<StatusCode, Problem> {
    state.db.token_revoke(&caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}
