//! Who does not come in, and what does not start.

use std::process::Output;

use http::{HeaderMap, Method, StatusCode};
use serde_json::json;
use tokio::net::TcpListener;

use crate::bridged::{
    Bridge, PATIENCE, SECRET, call, command, headers, initialize, modern, post, send, session,
};

fn with(mut headers: HeaderMap, name: &'static str, value: &str) -> HeaderMap {
    headers.insert(name, value.parse().unwrap());
    headers
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_secret_nothing_is_answered() {
    let bridge = Bridge::node(&[("SEALPORT_GATEWAY_SECRET", SECRET)], "hostile-server.mjs").await;
    let url = bridge.mcp();
    let longer = format!("{SECRET}0");
    for bearer in [
        None,
        Some("another"),
        Some(&SECRET[..31]),
        Some(longer.as_str()),
        Some(""),
    ] {
        let answer = post(&url, headers(bearer), &initialize()).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{bearer:?}");
        assert_eq!(answer.headers["www-authenticate"], "Bearer");
        assert!(!answer.headers.contains_key("mcp-session-id"));
        assert!(!answer.body.contains(SECRET), "{answer:?}");
        let (stateless, message) = modern(bearer, "tools/call", json!({"name": "exit"}));
        let answer = post(&url, stateless, &message).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{bearer:?}");
        for method in [Method::GET, Method::DELETE, Method::PUT] {
            let answer = send(method, &url, headers(bearer), String::new()).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{bearer:?}");
        }
    }
    for other in [
        with(headers(None), "authorization", &format!("Basic {SECRET}")),
        with(headers(None), "x-api-key", SECRET),
        with(headers(None), "cookie", SECRET),
    ] {
        let answer = post(&url, other, &initialize()).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    }
    let in_query = format!("{url}?token={SECRET}");
    let answer = post(&in_query, headers(None), &initialize()).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    // Nobody came as far as the tool that ends the server.
    let open = session(&url, Some(SECRET)).await;
    let answer = post(&url, open, &call("handshakes", json!({}))).await;
    assert_eq!(answer.json()["result"]["said"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_secret_it_says_that_it_is_open_and_still_refuses_browsers() {
    let bridge = Bridge::node(&[], "hostile-server.mjs").await;
    let url = bridge.mcp();
    let warned = bridge.said("OPEN").await;
    assert!(warned.contains("SEALPORT_GATEWAY_SECRET"), "{warned}");
    let loud = bridge.log();
    let loud = loud.iter().filter(|line| line.contains("WARNING"));
    assert_eq!(loud.count(), 2, "once, in two lines");
    // Any Host is right: behind a provider it is the provider's to choose.
    let host = with(headers(None), "host", "shop.example.org");
    let answer = post(&url, host.clone(), &initialize()).await;
    assert_eq!(answer.status, StatusCode::OK);
    for origin in [
        "https://shop.example.org",
        "http://shop.example.org",
        "null",
        "",
    ] {
        let page = with(host.clone(), "origin", origin);
        let answer = post(&url, page.clone(), &initialize()).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{origin}");
        assert!(!answer.headers.contains_key("mcp-session-id"));
        let asks = send(Method::OPTIONS, &url, page, String::new()).await;
        assert_eq!(asks.status, StatusCode::FORBIDDEN, "{origin}");
        let grants = "access-control-allow-origin";
        assert!(!asks.headers.contains_key(grants) && !answer.headers.contains_key(grants));
    }
    let elsewhere = format!("{}/", bridge.url);
    let answer = send(Method::GET, &elsewhere, headers(None), String::new()).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_huge_body_is_refused() {
    let bridge = Bridge::node(&[], "hostile-server.mjs").await;
    let url = bridge.mcp();
    let session = session(&url, None).await;
    let huge = call("handshakes", json!({"text": "x".repeat(5 << 20)}));
    let answer = post(&url, session.clone(), &huge).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    let large = call("handshakes", json!({"text": "x".repeat(3 << 20)}));
    let answer = post(&url, session, &large).await;
    assert_eq!(answer.status, StatusCode::OK, "what is only large passes");
}

async fn ended(variables: &[(&str, &str)], server: &[&str]) -> (i32, String) {
    let output = tokio::time::timeout(PATIENCE, command(variables, server).output()).await;
    let Output { status, stderr, .. } = output.expect("it ends").unwrap();
    let said = String::from_utf8(stderr).unwrap();
    (status.code().unwrap(), said)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_set_up_starts_no_server() {
    let place = tempfile::tempdir().unwrap();
    let started = place.path().join("started");
    let server = ["touch", started.to_str().unwrap()];
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for (name, value, status) in [
        ("SEALPORT_GATEWAY_SECRET", "", 2),
        (
            "SEALPORT_GATEWAY_SECRET",
            "with a blank in the middle of it",
            2,
        ),
        (
            "SEALPORT_GATEWAY_SECRET",
            "0123456789abcdef0123456789abcdef\n",
            2,
        ),
        ("PORT", "", 2),
        ("PORT", "66000", 2),
        ("PORT", &port, 125),
    ] {
        let (ended, said) = ended(&[(name, value)], &server).await;
        assert_eq!(ended, status, "{name}={value:?} {said}");
        assert!(said.contains(name), "{said}");
        assert!(!started.exists(), "{name}={value:?}");
    }
    let (status, _) = ended(&[], &server).await;
    assert!(started.exists(), "it would have been seen");
    assert_eq!(status, 1);
    let (status, said) = ended(&[], &["no-such-command-at-all"]).await;
    assert_eq!(status, 127, "{said}");
    assert!(said.contains("no-such-command-at-all"), "{said}");
    let (status, said) = ended(&[], &[place.path().to_str().unwrap()]).await;
    assert_eq!(status, 126, "{said}");
    let (status, said) = ended(&[], &[]).await;
    assert_eq!(status, 2, "{said}");
    let (status, said) = ended(&[("SEALPORT_GATEWAY_SECRET", "short")], &["true"]).await;
    assert_eq!(status, 1);
    assert!(said.contains("can be guessed"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_needs_nothing_of_the_server() {
    let place = tempfile::tempdir().unwrap();
    // What would stop `sealport serve` at its start.
    let variables = [
        ("SEALPORT_DATA", "/nonexistent/data"),
        ("DATABASE_URL", "not an address"),
        ("SEALPORT_ADDR", "nowhere"),
        ("SEALPORT_MASTER_KEY", "00112233"),
        ("HOME", place.path().to_str().unwrap()),
    ];
    let bridge = Bridge::node(&variables, "bridged-server.mjs").await;
    let [server] = bridge.children()[..] else {
        panic!("{:?}", bridge.children());
    };
    let environment = std::fs::read_to_string(format!("/proc/{server}/environ")).unwrap();
    assert!(environment.contains("SEALPORT_DATA"), "it passes through");
    assert!(!environment.contains("SEALPORT_MASTER_KEY"));
    let kept = std::fs::read_dir(place.path()).unwrap().count();
    assert_eq!(kept, 0, "nothing is written");
}
