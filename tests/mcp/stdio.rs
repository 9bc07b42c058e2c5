//! `sealport mcp` itself: lines in, lines out, and nothing else.

use std::process::Stdio;
use std::time::Duration;

use axum::http::{StatusCode, header};
use sealport::model::levels::Level;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpListener;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::house::{CANARY, House};

const PATIENCE: Duration = Duration::from_secs(30);

struct Joined {
    child: Child,
    input: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Joined {
    fn start(url: &str, token: &str) -> Joined {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sealport"));
        command.arg("mcp").env_clear().env("SEALPORT_URL", url);
        if !token.is_empty() {
            command.env("SEALPORT_TOKEN", token);
        }
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        Joined {
            input: child.stdin.take(),
            lines: BufReader::new(child.stdout.take().unwrap()).lines(),
            child,
        }
    }

    async fn say(&mut self, line: &str) {
        let input = self.input.as_mut().unwrap();
        input
            .write_all(format!("{line}\n").as_bytes())
            .await
            .unwrap();
    }

    async fn hear(&mut self) -> Value {
        let line = tokio::time::timeout(PATIENCE, self.lines.next_line()).await;
        let line = line.expect("an answer in time").unwrap().expect("a line");
        serde_json::from_str(&line).unwrap()
    }

    /// Closes its input and waits: whether it ended well, what it still said, and its complaints.
    async fn end(mut self) -> (bool, Vec<String>, String) {
        drop(self.input.take());
        let mut rest = Vec::new();
        while let Some(line) = tokio::time::timeout(PATIENCE, self.lines.next_line())
            .await
            .unwrap()
            .unwrap()
        {
            rest.push(line);
        }
        let mut complaints = String::new();
        let mut stderr = self.child.stderr.take().unwrap();
        stderr.read_to_string(&mut complaints).await.unwrap();
        let status = tokio::time::timeout(PATIENCE, self.child.wait())
            .await
            .unwrap();
        (status.unwrap().success(), rest, complaints)
    }
}

fn call(id: Value, tool: &str, arguments: Value) -> String {
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}).to_string()
}

#[tokio::test]
async fn a_line_is_a_message_in_both_directions() {
    let house = House::new().await;
    house.secret("KEY", &format!("{CANARY}\nsecond line")).await;
    let (id, token) = house.token(Level::Read, None, false).await;
    let mut joined = Joined::start(&house.url, &token);
    let hello = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "a test", "version": "1"}}});
    joined.say(&hello.to_string()).await;
    assert_eq!(
        joined.hear().await["result"]["protocolVersion"],
        "2025-06-18"
    );
    joined
        .say(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#)
        .await;
    joined.say("").await;
    joined
        .say(&call(json!("a"), "get_secret", json!({"keyPath": "KEY"})))
        .await;
    let got = joined.hear().await;
    assert_eq!(got["id"], "a");
    assert_eq!(
        got["result"]["structuredContent"]["value"],
        format!("{CANARY}\nsecond line")
    );
    joined.say("no message").await;
    assert_eq!(joined.hear().await["error"]["code"], -32700);
    // The newer era, on the same pipe.
    let modern = json!({"jsonrpc": "2.0", "id": 5, "method": "server/discover", "params": {"_meta": {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}}});
    joined.say(&modern.to_string()).await;
    assert_eq!(
        joined.hear().await["result"]["supportedVersions"][0],
        "2026-07-28"
    );

    house.world.db.token_revoke(&house.ada, id).await.unwrap();
    joined.say(&call(json!(9), "list_secrets", json!({}))).await;
    let refused = joined.hear().await;
    assert_eq!(refused["id"], 9, "the one who asked is told");
    assert!(
        refused["error"]["message"]
            .as_str()
            .unwrap()
            .contains("revoked")
    );
    let (well, rest, complaints) = joined.end().await;
    assert!(well && rest.is_empty(), "{rest:?}");
    assert!(
        complaints.contains("revoked") && !complaints.contains(&token),
        "{complaints}"
    );
}

#[tokio::test]
async fn what_was_asked_before_the_end_is_answered() {
    let house = House::new().await;
    let (_, token) = house.token(Level::Read, None, false).await;
    let mut joined = Joined::start(&house.url, &token);
    for id in 0..40 {
        joined
            .say(&call(json!(id), "list_secrets", json!({})))
            .await;
    }
    let (well, answers, complaints) = joined.end().await;
    assert!(well, "{complaints}");
    let mut ids: Vec<i64> = answers
        .iter()
        .map(|line| {
            serde_json::from_str::<Value>(line).unwrap()["id"]
                .as_i64()
                .unwrap()
        })
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..40).collect::<Vec<_>>());
    assert_eq!(complaints, "");
}

#[tokio::test]
async fn streams_come_as_lines_and_what_is_no_answer_as_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answers = axum::Router::new().fallback(async |request: axum::extract::Request| {
        assert_eq!(request.headers()[header::AUTHORIZATION], "Bearer sp_x");
        let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
        let asked: Value = serde_json::from_slice(&body).unwrap();
        let (status, kind, body) = match asked["method"].as_str().unwrap() {
            "stream" => (
                StatusCode::OK,
                "text/event-stream",
                ": hello\n\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\"}\n\ndata: {\"jsonrpc\":\"2.0\",\ndata: \"id\":1,\"result\":{}}\n\n",
            ),
            "array" => (StatusCode::BAD_GATEWAY, "application/json", "[\"x\"]"),
            "elsewhere" => (StatusCode::FOUND, "text/plain", "http://127.0.0.1:1/"),
            _ => (StatusCode::BAD_GATEWAY, "text/html", "<html>"),
        };
        let mut response = axum::response::Response::new(body.to_owned());
        *response.status_mut() = status;
        response.headers_mut().insert(header::CONTENT_TYPE, kind.parse().unwrap());
        if status == StatusCode::FOUND {
            response.headers_mut().insert(header::LOCATION, body.parse().unwrap());
        }
        response
    });
    tokio::spawn(async move { axum::serve(listener, answers).await });
    let mut joined = Joined::start(&url, "sp_x");
    joined
        .say(r#"{"jsonrpc":"2.0","id":1,"method":"stream"}"#)
        .await;
    assert_eq!(joined.hear().await["method"], "notifications/message");
    assert_eq!(
        joined.hear().await,
        json!({"jsonrpc": "2.0", "id": 1, "result": {}})
    );
    for method in ["elsewhere", "broken", "array"] {
        joined
            .say(&format!(
                r#"{{"jsonrpc":"2.0","id":2,"method":"{method}"}}"#
            ))
            .await;
        let error = joined.hear().await;
        assert_eq!(
            (&error["id"], &error["error"]["code"]),
            (&json!(2), &json!(-32000))
        );
    }
    let (well, ..) = joined.end().await;
    assert!(well);

    let mut nowhere = Joined::start("http://127.0.0.1:1", "sp_x");
    nowhere
        .say(r#"{"jsonrpc":"2.0","id":3,"method":"ping"}"#)
        .await;
    assert!(
        nowhere.hear().await["error"]["message"]
            .as_str()
            .unwrap()
            .contains("cannot be reached")
    );
    let (well, _, complaints) = nowhere.end().await;
    assert!(well && complaints.contains("cannot be reached"));
}

#[tokio::test]
async fn it_does_not_start_where_a_token_could_be_seen() {
    for (url, token, expected) in [
        ("http://sealport.example.org", "sp_x", "http"),
        ("https://sealport.example.org", "", "SEALPORT_TOKEN"),
        ("sealport.example.org", "sp_x", "SEALPORT_URL"),
    ] {
        let (well, said, complaints) = Joined::start(url, token).end().await;
        assert!(!well && said.is_empty(), "{url}");
        assert!(
            complaints.contains(expected) && !complaints.contains("sp_x"),
            "{complaints}"
        );
    }
}
