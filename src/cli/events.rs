//! Server-sent events as they come.

use std::collections::VecDeque;

use super::client::unreached;
use super::failures::{Exit, Failure};

/// The longest event. A line of a log has a few KiB.
const EVENT_LEN_BYTES: usize = 1 << 20;

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    pub name: String,
    pub id: Option<String>,
    pub data: String,
}

pub struct EventStream {
    answer: reqwest::Response,
    reader: Reader,
    ready: VecDeque<Event>,
}

impl EventStream {
    pub(super) fn new(answer: reqwest::Response) -> Self {
        EventStream {
            answer,
            reader: Reader::default(),
            ready: VecDeque::new(),
        }
    }

    /// The next event; none when the server has ended the answer. Errors: the connection broke.
    pub async fn next(&mut self) -> Result<Option<Event>, Failure> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            match self.answer.chunk().await.map_err(unreached)? {
                Some(piece) => self.reader.feed(&piece, &mut self.ready)?,
                None => return Ok(None),
            }
        }
    }
}

#[derive(Default)]
struct Reader {
    line: Vec<u8>,
    event: Event,
    has_fields: bool,
    after_return: bool,
}

impl Reader {
    fn feed(&mut self, piece: &[u8], ready: &mut VecDeque<Event>) -> Result<(), Failure> {
        for &byte in piece {
            let ends_return = std::mem::replace(&mut self.after_return, byte == b'\r');
            match byte {
                b'\n' if ends_return => {}
                b'\n' | b'\r' => self.end_line(ready),
                _ => self.line.push(byte),
            }
            if self.line.len() + self.event.data.len() > EVENT_LEN_BYTES {
                return Err(Failure::new(
                    Exit::Unavailable,
                    "An event is longer than any of Sealport's.",
                ));
            }
        }
        Ok(())
    }

    fn end_line(&mut self, ready: &mut VecDeque<Event>) {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            if std::mem::take(&mut self.has_fields) {
                ready.push_back(event);
            }
            return;
        }
        let line = String::from_utf8_lossy(&line);
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => self.event.name = value.to_owned(),
            "id" => self.event.id = Some(value.to_owned()),
            "data" => {
                if !self.event.data.is_empty() {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
            }
            // Comments keep a connection open.
            _ => return,
        }
        self.has_fields = true;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn events_are_whole_wherever_pieces_end() {
        let said = ": hello\n\nid: 7\nevent: line\ndata: {\"a\":1}\n\nevent:end\r\ndata:\r\n\r\ndata: a\ndata: b\n\n";
        for cut in 0..said.len() {
            let (first, second) = said.as_bytes().split_at(cut);
            let (mut reader, mut ready) = (Reader::default(), VecDeque::new());
            reader.feed(first, &mut ready).unwrap();
            reader.feed(second, &mut ready).unwrap();
            let read: Vec<(&str, Option<&str>, &str)> = ready
                .iter()
                .map(|event| {
                    (
                        event.name.as_str(),
                        event.id.as_deref(),
                        event.data.as_str(),
                    )
                })
                .collect();
            assert_eq!(
                read,
                [
                    ("line", Some("7"), "{\"a\":1}"),
                    ("end", None, ""),
                    ("", None, "a\nb")
                ]
            );
        }
        let (mut reader, mut ready) = (Reader::default(), VecDeque::new());
        assert!(
            reader
                .feed(&[b'x'; EVENT_LEN_BYTES + 1], &mut ready)
                .is_err()
        );
    }
}
