//! Servers and requests that break the rules, each told by name.

use super::*;

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
async fn requests_that_break_the_rules_are_refused_by_name() {
    let limits = Limits {
        body_bytes: 10_000,
        sessions_per_user: 3,
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

    // A user's fourth session ends their oldest, by whichever token; another's are not touched.
    let other = door.session("two", "2025-11-25").await;
    let fourth = door.session("one.b", "2025-11-25").await;
    assert_eq!(session.post(&list).await.status, StatusCode::NOT_FOUND);
    let crossed = fourth.with("authorization", "Bearer one");
    assert_eq!(crossed.post(&list).await.status, StatusCode::NOT_FOUND);
    // Where all places are taken, whoever has most makes room.
    let fifth = door.session("three", "2025-11-25").await;
    assert_eq!(old.post(&list).await.status, StatusCode::NOT_FOUND);
    for kept in [&newest, &other, &fourth, &fifth] {
        assert_eq!(kept.post(&list).await.status, StatusCode::OK);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_server_and_too_many_calls_are_answered() {
    let limits = Limits {
        request_timeout: Duration::from_millis(700),
        pending_per_user: 2,
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
    // More tokens are no more places.
    let tokens = [
        one.clone(),
        door.session("one.b", "2025-11-25").await,
        door.session("one.c", "2025-11-25").await,
    ];
    let silent = tokens
        .iter()
        .map(|token| token.call(1, "silence", json!({})));
    let silent = join_all(silent);
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
            ClientKey::alone(Uuid::nil()),
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
            ClientKey::alone(Uuid::nil()),
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

/// A server that speaks HTTP and answers a request with what it is told to.
async fn told_over_http(request: Request) -> Response {
    let body = axum::body::to_bytes(request.into_body(), 1 << 20)
        .await
        .unwrap();
    let message = serde_json::from_slice::<Value>(&body).unwrap_or_default();
    let said = &message["params"]["said"];
    let mut response = Response::builder();
    if message["method"] == "initialize" {
        let result = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {}});
        let answer = json!({"jsonrpc": "2.0", "id": message["id"], "result": result});
        let response = response.header("content-type", "application/json");
        return response.body(answer.to_string().into()).unwrap();
    }
    if let Some(kind) = said["type"].as_str() {
        response = response.header("content-type", kind);
    }
    let status = said["status"].as_u64().unwrap_or(202) as u16;
    let body = said["body"].as_str().unwrap_or_default().to_owned();
    response.status(status).body(body.into()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_answer_to_a_request_is_said_to_be_none() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("mcp.sock");
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    let app = axum::Router::new().fallback(told_over_http);
    let serving = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    let relay = HttpRelay::start(socket, "/mcp".to_owned(), masks(), START)
        .await
        .unwrap();
    let door = Door::open(Relay::Http(relay)).await;
    let client = Session::new(&door.url, "one");
    let asked = |id: Option<u64>, kind: Option<&str>, status: u16, body: &str| {
        let said = json!({"type": kind, "status": status, "body": body});
        let mut message =
            json!({"jsonrpc": "2.0", "method": "tools/list", "params": {"said": said}});
        if let Some(id) = id {
            message["id"] = id.into();
        }
        message
    };
    let json = Some("application/json");
    let (no_json, another) = ("something else than JSON", "to another request");
    for (message, status, says) in [
        (asked(Some(1), Some("text/plain"), 200, "ok"), 502, no_json),
        (asked(Some(1), None, 200, ""), 502, no_json),
        (asked(Some(1), None, 202, ""), 502, no_json),
        (
            asked(
                Some(1),
                json,
                200,
                r#"{"jsonrpc":"2.0","id":2,"result":{}}"#,
            ),
            502,
            another,
        ),
        (
            asked(
                Some(1),
                json,
                200,
                r#"{"jsonrpc":"2.0","id":"1","result":{}}"#,
            ),
            502,
            another,
        ),
        (
            asked(Some(1), json, 400, r#"{"jsonrpc":"2.0","id":2,"error":{}}"#),
            502,
            another,
        ),
        (asked(Some(1), json, 200, r#"{"ok":true}"#), 502, another),
        (
            asked(
                Some(1),
                json,
                200,
                r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
            ),
            200,
            "result",
        ),
        (
            asked(
                Some(1),
                json,
                400,
                r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700}}"#,
            ),
            400,
            "-32700",
        ),
        (
            asked(Some(1), json, 404, r#"{"detail":"Not found"}"#),
            404,
            "Not found",
        ),
        (asked(None, Some("text/plain"), 200, "ok"), 200, ""),
        (asked(None, None, 202, ""), 202, ""),
        (asked(None, None, 204, ""), 204, ""),
        // A client's own answer has an id and gets none.
        (json!({"jsonrpc": "2.0", "id": 1, "result": {}}), 202, ""),
    ] {
        let answer = client.post(&message).await;
        assert_eq!(answer.status.as_u16(), status, "{message} {answer:?}");
        assert!(answer.body.contains(says), "{message} {answer:?}");
        if status == 502 {
            assert_eq!(answer.json()["id"], 1, "{answer:?}");
        }
    }
    serving.abort();
}
