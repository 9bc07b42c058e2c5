//! `/deployments/<name>/events`: what happens to a deployment, for its page. Server-sent events `state` (with the steps of the newest
//! release), `line` and `end`, while the session lasts.

use axum::Extension;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::response::sse::Event;
use serde::Deserialize;
use serde_json::json;
use tower_sessions::Session;
use tower_sessions::session::Id;

use super::AppState;
use super::identity::plain;
use crate::doors::follow::{Followed, LINES, Over, Streams, Teller, follow, last_event_id};
use crate::model::actors::Caller;
use crate::model::deployments::{DeploymentDetail, LogLine};
use crate::model::errors::Refusal;
use crate::model::paths::DeploymentName;
use crate::store;

/// Where the page's own lines end; a browser that resumes says it by `Last-Event-ID`.
#[derive(Deserialize)]
pub(super) struct Resume {
    after: Option<i64>,
}

pub(super) async fn events(
    State(state): State<AppState>,
    Extension(streams): Extension<Streams>,
    Extension(caller): Extension<Caller>,
    session: Session,
    Path(name): Path<String>,
    Query(resume): Query<Resume>,
    headers: HeaderMap,
) -> Response {
    let name = match DeploymentName::parse(&name) {
        Ok(name) => name,
        Err(refusal) => return plain(&refusal),
    };
    let Some(session) = session.id() else {
        return plain(&Refusal::internal());
    };
    let followed = Followed {
        name,
        after: last_event_id(&headers).or(resume.after),
        newest: LINES,
    };
    let page = Page {
        session,
        shown: String::new(),
    };
    match follow(state, &streams, caller, followed, page).await {
        Ok(response) => response,
        Err(refusal) => plain(&refusal),
    }
}

/// A page that follows, while its session lasts.
struct Page {
    session: Id,
    shown: String,
}

impl Teller for Page {
    async fn lasts(&self, state: &AppState, caller: &Caller) -> store::Result<bool> {
        state.db.session_lasts(caller, &self.session).await
    }

    fn tell(&mut self, detail: &DeploymentDetail) -> Vec<Event> {
        let shown = summary(detail);
        if shown == self.shown {
            return Vec::new();
        }
        let event = Event::default().event("state").data(&shown);
        self.shown = shown;
        vec![event]
    }

    fn line(&self, line: &LogLine) -> String {
        json!({
            "seq": line.seq,
            "release": line.release,
            "at": line.at.unix_timestamp(),
            "stream": line.stream,
            "line": line.line,
        })
        .to_string()
    }

    fn over(&self, _: &DeploymentDetail) -> Option<Over> {
        None
    }

    fn gone(&self) -> String {
        "gone".into()
    }
}

/// State and steps in one, so that a page is redrawn from one event.
fn summary(detail: &DeploymentDetail) -> String {
    let steps = detail.releases.first().map(|release| {
        json!({
            "number": release.number,
            "state": release.state,
            "steps": release.steps.iter().map(|step| json!({
                "name": step.name,
                "state": step.state,
                "detail": step.detail,
                "took_ms": step.started_at.zip(step.ended_at).map(|(began, ended)| (ended - began).whole_milliseconds() as i64),
            })).collect::<Vec<_>>(),
        })
    });
    json!({
        "state": detail.summary.state,
        "reason": detail.summary.reason,
        "gist": detail.gist(),
        "release": steps,
    })
    .to_string()
}
