//! Following a deployment as it happens, by server-sent events, for pages and for programs. What is told is read with the caller's rights
//! at that moment; a stream ends by itself after a while and is resumed by `Last-Event-ID`.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt, stream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tracing::Instrument;
use uuid::Uuid;

use super::web::AppState;
use crate::model::actors::Caller;
use crate::model::deployments::{DeploymentDetail, LogLine};
use crate::model::errors::{Refusal, RefusalKind};
use crate::model::levels::Level;
use crate::model::paths::DeploymentName;
use crate::store;

/// The slow poll that is relied on; a change on this server only hastens it.
pub const POLL: Duration = Duration::from_secs(1);
/// No sooner again than this, however fast a server writes.
pub const REST: Duration = Duration::from_millis(100);
/// Lines of one read.
pub const LINES: i64 = 200;
/// A stream ends after this long; whoever follows resumes it.
const STREAM_LIFE: Duration = Duration::from_secs(300);

/// What is ready waits so long for its reader; then the stream ends, to be resumed by whoever comes back.
const READER_TIMEOUT: Duration = Duration::from_secs(30);
/// Events on their way to a reader.
const UNDER_WAY: usize = 16;

/// Streams of one person at once, over all windows or all tokens; a stream asks the database each second.
const STREAMS_OF_ONE: usize = 20;
/// Streams of everybody at once, on this server.
const STREAMS_OF_ALL: usize = 200;

/// Who follows how many deployments now.
#[derive(Clone, Default)]
pub struct Streams(Arc<Mutex<HashMap<Uuid, usize>>>);

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
                "Too many follow deployments at once. Close some pages or streams.",
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

/// What a door makes of what it sees.
pub trait Teller: Send + 'static {
    /// Whether the credential lasts, beyond what each read asks anyway.
    fn lasts(
        &self,
        state: &AppState,
        caller: &Caller,
    ) -> impl Future<Output = store::Result<bool>> + Send;

    /// The events for what is new in it.
    fn tell(&mut self, detail: &DeploymentDetail) -> Vec<Event>;

    fn line(&self, line: &LogLine) -> String;

    /// Whether it is over with what was told; asked when there is nothing new.
    fn over(&self, detail: &DeploymentDetail) -> Option<Over>;

    /// The data of `end` for a deployment that is not there any more, or not to be seen.
    fn gone(&self) -> String;
}

/// The end of what is to be told.
pub struct Over {
    /// The data of `end`.
    pub data: String,
    /// Last lines may still be on their way.
    pub lingers: bool,
}

/// Where the lines that are known end: what a browser or a program that resumes says by `Last-Event-ID`.
pub fn last_event_id(headers: &HeaderMap) -> Option<i64> {
    let id = headers.get("last-event-id")?;
    id.to_str().ok()?.parse().ok()
}

/// What is followed, and from where on.
pub struct Followed {
    pub name: DeploymentName,
    /// After this line; none: the newest.
    pub after: Option<i64>,
    /// So many of the newest.
    pub newest: i64,
}

/// A stream of its events. Errors: `NotFound`, with `use` alone too; `TooMany`.
pub async fn follow(
    state: AppState,
    streams: &Streams,
    caller: Caller,
    followed: Followed,
    teller: impl Teller,
) -> Result<Response, Refusal> {
    let shown = state.db.deployment_show(&caller, &followed.name).await;
    // There is nothing to follow with `use` alone.
    if shown.map_err(store::Error::into_refusal)?.summary.level < Level::Read {
        return Err(Refusal::not_found("deployment’s log"));
    }
    let user_id = caller.user().ok_or_else(Refusal::internal)?.id;
    let follow = Follow {
        state,
        caller,
        followed,
        teller,
        waiting: VecDeque::new(),
        ends_at: tokio::time::Instant::now() + STREAM_LIFE,
        is_ending: false,
        stumbled: false,
        over: false,
    };
    let events = stream::unfold(follow, async |mut follow| {
        loop {
            if let Some(event) = follow.waiting.pop_front() {
                return Some((event, follow));
            }
            if follow.over || tokio::time::Instant::now() > follow.ends_at {
                return None;
            }
            follow.go_on().await;
        }
    });
    sent(streams, user_id, events)
}

/// Sends events to one of the person's pages or programs. Errors: `TooMany`.
pub fn sent(
    streams: &Streams,
    user_id: Uuid,
    events: impl Stream<Item = Event> + Send + 'static,
) -> Result<Response, Refusal> {
    let counted = streams.count(user_id)?;
    let events = counted_stream(
        counted,
        events,
        STREAM_LIFE + READER_TIMEOUT,
        READER_TIMEOUT,
    );
    Ok(Sse::new(events.map(Ok::<_, Infallible>))
        .keep_alive(KeepAlive::default())
        .into_response())
}

/// A stream that counts as long as it goes on, and goes on without its reader: a body is asked for more only while somebody reads it, so
/// one that nobody reads would count for good.
fn counted_stream(
    counted: Counted,
    events: impl Stream<Item = Event> + Send + 'static,
    life: Duration,
    reader_timeout: Duration,
) -> impl Stream<Item = Event> + Send + 'static {
    let (to_reader, from_here) = mpsc::channel(UNDER_WAY);
    let place = Place(Arc::new(Mutex::new(Some(counted))));
    let readers_place = Place(place.0.clone());
    let gone = to_reader.clone();
    let told = async move {
        let mut events = std::pin::pin!(events);
        while let Some(event) = events.next().await {
            let sent = to_reader.send_timeout(event, reader_timeout).await;
            if sent.is_err() {
                return;
            }
        }
    };
    let watched = async move {
        let _place = place;
        tokio::select! {
            _ = tokio::time::timeout(life, told) => {}
            () = gone.closed() => {}
        }
    };
    tokio::spawn(watched.in_current_span());
    ReceiverStream::new(from_here).inspect(move |_| {
        let _ = &readers_place;
    })
}

/// What is counted, for who tells and for who reads: whichever ends first gives it back.
struct Place(Arc<Mutex<Option<Counted>>>);

impl Drop for Place {
    fn drop(&mut self) {
        let counted = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(counted);
    }
}

struct Follow<T> {
    state: AppState,
    caller: Caller,
    followed: Followed,
    teller: T,
    waiting: VecDeque<Event>,
    ends_at: tokio::time::Instant,
    /// It looked as if it were over; lines may still be on their way.
    is_ending: bool,
    /// The last look failed.
    stumbled: bool,
    over: bool,
}

impl<T: Teller> Follow<T> {
    async fn go_on(&mut self) {
        let looked = self.look().await;
        let stumbled = std::mem::replace(
            &mut self.stumbled,
            matches!(looked, Err(store::Error::Broken(..))),
        );
        match looked {
            Ok(true) if self.waiting.is_empty() => {
                let _ = tokio::time::timeout(POLL, self.state.deployer.changed()).await;
                tokio::time::sleep(REST).await;
            }
            Ok(true) => {}
            Err(store::Error::Refused(_)) => self.end(self.teller.gone()),
            // Without a word: whoever is signed in again by now, or finds the database again, comes back and goes on.
            Ok(false) => self.over = true,
            Err(error) => {
                error.into_refusal();
                // What goes while it is read looks like a fault, once; the next look finds that it is gone.
                self.over = stumbled;
                tokio::time::sleep(REST).await;
            }
        }
    }

    fn end(&mut self, data: String) {
        self.over = true;
        self.waiting
            .push_back(Event::default().event("end").data(data));
    }

    /// Reads what is new; false when the credential does not last.
    async fn look(&mut self) -> store::Result<bool> {
        if !self.teller.lasts(&self.state, &self.caller).await? {
            return Ok(false);
        }
        let db = &self.state.db;
        let name = &self.followed.name;
        let detail = db.deployment_show(&self.caller, name).await?;
        self.waiting.extend(self.teller.tell(&detail));
        let (after, limit) = match self.followed.after {
            Some(after) => (Some(after), LINES),
            None => (None, self.followed.newest),
        };
        let lines = db.log_read(&self.caller, name, after, limit).await?;
        for line in lines {
            self.followed.after = Some(line.seq);
            let event = Event::default().event("line").id(line.seq.to_string());
            self.waiting.push_back(event.data(self.teller.line(&line)));
        }
        if self.waiting.is_empty()
            && let Some(over) = self.teller.over(&detail)
        {
            if self.is_ending || !over.lingers {
                self.end(over.data);
            }
            self.is_ending = true;
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SHORT: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_secs(600);

    /// Until nobody is counted any more.
    async fn nobody(streams: &Streams) {
        let none = async {
            while !streams.0.lock().unwrap().is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), none)
            .await
            .unwrap();
    }

    fn endless() -> impl Stream<Item = Event> {
        stream::repeat_with(Event::default)
    }

    #[tokio::test]
    async fn a_stream_that_nobody_reads_ends_and_counts_no_more() {
        let streams = Streams::default();
        let user_id = Uuid::now_v7();
        // There is always something for a reader who never comes.
        let unread = counted_stream(streams.count(user_id).unwrap(), endless(), LONG, SHORT);
        nobody(&streams).await;
        // What was on its way is still there, and then it is over.
        assert_eq!(unread.count().await, UNDER_WAY);
        // Nothing comes, and its time is up.
        let counted = streams.count(user_id).unwrap();
        let silent = counted_stream(counted, stream::pending(), SHORT, LONG);
        nobody(&streams).await;
        assert_eq!(silent.count().await, 0);
        // Its reader goes.
        let counted = streams.count(user_id).unwrap();
        drop(counted_stream(counted, stream::pending(), LONG, LONG));
        nobody(&streams).await;
    }

    #[tokio::test]
    async fn a_stream_that_is_read_is_read_whole() {
        let streams = Streams::default();
        let counted = streams.count(Uuid::now_v7()).unwrap();
        let events = endless().take(UNDER_WAY * 20);
        let read = counted_stream(counted, events, LONG, LONG);
        assert_eq!(read.count().await, UNDER_WAY * 20);
        nobody(&streams).await;
    }
}
