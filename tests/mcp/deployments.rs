//! The tools for deployments. What deploying itself does is held elsewhere; here, that agents get it by name and without values.

use sealport::model::levels::Level;
use sealport::store::logs::NewLine;
use serde_json::json;

use crate::house::{CANARY, House};
use crate::world::{secret, text};

#[tokio::test]
async fn status_and_log_tell_what_the_page_does() {
    let house = House::new().await;
    let key = house.secret("SHOP_KEY", CANARY).await;
    let bindings = vec![secret("SHOP_KEY", key), text("MODE", "a plain text")];
    house.world.deployment(&house.ada, "shop", bindings).await;
    let task = house.world.claim(uuid::Uuid::now_v7()).await;
    let lines: Vec<NewLine> = (0..3)
        .map(|n| NewLine {
            stream: "stdout",
            line: format!("line {n} with [sealed]"),
        })
        .collect();
    house
        .world
        .db
        .log_append(task.deployment_id, 1, &lines)
        .await
        .unwrap();
    let (_, token) = house.token(Level::Read, None, false).await;

    let listed = house
        .call(&token, "list_deployments", json!({}))
        .await
        .structured;
    let shop = &listed["deployments"][0];
    assert_eq!(
        (&shop["name"], &shop["state"]),
        (&json!("shop"), &json!("deploying"))
    );
    assert_eq!(shop["mcpUrl"], format!("{}/s/shop/mcp", house.url));

    let status = house
        .call(&token, "deployment_status", json!({"name": "shop"}))
        .await;
    assert!(!status.text.contains(CANARY));
    let status = status.structured;
    assert_eq!(status["latest"]["number"], 1);
    assert_eq!(status["latest"]["steps"].as_array().unwrap().len(), 4);
    assert_eq!(
        status["bindings"][1],
        json!({"env": "SHOP_KEY", "secret": "SHOP_KEY"})
    );

    let log = house
        .call(
            &token,
            "deployment_logs",
            json!({"name": "shop", "limit": 2}),
        )
        .await
        .structured;
    assert_eq!(log["lines"].as_array().unwrap().len(), 2);
    assert_eq!(log["lines"][1]["line"], "line 2 with [sealed]");
    let next = json!({"name": "shop", "after": log["next"]});
    let rest = house.call(&token, "deployment_logs", next).await.structured;
    assert_eq!((&rest["lines"], &rest["next"]), (&json!([]), &log["next"]));
    let first = house
        .call(
            &token,
            "deployment_logs",
            json!({"name": "shop", "after": 0, "limit": 1}),
        )
        .await;
    assert_eq!(first.structured["lines"][0]["line"], "line 0 with [sealed]");

    for (tool, arguments, reason) in [
        ("deployment_status", json!({"name": "nothing"}), "missing"),
        ("deployment_logs", json!({"name": "nothing"}), "missing"),
        (
            "deployment_status",
            json!({"name": "Not A Name"}),
            "invalid",
        ),
        (
            "deployment_logs",
            json!({"name": "shop", "limit": 0}),
            "invalid",
        ),
        ("list_deployments", json!({"all": true}), "invalid"),
    ] {
        let called = house.call(&token, tool, arguments.clone()).await;
        assert_eq!(
            (called.failed, called.reason()),
            (true, reason),
            "{tool} {arguments}"
        );
    }
}

#[tokio::test]
async fn deploying_says_what_is_missing_expired_or_refused() {
    let house = House::new().await;
    let expired = house.secret("EXPIRED", CANARY).await;
    house.expire(expired).await;
    house.secret("project/shop/KEY", CANARY).await;
    let (_, token) = house.token(Level::Use, None, true).await;
    let (_, narrow) = house.token(Level::Use, Some("project/other"), true).await;
    let asked = |dry_run: bool| {
        json!({
            "name": "shop",
            "source": "npm:left-pad",
            "bindings": [
                {"env": "A", "secret": "NOT_THERE"},
                {"env": "B", "secret": "EXPIRED"},
                {"env": "C", "secret": "project/shop/KEY"},
                {"env": "PATH", "text": "x"},
            ],
            "dryRun": dry_run,
        })
    };
    let plan = house.call(&token, "deploy", asked(true)).await;
    assert!(!plan.failed, "a plan was asked for: {}", plan.text);
    assert!(!plan.text.contains(CANARY));
    let plan = plan.structured;
    assert_eq!(
        (&plan["begun"], &plan["ready"]),
        (&json!(false), &json!(false))
    );
    assert_eq!(plan["missing"][0]["secret"], "NOT_THERE");
    assert_eq!(plan["expired"][0]["secret"], "EXPIRED");
    let refused = plan["refused"].as_array().unwrap();
    assert_eq!(refused.len(), 1, "{plan}");
    assert!(
        refused[0]["detail"].as_str().unwrap().contains("PATH"),
        "{plan}"
    );

    let refused = house.call(&token, "deploy", asked(false)).await;
    assert!(refused.failed);
    assert_eq!(refused.structured["missing"], plan["missing"]);
    assert!(refused.structured["detail"].is_string());
    // What the token does not reach is not there for it.
    let narrow = house.call(&narrow, "deploy", asked(true)).await.structured;
    assert_eq!(narrow["missing"].as_array().unwrap().len(), 3, "{narrow}");
    assert_eq!(house.world.count("deployments").await, 0);
}
