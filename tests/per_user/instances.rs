//! One instance for each caller: alone, fresh after a change, gone when it is not used, and within limits.

use std::time::Duration;

use sealport::deploy::CallersLimits;
use sealport::model::connections::SlotState;
use sealport::model::deployments::DeploymentState;
use sealport::model::levels::Level;
use sealport::model::paths::EnvName;
use sealport::model::sources::Source;
use sealport::store::deployment_changes::DeploymentChange;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::house::{Client, House};

const KEY: &str = "SHOP_KEY";

fn digest(value: &str) -> String {
    hex::encode(Sha256::digest(value))
}

async fn begun(mut client: Client) -> Client {
    let begun = client.begin(json!({})).await;
    assert_eq!(
        begun.message["result"]["serverInfo"]["name"], "own",
        "{begun:?}"
    );
    client
}

#[tokio::test]
async fn each_caller_has_an_instance_alone() {
    let house = House::new(CallersLimits::default()).await;
    let name = house.deploy_own("own").await;
    let bob = house.world.user("bob").await;
    house.share(&name, "bob", Level::Use).await;
    house
        .connect(&house.ada, &name, KEY, "adas-key-of-the-shop")
        .await;
    house
        .connect(&bob, &name, KEY, "bobs-key-of-the-shop")
        .await;
    let ada = begun(house.client(&house.ada, &name).await).await;
    let bobs = begun(house.client(&bob, &name).await).await;

    // Its own environment and process.
    assert_eq!(
        ada.call("key", json!({})).await.text(),
        digest("adas-key-of-the-shop")
    );
    assert_eq!(
        bobs.call("key", json!({})).await.text(),
        digest("bobs-key-of-the-shop")
    );
    let first = ada.call("instance", json!({})).await.text().to_owned();
    assert_ne!(first, bobs.call("instance", json!({})).await.text());
    // Another token of Ada's comes to the same.
    let again = begun(house.client(&house.ada, &name).await).await;
    assert_eq!(first, again.call("instance", json!({})).await.text());

    // Its own directory; and nobody changes what is installed for all.
    let note = json!({"path": "/data/note", "text": "Ada was here"});
    assert_eq!(ada.call("write", note).await.text(), "written");
    assert_eq!(
        ada.call("read", json!({"path": "/data/note"})).await.text(),
        "Ada was here"
    );
    assert_eq!(
        bobs.call("read", json!({"path": "/data/note"}))
            .await
            .text(),
        "ENOENT"
    );
    let poison = json!({"path": "/srv/server.mjs", "text": "process.exit(1)"});
    let refused = bobs.call("write", poison).await;
    assert!(["EROFS", "EACCES"].contains(&refused.text()), "{refused:?}");

    // One's crash does not touch the other.
    let before = bobs.call("instance", json!({})).await.text().to_owned();
    let crash = ada.call("crash", json!({})).await;
    assert!(crash.message.get("result").is_none(), "{crash:?}");
    assert_eq!(before, bobs.call("instance", json!({})).await.text());
    let next = until_up(&house, &name).await;
    assert_ne!(first, next.call("instance", json!({})).await.text());
    // What it wrote is still its own.
    assert_eq!(
        next.call("read", json!({"path": "/data/note"}))
            .await
            .text(),
        "Ada was here"
    );

    // One's log is one's own.
    let db = &house.world.db;
    let log = |lines: Vec<sealport::model::deployments::LogLine>| {
        let lines = lines.into_iter().map(|line| line.line);
        lines.collect::<Vec<_>>().join("\n")
    };
    let of_bob = log(db.own_log_read(&bob, &name, 100).await.unwrap());
    assert!(
        of_bob.contains(&before) && !of_bob.contains(&first),
        "{of_bob}"
    );
    let of_all = log(db.log_read(&house.ada, &name, None, 500).await.unwrap());
    assert!(!of_all.contains("instance "), "{of_all}");
    house.end().await;
}

/// A session of Ada's once her instance may be started again.
async fn until_up(house: &House, name: &sealport::model::paths::DeploymentName) -> Client {
    let mut client = house.client(&house.ada, name).await;
    let looking = async {
        while client.begin(json!({})).await.status != 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), looking)
        .await
        .unwrap();
    client
}

#[tokio::test]
async fn a_change_starts_a_fresh_instance_and_drains_the_old() {
    let house = House::new(CallersLimits::default()).await;
    let name = house.deploy_own("own").await;
    house
        .connect(&house.ada, &name, KEY, "the-first-of-two-keys")
        .await;
    let client = begun(house.client(&house.ada, &name).await).await;
    let first = client.call("instance", json!({})).await.text().to_owned();
    // A call that is under way is answered by the instance that it came to.
    let slow = tokio::spawn({
        let client = client.clone();
        async move {
            client
                .call("wait", json!({"ms": 1_500}))
                .await
                .text()
                .to_owned()
        }
    });
    until_in_use(&client).await;
    house
        .connect(&house.ada, &name, KEY, "the-second-of-two-keys")
        .await;
    let stale = client.call("key", json!({})).await;
    assert_eq!(
        stale.status, 404,
        "a session of the old instance: {stale:?}"
    );
    let fresh = begun(house.client(&house.ada, &name).await).await;
    assert_eq!(
        fresh.call("key", json!({})).await.text(),
        digest("the-second-of-two-keys")
    );
    assert_eq!(slow.await.unwrap(), first);

    // A release is a change too.
    let second = fresh.call("instance", json!({})).await.text().to_owned();
    let db = &house.world.db;
    db.deployment_redeploy(&house.ada, &name).await.unwrap();
    house.deployer.wake();
    let looking = async {
        while house.show(&name).await.releases[0].state.as_str() != "live" {
            let _ =
                tokio::time::timeout(Duration::from_millis(100), house.deployer.changed()).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), looking)
        .await
        .unwrap();
    let third = until_up(&house, &name).await;
    assert_ne!(second, third.call("instance", json!({})).await.text());
    house.end().await;
}

/// Until the server has been asked to wait.
async fn until_in_use(client: &Client) {
    let looking = async {
        let waiting = json!({"path": "/data/waiting"});
        while client.call("read", waiting.clone()).await.text() == "ENOENT" {}
    };
    tokio::time::timeout(Duration::from_secs(30), looking)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_caller_without_keys_is_led_to_the_page() {
    let house = House::new(CallersLimits::default()).await;
    let name = house.deploy_own("own").await;
    let link = format!("{}/connect/own", house.url);
    let mut client = house.client(&house.ada, &name).await;
    // One that cannot open pages: an error that carries the link, and a tool that says it.
    assert_eq!(client.begin(json!({})).await.status, 200);
    let refused = client.call("key", json!({})).await;
    let says = refused.message["error"]["message"].as_str().unwrap();
    assert!(says.contains(&link) && says.contains(KEY), "{says}");
    let tools = client.ask("tools/list", json!({})).await;
    assert_eq!(tools.message["result"]["tools"][0]["name"], "connect_keys");
    // One that can.
    client.begin(json!({"elicitation": {"url": {}}})).await;
    let asked = client.call("key", json!({})).await;
    assert_eq!(asked.message["error"]["code"], -32042);
    let elicitation = &asked.message["error"]["data"]["elicitations"][0];
    assert_eq!(elicitation["mode"], "url");
    assert_eq!(elicitation["url"], link);
    // Connected, the session of before is unknown, and a new one is the server's.
    house
        .connect(&house.ada, &name, KEY, "a-key-of-the-shop")
        .await;
    assert_eq!(client.call("key", json!({})).await.status, 404);
    let client = begun(client).await;
    assert_eq!(
        client.call("key", json!({})).await.text(),
        digest("a-key-of-the-shop")
    );
    // Taken away, the way to the page is all that is left.
    let db = &house.world.db;
    let env = EnvName::parse(KEY).unwrap();
    db.connection_end(&house.ada, &name, &env).await.unwrap();
    let refused = client.call("key", json!({})).await;
    let says = refused.message["error"]["message"].as_str().unwrap();
    assert!(says.contains(&link), "{says}");
    let page = db.connect_page(&house.ada, &name).await.unwrap();
    assert_eq!(page.slots[0].state, SlotState::Missing);
    house.end().await;
}

#[tokio::test]
async fn what_is_not_used_stops_and_starts_again() {
    let limits = CallersLimits {
        idle: Duration::from_millis(500),
        ..CallersLimits::default()
    };
    let house = House::new(limits).await;
    let name = house.deploy_own("own").await;
    house
        .connect(&house.ada, &name, KEY, "a-key-of-the-shop")
        .await;
    let client = begun(house.client(&house.ada, &name).await).await;
    // Longer than it may be idle: an open call counts.
    let first = client.call("instance", json!({})).await.text().to_owned();
    let held = client.call("wait", json!({"ms": 1_500})).await;
    assert_eq!(held.text(), first);
    until_stopped(&house).await;
    let again = until_up(&house, &name).await;
    assert_ne!(again.call("instance", json!({})).await.text(), first);
    assert_eq!(
        house.show(&name).await.summary.state,
        DeploymentState::Running
    );
    house.end().await;
}

async fn until_stopped(house: &House) {
    let stopped = async {
        while house.deployer.callers_instances() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), stopped)
        .await
        .expect("an instance that nobody uses goes on");
}

#[tokio::test]
async fn a_caller_who_hangs_up_while_it_starts_pins_nothing() {
    let limits = CallersLimits {
        idle: Duration::from_millis(500),
        ..CallersLimits::default()
    };
    let house = House::new(limits).await;
    let name = house.deploy_own("own").await;
    house
        .connect(&house.ada, &name, KEY, "a-key-of-the-shop")
        .await;
    let mut client = house.client(&house.ada, &name).await;
    let is_there = async {
        while house.deployer.callers_instances() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        answer = client.begin(json!({})) => panic!("it started before anybody could hang up: {answer:?}"),
        there = tokio::time::timeout(Duration::from_secs(30), is_there) => there.expect("nothing is started"),
    }
    until_stopped(&house).await;
    house.end().await;
}

/// What callers agree to is what the deployment is now. Until its release is live, an older install stands here, and gets no key.
#[tokio::test]
async fn code_that_was_not_agreed_to_gets_no_key() {
    let house = House::new(CallersLimits::default()).await;
    let name = house.deploy_own("own").await;
    house
        .connect(&house.ada, &name, KEY, "a-key-of-the-shop")
        .await;
    let client = begun(house.client(&house.ada, &name).await).await;
    let elsewhere = house.place.path().join("sources/not-there");
    let source = Source::parse(&format!("dir:{}", elsewhere.display())).unwrap();
    let start = house.show(&name).await.start;
    let change = DeploymentChange {
        source: Some((source, start)),
        ..DeploymentChange::default()
    };
    let db = &house.world.db;
    db.deployment_change(&house.ada, &name, &change)
        .await
        .unwrap();
    house.deployer.wake();
    // Before it was agreed to anew, nothing is used.
    let refused = client.call("key", json!({})).await;
    assert!(refused.message.get("error").is_some(), "{refused:?}");
    let looking = async {
        while house.show(&name).await.releases[0].state.as_str() != "failed" {
            let _ =
                tokio::time::timeout(Duration::from_millis(100), house.deployer.changed()).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), looking)
        .await
        .unwrap();
    let env = EnvName::parse(KEY).unwrap();
    db.connection_put(&house.ada, &name, &env, None, None)
        .await
        .unwrap();
    let mut client = house.client(&house.ada, &name).await;
    let refused = client.begin(json!({})).await;
    assert_eq!(refused.status, 503, "{refused:?}");
    let says = refused.message["error"]["message"].as_str().unwrap();
    assert!(says.contains("not live yet"), "{says}");
    house.end().await;
}

#[tokio::test]
async fn limits_say_so_and_hold_nobody_else_up() {
    let limits = CallersLimits {
        of_user: 1,
        of_deployment: 1,
        ..CallersLimits::default()
    };
    let house = House::new(limits).await;
    let (one, other) = (
        house.deploy_own("one").await,
        house.deploy_own("other").await,
    );
    for name in [&one, &other] {
        house
            .connect(&house.ada, name, KEY, "a-key-of-the-shop")
            .await;
    }
    let first = begun(house.client(&house.ada, &one).await).await;
    let busy = tokio::spawn({
        let first = first.clone();
        async move { first.call("wait", json!({"ms": 2_000})).await.status }
    });
    until_in_use(&first).await;
    let mut second = house.client(&house.ada, &other).await;
    let refused = second.begin(json!({})).await;
    assert_eq!(refused.status, 503, "{refused:?}");
    let says = refused.message["error"]["message"].as_str().unwrap();
    assert!(says.contains("You have 1 instances in use"), "{says}");
    assert_eq!(busy.await.unwrap(), 200);
    // What is not used gives way.
    assert_eq!(second.begin(json!({})).await.status, 200);

    let bob = house.world.user("bob").await;
    house.share(&other, "bob", Level::Use).await;
    house
        .connect(&bob, &other, KEY, "bobs-key-of-the-shop")
        .await;
    let busy = tokio::spawn({
        let second = second.clone();
        async move { second.call("wait", json!({"ms": 2_000})).await.status }
    });
    until_in_use(&second).await;
    let mut bobs = house.client(&bob, &other).await;
    let refused = bobs.begin(json!({})).await;
    let says = refused.message["error"]["message"].as_str().unwrap();
    assert!(
        says.contains("This server has 1 instances in use"),
        "{says}"
    );
    busy.await.unwrap();
    assert_eq!(bobs.begin(json!({})).await.status, 200);
    house.end().await;
}
