//! `/deployments/<name>/events`: what happens to a deployment, as it happens. Server-sent events `state` (with the steps of the
//! newest release), `line` and `end`, resumable by `Last-Event-ID`; each read is made with the caller's rights at that moment,
//! while the session lasts.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Extension;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde::Deserialize;
use serde_json::json;
use tower_sessions::Session;
use tower_sessions::session::Id;
use uuid::Uuid;

use super::AppState;
use super::identity::plain;
use crate::model::actors::Caller;
use crate::model::deployments::DeploymentDetail;
use crate::model::errors::{Refusal, RefusalKind};
use crate::model::levels::Level;
use crate::model::paths::DeploymentName;
use crate::store;

/// The slow poll that is relied on; a change on this server only hastens it.
const POLL: Duration = Duration::from_secs(1);
/// No sooner again than this, however fast a server writes.
const REST: Duration = Duration::from_millis(100);
/// Lines of one read.
const LINES: i64 = 200;
/// A stream ends after this long; the browser resumes it.
const STREAM_LIFE: Duration = Duration::from_secs(300);

/// Streams of one person at once, over all their windows; a stream asks the database each second.
const STREAMS_OF_ONE: usize = 20;
/// Streams of everybody at once, on this server.
const STREAMS_OF_ALL: usize = 200;

/// Who follows how many deployments now.
#[derive(Clone, Default)]
pub(super) struct Streams(Arc<Mutex<HashMap<Uuid, usize>>>);

/// One stream that is counted until it is dropped.
struct Counted {
    streams: Streams,
    user_id: Uuid,
}

impl Streams {
    fn count(&self, user_id: Uuid) -> Result<Counted, Refusal> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let theirs = counts.get(&user_id).copied().unwrap_or(0);
        if theirs >= STREAMS_OF_ONE || counts.values().sum::<usize>() >= STREAMS_OF_ALL {
            return Err(Refusal::new(
                RefusalKind::TooMany,
                "Too many pages follow deployments at once. Close some of them.",
            ));
        }
        counts.insert(user_id, theirs + 1);
        drop(counts);
        Ok(Counted {
            streams: self.clone(),
            user_id,
        })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self
            .streams
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match counts.get_mut(&self.user_id) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                counts.remove(&self.user_id);
            }
        }
    }
}

/// Where the page's own lines end; a browser that resumes says it by `Last-Event-ID`.
#[derive(Deserialize)]
pub(super) struct Resume {
    after: Option<i64>,
}

struct Follow {
    state: AppState,
    caller: Caller,
    session: Id,
    name: DeploymentName,
    after: Option<i64>,
    shown: String,
    waiting: VecDeque<Event>,
    ends_at: tokio::time::Instant,
    over: bool,
    _counted: Counted,
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
    match state.db.deployment_show(&caller, &name).await {
        // There is nothing to follow with `use` alone.
        Ok(detail) if detail.summary.level < Level::Read => {
            return plain(&Refusal::not_found("deployment’s log"));
        }
        Ok(_) => {}
        Err(error) => return plain(&error.into_refusal()),
    }
    let (Some(session), Some(user)) = (session.id(), caller.user()) else {
        return plain(&Refusal::internal());
    };
    let counted = match streams.count(user.id) {
        Ok(counted) => counted,
        Err(refusal) => return plain(&refusal),
    };
    let follow = Follow {
        session,
        after: headers
            .get("last-event-id")
            .and_then(|id| id.to_str().ok())
            .and_then(|id| id.parse().ok())
            .or(resume.after),
        state,
        caller,
        name,
        shown: String::new(),
        waiting: VecDeque::new(),
        ends_at: tokio::time::Instant::now() + STREAM_LIFE,
        over: false,
        _counted: counted,
    };
    let events = stream::unfold(follow, async |mut follow| {
        loop {
            if let Some(event) = follow.waiting.pop_front() {
                return Some((Ok::<_, Infallible>(event), follow));
            }
            if follow.over || tokio::time::Instant::now() > follow.ends_at {
                return None;
            }
            match follow.look().await {
                Ok(true) if follow.waiting.is_empty() => {
                    let _ = tokio::time::timeout(POLL, follow.state.deployer.changed()).await;
                    tokio::time::sleep(REST).await;
                }
                Ok(true) => {}
                // Without a word: a browser that is signed in again by now comes back by itself.
                Ok(false) => follow.over = true,
                Err(_) => {
                    follow.over = true;
                    follow
                        .waiting
                        .push_back(Event::default().event("end").data("gone"));
                }
            }
        }
    });
    Sse::new(events)
        .keep_alive(KeepAlive::default())
        .into_response()
}

impl Follow {
    /// Reads what is new; false when the session has ended.
    async fn look(&mut self) -> store::Result<bool> {
        let db = &self.state.db;
        if !db.session_lasts(&self.caller, &self.session).await? {
            return Ok(false);
        }
        let detail = self
            .state
            .db
            .deployment_show(&self.caller, &self.name)
            .await?;
        let shown = summary(&detail);
        if shown != self.shown {
            self.waiting
                .push_back(Event::default().event("state").data(&shown));
            self.shown = shown;
        }
        let lines = self
            .state
            .db
            .log_read(&self.caller, &self.name, self.after, LINES)
            .await?;
        for line in lines {
            self.after = Some(line.seq);
            let data = json!({
                "seq": line.seq,
                "release": line.release,
                "at": line.at.unix_timestamp(),
                "stream": line.stream,
                "line": line.line,
            });
            self.waiting.push_back(
                Event::default()
                    .event("line")
                    .id(line.seq.to_string())
                    .data(data.to_string()),
            );
        }
        Ok(true)
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
