//! `/deployments/{name}/logs`: what happens to a deployment, as server-sent events `step`, `line`, `state` and `end`.

use std::collections::BTreeMap;

use axum::Extension;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::response::sse::Event;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

use super::bearer::Bearer;
use super::bodies::{Path, Query};
use super::deployments::{DeploymentNameText, DeploymentStateName, ReleaseStateName};
use super::problems::{Problem, ProblemKind};
use crate::doors::follow::{Followed, LINES, Over, Streams, Teller, follow, last_event_id};
use crate::doors::web::AppState;
use crate::model::actors::Caller;
use crate::model::deployments::{
    DeploymentDetail, DeploymentState, LogLine, ReleaseState, ReleaseSummary,
};
use crate::model::paths::DeploymentName;
use crate::store;

/// Lines that one can begin with, at most.
const TAIL_MAX: i64 = 1_000;

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct LogsAsked {
    /// Lines after this one, by its `seq`; `Last-Event-ID` counts more. Without both it begins with the newest.
    #[param(minimum = 0)]
    pub after: Option<i64>,
    /// How many of the newest it begins with: 200 unless said otherwise.
    #[param(minimum = 1, maximum = 1000)]
    pub tail: Option<i64>,
    /// `false`: what there is, then `end`.
    pub follow: Option<bool>,
    /// `end` comes with the end of this release.
    #[param(minimum = 1)]
    pub release: Option<i32>,
}

/// The data of `line`: one masked line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LineEvent {
    /// Rises with each line; the id of the event too.
    pub seq: i64,
    pub release: i32,
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// `stdout`, `stderr`, `install` or `sealport`.
    pub stream: String,
    pub line: String,
}

/// The data of `state`: where the deployment stands, and its newest release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StateEvent {
    #[schema(value_type = DeploymentStateName)]
    pub state: DeploymentState,
    pub reason: Option<String>,
    pub release: Option<ReleaseEvent>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReleaseEvent {
    pub number: i32,
    #[schema(value_type = ReleaseStateName)]
    pub state: ReleaseState,
    pub reason: Option<String>,
}

/// The data of `step`: one of the newest release, when it changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StepEvent {
    pub release: i32,
    pub name: String,
    /// `waiting`, `running`, `done` or `failed`.
    pub state: String,
    pub detail: String,
    pub took_ms: Option<i64>,
}

/// The data of `end`. A stream that ends without it is to be resumed with `Last-Event-ID`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EndEvent {
    pub why: EndWhy,
    /// The release that was waited for, as it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<ReleaseEvent>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EndWhy {
    /// All lines that there are were sent.
    AllTold,
    /// The release has ended.
    Released,
    /// The deployment is not there any more, or not for this token.
    Gone,
}

/// Follows a deployment: its log, the steps of its newest release, and its state. The events are `line` (with `seq` as their id), `step`,
/// `state` and `end`; a stream without `end` is to be resumed with `Last-Event-ID`, after five minutes at the latest. Needs `read`.
#[utoipa::path(get, path = "/api/v1/deployments/{name}/logs", tag = "deployments",
    params(("name" = DeploymentNameText, Path,), LogsAsked, ("Last-Event-ID" = Option<i64>, Header,)),
    responses((status = 200, description = "Server-sent events", content_type = "text/event-stream", body = String),
        (status = 404, body = Problem)))]
pub(super) async fn logs(
    State(state): State<AppState>,
    Extension(streams): Extension<Streams>,
    Bearer(caller): Bearer,
    Path(name): Path<DeploymentName>,
    Query(asked): Query<LogsAsked>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let newest = match asked.tail.unwrap_or(LINES) {
        tail @ 1..=TAIL_MAX => tail,
        _ => {
            return Err(Problem::new(
                ProblemKind::Invalid,
                format!("A stream begins with 1 to {TAIL_MAX} lines."),
            )
            .at("tail"));
        }
    };
    let awaited = match asked.release {
        Some(number) => Some(state.db.release_show(&caller, &name, number).await?),
        None => None,
    };
    let program = Program {
        follows: asked.follow.unwrap_or(true),
        awaited,
        state: None,
        steps: BTreeMap::new(),
    };
    let followed = Followed {
        name,
        after: last_event_id(&headers).or(asked.after),
        newest,
    };
    Ok(follow(state, &streams, caller, followed, program).await?)
}

/// A program that follows. Its token is checked by each read.
struct Program {
    follows: bool,
    /// The release whose end is the end, as it was at first.
    awaited: Option<ReleaseSummary>,
    state: Option<StateEvent>,
    /// The steps that were told, by release and name.
    steps: BTreeMap<(i32, String), StepEvent>,
}

impl Teller for Program {
    async fn lasts(&self, _: &AppState, _: &Caller) -> store::Result<bool> {
        Ok(true)
    }

    fn tell(&mut self, detail: &DeploymentDetail) -> Vec<Event> {
        let mut events = Vec::new();
        if let Some(newest) = detail.releases.first() {
            self.steps.retain(|(number, _), _| *number == newest.number);
            for step in steps(newest) {
                let key = (step.release, step.name.clone());
                if self.steps.get(&key) != Some(&step) {
                    events.push(event("step", &step));
                    self.steps.insert(key, step);
                }
            }
        }
        let state = StateEvent {
            state: detail.summary.state,
            reason: detail.summary.reason.clone(),
            release: detail.releases.first().map(release),
        };
        if self.state.as_ref() != Some(&state) {
            events.push(event("state", &state));
            self.state = Some(state);
        }
        events
    }

    fn line(&self, line: &LogLine) -> String {
        json(&LineEvent {
            seq: line.seq,
            release: line.release,
            at: line.at,
            stream: line.stream.clone(),
            line: line.line.clone(),
        })
    }

    fn over(&self, detail: &DeploymentDetail) -> Option<Over> {
        if let Some(awaited) = &self.awaited {
            let is_it = |release: &&ReleaseSummary| release.number == awaited.number;
            let now = detail.releases.iter().find(is_it).unwrap_or(awaited);
            // What is not among the newest any more has ended long ago.
            let is_old = !detail.releases.iter().any(|release| is_it(&release));
            let under_way = [ReleaseState::Queued, ReleaseState::Running].contains(&now.state);
            if is_old || !under_way {
                return Some(Over {
                    data: json(&EndEvent {
                        why: EndWhy::Released,
                        release: Some(release(now)),
                    }),
                    lingers: self.follows,
                });
            }
        }
        (!self.follows).then(|| Over {
            data: json(&EndEvent {
                why: EndWhy::AllTold,
                release: None,
            }),
            lingers: false,
        })
    }

    fn gone(&self) -> String {
        json(&EndEvent {
            why: EndWhy::Gone,
            release: None,
        })
    }
}

fn steps(release: &ReleaseSummary) -> impl Iterator<Item = StepEvent> {
    let number = release.number;
    release.steps.iter().map(move |step| StepEvent {
        release: number,
        name: step.name.as_str().to_owned(),
        state: step.state.clone(),
        detail: step.detail.clone(),
        took_ms: step
            .started_at
            .zip(step.ended_at)
            .map(|(began, ended)| (ended - began).whole_milliseconds() as i64),
    })
}

fn release(release: &ReleaseSummary) -> ReleaseEvent {
    ReleaseEvent {
        number: release.number,
        state: release.state,
        reason: release.reason.clone(),
    }
}

fn event(name: &str, data: &impl Serialize) -> Event {
    Event::default().event(name).data(json(data))
}

/// Words and numbers always become JSON.
fn json(data: &impl Serialize) -> String {
    serde_json::to_string(data).unwrap_or_default()
}
