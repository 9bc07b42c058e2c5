//! What is told of a tool call once it has come to its end: which tool, how it went, and how long it took.

use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::mpsc;

use super::ClientKey;
use super::wire::{Kind, kind};
use crate::deploy::masks::Masks;

/// A longer name of a tool is cut here, and before it is masked there.
const TOOL_LEN_CHARS: usize = 100;
const NAME_LEN_CHARS: usize = 8 * 1024;

/// A tool call. Never what it was given or gave.
#[derive(Clone, Debug)]
pub struct Called {
    pub client: ClientKey,
    /// As the caller named it, masked.
    pub tool: String,
    pub outcome: Outcome,
    pub took: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// The tool answered that it failed.
    Failed,
    /// An error in the tool's place.
    Refused,
    /// Nobody waited for the answer any more, or none came.
    GivenUp,
}

impl Outcome {
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Done => "done",
            Outcome::Failed => "failed",
            Outcome::Refused => "refused",
            Outcome::GivenUp => "given-up",
        }
    }
}

/// A tool call under way; told when it is dropped.
#[derive(Debug)]
pub(super) struct Calling {
    sink: mpsc::Sender<Called>,
    client: ClientKey,
    tool: String,
    began: Instant,
    outcome: Outcome,
}

impl Calling {
    /// None for a message that calls no tool, and where nobody listens.
    pub fn of(
        sink: Option<&mpsc::Sender<Called>>,
        masks: &Masks,
        client: ClientKey,
        message: &Value,
    ) -> Option<Calling> {
        let sink = sink?;
        let Some(Kind::Request {
            method: "tools/call",
            ..
        }) = kind(message)
        else {
            return None;
        };
        Some(Calling {
            sink: sink.clone(),
            client,
            tool: named(
                masks,
                message["params"]["name"].as_str().unwrap_or_default(),
            ),
            began: Instant::now(),
            outcome: Outcome::GivenUp,
        })
    }

    pub fn answered(&mut self, answer: &Value) {
        self.outcome = match answer.get("result") {
            Some(result) if result["isError"] == true => Outcome::Failed,
            Some(_) => Outcome::Done,
            None => Outcome::Refused,
        };
    }
}

impl Drop for Calling {
    fn drop(&mut self) {
        // One that finds no room is not told of: a flood of calls is no reason to hold up a call.
        let _ = self.sink.try_send(Called {
            client: self.client,
            tool: std::mem::take(&mut self.tool),
            outcome: self.outcome,
            took: self.began.elapsed(),
        });
    }
}

/// A caller may name anything: the name is masked, shown as what it is, and cut.
fn named(masks: &Masks, name: &str) -> String {
    // What is left out goes first: what stood around it could join to a value.
    let shown = name.chars().filter(|c| c.is_ascii_graphic() || *c == ' ');
    let shown: String = shown.take(NAME_LEN_CHARS).collect();
    masks.text(&shown).chars().take(TOOL_LEN_CHARS).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use secrecy::SecretString;
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_call_tells_its_end_and_nothing_of_what_was_said() {
        let (sink, mut told) = mpsc::channel(8);
        let masks = Masks::new(&[SecretString::from("hunter22-and-more")]);
        let client = ClientKey(Uuid::now_v7());
        let call = |name: &str| json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name}});
        for (answer, outcome) in [
            (Some(json!({"result": {"content": []}})), Outcome::Done),
            (Some(json!({"result": {"isError": true}})), Outcome::Failed),
            (Some(json!({"error": {"code": -32602}})), Outcome::Refused),
            (None, Outcome::GivenUp),
        ] {
            let name = format!("say\u{202e} hunter\u{200b}22-and-more{}", "x".repeat(200));
            let mut calling = Calling::of(Some(&sink), &masks, client, &call(&name)).unwrap();
            if let Some(answer) = answer {
                calling.answered(&answer);
            }
            drop(calling);
            let called = told.try_recv().unwrap();
            assert_eq!(called.outcome, outcome);
            assert!(
                called.tool.starts_with("say [sealed]xxx"),
                "{}",
                called.tool
            );
            assert_eq!(called.tool.len(), TOOL_LEN_CHARS);
        }
        let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
        assert!(Calling::of(Some(&sink), &masks, client, &list).is_none());
    }
}
