//! The relay in front of real servers, called by real clients; and in front of a hostile one.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "fixtures/clients/mod.rs"]
mod clients;
#[path = "relay/eras.rs"]
mod eras;
#[path = "relay/resuming.rs"]
mod resuming;

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::Response;
use clients::Client;
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

async fn with_room(limits: RoomLimits) -> (Child, Door, Room) {
    let room = Room::new(limits);
    let (child, door) = hostile(Options {
        room: room.clone(),
        ..Options::default()
    })
    .await;
    (child, door, room)
}

/// A gateway in small: a bearer is a client.
struct Door {
    url: String,
    relay: Arc<Relay>,
    serving: tokio::task::JoinHandle<()>,
}

impl Door {
    async fn open(relay: Relay) -> Self {
        let relay = Arc::new(relay);
        let app = axum::Router::new()
            .fallback(pass)
            .with_state(Arc::clone(&relay));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        let serving = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self {
            url,
            relay,
            serving,
        }
    }

    async fn session(&self, token: &str, version: &str) -> Session {
        self.session_of(token, version, json!({})).await
    }

    async fn session_of(&self, token: &str, version: &str, capabilities: Value) -> Session {
        let mut session = Session::new(&self.url, token);
        let params = json!({"protocolVersion": version, "capabilities": capabilities, "clientInfo": {"name": "t", "version": "1"}});
        let answer = session
            .post(
                &json!({"jsonrpc": "2.0", "id": "init", "method": "initialize", "params": params}),
            )
            .await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        let id = answer.headers["mcp-session-id"].clone();
        session.headers.insert("mcp-session-id", id);
        session.opened = match answer.headers["content-type"].as_bytes() {
            b"application/json" => answer.json(),
            _ => answer.events().remove(0),
        };
        let answer = session
            .post(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}))
            .await;
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (StatusCode::ACCEPTED, "")
        );
        session
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn pass(State(relay): State<Arc<Relay>>, request: Request) -> Response {
    let bearer = request.headers()["authorization"].as_bytes().to_vec();
    let hash = Sha256::digest(&bearer);
    let key = ClientKey(Uuid::from_slice(&hash[..16]).unwrap());
    relay.handle(key, request).await
}

/// A client that says exactly what it is told to.
#[derive(Clone)]
struct Session {
    http: reqwest::Client,
    url: String,
    headers: HeaderMap,
    opened: Value,
}

#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        assert_eq!(self.headers["content-type"], "application/json", "{self:?}");
        serde_json::from_str(&self.body).unwrap()
    }

    fn events(&self) -> Vec<Value> {
        assert_eq!(
            self.headers["content-type"], "text/event-stream",
            "{self:?}"
        );
        let data = self
            .body
            .lines()
            .filter_map(|line| line.strip_prefix("data: "));
        // An empty event only carries an id.
        data.filter(|data| !data.is_empty())
            .map(|data| serde_json::from_str(data).unwrap())
            .collect()
    }

    fn code(&self) -> i64 {
        self.json()["error"]["code"].as_i64().unwrap()
    }
}

impl Session {
    fn new(url: &str, token: &str) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", format!("Bearer {token}").parse().unwrap());
        headers.insert("content-type", "application/json".parse().unwrap());
        headers.insert(
            "accept",
            "application/json, text/event-stream".parse().unwrap(),
        );
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self {
            http,
            url: url.to_owned(),
            headers,
            opened: Value::Null,
        }
    }

    fn with(&self, header: &'static str, value: &str) -> Self {
        let mut other = self.clone();
        other.headers.insert(header, value.parse().unwrap());
        other
    }

    fn without(&self, header: &str) -> Self {
        let mut other = self.clone();
        other.headers.remove(header);
        other
    }

    async fn send(&self, method: http::Method, body: String) -> Answer {
        let answer = self
            .http
            .request(method, &self.url)
            .headers(self.headers.clone())
            .body(body)
            .send()
            .await
            .unwrap();
        Answer {
            status: answer.status(),
            headers: answer.headers().clone(),
            body: answer.text().await.unwrap(),
        }
    }

    /// An answer that is read while it comes.
    async fn open(&self, method: http::Method, body: String) -> Live {
        let request = self.http.request(method, &self.url);
        let request = request.headers(self.headers.clone()).body(body);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Live {
            response,
            events: Events::new(1 << 20),
            read: Vec::new(),
        }
    }

    async fn post(&self, message: &Value) -> Answer {
        self.send(http::Method::POST, message.to_string()).await
    }

    async fn call(&self, id: impl Into<Value>, tool: &str, args: Value) -> Answer {
        self.post(&call(id, tool, args)).await
    }
}

/// A stream of events.
struct Live {
    response: reqwest::Response,
    events: Events,
    read: Vec<Event>,
}

impl Live {
    async fn event(&mut self) -> Option<Event> {
        while self.read.is_empty() {
            let chunk = tokio::time::timeout(START, self.response.chunk()).await;
            let chunk = chunk.expect("an event in time").unwrap()?;
            self.read = self.events.feed(&chunk).unwrap();
        }
        Some(self.read.remove(0))
    }

    /// The next message, and the name of its event.
    async fn message(&mut self) -> (Value, Option<String>) {
        loop {
            let event = self.event().await.expect("a message");
            if let Some(data) = event.data.filter(|data| !data.is_empty()) {
                return (serde_json::from_str(&data).unwrap(), event.id);
            }
        }
    }
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
async fn a_hostile_server_confuses_nobody() {
    let (log, mut logged) = tokio::sync::mpsc::channel(64);
    let (_child, door) = hostile(Options {
        log: Some(log),
        ..Options::default()
    })
    .await;
    assert_eq!(door.relay.server_info()["x-kept"], json!([1]));
    let session = door.session("one", "2025-11-25").await;
    assert_eq!(
        session.opened["result"]["capabilities"],
        json!({"tools": {}}),
        "tasks are not offered"
    );
    assert_eq!(logged.recv().await.unwrap(), "starting up…");

    // Its requests are refused, its pings answered.
    let said = session.call(1, "ask", json!({})).await.json()["result"]["said"].clone();
    let codes: Vec<&Value> = said
        .as_array()
        .unwrap()
        .iter()
        .map(|answer| &answer["code"])
        .collect();
    assert_eq!(
        codes,
        [&json!(-32601), &json!(-32601), &json!(-32601), &Value::Null]
    );
    assert_eq!(said[3], json!({}));

    // What is no message is a line of the log, masked.
    assert_eq!(
        session.call(2, "garbage", json!({})).await.json()["result"]["said"],
        "said"
    );
    let mut lines = Vec::new();
    while lines.len() < 7 {
        lines.push(logged.recv().await.unwrap());
    }
    assert_eq!(
        lines,
        [
            "not json [sealed]",
            "in colour [sealed]",
            "{\"half\":",
            "[1,2]",
            "\"text\"",
            "\0\u{1}",
            "\u{fffd}\u{fffd}"
        ]
    );

    // Answers to what nobody asked go nowhere, and unknown fields and long numbers pass as they are.
    let strangers = session.call(3, "strangers", json!({})).await;
    let other = session.call(4, "unknown_fields", json!({})).await;
    assert_eq!(strangers.json()["result"], json!({"said": "kept"}));
    let other = other.body;
    assert!(
        other.contains(r#""x-new":{"big":123456789012345678901234567890.10}"#),
        "{other}"
    );
    assert!(other.contains("[sealed]") && !leaks(&other), "{other}");
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
    let events = one.with("accept", "text/event-stream");
    for id in 0..62 {
        // As JSON and as an event stream, which are counted together.
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
async fn a_message_takes_room_until_the_server_has_it() {
    let (_child, door, room) = with_room(RoomLimits::default()).await;
    let one = door.session("one", "2025-11-25").await;
    let text = "x".repeat(2 << 20);
    let waiting = {
        let one = one.clone();
        tokio::spawn(async move { one.call("w", "wait", json!({"text": text})).await })
    };
    // Answered after it in order, so the server has read the long one by then.
    until("the call to be sent", || async {
        let answer = one.call(1, "waits", json!({})).await.json();
        answer["result"]["said"] == json!(true)
    })
    .await;
    until("the room to be free", || async { room.held_bytes() == 0 }).await;
    assert!(!waiting.is_finished());
    waiting.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_client_cannot_fill_the_memory_while_a_server_does_not_read() {
    let limits = RoomLimits {
        all_bytes: 8 << 20,
        client_bytes: 2 << 20,
        small_bytes: 4 << 10,
    };
    let (_child, door, room) = with_room(limits).await;
    let (one, two) = (
        door.session("one", "2025-11-25").await,
        door.session("two", "2025-11-25").await,
    );
    one.call(0, "deaf", json!({})).await;
    let text = "x".repeat(300 << 10);
    let mut refused = None;
    let mut calls = Vec::new();
    for id in 1..12 {
        let (one, text) = (one.clone(), text.clone());
        calls.push(tokio::spawn(async move {
            one.call(id, "wait", json!({"text": text})).await
        }));
    }
    until("a call to be refused", || {
        let done = calls.iter().position(tokio::task::JoinHandle::is_finished);
        refused = refused.or(done);
        assert!(room.held_bytes() <= 2 << 20);
        std::future::ready(refused.is_some())
    })
    .await;
    let answer = calls.remove(refused.unwrap()).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.code()), (429, -32000));
    // Another's message is read all the same; that the server does not take it is another matter.
    let tasks = json!({"jsonrpc": "2.0", "id": 1, "method": "tasks/list"});
    assert_eq!(two.post(&tasks).await.code(), -32601);
    for call in calls {
        call.abort();
    }
    drop(door);
    until("the room to be free", || async { room.held_bytes() == 0 }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_too_many_values_are_refused_before_they_are_built() {
    let (mut child, door, room) = with_room(RoomLimits::default()).await;
    let session = door.session("one", "2025-11-25").await;
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"x","params":[{}0]}}"#,
        "0,".repeat(1 << 20)
    );
    let answer = session.send(http::Method::POST, body).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (413, -32600));
    let answer = session.call(2, "numbers", json!({"count": 1 << 20})).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (200, -32000));
    assert!(answer.body.contains("too many values"), "{answer:?}");
    let fine = session.call(3, "numbers", json!({"count": 1 << 17})).await;
    assert_eq!(
        fine.json()["result"]["said"].as_array().unwrap().len(),
        1 << 17
    );
    assert!(child.try_wait().unwrap().is_none(), "the server goes on");
    until("the room to be free", || async { room.held_bytes() == 0 }).await;
}

/// A server that speaks HTTP and answers with as many numbers as it is asked for.
async fn numbers_over_http(request: Request) -> Response {
    let body = axum::body::to_bytes(request.into_body(), 1 << 20)
        .await
        .unwrap();
    let Ok(message) = serde_json::from_slice::<Value>(&body) else {
        return Response::new("".into());
    };
    let id = &message["id"];
    let (kind, answer) = match message["params"]["count"].as_u64() {
        None => {
            let result =
                json!({"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {}});
            (
                "application/json",
                json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string(),
            )
        }
        Some(count) => {
            let numbers = vec!["0"; count as usize].join(",");
            let answer = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":[{numbers}]}}"#);
            match message["method"] == "events" {
                true => ("text/event-stream", format!("data: {answer}\n\n")),
                false => ("application/json", answer),
            }
        }
    };
    Response::builder()
        .header("content-type", kind)
        .body(answer.into())
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_of_an_http_server_take_room_too() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("mcp.sock");
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    let app = axum::Router::new().fallback(numbers_over_http);
    let serving = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    let room = Room::new(RoomLimits::default());
    let options = Options {
        room: room.clone(),
        ..Options::default()
    };
    let relay = HttpRelay::start_with(socket, "/mcp".to_owned(), masks(), START, options)
        .await
        .unwrap();
    let door = Door::open(Relay::Http(relay)).await;
    let client = Session::new(&door.url, "one");
    for method in ["json", "events"] {
        let ask = |count: usize| json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": {"count": count}});
        let answer = client.post(&ask(1 << 20)).await;
        assert!(
            answer.body.contains("too many values"),
            "{method} {answer:?}"
        );
        let answer = client.post(&ask(1 << 17)).await;
        assert!(answer.body.len() > 1 << 18, "{method} {answer:?}");
    }
    until("the room to be free", || async { room.held_bytes() == 0 }).await;
    serving.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_nobody_reads_are_bounded() {
    let limits = RoomLimits {
        all_bytes: 64 << 20,
        client_bytes: 40 << 20,
        small_bytes: 1 << 20,
    };
    let (_child, door, room) = with_room(limits).await;
    let one = door.session("one", "2025-11-25").await;
    for accept in ["application/json", "text/event-stream"] {
        let one = one.with("accept", accept);
        let mut unread = Vec::new();
        let mut refused = None;
        for id in 0..12 {
            let mut answer = one
                .http
                .post(&one.url)
                .headers(one.headers.clone())
                .body(call(id, "long_answer", json!({})).to_string())
                .send()
                .await
                .unwrap();
            // Only its beginning is read: a stream has begun before its answer is there, and
            // the next call is not sent before this one's answer has taken its room.
            let mut begun = String::new();
            while !["\"result\"", "\"error\""]
                .iter()
                .any(|key| begun.contains(key))
            {
                let chunk = answer.chunk().await.unwrap().unwrap();
                begun.push_str(&String::from_utf8_lossy(&chunk));
            }
            if begun.contains("\"error\"") {
                refused = Some(begun + &answer.text().await.unwrap());
                break;
            }
            unread.push(answer);
            assert!(room.held_bytes() <= 40 << 20, "{}", room.held_bytes());
        }
        let refused = refused.unwrap();
        assert!(refused.contains("Too much of yours"), "{refused}");
        drop(unread);
        until("the room to be free", || async { room.held_bytes() == 0 }).await;
    }
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_break_the_rules_are_refused_by_name() {
    let limits = Limits {
        body_bytes: 10_000,
        sessions_per_client: 3,
        sessions: 4,
        ..Limits::default()
    };
    let (_child, door) = hostile(Options {
        limits,
        ..Options::default()
    })
    .await;
    let session = door.session("one", "2025-11-25").await;
    let list = call(1, "was_cancelled", json!({}));
    let refused = async |session: &Session, body: String| {
        let answer = session.send(http::Method::POST, body).await;
        (answer.status.as_u16(), answer.code())
    };
    assert_eq!(refused(&session, "{".to_owned()).await, (400, -32700));
    assert_eq!(refused(&session, "[]".to_owned()).await, (400, -32600));
    assert_eq!(refused(&session, format!("[{list}]")).await, (400, -32600));
    assert_eq!(
        refused(
            &session,
            json!({"id": 1, "method": "tools/list"}).to_string()
        )
        .await,
        (400, -32600)
    );
    assert_eq!(
        refused(
            &session,
            json!({"jsonrpc": "2.0", "id": {}, "method": "x"}).to_string()
        )
        .await,
        (400, -32600)
    );
    assert_eq!(
        refused(&session, format!("{list}{}", " ".repeat(10_000))).await,
        (413, -32600)
    );
    assert_eq!(
        refused(
            &session,
            call(1, "x", json!("[".repeat(200)))
                .to_string()
                .replace('"', "[")
        )
        .await,
        (400, -32700)
    );
    assert_eq!(
        refused(
            &session.with("content-type", "text/plain"),
            list.to_string()
        )
        .await,
        (415, -32600)
    );
    assert_eq!(
        refused(&session.with("accept", "text/html"), list.to_string()).await,
        (406, -32600)
    );
    assert_eq!(
        refused(
            &session.with("mcp-protocol-version", "1999-01-01"),
            list.to_string()
        )
        .await,
        (400, -32022)
    );
    assert_eq!(
        refused(&session.without("mcp-session-id"), list.to_string()).await,
        (400, -32600)
    );
    assert_eq!(
        refused(
            &session.with("mcp-session-id", &Uuid::nil().to_string()),
            list.to_string()
        )
        .await,
        (404, -32001)
    );
    assert_eq!(
        refused(
            &session.with("authorization", "Bearer two"),
            list.to_string()
        )
        .await,
        (404, -32001)
    );
    assert_eq!(
        session.send(http::Method::PUT, String::new()).await.status,
        StatusCode::METHOD_NOT_ALLOWED
    );
    let tasks = session
        .post(&json!({"jsonrpc": "2.0", "id": 1, "method": "tasks/list"}))
        .await;
    assert_eq!(tasks.code(), -32601);

    // A client that takes events only gets them.
    let events = session
        .with("accept", "text/event-stream")
        .call("e", "was_cancelled", json!({}))
        .await
        .events();
    assert_eq!(
        events,
        [json!({"jsonrpc": "2.0", "id": "e", "result": {"said": []}})]
    );
    // Versions before 2025-06-18 know batches.
    let old = door.session("one", "2025-03-26").await;
    assert_eq!(old.opened["result"]["protocolVersion"], "2025-03-26");
    let batch = old.post(&json!([list, {"jsonrpc": "2.0", "method": "notifications/x"}, call("b", "was_cancelled", json!({})), 5, {"jsonrpc": "2.0", "id": "i", "method": "initialize", "params": {}}])).await.json();
    let ids: Vec<&Value> = batch
        .as_array()
        .unwrap()
        .iter()
        .map(|answer| &answer["id"])
        .collect();
    assert_eq!(ids, [&json!(1), &json!("b"), &Value::Null, &json!("i")]);
    assert_eq!(batch[3]["error"]["message"], "A batch holds no initialize.");
    // The server saw the relay's own handshake and no other.
    let seen = old.call(9, "handshakes", json!({})).await.json();
    assert_eq!(seen["result"]["said"], 1);
    let newest = door.session("one", "2099-01-01").await;
    assert_eq!(newest.opened["result"]["protocolVersion"], "2025-11-25");

    // A client's fourth session ends its oldest; another client's are not touched, nor is there room without end.
    let other = door.session("two", "2025-11-25").await;
    let fourth = Session::new(&door.url, "one")
        .post(&json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {}}))
        .await;
    assert_eq!(fourth.status, StatusCode::OK);
    let fifth = Session::new(&door.url, "three")
        .post(&json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {}}))
        .await;
    assert_eq!(fifth.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(session.post(&list).await.status, StatusCode::NOT_FOUND);
    assert_eq!(other.post(&list).await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_server_and_too_many_calls_are_answered() {
    let limits = Limits {
        request_timeout: Duration::from_millis(700),
        pending_per_client: 2,
        ..Limits::default()
    };
    let (_child, door) = hostile(Options {
        limits,
        ..Options::default()
    })
    .await;
    let (one, two) = (
        door.session("one", "2025-11-25").await,
        door.session("two", "2025-11-25").await,
    );
    let silent = join_all((0..3).map(|id| one.call(id, "silence", json!({}))));
    let (silent, other) = tokio::join!(silent, two.call(1, "was_cancelled", json!({})));
    assert_eq!(other.json()["result"], json!({"said": []}));
    let mut statuses: Vec<(u16, i64)> = silent
        .iter()
        .map(|answer| (answer.status.as_u16(), answer.code()))
        .collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [(200, -32001), (200, -32001), (429, -32000)]);
    // The server is told, and the places are free again.
    until("the server to be told", || async {
        let answer = one.call(4, "was_cancelled", json!({})).await.json();
        answer["result"]["said"].as_array().unwrap().len() == 2
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_without_end_ends_the_server_with_a_reason() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/hostile-server.mjs");
    let (_child, relay) = join(node(&script, &[]), Options::default()).await;
    let request = Request::builder()
        .method("POST")
        .header("content-type", "application/json");
    let opened = relay
        .handle(
            ClientKey(Uuid::nil()),
            request
                .body(
                    json!({"jsonrpc": "2.0", "id": 1, "method": "initialize"})
                        .to_string()
                        .into(),
                )
                .unwrap(),
        )
        .await;
    let request = Request::builder()
        .method("POST")
        .header("content-type", "application/json")
        .header("mcp-session-id", &opened.headers()["mcp-session-id"]);
    let answer = relay
        .handle(
            ClientKey(Uuid::nil()),
            request
                .body(call(1, "long_line", json!({})).to_string().into())
                .unwrap(),
        )
        .await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    relay.closed().await;
    assert_eq!(
        relay.reason().unwrap(),
        "The server sent a line of more than 16777216 bytes."
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_do_not_shake_hands_are_refused_with_the_reason() {
    let start = async |script: &str, timeout: u64| {
        let mut child = node(Path::new("-e"), &[script]).spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        StdioRelay::start(stdin, stdout, masks(), Duration::from_millis(timeout))
            .await
            .err()
            .unwrap()
    };
    assert!(matches!(
        start("setInterval(() => {}, 1000)", 300).await,
        HandshakeError::TimedOut(_)
    ));
    let error = start("process.exit(1)", 20_000).await;
    assert_eq!(
        error.to_string(),
        "The server stopped before it answered the MCP handshake. The server closed its output."
    );
    let answer = |body: &str| {
        format!(
            "process.stdin.once('data', () => console.log(JSON.stringify({{jsonrpc:'2.0',id:1,{body}}}))); setInterval(() => {{}}, 1000)"
        )
    };
    let error = start(
        &answer("error:{code:1,message:'no '+process.env.SECRET_KEY}"),
        20_000,
    )
    .await;
    assert_eq!(
        error.to_string(),
        "The server refused the MCP handshake: no [sealed]"
    );
    assert!(matches!(
        start(&answer("result:{}"), 20_000).await,
        HandshakeError::NotUnderstood(_)
    ));
    let dir = tempfile::tempdir().unwrap();
    let missing = HttpRelay::start(
        dir.path().join("none"),
        "/mcp".to_owned(),
        masks(),
        Duration::from_millis(300),
    )
    .await;
    assert!(matches!(
        missing.err().unwrap(),
        HandshakeError::TimedOut(_)
    ));
}
