//! An answer that comes as a stream of events and outlives its connection, as sessions have it: whoever was cut off asks for what
//! followed the last event that arrived.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::response::Response;
use axum::response::sse::Event;
use futures::{Stream, StreamExt as _, stream};
use serde_json::Value;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::events;
use super::room::Held;
use super::wire::events_of;

/// Events of one answer that are kept; a client that reads more slowly loses notifications.
const EVENTS: usize = 64;
/// How long an answer that was given stays for whoever did not get it.
const KEPT_FOR: Duration = Duration::from_secs(60);
/// One that nobody reads any more stays only when it is no longer than this.
const KEPT_BYTES: usize = 64 << 10;
/// When a client that was cut off may ask again.
const RETRY: Duration = Duration::from_secs(1);

/// The events of one answer.
pub(super) struct EventLog {
    id: u64,
    /// Whether its client knows events without data, which tell it the stream's name before there is anything to say.
    is_primed: bool,
    state: Mutex<State>,
    changed: Notify,
    forgotten: CancellationToken,
}

#[derive(Default)]
struct State {
    kept: VecDeque<Kept>,
    last: u64,
    /// The last that was handed to a connection.
    written: u64,
    is_done: bool,
    /// The connection that reads; one that comes later takes its place.
    reader: u64,
    is_read: bool,
}

impl State {
    /// What nobody reads is kept only when it is short: memory is for those who read.
    fn trim(&mut self) {
        let bytes: usize = self.kept.iter().map(|kept| kept.text.len()).sum();
        if self.is_done && !self.is_read && bytes > KEPT_BYTES {
            self.kept.clear();
        }
    }
}

/// A connection that reads, until it goes.
struct Reader {
    log: Arc<EventLog>,
    number: u64,
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.log.state();
        if state.reader == self.number {
            state.is_read = false;
            state.trim();
            drop(state);
            self.log.changed.notify_waiters();
        }
    }
}

struct Kept {
    number: u64,
    text: String,
    held: Held,
}

impl EventLog {
    pub fn new(is_primed: bool) -> Arc<Self> {
        Arc::new(Self {
            id: rand::random(),
            is_primed,
            state: Mutex::default(),
            changed: Notify::new(),
            forgotten: CancellationToken::new(),
        })
    }

    pub fn id(&self) -> u64 {
        self.id
    }

    /// The stream and the event in it that a client names as the last it got.
    pub fn parse(last_event: &str) -> Option<(u64, u64)> {
        let (id, number) = last_event.split_once('-')?;
        Some((u64::from_str_radix(id, 16).ok()?, number.parse().ok()?))
    }

    pub fn push(&self, message: &Value, mut held: Held) {
        let text = message.to_string();
        held.shrink(text.len());
        let is_question_or_answer = message.get("id").is_some();
        let mut state = self.state();
        if state.kept.len() >= EVENTS {
            match state.kept.front() {
                Some(first) if first.number <= state.written => {
                    state.kept.pop_front();
                }
                _ if !is_question_or_answer => return,
                _ => {}
            }
        }
        state.last += 1;
        let number = state.last;
        state.kept.push_back(Kept { number, text, held });
        drop(state);
        self.changed.notify_waiters();
    }

    /// Nothing follows; what is there is kept for a while. Returns when it was forgotten.
    pub async fn finish(&self) {
        {
            let mut state = self.state();
            state.is_done = true;
            state.trim();
        }
        self.changed.notify_waiters();
        tokio::select! {
            () = tokio::time::sleep(KEPT_FOR) => {}
            () = self.forgotten.cancelled() => {}
        }
        // Whoever still reads gets all of it; one that does not read is cut off by the door.
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if !self.state().is_read {
                break;
            }
            changed.await;
        }
        self.state().kept.clear();
    }

    /// Makes room for others.
    pub fn forget(&self) {
        self.forgotten.cancel();
    }

    /// What follows the event of that number, to the end.
    pub fn response(self: &Arc<Self>, after: u64) -> Response {
        let number = {
            let mut state = self.state();
            state.reader += 1;
            state.is_read = true;
            state.reader
        };
        let reader = Reader {
            log: Arc::clone(self),
            number,
        };
        self.changed.notify_waiters();
        let response = events_of(follow(reader, after));
        if !self.is_primed || after > 0 {
            return response;
        }
        // By hand: the library leaves empty data out, and with it the event.
        let primer = events::Event {
            id: Some(self.name(0)),
            retry: u64::try_from(RETRY.as_millis()).ok(),
            data: Some(String::new()),
            ..events::Event::default()
        };
        let primer = stream::iter([Ok(Bytes::from(primer.write()))]);
        response.map(|body| Body::from_stream(primer.chain(body.into_data_stream())))
    }

    /// The event after that number, once there is one; none after the last.
    async fn event(&self, reader: u64, after: u64) -> Option<(u64, String, Option<Held>)> {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // Before looking, so that what changes in between is not missed.
            changed.as_mut().enable();
            match self.next(reader, after) {
                Next::Event(number, text, held) => return Some((number, text, held)),
                Next::End => return None,
                Next::Later => changed.await,
            }
        }
    }

    fn next(&self, reader: u64, after: u64) -> Next {
        let mut state = self.state();
        if state.reader != reader {
            return Next::End;
        }
        let place = state.kept.iter().position(|kept| kept.number > after);
        if let Some(place) = place {
            let is_long = state.kept[place].text.len() > KEPT_BYTES;
            // One that is long is handed over once, with its room: copies of it would have none.
            let (number, text, held) = match state.kept.remove(place) {
                Some(kept) if is_long => (kept.number, kept.text, Some(kept.held)),
                Some(kept) => {
                    let (number, text) = (kept.number, kept.text.clone());
                    state.kept.insert(place, kept);
                    (number, text, None)
                }
                None => return Next::End,
            };
            state.written = state.written.max(number);
            return Next::Event(number, text, held);
        }
        match state.is_done {
            true => Next::End,
            false => Next::Later,
        }
    }

    fn name(&self, number: u64) -> String {
        format!("{:016x}-{number}", self.id)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn follow(
    reader: Reader,
    after: u64,
) -> impl Stream<Item = Result<Event, Infallible>> + Send + 'static {
    stream::unfold(
        (reader, after, None),
        |(reader, after, written)| async move {
            drop::<Option<Held>>(written);
            let (number, text, held) = reader.log.event(reader.number, after).await?;
            let event = Event::default().event("message");
            let event = event.id(reader.log.name(number)).data(text);
            Some((Ok(event), (reader, number, held)))
        },
    )
}

enum Next {
    Event(u64, String, Option<Held>),
    Later,
    End,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;
    use uuid::Uuid;

    use super::super::{ClientKey, Room};
    use super::*;

    fn held() -> Held {
        Room::default().hold(ClientKey(Uuid::nil()))
    }

    async fn read(response: Response) -> String {
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await;
        String::from_utf8(bytes.unwrap().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn who_was_cut_off_gets_what_followed() {
        let log = EventLog::new(true);
        log.push(&json!({"method": "one"}), held());
        log.push(&json!({"method": "two"}), held());
        let cut_off = log.response(0);
        log.push(&json!({"id": 1, "result": {}}), held());
        let finished = tokio::spawn({
            let log = Arc::clone(&log);
            async move { log.finish().await }
        });
        // The one that was there before ends with nothing, since another came.
        let again = log.response(EventLog::parse(&log.name(1)).unwrap().1);
        let name = |number| format!("id: {}", log.name(number));
        let first = read(cut_off).await;
        assert!(first.starts_with(&name(0)), "{first}");
        assert!(!first.contains("one"), "{first}");
        let rest = read(again).await;
        assert!(!rest.contains("one"), "{rest}");
        assert!(rest.contains(&name(2)) && rest.contains(&name(3)), "{rest}");
        log.forget();
        finished.await.unwrap();
        assert_eq!(read(log.response(1)).await, "");
    }

    #[tokio::test]
    async fn one_that_makes_room_is_read_to_its_end() {
        let log = EventLog::new(false);
        let reading = log.response(0);
        log.forget();
        log.push(&json!({"id": 1, "result": {}}), held());
        let finished = tokio::spawn({
            let log = Arc::clone(&log);
            async move { log.finish().await }
        });
        tokio::task::yield_now().await;
        assert!(read(reading).await.contains("result"));
        finished.await.unwrap();
        assert!(log.state().kept.is_empty());
    }

    #[test]
    fn a_reader_who_is_too_slow_loses_notifications_and_no_answer() {
        let log = EventLog::new(false);
        for number in 0..2 * EVENTS {
            log.push(&json!({"method": "told", "params": number}), held());
        }
        log.push(&json!({"id": 1, "result": {}}), held());
        let state = log.state();
        assert_eq!(state.kept.len(), EVENTS + 1);
        assert!(state.kept.back().unwrap().text.contains("result"));
    }
}
