//! The two pipes: lines go in one after the other, and what comes out is sorted to those whom it concerns.

use std::io;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Notify, Outgoing, Reply, Shared, TOLD_PLACES, Told};
use crate::deploy::json;
use crate::deploy::masks::Masks;
use crate::deploy::relay::room::{Full, weigh};
use crate::deploy::relay::wire::{Kind, SUBSCRIPTION_KEY, kind};

const LOG_LINE_BYTES: usize = 16 << 10;
/// The buffer of a longer line is given back after it.
const KEPT_BUFFER_BYTES: usize = 64 << 10;

pub(super) async fn write(
    mut stdin: impl AsyncWrite + Unpin,
    mut lines: mpsc::Receiver<Outgoing>,
    mut replies: mpsc::Receiver<Vec<u8>>,
    ended: CancellationToken,
) {
    loop {
        let Outgoing { line, _held } = tokio::select! {
            biased;
            () = ended.cancelled() => break,
            Some(line) = replies.recv() => Outgoing { line, _held: None },
            Some(outgoing) = lines.recv() => outgoing,
            else => break,
        };
        let written = async {
            stdin.write_all(&line).await?;
            stdin.flush().await
        };
        // A server that closed its input may still answer; its output's end is what counts.
        let failed = tokio::select! {
            () = ended.cancelled() => true,
            written = written => written.is_err(),
        };
        if failed {
            break;
        }
    }
}

pub(super) struct Reader {
    pub shared: Arc<Shared>,
    pub log: Option<mpsc::Sender<String>>,
    pub log_masks: Arc<Masks>,
    pub notify: Notify,
}

impl Reader {
    pub async fn run(self, mut stdout: impl AsyncBufRead + Unpin) {
        let ended = self.shared.ended.clone();
        let mut line = Vec::new();
        let reason = loop {
            line.clear();
            line.shrink_to(KEPT_BUFFER_BYTES);
            let read = tokio::select! {
                () = ended.cancelled() => break "The relay was closed.".to_owned(),
                read = read_line(&mut stdout, &mut line, self.shared.limits.message_bytes) => read,
            };
            match read {
                Ok(Line::Whole) => self.line(&line),
                Ok(Line::Last) => {
                    self.line(&line);
                    break "The server closed its output.".to_owned();
                }
                Ok(Line::TooLong) => {
                    break format!(
                        "The server sent a line of more than {} bytes.",
                        self.shared.limits.message_bytes
                    );
                }
                Err(error) => break format!("The server's output could not be read: {error}."),
            }
        };
        self.shared.end(&reason);
    }

    fn line(&self, line: &[u8]) {
        let line = line.trim_ascii();
        if line.is_empty() {
            return;
        }
        let weight = weigh(line);
        if self.shared.room.is_never(weight) {
            return self.too_heavy(line);
        }
        match json::tree(line) {
            Ok(Value::Array(messages))
                if messages.iter().all(|message| kind(message).is_some()) =>
            {
                let weight = weight / messages.len().max(1);
                for message in messages {
                    self.message(message, weight);
                }
            }
            Ok(message) if kind(&message).is_some() => self.message(message, weight),
            _ => self.log(line),
        }
    }

    /// Whoever waits for a message that is never built is told so.
    fn too_heavy(&self, line: &[u8]) {
        #[derive(Deserialize)]
        struct Head {
            id: Option<u64>,
            method: Option<IgnoredAny>,
        }
        match serde_json::from_slice(line) {
            Ok(Head {
                id: Some(id),
                method: None,
            }) => {
                if let Some(pending) = self.shared.state().pending.remove(&id) {
                    let _ = pending.answer.send(Reply::Full(Full::Never));
                }
            }
            Ok(_) => {}
            Err(_) => self.log(line),
        }
    }

    fn message(&self, message: Value, weight: usize) {
        match kind(&message) {
            Some(Kind::Answer { id }) => {
                // An answer to nothing that was asked is dropped.
                let pending = id
                    .as_u64()
                    .and_then(|id| self.shared.state().pending.remove(&id));
                if let Some(pending) = pending {
                    let mut held = self.shared.room.hold(pending.asker.client);
                    let reply = match held.resize(weight) {
                        Ok(()) => Reply::Answer(message, held),
                        Err(full) => Reply::Full(full),
                    };
                    let _ = pending.answer.send(reply);
                }
            }
            Some(Kind::Request { .. }) => self.shared.asked_by_server(message, weight),
            Some(Kind::Notification { method }) => match concerns(&message, method) {
                Concerns::Call(id) => self.tell(id, message, weight),
                // It takes back what it asked, or what was answered at once.
                Concerns::Nobody => self.shared.taken_back(&message),
                Concerns::All => self.tell_all(message, weight),
            },
            None => {}
        }
    }

    fn tell_all(&self, mut message: Value, weight: usize) {
        let masked = self.shared.masks.json(&mut message);
        (self.notify)(Told {
            message: &message,
            weight,
            masked,
        });
    }

    /// Tells a call what comes before its answer.
    fn tell(&self, id: u64, message: Value, weight: usize) {
        let state = self.shared.state();
        let Some(pending) = state.pending.get(&id) else {
            return;
        };
        let wanted = match message["method"].as_str() {
            Some("notifications/progress") => pending.wants_progress,
            _ => pending.is_subscription,
        };
        // What is asked of a client has its place even when it reads slowly.
        if !wanted || pending.told.capacity() <= TOLD_PLACES / 4 {
            return;
        }
        let mut held = self.shared.room.hold(pending.asker.client);
        if held.resize(weight).is_ok() {
            let _ = pending.told.try_send((message, held));
        }
    }

    fn log(&self, line: &[u8]) {
        if let Some(log) = &self.log {
            let mut mask = self.log_masks.terminal();
            let mut masked = mask.feed(line);
            masked.extend(mask.finish());
            // Cut after masking: a value cut in two would not be found.
            let cut = &masked[..masked.len().min(LOG_LINE_BYTES)];
            let _ = log.try_send(String::from_utf8_lossy(cut).into_owned());
        }
    }
}

/// Whom a notification concerns.
enum Concerns {
    /// The request of this number.
    Call(u64),
    Nobody,
    All,
}

fn concerns(message: &Value, method: &str) -> Concerns {
    let params = &message["params"];
    let number = match method {
        "notifications/cancelled" => return Concerns::Nobody,
        "notifications/progress" => Some(&params["progressToken"]),
        _ => params["_meta"].get(SUBSCRIPTION_KEY),
    };
    match number {
        Some(number) => number.as_u64().map_or(Concerns::Nobody, Concerns::Call),
        None => Concerns::All,
    }
}

enum Line {
    Whole,
    /// The output ended; there may be a last line without an end.
    Last,
    TooLong,
}

async fn read_line(
    reader: &mut (impl AsyncBufRead + Unpin),
    line: &mut Vec<u8>,
    longest: usize,
) -> io::Result<Line> {
    loop {
        let available = reader.fill_buf().await?;
        if available.is_empty() {
            return Ok(Line::Last);
        }
        let end = available.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(available.len(), |end| end + 1);
        if line.len() + taken > longest {
            return Ok(Line::TooLong);
        }
        line.extend_from_slice(&available[..taken]);
        reader.consume(taken);
        if end.is_some() {
            return Ok(Line::Whole);
        }
    }
}
