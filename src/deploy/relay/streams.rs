//! Events that outlive their connection, as sessions have it: of an answer, or what a server tells a session. Whoever was cut off asks
//! for what followed the last event that arrived.

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

use super::ClientKey;
use super::events;
use super::guesses::Guesses;
use super::room::Held;
use super::wire::events_of;

/// Clients of this version and later know events without data.
const PRIMED_SINCE: &str = "2025-11-25";
/// Events of one stream that are kept; a client that reads more slowly loses notifications.
const EVENTS: usize = 64;
/// How long an answer that was given stays for whoever did not get it.
const KEPT_FOR: Duration = Duration::from_secs(60);
/// One that nobody reads any more stays only when it is no longer than this.
const KEPT_BYTES: usize = 64 << 10;
/// What a server told and nobody reads stays up to this.
const TOLD_BYTES: usize = 16 << 10;
/// When a client that was cut off may ask again.
const RETRY: Duration = Duration::from_secs(1);

/// The events of one stream.
pub(super) struct EventLog {
    id: u64,
    /// Whether its client knows events without data, which tell it the stream's name before there is anything to say.
    is_primed: bool,
    /// Whose reading is kept back when much in it was masked; none where that was done before.
    slows: Option<(Guesses, ClientKey)>,
    state: Mutex<State>,
    changed: Notify,
    forgotten: CancellationToken,
}

#[derive(Default)]
struct State {
    kept: VecDeque<Kept>,
    /// Counts what found no room too: what is in a message shows in no number.
    last: u64,
    /// The last that the connection which reads has got.
    written: u64,
    is_done: bool,
    /// The connection that reads; one that comes later takes its place.
    reader: u64,
    is_read: bool,
}

impl State {
    fn kept_bytes(&self) -> usize {
        self.kept.iter().map(|kept| kept.text.len()).sum()
    }

    /// Room for one more: what was written gives way, the oldest first.
    fn make_room(&mut self) {
        while let Some(first) = self.kept.front()
            && first.number <= self.written
            && (self.kept.len() >= EVENTS || self.kept_bytes() > KEPT_BYTES)
        {
            self.kept.pop_front();
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
            self.log.trim(&mut state);
            drop(state);
            self.log.changed.notify_waiters();
        }
    }
}

struct Kept {
    number: u64,
    text: Arc<String>,
    /// Strings in it that were masked.
    masked: usize,
    held: Held,
}

impl EventLog {
    /// For a session of that version.
    pub fn new(version: &str, slows: Option<(Guesses, ClientKey)>) -> Arc<Self> {
        Arc::new(Self {
            id: rand::random(),
            is_primed: version >= PRIMED_SINCE,
            slows,
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
        let text = Arc::new(message.to_string());
        held.shrink(text.len());
        let is_question_or_answer = message.get("id").is_some();
        let mut state = self.state();
        state.make_room();
        if !is_question_or_answer && state.kept.len() >= EVENTS {
            return;
        }
        self.keep(state, text, 0, held);
    }

    /// What a server tells all. The room for it is asked for when it is kept.
    pub fn tell(&self, text: &Arc<String>, masked: usize, hold: impl FnOnce() -> Option<Held>) {
        let mut state = self.state();
        state.make_room();
        let is_long = !state.is_read && state.kept_bytes() + text.len() > TOLD_BYTES;
        if state.is_done || is_long || state.kept.len() >= EVENTS {
            state.last += 1;
            return;
        }
        match hold() {
            Some(held) => self.keep(state, Arc::clone(text), masked, held),
            None => state.last += 1,
        }
    }

    fn keep(&self, mut state: MutexGuard<'_, State>, text: Arc<String>, masked: usize, held: Held) {
        state.last += 1;
        let number = state.last;
        state.kept.push_back(Kept {
            number,
            text,
            masked,
            held,
        });
        drop(state);
        self.changed.notify_waiters();
    }

    /// What nobody reads is kept only when it is short: memory is for those who read.
    fn trim(&self, state: &mut State) {
        if state.is_read {
            return;
        }
        if self.slows.is_some() {
            while state.kept_bytes() > TOLD_BYTES {
                state.kept.pop_front();
            }
        } else if state.is_done && state.kept_bytes() > KEPT_BYTES {
            state.kept.clear();
        }
    }

    /// Nothing follows, and nothing is kept.
    pub fn end(&self) {
        {
            let mut state = self.state();
            state.is_done = true;
            state.kept.clear();
        }
        self.changed.notify_waiters();
    }

    pub fn is_read(&self) -> bool {
        self.state().is_read
    }

    /// Nothing follows; what is there is kept for a while. Returns when it was forgotten.
    pub async fn finish(&self) {
        {
            let mut state = self.state();
            state.is_done = true;
            self.trim(&mut state);
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

    /// What follows the event of that number, or from now on, until the end of it or of `until`. A connection that reads already ends.
    pub fn response(
        self: &Arc<Self>,
        after: Option<u64>,
        until: impl Future<Output = ()> + Send + 'static,
    ) -> Response {
        let (number, from) = {
            let mut state = self.state();
            state.reader += 1;
            state.is_read = true;
            let from = after.map_or(state.last, |after| after.min(state.last));
            // What it does not ask for gives way.
            state.written = from;
            (state.reader, from)
        };
        let reader = Reader {
            log: Arc::clone(self),
            number,
        };
        self.changed.notify_waiters();
        let response = events_of(follow(reader, from).take_until(until));
        if !self.is_primed || after.is_some_and(|after| after > 0) {
            return response;
        }
        // By hand: the library leaves empty data out, and with it the event.
        let primer = events::Event {
            id: Some(self.name(from)),
            retry: u64::try_from(RETRY.as_millis()).ok(),
            data: Some(String::new()),
            ..events::Event::default()
        };
        let primer = stream::iter([Ok(Bytes::from(primer.write()))]);
        response.map(|body| Body::from_stream(primer.chain(body.into_data_stream())))
    }

    /// The event after that number, once there is one; none after the last.
    async fn event(&self, reader: u64, after: u64) -> Option<Handed> {
        let mut waited_for = None;
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // Before looking, so that what changes in between is not missed.
            changed.as_mut().enable();
            match self.next(reader, after, waited_for) {
                Next::Event(handed) => return Some(handed),
                Next::End => return None,
                Next::Later => changed.await,
                Next::Slow(number, masked) => {
                    if let Some((guesses, client)) = &self.slows {
                        guesses.slow(*client, masked).await;
                    }
                    waited_for = Some(number);
                }
            }
        }
    }

    fn next(&self, reader: u64, after: u64, waited_for: Option<u64>) -> Next {
        let mut state = self.state();
        if state.reader != reader {
            return Next::End;
        }
        let place = state.kept.iter().position(|kept| kept.number > after);
        let Some(place) = place else {
            return match state.is_done {
                true => Next::End,
                false => Next::Later,
            };
        };
        let kept = &state.kept[place];
        let (number, text) = (kept.number, Arc::clone(&kept.text));
        if kept.masked > 0 && waited_for != Some(number) {
            return Next::Slow(number, kept.masked);
        }
        // One that is long is handed over once, with its room: a copy of it would have none.
        let held = match text.len() > KEPT_BYTES {
            true => state.kept.remove(place).map(|kept| kept.held),
            false => None,
        };
        state.written = state.written.max(number);
        Next::Event(Handed { number, text, held })
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
            let Handed { number, text, held } = reader.log.event(reader.number, after).await?;
            let event = Event::default()
                .event("message")
                .id(reader.log.name(number));
            Some((Ok(event.data(&*text)), (reader, number, held)))
        },
    )
}

enum Next {
    Event(Handed),
    /// So many strings in it were masked; it is asked for again after a while.
    Slow(u64, usize),
    Later,
    End,
}

/// An event on its way to a connection, with the room that it takes when nothing of it is kept.
struct Handed {
    number: u64,
    text: Arc<String>,
    held: Option<Held>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::future::pending;

    use serde_json::json;
    use uuid::Uuid;

    use super::super::{ClientKey, Room};
    use super::*;

    fn held() -> Held {
        Room::default().hold(ClientKey::alone(Uuid::nil()))
    }

    async fn read(response: Response) -> String {
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await;
        String::from_utf8(bytes.unwrap().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn who_was_cut_off_gets_what_followed() {
        let log = EventLog::new(PRIMED_SINCE, None);
        log.push(&json!({"method": "one"}), held());
        log.push(&json!({"method": "two"}), held());
        let cut_off = log.response(Some(0), pending());
        log.push(&json!({"id": 1, "result": {}}), held());
        let finished = tokio::spawn({
            let log = Arc::clone(&log);
            async move { log.finish().await }
        });
        // The one that was there before ends with nothing, since another came.
        let again = log.response(Some(EventLog::parse(&log.name(1)).unwrap().1), pending());
        let name = |number| format!("id: {}", log.name(number));
        let first = read(cut_off).await;
        assert!(first.starts_with(&name(0)), "{first}");
        assert!(!first.contains("one"), "{first}");
        let rest = read(again).await;
        assert!(!rest.contains("one"), "{rest}");
        assert!(rest.contains(&name(2)) && rest.contains(&name(3)), "{rest}");
        log.forget();
        finished.await.unwrap();
        assert_eq!(read(log.response(Some(1), pending())).await, "");
    }

    #[tokio::test]
    async fn one_that_makes_room_is_read_to_its_end() {
        let log = EventLog::new("2025-06-18", None);
        let reading = log.response(Some(0), pending());
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

    fn told() -> Arc<EventLog> {
        let client = ClientKey::alone(Uuid::nil());
        EventLog::new(PRIMED_SINCE, Some((Guesses::default(), client)))
    }

    fn tell(log: &EventLog, text: &str) {
        log.tell(&Arc::new(text.to_owned()), 0, || Some(held()));
    }

    #[tokio::test]
    async fn what_nobody_reads_is_kept_as_long_as_it_is_short() {
        let log = told();
        let reading = log.response(None, pending());
        for _ in 0..3 {
            tell(&log, &"x".repeat(TOLD_BYTES / 2 + 1));
        }
        assert_eq!(log.state().kept.len(), 3);
        drop(reading);
        assert_eq!(log.state().kept.len(), 1);
        tell(&log, &"x".repeat(TOLD_BYTES / 2));
        assert_eq!(log.state().kept.len(), 1);
    }

    #[tokio::test]
    async fn who_comes_without_a_name_hears_of_what_comes_however_much_was_missed() {
        let log = told();
        for number in 0..2 * EVENTS {
            tell(&log, &format!("missed {number}"));
        }
        let reading = log.response(None, pending());
        for number in 0..EVENTS / 2 {
            tell(&log, &format!("heard {number}."));
        }
        let mut reading = reading.into_body().into_data_stream();
        let mut heard = String::new();
        while !heard.contains(&format!("heard {}.", EVENTS / 2 - 1)) {
            let chunk = reading.next().await.unwrap().unwrap();
            heard.push_str(std::str::from_utf8(&chunk).unwrap());
        }
        assert!(
            heard.contains("heard 0.") && !heard.contains("missed"),
            "{heard}"
        );
        // After its end it takes nothing in.
        log.end();
        tell(&log, "late");
        assert!(log.state().kept.is_empty());
    }

    #[test]
    fn a_reader_who_is_too_slow_loses_notifications_and_no_answer() {
        let log = EventLog::new("2025-06-18", None);
        for number in 0..2 * EVENTS {
            log.push(&json!({"method": "told", "params": number}), held());
        }
        log.push(&json!({"id": 1, "result": {}}), held());
        let state = log.state();
        assert_eq!(state.kept.len(), EVENTS + 1);
        assert!(state.kept.back().unwrap().text.contains("result"));
    }
}
