//! What sessions are told without asking each time, at a server of the stateless era: the gateway listens there on their behalf.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::ClientKey;
use super::child::{Asker, CanAnswer, Child, Said, Told};
use super::sessions::Sessions;
use super::stateless::{CAPABILITIES_KEY, VERSION_KEY};
use super::wire::{LISTEN, STATELESS_VERSION, SUBSCRIPTION_KEY};

/// Resources that are listened for at once.
const RESOURCES: usize = 1024;
/// One that ended sooner was not meant to last.
const SHORT: Duration = Duration::from_secs(5);

pub(super) struct Standing {
    child: Child,
    sessions: Arc<Sessions>,
    listens_for_lists: AtomicBool,
    resources: Mutex<HashMap<String, CancellationToken>>,
}

impl Standing {
    pub fn new(child: Child, sessions: Arc<Sessions>) -> Self {
        Self {
            child,
            sessions,
            listens_for_lists: AtomicBool::new(false),
            resources: Mutex::default(),
        }
    }

    /// Listens for changes of the lists, once somebody wants to hear of them.
    pub fn lists(&self, capabilities: &Value) {
        let mut filter = json!({});
        for kind in ["tools", "prompts", "resources"] {
            if capabilities[kind]["listChanged"] == true {
                filter[format!("{kind}ListChanged")] = json!(true);
            }
        }
        if filter.as_object().is_some_and(|filter| !filter.is_empty())
            && !self.listens_for_lists.swap(true, Ordering::AcqRel)
        {
            self.listen(filter, CancellationToken::new());
        }
    }

    /// Listens for changes of a resource. False when there are too many.
    pub fn resource(&self, uri: &str) -> bool {
        let mut resources = self
            .resources
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if resources.get(uri).is_some_and(|stop| !stop.is_cancelled()) {
            return true;
        }
        // Those of sessions that ended, and those that the server gave up, make room.
        resources.retain(|uri, stop| {
            let is_wanted = !stop.is_cancelled() && self.sessions.want(uri);
            if !is_wanted {
                stop.cancel();
            }
            is_wanted
        });
        if resources.len() >= RESOURCES {
            return false;
        }
        let stop = CancellationToken::new();
        resources.insert(uri.to_owned(), stop.clone());
        self.listen(json!({"resourceSubscriptions": [uri]}), stop);
        true
    }

    pub fn no_resource(&self, uri: &str) {
        let mut resources = self
            .resources
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(stop) = resources.remove(uri) {
            stop.cancel();
        }
    }

    fn listen(&self, filter: Value, stop: CancellationToken) {
        let (child, sessions) = (self.child.clone(), Arc::downgrade(&self.sessions));
        let asker = Asker {
            // Nobody's: what it holds is counted apart.
            client: ClientKey::nobody(),
            session: None,
        };
        let request = json!({
            "jsonrpc": "2.0",
            "id": 0,
            "method": LISTEN,
            "params": {
                "notifications": filter,
                "_meta": {VERSION_KEY: STATELESS_VERSION, CAPABILITIES_KEY: {}},
            },
        });
        let ended = child.ended();
        let listening = async move {
            // Each lasts for a while. A server that refuses, or ends it at once, is not asked again.
            loop {
                let began = Instant::now();
                let call = child.call(asker, CanAnswer::default(), request.clone(), None);
                let Ok(mut call) = call.await else {
                    return;
                };
                loop {
                    match call.next().await {
                        Said::Told(message, held, masked) => {
                            let Some(sessions) = sessions.upgrade() else {
                                return;
                            };
                            pass_on(&sessions, message, held.bytes(), masked);
                        }
                        Said::Answer(answer, _)
                            if answer.get("result").is_some() && began.elapsed() > SHORT =>
                        {
                            break;
                        }
                        Said::Answer(..) | Said::Failed(_) => return,
                    }
                }
            }
        };
        tokio::spawn(async move {
            tokio::select! {
                () = listening => stop.cancel(),
                () = stop.cancelled() => {}
                () = ended.cancelled() => {}
            }
        });
    }
}

fn pass_on(sessions: &Sessions, mut message: Value, weight: usize, masked: usize) {
    if message["method"] == "notifications/subscriptions/acknowledged" {
        return;
    }
    if let Some(params) = message.get_mut("params").and_then(Value::as_object_mut)
        && let Some(meta) = params.get_mut("_meta").and_then(Value::as_object_mut)
    {
        meta.shift_remove(SUBSCRIPTION_KEY);
        if meta.is_empty() {
            params.shift_remove("_meta");
        }
    }
    sessions.notify(&Told {
        message: &message,
        weight,
        masked,
    });
}
