//! What a client is asked: by a server that has one caller alone, or on behalf of one that answers "input required".
//! A client answers under a number of ours, so that it reaches whoever asked and nobody else's question.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Asker, Child, Outgoing, Shared, State, cancelled};
use crate::deploy::relay::room::Held;
use crate::deploy::relay::wire::{Kind, METHOD_NOT_FOUND, RpcError, SERVER_GONE, kind};

/// Questions that are not answered at once; of one user, the second.
const ASKED: usize = 1024;
const ASKED_OF_USER: usize = 32;
/// Questions that came while nobody called, as servers ask for roots once they are initialised.
const WAITING: usize = 16;
const WAITING_FOR: Duration = Duration::from_secs(30);
/// The longest of them, and the longest reason for which a question is taken back.
const WAITING_BYTES: usize = 64 << 10;

/// What a client said that it can be asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::deploy::relay) struct CanAnswer {
    sampling: bool,
    form: bool,
    url: bool,
    roots: bool,
}

impl CanAnswer {
    /// Of the capabilities that a client declared.
    pub fn of(capabilities: &Value) -> Self {
        let has = |name: &str| capabilities.get(name).is_some_and(Value::is_object);
        let mode = |name: &str| capabilities["elicitation"][name].is_object();
        Self {
            sampling: has("sampling"),
            // Without a mode it is the form, which was there first.
            form: has("elicitation") && (mode("form") || !mode("url")),
            url: mode("url"),
            roots: has("roots"),
        }
    }

    pub fn allows(self, request: &Value) -> bool {
        match request["method"].as_str().unwrap_or_default() {
            "sampling/createMessage" => self.sampling,
            "roots/list" => self.roots,
            "elicitation/create" if request["params"]["mode"] == "url" => self.url,
            "elicitation/create" => self.form,
            _ => false,
        }
    }
}

/// A question on its way, by the number under which the client knows it.
pub(super) struct Question {
    asker: Asker,
    /// The call during which it was asked.
    call: Option<u64>,
    by: By,
}

enum By {
    /// The server, under this id.
    Server(Value),
    /// Ourselves, for a server whose answer asked for more, during a request that its client calls so.
    Us(oneshot::Sender<ClientAnswer>, Value),
}

/// A client's answer, and the room that it takes.
pub(in crate::deploy::relay) type ClientAnswer = (Value, Option<Held>);

pub(super) struct Waiting {
    since: Instant,
    request: Value,
    weight: usize,
}

impl Child {
    /// The request that puts a question of ours to a client, and its answer when it comes.
    pub fn ask(
        &self,
        asker: Asker,
        client_id: &Value,
        mut request: Value,
    ) -> Result<(Value, oneshot::Receiver<ClientAnswer>), RpcError> {
        let (sender, answer) = oneshot::channel();
        let mut state = self.shared.state();
        state
            .asked
            .retain(|_, asked| !matches!(&asked.by, By::Us(gone, _) if gone.is_closed()));
        if state.is_full(asker) {
            return Err(RpcError::new(
                StatusCode::OK,
                SERVER_GONE,
                "This server asks the client too much at once. Try again when the open questions are answered.",
            ));
        }
        let number = state.number();
        let asked = Question {
            asker,
            call: None,
            by: By::Us(sender, client_id.clone()),
        };
        state.asked.insert(number, asked);
        request["id"] = json!(number);
        Ok((request, answer))
    }

    /// Brings a client's answer to whoever asked. One to nothing that this client was asked is dropped.
    pub async fn answered(&self, asker: Asker, mut answer: Value, held: Option<Held>) {
        let asked = {
            let mut state = self.shared.state();
            let number = answer["id"].as_u64();
            let number = number.filter(|number| {
                let asked = state.asked.get(number);
                asked.is_some_and(|asked| asked.asker == asker)
            });
            number.and_then(|number| state.asked.remove(&number))
        };
        match asked.map(|asked| asked.by) {
            Some(By::Server(id)) => {
                answer["id"] = id;
                // A server that is gone needs no answer.
                let _ = self.send(answer, held).await;
            }
            Some(By::Us(sender, _)) => {
                let _ = sender.send((answer, held));
            }
            None => {}
        }
    }
}

impl State {
    /// The call whose client is asked: the last that can be.
    fn call_for(&self, request: &Value) -> Option<u64> {
        self.pending
            .iter()
            .filter(|(_, pending)| pending.can_answer.allows(request))
            .map(|(id, _)| *id)
            .max()
    }

    fn is_full(&self, asker: Asker) -> bool {
        let own = self.asked.values();
        let own = own.filter(|asked| asked.asker.client.user == asker.client.user);
        self.asked.len() >= ASKED || own.count() >= ASKED_OF_USER
    }

    /// Forgets what we asked during a request, or during all of a session: it was cancelled.
    pub fn forget_questions(&mut self, asker: Asker, during: Option<&Value>) {
        self.asked.retain(|_, asked| {
            let is_of = asked.asker == asker
                && matches!(&asked.by, By::Us(_, id) if during.is_none_or(|during| during == id));
            !is_of
        });
    }

    /// Forgets what was asked during a call; answers the server's ids of it.
    pub fn forget_asked(&mut self, call: u64) -> Vec<Value> {
        let asked = self
            .asked
            .extract_if(|_, asked| asked.call == Some(call))
            .filter_map(|(_, asked)| match asked.by {
                By::Server(id) => Some(id),
                By::Us(..) => None,
            });
        asked.collect()
    }
}

impl Shared {
    /// A server's own request. A shared server's cannot be attributed to one of its clients.
    pub fn asked_by_server(&self, request: Value, weight: usize) {
        let Some(Kind::Request { id, method }) = kind(&request) else {
            return;
        };
        let why = match method {
            "ping" => {
                self.reply(&json!({"jsonrpc": "2.0", "id": id, "result": {}}));
                return;
            }
            _ if !self.may_ask => {
                "This server is shared by several clients, so none of them can be asked."
            }
            "sampling/createMessage" | "elicitation/create" | "roots/list" => {
                let mut state = self.state();
                if let Some(call) = state.call_for(&request) {
                    match self.put(&mut state, call, &request, weight) {
                        true => return,
                        false => {
                            "The client that is asked does not read, or is asked too much at once."
                        }
                    }
                } else if state.pending.is_empty()
                    && state.waiting.len() < WAITING
                    && weight <= WAITING_BYTES
                {
                    state.waiting.push(Waiting {
                        since: Instant::now(),
                        request,
                        weight,
                    });
                    self.waits.notify_one();
                    return;
                } else {
                    "The client that calls did not say that it can be asked this."
                }
            }
            _ => "The gateway does not pass this request on to a client.",
        };
        self.refuse(id, why);
    }

    /// Puts a server's question to the client of a call. False when there is no place for it.
    fn put(&self, state: &mut State, call: u64, request: &Value, weight: usize) -> bool {
        let asker = state.pending.get(&call).map(|pending| pending.asker);
        if asker.is_none_or(|asker| state.is_full(asker)) {
            return false;
        }
        let number = state.number();
        let Some(pending) = state.pending.get(&call) else {
            return false;
        };
        let mut held = self.room.hold(pending.asker.client);
        let mut told = request.clone();
        told["id"] = json!(number);
        if held.resize(weight).is_err() || pending.told.try_send((told, held)).is_err() {
            return false;
        }
        let asked = Question {
            asker: pending.asker,
            call: Some(call),
            by: By::Server(request["id"].clone()),
        };
        state.asked.insert(number, asked);
        true
    }

    /// Puts what waits to the client of a call that has just begun.
    pub fn put_waiting(&self, state: &mut State, call: u64) {
        let waiting = std::mem::take(&mut state.waiting);
        for kept in waiting {
            let pending = state.pending.get(&call);
            let can = pending.is_some_and(|pending| pending.can_answer.allows(&kept.request));
            if !can || !self.put(state, call, &kept.request, kept.weight) {
                state.waiting.push(kept);
            }
        }
    }

    /// The server takes back what it asked, so the client need not answer any more.
    pub fn taken_back(&self, message: &Value) {
        let id = &message["params"]["requestId"];
        let mut state = self.state();
        state.waiting.retain(|kept| kept.request["id"] != *id);
        let number = state.asked.iter().find_map(|(number, asked)| {
            matches!(&asked.by, By::Server(own) if own == id).then_some(*number)
        });
        let Some(asked) = number.and_then(|number| state.asked.remove(&number)) else {
            return;
        };
        if let (Some(number), Some(pending)) =
            (number, asked.call.and_then(|call| state.pending.get(&call)))
        {
            let mut held = self.room.hold(pending.asker.client);
            let reason = message["params"]["reason"].as_str();
            let reason = reason.filter(|reason| reason.len() <= WAITING_BYTES);
            let told = cancelled(number, reason.map(Value::from).as_ref());
            // A place stays for what comes after it.
            if pending.told.capacity() > 1 && held.resize(told.to_string().len()).is_ok() {
                let _ = pending.told.try_send((told, held));
            }
        }
    }

    pub fn refuse(&self, id: &Value, why: &str) {
        self.reply(&RpcError::new(StatusCode::OK, METHOD_NOT_FOUND, why).message(id));
    }

    /// Answers the server. One that asks without reading loses answers rather than fill the memory.
    fn reply(&self, message: &Value) {
        let Outgoing { line, .. } = Outgoing::new(message.clone(), None);
        let _ = self.replies.try_send(line);
    }
}

/// Refuses what nobody came for.
pub(super) async fn give_up_waiting(shared: Arc<Shared>) {
    loop {
        let oldest = shared.state().waiting.first().map(|kept| kept.since);
        let passed = async {
            match oldest {
                Some(since) => tokio::time::sleep_until(since + WAITING_FOR).await,
                None => shared.waits.notified().await,
            }
        };
        tokio::select! {
            () = passed => {}
            () = shared.ended.cancelled() => return,
        }
        let late: Vec<Waiting> = {
            let mut state = shared.state();
            let waiting = std::mem::take(&mut state.waiting);
            let (late, kept) = waiting
                .into_iter()
                .partition(|kept| kept.since.elapsed() >= WAITING_FOR);
            state.waiting = kept;
            late
        };
        for kept in late {
            shared.refuse(&kept.request["id"], "Nobody called who can be asked this.");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_asked_what_it_said_that_it_can_be() {
        let form = json!({"method": "elicitation/create", "params": {"message": "?"}});
        let url = json!({"method": "elicitation/create", "params": {"mode": "url"}});
        let sampling = json!({"method": "sampling/createMessage"});
        let roots = json!({"method": "roots/list"});
        let other = json!({"method": "tools/list"});
        for (capabilities, expected) in [
            (json!({}), [false, false, false, false]),
            (json!({"elicitation": {}}), [true, false, false, false]),
            (
                json!({"elicitation": {"url": {}}}),
                [false, true, false, false],
            ),
            (
                json!({"elicitation": {"url": {}, "form": {}}}),
                [true, true, false, false],
            ),
            (
                json!({"sampling": {}, "roots": {"listChanged": true}}),
                [false, false, true, true],
            ),
            (json!({"sampling": true}), [false, false, false, false]),
        ] {
            let can = CanAnswer::of(&capabilities);
            let asked = [&form, &url, &sampling, &roots].map(|request| can.allows(request));
            assert_eq!(asked, expected, "{capabilities}");
            assert!(!can.allows(&other));
        }
    }
}
