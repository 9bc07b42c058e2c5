//! What is told of a tool call once it has come to its end: which tool, how it went, and how long it took.

use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::mpsc;

use super::ClientKey;
use super::wire::{Kind, kind};
use crate::deploy::masks::Masks;
pub use crate::model::calls::Outcome;
use crate::model::refusals::is_refused_key;

/// A longer name of a tool is cut here, and before it is masked there.
const TOOL_LEN_CHARS: usize = 100;
const NAME_LEN_CHARS: usize = 8 * 1024;
/// Parts of a failed tool's answer that are looked at.
const TEXTS_READ: usize = 4;

/// A tool call. Never what it was given or gave.
#[derive(Clone, Debug)]
pub struct Called {
    pub client: ClientKey,
    /// As the caller named it, masked.
    pub tool: String,
    pub outcome: Outcome,
    /// The error tells that the far service did not take the key. Of what it said, nothing is kept.
    pub key_refused: bool,
    pub took: Duration,
}

/// A tool call under way; told when it is dropped.
#[derive(Debug)]
pub(super) struct Calling {
    sink: mpsc::Sender<Called>,
    client: ClientKey,
    tool: String,
    began: Instant,
    outcome: Outcome,
    key_refused: bool,
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
            key_refused: false,
        })
    }

    pub fn answered(&mut self, answer: &Value) {
        self.outcome = match answer.get("result") {
            Some(result) if result["isError"] == true => Outcome::Failed,
            Some(_) => Outcome::Done,
            None => Outcome::Refused,
        };
        self.key_refused = match self.outcome {
            Outcome::Failed => texts(&answer["result"]).any(is_refused_key),
            Outcome::Refused => answer["error"]["message"]
                .as_str()
                .is_some_and(is_refused_key),
            Outcome::Done | Outcome::GivenUp => false,
        };
    }
}

/// What a failed tool says.
fn texts(result: &Value) -> impl Iterator<Item = &str> {
    let content = result["content"].as_array().into_iter().flatten();
    let texts = content.filter_map(|part| part["text"].as_str());
    texts.take(TEXTS_READ)
}

impl Drop for Calling {
    fn drop(&mut self) {
        // One that finds no room is not told of: a flood of calls is no reason to hold up a call.
        let _ = self.sink.try_send(Called {
            client: self.client,
            tool: std::mem::take(&mut self.tool),
            outcome: self.outcome,
            key_refused: self.key_refused,
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
        let client = ClientKey::alone(Uuid::now_v7());
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
        let says = json!({"content": [{"type": "text", "text": "HTTP 401"}], "isError": true});
        let passed = json!({"content": [{"type": "text", "text": "HTTP 401"}]});
        for (answer, key_refused) in [
            (json!({"result": says}), true),
            (json!({"result": passed}), false),
            (
                json!({"error": {"code": -32603, "message": "GitLab API error: Unauthorized"}}),
                true,
            ),
            (
                json!({"error": {"code": -32602, "message": "Issue 401 is not there"}}),
                false,
            ),
        ] {
            let mut calling = Calling::of(Some(&sink), &masks, client, &call("say")).unwrap();
            calling.answered(&answer);
            drop(calling);
            assert_eq!(
                told.try_recv().unwrap().key_refused,
                key_refused,
                "{answer}"
            );
        }
        let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
        assert!(Calling::of(Some(&sink), &masks, client, &list).is_none());
    }
}
