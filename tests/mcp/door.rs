//! Who comes in, and what is no call.

use sealport::model::levels::Level;
use serde_json::{Value, json};

use crate::house::{Answer, CANARY, House};

fn list() -> Value {
    json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}})
}

fn modern(method: &str, mut params: Value) -> Value {
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "a test", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params})
}

#[tokio::test]
async fn a_token_is_asked_for_at_every_request() {
    let house = House::new().await;
    let (id, token) = house.token(Level::Read, None, false).await;
    assert_eq!(house.post(&token, &list()).await.status, 200);

    let ben = house.world.user("ben").await;
    let deployment = house.world.deployment(&house.ada, "shop", Vec::new()).await;
    let gateways = house
        .world
        .db
        .gateway_token_create(&house.ada, &deployment, "x", None);
    let gateways = gateways.await.unwrap().token;
    let (_, ended) = house.token_of(&ben, Level::Admin, None, true).await;
    house
        .world
        .sql(
            "set sealport.job = 'operator'; set session_replication_role = replica;
              update users set ended_at = now() where email = 'ben@example.org';
              update owners set ended_at = now() where handle = 'ben'",
        )
        .await;
    let (expired_id, expired) = house.token(Level::Admin, None, true).await;
    house
        .world
        .sql(&format!("set session_replication_role = replica; update tokens set expires_at = now() - interval '1 second' where id = '{expired_id}'"))
        .await;
    let (revoked_id, revoked) = house.token(Level::Admin, None, true).await;
    house
        .world
        .db
        .token_revoke(&house.ada, revoked_id)
        .await
        .unwrap();
    for (what, shown) in [
        ("nothing", ""),
        ("no token", "sp_nothing"),
        ("a gateway's", gateways.as_str()),
        ("an ended account's", &ended),
        ("an expired one", &expired),
        ("a revoked one", &revoked),
    ] {
        let answer = house.post(shown, &list()).await;
        assert_eq!(answer.status, 401, "{what}");
        let challenge = answer.headers["www-authenticate"].to_str().unwrap();
        assert!(challenge.starts_with("Bearer"), "{what}: {challenge}");
        assert!(
            !challenge.contains("resource_metadata"),
            "there is no authorisation server"
        );
        assert!(answer.json()["error"]["message"].is_string(), "{what}");
    }

    house.world.db.token_revoke(&house.ada, id).await.unwrap();
    assert_eq!(
        house.post(&token, &list()).await.status,
        401,
        "from the next request on"
    );
    let turned_away = house.world.record("api.connect").await;
    let why: Vec<&str> = turned_away
        .iter()
        .map(|(_, _, reason)| reason.as_str())
        .collect();
    for reason in [
        "no token",
        "malformed token",
        "revoked token",
        "expired token",
        "ended account",
    ] {
        assert!(why.contains(&reason), "{reason} is on record: {why:?}");
    }
}

#[tokio::test]
async fn cookies_and_other_sites_open_nothing() {
    let house = House::new().await;
    let (_, token) = house.token(Level::Read, None, false).await;
    let cookie = [("cookie", "sealport=0123456789abcdef")];
    assert_eq!(house.post_with("", &list(), &cookie).await.status, 401);
    let origin = |origin: &'static str| [("origin", origin)];
    for foreign in ["https://evil.example", "null", "http://127.0.0.1:1"] {
        let answer = house.post_with(&token, &list(), &origin(foreign)).await;
        assert_eq!(answer.status, 403, "{foreign}");
    }
    let own = [("origin", house.url.as_str())];
    assert_eq!(house.post_with(&token, &list(), &own).await.status, 200);
    let rebound = [("host", "evil.example")];
    let answer = house.post_with(&token, &list(), &rebound).await;
    assert_eq!(answer.status, 421);
    // Nothing is set that a browser would keep.
    let answer = house.post_with(&token, &list(), &cookie).await;
    assert!(!answer.headers.contains_key("set-cookie"));
}

#[tokio::test]
async fn only_messages_are_taken_and_only_so_long() {
    let house = House::new().await;
    let (_, token) = house.token(Level::Admin, None, true).await;
    for method in ["GET", "DELETE", "PUT"] {
        let request = house
            .http
            .request(method.parse().unwrap(), format!("{}/mcp", house.url))
            .header("accept", "text/event-stream");
        let nobody = request.try_clone().unwrap().send().await.unwrap();
        assert_eq!(nobody.status(), 401, "{method}");
        let answer = request.bearer_auth(&token).send().await.unwrap();
        assert_eq!(answer.status(), 405, "{method}");
        assert_eq!(answer.headers()["allow"], "POST");
    }
    let raw = async |kind: &'static str, accept: &'static str, body: String| {
        let request = house
            .http
            .post(format!("{}/mcp", house.url))
            .bearer_auth(&token);
        let request = request
            .header("content-type", kind)
            .header("accept", accept);
        Answer::of(request.body(body).send().await.unwrap()).await
    };
    let json_kind = "application/json; charset=utf-8";
    for (kind, accept, body, status) in [
        ("text/plain", "*/*", list().to_string(), 415),
        (json_kind, "text/html", list().to_string(), 406),
        (json_kind, "*/*", list().to_string(), 200),
        (json_kind, "*/*", "{".to_owned(), 400),
        (json_kind, "*/*", format!("[{}]", list()), 400),
        (
            json_kind,
            "*/*",
            format!("\"{}\"", "x".repeat(600 * 1024)),
            413,
        ),
        // Deeper than anything is read.
        (json_kind, "*/*", "[".repeat(200_000), 400),
    ] {
        let answer = raw(kind, accept, body.clone()).await;
        let begins: String = body.chars().take(60).collect();
        assert_eq!(
            answer.status, status,
            "{kind} {accept} {begins}: {}",
            answer.text
        );
    }
    let told = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    let answer = house.post(&token, &told).await;
    assert_eq!((answer.status.as_u16(), answer.text.as_str()), (202, ""));
}

#[tokio::test]
async fn both_eras_are_spoken_without_sessions() {
    let house = House::new().await;
    let (_, token) = house.token(Level::Use, None, false).await;
    for (asked, settled) in [
        ("2025-11-25", "2025-11-25"),
        ("2025-03-26", "2025-03-26"),
        ("1999-01-01", "2025-11-25"),
    ] {
        let hello = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
            "protocolVersion": asked, "capabilities": {}, "clientInfo": {"name": "a test", "version": "1"}}});
        let answer = house.post(&token, &hello).await;
        let result = &answer.json()["result"];
        assert_eq!(result["protocolVersion"], settled);
        assert_eq!(result["serverInfo"]["name"], "sealport");
        assert!(
            result["instructions"]
                .as_str()
                .unwrap()
                .contains("list_secrets names")
        );
        assert!(
            !answer.headers.contains_key("mcp-session-id"),
            "nothing is kept"
        );
    }
    let answer = house
        .post_with(&token, &list(), &[("mcp-protocol-version", "2025-11-25")])
        .await;
    let tools = answer.json()["result"]["tools"].clone();
    assert_eq!(tools.as_array().unwrap().len(), 8);
    let unknown = house
        .post_with(&token, &list(), &[("mcp-protocol-version", "2024-01-01")])
        .await;
    assert_eq!(unknown.status, 400);

    let headers = |method: &'static str| {
        [
            ("mcp-protocol-version", "2026-07-28"),
            ("mcp-method", method),
        ]
    };
    let discovered = house
        .post_with(
            &token,
            &modern("server/discover", json!({})),
            &headers("server/discover"),
        )
        .await;
    let result = &discovered.json()["result"];
    assert_eq!(result["supportedVersions"][0], "2026-07-28");
    assert_eq!(result["resultType"], "complete");
    assert_eq!(
        result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"],
        "sealport"
    );
    let listed = house
        .post_with(
            &token,
            &modern("tools/list", json!({})),
            &headers("tools/list"),
        )
        .await;
    assert_eq!(listed.json()["result"]["tools"], tools);
    assert_eq!(listed.json()["result"]["cacheScope"], "private");

    let call = modern(
        "tools/call",
        json!({"name": "get_secret", "arguments": {"keyPath": "NONE"}}),
    );
    let mut all = headers("tools/call").to_vec();
    let without_name = house.post_with(&token, &call, &all).await;
    assert_eq!(without_name.status, 400);
    assert_eq!(without_name.json()["error"]["code"], -32020);
    all.push(("mcp-name", "get_secret"));
    let called = house.post_with(&token, &call, &all).await;
    assert_eq!(
        called.json()["result"]["structuredContent"]["reason"],
        "missing"
    );
    assert_eq!(called.json()["result"]["resultType"], "complete");
    let mut future = modern("tools/list", json!({}));
    future["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!("2099-01-01");
    let asked = [
        ("mcp-protocol-version", "2099-01-01"),
        ("mcp-method", "tools/list"),
    ];
    let refused = house.post_with(&token, &future, &asked).await;
    assert_eq!(refused.status, 400);
    let supported = &refused.json()["error"]["data"]["supported"];
    assert_eq!(*supported, result["supportedVersions"]);
    let gone = house
        .post_with(&token, &modern("ping", json!({})), &headers("ping"))
        .await;
    assert_eq!(
        (gone.status.as_u16(), gone.json()["error"]["code"].as_i64()),
        (404, Some(-32601))
    );
}

#[tokio::test]
async fn a_token_has_one_quota_at_all_doors_of_programs() {
    let house = House::with_quota(3).await;
    let (_, token) = house.token(Level::Read, None, false).await;
    for _ in 0..2 {
        assert_eq!(house.post(&token, &list()).await.status, 200);
    }
    let rest = house
        .http
        .get(format!("{}/api/v1/secrets", house.url))
        .bearer_auth(&token);
    assert_eq!(rest.send().await.unwrap().status(), 200);
    let metrics = house
        .http
        .get(format!("{}/metrics", house.url))
        .bearer_auth(&token);
    assert_eq!(metrics.send().await.unwrap().status(), 429);
    let answer = house.post(&token, &list()).await;
    assert_eq!(answer.status, 429);
    assert_eq!(answer.headers["ratelimit-policy"], "\"token\";q=3;w=60");
    assert!(
        answer.headers["retry-after"]
            .to_str()
            .unwrap()
            .parse::<u64>()
            .unwrap()
            > 0
    );
    let (_, other) = house.token(Level::Read, None, false).await;
    assert_eq!(house.post(&other, &list()).await.status, 200);
}

#[tokio::test]
async fn errors_quote_nothing_that_was_sent() {
    let house = House::new().await;
    let (_, token) = house.token(Level::Admin, None, true).await;
    let call = |tool: &str, arguments: Value| json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": arguments}});
    let long = CANARY.repeat(4_000);
    for message in [
        call("set_secret", json!({"keyPath": CANARY, "value": CANARY})),
        call("set_secret", json!({"keyPath": "A", "value": [CANARY]})),
        call(
            "set_secret",
            json!({"keyPath": "A", "value": CANARY, "generate": true}),
        ),
        call("set_secret", json!({"keyPath": "A", "generate": CANARY})),
        call(
            "set_secret",
            json!({"keyPath": "A", "generate": {"bytes": CANARY}}),
        ),
        call(
            "set_secret",
            json!({"keyPath": "A", "value": CANARY, "expiresAt": CANARY}),
        ),
        call(
            "set_secret",
            json!({"keyPath": "A", "value": CANARY, "expiresAt": "2001-01-01T00:00:00Z"}),
        ),
        call(
            "set_secret",
            json!({"keyPath": "A", "value": format!("{CANARY}\0")}),
        ),
        call("set_secret", json!({"keyPath": "A", "value": long})),
        call(
            "set_secret",
            json!({"keyPath": "A", "value": CANARY, CANARY: 1}),
        ),
        call("set_secret", json!({CANARY: "A"})),
        call("set_secret", json!(CANARY)),
        call(
            "deploy",
            json!({"name": CANARY, "source": CANARY, "bindings": [{"env": CANARY, "text": CANARY}], "dryRun": true}),
        ),
        call(CANARY, json!({})),
        json!({"jsonrpc": "2.0", "id": 1, "method": CANARY, "params": {"value": CANARY}}),
        json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": [CANARY]}),
    ] {
        let answer = house.post(&token, &message).await;
        let said: String = answer.text.chars().take(500).collect();
        let refused = answer.json()["error"].is_object()
            || answer.json()["result"]["structuredContent"]["reason"].is_string();
        assert!(refused, "{said}");
        assert!(!answer.text.contains(&CANARY[..8]), "{said}");
    }
    assert_eq!(house.world.count("secrets").await, 0);
}
