//! `/teams`: the team for which a token acts, and its members.

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::bearer::Bearer;
use super::bodies::{Json, Path};
use super::pages::Page;
use super::problems::{Problem, ProblemKind};
use super::schemas::LevelName;
use crate::doors::web::AppState;
use crate::model::actors::Caller;
use crate::model::grants::Member;
use crate::model::levels::Level;
use crate::model::paths::Handle;
use crate::store::teams::NOT_THE_TOKENS;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Team {
    pub handle: String,
    /// The maker's own level on all that the team owns.
    #[schema(value_type = LevelName)]
    pub level: Level,
    pub members: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TeamMember {
    pub handle: String,
    #[schema(value_type = LevelName)]
    pub level: Level,
    /// As named then.
    pub added_by: String,
    #[serde(with = "time::serde::rfc3339")]
    pub added_at: OffsetDateTime,
}

impl From<Member> for TeamMember {
    fn from(member: Member) -> Self {
        TeamMember {
            handle: member.handle,
            level: member.level,
            added_by: member.added_by,
            added_at: member.added_at,
        }
    }
}

/// A member's level on all that the team owns.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MemberBody {
    #[schema(value_type = LevelName)]
    pub level: Level,
}

/// The team for which the token acts; none for a token that acts for a person.
#[utoipa::path(get, path = "/api/v1/teams", tag = "teams", responses((status = 200, body = Page<Team>)))]
pub(super) async fn list(
    State(state): State<AppState>,
    Bearer(caller): Bearer,
) -> Result<Json<Page<Team>>, Problem> {
    let teams = state.db.teams_list(&caller).await?;
    let teams = teams
        .into_iter()
        .filter(|team| is_own(&caller, &team.handle))
        .map(|team| Team {
            handle: team.handle,
            level: team.level,
            members: team.members,
        });
    Ok(Json(Page::last(teams.collect())))
}

/// The members of a team, by handle.
#[utoipa::path(get, path = "/api/v1/teams/{handle}/members", tag = "teams", params(("handle" = String, Path,)),
    responses((status = 200, body = Page<TeamMember>)))]
pub(super) async fn members(
    State(state): State<AppState>,
    Bearer(caller): Bearer,
    Path(handle): Path<String>,
) -> Result<Json<Page<TeamMember>>, Problem> {
    let handle = own_team(&caller, &handle)?;
    let team = state.db.team_show(&caller, &handle).await?;
    let members = team.members.into_iter().map(TeamMember::from).collect();
    Ok(Json(Page::last(members)))
}

/// Makes somebody a member, by handle or e-mail address, or changes a member's level. Needs `admin`.
#[utoipa::path(put, path = "/api/v1/teams/{handle}/members/{member}", tag = "teams", request_body = MemberBody,
    params(("handle" = String, Path,), ("member" = String, Path,)), responses((status = 204)))]
pub(super) async fn set_member(
    State(state): State<AppState>,
    Bearer(caller): Bearer,
    Path((handle, member)): Path<(String, String)>,
    Json(body): Json<MemberBody>,
) -> Result<StatusCode, Problem> {
    let handle = Handle::parse(&handle).map_err(|_| no_team())?;
    state
        .db
        .team_member_set(&caller, &handle, &member, body.level)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Ends a membership. Needs `admin`.
#[utoipa::path(delete, path = "/api/v1/teams/{handle}/members/{member}", tag = "teams",
    params(("handle" = String, Path,), ("member" = String, Path,)), responses((status = 204)))]
pub(super) async fn remove_member(
    State(state): State<AppState>,
    Bearer(caller): Bearer,
    Path((handle, member)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    let handle = Handle::parse(&handle).map_err(|_| no_team())?;
    let member = Handle::parse(&member).map_err(|refusal| refusal.at("member"))?;
    state
        .db
        .team_member_remove(&caller, &handle, &member)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

fn is_own(caller: &Caller, handle: &str) -> bool {
    caller.own().is_some_and(|(_, own)| own == handle)
}

/// Errors: `not-found` for a team for which the token does not act.
fn own_team(caller: &Caller, handle: &str) -> Result<Handle, Problem> {
    match Handle::parse(handle) {
        Ok(handle) if is_own(caller, handle.as_str()) => Ok(handle),
        _ => Err(no_team()),
    }
}

fn no_team() -> Problem {
    Problem::new(ProblemKind::NotFound, NOT_THE_TOKENS)
}
