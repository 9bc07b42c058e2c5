//! The writing end of a deployment's log: masked lines, in batches, bounded.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::Deployer;
use super::masks::Masks;
use crate::model::deployments::LOG_LINE_LEN_BYTES;
use crate::store::logs::NewLine;

/// Lines that wait for the database; more are dropped and counted.
const WAITING_LINES: usize = 2_000;
/// Lines written in one statement.
const BATCH_LINES: usize = 200;
/// Read from a pipe at once.
const READ_LEN_BYTES: usize = 8 * 1024;

/// Takes lines of one release. Cheap to clone; the last clone's end flushes.
#[derive(Clone)]
pub(super) struct Log {
    lines: mpsc::Sender<NewLine>,
    dropped: Arc<AtomicU64>,
    /// Lines that were kept in the second of this moment; none where as many are kept as there come.
    rate: Option<Arc<Rate>>,
}

/// How many lines of a server's own are kept in a second.
struct Rate {
    most: u32,
    second: std::sync::Mutex<(Instant, u32)>,
}

impl Rate {
    fn takes(&self) -> bool {
        let mut second = self.second.lock().unwrap_or_else(PoisonError::into_inner);
        if second.0.elapsed() >= Duration::from_secs(1) {
            *second = (Instant::now(), 0);
        }
        second.1 += 1;
        second.1 <= self.most
    }
}

impl Log {
    pub(super) fn open(deployer: &Deployer, deployment_id: Uuid, release: i32) -> Log {
        Self::open_of(deployer, deployment_id, release, None)
    }

    /// Of an instance that is one caller's.
    pub(super) fn open_own(
        deployer: &Deployer,
        deployment_id: Uuid,
        release: i32,
        user_id: Uuid,
    ) -> Log {
        Self::open_of(deployer, deployment_id, release, Some(user_id))
    }

    fn open_of(
        deployer: &Deployer,
        deployment_id: Uuid,
        release: i32,
        user_id: Option<Uuid>,
    ) -> Log {
        let (lines, mut waiting) = mpsc::channel::<NewLine>(WAITING_LINES);
        let dropped = Arc::new(AtomicU64::new(0));
        let log = Log {
            lines,
            dropped: Arc::clone(&dropped),
            rate: None,
        };
        let writer = deployer.clone();
        deployer.0.writers.spawn(async move {
            let mut batch = Vec::with_capacity(BATCH_LINES);
            while waiting.recv_many(&mut batch, BATCH_LINES).await > 0 {
                let lost = dropped.swap(0, Ordering::Relaxed);
                if lost > 0 {
                    batch.push(NewLine {
                        stream: "sealport",
                        line: format!("{lost} lines were dropped: the server wrote faster than they could be kept."),
                    });
                }
                let db = &writer.0.db;
                let kept = db
                    .log_append_of(deployment_id, release, user_id, &batch)
                    .await;
                if let Err(error) = kept {
                    // A destroyed deployment has no log any more; anything else is logged there.
                    error.into_refusal();
                }
                batch.clear();
                writer.0.changed.notify_waiters();
            }
        });
        log
    }

    /// Sealport's own remark.
    pub(super) fn say(&self, line: impl Into<String>) {
        self.push("sealport", line.into());
    }

    /// With so many lines of the server's own in a second, at most.
    pub(super) fn at_most(mut self, lines_a_second: u32) -> Log {
        self.rate = Some(Arc::new(Rate {
            most: lines_a_second,
            second: std::sync::Mutex::new((Instant::now(), 0)),
        }));
        self
    }

    /// A line that is masked already.
    pub(super) fn push(&self, stream: &'static str, line: String) {
        let is_own = matches!(stream, "stdout" | "stderr");
        if is_own && self.rate.as_ref().is_some_and(|rate| !rate.takes()) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        if self.lines.try_send(NewLine { stream, line }).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Reads a pipe to its end, masks it across read boundaries, without colours, and keeps it line by line. Returns the last lines.
    pub(super) async fn pump(
        self,
        stream: &'static str,
        mut pipe: impl AsyncRead + Unpin,
        masks: Arc<Masks>,
        last: LastLines,
    ) {
        let mut mask = masks.terminal();
        let mut buffer = vec![0; READ_LEN_BYTES];
        let mut line = Vec::new();
        loop {
            let read = pipe.read(&mut buffer).await.unwrap_or(0);
            if read == 0 {
                break;
            }
            self.split(stream, &mask.feed(&buffer[..read]), &mut line, &last);
        }
        self.split(stream, &mask.finish(), &mut line, &last);
        if !line.is_empty() {
            self.end_line(stream, &mut line, &last);
        }
    }

    fn split(&self, stream: &'static str, bytes: &[u8], line: &mut Vec<u8>, last: &LastLines) {
        for &byte in bytes {
            if byte == b'\n' || line.len() >= LOG_LINE_LEN_BYTES {
                self.end_line(stream, line, last);
            }
            if byte != b'\n' {
                line.push(byte);
            }
        }
    }

    fn end_line(&self, stream: &'static str, line: &mut Vec<u8>, last: &LastLines) {
        let text = String::from_utf8_lossy(line)
            .trim_end_matches('\r')
            .to_owned();
        line.clear();
        if text.is_empty() {
            return;
        }
        last.push(&text);
        self.push(stream, text);
    }
}

/// The last masked lines of a guest, for saying why it failed.
#[derive(Clone, Default)]
pub(super) struct LastLines(Arc<std::sync::Mutex<std::collections::VecDeque<String>>>);

impl LastLines {
    /// Lines kept.
    const KEPT: usize = 12;

    pub(super) fn push(&self, line: &str) {
        if let Ok(mut lines) = self.0.lock() {
            if lines.len() == Self::KEPT {
                lines.pop_front();
            }
            lines.push_back(line.chars().take(400).collect());
        }
    }

    pub(super) fn joined(&self) -> String {
        self.0
            .lock()
            .map(|lines| lines.iter().cloned().collect::<Vec<_>>().join("\n"))
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use secrecy::SecretString;

    use super::*;

    #[tokio::test]
    async fn a_coloured_value_is_masked_and_colours_are_not_kept() {
        let (lines, mut kept) = mpsc::channel(8);
        let log = Log {
            lines,
            dropped: Arc::default(),
            rate: None,
        };
        let masks = Arc::new(Masks::new(&[SecretString::from("hunter22-and-more")]));
        let printed: &[u8] = b"\x1b[1mkey\x1b[0m hunter\x1b[31m22-and-more\x1b[0m\nplain\n";
        let last = LastLines::default();
        log.pump("stderr", printed, masks, last.clone()).await;
        for expected in ["key [sealed]", "plain"] {
            assert_eq!(kept.recv().await.unwrap().line, expected);
        }
        assert!(kept.recv().await.is_none());
        assert_eq!(last.joined(), "key [sealed]\nplain");
    }
    #[tokio::test]
    async fn a_line_without_an_end_is_kept_in_pieces() {
        let (lines, mut kept) = mpsc::channel(8);
        let dropped = Arc::<AtomicU64>::default();
        let log = Log {
            lines,
            dropped: Arc::clone(&dropped),
            rate: None,
        };
        let masks = Arc::new(Masks::new(&[]));
        let endless = tokio::io::repeat(b'x').take(64 << 20);
        log.pump("stderr", endless, masks, LastLines::default())
            .await;
        let mut pieces = 0;
        while let Ok(piece) = kept.try_recv() {
            assert_eq!(piece.line.len(), LOG_LINE_LEN_BYTES);
            pieces += 1;
        }
        // What nobody takes is counted, not kept.
        assert_eq!(pieces, 8);
        let all = (64_u64 << 20) / LOG_LINE_LEN_BYTES as u64;
        assert_eq!(dropped.load(Ordering::Relaxed), all - 8);
    }
}
