//! `/audit`: the record.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::bearer::Bearer;
use super::bodies::{Json, Query};
use super::pages::{self, Cursor, Page};
use super::problems::{Problem, ProblemKind};
use crate::doors::web::AppState;
use crate::model::audit::{AuditFilter, AuditRow};

/// What is looked for.
#[derive(Clone, Debug, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct AuditQuery {
    /// A part of a path.
    #[param(max_length = 255)]
    pub path: Option<String>,
    /// A part of the name of whoever acted.
    #[param(max_length = 255)]
    pub actor: Option<String>,
    /// An action's name, or its first word for all that begin with it.
    #[param(max_length = 255)]
    pub action: Option<String>,
    #[param(max_length = 255)]
    pub deployment: Option<String>,
    /// A moment, as in 2027-03-31T12:00:00Z, included.
    #[param(value_type = Option<String>, format = DateTime)]
    pub since: Option<String>,
    /// A moment, not included.
    #[param(value_type = Option<String>, format = DateTime)]
    pub until: Option<String>,
    #[param(minimum = 1, maximum = 500)]
    pub limit: Option<i64>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

/// One row of the record. None can hold a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Recorded {
    pub id: Uuid,
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// `user`, `token`, `deployment`, `job` or `anonymous`.
    pub actor_kind: String,
    /// As named then.
    pub actor: String,
    /// Of a token: the handle of its maker.
    pub maker: Option<String>,
    pub action: String,
    /// `done` or `refused`.
    pub outcome: String,
    /// Whose record it stands in.
    pub owner: Option<String>,
    pub path: Option<String>,
    pub version: Option<i32>,
    pub deployment: Option<String>,
    pub release: Option<i32>,
    pub grantee: Option<String>,
    pub level: Option<String>,
    pub reason: Option<String>,
    pub address: Option<String>,
    pub agent: Option<String>,
}

impl From<AuditRow> for Recorded {
    fn from(row: AuditRow) -> Self {
        Recorded {
            id: row.id,
            at: row.at,
            actor_kind: row.actor_kind,
            actor: row.actor_name,
            maker: row.maker,
            action: row.action,
            outcome: row.outcome,
            owner: row.owner,
            path: row.path,
            version: row.version,
            deployment: row.deployment,
            release: row.release,
            grantee: row.grantee,
            level: row.level,
            reason: row.reason,
            address: row.address,
            agent: row.agent,
        }
    }
}

/// The record, the newest first: with `admin` on all of the owner's everything about it, else what this token did.
#[utoipa::path(get, path = "/api/v1/audit", tag = "audit", params(AuditQuery), responses((status = 200, body = Page<Recorded>)))]
pub(super) async fn list(
    State(state): State<AppState>,
    Bearer(caller): Bearer,
    Query(asked): Query<AuditQuery>,
) -> Result<Json<Page<Recorded>>, Problem> {
    let limit = pages::limit(asked.limit)?;
    let before: Option<Uuid> = pages::after(asked.cursor.as_deref())?;
    let filter = AuditFilter::of_words(
        [
            pages::words(&asked.path, "path")?,
            pages::words(&asked.actor, "actor")?,
            pages::words(&asked.action, "action")?,
            pages::words(&asked.deployment, "deployment")?,
        ],
        moment(asked.since.as_deref(), "since")?,
        moment(asked.until.as_deref(), "until")?,
    );
    let rows = state
        .db
        .audit_list(&caller, &filter, before, limit + 1)
        .await?;
    let page = Page::of(rows, limit, |last| Cursor::new(&last.id));
    Ok(Json(page.map(Recorded::from)))
}

fn moment(text: Option<&str>, field: &str) -> Result<Option<OffsetDateTime>, Problem> {
    text.map(|text| {
        OffsetDateTime::parse(text, &Rfc3339).map_err(|_| {
            Problem::new(
                ProblemKind::Invalid,
                "Write the moment as in 2027-03-31T12:00:00Z.",
            )
            .at(field)
        })
    })
    .transpose()
}
