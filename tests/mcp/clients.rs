//! Real clients call the tools: the official SDKs of both eras, over HTTP and through `sealport mcp`, and the Inspector.

use std::process::{Output, Stdio};

use futures::future::join_all;
use sealport::model::levels::Level;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::clients::{Client, inspector};
use crate::house::{CANARY, House};

const PATH: &str = "project/shop/STRIPE_KEY";

/// Calls of a secret's life: tool, arguments, and what has to be in the structured result.
fn life(client: &str) -> Vec<(&'static str, Value, Value)> {
    let made = format!("service/{client}/MADE");
    vec![
        (
            "get_secret",
            json!({"keyPath": PATH}),
            json!({"revealed": true, "value": CANARY}),
        ),
        (
            "get_secret",
            json!({"keyPath": "NOT_THERE"}),
            json!({"found": false, "reason": "missing"}),
        ),
        (
            "get_secret",
            json!({"keyPath": "EXPIRED"}),
            json!({"revealed": false, "reason": "expired"}),
        ),
        (
            "get_secret",
            json!({"keyPath": "OFF"}),
            json!({"revealed": false, "reason": "off"}),
        ),
        (
            "set_secret",
            json!({"keyPath": made, "generate": true, "description": "für Ärger"}),
            json!({"created": true, "generated": true}),
        ),
        (
            "set_secret",
            json!({"keyPath": made, "value": "another value"}),
            json!({"created": false, "version": 2}),
        ),
        (
            "delete_secret",
            json!({"keyPath": made}),
            json!({"deleted": true}),
        ),
    ]
}

#[tokio::test]
async fn the_official_clients_use_every_tool() {
    let house = House::new().await;
    house.secret(PATH, CANARY).await;
    let expired = house.secret("EXPIRED", CANARY).await;
    house.expire(expired).await;
    let off = house.secret("OFF", CANARY).await;
    house.switch(off, false).await;
    let (id, token) = house.token(Level::Admin, None, false).await;
    let (_, uses) = house.token(Level::Use, None, false).await;
    let http = format!("{}/mcp", house.url);
    let stdio = format!("stdio:{} {}", env!("CARGO_BIN_EXE_sealport"), house.url);
    // What differs over standard input and output is the way, not the tools.
    let (all, some) = (1, 4);
    for (url, name, step) in [(&http, "http", all), (&stdio, "stdio", some)] {
        let lives = Client::ALL.map(|client| live(client, url, name, step, [&token, &uses]));
        join_all(lives).await;
    }
    house.world.db.token_revoke(&house.ada, id).await.unwrap();
    for url in [&http, &stdio] {
        let calls = Client::ALL.map(async |client| {
            let refused = client.call(url, &token, "list_secrets", &json!({})).await;
            refused.expect_err("a revoked token opens nothing");
        });
        join_all(calls).await;
    }
}

/// One client lists the tools and makes the calls of a life, each `step`th; with the second token, which may use and no more.
async fn live(client: Client, url: &str, way: &str, step: usize, [token, uses]: [&str; 2]) {
    let name = format!("{client:?}-{way}").to_lowercase();
    let call = async |token: &str, tool: &str, arguments: Value| {
        let result = client.call(url, token, tool, &arguments).await;
        result.unwrap_or_else(|error| panic!("{name} {tool}: {error}"))
    };
    let tools = call(token, "--list", json!({})).await;
    assert_eq!(tools["tools"].as_array().unwrap().len(), 8, "{name}");
    assert_eq!(tools["tools"][0]["annotations"]["readOnlyHint"], true);
    for (tool, arguments, expected) in life(&name).into_iter().step_by(step) {
        let result = call(token, tool, arguments).await;
        let structured = &result["structuredContent"];
        for (key, value) in expected.as_object().unwrap() {
            assert_eq!(&structured[key], value, "{name} {tool} {key}: {structured}");
        }
    }
    let described = call(uses, "get_secret", json!({"keyPath": PATH})).await;
    assert_eq!(
        described["structuredContent"]["reason"], "use_only",
        "{name}"
    );
    assert!(!described.to_string().contains(CANARY), "{name}");
    let failed = call(uses, "delete_secret", json!({"keyPath": PATH})).await;
    assert_eq!(failed["isError"], true, "{name}");
    assert_eq!(failed["structuredContent"]["reason"], "refused", "{name}");
    let listed = call(uses, "list_secrets", json!({"project": "shop"})).await;
    let first = &listed["structuredContent"]["secrets"][0];
    assert_eq!(first["keyPath"], PATH, "{name}");
}

#[tokio::test]
async fn the_inspectors_command_line_calls_tools() {
    let house = House::new().await;
    house.secret(PATH, CANARY).await;
    let (id, token) = house.token(Level::Read, None, false).await;
    let url = format!("{}/mcp", house.url);
    let listed = inspect(&url, &token, &["--method", "tools/list"]).await;
    let tools = said(&listed);
    assert_eq!(tools["tools"].as_array().unwrap().len(), 8);
    let argument = format!("keyPath={PATH}");
    let call = [
        "--method",
        "tools/call",
        "--tool-name",
        "get_secret",
        "--tool-arg",
        &argument,
    ];
    let got = said(&inspect(&url, &token, &call).await);
    assert_eq!(got["structuredContent"]["value"], CANARY);
    let missing = [
        "--method",
        "tools/call",
        "--tool-name",
        "get_secret",
        "--tool-arg",
        "keyPath=NONE",
    ];
    let got = said(&inspect(&url, &token, &missing).await);
    assert_eq!(got["structuredContent"]["reason"], "missing");
    house.world.db.token_revoke(&house.ada, id).await.unwrap();
    let refused = inspect(&url, &token, &call).await;
    assert!(!refused.status.success(), "{refused:?}");
    assert!(!String::from_utf8_lossy(&refused.stdout).contains(CANARY));
}

async fn inspect(url: &str, token: &str, arguments: &[&str]) -> Output {
    let (node, launcher) = inspector();
    Command::new(node)
        .arg(launcher)
        .args(["--cli", url, "--transport", "http", "--header"])
        .arg(format!("Authorization: Bearer {token}"))
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap()
}

fn said(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text} {errors}");
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text} {errors}"))
}
