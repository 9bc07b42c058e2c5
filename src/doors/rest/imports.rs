//! `/import`: many secrets in one call, planned line by line and stored all or nothing.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::bearer::Bearer;
use super::bodies::Json;
use super::problems::{Problem, ProblemKind};
use super::schemas::{KindName, SecretPathText};
use crate::doors::web::AppState;
use crate::model::imports::{Destination, EntriesImported, EntryLine, EntryOutcome, OnConflict};
use crate::model::paths::{Handle, SecretPath};
use crate::model::secrets::Kind;
use crate::store::imports::entries::Entries;

/// What is to be imported.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportBody {
    /// A team, or the token's own owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, pattern = "^[a-z][a-z0-9-]{0,38}$")]
    pub owner: Option<Handle>,
    /// The folder that stands before each name, such as `project/shop`; empty for bare names.
    #[serde(default)]
    #[schema(value_type = String, max_length = 250)]
    pub under: Destination,
    #[serde(default)]
    #[schema(value_type = OnConflictName)]
    pub on_conflict: OnConflict,
    /// Only say what would be done.
    #[serde(default)]
    pub dry_run: bool,
    /// The kind of what is new.
    #[serde(default)]
    #[schema(value_type = KindName)]
    pub kind: Kind,
    #[schema(min_items = 1, max_items = 500)]
    pub entries: Vec<ImportEntry>,
}

#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportEntry {
    #[schema(max_length = 255)]
    pub name: String,
    #[serde(serialize_with = "super::values::expose")]
    #[schema(value_type = String, max_length = 65536)]
    pub value: SecretString,
}

/// Where something is stored already: nothing is imported, what is stored stays, or it gets a new version.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum OnConflictName {
    Fail,
    Skip,
    Replace,
}

/// `create`, `replace`, `same` (the very value is stored), `skip`, `conflict` (something is stored) or `invalid`.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum EntryOutcomeName {
    Create,
    Replace,
    Same,
    Skip,
    Conflict,
    Invalid,
}

/// What became, or would become, of one entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImportedLine {
    /// Its place among the entries, from 1.
    #[schema(minimum = 1)]
    pub at: u32,
    /// Null where the name can be no path: it may be a piece of a value, and is not repeated.
    #[schema(value_type = Option<SecretPathText>)]
    pub path: Option<SecretPath>,
    #[schema(value_type = EntryOutcomeName)]
    pub outcome: EntryOutcome,
    /// Sentences that quote nothing.
    pub notes: Vec<String>,
}

/// The plan, or what was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImportResult {
    /// Whether anything was stored; false for a dry run.
    pub applied: bool,
    pub lines: Vec<ImportedLine>,
}

/// Something stands in the way of an import; nothing was stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImportProblem {
    #[serde(flatten)]
    pub problem: Problem,
    /// Absent where nothing of it was looked at, as of an owner for whom the token may not write.
    #[serde(default)]
    pub lines: Vec<ImportedLine>,
}

impl From<EntryLine> for ImportedLine {
    fn from(line: EntryLine) -> Self {
        ImportedLine {
            at: line.at,
            path: line.path,
            outcome: line.outcome,
            notes: line.notes,
        }
    }
}

/// Plans an import, and carries it out unless it is a dry run or something stands in the way.
#[utoipa::path(post, path = "/api/v1/import", tag = "secrets", request_body = ImportBody,
    responses((status = 200, body = ImportResult),
        (status = 403, body = ImportProblem, content_type = "application/problem+json"),
        (status = 409, body = ImportProblem, content_type = "application/problem+json")))]
pub(super) async fn import(
    State(state): State<AppState>,
    Bearer(caller): Bearer,
    Json(body): Json<ImportBody>,
) -> Result<Response, Problem> {
    let entries = body
        .entries
        .into_iter()
        .map(|entry| (entry.name, entry.value))
        .collect();
    let dry_run = body.dry_run;
    let done: EntriesImported = state
        .db
        .import_entries(
            &caller,
            Entries {
                owner: body.owner,
                under: body.under,
                entries,
                on_conflict: body.on_conflict,
                kind: body.kind,
                dry_run,
            },
        )
        .await?;
    let (refused, denied) = (done.is_refused(), done.denied);
    let lines = done.lines.into_iter().map(ImportedLine::from).collect();
    if refused && !dry_run {
        let (kind, status) = match denied {
            true => (ProblemKind::Denied, StatusCode::FORBIDDEN),
            false => (ProblemKind::Conflict, StatusCode::CONFLICT),
        };
        let problem = Problem::new(
            kind,
            "Nothing was imported: the lines say what stands in the way. Send `on_conflict` as skip or replace for what is stored \
             already, and fix what is invalid.",
        );
        let problem = ImportProblem { problem, lines };
        let mut response = (status, axum::Json(problem)).into_response();
        super::problems::mark(&mut response);
        return Ok(response);
    }
    let applied = done.applied;
    Ok(Json(ImportResult { applied, lines }).into_response())
}
