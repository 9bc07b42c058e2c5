//! What callers get, and what the server and the log do not.

use futures::StreamExt as _;
use futures::future::join_all;
use http::{HeaderMap, Method, StatusCode};
use serde_json::{Value, json};

use crate::bridged::{
    Bridge, CANARY, SECRET, call, headers, http, modern, post, send, session, until,
};
use crate::clients::Client;

#[tokio::test(flavor = "multi_thread")]
async fn official_clients_of_both_eras_call_a_real_server_that_does_not_have_the_secret() {
    let bridge = Bridge::everything(&[("SEALPORT_GATEWAY_SECRET", SECRET)]).await;
    let url = bridge.mcp();
    join_all(Client::ALL.map(async |client| {
        let printed = client.run(&url, SECRET, "get-env", &json!({})).await;
        let printed = String::from_utf8(printed.stdout).unwrap();
        let modern = printed.starts_with("modern\n");
        assert_eq!(
            modern,
            matches!(client, Client::NodeAuto),
            "{client:?} {printed}"
        );
        let result: Value = serde_json::from_str(printed.lines().last().unwrap()).unwrap();
        let text = result["content"][0]["text"].as_str().unwrap();
        let environment: Value = serde_json::from_str(text).unwrap();
        // What is bound reaches the server and its answers; the gateway masks them, which knows what is a secret.
        assert_eq!(environment["SECRET_KEY"], CANARY, "{client:?}");
        assert_eq!(environment["PORT"], "0", "{client:?}");
        assert!(!text.contains(SECRET), "{client:?}");
        let refused = client.call(&url, "another", "get-env", &json!({})).await;
        refused.expect_err("another bearer opens nothing");
    }))
    .await;
    let [server] = bridge.children()[..] else {
        panic!("{:?}", bridge.children());
    };
    let environment = std::fs::read(format!("/proc/{server}/environ")).unwrap();
    let environment = String::from_utf8(environment).unwrap();
    assert!(
        environment.contains(CANARY),
        "the environment is read at all"
    );
    assert!(!environment.contains(SECRET) && !environment.contains("SEALPORT_GATEWAY_SECRET"));
    let log = bridge.log().join("\n");
    assert!(!log.contains("OPEN") && !log.contains(SECRET), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_server_speaks_both_eras_at_once() {
    let bridge = Bridge::node(&[], "hostile-server.mjs").await;
    let url = bridge.mcp();
    let (stateless, message) = modern(None, "server/discover", json!({}));
    let discovered = post(&url, stateless, &message).await.json();
    assert_eq!(
        discovered["result"]["supportedVersions"],
        json!([
            "2026-07-28",
            "2025-11-25",
            "2025-06-18",
            "2025-03-26",
            "2024-11-05"
        ])
    );
    let session = session(&url, None).await;
    let counted = call("handshakes", json!({}));
    let answer = post(&url, session.clone(), &counted).await.json();
    assert_eq!(
        (&answer["id"], &answer["result"]["said"]),
        (&json!(7), &json!(1))
    );
    let (stateless, message) = modern(None, "tools/call", json!({"name": "handshakes"}));
    let answer = post(&url, stateless, &message).await.json();
    assert_eq!(answer["result"]["said"], 1);
    // Several clients may share it, so it is offered none of what asks one of them.
    let answer = post(&url, session, &call("ask", json!({}))).await.json();
    for asked in &answer["result"]["said"].as_array().unwrap()[..3] {
        assert_eq!(asked["code"], -32601, "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_one_bearer_are_kept_apart() {
    let bridge = Bridge::node(&[("SEALPORT_GATEWAY_SECRET", SECRET)], "hostile-server.mjs").await;
    let url = bridge.mcp();
    let (one, two) = (
        session(&url, Some(SECRET)).await,
        session(&url, Some(SECRET)).await,
    );
    let listening = http().get(&url).headers(one.clone()).send().await.unwrap();
    assert_eq!(listening.status(), StatusCode::OK);
    let mut told = listening.bytes_stream();
    // It prints a log message of what this session did, and then tells everybody that its tools changed.
    let logged = post(&url, two.clone(), &call("log", json!({}))).await;
    assert_eq!(logged.json()["result"]["said"], "logged");
    let mut heard = String::new();
    while !heard.contains("list_changed") {
        heard.push_str(std::str::from_utf8(&told.next().await.unwrap().unwrap()).unwrap());
    }
    assert!(!heard.contains("notifications/message"), "{heard}");

    // A session with another's half of an id is as unknown as one that never was, and so is one whose form is not ours.
    let id = |headers: &HeaderMap| headers["mcp-session-id"].to_str().unwrap().to_owned();
    let mixed = format!("{}{}", &id(&one)[..32], &id(&two)[32..]);
    for wrong in [&mixed, &id(&one)[..32], "x"] {
        let mut headers = one.clone();
        headers.insert("mcp-session-id", wrong.parse().unwrap());
        let answer = post(&url, headers, &call("log", json!({}))).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{wrong}");
    }
    let left = send(Method::DELETE, &url, two.clone(), String::new()).await;
    assert_eq!(left.status, StatusCode::NO_CONTENT);
    let gone = post(&url, two, &call("log", json!({}))).await;
    assert_eq!(gone.status, StatusCode::NOT_FOUND);
    let stays = post(&url, one, &call("log", json!({}))).await;
    assert_eq!(stays.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_masked() {
    let odd = "an odd value of nobody's kind";
    let variables = [
        ("ODD", odd),
        ("SEALPORT_BRIDGE_MASK", "ODD, MISSING"),
        ("PLAIN", "in clear text"),
    ];
    let script = format!(
        "console.error('odd', process.env.ODD, process.env.PLAIN, '\\x1b[31m' + process.env.SECRET_KEY); import({:?})",
        crate::bridged::fixture("hostile-server.mjs")
    );
    let bridge = Bridge::up(&variables, &["node", "-e", &script]).await;
    assert_eq!(
        bridge.said("odd").await,
        "odd [sealed] in clear text [sealed]"
    );
    bridge.said("MISSING is to be masked").await;
    let said = post(
        &bridge.mcp(),
        session(&bridge.mcp(), None).await,
        &call("garbage", json!({})),
    )
    .await;
    assert_eq!(said.status, StatusCode::OK);
    assert_eq!(bridge.said("not json").await, "not json [sealed]");
    assert_eq!(bridge.said("in colour").await, "in colour [sealed]");
    let log = bridge.log().join("\n");
    for secret in [CANARY, odd] {
        for part in secret.as_bytes().windows(8) {
            assert!(!log.contains(std::str::from_utf8(part).unwrap()), "{log}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_healthy_from_the_handshake_to_the_end() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("go");
    let variables = [
        ("WAIT_FOR", file.to_str().unwrap()),
        ("SEALPORT_GATEWAY_SECRET", SECRET),
    ];
    let script = crate::bridged::fixture("bridged-server.mjs");
    let bridge = Bridge::listening(&variables, &["node", &script]).await;
    let url = bridge.mcp();
    assert_eq!(bridge.health().await, StatusCode::SERVICE_UNAVAILABLE);
    let (list, message) = modern(Some(SECRET), "tools/list", json!({}));
    let early = post(&url, list.clone(), &message).await;
    assert_eq!(early.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(early.headers["retry-after"], "2");
    let stranger = post(&url, headers(None), &message).await;
    assert_eq!(
        stranger.status,
        StatusCode::UNAUTHORIZED,
        "told nothing of it"
    );
    std::fs::write(&file, "").unwrap();
    until("the handshake", async || {
        bridge.health().await == StatusCode::OK
    })
    .await;
    assert_eq!(post(&url, list, &message).await.status, StatusCode::OK);
}
