//! `/secrets`: metadata, and the values that come in. None goes out here.

use std::collections::HashMap;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::bearer::Bearer;
use super::bodies::{Json, Key, Query};
use super::deployments::{DeploymentNameText, DeploymentStateName};
use super::pages::{self, Cursor, Page};
use super::problems::{Problem, ProblemKind};
use super::schemas::{KeyPathText, KindName, LevelName, SecretPathText, TagText};
use crate::doors::web::AppState;
use crate::model::actors::Caller;
use crate::model::audit::Action;
use crate::model::deployments::DeploymentState;
use crate::model::due::Due;
use crate::model::errors::Refusal;
use crate::model::levels::Level;
use crate::model::paths::{DeploymentName, EnvName, Folder, Handle, KeyPath, SecretPath, Tag};
use crate::model::renewals::SecretRun;
use crate::model::secrets::{Kind, SecretFilter, SecretSummary};
use crate::store::due::{DUE_DAYS_MAX, DUE_LISTED_MAX};
use crate::store::secret_put::{Expected, Put, SecretPut};
use crate::store::secrets::{Encoding, NewValue, SecretEdit};

/// A secret without its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Secret {
    pub id: Uuid,
    /// The handle of its owner.
    pub owner: String,
    #[schema(value_type = SecretPathText)]
    pub path: SecretPath,
    /// The variable that it becomes in a deployment, unless the binding names another; none where that name is refused everywhere.
    pub env: Option<String>,
    #[schema(value_type = KindName)]
    pub kind: Kind,
    pub description: String,
    #[schema(value_type = Vec<TagText>)]
    pub tags: Vec<Tag>,
    /// The number of the newest version, from 1.
    #[schema(minimum = 1)]
    pub version: i32,
    #[serde(with = "time::serde::rfc3339")]
    pub changed_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    pub expires_at: Option<OffsetDateTime>,
    /// Whether it is switched on.
    pub active: bool,
    /// The deployments in sight that bind it, by name.
    pub used_by: Vec<String>,
    /// Those whose source is fetched with it.
    pub fetched_by: Vec<String>,
    /// Whether its value is long enough to be masked in what a server prints.
    pub maskable: bool,
    /// It was connected to a per-user deployment: its value is shown to nobody any more, its owner included.
    #[serde(default)]
    pub use_only: bool,
    /// How far this token reaches on it.
    #[schema(value_type = LevelName)]
    pub level: Level,
    /// Why it needs a look, in a list of what is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<SecretDue>,
    /// Where it runs now, of one secret and not in a list: the deployments of which this token may read, at most 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs: Option<Vec<RunShown>>,
}

/// A deployment that runs the secret, or was asked to since its newest value is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunShown {
    #[schema(value_type = DeploymentNameText)]
    pub deployment: DeploymentName,
    /// `local`: on this machine; or the provider.
    pub target: String,
    #[schema(value_type = DeploymentStateName)]
    pub state: DeploymentState,
    /// The version that runs; null where nothing runs yet.
    pub running_version: Option<i32>,
    /// What runs has another value than the newest. An older version can have the same.
    pub is_older: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SecretDue {
    /// `expired`, `expires`, or `rotate`: the value has to be another.
    #[schema(example = "expires")]
    pub why: String,
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
}

impl From<SecretSummary> for Secret {
    fn from(summary: SecretSummary) -> Self {
        Secret {
            id: summary.id,
            env: EnvName::default_for(&summary.path).ok().map(String::from),
            owner: summary.owner,
            path: summary.path,
            kind: summary.kind,
            description: summary.description,
            tags: summary.tags,
            version: summary.version,
            changed_at: summary.changed_at,
            expires_at: summary.expires_at,
            active: summary.active,
            used_by: summary.used_by,
            fetched_by: summary.fetched_by,
            maskable: summary.maskable,
            use_only: summary.use_only,
            level: summary.level,
            due: None,
            runs: None,
        }
    }
}

impl From<SecretRun> for RunShown {
    fn from(run: SecretRun) -> Self {
        RunShown {
            deployment: run.deployment,
            target: run.target.as_str().to_owned(),
            state: run.state,
            running_version: run.version,
            is_older: run.version.is_some() && !run.is_current,
        }
    }
}

/// What a list of secrets is narrowed to.
#[derive(Clone, Debug, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct SecretsAsked {
    /// A folder: `project/shop` for every path under it.
    pub under: Option<String>,
    #[param(value_type = Option<KindName>)]
    pub kind: Option<String>,
    pub tag: Option<String>,
    /// A part of the path or the description.
    #[param(max_length = 255)]
    pub q: Option<String>,
    /// The handle of an owner.
    pub owner: Option<String>,
    /// What ends, or has to be rotated, within so many days; such a list is ordered by that and has one page, of `limit` rows.
    #[param(minimum = 0, maximum = 3650)]
    pub due: Option<i32>,
    /// Rows of a page.
    #[param(minimum = 1, maximum = 500)]
    pub limit: Option<i64>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

/// A new value, or how Sealport shall make one. One of the two.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretBody {
    /// Where it is stored: in a POST alone, for the address of a PUT says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<KeyPathText>)]
    pub path: Option<KeyPath>,
    /// `path`, as some programs call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<KeyPathText>)]
    pub key: Option<KeyPath>,
    /// The value: up to 64 KiB, without NUL.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "super::values::expose_option"
    )]
    #[schema(value_type = Option<String>, max_length = 65536, min_length = 1)]
    pub value: Option<SecretString>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generate: Option<Generate>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<KindName>)]
    pub kind: Option<Kind>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 1000)]
    pub description: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<TagText>>, max_items = 20)]
    pub tags: Option<Vec<Tag>>,
    /// When it ends; null clears the end.
    #[serde(
        default,
        with = "super::times::patch",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Option<OffsetDateTime>>,
}

/// Random bytes that nobody sees.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Generate {
    #[schema(minimum = 16, maximum = 4096)]
    pub bytes: usize,
    #[serde(default)]
    pub encoding: GeneratedAs,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum GeneratedAs {
    #[default]
    Base64Url,
    Hex,
}

/// What was stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SecretStored {
    pub id: Uuid,
    #[schema(value_type = KeyPathText)]
    pub path: KeyPath,
    #[schema(minimum = 1)]
    pub version: i32,
    /// Nothing stood there before.
    pub created: bool,
    /// What one should know of the value, in sentences that quote nothing.
    pub notes: Vec<String>,
}

/// Changes of metadata; what is left out stays.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretPatch {
    /// A new path: a rename, which needs `admin`, and to another folder `admin` of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<SecretPathText>)]
    pub path: Option<SecretPath>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<KindName>)]
    pub kind: Option<Kind>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 1000)]
    pub description: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<TagText>>, max_items = 20)]
    pub tags: Option<Vec<Tag>>,
    /// When it ends; null clears the end.
    #[serde(
        default,
        with = "super::times::patch",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Option<OffsetDateTime>>,
    /// Switched on or off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<bool>,
}

/// Lists what the token may see, by path.
#[utoipa::path(get, path = "/api/v1/secrets", tag = "secrets", params(SecretsAsked),
    responses((status = 200, body = Page<Secret>)))]
pub(super) async fn list(
    State(state): State<AppState>,
    Bearer(caller): Bearer,
    Query(asked): Query<SecretsAsked>,
) -> Result<Json<Page<Secret>>, Problem> {
    let filter = filter_of(&asked)?;
    let limit = pages::limit(asked.limit)?;
    if let Some(days) = asked.due {
        if !(0..=DUE_DAYS_MAX).contains(&days) {
            return Err(Problem::new(
                ProblemKind::Invalid,
                format!("Give a number of days from 0 to {DUE_DAYS_MAX}."),
            )
            .at("due"));
        }
        if asked.cursor.is_some() {
            return Err(Problem::new(
                ProblemKind::Invalid,
                "What is due has one page. Leave the cursor out.",
            )
            .at("cursor"));
        }
        let due = state
            .db
            .secrets_due_within(&caller, days, DUE_LISTED_MAX)
            .await?;
        let ids: Vec<Uuid> = due.iter().map(|due| due.id).collect();
        let found = state.db.secrets_of(&caller, &ids).await?;
        let mut due = due_secrets(due, found, &filter);
        due.truncate(usize::try_from(limit).unwrap_or_default());
        return Ok(Json(Page::last(due)));
    }
    let after: Option<(Handle, SecretPath)> = pages::after(asked.cursor.as_deref())?;
    let found = state
        .db
        .secrets_page(&caller, &filter, after.as_ref(), limit + 1)
        .await?;
    let page = Page::of(found, limit, |last| {
        Cursor::new(&(last.owner.as_str(), last.path.as_str()))
    });
    Ok(Json(page.map(Secret::from)))
}

fn filter_of(asked: &SecretsAsked) -> Result<SecretFilter, Problem> {
    let kind = |name: &String| {
        Kind::from_name(name).ok_or_else(|| {
            let kinds = Kind::ALL.map(Kind::as_str).join(", ");
            Problem::new(
                ProblemKind::Invalid,
                format!("There is no such kind. Kinds are {kinds}."),
            )
            .at("kind")
        })
    };
    let present = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    Ok(SecretFilter {
        text: pages::words(&asked.q, "q")?.to_owned(),
        owner: present(&asked.owner)
            .map(|owner| Handle::parse(&owner).map_err(|refusal| refusal.at("owner")))
            .transpose()?,
        under: present(&asked.under)
            .map(|under| Folder::parse(&under))
            .transpose()?,
        scope: None,
        kind: present(&asked.kind).as_ref().map(kind).transpose()?,
        tag: present(&asked.tag)
            .map(|tag| Tag::parse(&tag).map_err(|refusal| refusal.at("tag")))
            .transpose()?,
    })
}

/// Those that are due, in their order, with why.
fn due_secrets(due: Vec<Due>, found: Vec<SecretSummary>, filter: &SecretFilter) -> Vec<Secret> {
    let let_through = |secret: &SecretSummary| {
        let words = filter.text.to_lowercase();
        let has = |text: &str| text.to_lowercase().contains(&words);
        (has(secret.path.as_str()) || has(&secret.description))
            && filter
                .owner
                .as_ref()
                .is_none_or(|owner| owner.as_str() == secret.owner)
            && filter
                .under
                .as_ref()
                .is_none_or(|under| under.covers(&secret.path))
            && filter.kind.is_none_or(|kind| kind == secret.kind)
            && filter
                .tag
                .as_ref()
                .is_none_or(|tag| secret.tags.contains(tag))
    };
    let mut found: HashMap<Uuid, SecretSummary> = found
        .into_iter()
        .filter(let_through)
        .map(|secret| (secret.id, secret))
        .collect();
    due.into_iter()
        .filter_map(|due| {
            Some(Secret {
                due: Some(SecretDue {
                    why: due.why.as_str().to_owned(),
                    at: due.at,
                }),
                ..Secret::from(found.remove(&due.id)?)
            })
        })
        .collect()
}

/// Makes a secret, or its next version, under the path of the address. `If-Match: "<version>"` lets it happen only over that version,
/// `If-None-Match: *` only where nothing is. Needs `write`.
#[utoipa::path(put, path = "/api/v1/secrets/{path}", tag = "secrets", request_body = SecretBody,
    params(("path" = KeyPathText, Path,), ("If-Match" = Option<String>, Header,), ("If-None-Match" = Option<String>, Header,)),
    responses((status = 200, description = "A new version of what was there", body = SecretStored, headers(("ETag" = String))),
        (status = 201, description = "Made: nothing was there", body = SecretStored, headers(("ETag" = String))),
        (status = 412, body = Problem)))]
pub(super) async fn put(
    State(state): State<AppState>,
    Bearer(caller): Bearer,
    Key(key): Key,
    headers: HeaderMap,
    Json(body): Json<SecretBody>,
) -> Result<Response, Problem> {
    if body.path.is_some() || body.key.is_some() {
        return Err(Problem::new(
            ProblemKind::Invalid,
            "The address says the path: leave it out of the body.",
        )
        .at("path"));
    }
    let expected = expected(&headers)?;
    store(&state, caller, key, body, expected).await
}

/// Makes a secret, or its next version, under the path that the body names. `If-Match: "<version>"` lets it happen only over that
/// version, `If-None-Match: *` only where nothing is. Needs `write`.
#[utoipa::path(post, path = "/api/v1/secrets", tag = "secrets", request_body = SecretBody,
    params(("If-Match" = Option<String>, Header,), ("If-None-Match" = Option<String>, Header,)),
    responses((status = 200, description = "A new version of what was there", body = SecretStored, headers(("ETag" = String))),
        (status = 201, description = "Made: nothing was there", body = SecretStored, headers(("ETag" = String))),
        (status = 412, body = Problem)))]
pub(super) async fn post(
    State(state): State<AppState>,
    Bearer(caller): Bearer,
    headers: HeaderMap,
    Json(mut body): Json<SecretBody>,
) -> Result<Response, Problem> {
    let key = match (body.path.take(), body.key.take()) {
        (Some(path), None) | (None, Some(path)) => path,
        _ => {
            return Err(Problem::new(ProblemKind::Invalid, "Give one of path and key.").at("path"));
        }
    };
    let expected = expected(&headers)?;
    store(&state, caller, key, body, expected).await
}

async fn store(
    state: &AppState,
    caller: Caller,
    key: KeyPath,
    body: SecretBody,
    expected: Expected,
) -> Result<Response, Problem> {
    let generates = body.generate.is_some();
    let value = match (body.value, body.generate) {
        (Some(value), None) => NewValue::Typed(value),
        (None, Some(generate)) => NewValue::Generated {
            bytes: generate.bytes,
            encoding: match generate.encoding {
                GeneratedAs::Base64Url => Encoding::Base64Url,
                GeneratedAs::Hex => Encoding::Hex,
            },
        },
        _ => {
            return Err(
                Problem::new(ProblemKind::Invalid, "Give one of value and generate.").at("value"),
            );
        }
    };
    let put = SecretPut {
        value,
        kind: body.kind,
        description: body.description,
        tags: body.tags,
        expires_at: body.expires_at,
        expected,
    };
    let done = state.db.secret_put(&caller, &key, put).await;
    let done: Put = done.map_err(|error| at_generate(error.into_refusal(), generates))?;
    let status = match done.created {
        true => StatusCode::CREATED,
        false => StatusCode::OK,
    };
    let stored = SecretStored {
        id: done.id,
        path: key,
        version: done.version,
        created: done.created,
        notes: done.notes,
    };
    Ok((
        status,
        [(header::ETAG, tag_of(stored.version))],
        Json(stored),
    )
        .into_response())
}

/// What is wrong with a value that nobody sent is wrong with how it is made.
fn at_generate(refusal: Refusal, generates: bool) -> Problem {
    match refusal.field.as_deref() {
        Some("value") if generates => refusal.at("generate").into(),
        _ => refusal.into(),
    }
}

/// One secret's metadata, and where it runs.
#[utoipa::path(get, path = "/api/v1/secrets/{path}", tag = "secrets", params(("path" = KeyPathText, Path,)),
    responses((status = 200, body = Secret, headers(("ETag" = String)))))]
pub(super) async fn show(
    State(state): State<AppState>,
    Bearer(caller): Bearer,
    Key(key): Key,
) -> Result<Response, Problem> {
    let found = state.db.secret_at(&caller, &key).await?;
    shown(&state, &caller, found).await
}

async fn shown(
    state: &AppState,
    caller: &Caller,
    found: SecretSummary,
) -> Result<Response, Problem> {
    let runs = state.db.secret_runs(caller, found.id).await?;
    let secret = Secret {
        runs: Some(runs.into_iter().map(RunShown::from).collect()),
        ..Secret::from(found)
    };
    Ok(([(header::ETAG, tag_of(secret.version))], Json(secret)).into_response())
}

/// Changes metadata. A rename needs `admin`, and to another folder `admin` of that; all else `write`.
#[utoipa::path(patch, path = "/api/v1/secrets/{path}", tag = "secrets", request_body = SecretPatch,
    params(("path" = KeyPathText, Path,), ("If-Match" = Option<String>, Header,)),
    responses((status = 200, body = Secret, headers(("ETag" = String))), (status = 412, body = Problem)))]
pub(super) async fn patch(
    State(state): State<AppState>,
    Bearer(caller): Bearer,
    Key(key): Key,
    headers: HeaderMap,
    Json(body): Json<SecretPatch>,
) -> Result<Response, Problem> {
    let found = state
        .db
        .secret_at_for(&caller, &key, Action::SecretEdit)
        .await?;
    check_expected(&headers, &found)?;
    let edit = SecretEdit {
        path: body.path.filter(|path| *path != found.path),
        kind: body.kind,
        description: body.description,
        tags: body.tags,
        expires_at: body.expires_at,
        active: body.active,
        expected: headers
            .contains_key(header::IF_MATCH)
            .then_some(found.version),
    };
    state.db.secret_edit(&caller, found.id, edit).await?;
    let now = state.db.secrets_of(&caller, &[found.id]).await?;
    match now.into_iter().next() {
        Some(now) => shown(&state, &caller, now).await,
        // Renamed out of this token's sight.
        None => Err(Problem::new(
            ProblemKind::NotFound,
            "It was changed, and is out of this token's sight now.",
        )),
    }
}

/// Deletes a secret with all its versions, for good.
#[utoipa::path(delete, path = "/api/v1/secrets/{path}", tag = "secrets",
    params(("path" = KeyPathText, Path,), ("If-Match" = Option<String>, Header,)),
    responses((status = 204), (status = 412, body = Problem)))]
pub(super) async fn delete(
    State(state): State<AppState>,
    Bearer(caller): Bearer,
    Key(key): Key,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let found = state
        .db
        .secret_at_for(&caller, &key, Action::SecretDelete)
        .await?;
    check_expected(&headers, &found)?;
    let expected = headers
        .contains_key(header::IF_MATCH)
        .then_some(found.version);
    state.db.secret_delete(&caller, found.id, expected).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The version of a secret, as an ETag.
pub(super) fn tag_of(version: i32) -> HeaderValue {
    HeaderValue::try_from(format!("\"{version}\"")).unwrap_or(HeaderValue::from_static("\"0\""))
}

/// What the request says has to stand there. Errors: a header that names no version.
fn expected(headers: &HeaderMap) -> Result<Expected, Problem> {
    let text = |name| {
        headers
            .get(name)
            .map(|value: &HeaderValue| value.to_str().unwrap_or_default().trim())
    };
    match (text(header::IF_MATCH), text(header::IF_NONE_MATCH)) {
        (None, None) => Ok(Expected::Anything),
        (None, Some("*")) => Ok(Expected::Nothing),
        (Some(tag), None) => {
            let version = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
            version
                .and_then(|version| version.parse().ok())
                .filter(|version| *version > 0)
                .map(Expected::Version)
                .ok_or_else(|| {
                    Problem::new(
                        ProblemKind::Malformed,
                        "If-Match names a version in quotes, as in \"3\".",
                    )
                    .at("if-match")
                })
        }
        (None, Some(_)) => Err(Problem::new(
            ProblemKind::Malformed,
            "If-None-Match is understood as * alone: store it only where nothing is.",
        )
        .at("if-none-match")),
        (Some(_), Some(_)) => Err(Problem::new(
            ProblemKind::Malformed,
            "Give one of If-Match and If-None-Match.",
        )
        .at("if-match")),
    }
}

pub(super) fn check_expected(headers: &HeaderMap, found: &SecretSummary) -> Result<(), Problem> {
    match expected(headers)? {
        Expected::Version(version) if version != found.version => Err(Problem::new(
            ProblemKind::PreconditionFailed,
            format!(
                "The secret is at version {} and not at {version}. Look at it again, then decide.",
                found.version
            ),
        )
        .at("if-match")),
        Expected::Nothing => Err(Problem::new(
            ProblemKind::Malformed,
            "If-None-Match has no meaning here.",
        )
        .at("if-none-match")),
        _ => Ok(()),
    }
}
