//! Server-sent events as another server writes them: read one by one, masked, written again.

use std::borrow::Cow;

use serde_json::Value;

use crate::deploy::json;
use crate::deploy::masks::Masks;

/// One event. Fields that the format does not know are left out.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Event {
    pub name: Option<String>,
    pub id: Option<String>,
    pub retry: Option<u64>,
    pub data: Option<String>,
}

/// An event was longer than allowed.
#[derive(Debug, PartialEq, Eq)]
pub struct TooLong;

/// Takes bytes as they come and gives whole events.
pub struct Events {
    longest_bytes: usize,
    line: Vec<u8>,
    event: Event,
    event_bytes: usize,
    after_return: bool,
}

impl Events {
    pub fn new(longest_bytes: usize) -> Self {
        Self {
            longest_bytes,
            line: Vec::new(),
            event: Event::default(),
            event_bytes: 0,
            after_return: false,
        }
    }

    /// What was read and is no whole event yet, in bytes.
    pub fn held_bytes(&self) -> usize {
        self.event_bytes
    }

    pub fn feed(&mut self, bytes: &[u8]) -> Result<Vec<Event>, TooLong> {
        let mut events = Vec::new();
        for &byte in bytes {
            let ends_return = std::mem::replace(&mut self.after_return, byte == b'\r');
            match byte {
                b'\n' if ends_return => {}
                b'\n' | b'\r' => self.end_line(&mut events),
                _ => {
                    self.event_bytes += 1;
                    if self.event_bytes > self.longest_bytes {
                        return Err(TooLong);
                    }
                    self.line.push(byte);
                }
            }
        }
        Ok(events)
    }

    fn end_line(&mut self, events: &mut Vec<Event>) {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            self.event_bytes = 0;
            let event = std::mem::take(&mut self.event);
            if event != Event::default() {
                events.push(event);
            }
            return;
        }
        let line = String::from_utf8_lossy(&line);
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => self.event.name = Some(value.to_owned()),
            "id" => self.event.id = Some(value.to_owned()),
            "retry" => self.event.retry = value.parse().ok(),
            "data" => match &mut self.event.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.event.data = Some(value.to_owned()),
            },
            // Comments keep a connection open but do not belong to an event.
            _ => self.event_bytes -= line.len().min(self.event_bytes),
        }
    }
}

impl Event {
    /// Masks every field; data that is JSON as JSON, so that escapes hide nothing. Answers how many
    /// strings were masked, and the message in the data as it was masked.
    pub fn mask(&mut self, masks: &Masks) -> (usize, Option<Value>) {
        let mut masked = 0;
        for field in [&mut self.name, &mut self.id].into_iter().flatten() {
            masked += mask_text(field, masks);
        }
        let Some(data) = &mut self.data else {
            return (masked, None);
        };
        match json::tree(data.as_bytes()) {
            Ok(mut message) => {
                masked += masks.json(&mut message);
                *data = message.to_string();
                (masked, Some(message))
            }
            Err(_) => (masked + mask_text(data, masks), None),
        }
    }

    pub fn write(&self) -> String {
        let mut out = String::new();
        for (field, value) in [("event", &self.name), ("id", &self.id)] {
            if let Some(value) = value {
                out.push_str(&format!("{field}: {value}\n"));
            }
        }
        if let Some(retry) = self.retry {
            out.push_str(&format!("retry: {retry}\n"));
        }
        for line in self.data.iter().flat_map(|data| data.split('\n')) {
            out.push_str(&format!("data: {line}\n"));
        }
        out.push('\n');
        out
    }
}

fn mask_text(text: &mut String, masks: &Masks) -> usize {
    match masks.text(text) {
        Cow::Owned(masked) => {
            *text = masked;
            1
        }
        Cow::Borrowed(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use proptest::prelude::*;
    use secrecy::SecretString;

    use super::*;

    const STREAM: &str = ": hello\n\nid: 1\nevent: message\ndata: {\"a\":\ndata: \"\\u0068unter22\"}\n\ndata: plain hunter22\r\n\r\nretry: 5\n\n: x\nrest: 1\n\n";

    #[test]
    fn events_are_masked_within_their_json() {
        let masks = Masks::new(&[SecretString::from("hunter22")]);
        let mut events = Events::new(1000).feed(STREAM.as_bytes()).unwrap();
        let written: Vec<String> = events
            .iter_mut()
            .map(|event| {
                event.mask(&masks);
                event.write()
            })
            .collect();
        assert_eq!(
            written,
            [
                "event: message\nid: 1\ndata: {\"a\":\"[sealed]\"}\n\n",
                "data: plain [sealed]\n\n",
                "retry: 5\n\n"
            ]
        );
    }

    #[test]
    fn an_event_without_end_is_refused() {
        let mut events = Events::new(100);
        assert_eq!(events.feed(&[b'x'; 100]), Ok(vec![]));
        assert_eq!(events.feed(b"x"), Err(TooLong));
    }

    #[test]
    fn comments_do_not_add_up() {
        let mut events = Events::new(20);
        for _ in 0..100 {
            assert_eq!(events.feed(b": keep-alive\n"), Ok(vec![]));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn pieces_give_the_same_events(cut in 0..STREAM.len(), ends in prop::sample::select(vec!["\n", "\r\n", "\r"])) {
            let stream = STREAM.replace("\r\n", "\n").replace('\n', ends);
            let (first, second) = stream.as_bytes().split_at(cut.min(stream.len()));
            let mut pieces = Events::new(1000);
            let mut events = pieces.feed(first).unwrap();
            events.extend(pieces.feed(second).unwrap());
            prop_assert_eq!(events, Events::new(1000).feed(STREAM.as_bytes()).unwrap());
        }
    }
}
