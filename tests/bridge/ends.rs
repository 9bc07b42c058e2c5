//! How it ends, and that nothing of it is left.

use std::time::Instant;

use futures::StreamExt as _;
use http::StatusCode;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::bridged::{
    Bridge, CANARY, call, command, fixture, http, is_running, modern, post, session, until,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_both_and_leaves_nothing() {
    for (signal, variables) in [
        (Signal::TERM, &[][..]),
        (Signal::INT, &[][..]),
        (Signal::TERM, &[("STRAY", "1")][..]),
        (Signal::TERM, &[("STRAY", "1"), ("DEAF", "1")][..]),
    ] {
        let bridge = Bridge::node(variables, "bridged-server.mjs").await;
        let mut processes = bridge.children();
        assert_eq!(processes.len(), 1);
        if !variables.is_empty() {
            let stray = bridge.said("stray ").await;
            processes.push(stray.strip_prefix("stray ").unwrap().parse().unwrap());
        }
        for process in &processes {
            assert!(is_running(*process), "{variables:?}");
        }
        let began = Instant::now();
        bridge.signal(signal);
        let (status, log) = bridge.ended().await;
        assert_eq!(status.code(), Some(0), "{variables:?} {log:?}");
        assert!(log.last().unwrap().contains("asked to stop"), "{log:?}");
        let deaf = variables.contains(&("DEAF", "1"));
        let took = began.elapsed().as_secs_f32();
        assert_eq!(
            took >= 5.0,
            deaf,
            "{took}: what ends by itself is not waited for"
        );
        assert!(took < 9.0, "{took}: before a container is killed");
        for process in processes {
            assert!(!is_running(process), "{variables:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_does_not_wait() {
    let bridge = Bridge::node(&[("DEAF", "1")], "bridged-server.mjs").await;
    let [server] = bridge.children()[..] else {
        panic!("{:?}", bridge.children());
    };
    let began = Instant::now();
    bridge.signal(Signal::TERM);
    // It has come as far as closing the server's input when it listens no more.
    until("the first signal", async || {
        http()
            .get(format!("{}/healthz", bridge.url))
            .send()
            .await
            .is_err()
            || began.elapsed().as_secs() > 1
    })
    .await;
    bridge.signal(Signal::TERM);
    let (status, log) = bridge.ended().await;
    assert_eq!(status.code(), Some(0), "{log:?}");
    assert!(began.elapsed().as_secs() < 5);
    assert!(!is_running(server));
}

#[tokio::test(flavor = "multi_thread")]
async fn before_the_handshake_a_signal_ends_both_too() {
    let variables = [("WAIT_FOR", "/nonexistent"), ("STRAY", "1")];
    let script = fixture("bridged-server.mjs");
    let bridge = Bridge::listening(&variables, &["node", &script]).await;
    let stray = bridge.said("stray ").await;
    let stray: u32 = stray.strip_prefix("stray ").unwrap().parse().unwrap();
    let server = bridge.children()[0];
    assert!(is_running(server) && is_running(stray));
    bridge.signal(Signal::TERM);
    let (status, _) = bridge.ended().await;
    assert_eq!(status.code(), Some(0));
    assert!(!is_running(server) && !is_running(stray));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_under_way_at_a_signal_is_answered() {
    let bridge = Bridge::everything(&[]).await;
    let tool = "trigger-long-running-operation";
    let params = json!({"name": tool, "arguments": {"duration": 1, "steps": 4}});
    let (headers, mut message) = modern(None, "tools/call", params);
    message["params"]["_meta"]["progressToken"] = json!("p");
    // A stream of notifications, which has no end of its own, holds nothing up.
    let listens = session(&bridge.mcp(), None).await;
    let endless = http().get(bridge.mcp()).headers(listens).send();
    let endless = endless.await.unwrap();
    let called = http().post(bridge.mcp()).headers(headers);
    let called = called.body(message.to_string()).send().await.unwrap();
    let mut answer = called.bytes_stream();
    let mut text = String::new();
    while !text.contains("notifications/progress") {
        text.push_str(std::str::from_utf8(&answer.next().await.unwrap().unwrap()).unwrap());
    }
    assert!(!text.contains("\"result\""), "it is under way: {text}");
    bridge.signal(Signal::TERM);
    while let Some(piece) = answer.next().await {
        text.push_str(std::str::from_utf8(&piece.unwrap()).unwrap());
    }
    let last = text
        .lines()
        .rfind(|line| line.starts_with("data: {"))
        .unwrap();
    let last: Value = serde_json::from_str(&last["data: ".len()..]).unwrap();
    assert!(last["result"]["content"].is_array(), "{text}");
    endless.bytes().await.unwrap();
    let (status, _) = bridge.ended().await;
    assert_eq!(status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_servers_end_is_the_bridges() {
    let bridge = Bridge::node(&[], "hostile-server.mjs").await;
    let answer = post(
        &bridge.mcp(),
        session(&bridge.mcp(), None).await,
        &call("exit", json!({})),
    )
    .await;
    // Whoever waited is told.
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.json()["error"]["code"], -32000);
    let (status, log) = bridge.ended().await;
    assert_eq!(status.code(), Some(3));
    assert!(log.last().unwrap().contains("status 3"), "{log:?}");

    let bridge = Bridge::node(&[("STRAY", "1")], "bridged-server.mjs").await;
    let stray = bridge.said("stray ").await;
    let stray: u32 = stray.strip_prefix("stray ").unwrap().parse().unwrap();
    let server = bridge
        .children()
        .into_iter()
        .find(|pid| *pid != stray)
        .unwrap();
    kill_process(Pid::from_raw(server.cast_signed()).unwrap(), Signal::KILL).unwrap();
    let (status, log) = bridge.ended().await;
    assert_eq!(status.code(), Some(137));
    assert!(log.last().unwrap().contains("signal 9"), "{log:?}");
    assert!(!is_running(stray), "what it left behind ends too");

    // It goes on, but nobody can call it any more.
    let script = format!(
        "setInterval(() => {{}}, 1000); import({:?}); process.on('SIGUSR2', () => require('fs').closeSync(1))",
        fixture("bridged-server.mjs")
    );
    let bridge = Bridge::up(&[], &["node", "-e", &script]).await;
    let server = Pid::from_raw(bridge.children()[0].cast_signed()).unwrap();
    kill_process(server, Signal::USR2).unwrap();
    let (status, log) = bridge.ended().await;
    assert_eq!(status.code(), Some(1));
    assert!(log.last().unwrap().contains("closed its output"), "{log:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_come_up_says_why() {
    let says = "echo no key for $SECRET_KEY; echo really not >&2; exit 5";
    let output = command(&[], &["sh", "-c", says]).output().await.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(5), "{said}");
    assert!(said.contains("no key for [sealed]\n"), "{said}");
    assert!(
        said.contains("really not\n") && !said.contains(CANARY),
        "{said}"
    );
    assert!(
        said.trim_end()
            .ends_with("ended with status 5, and the bridge ends as it did."),
        "{said}"
    );
    assert!(output.stdout.is_empty());
    let output = command(&[], &["sh", "-c", "echo help"])
        .output()
        .await
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        output.status.code(),
        Some(1),
        "well ended is not well begun: {said}"
    );
    assert!(
        said.contains("before it answered the MCP handshake"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn orphans_that_end_are_taken_in() {
    let bridge = Bridge::node(&[("LITTER", "1")], "bridged-server.mjs").await;
    let first = bridge.children();
    // The orphan is a child of the bridge until it has ended; one that nobody waits for would stay.
    until("the orphan's end", async || bridge.children().len() == 1).await;
    assert!(is_running(bridge.children()[0]), "{first:?}");
}
