//! One request of a client of a session, with all that is told and asked before its answer. At a server of the stateless era each
//! answer may ask for more: the client is asked, and the request goes again with what it said.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use futures::future::BoxFuture;
use http::StatusCode;
use serde_json::{Map, Value, json};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::child::{Asker, Call, CanAnswer, Child, ClientAnswer, Said};
use super::room::{Full, Held, Room, weigh};
use super::sessions::{Found, Sessions};
use super::stateless::{CAPABILITIES_KEY, VERSION_KEY};
use super::streams::EventLog;
use super::wire::{
    Accepts, CANCELLED, RpcError, SERVER_GONE, STATELESS_VERSION, event_response, json_response,
};

/// How often one request may ask for more.
const ROUNDS: u8 = 16;
/// An answer that takes no longer comes as JSON where the client takes it.
const QUIET: Duration = Duration::from_secs(1);
const CLIENT_KEY: &str = "io.modelcontextprotocol/clientInfo";
const LOG_LEVEL_KEY: &str = "io.modelcontextprotocol/logLevel";

/// How a server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Era {
    /// It had `initialize`, and may ask its clients.
    Session,
    /// Each request stands alone and says who asks.
    Stateless,
}

pub(super) struct Conversation {
    child: Child,
    asker: Asker,
    can_answer: CanAnswer,
    /// When all of it, with what is asked on the way, has taken long enough.
    deadline: Instant,
    call: Call,
    again: Option<Again>,
}

/// What it takes to ask a server of the stateless era again.
struct Again {
    request: Value,
    _held: Held,
    rounds: u8,
    state: Option<Value>,
    /// On their way to the client.
    outbox: VecDeque<(Value, Held)>,
    /// Not answered yet, by the server's names.
    questions: Vec<(String, oneshot::Receiver<ClientAnswer>)>,
    is_due: bool,
}

impl Conversation {
    pub async fn begin(
        child: &Child,
        room: &Room,
        era: Era,
        (asker, session): (Asker, &Found),
        accepts: Accepts,
        (mut message, held): (Value, Held),
        total: Duration,
    ) -> Result<Self, RpcError> {
        let mut capabilities = session.introduction.capabilities.clone();
        if !accepts.events {
            // It hears nothing before the answer.
            capabilities = json!({});
        }
        let can_answer = CanAnswer::of(&capabilities);
        let again = match era {
            Era::Session => None,
            Era::Stateless => {
                envelop(&mut message, session, capabilities);
                let mut kept = room.hold(asker.client);
                let weight = weigh(message.to_string().as_bytes());
                kept.resize_soon(weight).await.map_err(Full::error)?;
                Some(Again {
                    request: message.clone(),
                    _held: kept,
                    rounds: 0,
                    state: None,
                    outbox: VecDeque::new(),
                    questions: Vec::new(),
                    is_due: false,
                })
            }
        };
        let call = child.call(asker, can_answer, message, Some(held)).await?;
        Ok(Self {
            child: child.clone(),
            asker,
            can_answer,
            deadline: Instant::now() + total,
            call,
            again,
        })
    }

    /// The answer where nothing else can be told.
    pub async fn answer(mut self) -> Result<(Value, Held), RpcError> {
        loop {
            match self.next().await {
                Said::Told(..) => {}
                Said::Answer(message, held) => return Ok((message, held)),
                Said::Failed(error) => return Err(error),
            }
        }
    }

    async fn next(&mut self) -> Said {
        loop {
            if let Some(again) = &mut self.again {
                if let Some((question, held)) = again.outbox.pop_front() {
                    return Said::Told(question, held, 0);
                }
                if again.is_due
                    && let Err(error) = self.ask_again().await
                {
                    return Said::Failed(error);
                }
            }
            match self.call.next().await {
                Said::Answer(message, held) if self.again.is_some() => {
                    match self.sort(message).await {
                        Ok(Some(answer)) => return Said::Answer(answer, held),
                        Ok(None) => {}
                        Err(error) => return Said::Failed(error),
                    }
                }
                said => return said,
            }
        }
    }

    /// An answer as the session era has it; none when the server asks for more.
    async fn sort(&mut self, mut answer: Value) -> Result<Option<Value>, RpcError> {
        let Some(again) = &mut self.again else {
            return Ok(Some(answer));
        };
        let Some(result) = answer.get_mut("result").and_then(Value::as_object_mut) else {
            return Ok(Some(answer));
        };
        if result
            .get("resultType")
            .is_none_or(|kind| kind != "input_required")
        {
            result.shift_remove("resultType");
            return Ok(Some(answer));
        }
        again.rounds += 1;
        if again.rounds > ROUNDS {
            return Err(failed(format!(
                "The server asked for more than {ROUNDS} times."
            )));
        }
        again.state = result.remove("requestState");
        again.is_due = true;
        let asked = result.remove("inputRequests").unwrap_or_default();
        for (key, request) in asked.as_object().into_iter().flatten() {
            let mut question = json!({"jsonrpc": "2.0", "method": request["method"]});
            if let Some(params) = request.get("params") {
                question["params"] = params.clone();
            }
            if !self.can_answer.allows(&question) {
                return Err(failed(format!(
                    "The server asks the client for {}, which this client did not say that it can answer.",
                    question["method"]
                )));
            }
            let mut held = self.child.hold(self.asker.client);
            let weight = weigh(question.to_string().as_bytes());
            held.resize_soon(weight).await.map_err(Full::answer_error)?;
            let during = &again.request["id"];
            let (question, answer) = self.child.ask(self.asker, during, question)?;
            again.outbox.push_back((question, held));
            again.questions.push((key.clone(), answer));
        }
        Ok(None)
    }

    /// Waits for what the client says, and sends the request again with it.
    async fn ask_again(&mut self) -> Result<(), RpcError> {
        let Some(again) = &mut self.again else {
            return Ok(());
        };
        again.is_due = false;
        let mut said = Map::new();
        // What the client says takes its room until it is on its way to the server.
        let mut room = self.child.hold(self.asker.client);
        for (key, answer) in again.questions.drain(..) {
            let answer = tokio::time::timeout_at(self.deadline, answer).await;
            let (mut answer, held) = answer.map_err(|_| late())?.map_err(|_| {
                RpcError::new(StatusCode::OK, CANCELLED, "The request was cancelled.")
            })?;
            if let Some(held) = held {
                room.absorb(held);
            }
            match answer.get_mut("result") {
                Some(result) => said.insert(key, result.take()),
                None => {
                    let why = answer["error"]["message"]
                        .as_str()
                        .unwrap_or("no reason given");
                    return Err(failed(format!(
                        "The client did not answer what the server asked: {why}"
                    )));
                }
            };
        }
        let mut request = again.request.clone();
        if !said.is_empty() {
            request["params"]["inputResponses"] = Value::Object(said);
        }
        if let Some(state) = again.state.take() {
            request["params"]["requestState"] = state;
        }
        if Instant::now() >= self.deadline {
            return Err(late());
        }
        let call = self
            .child
            .call(self.asker, self.can_answer, request, Some(room));
        self.call = call.await?;
        Ok(())
    }
}

type Step = BoxFuture<'static, (Said, Conversation)>;

fn step(mut conversation: Conversation) -> Step {
    Box::pin(async move { (conversation.next().await, conversation) })
}

/// The answer as JSON when it comes at once and nothing is told before it; else as a stream that can be taken up again.
pub(super) async fn respond(
    conversation: Conversation,
    (sessions, session): (&Arc<Sessions>, &Found),
    accepts: Accepts,
    id: Value,
) -> Result<Response, RpcError> {
    if !accepts.events {
        let (answer, held) = conversation.answer().await?;
        return Ok(json_response(StatusCode::OK, &answer, Some(held)));
    }
    let mut first = step(conversation);
    let said = match accepts.json {
        true => tokio::time::timeout(QUIET, &mut first).await.ok(),
        false => None,
    };
    let first = match said {
        Some((Said::Answer(answer, held), _)) => {
            return Ok(json_response(StatusCode::OK, &answer, Some(held)));
        }
        Some((Said::Failed(error), _)) => return Err(error),
        Some(told) => Box::pin(std::future::ready(told)),
        None => first,
    };
    let log = EventLog::new(&session.version, None);
    sessions.keep(session.id, Arc::clone(&log));
    let response = log.response(Some(0), std::future::pending());
    tokio::spawn(pump(log, first, id));
    Ok(response)
}

/// Goes on to the answer whether anybody reads or not: in this era who is cut off did not cancel.
async fn pump(log: Arc<EventLog>, mut next: Step, id: Value) {
    loop {
        match next.await {
            (Said::Told(message, held, _), conversation) => {
                log.push(&message, held);
                next = step(conversation);
            }
            (Said::Answer(message, held), _) => {
                log.push(&message, held);
                break;
            }
            (Said::Failed(error), conversation) => {
                let held = conversation.child.hold(conversation.asker.client);
                log.push(&error.message(&id), held);
                break;
            }
        }
    }
    log.finish().await;
}

/// One message in the form that the client takes, JSON where it can choose.
pub(super) fn at_once(accepts: Accepts, message: Value) -> Response {
    if accepts.json {
        json_response(StatusCode::OK, &message, None)
    } else {
        event_response(futures::stream::iter([(message, None)]))
    }
}

/// Says with a request what its session said once.
fn envelop(message: &mut Value, session: &Found, capabilities: Value) {
    if !message["params"].is_object() {
        message["params"] = json!({});
    }
    if !message["params"]["_meta"].is_object() {
        message["params"]["_meta"] = json!({});
    }
    let meta = &mut message["params"]["_meta"];
    meta[VERSION_KEY] = json!(STATELESS_VERSION);
    meta[CAPABILITIES_KEY] = capabilities;
    if !session.introduction.client_info.is_null() {
        meta[CLIENT_KEY] = session.introduction.client_info.clone();
    }
    if let Some(level) = &session.log_level {
        meta[LOG_LEVEL_KEY] = json!(level);
    }
}

fn late() -> RpcError {
    failed(
        "The request took too long, with all that was asked on its way; it was given up."
            .to_owned(),
    )
}

fn failed(text: String) -> RpcError {
    RpcError::new(StatusCode::OK, SERVER_GONE, text)
}
