//! From a request to a server that answers, and back to nothing.

use sealport::model::levels::Level;
use sealport::model::paths::DeploymentName;
use sealport::store::secrets::NewValue;
use serde_json::{Value, json};

use crate::house::{CANARY, House, SOURCE, Told, tool_call};

fn lines(told: &[Told]) -> Vec<i64> {
    told.iter()
        .filter(|told| told.event == "line")
        .map(|told| told.id.unwrap())
        .collect()
}

/// Where the secret runs, as a token is told it.
async fn runs(house: &House, token: &str) -> Value {
    let shown = house.call("GET", "/secrets/project/shop/KEY", token, Value::Null);
    house.ok(shown.await, 200)["runs"].clone()
}

#[tokio::test]
async fn an_agent_deploys_a_server_with_a_secret_that_it_cannot_read() {
    let house = House::new().await;
    let (db, ada) = (&house.world.db, &house.ada);
    house.world.secret(ada, "project/shop/KEY", CANARY).await;
    let token = house
        .token_under(ada, Level::Use, true, Some("project/shop"))
        .await;
    let found = house
        .tool(&token, "list_secrets", json!({"project": "shop"}))
        .await;
    let path = found["secrets"][0]["keyPath"].clone();
    assert_eq!(path, "project/shop/KEY");
    let told = house
        .tool(&token, "get_secret", json!({"keyPath": path}))
        .await;
    assert_eq!(told["revealed"], false);

    let asked = |dry_run: bool| json!({"name": "shop", "source": SOURCE, "dryRun": dry_run, "bindings": [{"env": told["envName"], "secret": path}]});
    let plan = house.tool(&token, "deploy", asked(true)).await;
    assert_eq!(plan["ready"], true, "{plan}");
    assert_eq!(house.world.count("deployments").await, 0);
    house.tool(&token, "deploy", asked(false)).await;
    house.until("shop", &token, "running").await;
    let status = house
        .tool(&token, "deployment_status", json!({"name": "shop"}))
        .await;
    assert_eq!(status["state"], "running", "{status}");

    // The server has the value: it stands in its environment, masked on its way out.
    let name = DeploymentName::parse("shop").unwrap();
    let client = db.gateway_token_create(ada, &name, "client", None);
    let client = client.await.unwrap().token;
    let call = tool_call("get-env", json!({}));
    let (status, said) = house.mcp("shop", &client, &call).await;
    assert!(status.is_success(), "{status} {said}");
    assert!(said.contains("[sealed]"), "{said}");
    assert!(!said.contains(&CANARY[..12]), "{said}");
    house.close().await;
}

#[tokio::test]
async fn a_program_deploys_follows_changes_and_destroys_a_server() {
    let house = House::new().await;
    let (db, ada) = (&house.world.db, &house.ada);
    let secret = house.world.secret(ada, "project/shop/KEY", CANARY).await;
    // `use` alone: it binds what it cannot read.
    let token = house.token(ada, Level::Use, true).await;
    let reading = house.call("GET", "/values/project/shop/KEY", &token, Value::Null);
    assert_eq!(reading.await.status.as_u16(), 403);

    let answer = house
        .call(
            "POST",
            "/deployments",
            &token,
            json!({"name": "shop", "source": SOURCE, "bindings": [
                {"env": "SHOP_KEY", "secret": "project/shop/KEY"}, {"env": "MODE", "text": "loud"}]}),
        )
        .await;
    assert_eq!(answer.location, "/api/v1/deployments/shop/releases/1");
    let release = house.ok(answer, 202);
    assert_eq!(release["number"], 1);
    assert_eq!(release["created_by"], "ada, by the token ci");

    // Followed to its end, and taken up again after the first lines.
    let path = "/deployments/shop/logs?release=1";
    let first = house
        .follow(path, &token, None, |told| told.event == "line")
        .await;
    let seen = lines(&first);
    let rest = house
        .follow(path, &token, seen.last().copied(), |told| {
            told.event == "end"
        })
        .await;
    let more = lines(&rest);
    assert!(!more.is_empty() && more.is_sorted());
    assert!(more[0] > *seen.last().unwrap(), "a line was told twice");
    let end = &rest.last().unwrap().data;
    assert_eq!(end["why"], "released", "{end}");
    assert_eq!(end["release"]["state"], "live", "{end}");
    for step in ["fetch", "install", "start", "handshake"] {
        assert!(
            rest.iter().any(|told| told.event == "step"
                && told.data["name"] == step
                && told.data["state"] == "done"),
            "{step}: {rest:#?}"
        );
    }
    // All of it at once, without following.
    let all = house
        .follow(
            "/deployments/shop/logs?follow=false&tail=1000",
            &token,
            None,
            |told| told.event == "end",
        )
        .await;
    assert_eq!(all.last().unwrap().data["why"], "all-told");
    assert_eq!(lines(&all), [seen, more].concat());

    let shown = house.call("GET", "/deployments/shop/releases/1", &token, Value::Null);
    let shown = house.ok(shown.await, 200);
    assert_eq!(shown["state"], "live");
    assert_eq!(
        shown["versions"],
        json!([{"env": "SHOP_KEY", "version": 1}])
    );

    // The gateway answers, and what the server prints of its environment is masked.
    let name = DeploymentName::parse("shop").unwrap();
    let client = db.gateway_token_create(ada, &name, "client", None);
    let client = client.await.unwrap().token;
    let call = tool_call("get-env", json!({}));
    let (status, said) = house.mcp("shop", &client, &call).await;
    assert!(status.is_success(), "{status} {said}");
    assert!(said.contains("SHOP_KEY") && said.contains("loud"), "{said}");
    assert!(!said.contains(&CANARY[..12]), "{said}");
    // A token of the API opens no gateway, and one of a gateway not the API.
    assert_eq!(house.mcp("shop", &token, &call).await.0.as_u16(), 401);
    let wrong = house.call("GET", "/deployments", &client, Value::Null);
    assert_eq!(wrong.await.status.as_u16(), 401);

    // Stopped and started again.
    let stopped = house.call("POST", "/deployments/shop/stop", &token, Value::Null);
    house.ok(stopped.await, 202);
    house.until("shop", &token, "stopped").await;
    assert_eq!(house.mcp("shop", &client, &call).await.0.as_u16(), 503);
    let started = house.call("POST", "/deployments/shop/start", &token, Value::Null);
    let started = started.await;
    assert_eq!(started.location, "/api/v1/deployments/shop/releases/2");
    house.ok(started, 202);
    house.until("shop", &token, "running").await;
    let again = house.call("POST", "/deployments/shop/start", &token, Value::Null);
    assert_eq!(house.ok(again.await, 202)["number"], 2, "it runs already");

    // A newer value arrives with a redeploy.
    let newer = NewValue::Typed(format!("{CANARY}-2").into());
    db.secret_replace(ada, secret, 1, newer).await.unwrap();
    let run = |version: i32, is_older: bool| json!([{"deployment": "shop", "target": "local", "state": "running", "running_version": version, "is_older": is_older}]);
    assert_eq!(runs(&house, &token).await, run(1, true));
    let shown = house.call("GET", "/deployments/shop", &token, Value::Null);
    let shown = house.ok(shown.await, 200);
    assert_eq!(shown["bindings"][1]["is_older"], true, "{shown}");
    let redeployed = house.call("POST", "/deployments/shop/releases", &token, Value::Null);
    let redeployed = redeployed.await;
    assert_eq!(redeployed.location, "/api/v1/deployments/shop/releases/3");
    house.ok(redeployed, 202);
    let path = "/deployments/shop/logs?release=3";
    house
        .follow(path, &token, None, |told| told.event == "end")
        .await;
    let shown = house.call("GET", "/deployments/shop/releases/3", &token, Value::Null);
    assert_eq!(
        house.ok(shown.await, 200)["versions"],
        json!([{"env": "SHOP_KEY", "version": 2}])
    );
    assert_eq!(runs(&house, &token).await, run(2, false));
    // Who may call it alone, or reaches the secret's folder alone, is not told of it.
    let caller = house.token(ada, Level::Use, false).await;
    let elsewhere = house
        .token_under(ada, Level::Admin, false, Some("project/shop"))
        .await;
    for blind in [&caller, &elsewhere] {
        assert_eq!(runs(&house, blind).await, json!([]));
    }
    let list = house.call("GET", "/secrets", &token, Value::Null);
    let list = house.ok(list.await, 200);
    assert_eq!(list["items"][0]["path"], "project/shop/KEY");
    assert!(list["items"][0].get("runs").is_none(), "{list}");

    // Other bindings: a release of its own.
    let patch = json!({"bindings": [{"env": "SHOP_KEY", "secret": "project/shop/KEY"}, {"env": "TONE", "text": "soft"}]});
    let planned = house.call(
        "PATCH",
        "/deployments/shop?dry_run=true",
        &token,
        patch.clone(),
    );
    let planned = house.ok(planned.await, 200);
    assert_eq!(planned["bound"], json!(["SHOP_KEY", "TONE"]));
    let patched = house
        .call("PATCH", "/deployments/shop", &token, patch)
        .await;
    assert_eq!(patched.location, "/api/v1/deployments/shop/releases/4");
    house.ok(patched, 202);
    let path = "/deployments/shop/logs?release=4";
    house
        .follow(path, &token, None, |told| told.event == "end")
        .await;
    let (_, said) = house.mcp("shop", &client, &call).await;
    assert!(said.contains("TONE") && !said.contains("loud"), "{said}");
    let patched = house.call(
        "PATCH",
        "/deployments/shop",
        &token,
        json!({"follows_changes": true}),
    );
    assert_eq!(house.ok(patched.await, 200)["follows_changes"], true);

    // Followed to the end of everything.
    let begun = tokio::sync::Notify::new();
    let following = house.follow("/deployments/shop/logs", &token, None, |told| {
        begun.notify_one();
        told.event == "end"
    });
    let destroying = async {
        begun.notified().await;
        let destroyed = house.call("DELETE", "/deployments/shop", &token, Value::Null);
        house.ok(destroyed.await, 204);
    };
    let (told, ()) = tokio::join!(following, destroying);
    assert_eq!(told.last().unwrap().data["why"], "gone");
    let gone = house.call("GET", "/deployments/shop", &token, Value::Null);
    assert_eq!(gone.await.status.as_u16(), 404);
    assert_eq!(house.mcp("shop", &client, &call).await.0.as_u16(), 401);
    let list = house.call("GET", "/deployments", &token, Value::Null);
    assert_eq!(house.ok(list.await, 200)["items"], json!([]));

    for action in ["create", "stop", "start", "redeploy", "destroy"] {
        let record = house.world.record(&format!("deployment.{action}")).await;
        assert_eq!(
            record,
            [("token".to_owned(), "done".to_owned(), String::new())],
            "{action}"
        );
    }
    let changed = house.world.record("deployment.change").await;
    let reasons: Vec<&str> = changed.iter().map(|(_, _, why)| why.as_str()).collect();
    assert_eq!(reasons, ["other bindings", "follows changes"]);
    assert!(!house.world.dump().await.contains(&CANARY[..12]));
    house.close().await;
}

#[tokio::test]
async fn a_list_has_pages() {
    let house = House::new().await;
    for name in ["a", "a-b", "ab", "b"] {
        house.world.deployment(&house.ada, name, vec![]).await;
    }
    house.world.deployment(&house.bob, "aa", vec![]).await;
    let token = house.token(&house.ada, Level::Read, false).await;
    let mut names = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/deployments?limit=3{cursor}");
        let page = house.call("GET", &path, &token, Value::Null).await;
        let page = house.ok(page, 200);
        let items = page["items"].as_array().unwrap();
        names.extend(
            items
                .iter()
                .map(|item| item["name"].as_str().unwrap().to_owned()),
        );
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(names, ["a", "a-b", "ab", "b"]);
    for wrong in ["limit=0", "cursor=x", "page=2"] {
        let answer = house
            .call("GET", &format!("/deployments?{wrong}"), &token, Value::Null)
            .await;
        assert!(answer.status.is_client_error(), "{wrong}: {}", answer.text);
    }
    house.close().await;
}
