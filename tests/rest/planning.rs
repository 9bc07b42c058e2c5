//! What a dry run says, and that it leaves nothing behind.

use std::time::Duration;

use sealport::model::levels::Level;
use sealport::store::secrets::SecretEdit;
use serde_json::{Value, json};

use crate::house::{CANARY, House, SOURCE};

/// Everything that a deployment leaves.
const LEFT: [&str; 6] = [
    "deployments",
    "deployment_names",
    "bindings",
    "releases",
    "release_steps",
    "drafts",
];

async fn left(house: &House) -> i64 {
    let mut rows = 0;
    for table in LEFT {
        rows += house.world.count(table).await;
    }
    rows
}

fn fields(plan: &Value, how: &str) -> Vec<String> {
    let lacks = plan[how].as_array().unwrap();
    let field = |lack: &Value| {
        assert!(lack["detail"].as_str().unwrap().len() > 20, "{lack}");
        lack["field"].as_str().unwrap().to_owned()
    };
    lacks.iter().map(field).collect()
}

#[tokio::test]
async fn a_dry_run_says_all_that_is_in_the_way_and_leaves_nothing() {
    let house = House::new().await;
    let (db, ada) = (&house.world.db, &house.ada);
    house.world.secret(ada, "GOOD_KEY", CANARY).await;
    let off = house.world.secret(ada, "OFF_KEY", CANARY).await;
    let edit = SecretEdit {
        active: Some(false),
        ..SecretEdit::default()
    };
    db.secret_edit(ada, off, edit).await.unwrap();
    house.world.secret(ada, "OLD_KEY", CANARY).await;
    house
        .world
        .sql("set session_replication_role = replica; update secrets set expires_at = now() - interval '1 day' where path = 'OLD_KEY'")
        .await;
    house
        .world
        .secret(&house.bob, "project/bobs/KEY", CANARY)
        .await;
    house.world.deployment(&house.bob, "bobs", vec![]).await;
    let token = house.token(ada, Level::Use, true).await;
    let before = left(&house).await;
    let creates = house.world.record("deployment.create").await.len();

    let wrong = json!({
        "name": "bobs", "source": SOURCE, "target": "render", "mode": "each", "key": "meta/render/api_key",
        "options": {"transport": "carrier pigeon", "region": "moon"},
        "bindings": [
            {"env": "GOOD_KEY", "secret": "GOOD_KEY"},
            {"env": "OLD_KEY", "secret": "OLD_KEY"},
            {"env": "OFF_KEY", "secret": "ada:OFF_KEY"},
            {"env": "NO_KEY", "secret": "project/none/KEY"},
            {"env": "BOBS", "secret": "bob:project/bobs/KEY"},
            {"env": "PATH", "text": "/"},
            {"env": "GOOD_KEY", "text": "twice"},
            {"env": "EACH", "per_user": true},
            {"env": "BOTH", "text": "a", "secret": "GOOD_KEY"},
            {"env": "API_TOKEN", "text": CANARY},
            {"env": "VALUE", "secret": "sk_live_4242424242424242"},
        ],
    });
    let answer = house
        .call("POST", "/deployments?dry_run=true", &token, wrong.clone())
        .await;
    let plan = house.ok(answer, 200);
    assert_eq!(plan["ready"], false);
    assert_eq!(
        plan["found"],
        Value::Null,
        "what is refused is not looked at"
    );
    assert_eq!(
        fields(&plan, "missing"),
        ["bindings.NO_KEY", "bindings.BOBS", "key"]
    );
    assert_eq!(plan["missing"][0]["secret"], "project/none/KEY");
    assert_eq!(fields(&plan, "expired"), ["bindings.OLD_KEY"]);
    assert_eq!(
        fields(&plan, "refused"),
        [
            "mode",
            "options.transport",
            "bindings.PATH",
            "bindings.GOOD_KEY",
            "bindings.BOTH",
            "bindings.API_TOKEN",
            "bindings.VALUE",
            "bindings.EACH",
            "name",
            "bindings.OFF_KEY",
        ]
    );
    assert!(!plan.to_string().contains("sk_live_"), "{plan}");
    // Only what would be bound.
    assert_eq!(plan["bound"], json!([]), "{plan}");
    // Another's secret is as one that is not there.
    let says = |place: usize| plan["missing"][place]["detail"].as_str().unwrap();
    assert_eq!(
        says(1).replace("bob:project/bobs/KEY", "X"),
        says(0).replace("project/none/KEY", "X")
    );
    assert_eq!(left(&house).await, before);

    // In earnest it is the same, as a problem, and nothing is made either.
    let answer = house.call("POST", "/deployments", &token, wrong).await;
    assert_eq!(answer.location, "");
    let problem = house.ok(answer, 422);
    assert_eq!(problem["type"], "/problems/invalid");
    for how in ["missing", "expired", "refused"] {
        assert_eq!(problem[how], plan[how]);
    }
    assert_eq!(left(&house).await, before);
    let record = house.world.record("deployment.create").await;
    assert_eq!(record.len(), creates + 2, "{record:?}");
    assert!(
        record[creates..]
            .iter()
            .all(|(kind, outcome, _)| kind == "token" && outcome == "refused"),
        "{record:?}"
    );

    // What is in order is looked at, and is still not made.
    let right = json!({
        "name": "adas", "source": SOURCE,
        "bindings": [
            {"env": "GOOD_KEY", "secret": "good_key"},
            {"env": "MODE", "text": "quiet"},
            {"env": "SESSION_TOKEN", "text": "not-a-secret-at-all", "plain": true},
        ],
    });
    let answer = house
        .call("POST", "/deployments?dry_run=true", &token, right)
        .await;
    let plan = house.ok(answer, 200);
    assert_eq!(plan["ready"], true, "{plan}");
    assert_eq!(plan["found"]["source"], SOURCE);
    assert_eq!(plan["found"]["transport"], "stdio");
    assert_eq!(plan["bound"], json!(["GOOD_KEY", "MODE", "SESSION_TOKEN"]));
    assert_eq!(left(&house).await, before);

    // A source that is none is refused, in both ways.
    let none = json!({"name": "adas", "source": "npm:@sealport-tests/there-is-no-such-package"});
    let answer = house
        .call("POST", "/deployments?dry_run=true", &token, none.clone())
        .await;
    assert_eq!(fields(&house.ok(answer, 200), "refused"), ["source"]);
    let answer = house.call("POST", "/deployments", &token, none).await;
    assert_eq!(house.ok(answer, 422)["field"], "source");
    assert_eq!(left(&house).await, before);
    house.close().await;
}

#[tokio::test]
async fn looking_goes_on_when_a_request_waits_no_longer() {
    let house = House::patient(Some(Duration::from_millis(1))).await;
    let token = house.token(&house.ada, Level::Use, true).await;
    let request = json!({"name": "adas", "source": SOURCE});
    let before = left(&house).await;
    let mut waited = 0;
    let plan = loop {
        let answer = house
            .call("POST", "/deployments?dry_run=true", &token, request.clone())
            .await;
        if answer.status.as_u16() == 200 {
            break answer.json();
        }
        assert_eq!(answer.status.as_u16(), 503, "{}", answer.text);
        assert_ne!(answer.retry_after, "");
        assert!(answer.text.contains("Send the same request again"));
        waited += 1;
        // No more than a client that obeys would.
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert!(waited > 0);
    assert_eq!(plan["found"]["source"], SOURCE);
    // It was fetched; asked again, it is looked at again.
    let answer = house
        .call("POST", "/deployments?dry_run=true", &token, request)
        .await;
    assert_eq!(answer.status.as_u16(), 503, "{}", answer.text);
    // One person does not take all the places.
    let mut full = None;
    for number in 0..6 {
        let request = json!({"name": "adas", "source": format!("npm:left-pad@1.{number}.0")});
        let answer = house.call("POST", "/deployments", &token, request).await;
        if answer.status.as_u16() == 429 {
            full = Some(number);
            break;
        }
    }
    assert!(full.is_some_and(|full| full <= 4), "{full:?}");
    assert_eq!(left(&house).await, before);
    house.close().await;
}
