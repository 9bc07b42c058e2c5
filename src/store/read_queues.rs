//! Reads of one token that come while statements of it are under way: they wait for the end of one, and share the next. Nothing waits
//! for company, so a read that comes alone is as quick as without this; under load, many pay for one round trip and one commit. Each is
//! still checked and put on record by itself, in a statement that begins after it came.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::secret_read::{Asked, Row};
use super::tokens::HashedToken;
use super::{Db, Error, Result};

/// Of one token, on this server.
const STATEMENTS_AT_ONCE: usize = 2;
/// Reads of one statement.
const TOGETHER_MAX: usize = 100;

/// By the hash of the token. Only tokens with a statement under way stand here, and no more wait than there are requests.
#[derive(Default)]
pub(super) struct ReadQueues(Mutex<HashMap<String, Queue>>);

#[derive(Default)]
struct Queue {
    statements: usize,
    waiting: Vec<Waiting>,
}

/// One read, whose answer somebody waits for.
struct Waiting {
    asked: Asked,
    answer: oneshot::Sender<Result<Row>>,
}

impl Waiting {
    fn new(asked: Asked) -> (Waiting, oneshot::Receiver<Result<Row>>) {
        let (answer, row) = oneshot::channel();
        (Waiting { asked, answer }, row)
    }

    /// Whoever asked may be gone: the read is on record all the same.
    fn answer(self, row: Result<Row>) {
        let _ = self.answer.send(row);
    }
}

impl Db {
    /// At once, or with others of this token that come while its statements are under way: those share the next one.
    pub(super) async fn read_in_turn(&self, hash: &HashedToken, asked: Asked) -> Result<Row> {
        let (waiting, row) = Waiting::new(asked);
        if self.read_queues().enter(hash, waiting) {
            let (db, hash) = (self.clone(), hash.clone());
            tokio::spawn(async move {
                loop {
                    let next = db.read_queues().next(&hash);
                    if next.is_empty() {
                        break;
                    }
                    db.answer(&hash, next).await;
                }
            });
        }
        row.await
            .map_err(|gone| Error::caused("a read was left without its answer", gone))?
    }

    async fn answer(&self, hash: &HashedToken, next: Vec<Waiting>) {
        if next.len() > 1 {
            let asked: Vec<&Asked> = next.iter().map(|waiting| &waiting.asked).collect();
            match self.read_many(hash, &asked, false).await {
                Ok(rows) if rows.iter().map(|row| row.place).eq(1..=next.len() as i32) => {
                    for (waiting, row) in next.into_iter().zip(rows) {
                        waiting.answer(Ok(row));
                    }
                    return;
                }
                Ok(_) => tracing::error!(
                    "reads that shared a statement are asked again: rows are missing"
                ),
                Err(error) => {
                    tracing::warn!(%error, "reads that shared a statement are asked again, each by itself")
                }
            }
        }
        let each = next.into_iter().map(|waiting| async move {
            let row = self.read_one(hash, &waiting.asked).await;
            waiting.answer(row);
        });
        futures::future::join_all(each).await;
    }
}

impl ReadQueues {
    /// Whether a statement may begin now: then [`ReadQueues::next`] is taken until there is nothing more.
    fn enter(&self, token: &HashedToken, waiting: Waiting) -> bool {
        let mut queues = self.lock();
        let queue = queues.entry(token.as_str().to_owned()).or_default();
        queue.waiting.push(waiting);
        let begins = queue.statements < STATEMENTS_AT_ONCE;
        queue.statements += usize::from(begins);
        begins
    }

    /// What goes into the next statement, the longest waiting first. Nothing: whoever asks has ended.
    fn next(&self, token: &HashedToken) -> Vec<Waiting> {
        let mut queues = self.lock();
        let Some(queue) = queues.get_mut(token.as_str()) else {
            return Vec::new();
        };
        let together = queue.waiting.len().min(TOGETHER_MAX);
        if together == 0 {
            queue.statements -= 1;
            if queue.statements == 0 {
                queues.remove(token.as_str());
            }
            return Vec::new();
        }
        queue.waiting.drain(..together).collect()
    }

    /// Nothing here is ever half-done, so that a poisoned lock holds what is right.
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Queue>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
