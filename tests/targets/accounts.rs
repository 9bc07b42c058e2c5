//! What a key can do at its provider: asked with the right to use it, on record, and told without the key.

use std::sync::Arc;

use sealport::model::actors::Caller;
use sealport::model::errors::{Refusal, RefusalKind};
use sealport::model::grants::Shareable;
use sealport::model::levels::Level;
use sealport::model::paths::KeyPath;
use sealport::model::plans::DeployRequest;
use sealport::model::targets::{AccountPlace, Target};
use tokio::task::JoinHandle;

use crate::fakes::railway::WORKSPACE_KEY;
use crate::fakes::render::KEY;
use crate::fakes::wire::Fault;
use crate::house::House;

fn path(text: &str) -> KeyPath {
    KeyPath::parse(text).unwrap()
}

#[tokio::test]
async fn a_key_says_what_it_can_do_and_that_it_was_opened_is_on_record() {
    let house = House::new().await;
    let (at_render, at_railway) = (path("meta/render/api_key"), path("meta/railway/api_key"));
    let asked = |target, at| house.deployer.account_says(&house.ada, target, at);
    let says = asked(Target::Render, &at_render).await;
    let says = says.unwrap();
    assert!(says.sentence.contains("every service in Shop"), "{says:?}");
    assert_eq!(
        says.places,
        [AccountPlace::new("workspace", "Shop", "tea-1")]
    );

    let says = asked(Target::Railway, &at_railway).await;
    let kinds: Vec<_> = says.unwrap().places.into_iter().collect();
    assert_eq!(
        kinds[0],
        AccountPlace::new("workspace", "Ada's", "workspace-1")
    );
    assert_eq!(
        (kinds[1].kind.as_str(), kinds[1].name.as_str()),
        ("project", "existing")
    );
    assert_eq!(
        (kinds[2].kind.as_str(), kinds[2].name.as_str()),
        ("environment", "production")
    );

    let opened = house.world.record("secret.bind").await;
    let reasons: Vec<_> = opened.iter().map(|row| row.2.as_str()).collect();
    assert_eq!(reasons, ["to check what the key can do"; 2], "{opened:?}");
    house.end().await;
}

/// The other provider's key is none here, and what is said of it does not tell it.
#[tokio::test]
async fn what_the_provider_refuses_is_said_without_the_key() {
    let house = House::new().await;
    let at = path("meta/railway/api_key");
    let refusal = house.deployer.account_says(&house.ada, Target::Render, &at);
    let refusal = refusal.await.unwrap_err();
    assert_eq!(refusal.field.as_deref(), Some("key"));
    assert!(
        refusal.detail.contains("Make a new one at Render"),
        "{refusal}"
    );

    house.render.wire.will("GET /v1/owners", Fault::Echo);
    let at = path("meta/render/api_key");
    let refusal = house.deployer.account_says(&house.ada, Target::Render, &at);
    let refusal = refusal.await.unwrap_err();
    assert!(refusal.detail.contains("Bearer [sealed]"), "{refusal}");
    for key in [KEY, WORKSPACE_KEY] {
        assert!(!refusal.detail.contains(key), "{refusal}");
    }
    house.end().await;
}

#[tokio::test]
async fn to_use_the_key_is_enough_and_less_is_refused_on_record() {
    let house = House::new().await;
    let bob = house.world.user("bob").await;
    let at = path("ada:meta/render/api_key");
    let refusal = house.deployer.account_says(&bob, Target::Render, &at).await;
    assert_eq!(refusal.unwrap_err().kind, RefusalKind::NotFound);
    assert_eq!(house.render.wire.lines(), Vec::<String>::new());
    assert_eq!(
        house.world.record("secret.bind").await.len(),
        1,
        "it is on record"
    );

    let on = Shareable::Secret { id: house.key };
    let shared = house
        .world
        .db
        .share(&house.ada, &on, "bob", Level::Use, &[]);
    shared.await.unwrap();
    let says = house.deployer.account_says(&bob, Target::Render, &at).await;
    assert!(says.unwrap().sentence.contains("Shop"));
    house.end().await;
}

/// Asks in a task of its own, which may be given up.
fn asks(house: &Arc<House>, who: &Caller) -> JoinHandle<Result<(), Refusal>> {
    let (house, who) = (Arc::clone(house), who.clone());
    tokio::spawn(async move {
        let at = path("ada:meta/render/api_key");
        let asked = house.deployer.account_says(&who, Target::Render, &at);
        asked.await.map(drop)
    })
}

/// As many questions as the provider does not answer.
async fn hanging(house: &Arc<House>, who: &[Caller]) -> Vec<JoinHandle<Result<(), Refusal>>> {
    let there = house.render.wire.lines().len();
    let mut hanging = Vec::new();
    for who in who {
        house.render.wire.will("GET /v1/owners", Fault::Hang);
        hanging.push(asks(house, who));
        house
            .until_there("one more question", |house| {
                (house.render.wire.lines().len() > there + hanging.len() - 1).then_some(())
            })
            .await;
    }
    hanging
}

/// The plan of a review is a question like that.
#[tokio::test]
async fn a_person_asks_a_few_times_at_once_and_no_more() {
    let house = Arc::new(House::new().await);
    let ada = house.ada.clone();
    let hanging = hanging(&house, &[ada.clone(), ada.clone()]).await;
    let refusal = asks(&house, &ada).await.unwrap().unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::TooMany);
    let request = DeployRequest {
        name: "crawl".into(),
        source: "image:registry.example/crawl:1".into(),
        target: Some("render".into()),
        ..DeployRequest::default()
    };
    let refusal = house.deployer.plan(&ada, &request).await.unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::TooMany, "{refusal:?}");
    assert_eq!(house.render.wire.lines().len(), 2, "nothing more was asked");
    // Whoever goes away makes room.
    for one in hanging {
        one.abort();
        assert!(one.await.is_err());
    }
    asks(&house, &ada).await.unwrap().unwrap();
    let plan = house.deployer.plan(&ada, &request).await.unwrap();
    assert!(plan.is_ready(), "{plan:?}");
    let house = Arc::into_inner(house).expect("nobody asks any more");
    house.end().await;
}

#[tokio::test]
async fn a_server_asks_for_a_few_at_once_and_says_that_it_is_busy() {
    let house = Arc::new(House::new().await);
    let mut people = vec![house.ada.clone()];
    for name in ["bob", "cai", "dan"] {
        people.push(house.world.user(name).await);
        let on = Shareable::Secret { id: house.key };
        let shared = house.world.db.share(&house.ada, &on, name, Level::Use, &[]);
        shared.await.unwrap();
    }
    let last = people.pop().unwrap();
    let twice: Vec<Caller> = people.iter().chain(&people).cloned().collect();
    let hanging = hanging(&house, &twice).await;
    let refusal = asks(&house, &last).await.unwrap().unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::Unavailable);
    assert!(refusal.detail.contains("busy"), "{refusal}");
    for one in hanging {
        one.abort();
        assert!(one.await.is_err());
    }
    asks(&house, &last).await.unwrap().unwrap();
    let house = Arc::into_inner(house).expect("nobody asks any more");
    house.end().await;
}
