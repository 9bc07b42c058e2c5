//! `/runs/<id>/events`: how a secret's newest value gets to where it runs, for the secret's page. Server-sent events `state`, and `end`
//! when nothing is under way any more, while the session lasts.

use axum::Extension;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::response::sse::Event;
use futures::{Stream, stream};
use serde_json::json;
use tower_sessions::Session;
use tower_sessions::session::Id;
use uuid::Uuid;

use super::AppState;
use super::identity::plain;
use crate::doors::follow::{POLL, REST, Streams, sent};
use crate::model::actors::Caller;
use crate::model::errors::Refusal;
use crate::model::renewals::{SecretRun, gist};
use crate::store;

/// Looks of one stream; whoever follows comes back for more.
const LOOKS_MAX: u32 = 300;

pub(super) async fn events(
    State(state): State<AppState>,
    Extension(streams): Extension<Streams>,
    Extension(caller): Extension<Caller>,
    session: Session,
    Path(id): Path<String>,
) -> Response {
    let Ok(id) = Uuid::parse_str(&id) else {
        return plain(&Refusal::not_found("secret"));
    };
    let (Some(session), Some(user_id)) = (session.id(), caller.user().map(|user| user.id)) else {
        return plain(&Refusal::internal());
    };
    if let Err(error) = state.db.secret_runs(&caller, id).await {
        return plain(&error.into_refusal());
    }
    let look = Look {
        state,
        caller,
        session,
        id,
        shown: String::new(),
        looks: 0,
        over: false,
    };
    match sent(&streams, user_id, look.events()) {
        Ok(response) => response,
        Err(refusal) => plain(&refusal),
    }
}

/// A page that follows where one secret runs.
struct Look {
    state: AppState,
    caller: Caller,
    session: Id,
    id: Uuid,
    shown: String,
    looks: u32,
    over: bool,
}

impl Look {
    fn events(self) -> impl Stream<Item = Event> + Send + 'static {
        stream::unfold(self, async |mut look| {
            while !look.over && look.looks < LOOKS_MAX {
                if let Some(event) = look.next().await {
                    return Some((event, look));
                }
                let changed = look.state.deployer.changed();
                let _ = tokio::time::timeout(POLL, changed).await;
                tokio::time::sleep(REST).await;
            }
            None
        })
    }

    async fn next(&mut self) -> Option<Event> {
        self.looks += 1;
        let runs = match self.read().await {
            Ok(runs) => runs,
            Err(error) => {
                error.into_refusal();
                None
            }
        };
        // Without a word: whoever is signed in again by now, or finds the database again, comes back and goes on.
        let Some(runs) = runs else {
            self.over = true;
            return None;
        };
        let gist = gist(&runs);
        if gist != self.shown {
            self.shown.clone_from(&gist);
            let data = json!({ "gist": gist }).to_string();
            return Some(Event::default().event("state").data(data));
        }
        if runs.iter().any(SecretRun::is_under_way) {
            return None;
        }
        self.over = true;
        Some(Event::default().event("end").data("done"))
    }

    /// None when the session does not last.
    async fn read(&self) -> store::Result<Option<Vec<SecretRun>>> {
        let db = &self.state.db;
        if !db.session_lasts(&self.caller, &self.session).await? {
            return Ok(None);
        }
        db.secret_runs(&self.caller, self.id).await.map(Some)
    }
}
