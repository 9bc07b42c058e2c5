//! Both eras on both sides: what a server asks reaches the one whom it asks, and nobody else.

use super::*;

pub(super) async fn asking(mode: &str, options: Options) -> (Child, Door) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/asking-server.mjs");
    let (child, relay) = join(node(&script, &[mode]), options).await;
    (child, Door::open(Relay::Stdio(relay)).await)
}

fn can() -> Value {
    json!({"elicitation": {}, "sampling": {}, "roots": {"listChanged": true}})
}

/// For a server that serves one caller, whose client can be asked everything.
pub(super) fn own() -> Options {
    Options {
        client_capabilities: Some(ClientCapabilities::of(&can())),
        ..Options::default()
    }
}

fn probed() -> Options {
    Options {
        may_probe: true,
        ..Options::default()
    }
}

fn said(result: &Value) -> Value {
    let text = result["content"][0]["text"].as_str();
    serde_json::from_str(text.unwrap_or_else(|| panic!("no text: {result}"))).unwrap()
}

fn reply(question: &Value, result: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": question["id"], "result": result})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_one_caller_asks_their_client_during_the_call() {
    let (_child, door) = asking("", own()).await;
    let one = door.session_of("one", "2025-11-25", can()).await;
    let two = door.session_of("two", "2025-11-25", json!({})).await;

    // It asked for roots when it was initialised, before there was a client.
    let mut live = one
        .open(http::Method::POST, call(1, "roots", json!({})).to_string())
        .await;
    let (question, _) = live.message().await;
    assert_eq!(question["method"], "roots/list", "{question}");
    let roots = json!({"roots": [{"uri": "file:///work"}], "unknown": 1});
    // Another's answer is dropped.
    two.post(&reply(&question, json!({"roots": []}))).await;
    let answer = one.post(&reply(&question, roots.clone())).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED);
    let (answer, _) = live.message().await;
    assert_eq!((said(&answer["result"]), &answer["id"]), (roots, &json!(1)));

    for (tool, args, method) in [
        (
            "ask",
            json!({"message": format!("is it {CANARY}?")}),
            "elicitation/create",
        ),
        (
            "sample",
            json!({"prompt": "hello"}),
            "sampling/createMessage",
        ),
    ] {
        let body = call("a", tool, args).to_string();
        let mut live = one.open(http::Method::POST, body).await;
        let (question, _) = live.message().await;
        assert_eq!(question["method"], method);
        assert!(!leaks(&question.to_string()), "{question}");
        let given = json!({"action": "accept", "content": {"n": 1.50}});
        one.post(&reply(&question, given.clone())).await;
        assert_eq!(said(&live.message().await.0["result"]), given);
    }

    // Who did not say that they can be asked is not; nor is who hears nothing before the answer.
    let deaf = one.with("accept", "application/json");
    for session in [&two, &deaf] {
        let answer = session.call(1, "ask", json!({"message": "?"})).await;
        let refused = said(&answer.json()["result"]);
        assert_eq!(refused["code"], -32601, "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shared_server_asks_nobody_and_is_told_so() {
    let (_child, door) = asking("", Options::default()).await;
    let one = door.session_of("one", "2025-11-25", can()).await;
    assert_eq!(
        said(&one.call(1, "can", json!({})).await.json()["result"]),
        json!({})
    );
    let refused = said(&one.call(1, "ask", json!({"message": "?"})).await.json()["result"]);
    assert!(
        refused["message"].as_str().unwrap().contains("shared"),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_is_given_up_with_its_call() {
    let (_child, door) = asking("", own()).await;
    let one = door
        .session_of("one", "2025-11-25", json!({"elicitation": {}}))
        .await;
    let mut live = one
        .open(
            http::Method::POST,
            call(7, "ask", json!({"message": "?"})).to_string(),
        )
        .await;
    let (question, _) = live.message().await;
    one.post(
        &json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}}),
    )
    .await;
    let (ended, _) = live.message().await;
    assert_eq!(ended["error"]["code"], -32800, "{ended}");
    // Too late: the server has been told that nobody answers, and asks anew.
    one.post(&reply(&question, json!({"action": "accept"})))
        .await;
    let body = call(8, "ask", json!({"message": "again"})).to_string();
    let mut live = one.open(http::Method::POST, body).await;
    let (again, _) = live.message().await;
    assert_ne!(again["id"], question["id"]);
    one.post(&reply(&again, json!({"action": "decline"}))).await;
    assert_eq!(
        said(&live.message().await.0["result"]),
        json!({"action": "decline"})
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_the_stateless_era_answers_a_server_of_sessions_by_calling_again() {
    let (_child, door) = asking("", own()).await;
    let one = Session::new(&door.url, "one");
    let two = Session::new(&door.url, "two");
    let ask = |session: &Session, extra: Value| {
        let mut message = call(1, "twice", json!({}));
        for (key, value) in extra.as_object().unwrap() {
            message["params"][key] = value.clone();
        }
        let (session, message) = alone(session, json!({"elicitation": {}}), message);
        async move { session.post(&message).await }
    };
    let first = ask(&one, json!({})).await.json()["result"].clone();
    assert_eq!(first["resultType"], "input_required", "{first}");
    let (key, question) = first["inputRequests"]
        .as_object()
        .unwrap()
        .iter()
        .next()
        .unwrap();
    assert_eq!(question["method"], "elicitation/create");
    assert_eq!(question["params"]["message"], "first");
    let brought = json!({"requestState": first["requestState"], "inputResponses": {key: {"action": "accept"}}});

    // Another client's, another tool's, and one that was made up are refused and change nothing.
    assert_eq!(ask(&two, brought.clone()).await.status, 400);
    assert_eq!(
        ask(&one, json!({"requestState": "made up"})).await.status,
        400
    );
    // Without an answer it is asked once more.
    let again = ask(&one, json!({"requestState": first["requestState"]})).await;
    let again = again.json()["result"].clone();
    assert_eq!(again["inputRequests"], first["inputRequests"]);

    let brought = json!({"requestState": again["requestState"], "inputResponses": {key: {"action": "accept"}}});
    let second = ask(&one, brought.clone()).await.json()["result"].clone();
    let (key, question) = second["inputRequests"]
        .as_object()
        .unwrap()
        .iter()
        .next()
        .unwrap();
    assert_eq!(question["params"]["message"], "second");
    let last = json!({"requestState": second["requestState"], "inputResponses": {key: {"action": "cancel"}}});
    let answer = ask(&one, last).await.json();
    assert_eq!(answer["result"]["resultType"], "complete");
    assert_eq!(
        said(&answer["result"]),
        json!([{"action": "accept"}, {"action": "cancel"}])
    );
    assert_eq!(ask(&one, brought).await.status, 400, "a state is used once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_reach_a_server_of_the_stateless_era_alone() {
    let (_child, door) = asking("stateless", probed()).await;
    let capabilities = json!({"elicitation": {}});
    let one = door
        .session_of("one", "2025-11-25", capabilities.clone())
        .await;
    let offered = &one.opened["result"];
    assert_eq!(offered["protocolVersion"], "2025-11-25");
    assert_eq!(
        offered["serverInfo"],
        json!({"name": "stateless", "version": "1"})
    );
    let listed = one
        .post(&json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}))
        .await;
    assert!(listed.json()["result"]["tools"].as_array().unwrap().len() > 3);

    // Each request says who asks, and its result passes with what nobody knows.
    let mut request = call(2, "can", json!({}));
    request["params"]["_meta"] = json!({"mine": true});
    let answer = one.post(&request).await;
    let result = answer.json()["result"].clone();
    assert!(
        answer.body.contains(r#""unknown":{"kept":[1.5,null]}"#),
        "{answer:?}"
    );
    assert_eq!(result.get("resultType"), None);
    let meta = said(&result);
    let prefix = "io.modelcontextprotocol/";
    assert_eq!(meta[format!("{prefix}protocolVersion")], "2026-07-28");
    assert_eq!(meta[format!("{prefix}clientCapabilities")], capabilities);
    assert_eq!(meta[format!("{prefix}clientInfo")]["name"], "t");
    assert_eq!(meta["mine"], true);

    // What it asks for is asked of this client, though the server is shared.
    let mut live = one
        .open(http::Method::POST, call(3, "twice", json!({})).to_string())
        .await;
    for (step, given) in [("one", 1), ("two", 2)] {
        let (question, _) = live.message().await;
        assert_eq!(question["params"]["message"], step);
        one.post(&reply(
            &question,
            json!({"action": "accept", "content": {"n": given}}),
        ))
        .await;
    }
    let (answer, _) = live.message().await;
    let text = answer["result"]["content"][0]["text"].as_str().unwrap();
    let given =
        |step: &str, n: u8| format!(r#"{{"{step}":{{"action":"accept","content":{{"n":{n}}}}}}}"#);
    assert_eq!(text, format!("{} {}", given("one", 1), given("two", 2)));
    let two = door.session("two", "2025-11-25").await;
    let refused = two.call(1, "twice", json!({})).await.json();
    assert!(
        refused["error"]["message"]
            .as_str()
            .unwrap()
            .contains("elicitation/create"),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_stateless_server_tells_reaches_sessions_and_those_who_listen() {
    let (_child, door) = asking("stateless", probed()).await;
    let one = door.session("one", "2025-11-25").await;
    let subscribe = json!({"jsonrpc": "2.0", "id": 1, "method": "resources/subscribe", "params": {"uri": "test://one"}});
    assert_eq!(one.post(&subscribe).await.json()["result"], json!({}));
    let mut told = one.open(http::Method::GET, String::new()).await;

    let listen = json!({"jsonrpc": "2.0", "id": "mine", "method": "subscriptions/listen", "params": {"notifications": {"toolsListChanged": true}}});
    let (modern, listen) = alone(&Session::new(&door.url, "two"), json!({}), listen);
    let mut heard = modern.open(http::Method::POST, listen.to_string()).await;
    let (acknowledged, _) = heard.message().await;
    assert_eq!(
        acknowledged["method"],
        "notifications/subscriptions/acknowledged"
    );

    // Until the gateway itself listens there is nothing to tell.
    let mut methods = Vec::new();
    let changing = async {
        loop {
            one.call(2, "change", json!({})).await;
            tokio::task::yield_now().await;
        }
    };
    let hearing = async {
        while !(methods.contains(&"notifications/tools/list_changed".to_owned())
            && methods.contains(&"notifications/resources/updated".to_owned()))
        {
            let (message, _) = told.message().await;
            assert!(!message.to_string().contains("subscriptionId"), "{message}");
            methods.push(message["method"].as_str().unwrap().to_owned());
        }
        let (message, _) = heard.message().await;
        assert_eq!(message["method"], "notifications/tools/list_changed");
        assert_eq!(
            message["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"],
            "mine"
        );
    };
    tokio::select! {
        () = changing => {}
        () = hearing => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_of_sessions_survive_the_question_for_their_era_or_are_told_apart() {
    for mode in ["", "silent"] {
        let (_child, door) = asking(mode, probed()).await;
        let one = door.session("one", "2025-11-25").await;
        assert_eq!(one.opened["result"]["serverInfo"]["name"], "asking");
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/asking-server.mjs");
    let mut child = node(&script, &["picky"]).spawn().unwrap();
    let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let ended = StdioRelay::start_with(stdin, stdout, masks(), START, probed()).await;
    assert!(matches!(ended.err(), Some(HandshakeError::Ended(_))));
}

/// Of the stateless era alone, over HTTP; what it is called with stands in its answer.
async fn stateless_over_http(request: axum::extract::Request) -> axum::response::Response {
    let headers = request.headers().clone();
    let body = axum::body::to_bytes(request.into_body(), 1 << 20)
        .await
        .unwrap();
    let message: Value = serde_json::from_slice(&body).unwrap_or_default();
    let header = |name: &str| {
        headers
            .get(name)
            .map(|value| value.to_str().unwrap().to_owned())
    };
    let answer = |status: u16, mut answer: Value| {
        answer["jsonrpc"] = json!("2.0");
        answer["id"] = message["id"].clone();
        let built = axum::response::Response::builder().status(status);
        built
            .header("content-type", "application/json")
            .body(answer.to_string().into())
            .unwrap()
    };
    if header("mcp-protocol-version").as_deref() != Some("2026-07-28") {
        return answer(
            400,
            json!({"error": {"code": -32022, "message": "Unsupported protocol version"}}),
        );
    }
    let mut result = json!({"resultType": "complete"});
    match message["method"].as_str().unwrap() {
        "server/discover" => {
            result["supportedVersions"] = json!(["2026-07-28"]);
            result["capabilities"] = json!({"tools": {}});
        }
        "tools/call" => {
            let seen = ["mcp-method", "mcp-name", "mcp-session-id"].map(header);
            result["content"] = json!([{"type": "text", "text": json!(seen).to_string()}]);
        }
        _ => {
            return answer(
                404,
                json!({"error": {"code": -32601, "message": "Method not found"}}),
            );
        }
    }
    answer(200, json!({"result": result}))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_reach_an_http_server_of_the_stateless_era_alone() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("mcp.sock");
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    let app = axum::Router::new().fallback(stateless_over_http);
    let serving = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    let relay = HttpRelay::start(socket, "/mcp".to_owned(), masks(), START)
        .await
        .unwrap();
    let door = Door::open(Relay::Http(relay)).await;

    let one = door.session("one", "2025-11-25").await;
    let answer = one.call(1, "naïve", json!({})).await.json();
    assert_eq!(
        said(&answer["result"]),
        json!(["tools/call", "=?base64?bmHDr3Zl?=", null])
    );
    let answer = one
        .post(&json!({"jsonrpc": "2.0", "id": 2, "method": "prompts/list"}))
        .await;
    assert_eq!(answer.code(), -32601);
    // Who speaks as it does reaches it without a detour.
    let (modern, message) = alone(
        &Session::new(&door.url, "two"),
        json!({}),
        call(3, "plain", json!({})),
    );
    let answer = modern.post(&message).await.json();
    assert_eq!(
        said(&answer["result"]),
        json!(["tools/call", "plain", null])
    );
    serving.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_the_stateless_era_reach_an_http_server_of_sessions() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("mcp.sock");
    let mut command = node(&clients::everything(), &["streamableHttp"]);
    command.env("PORT", &socket).stdout(Stdio::null());
    let _server = command.spawn().unwrap();
    let relay = HttpRelay::start(socket, "/mcp".to_owned(), masks(), START)
        .await
        .unwrap();
    let door = Door::open(Relay::Http(relay)).await;
    let output = Client::NodeAuto
        .run(&door.url, "t", "get-env", &json!({}))
        .await;
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.starts_with("modern\n"), "{printed}");
    assert!(
        printed.contains("SECRET_KEY") && !leaks(&printed),
        "{printed}"
    );
    let sum = call(1, "get-sum", json!({"a": 1, "b": 2}));
    let (one, message) = alone(&Session::new(&door.url, "one"), json!({}), sum);
    let answers = join_all((0..50).map(|_| one.post(&message))).await;
    for answer in answers {
        assert!(
            answer.json()["result"]["content"].to_string().contains('3'),
            "{answer:?}"
        );
    }
    // Sessions go on beside it.
    let two = door.session("two", "2025-11-25").await;
    assert!(
        two.call(1, "echo", json!({"message": "x"}))
            .await
            .body
            .contains("Echo: x")
    );
}

/// `serde_json` takes a string under a key of its own for JSON, and reads it without counting how deep it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_reads_itself_again_is_no_message() {
    let (_child, door) = asking("", Options::default()).await;
    let one = door.session("one", "2025-11-25").await;
    for key in [
        "$serde_json::private::RawValue",
        r"\u0024serde_json::private::RawValue",
    ] {
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"can","arguments":{{"{key}":"[]"}}}}}}"#
        );
        let answer = one.send(http::Method::POST, body).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (400, -32700));
    }
}
