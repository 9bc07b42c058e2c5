//! The stateless era (2026-07-28): each request stands alone, names its version and client in `_meta`, and repeats method and name in
//! headers. A server of this era gets it as it is; for one of the era before it is translated.

use std::sync::Arc;

use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};

use super::ClientKey;
use super::child::{Asker, Call, CanAnswer, Child, Said};
use super::conversation::Era;
use super::parked::{Parked, Taken};
use super::room::Held;
use super::wire::{
    Accepts, CAPABILITY_MISSING, HEADER_MISMATCH, Kind, LISTEN, METHOD_NOT_FOUND, RpcError,
    STATELESS_VERSION, accepted, event_response, json_response, kind, named_in, versions,
};

const META: &str = "io.modelcontextprotocol/";
pub const VERSION_KEY: &str = "io.modelcontextprotocol/protocolVersion";
pub(super) const CAPABILITIES_KEY: &str = "io.modelcontextprotocol/clientCapabilities";
pub const SERVER_KEY: &str = "io.modelcontextprotocol/serverInfo";
pub const INVALID_PARAMS: i64 = -32602;

/// What both eras have; sessions, subscriptions, logging and pings went with the old one.
const METHODS: [&str; 8] = [
    "tools/list",
    "tools/call",
    "prompts/list",
    "prompts/get",
    "resources/list",
    "resources/templates/list",
    "resources/read",
    "completion/complete",
];

/// Whether a message says of itself that it is of this era.
pub(super) fn is_stateless(message: &Value) -> bool {
    message["params"]["_meta"].get(VERSION_KEY).is_some()
}

/// The door of this era.
pub(super) struct StatelessDoor {
    child: Child,
    /// How the server behind is spoken to.
    era: Era,
    /// Whether one caller alone is served, who can be asked.
    is_own: bool,
    parked: Arc<Parked>,
}

/// A request that was looked at.
struct Asked {
    client: ClientKey,
    id: Value,
    method: String,
    name: Option<String>,
    accepts: Accepts,
}

impl StatelessDoor {
    pub fn new(child: Child, era: Era, is_own: bool) -> Self {
        Self {
            child,
            era,
            is_own,
            parked: Arc::default(),
        }
    }

    pub fn era(&self) -> Era {
        self.era
    }

    pub async fn post(
        &self,
        info: &Value,
        client: ClientKey,
        headers: &HeaderMap,
        message: Value,
        held: Held,
    ) -> Response {
        let id = message.get("id").cloned().unwrap_or(Value::Null);
        self.answer(info, client, headers, message, held)
            .await
            .unwrap_or_else(|error| error.response(&id))
    }

    async fn answer(
        &self,
        info: &Value,
        client: ClientKey,
        headers: &HeaderMap,
        message: Value,
        held: Held,
    ) -> Result<Response, RpcError> {
        let (id, method) = match kind(&message) {
            Some(Kind::Request { id, method }) if message["jsonrpc"] == "2.0" => {
                (id.clone(), method.to_owned())
            }
            // Closing the stream cancels, and nothing else is left to notify of.
            Some(Kind::Notification { .. }) if message["jsonrpc"] == "2.0" => return Ok(accepted()),
            _ => {
                return Err(RpcError::invalid(
                    "The body is not a JSON-RPC 2.0 request or notification.",
                ));
            }
        };
        let params = &message["params"];
        let name = named_in(&message);
        check_envelope(params["_meta"].as_object(), &method, name, headers)?;
        let accepts = Accepts::of(headers);
        if !(accepts.events || accepts.json && method != LISTEN) {
            return Err(RpcError {
                status: StatusCode::NOT_ACCEPTABLE,
                ..RpcError::invalid("Accept must allow application/json and text/event-stream.")
            });
        }
        let name = name.map(str::to_owned);
        let asked = Asked {
            client,
            id,
            method,
            name,
            accepts,
        };
        match self.era {
            Era::Stateless => self.passed(asked, message, held).await,
            Era::Session => self.translated(info, asked, message, held).await,
        }
    }

    /// At a server of the same era all passes as it is.
    async fn passed(&self, asked: Asked, message: Value, held: Held) -> Result<Response, RpcError> {
        let asker = Asker {
            client: asked.client,
            session: None,
        };
        if asked.method.starts_with("tasks/") && !self.is_own {
            return Err(RpcError::new(
                StatusCode::NOT_FOUND,
                METHOD_NOT_FOUND,
                "Tasks are not offered: this server is shared by several clients.",
            ));
        }
        let wants_events = wants_progress(&message) || asked.method == LISTEN;
        let is_discover = asked.method == "server/discover";
        let can_answer = CanAnswer::default();
        let mut call = self
            .child
            .call(asker, can_answer, message, Some(held))
            .await?;
        call.cancel_on_drop();
        if asked.accepts.events && (wants_events || !asked.accepts.json) {
            return Ok(event_response(messages(call, asked.id)));
        }
        let (mut answer, held) = call.answer().await?;
        if is_discover && let Some(spoken) = answer.pointer_mut("/result/supportedVersions") {
            // Those of this door, which speaks for it in the era before too.
            *spoken = json!(versions());
        }
        Ok(json_response(status_of(&answer), &answer, Some(held)))
    }

    async fn translated(
        &self,
        info: &Value,
        asked: Asked,
        mut message: Value,
        held: Held,
    ) -> Result<Response, RpcError> {
        if asked.method == "server/discover" {
            let answer = json!({"jsonrpc": "2.0", "id": asked.id, "result": discovered(info)});
            return Ok(json_response(StatusCode::OK, &answer, None));
        }
        if !METHODS.contains(&asked.method.as_str()) {
            return Err(RpcError::new(
                StatusCode::NOT_FOUND,
                METHOD_NOT_FOUND,
                "This method is not offered.",
            ));
        }
        let about = (asked.method.clone(), asked.name.clone());
        let wants_events = wants_progress(&message);
        let call = if self.is_own && message["params"].get("requestState").is_some() {
            let params = &message["params"];
            let taken = self
                .parked
                .take_up(&self.child, asked.client, about.clone(), params);
            match taken.await? {
                Taken::Call(call) => call,
                Taken::AskedAgain(result) => {
                    let answer = json!({"jsonrpc": "2.0", "id": asked.id, "result": result});
                    return Ok(json_response(StatusCode::OK, &answer, None));
                }
            }
        } else {
            let can_answer = match self.is_own {
                true => CanAnswer::of(&message["params"]["_meta"][CAPABILITIES_KEY]),
                false => CanAnswer::default(),
            };
            strip_envelope(&mut message);
            let asker = Asker {
                client: asked.client,
                session: None,
            };
            let mut call = self
                .child
                .call(asker, can_answer, message, Some(held))
                .await?;
            call.cancel_on_drop();
            call
        };
        let mut turn = Turn {
            call: Some(call),
            parked: Arc::clone(&self.parked),
            client: asked.client,
            about,
            id: asked.id,
        };
        if asked.accepts.events && (wants_events || !asked.accepts.json) {
            let messages = futures::stream::unfold(turn, |mut turn| async move {
                let (message, held, _) = turn.next().await?;
                Some(((message, held), turn))
            });
            return Ok(event_response(messages));
        }
        while let Some((message, held, is_last)) = turn.next().await {
            if is_last {
                return Ok(json_response(status_of(&message), &message, held));
            }
        }
        Err(RpcError::gone())
    }
}

/// A call at a server of the session era: to its answer, or to a question, which ends the turn.
struct Turn {
    call: Option<Call>,
    parked: Arc<Parked>,
    client: ClientKey,
    about: (String, Option<String>),
    id: Value,
}

impl Turn {
    /// The next message, and whether it is the last.
    async fn next(&mut self) -> Option<(Value, Option<Held>, bool)> {
        let mut call = self.call.take()?;
        match call.next().await {
            Said::Told(question, held, _) if question.get("id").is_some() => {
                let about = self.about.clone();
                let answer = match self.parked.park(self.client, about, call, (question, held)) {
                    Ok(result) => json!({"jsonrpc": "2.0", "id": self.id, "result": result}),
                    Err(error) => error.message(&self.id),
                };
                Some((answer, None, true))
            }
            Said::Told(message, held, _) => {
                self.call = Some(call);
                Some((message, Some(held), false))
            }
            Said::Answer(mut message, held) => {
                // It may have come again under another.
                message["id"] = self.id.clone();
                Some((completed(message, &self.about.0), Some(held), true))
            }
            Said::Failed(error) => Some((error.message(&self.id), None, true)),
        }
    }
}

/// A call's progress, or what a subscription tells, and then its answer.
fn messages(
    call: Call,
    id: Value,
) -> impl futures::Stream<Item = (Value, Option<Held>)> + Send + 'static {
    futures::stream::unfold(Some((call, id)), |state| async move {
        let (mut call, id) = state?;
        match call.next().await {
            Said::Told(message, held, _) => Some(((message, Some(held)), Some((call, id)))),
            Said::Answer(message, held) => Some(((message, Some(held)), None)),
            Said::Failed(error) => Some(((error.message(&id), None), None)),
        }
    })
}

fn wants_progress(message: &Value) -> bool {
    message.pointer("/params/_meta/progressToken").is_some()
}

/// What asks a server whether it speaks this era.
pub(super) fn discover() -> Value {
    json!({
        "jsonrpc": "2.0",
        "id": 0,
        "method": "server/discover",
        "params": {"_meta": {
            VERSION_KEY: STATELESS_VERSION,
            "io.modelcontextprotocol/clientInfo": {"name": "sealport", "version": env!("CARGO_PKG_VERSION")},
            CAPABILITIES_KEY: {},
        }},
    })
}

/// What a server of this era says of itself, as `initialize` has it. None: it is not of this era.
pub(super) fn introduced(answer: &Value) -> Option<Value> {
    let result = answer.get("result")?;
    let versions = result["supportedVersions"].as_array()?;
    if !versions.iter().any(|version| version == STATELESS_VERSION) {
        return None;
    }
    let mut capabilities = result["capabilities"].as_object()?.clone();
    // What the session era has and the gateway answers itself.
    capabilities.entry("logging").or_insert(json!({}));
    let mut info = json!({
        "protocolVersion": STATELESS_VERSION,
        "capabilities": capabilities,
        "serverInfo": result["_meta"].get(SERVER_KEY).cloned().unwrap_or_else(|| json!({"name": "unnamed", "version": "0"})),
    });
    if let Some(instructions) = result.get("instructions") {
        info["instructions"] = instructions.clone();
    }
    Some(info)
}

/// The protocol's own errors have a status too; a server that answers line by line cannot give one.
fn status_of(answer: &Value) -> StatusCode {
    match answer.pointer("/error/code").and_then(Value::as_i64) {
        Some(METHOD_NOT_FOUND) => StatusCode::NOT_FOUND,
        Some(CAPABILITY_MISSING) => StatusCode::BAD_REQUEST,
        _ => StatusCode::OK,
    }
}

/// Checks what each request of this era says of itself: its version and client, in `_meta`, and that its headers agree with it.
/// `named` is the tool, prompt or resource that it is about.
pub fn check_envelope(
    meta: Option<&Map<String, Value>>,
    method: &str,
    named: Option<&str>,
    headers: &HeaderMap,
) -> Result<(), RpcError> {
    let bad = |text: String| RpcError::new(StatusCode::BAD_REQUEST, INVALID_PARAMS, text);
    let Some(meta) = meta else {
        return Err(bad(format!(
            "params._meta must be an object with {VERSION_KEY} and {CAPABILITIES_KEY}."
        )));
    };
    let Some(version) = meta.get(VERSION_KEY).and_then(Value::as_str) else {
        return Err(bad(format!("params._meta.{VERSION_KEY} is missing.")));
    };
    if !meta.get(CAPABILITIES_KEY).is_some_and(Value::is_object) {
        return Err(bad(format!("params._meta.{CAPABILITIES_KEY} is missing.")));
    }
    must_agree(headers, "mcp-protocol-version", version)?;
    must_agree(headers, "mcp-method", method)?;
    if let Some(name) = named {
        must_agree(headers, "mcp-name", name)?;
    }
    if version != STATELESS_VERSION {
        return Err(RpcError::version(version));
    }
    Ok(())
}

/// A header stands once and says what the body says.
fn must_agree(headers: &HeaderMap, header: &'static str, expected: &str) -> Result<(), RpcError> {
    let mut values = headers.get_all(header).iter();
    let stated = values
        .next()
        .and_then(|value| value.to_str().ok())
        .and_then(decode_header);
    if stated.as_deref() == Some(expected) && values.next().is_none() {
        return Ok(());
    }
    Err(RpcError::new(
        StatusCode::BAD_REQUEST,
        HEADER_MISMATCH,
        format!("The {header} header does not match the request's body."),
    ))
}

/// Values that a header cannot carry as they are stand as `=?base64?…?=`.
fn decode_header(value: &str) -> Option<String> {
    match value
        .strip_prefix("=?base64?")
        .and_then(|rest| rest.strip_suffix("?="))
    {
        Some(encoded) => String::from_utf8(STANDARD.decode(encoded).ok()?).ok(),
        None => Some(value.to_owned()),
    }
}

/// Takes out what only the era's protocol needs; what else stands in `_meta` passes.
fn strip_envelope(message: &mut Value) {
    let Some(params) = message["params"].as_object_mut() else {
        return;
    };
    if let Some(meta) = params.get_mut("_meta").and_then(Value::as_object_mut) {
        meta.retain(|key, _| !key.starts_with(META));
        if meta.is_empty() {
            params.shift_remove("_meta");
        }
    }
}

/// A result with what this era wants in it. Nothing is cached: an old server does not say for how long.
fn completed(mut message: Value, method: &str) -> Value {
    if let Some(result) = message.get_mut("result").and_then(Value::as_object_mut) {
        result.entry("resultType").or_insert(json!("complete"));
        if method.ends_with("/list") || method == "resources/read" || method == "server/discover" {
            result.entry("ttlMs").or_insert(json!(0));
            result.entry("cacheScope").or_insert(json!("private"));
        }
        if method == "tools/list"
            && let Some(tools) = result.get_mut("tools").and_then(Value::as_array_mut)
        {
            for tool in tools.iter_mut().filter_map(Value::as_object_mut) {
                // It speaks of tasks, which this era does not have.
                tool.shift_remove("execution");
            }
        }
    }
    message
}

pub(super) fn discovered(info: &Value) -> Value {
    let mut capabilities = Map::new();
    for capability in [
        "tools",
        "prompts",
        "resources",
        "completions",
        "experimental",
        "extensions",
    ] {
        if let Some(mut offered) = info["capabilities"].get(capability).cloned() {
            if let Some(offered) = offered
                .as_object_mut()
                .filter(|_| capability != "experimental" && capability != "extensions")
            {
                // There is no stream here on which changes could be told.
                offered.retain(|key, _| key != "listChanged" && key != "subscribe");
            }
            capabilities.insert(capability.to_owned(), offered);
        }
    }
    let mut result = json!({
        "resultType": "complete",
        "supportedVersions": versions(),
        "capabilities": capabilities,
        "ttlMs": 0,
        "cacheScope": "private",
        "_meta": {SERVER_KEY: info["serverInfo"]},
    });
    if let Some(instructions) = info.get("instructions") {
        result["instructions"] = instructions.clone();
    }
    result
}
