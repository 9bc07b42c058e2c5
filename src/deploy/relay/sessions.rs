//! Sessions of the era before 2026-07-28: bounded for each user, forgotten when idle, each bound to one client.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use super::child::Told;
use super::guesses::Guesses;
use super::room::{Room, weigh};
use super::streams::EventLog;
use super::wire::{RpcError, SESSION_HEADER, SESSION_UNKNOWN};
use super::{ClientKey, Limits};

/// Resources that a user hears of, over all their sessions.
const SUBSCRIPTIONS: usize = 256;
/// The longest URI that a session may subscribe to.
const URI_LEN_BYTES: usize = 2048;

/// Answers of one session that can be taken up again.
const STREAMS: usize = 16;
/// How much a client's word of itself may take for it to be kept.
const INTRODUCTION_BYTES: usize = 32 << 10;

/// What a client says of itself when it begins a session.
#[derive(Debug, Default)]
pub(super) struct Introduction {
    pub capabilities: Value,
    pub client_info: Value,
}

impl Introduction {
    /// Of an `initialize`.
    pub fn of(message: &Value) -> Self {
        let kept = |name: &str| {
            let said = message["params"].get(name)?;
            (weigh(said.to_string().as_bytes()) <= INTRODUCTION_BYTES).then(|| said.clone())
        };
        Self {
            capabilities: kept("capabilities").unwrap_or_else(|| json!({})),
            client_info: kept("clientInfo").unwrap_or(Value::Null),
        }
    }
}

pub(super) struct Sessions {
    limits: Limits,
    room: Room,
    /// The two clients that last called without a session: one of them is not the client in question.
    callers: Mutex<Vec<(ClientKey, Instant)>>,
    by_id: Mutex<HashMap<Uuid, Session>>,
}

struct Session {
    client: ClientKey,
    version: String,
    /// The session's id at a server that speaks HTTP itself.
    upstream: Option<String>,
    introduction: Arc<Introduction>,
    /// From which level on it wants log messages, at a server that is told with each request.
    log_level: Option<String>,
    used: Instant,
    /// What the server tells it, once it has listened.
    told: Option<Arc<EventLog>>,
    answers: VecDeque<Arc<EventLog>>,
    subscriptions: HashSet<String>,
}

/// What a request needs to know of its session.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub id: Uuid,
    pub version: String,
    pub upstream: Option<String>,
    pub introduction: Arc<Introduction>,
    pub log_level: Option<String>,
}

impl Sessions {
    pub fn new(limits: Limits, room: Room) -> Self {
        Self {
            limits,
            room,
            callers: Mutex::default(),
            by_id: Mutex::new(HashMap::new()),
        }
    }

    /// A new session. A user's oldest makes room for their newest; where all are taken, the oldest of whoever has most does, so
    /// that nobody can shut the others out.
    pub fn open(
        &self,
        client: ClientKey,
        version: &str,
        upstream: Option<String>,
        introduction: Introduction,
    ) -> Uuid {
        let mut by_id = self.lock();
        by_id.retain(|_, session| !session.is_idle(&self.limits));
        let mut counts: HashMap<Uuid, usize> = HashMap::new();
        for session in by_id.values() {
            *counts.entry(session.client.user).or_default() += 1;
        }
        let own = counts.get(&client.user).copied().unwrap_or_default();
        let oldest = if own >= self.limits.sessions_per_user {
            oldest(&by_id, |user| user == client.user)
        } else if by_id.len() >= self.limits.sessions {
            let most = counts.values().max().copied();
            oldest(&by_id, |user| counts.get(&user).copied() == most)
        } else {
            None
        };
        if let Some(oldest) = oldest {
            by_id.remove(&oldest);
        }
        let id = uuid::Builder::from_random_bytes(rand::random()).into_uuid();
        let session = Session {
            client,
            version: version.to_owned(),
            upstream,
            introduction: Arc::new(introduction),
            log_level: None,
            used: Instant::now(),
            told: None,
            answers: VecDeque::new(),
            subscriptions: HashSet::new(),
        };
        by_id.insert(id, session);
        id
    }

    /// The session that a request names. Another client's is as unknown as one that never was.
    pub fn find(&self, client: ClientKey, headers: &HeaderMap) -> Result<Found, RpcError> {
        let Some(id) = headers.get(SESSION_HEADER) else {
            return Err(RpcError::invalid(
                "The Mcp-Session-Id header is missing; send initialize first.",
            ));
        };
        let id = id.to_str().ok().and_then(|id| Uuid::try_parse(id).ok());
        let mut by_id = self.lock();
        let found = id.and_then(|id| by_id.get_mut(&id).map(|session| (id, session)));
        match found {
            Some((id, session)) if session.client == client && !session.is_idle(&self.limits) => {
                session.used = Instant::now();
                Ok(Found {
                    id,
                    version: session.version.clone(),
                    upstream: session.upstream.clone(),
                    introduction: Arc::clone(&session.introduction),
                    log_level: session.log_level.clone(),
                })
            }
            _ => Err(RpcError::new(
                StatusCode::NOT_FOUND,
                SESSION_UNKNOWN,
                "This session is not known; start a new one with initialize.",
            )),
        }
    }

    pub fn close(&self, id: Uuid) {
        let closed = self.lock().remove(&id);
        if let Some(session) = closed {
            // What it asked for may still be told of.
            self.called(session.client);
        }
    }

    pub fn set_log_level(&self, id: Uuid, level: &str) {
        if let Some(session) = self.lock().get_mut(&id) {
            session.log_level = Some(level.chars().take(20).collect());
        }
    }

    /// Keeps an answer for whoever is cut off from it.
    pub fn keep(&self, id: Uuid, answer: Arc<EventLog>) {
        let mut by_id = self.lock();
        let Some(session) = by_id.get_mut(&id) else {
            return;
        };
        if session.answers.len() >= STREAMS
            && let Some(oldest) = session.answers.pop_front()
        {
            oldest.forget();
        }
        session.answers.push_back(answer);
    }

    /// The answer that a client was cut off from, and the event that it got last.
    pub fn cut_off(&self, id: Uuid, headers: &HeaderMap) -> Option<(Arc<EventLog>, u64)> {
        let (answer, number) = last_event(headers)?;
        let by_id = self.lock();
        let mut answers = by_id.get(&id)?.answers.iter();
        let found = answers.find(|kept| kept.id() == answer)?;
        Some((Arc::clone(found), number))
    }

    /// What the server tells a session, and after which event it is to go on: where its client was cut off, or from now on.
    pub fn told(
        &self,
        id: Uuid,
        headers: &HeaderMap,
        guesses: &Guesses,
    ) -> (Arc<EventLog>, Option<u64>) {
        let mut by_id = self.lock();
        let Some(session) = by_id.get_mut(&id) else {
            // It was closed meanwhile.
            let nothing = EventLog::new("", None);
            nothing.end();
            return (nothing, None);
        };
        let slows = (guesses.clone(), session.client);
        let version = &session.version;
        let log = session
            .told
            .get_or_insert_with(|| EventLog::new(version, Some(slows)));
        let cut_off = last_event(headers).filter(|(stream, _)| *stream == log.id());
        (Arc::clone(log), cut_off.map(|(_, number)| number))
    }

    /// Notes that the session wants to hear of a resource. False when it has too many.
    pub fn subscribe(&self, id: Uuid, uri: &str) -> bool {
        let mut by_id = self.lock();
        let user = by_id.get(&id).map(|session| session.client.user);
        let own = by_id
            .values()
            .filter(|session| Some(session.client.user) == user);
        if own
            .map(|session| session.subscriptions.len())
            .sum::<usize>()
            >= SUBSCRIPTIONS
        {
            return false;
        }
        match by_id.get_mut(&id) {
            Some(session) if uri.len() <= URI_LEN_BYTES => {
                session.subscriptions.insert(uri.to_owned());
                true
            }
            _ => false,
        }
    }

    /// Whether any session wants to hear of a resource.
    pub fn want(&self, uri: &str) -> bool {
        self.lock()
            .values()
            .any(|session| session.subscriptions.contains(uri))
    }

    /// True when another session still wants to hear of it, so the server must not be told.
    pub fn unsubscribe(&self, id: Uuid, uri: &str) -> bool {
        let mut by_id = self.lock();
        if let Some(session) = by_id.get_mut(&id) {
            session.subscriptions.remove(uri);
        }
        by_id
            .values()
            .any(|session| session.subscriptions.contains(uri))
    }

    /// Notes that a client called without a session.
    pub fn called(&self, client: ClientKey) {
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        callers.retain(|(other, _)| *other != client);
        callers.insert(0, (client, Instant::now()));
        callers.truncate(2);
    }

    /// Passes a shared server's notification to those whom it concerns. What does not concern all
    /// and names nobody (a log message) goes out only while one client alone has sessions and calls:
    /// it may speak of what another client did.
    pub fn notify(&self, told: &Told<'_>) {
        let mut by_id = self.lock();
        by_id.retain(|_, session| !session.is_idle(&self.limits));
        let method = told.message["method"].as_str().unwrap_or_default();
        let uri = told.message["params"]["uri"].as_str().unwrap_or_default();
        let mut clients: HashSet<ClientKey> =
            by_id.values().map(|session| session.client).collect();
        let callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        // A call that began longer ago has ended.
        let recent = callers
            .iter()
            .filter(|(_, at)| at.elapsed() <= self.limits.request_total_timeout);
        clients.extend(recent.map(|(client, _)| *client));
        let is_concerned = |session: &&Session| match method {
            "notifications/tools/list_changed"
            | "notifications/prompts/list_changed"
            | "notifications/resources/list_changed" => true,
            "notifications/resources/updated" => session.subscriptions.contains(uri),
            _ => clients.len() == 1,
        };
        let logs: Vec<(ClientKey, Arc<EventLog>)> = by_id
            .values()
            .filter(is_concerned)
            .filter_map(|session| Some((session.client, Arc::clone(session.told.as_ref()?))))
            .collect();
        drop((by_id, callers));
        // Written once for all of them, and while nobody waits for the sessions.
        if logs.is_empty() {
            return;
        }
        let text = Arc::new(told.message.to_string());
        for (client, log) in logs {
            log.tell(&text, told.masked, || {
                let mut held = self.room.hold(client);
                held.resize(told.weight).ok()?;
                held.shrink(text.len());
                Some(held)
            });
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Session>> {
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        for answer in &self.answers {
            answer.forget();
        }
        if let Some(told) = &self.told {
            told.end();
        }
    }
}

impl Session {
    fn is_idle(&self, limits: &Limits) -> bool {
        let listening = self.told.as_ref().is_some_and(|told| told.is_read());
        !listening && self.used.elapsed() > limits.session_idle
    }
}

/// The session that makes room among those of some users: whose last request is the longest ago. A stream ends before long and is asked
/// for again, so one that is listened to is not among the oldest.
fn oldest(by_id: &HashMap<Uuid, Session>, is_of: impl Fn(Uuid) -> bool) -> Option<Uuid> {
    let some = by_id
        .iter()
        .filter(|(_, session)| is_of(session.client.user));
    let oldest = some.min_by_key(|(_, session)| session.used);
    oldest.map(|(id, _)| *id)
}

/// The stream and the event in it that a client names as the last that it got.
fn last_event(headers: &HeaderMap) -> Option<(u64, u64)> {
    EventLog::parse(headers.get("last-event-id")?.to_str().ok()?)
}
