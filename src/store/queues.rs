//! Questions of one key (a token; a token and a deployment's name) that come while others of it are asked: they wait for the end of that
//! round, and share the next. Nothing waits for company, so a question that comes alone is answered as quickly as without this; under load,
//! many pay for one round trip and one commit. A round begins after all came who share it, so that a revoke holds for whoever waits.

use std::collections::{HashMap, VecDeque};
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::{Db, Error, Result};
use crate::model::errors::{Refusal, RefusalKind};

/// Questions of one round.
const TOGETHER_MAX: usize = 100;
/// A round that lasts longer counts no more, and others go on without it: its connection may be dead, and not say so.
const SLOW_ROUND: Duration = Duration::from_secs(3);
/// How long a round and what follows from its failure may take: longer than the database lets a statement, for a database that is gone
/// says nothing.
const ROUND_TIMEOUT: Duration = Duration::from_secs(45);

/// What the database can be asked for many at once: [`super::secret_read::ReadQuestion`], [`super::gateway::GatewayQuestion`].
pub(super) trait Question: Sized + Send + Sync + 'static {
    type Answer: Send + 'static;
    /// Rounds of one key at once, on this server, while they are quick.
    const ROUNDS_AT_ONCE: usize;

    /// Where those wait that may share a round.
    fn queues(db: &Db) -> &Queues<Self>;
    /// Those with the same key share.
    fn key(&self) -> String;
    /// In a statement of its own.
    fn alone(&self, db: &Db) -> impl Future<Output = Result<Self::Answer>> + Send;
    /// Of two or more with one key, in their order, by statements that begin in here. Those that are left without an answer are asked
    /// alone; all of them after an error, which says that nothing was done.
    fn together(
        db: &Db,
        questions: &[&Self],
    ) -> impl Future<Output = Result<Vec<Result<Self::Answer>>>> + Send;
}

/// Only keys with a round under way stand here.
pub(super) struct Queues<Q: Question>(Mutex<HashMap<String, Queue<Q>>>);

struct Queue<Q: Question> {
    rounds: usize,
    waiting: VecDeque<Waiting<Q>>,
}

/// A question, whose answer somebody waits for.
struct Waiting<Q: Question> {
    question: Q,
    answer: oneshot::Sender<Result<Q::Answer>>,
}

impl<Q: Question> Waiting<Q> {
    /// Whoever asked may be gone since: what was done is done all the same.
    fn answer(self, answer: Result<Q::Answer>) {
        let _ = self.answer.send(answer);
    }

    fn is_waited_for(&self) -> bool {
        !self.answer.is_closed()
    }
}

/// The right to have a round under way. Given up however it ends, so that a queue is never left with nobody at it.
struct Turn<Q: Question> {
    db: Db,
    key: String,
    is_over: bool,
    queues: fn(&Db) -> &Queues<Q>,
}

impl<Q: Question> Turn<Q> {
    /// Goes on until nobody waits.
    fn begin(db: Db, key: String) {
        let mut turn = Turn {
            db,
            key,
            is_over: false,
            queues: Q::queues,
        };
        tokio::spawn(async move {
            loop {
                let next = turn.next();
                if next.is_empty() {
                    return;
                }
                let db = turn.db.clone();
                let mut round = pin!(db.answer_round(next));
                if timeout(SLOW_ROUND, &mut round).await.is_ok() {
                    continue;
                }
                // Another has its place from now on, for those who came meanwhile.
                turn.is_over = true;
                Self::begin(turn.db.clone(), turn.key.clone());
                if timeout(ROUND_TIMEOUT, round).await.is_err() {
                    tracing::error!("questions were given up: the database did not answer");
                }
                return;
            }
        });
    }

    /// What goes into the next round, the longest waiting first; nothing when the turn is over.
    fn next(&mut self) -> Vec<Waiting<Q>> {
        let next = (self.queues)(&self.db).next(&self.key);
        self.is_over = next.is_empty();
        next
    }
}

impl<Q: Question> Drop for Turn<Q> {
    fn drop(&mut self) {
        if !self.is_over {
            (self.queues)(&self.db).leave(&self.key);
        }
    }
}

impl Db {
    /// At once, or with others of its key that come while rounds of it are under way: those share the next one.
    pub(super) async fn ask_in_turn<Q: Question>(&self, question: Q) -> Result<Q::Answer> {
        let key = question.key();
        let (sender, answer) = oneshot::channel();
        let waiting = Waiting {
            question,
            answer: sender,
        };
        if Q::queues(self).enter(&key, waiting) {
            Turn::<Q>::begin(self.clone(), key);
        }
        answer
            .await
            .map_err(|gone| Error::caused("a question was left without its answer", gone))?
    }

    async fn answer_round<Q: Question>(&self, mut next: Vec<Waiting<Q>>) {
        if let [_, _, ..] = next.as_slice() {
            let questions: Vec<&Q> = next.iter().map(|waiting| &waiting.question).collect();
            match Q::together(self, &questions).await {
                Ok(answers) => {
                    let answered = next.drain(..answers.len().min(next.len()));
                    for (waiting, answer) in answered.zip(answers) {
                        waiting.answer(answer);
                    }
                }
                Err(error) if is_overload(&error) => {
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
                let answer = waiting.question.alone(self).await;
                waiting.answer(answer);
            });
        join_all(each).await;
    }
}

/// The database is not there, or has more to do than it does in its time: asked again by each, it would have more.
fn is_overload(error: &Error) -> bool {
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

impl<Q: Question> Default for Queues<Q> {
    fn default() -> Self {
        Queues(Mutex::default())
    }
}

impl<Q: Question> Queues<Q> {
    /// Whether a round may begin now.
    fn enter(&self, key: &str, waiting: Waiting<Q>) -> bool {
        let mut queues = self.lock();
        let queue = queues.entry(key.to_owned()).or_insert_with(|| Queue {
            rounds: 0,
            waiting: VecDeque::new(),
        });
        queue.waiting.push_back(waiting);
        let begins = queue.rounds < Q::ROUNDS_AT_ONCE;
        queue.rounds += usize::from(begins);
        begins
    }

    /// What goes into the next round. Whoever asked and is gone meanwhile is not asked for. Nothing: the turn is given back.
    fn next(&self, key: &str) -> Vec<Waiting<Q>> {
        let mut queues = self.lock();
        let Some(queue) = queues.get_mut(key) else {
            return Vec::new();
        };
        queue.waiting.retain(Waiting::is_waited_for);
        let together = queue.waiting.len().min(TOGETHER_MAX);
        let next = queue.waiting.drain(..together).collect();
        // Under the same lock: whoever comes after it finds the turn free.
        if together == 0 {
            give_back(&mut queues, key);
        }
        next
    }

    /// Gives back a turn that ended before its queue was empty.
    fn leave(&self, key: &str) {
        give_back(&mut self.lock(), key);
    }

    /// Nothing here is ever half-done, so that a poisoned lock holds what is right.
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Queue<Q>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What waits is let go of with the last turn: nobody is left to answer it.
fn give_back<Q: Question>(queues: &mut HashMap<String, Queue<Q>>, key: &str) {
    if let Some(queue) = queues.get_mut(key) {
        queue.rounds = queue.rounds.saturating_sub(1);
        if queue.rounds == 0 {
            queues.remove(key);
        }
    }
}
