//! Questions of a server of the session era to a client of the stateless era: the client's request is answered with them, and waits
//! here until the client comes again with what it says to them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::AbortHandle;
use uuid::Uuid;

use super::ClientKey;
use super::child::{Asker, Call, Child};
use super::room::Held;
use super::stateless::INVALID_PARAMS;
use super::wire::{RpcError, SERVER_GONE};

/// Requests that wait for their clients at once; of one user, the second.
const PARKED: usize = 256;
const PARKED_OF_USER: usize = 64;
const PARKED_FOR: Duration = Duration::from_secs(600);

/// The requests that wait, by the state that their clients bring back.
#[derive(Default)]
pub(super) struct Parked(Mutex<HashMap<String, ParkedCall>>);

struct ParkedCall {
    client: ClientKey,
    /// Method and name of what was called: only the same is taken up again.
    about: (String, Option<String>),
    call: Option<Call>,
    /// As the server put it, under our number.
    question: Option<(Value, Held)>,
    /// Gives it up when its client does not come.
    giving_up: AbortHandle,
}

impl Drop for ParkedCall {
    fn drop(&mut self) {
        self.giving_up.abort();
    }
}

impl Parked {
    /// Keeps a call that waits for its client. The result that asks for it.
    pub fn park(
        self: &Arc<Self>,
        client: ClientKey,
        about: (String, Option<String>),
        call: Call,
        question: (Value, Held),
    ) -> Result<Value, RpcError> {
        let state = Uuid::from_bytes(rand::random()).simple().to_string();
        let mut waiting = self.lock();
        let own = waiting.values();
        let own = own.filter(|kept| kept.client.user == client.user).count();
        if waiting.len() >= PARKED || own >= PARKED_OF_USER {
            return Err(RpcError::new(
                http::StatusCode::OK,
                SERVER_GONE,
                "Too many requests wait for what their clients say. Answer one of them, or try again in ten minutes.",
            ));
        }
        let result = json!({
            "resultType": "input_required",
            "inputRequests": {(question.0["id"].to_string()): asked(&question.0)},
            "requestState": state,
        });
        let (parked, key) = (Arc::downgrade(self), state.clone());
        let giving_up = tokio::spawn(async move {
            tokio::time::sleep(PARKED_FOR).await;
            if let Some(parked) = parked.upgrade() {
                let late = parked.lock().remove(&key);
                drop(late);
            }
        });
        let kept = ParkedCall {
            client,
            about,
            call: Some(call),
            question: Some(question),
            giving_up: giving_up.abort_handle(),
        };
        waiting.insert(state, kept);
        Ok(result)
    }

    /// The call that a client's request takes up again, once it said what it was asked; or what it is asked once more.
    pub async fn take_up(
        self: &Arc<Self>,
        child: &Child,
        client: ClientKey,
        about: (String, Option<String>),
        params: &Value,
    ) -> Result<Taken, RpcError> {
        let state = params["requestState"].as_str().unwrap_or_default();
        let found = {
            let mut waiting = self.lock();
            let is_its = waiting
                .get(state)
                .is_some_and(|kept| kept.client == client && kept.about == about);
            is_its.then(|| waiting.remove(state)).flatten()
        };
        let taken = found.and_then(|mut kept| Some((kept.call.take()?, kept.question.take()?)));
        let Some((call, question)) = taken else {
            return Err(RpcError::new(
                http::StatusCode::BAD_REQUEST,
                INVALID_PARAMS,
                "This requestState is not known, or not any more; call again without it.",
            ));
        };
        let number = question.0["id"].clone();
        let Some(said) = params["inputResponses"].get(number.to_string()) else {
            let again = self.park(client, about, call, question)?;
            return Ok(Taken::AskedAgain(again));
        };
        let asker = Asker {
            client,
            session: None,
        };
        let answer = json!({"jsonrpc": "2.0", "id": number, "result": said});
        child.answered(asker, answer, None).await;
        Ok(Taken::Call(call))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, ParkedCall>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[expect(clippy::large_enum_variant, reason = "it is looked at and gone")]
pub(super) enum Taken {
    Call(Call),
    AskedAgain(Value),
}

/// A question without what belongs to its way.
fn asked(question: &Value) -> Value {
    let mut asked = json!({"method": question["method"]});
    if let Some(params) = question.get("params") {
        asked["params"] = params.clone();
    }
    asked
}
