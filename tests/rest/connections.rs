//! Callers' own keys by program: connected, replaced, taken away, and never told again.

use sealport::model::actors::Caller;
use sealport::model::grants::Shareable;
use sealport::model::levels::Level;
use sealport::model::paths::{DeploymentName, Handle};
use sealport::store::api_tokens::ApiTokenSpec;
use sealport::store::deployment_changes::DeploymentChange;
use serde_json::{Value, json};

use crate::house::{Answer, CANARY, House, SOURCE};
use crate::world::{brought, text};

const DESK: &str = "/connections/desk";
const KEY: &str = "/connections/desk/DESK_KEY";
const KEPT: &str = "service/desk/DESK_KEY";

/// Ada's server, whose callers bring `DESK_KEY`; bob may call it.
async fn desk(house: &House) -> DeploymentName {
    let bindings = vec![brought("DESK_KEY"), text("MODE", "fast")];
    let name = house.world.deployment(&house.ada, "desk", bindings).await;
    let on = Shareable::Deployment { name: name.clone() };
    let shared = house
        .world
        .db
        .share(&house.ada, &on, "bob", Level::Use, &[]);
    shared.await.unwrap();
    name
}

#[track_caller]
fn refused(answer: &Answer, status: u16, field: Option<&str>) -> String {
    assert_eq!(answer.status.as_u16(), status, "{}", answer.text);
    let problem = answer.json();
    assert_eq!(problem["field"].as_str(), field, "{problem}");
    problem["detail"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_key_is_connected_replaced_and_taken_away_by_program() {
    let house = House::new().await;
    let name = desk(&house).await;
    let token = house.token(&house.bob, Level::Admin, false).await;
    let call =
        async |method: &str, path: &str, body: Value| house.call(method, path, &token, body).await;
    let page = house.ok(call("GET", DESK, Value::Null).await, 200);
    assert_eq!(
        page,
        json!({
            "deployment": "desk", "owner": "ada", "source": "npm:firecrawl-mcp@1.2.3", "target": "local",
            "command": "node_modules/.bin/firecrawl-mcp", "network": true, "refused_at": null,
            "state": page["state"], "terms": page["terms"], "connected": false, "changes": [],
            "slots": [{"env": "DESK_KEY", "description": "The DESK_KEY of whoever calls", "path": KEPT,
                "state": "missing", "expires_at": null}],
            "url": format!("{}connect/desk", house.at),
        })
    );
    // Nothing is kept yet.
    let says = refused(&call("PUT", KEY, json!({})).await, 422, Some("value"));
    assert!(says.contains("DESK_KEY"), "{says}");

    let slot = house.ok(
        call("PUT", KEY, json!({"value": CANARY, "terms": page["terms"]})).await,
        200,
    );
    assert_eq!(
        (&slot["env"], &slot["state"], &slot["path"]),
        (&json!("DESK_KEY"), &json!("connected"), &json!(KEPT))
    );
    let page = house.ok(call("GET", DESK, Value::Null).await, 200);
    assert_eq!(page["connected"], true);
    let secret = house.ok(
        call("GET", &format!("/secrets/{KEPT}"), Value::Null).await,
        200,
    );
    assert_eq!(
        (&secret["use_only"], &secret["version"], &secret["owner"]),
        (&json!(true), &json!(1), &json!("bob"))
    );
    house.ok(
        call("PUT", KEY, json!({"value": format!("{CANARY}-2")})).await,
        200,
    );
    let secret = house.ok(
        call("GET", &format!("/secrets/{KEPT}"), Value::Null).await,
        200,
    );
    assert_eq!(secret["version"], 2);

    // What the far service refused is told with the slot, and the answer to a call is not changed by it.
    let db = &house.world.db;
    let id = db.connect_page(&house.bob, &name).await.unwrap().id;
    let whose = (id, crate::world::id(&house.bob));
    let versions = db.callers_keys(&[whose]).await.unwrap().remove(0).versions;
    db.connections_refused(whose.0, whose.1, &versions.unwrap(), true)
        .await
        .unwrap();
    let page = house.ok(call("GET", DESK, Value::Null).await, 200);
    assert_eq!(
        (&page["slots"][0]["state"], &page["connected"]),
        (&json!("refused"), &json!(true))
    );
    assert!(page["refused_at"].is_string(), "{page}");
    let listed = house.ok(call("GET", "/deployments", Value::Null).await, 200);
    assert_eq!(listed["items"], json!([]), "a token for what is Bob's own");

    // The server is another: what was connected waits to be connected again, and so does whoever looked before.
    let change = DeploymentChange {
        bindings: Some(vec![brought("DESK_KEY"), text("MODE", "slow")]),
        ..DeploymentChange::default()
    };
    db.deployment_change(&house.ada, &name, &change)
        .await
        .unwrap();
    let now = house.ok(call("GET", DESK, Value::Null).await, 200);
    assert_eq!(now["slots"][0]["state"], "changed");
    assert_eq!(now["changes"].as_array().unwrap().len(), 1);
    assert!(now["terms"].as_i64() > page["terms"].as_i64());
    let late = json!({"terms": page["terms"]});
    refused(&call("PUT", KEY, late).await, 409, None);
    let slot = house.ok(call("PUT", KEY, json!({"terms": now["terms"]})).await, 200);
    assert_eq!(slot["state"], "connected");

    assert_eq!(call("DELETE", KEY, Value::Null).await.status.as_u16(), 204);
    refused(&call("DELETE", KEY, Value::Null).await, 404, None);
    let gone = call("GET", &format!("/secrets/{KEPT}"), Value::Null).await;
    assert_eq!(gone.status.as_u16(), 404);
    assert_eq!(house.world.count("connections").await, 0);
    house.close().await;
}

#[tokio::test]
async fn what_callers_bring_is_said_by_every_door() {
    let house = House::new().await;
    desk(&house).await;
    let token = house.token(&house.ada, Level::Admin, true).await;
    let shown = house.call("GET", "/deployments/desk", &token, Value::Null);
    let shown = house.ok(shown.await, 200);
    assert_eq!(shown["mode"], "per-user");
    let brought: Vec<(&str, bool)> = shown["bindings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            (
                one["env"].as_str().unwrap(),
                one["per_user"].as_bool().unwrap(),
            )
        })
        .collect();
    assert_eq!(brought, [("DESK_KEY", true), ("MODE", false)]);
    let status = house
        .tool(&token, "deployment_status", json!({"name": "desk"}))
        .await;
    assert_eq!(
        status["bindings"],
        json!([{"env": "DESK_KEY", "perUser": true}, {"env": "MODE"}])
    );
    let asked = json!({"name": "each", "source": SOURCE, "dryRun": true, "bindings": [{"env": "EACH", "perUser": true}]});
    let plan = house.tool(&token, "deploy", asked).await;
    assert_eq!(plan["ready"], true, "{plan}");
    // The two ways in which a mode can be said agree.
    for (mode, per_user, wrong) in [
        ("per-user", true, None),
        ("shared", true, Some("mode")),
        ("per-user", false, Some("mode")),
        ("shared", false, None),
        ("mine", true, Some("mode")),
    ] {
        let binding = match per_user {
            true => json!({"env": "EACH", "per_user": true}),
            false => json!({"env": "EACH", "text": "a text"}),
        };
        let body = json!({"name": "each", "source": SOURCE, "mode": mode, "bindings": [binding]});
        let plan = house.call("POST", "/deployments?dry_run=true", &token, body);
        let plan = house.ok(plan.await, 200);
        let refused = plan["refused"].as_array().unwrap();
        let fields: Vec<&str> = refused
            .iter()
            .map(|one| one["field"].as_str().unwrap())
            .collect();
        assert_eq!(fields, Vec::from_iter(wrong), "{mode} {per_user}");
    }
    house.close().await;
}

#[tokio::test]
async fn what_is_not_asked_for_or_not_in_sight_is_not_connected() {
    let house = House::new().await;
    desk(&house).await;
    let world = &house.world;
    world.deployment(&house.bob, "plain", vec![]).await;
    let hidden = world
        .deployment(&house.ada, "hidden", vec![brought("DESK_KEY")])
        .await;
    let token = house.token(&house.bob, Level::Admin, false).await;
    let body = json!({"value": CANARY});
    let put = async |path: &str| house.call("PUT", path, &token, body.clone()).await;
    // The owner's own, and one that is not there.
    for env in ["MODE", "NONE"] {
        let answer = put(&format!("{DESK}/{env}")).await;
        assert!(refused(&answer, 422, Some("env")).contains("DESK_KEY"));
    }
    for path in [
        "/connections/desk/PATH",
        "/connections/desk/no-name",
        "/connections/No/KEY",
    ] {
        refused(&put(path).await, 400, None);
    }
    refused(
        &put("/connections/plain/KEY").await,
        422,
        Some("deployment"),
    );
    for method in ["GET", "PUT", "DELETE"] {
        for name in [hidden.as_str(), "none"] {
            let path = match method {
                "GET" => format!("/connections/{name}"),
                _ => format!("/connections/{name}/DESK_KEY"),
            };
            let sent = if method == "PUT" {
                body.clone()
            } else {
                Value::Null
            };
            refused(&house.call(method, &path, &token, sent).await, 404, None);
        }
    }
    for wrong in [
        json!({"value": ""}),
        json!({"value": format!("{CANARY}\u{0}")}),
        json!({"value": 7}),
        json!({"secret": CANARY}),
        json!([]),
    ] {
        let answer = house.call("PUT", KEY, &token, wrong).await;
        assert_eq!(answer.status.as_u16(), 422, "{}", answer.text);
    }
    assert_eq!(world.count("connections").await, 0);
    assert_eq!(world.count("secrets").await, 0);
    house.close().await;
}

impl House {
    async fn team_token(&self, maker: &Caller, team: &str) -> String {
        let spec = ApiTokenSpec {
            owner: Some(Handle::parse(team).unwrap()),
            name: "crew".into(),
            ceiling: Level::Admin,
            under: None,
            deploys: true,
            expires_at: None,
        };
        let made = self.world.db.api_token_create(maker, &spec).await;
        made.unwrap().token
    }
}

#[tokio::test]
async fn a_token_connects_for_its_maker_alone_and_within_its_bounds() {
    let house = House::new().await;
    desk(&house).await;
    let (world, bob) = (&house.world, &house.bob);
    let handle = Handle::parse("crew").unwrap();
    world.db.team_create(bob, &handle).await.unwrap();
    let body = json!({"value": CANARY});
    let statuses = async |token: &str| {
        let mut statuses = Vec::new();
        for (method, path, body) in [
            ("GET", DESK, Value::Null),
            ("PUT", KEY, body.clone()),
            ("DELETE", KEY, Value::Null),
        ] {
            let answer = house.call(method, path, token, body).await;
            statuses.push(answer.status.as_u16());
        }
        statuses
    };
    let none = [404, 404, 404];
    let team = house.team_token(bob, "crew").await;
    assert_eq!(statuses(&team).await, [403, 403, 403]);
    let says = house.call("GET", DESK, &team, Value::Null).await;
    assert!(refused(&says, 403, None).contains("acts for yourself"));
    for level in [Level::Use, Level::Read] {
        let token = house.token(bob, level, true).await;
        assert_eq!(statuses(&token).await, none, "{level:?}");
    }
    for under in ["project/shop", "service/desktop", "service/other"] {
        let token = house
            .token_under(bob, Level::Admin, false, Some(under))
            .await;
        assert_eq!(statuses(&token).await, none, "{under}");
    }
    assert_eq!(world.count("connections").await, 0);
    assert_eq!(world.count("secrets").await, 0);

    // What `write` may do, and not what it may not: a deletion is one.
    let write = house.token(bob, Level::Write, false).await;
    assert_eq!(statuses(&write).await, [200, 200, 403]);
    assert_eq!(world.count("connections").await, 1);
    for under in ["service", "service/desk"] {
        let token = house
            .token_under(bob, Level::Admin, false, Some(under))
            .await;
        assert_eq!(statuses(&token).await, [200, 200, 204], "{under}");
    }
    // A token of a gateway is none of the API's.
    let name = DeploymentName::parse("desk").unwrap();
    let client = world.db.gateway_token_create(bob, &name, "client", None);
    let client = client.await.unwrap().token;
    assert_eq!(statuses(&client).await, [401, 401, 401]);
    house.close().await;
}

/// No door, no level, and no detour.
#[tokio::test]
async fn a_connected_value_is_shown_to_nobody() {
    let house = House::new().await;
    desk(&house).await;
    let admin = house.token(&house.bob, Level::Admin, true).await;
    // Readable while it is only kept.
    let path = format!("/values/{KEPT}");
    let stored = json!({"value": "only kept"});
    let kept = house
        .call("PUT", &format!("/secrets/{KEPT}"), &admin, stored)
        .await;
    house.ok(kept, 201);
    let read = house.call("GET", &path, &admin, Value::Null).await;
    assert_eq!(house.ok(read, 200)["value"], "only kept");
    house.ok(house.call("PUT", KEY, &admin, json!({})).await, 200);
    house.ok(
        house
            .call("PUT", KEY, &admin, json!({"value": CANARY}))
            .await,
        200,
    );
    let mut at = KEPT.to_owned();
    for step in ["connected", "rolled back", "replaced", "renamed", "changed"] {
        match step {
            "rolled back" => {
                let to = json!({"version": 1});
                let done = house
                    .call("POST", &format!("/rollback/{at}"), &admin, to)
                    .await;
                house.ok(done, 200);
            }
            "replaced" => {
                let value = json!({"value": CANARY});
                let done = house
                    .call("PUT", &format!("/secrets/{at}"), &admin, value)
                    .await;
                house.ok(done, 200);
            }
            "renamed" => {
                let to = json!({"path": "project/mine/KEY"});
                let done = house
                    .call("PATCH", &format!("/secrets/{at}"), &admin, to)
                    .await;
                house.ok(done, 200);
                at = "project/mine/KEY".into();
            }
            "changed" => {
                for body in [
                    json!({"active": false}),
                    json!({"active": true, "kind": "json"}),
                ] {
                    let done = house
                        .call("PATCH", &format!("/secrets/{at}"), &admin, body)
                        .await;
                    assert!(done.status.is_success() || done.status.as_u16() == 422);
                }
            }
            _ => {}
        }
        for level in [Level::Read, Level::Admin] {
            let token = house.token(&house.bob, level, true).await;
            for version in ["", "?version=1"] {
                let path = format!("/values/{at}{version}");
                let answer = house.call("GET", &path, &token, Value::Null).await;
                let says = refused(&answer, 403, None);
                assert!(says.contains("for use only"), "{step}: {says}");
            }
            let many = json!({"paths": [at]});
            let answer = house.call("POST", "/values", &token, many).await;
            assert!(
                refused(&answer, 403, None).contains("for use only"),
                "{step}"
            );
            let told = house
                .tool(&token, "get_secret", json!({"keyPath": at}))
                .await;
            assert_eq!(
                (&told["revealed"], &told["reason"]),
                (&json!(false), &json!("use_only")),
                "{step}: {told}"
            );
            assert!(told["detail"].as_str().unwrap().contains("for use only"));
        }
    }
    let refusals = house.world.record("secret.read").await;
    let refusals = refusals
        .iter()
        .filter(|(_, outcome, why)| outcome == "refused" && why == "the secret is for use only");
    assert!(refusals.count() >= 40);
    house.close().await;
}
