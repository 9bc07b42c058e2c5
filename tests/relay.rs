//! The relay in front of real servers, called by real clients; and in front of a hostile one.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "fixtures/clients/mod.rs"]
mod clients;
#[path = "relay/door.rs"]
mod door;
#[path = "relay/eras.rs"]
mod eras;
#[path = "relay/refusals.rs"]
mod refusals;
#[path = "relay/resuming.rs"]
mod resuming;
#[path = "relay/rooms.rs"]
mod rooms;

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::Response;
use clients::Client;
use door::{Answer, Door, Session};
use futures::StreamExt as _;
use futures::future::join_all;
use http::{HeaderMap, StatusCode};
use sealport::deploy::masks::Masks;
use sealport::deploy::relay::{
    ClientCapabilities, ClientKey, Event, Events, Guesses, HandshakeError, HttpRelay, Limits,
    Options, Relay, Room, RoomLimits, StdioRelay,
};
use secrecy::SecretString;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::process::{Child, Command};
use uuid::Uuid;

const CANARY: &str = "sk-canary-7Fq2\"Zr9'Lw&x/Tb+04";
const START: Duration = Duration::from_secs(30);

fn masks() -> Arc<Masks> {
    Arc::new(Masks::new(&[SecretString::from(CANARY)]))
}

fn node(script: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("node");
    command.arg(script).args(args).env_clear();
    command
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("SECRET_KEY", CANARY);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    command
}

async fn join(mut command: Command, options: Options) -> (Child, StdioRelay) {
    let mut child = command.spawn().unwrap();
    let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let relay = StdioRelay::start_with(stdin, stdout, masks(), START, options)
        .await
        .unwrap();
    (child, relay)
}

async fn everything() -> (Child, Door) {
    let (child, relay) = join(node(&clients::everything(), &["stdio"]), Options::default()).await;
    (child, Door::open(Relay::Stdio(relay)).await)
}

async fn hostile(options: Options) -> (Child, Door) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/hostile-server.mjs");
    let (child, relay) = join(node(&script, &[]), options).await;
    (child, Door::open(Relay::Stdio(relay)).await)
}

/// A request that stands alone, and the headers that go with it.
fn alone(session: &Session, can: Value, mut message: Value) -> (Session, Value) {
    let method = message["method"].as_str().unwrap().to_owned();
    let mut session = session
        .without("mcp-session-id")
        .with("mcp-protocol-version", "2026-07-28")
        .with("mcp-method", &method);
    if let Some(name) = message["params"]["name"].as_str() {
        session = session.with("mcp-name", name);
    }
    message["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!("2026-07-28");
    message["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"] = can;
    (session, message)
}

fn call(id: impl Into<Value>, tool: &str, args: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id.into(), "method": "tools/call", "params": {"name": tool, "arguments": args}})
}

/// Whether eight consecutive characters of the canary are in `text`.
fn leaks(text: &str) -> bool {
    CANARY
        .as_bytes()
        .windows(8)
        .any(|part| text.contains(std::str::from_utf8(part).unwrap()))
}

async fn until<F: Future<Output = bool>>(what: &str, mut done: impl FnMut() -> F) {
    let wait = async {
        while !done().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait)
        .await
        .unwrap_or_else(|_| panic!("waited for {what} in vain"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_clients_list_and_call_a_real_server_and_see_the_name_but_not_the_value() {
    let (_child, door) = everything().await;
    let url = door.url.as_str();
    // Each client is a process of its own and starts slowly, so not everything is done with each.
    join_all(Client::ALL.map(|client| sees_the_name_only(client, url))).await;
    join_all([Client::Node, Client::Python].map(|client| lists_tools(client, url))).await;
    join_all([Client::NodeAuto, Client::PythonLegacy].map(|client| is_echoed(client, url))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_http_server_behind_a_unix_socket_is_called_and_masked() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("mcp.sock");
    let mut command = node(&clients::everything(), &["streamableHttp"]);
    let mut child = command
        .env("PORT", &socket)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let relay = HttpRelay::start(socket, "/mcp".to_owned(), masks(), START)
        .await
        .unwrap();
    assert_eq!(
        relay.server_info()["serverInfo"]["name"],
        "mcp-servers/everything"
    );
    let door = Door::open(Relay::Http(relay)).await;
    join_all(Client::ALL.map(|client| sees_the_name_only(client, &door.url))).await;

    // Sessions are bound to their client, and only what the protocol needs passes.
    let session = door.session("one", "2025-11-25").await;
    let answer = session.call(7, "echo", json!({"message": "hi"})).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(
        answer.events()[0]["result"]["content"][0]["text"],
        "Echo: hi"
    );
    assert!(
        answer
            .headers
            .keys()
            .all(|name| !name.as_str().starts_with("access-control")),
        "{:?}",
        answer.headers
    );
    let other = session
        .with("authorization", "Bearer two")
        .call(7, "echo", json!({"message": "hi"}))
        .await;
    assert_eq!(
        (other.status, other.code()),
        (StatusCode::NOT_FOUND, -32001)
    );
    assert_eq!(
        session
            .send(http::Method::DELETE, String::new())
            .await
            .status,
        StatusCode::OK
    );
    assert_eq!(
        session
            .call(8, "echo", json!({"message": "hi"}))
            .await
            .status,
        StatusCode::NOT_FOUND
    );

    // Killed in the middle of a call: the client hears of it.
    let session = door.session("one", "2025-11-25").await;
    let long = call(
        "long",
        "trigger-long-running-operation",
        json!({"duration": 60, "steps": 60}),
    );
    let long = session
        .http
        .post(&session.url)
        .headers(session.headers.clone())
        .body(long.to_string())
        .send()
        .await
        .unwrap();
    child.kill().await.unwrap();
    let events = Answer {
        status: long.status(),
        headers: long.headers().clone(),
        body: long.text().await.unwrap(),
    }
    .events();
    let last = events.last().unwrap();
    assert_eq!(
        (&last["id"], &last["error"]["code"]),
        (&json!("long"), &json!(-32000))
    );
    let answer = session.call(2, "echo", json!({"message": "x"})).await;
    assert_eq!(
        (answer.status, answer.code()),
        (StatusCode::SERVICE_UNAVAILABLE, -32000)
    );
    tokio::time::timeout(Duration::from_secs(10), door.relay.closed())
        .await
        .unwrap();
}

async fn sees_the_name_only(client: Client, url: &str) {
    let printed = client.run(url, "t", "get-env", &json!({})).await;
    let printed = String::from_utf8(printed.stdout).unwrap();
    assert!(!leaks(&printed), "{client:?} {printed}");
    let result: Value = serde_json::from_str(printed.lines().last().unwrap()).unwrap();
    let env: Value = serde_json::from_str(result["content"][0]["text"].as_str().unwrap()).unwrap();
    assert_eq!(env["SECRET_KEY"], "[sealed]", "{client:?}");
}

async fn lists_tools(client: Client, url: &str) {
    let listed = client.call(url, "t", "--list", &json!({})).await.unwrap();
    let tools = listed["tools"].as_array().unwrap();
    for name in ["get-env", "echo"] {
        assert!(
            tools.iter().any(|tool| tool["name"] == name),
            "{client:?} {tools:?}"
        );
    }
}

async fn is_echoed(client: Client, url: &str) {
    let said = client
        .call(url, "t", "echo", &json!({"message": "grüß dich 🔑"}))
        .await
        .unwrap();
    assert_eq!(
        said["content"][0]["text"], "Echo: grüß dich 🔑",
        "{client:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn negotiating_clients_use_the_stateless_era() {
    let (_child, door) = everything().await;
    let output = Client::NodeAuto
        .run(&door.url, "t", "echo", &json!({"message": "x"}))
        .await;
    assert!(
        String::from_utf8(output.stdout)
            .unwrap()
            .starts_with("modern\n")
    );

    let modern = |id: i64, method: &str, mut params: Value| {
        params["_meta"] = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
        });
        json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
    };
    let client = Session::new(&door.url, "t").with("mcp-protocol-version", "2026-07-28");
    let discovered = client
        .with("mcp-method", "server/discover")
        .post(&modern(1, "server/discover", json!({})))
        .await;
    assert_eq!(
        discovered.json()["result"]["supportedVersions"],
        json!([
            "2026-07-28",
            "2025-11-25",
            "2025-06-18",
            "2025-03-26",
            "2024-11-05"
        ])
    );
    assert!(!discovered.headers.contains_key("mcp-session-id"));

    let echo = modern(
        2,
        "tools/call",
        json!({"name": "echo", "arguments": {"message": "x"}}),
    );
    let caller = client
        .with("mcp-method", "tools/call")
        .with("mcp-name", "=?base64?ZWNobw==?=");
    let answer = caller.post(&echo).await.json();
    assert_eq!(
        answer,
        json!({"jsonrpc": "2.0", "id": 2, "result": {"content": [{"type": "text", "text": "Echo: x"}], "resultType": "complete"}})
    );

    for (wrong, status, code) in [
        (caller.with("mcp-name", "get-env"), 400, -32020),
        (caller.with("mcp-method", "tools/list"), 400, -32020),
        (caller.without("mcp-name"), 400, -32020),
        (caller.without("mcp-protocol-version"), 400, -32020),
    ] {
        let answer = wrong.post(&echo).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (status, code));
    }
    let mut future = echo.clone();
    future["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!("2099-01-01");
    let answer = caller
        .with("mcp-protocol-version", "2099-01-01")
        .post(&future)
        .await;
    assert_eq!((answer.status.as_u16(), answer.code()), (400, -32022));
    let answer = client
        .with("mcp-method", "ping")
        .post(&modern(3, "ping", json!({})))
        .await;
    assert_eq!((answer.status.as_u16(), answer.code()), (404, -32601));
    for method in [http::Method::GET, http::Method::DELETE] {
        assert_eq!(
            client.send(method, String::new()).await.status,
            StatusCode::METHOD_NOT_ALLOWED
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_calls_with_the_same_ids_are_never_crossed() {
    let (_child, door) = everything().await;
    let sessions = [
        door.session("one", "2025-11-25").await,
        door.session("one", "2025-06-18").await,
        door.session("two", "2025-11-25").await,
    ];
    let calls = sessions.iter().enumerate().flat_map(|(number, session)| {
        (0..120).map(move |id| async move {
            let text = format!("session {number} call {id}");
            // Numbers and strings that look alike are different ids.
            let id = if id % 2 == 0 {
                json!(id)
            } else {
                json!(format!("{}", id - 1))
            };
            let answer = session
                .call(id.clone(), "echo", json!({"message": &text}))
                .await
                .json();
            assert_eq!(answer["id"], id);
            assert_eq!(
                answer["result"]["content"][0]["text"],
                format!("Echo: {text}")
            );
        })
    });
    join_all(calls).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_comes_to_the_one_who_asked_under_its_own_token() {
    let (_child, door) = everything().await;
    let output = Client::Node
        .run(
            &door.url,
            "t",
            "trigger-long-running-operation",
            &json!({"duration": 0.4, "steps": 4}),
        )
        .await;
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(printed.matches("\"progress\":").count(), 4, "{printed}");

    let sessions = [
        door.session("one", "2025-11-25").await,
        door.session("two", "2025-11-25").await,
    ];
    let answers = join_all(
        sessions
            .iter()
            .zip([2, 3])
            .map(|(session, steps)| async move {
                let mut message = call(
                    1,
                    "trigger-long-running-operation",
                    json!({"duration": 0.3, "steps": steps}),
                );
                message["params"]["_meta"] = json!({"progressToken": "mine"});
                (steps, session.post(&message).await.events())
            }),
    )
    .await;
    for (steps, events) in answers {
        assert_eq!(events.len(), steps + 1);
        for (step, event) in events[..steps].iter().enumerate() {
            assert_eq!(
                event["params"],
                json!({"progressToken": "mine", "progress": step + 1, "total": steps})
            );
        }
        assert_eq!(events[steps]["id"], 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_call_is_cancelled_at_the_server_and_no_other_one() {
    let (_child, door) = hostile(Options::default()).await;
    let (one, two) = (
        door.session("one", "2025-11-25").await,
        door.session("two", "2025-11-25").await,
    );
    let mut waiting = [&one, &two].map(|session| {
        let session = session.clone();
        tokio::spawn(async move { session.call("w", "wait", json!({})).await })
    });
    let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "w", "reason": "enough"}});
    until("the call to be cancelled", || async {
        assert_eq!(one.post(&cancel).await.status, StatusCode::ACCEPTED);
        waiting[0].is_finished()
    })
    .await;
    let answer = (&mut waiting[0]).await.unwrap().json();
    assert_eq!(
        (&answer["id"], &answer["error"]["code"]),
        (&json!("w"), &json!(-32800))
    );
    let seen = one.call(2, "was_cancelled", json!({})).await.json();
    let seen = seen["result"]["said"].as_array().unwrap().clone();
    assert_eq!(
        (seen.len(), &seen[0]["reason"]),
        (1, &json!("enough")),
        "{seen:?}"
    );
    assert!(seen[0]["requestId"].is_u64());
    assert!(!waiting[1].is_finished());

    // Ending the session cancels what is left of it.
    assert_eq!(
        two.send(http::Method::DELETE, String::new()).await.status,
        StatusCode::NO_CONTENT
    );
    assert_eq!((&mut waiting[1]).await.unwrap().code(), -32800);
    assert_eq!(
        two.call(3, "was_cancelled", json!({})).await.status,
        StatusCode::NOT_FOUND
    );
    let seen = one.call(3, "was_cancelled", json!({})).await.json();
    assert_eq!(seen["result"]["said"].as_array().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stops_is_told_clearly_to_waiting_and_new_calls() {
    let (mut child, door) = hostile(Options::default()).await;
    let session = door.session("one", "2025-11-25").await;
    let mut listening = session
        .http
        .get(&session.url)
        .headers(session.headers.clone())
        .send()
        .await
        .unwrap();
    assert_eq!(listening.status(), StatusCode::OK);
    // The event without data, which names the stream.
    let primer = listening.chunk().await.unwrap().unwrap();
    assert!(primer.starts_with(b"id: "));
    let (waiting, stopping) = tokio::join!(
        session.call(1, "silence", json!({})),
        session.call(2, "exit", json!({}))
    );
    for answer in [
        &waiting,
        &stopping,
        &session.call(3, "ask", json!({})).await,
    ] {
        assert_eq!(
            (answer.status, answer.code()),
            (StatusCode::SERVICE_UNAVAILABLE, -32000)
        );
        assert!(
            answer.json()["error"]["message"]
                .as_str()
                .unwrap()
                .contains("stopped")
        );
    }
    tokio::time::timeout(START, door.relay.closed())
        .await
        .unwrap();
    assert!(listening.chunk().await.unwrap().is_none());
    assert_eq!(child.wait().await.unwrap().code(), Some(3));
    let error = Client::Node
        .call(&door.url, "t", "echo", &json!({}))
        .await
        .unwrap_err();
    assert!(
        error.contains("The server behind this address stopped."),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn masked_answers_come_slowly_once_there_were_many() {
    let (_child, door) = hostile(Options {
        guesses: Guesses::new(),
        ..Options::default()
    })
    .await;
    let (one, two) = (
        door.session("one", "2025-11-25").await,
        door.session("two", "2025-11-25").await,
    );
    let start = std::time::Instant::now();
    let more = door.session("one.b", "2025-11-25").await;
    let events = more.with("accept", "text/event-stream");
    for id in 0..62 {
        // As JSON and as an event stream, by two tokens of one user, all counted together.
        let session = if id % 2 == 0 { &one } else { &events };
        let answer = session.call(id, "unknown_fields", json!({})).await;
        assert!(answer.body.contains("[sealed]"), "{answer:?}");
    }
    assert!(
        start.elapsed() >= Duration::from_secs(2),
        "sixty come at once, then one a second"
    );
    // Neither another's answers wait nor those without a mask.
    let start = std::time::Instant::now();
    two.call(1, "unknown_fields", json!({})).await;
    for id in 0..62 {
        one.call(id, "was_cancelled", json!({})).await;
    }
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_of_notifications_ends_so_that_a_revoke_holds() {
    let options = || Options {
        limits: Limits {
            stream_total: Duration::from_millis(300),
            ..Limits::default()
        },
        ..Options::default()
    };
    let (_child, stdio) = hostile(options()).await;
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("mcp.sock");
    let mut command = node(&clients::everything(), &["streamableHttp"]);
    command.env("PORT", &socket).stdout(Stdio::null());
    let _server = command.spawn().unwrap();
    let relay = HttpRelay::start_with(socket, "/mcp".to_owned(), masks(), START, options())
        .await
        .unwrap();
    for door in [stdio, Door::open(Relay::Http(relay)).await] {
        let session = door.session("one", "2025-11-25").await;
        let listening = session.send(http::Method::GET, String::new());
        let answer = tokio::time::timeout(START, listening).await.unwrap();
        assert_eq!(answer.headers["content-type"], "text/event-stream");
        assert!(!answer.body.contains("\"error\""), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_concerns_all_is_streamed_and_what_may_concern_one_only_to_a_single_client() {
    let (_child, door) = hostile(Options::default()).await;
    let one = door.session("one", "2025-11-25").await;
    let listen = async |session: &Session| {
        let answer = session
            .http
            .get(&session.url)
            .headers(session.headers.clone())
            .send()
            .await
            .unwrap();
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        Box::pin(answer.bytes_stream())
    };
    let mut stream = listen(&one).await;
    one.call(1, "log", json!({})).await;
    let mut heard = String::new();
    while !heard.contains("list_changed") {
        heard.push_str(std::str::from_utf8(&stream.next().await.unwrap().unwrap()).unwrap());
    }
    assert!(heard.contains("key [sealed]"), "{heard}");

    // A client that calls without a session is another one too.
    let mut stateless = call(1, "was_cancelled", json!({}));
    stateless["params"]["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let third = Session::new(&door.url, "three")
        .with("mcp-protocol-version", "2026-07-28")
        .with("mcp-method", "tools/call")
        .with("mcp-name", "was_cancelled");
    assert_eq!(third.post(&stateless).await.status, StatusCode::OK);
    one.call(3, "log", json!({})).await;
    let heard = stream.next().await.unwrap().unwrap();
    let heard = std::str::from_utf8(&heard).unwrap();
    assert!(
        heard.contains("list_changed") && !heard.contains("notifications/message"),
        "{heard}"
    );
    drop(stream);

    let (_child, door) = hostile(Options::default()).await;
    let one = door.session("one", "2025-11-25").await;
    let stream = listen(&one).await;
    let two = door.session("two", "2025-11-25").await;
    let mut streams = [stream, listen(&two).await];
    one.call(2, "log", json!({})).await;
    for stream in &mut streams {
        let mut heard = String::new();
        while !heard.contains("list_changed") {
            heard.push_str(std::str::from_utf8(&stream.next().await.unwrap().unwrap()).unwrap());
        }
        assert!(!heard.contains("notifications/message"), "{heard}");
    }
    drop(streams);
    let refused = one
        .with("accept", "application/json")
        .send(http::Method::GET, String::new())
        .await;
    assert_eq!(refused.status, StatusCode::NOT_ACCEPTABLE);
}
