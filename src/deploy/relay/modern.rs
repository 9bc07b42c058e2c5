//! The stateless era (2026-07-28) in front of a server of the era before: each request stands alone,
//! names its version and client in `_meta`, and repeats method and name in headers.

use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};

use super::ClientKey;
use super::child::{Asker, Child};
use super::room::Held;
use super::stdio::messages;
use super::wire::{
    Accepts, CAPABILITY_MISSING, HEADER_MISMATCH, Kind, METHOD_NOT_FOUND, MODERN_VERSION, RpcError,
    accepted, event_response, json_response, kind, versions,
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
pub(super) fn is_modern(message: &Value) -> bool {
    message["params"]["_meta"].get(VERSION_KEY).is_some()
}

pub(super) async fn post(
    child: &Child,
    info: &Value,
    client: ClientKey,
    headers: &HeaderMap,
    message: Value,
    held: Held,
) -> Response {
    let id = message.get("id").cloned().unwrap_or(Value::Null);
    answer(child, info, client, headers, message, held)
        .await
        .unwrap_or_else(|error| error.response(&id))
}

async fn answer(
    child: &Child,
    info: &Value,
    client: ClientKey,
    headers: &HeaderMap,
    mut message: Value,
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
    let named = match method.as_str() {
        "tools/call" | "prompts/get" => params["name"].as_str(),
        "resources/read" => params["uri"].as_str(),
        _ => None,
    };
    check_envelope(params["_meta"].as_object(), &method, named, headers)?;
    let accepts = Accepts::of(headers);
    if !accepts.json && !accepts.events {
        return Err(RpcError {
            status: StatusCode::NOT_ACCEPTABLE,
            ..RpcError::invalid("Accept must allow application/json and text/event-stream.")
        });
    }
    if method == "server/discover" {
        let answer = json!({"jsonrpc": "2.0", "id": id, "result": discovered(info)});
        return Ok(json_response(StatusCode::OK, &answer, None));
    }
    if !METHODS.contains(&method.as_str()) {
        return Err(RpcError::new(
            StatusCode::NOT_FOUND,
            METHOD_NOT_FOUND,
            "This method is not offered.",
        ));
    }
    let wants_progress = message.pointer("/params/_meta/progressToken").is_some();
    strip_envelope(&mut message);
    let mut call = child
        .call(
            Asker {
                client,
                session: None,
            },
            message,
            Some(held),
        )
        .await?;
    call.cancel_on_drop();
    if accepts.events && (wants_progress || !accepts.json) {
        let messages = messages(call, id);
        return Ok(event_response(futures::StreamExt::map(
            messages,
            move |(message, held)| (completed(message, &method), held),
        )));
    }
    let (answer, held) = call.answer().await?;
    let status = status_of(&answer);
    Ok(json_response(
        status,
        &completed(answer, &method),
        Some(held),
    ))
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
    if version != MODERN_VERSION {
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
