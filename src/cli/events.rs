//! Server-sent events as they come.

use std::collections::VecDeque;

use super::client::unreached;
use super::failures::{Exit, Failure};
use crate::deploy::relay::{Event, Events};

/// The longest event. A line of a log has a few KiB.
const EVENT_LEN_BYTES: usize = 1 << 20;

pub struct EventStream {
    answer: reqwest::Response,
    reader: Events,
    ready: VecDeque<Event>,
}

impl EventStream {
    pub(super) fn new(answer: reqwest::Response) -> Self {
        EventStream {
            answer,
            reader: Events::new(EVENT_LEN_BYTES),
            ready: VecDeque::new(),
        }
    }

    /// The next event; none when the server has ended the answer. Errors: the connection broke.
    pub async fn next(&mut self) -> Result<Option<Event>, Failure> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            let Some(piece) = self.answer.chunk().await.map_err(unreached)? else {
                return Ok(None);
            };
            let read = self.reader.feed(&piece).map_err(|_| {
                Failure::new(
                    Exit::Unavailable,
                    "An event is longer than any of Sealport's.",
                )
            })?;
            self.ready.extend(read);
        }
    }
}
