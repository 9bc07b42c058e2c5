//! A key that the far service does not take: the tool's answer passes as it is, and what it says of the key is told where keys are mended.

use std::time::Duration;

use sealport::deploy::CallersLimits;
use sealport::model::connections::{PersonState, SlotState};
use sealport::model::levels::Level;
use sealport::model::paths::DeploymentName;
use serde_json::json;

use super::far::Far;
use super::house::{Client, House};

const GOOD: &str = "the-key-that-the-shop-takes";

impl House {
    /// Until Bob's key stands so, for himself and for Ada.
    async fn until(
        &self,
        name: &DeploymentName,
        bob: &sealport::model::actors::Caller,
        state: SlotState,
        person: PersonState,
    ) {
        let db = &self.world.db;
        let looking = async {
            loop {
                let page = db.connect_page(bob, name).await.unwrap();
                let people = db.connected_people(&self.ada, name).await.unwrap();
                if (page.slots[0].state, people[0].state) == (state, person) {
                    return;
                }
                let _ =
                    tokio::time::timeout(Duration::from_millis(50), self.deployer.changed()).await;
            }
        };
        let looked = tokio::time::timeout(Duration::from_secs(30), looking).await;
        assert!(looked.is_ok(), "it is never {state:?}");
    }
}

async fn ask(client: &Client, far: &Far) -> (bool, String) {
    let answer = client.call("ask", json!({"port": far.port})).await;
    let failed = answer.message["result"]["isError"] == true;
    (failed, answer.text().to_owned())
}

#[tokio::test]
async fn a_refused_key_is_seen_and_mended() {
    let house = House::new(CallersLimits::default()).await;
    let far = Far::taking(Some(GOOD)).await;
    let name = house.deploy_own("own").await;
    let bob = house.world.user("bob").await;
    house.share(&name, "bob", Level::Use).await;
    house
        .connect(&bob, &name, "SHOP_KEY", "a-key-that-was-revoked")
        .await;
    let mut client = house.client(&bob, &name).await;
    client.begin(json!({})).await;
    let said = (
        true,
        "Error: Request failed with status code 401".to_owned(),
    );
    assert_eq!(ask(&client, &far).await, said);
    house
        .until(&name, &bob, SlotState::Refused, PersonState::Refused)
        .await;
    // A call that fails for another reason says nothing of it, and one after it is answered as before.
    client.call("read", json!({"path": "/data/none"})).await;
    assert_eq!(ask(&client, &far).await, said);
    let page = house.world.db.connect_page(&bob, &name).await.unwrap();
    assert!(page.refused_at.is_some() && page.is_connected());

    house.connect(&bob, &name, "SHOP_KEY", GOOD).await;
    house
        .until(&name, &bob, SlotState::Connected, PersonState::Connected)
        .await;
    client.begin(json!({})).await;
    assert_eq!(ask(&client, &far).await, (false, "[]".to_owned()));
    // Nothing of what was said is kept.
    assert!(!house.world.dump().await.contains("status code 401"));
    house.end().await;
}

#[tokio::test]
async fn a_call_that_passes_ends_it() {
    let house = House::new(CallersLimits::default()).await;
    let refusing = Far::taking(Some("another-key")).await;
    let taking = Far::new().await;
    let name = house.deploy_own("own").await;
    let bob = house.world.user("bob").await;
    house.share(&name, "bob", Level::Use).await;
    house.connect(&bob, &name, "SHOP_KEY", GOOD).await;
    let mut client = house.client(&bob, &name).await;
    client.begin(json!({})).await;
    assert!(ask(&client, &refusing).await.0);
    house
        .until(&name, &bob, SlotState::Refused, PersonState::Refused)
        .await;
    assert!(!ask(&client, &taking).await.0);
    house
        .until(&name, &bob, SlotState::Connected, PersonState::Connected)
        .await;
    house.end().await;
}
