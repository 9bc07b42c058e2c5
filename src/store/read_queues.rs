//! Reads of one token that come while statements of it are under way: they wait for the end of one, and share the next. Nothing waits
//! for company, so a read that comes alone is as quick as without this; under load, many pay for one round trip and one commit. Each is
//! still checked and put on record by itself, in a statement that begins after it came.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::secret_read::{Asked, Row};
use super::tokens::HashedToken;
use super::{Db, Error, Result};
use crate::model::errors::{Refusal, RefusalKind};

/// Of one token, on this server.
const STATEMENTS_AT_ONCE: usize = 2;
/// Reads of one statement.
const TOGETHER_MAX: usize = 100;
/// How long a statement and what follows from its failure may take: longer than the database lets it, for a database that is gone
/// says nothing.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(45);

/// By the hash of the token. Only tokens with a statement under way stand here.
#[derive(Default)]
pub(super) struct ReadQueues(Mutex<HashMap<String, Queue>>);

#[derive(Default)]
struct Queue {
    statements: usize,
    waiting: VecDeque<Waiting>,
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

    /// Whoever asked may be gone since: the read is on record all the same.
    fn answer(self, row: Result<Row>) {
        let _ = self.answer.send(row);
    }

    fn is_waited_for(&self) -> bool {
        !self.answer.is_closed()
    }
}

/// The right to have a statement under way. Given up however it ends, so that a queue is never left with nobody at it.
struct Turn {
    db: Db,
    token: HashedToken,
    is_over: bool,
}

impl Turn {
    /// What goes into the next statement, the longest waiting first; nothing when the turn is over.
    fn next(&mut self) -> Vec<Waiting> {
        let next = self.db.read_queues().next(&self.token);
        self.is_over = next.is_empty();
        next
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if !self.is_over {
            self.db.read_queues().leave(&self.token);
        }
    }
}

impl Db {
    /// At once, or with others of this token that come while its statements are under way: those share the next one.
    pub(super) async fn read_in_turn(&self, token: &HashedToken, asked: Asked) -> Result<Row> {
        let (waiting, row) = Waiting::new(asked);
        if self.read_queues().enter(token, waiting) {
            let mut turn = Turn {
                db: self.clone(),
                token: token.clone(),
                is_over: false,
            };
            tokio::spawn(async move {
                loop {
                    let next = turn.next();
                    if next.is_empty() {
                        break;
                    }
                    let answer = turn.db.answer(&turn.token, next);
                    if tokio::time::timeout(ANSWER_TIMEOUT, answer).await.is_err() {
                        tracing::error!("reads were given up: the database did not answer");
                    }
                }
            });
        }
        row.await
            .map_err(|gone| Error::caused("a read was left without its answer", gone))?
    }

    async fn answer(&self, token: &HashedToken, next: Vec<Waiting>) {
        if let [_, _, ..] = next.as_slice() {
            let asked: Vec<&Asked> = next.iter().map(|waiting| &waiting.asked).collect();
            match self.read_many(token, &asked, false).await {
                Ok(rows) if rows.iter().map(|row| row.place).eq(1..=next.len() as i32) => {
                    for (waiting, row) in next.into_iter().zip(rows) {
                        waiting.answer(Ok(row));
                    }
                    return;
                }
                Ok(_) => {
                    for waiting in next {
                        waiting.answer(Err(Error::broken("a shared statement lost rows")));
                    }
                    return;
                }
                Err(error) if says_too_much(&error) => {
                    error.into_refusal();
                    for waiting in next {
                        waiting.answer(Err(too_much()));
                    }
                    return;
                }
                // One of them may be what it fails for.
                Err(error) => {
                    error.into_refusal();
                }
            }
        }
        let each = next
            .into_iter()
            .filter(Waiting::is_waited_for)
            .map(|waiting| async move {
                let row = self.read_one(token, &waiting.asked).await;
                waiting.answer(row);
            });
        futures::future::join_all(each).await;
    }
}

/// The database is not there, or has more to do than it does in its time: asked again by each, it would have more.
fn says_too_much(error: &Error) -> bool {
    let Error::Broken(_, Some(cause)) = error else {
        return false;
    };
    match cause.downcast_ref::<sqlx::Error>() {
        Some(sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::Io(_)) => true,
        // A statement's and a lock's time ran out.
        Some(sqlx::Error::Database(error)) => {
            matches!(error.code().as_deref(), Some("57014" | "55P03"))
        }
        _ => false,
    }
}

fn too_much() -> Error {
    Refusal::new(
        RefusalKind::Unavailable,
        "Sealport waited too long for its database. Try again in a moment.",
    )
    .into()
}

impl ReadQueues {
    /// Whether a statement may begin now.
    fn enter(&self, token: &HashedToken, waiting: Waiting) -> bool {
        let mut queues = self.lock();
        let queue = queues.entry(token.as_str().to_owned()).or_default();
        queue.waiting.push_back(waiting);
        let begins = queue.statements < STATEMENTS_AT_ONCE;
        queue.statements += usize::from(begins);
        begins
    }

    /// What goes into the next statement. Whoever asked and is gone meanwhile is not read for. Nothing: the turn is given back.
    fn next(&self, token: &HashedToken) -> Vec<Waiting> {
        let mut queues = self.lock();
        let Some(queue) = queues.get_mut(token.as_str()) else {
            return Vec::new();
        };
        queue.waiting.retain(Waiting::is_waited_for);
        let together = queue.waiting.len().min(TOGETHER_MAX);
        let next = queue.waiting.drain(..together).collect();
        // Under the same lock: whoever comes after it finds the turn free.
        if together == 0 {
            give_back(&mut queues, token);
        }
        next
    }

    /// Gives back a turn that ended before its queue was empty.
    fn leave(&self, token: &HashedToken) {
        give_back(&mut self.lock(), token);
    }

    /// Nothing here is ever half-done, so that a poisoned lock holds what is right.
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Queue>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What waits is let go of with the last turn: nobody is left to answer it.
fn give_back(queues: &mut HashMap<String, Queue>, token: &HashedToken) {
    if let Some(queue) = queues.get_mut(token.as_str()) {
        queue.statements = queue.statements.saturating_sub(1);
        if queue.statements == 0 {
            queues.remove(token.as_str());
        }
    }
}
