//! What the far service refused: noted for the very versions that were used, told to whom it concerns, and over with what mends it.

use sealport::model::connections::{PersonState, SlotState};
use sealport::store::deployment_changes::DeploymentChange;
use sealport::store::secrets::SecretEdit;
use time::{Duration, OffsetDateTime};

use super::{House, env, typed};
use crate::world::{brought, id};

impl House {
    async fn refused(&self, versions: &str, refused: bool) {
        let db = &self.world.db;
        let noted = db.connections_refused(self.deployment, id(&self.bob), versions, refused);
        noted.await.unwrap();
    }

    /// As Bob sees the first of his keys, and as Ann sees Bob.
    async fn seen(&self) -> (SlotState, PersonState) {
        let people = self.world.db.connected_people(&self.ann, &self.name);
        (self.state().await, people.await.unwrap()[0].state)
    }
}

const WELL: (SlotState, PersonState) = (SlotState::Connected, PersonState::Connected);
const REFUSED: (SlotState, PersonState) = (SlotState::Refused, PersonState::Refused);

#[tokio::test]
async fn a_refusal_is_over_with_a_call_a_new_value_or_connecting_again() {
    let house = House::new().await;
    let key = house.connected().await;
    let versions = house.versions().await;
    assert_eq!(house.seen().await, WELL);
    house.refused(&versions, true).await;
    assert_eq!(house.seen().await, REFUSED);
    assert!(house.page(&house.bob).await.refused_at.is_some());
    // Calls go on, with the same.
    assert_eq!(house.versions().await, versions);
    house.refused(&versions, false).await;
    assert_eq!(house.seen().await, WELL);

    house.refused(&versions, true).await;
    house.put(&house.bob, None, None).await.unwrap();
    assert_eq!(house.seen().await, WELL, "connected again");

    house.refused(&versions, true).await;
    let value = typed("a second value").unwrap();
    let db = &house.world.db;
    db.secret_replace(&house.bob, key, 1, value).await.unwrap();
    assert_eq!(house.seen().await, WELL, "replaced on its own page");
    // The instance of before says nothing of the new value.
    house.refused(&versions, true).await;
    assert_eq!(house.seen().await, WELL);
    let now = house.versions().await;
    house.refused(&now, true).await;
    house
        .put(&house.bob, None, typed("a third value"))
        .await
        .unwrap();
    assert_eq!(house.seen().await, WELL, "replaced where it is connected");
}

#[tokio::test]
async fn of_several_keys_it_is_not_known_which_was_refused() {
    let house = House::new().await;
    let change = DeploymentChange {
        bindings: Some(vec![brought("DESK_KEY"), brought("MORE")]),
        ..DeploymentChange::default()
    };
    house.change(change).await;
    house.connected().await;
    let db = &house.world.db;
    let more = env("MORE");
    let put = async |value| {
        let put = db.connection_put(&house.bob, &house.name, &more, None, typed(value));
        put.await.unwrap();
    };
    put("the other value").await;
    house.refused(&house.versions().await, true).await;
    let page = house.page(&house.bob).await;
    assert!(
        page.slots
            .iter()
            .all(|slot| slot.state == SlotState::Refused)
    );
    // With another beside it, neither has been tried.
    put("a new one of the other").await;
    let page = house.page(&house.bob).await;
    assert!(
        page.slots
            .iter()
            .all(|slot| slot.state == SlotState::Connected)
    );
    assert_eq!(house.seen().await, WELL);
}

#[tokio::test]
async fn the_owner_sees_what_is_not_well_and_never_of_which_value() {
    let house = House::new().await;
    let key = house.connected().await;
    let db = &house.world.db;
    let soon = SecretEdit {
        expires_at: Some(Some(OffsetDateTime::now_utc() + Duration::hours(5))),
        ..SecretEdit::default()
    };
    db.secret_edit(&house.bob, key, soon).await.unwrap();
    let expiring = (SlotState::Expiring, PersonState::Expiring);
    assert_eq!(house.seen().await, expiring);
    house.refused(&house.versions().await, true).await;
    assert_eq!(house.seen().await, REFUSED, "the worse of both");
    db.secret_edit(&house.bob, key, switch(false))
        .await
        .unwrap();
    assert_eq!(house.seen().await, (SlotState::Off, PersonState::Missing));
}

#[tokio::test]
async fn the_job_that_notes_it_changes_nothing_else() {
    let house = House::new().await;
    house.connected().await;
    let job = sealport::model::actors::Caller::job(sealport::model::actors::Job::Supervisor);
    let denied = Err("42501".to_owned());
    for change in [
        "user_id = '{cat}'",
        "terms = terms + 1",
        "secret_id = '{anns_key}'",
    ] {
        let change = format!("update connections set {change}");
        assert_eq!(house.sql_as(&job, &change).await, denied, "{change}");
    }
    // Of what is connected it sees no more than that it is.
    for from in ["secrets", "secret_versions"] {
        let seen = house.sql_as(&job, &format!("select 1 from {from}")).await;
        assert_eq!(seen, Ok(0), "{from}");
    }
}

fn switch(active: bool) -> SecretEdit {
    SecretEdit {
        active: Some(active),
        ..SecretEdit::default()
    }
}
