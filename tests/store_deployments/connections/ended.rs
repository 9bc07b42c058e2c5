//! With what an instance would run now, asked beside its calls; and that a value is never there without being connected.

use sealport::model::connections::SlotState;
use sealport::store::secrets::SecretEdit;
use uuid::Uuid;

use super::{House, VALUE, env, typed};
use crate::world::id;

impl House {
    /// What Bob's instance would run with now.
    async fn asked(&self) -> Option<String> {
        let whose = [
            (self.deployment, id(&self.cat)),
            (self.deployment, id(&self.bob)),
            (Uuid::now_v7(), id(&self.bob)),
        ];
        let mut keys = self.world.db.callers_keys(&whose).await.unwrap();
        assert_eq!(keys.len(), 3);
        assert_eq!((&keys[0].versions, &keys[2].versions), (&None, &None));
        keys.swap_remove(1).versions
    }

    async fn is_connected(&self) -> bool {
        let whose = (self.deployment, id(&self.bob));
        let connected = self.world.db.callers_connected(&[whose]).await.unwrap();
        connected == [whose]
    }
}

#[tokio::test]
async fn an_instance_may_run_as_long_as_a_call_of_its_caller_would() {
    let house = House::new().await;
    let (db, bob) = (&house.world.db, &house.bob);
    assert_eq!(
        (house.asked().await, house.is_connected().await),
        (None, false)
    );
    let key = house.connected().await;
    let versions = Some(house.versions().await);
    assert_eq!(house.asked().await, versions);
    db.secret_edit(bob, key, switch(false)).await.unwrap();
    assert_eq!(
        (house.asked().await, house.is_connected().await),
        (None, true)
    );
    db.secret_edit(bob, key, switch(true)).await.unwrap();
    house.put(bob, None, typed("another value")).await.unwrap();
    let second = Some(house.versions().await);
    assert_eq!(house.asked().await, second);
    assert_ne!(second, versions);

    house
        .world
        .sql("create table away as select * from grants; delete from grants")
        .await;
    assert_eq!(
        house.asked().await,
        None,
        "nothing is shared with him any more"
    );
    house
        .world
        .sql("insert into grants select * from away; drop table away")
        .await;
    assert_eq!(house.asked().await, second);
    let env = env("DESK_KEY");
    db.connection_end(bob, &house.name, &env).await.unwrap();
    assert_eq!(
        (house.asked().await, house.is_connected().await),
        (None, false)
    );
}

#[tokio::test]
async fn nothing_is_connected_for_an_account_that_has_ended() {
    let house = House::new().await;
    house.connected().await;
    assert!(house.is_connected().await);
    let mut ann = house.ann.clone();
    if let sealport::model::actors::Actor::User(user) = &mut ann.actor {
        user.is_admin = true;
    }
    let administers = format!(
        "set sealport.job = 'operator'; update users set is_admin = true where id = '{}'",
        id(&ann)
    );
    house.world.sql(&administers).await;
    let heir = sealport::model::paths::Handle::parse("cat").unwrap();
    let db = &house.world.db;
    db.account_end(&ann, id(&house.bob), Some(&heir))
        .await
        .unwrap();
    assert_eq!(
        (house.asked().await, house.is_connected().await),
        (None, false)
    );
    assert_eq!(house.world.count("connections").await, 0);
}

/// A server that dies in between leaves neither a new value nor one that anybody could read.
#[tokio::test]
async fn a_value_is_stored_and_connected_by_one_step() {
    let house = House::new().await;
    let bob = &house.bob;
    let breaks = "create function break_off() returns trigger language plpgsql as $$ begin raise exception 'died'; end $$;
        create trigger break_off before insert or update on connections for each row execute function break_off()";
    house.world.sql(breaks).await;
    assert!(house.put(bob, None, typed(VALUE)).await.is_err());
    assert_eq!(house.state().await, SlotState::Missing);
    assert_eq!(
        house
            .world
            .count("secrets where path like 'service/%'")
            .await,
        0
    );

    house
        .world
        .sql("drop trigger break_off on connections")
        .await;
    let key = house.connected().await;
    let before = house.versions().await;
    let again = "create trigger break_off before insert or update on connections for each row execute function break_off()";
    house.world.sql(again).await;
    assert!(house.put(bob, None, typed("another value")).await.is_err());
    assert_eq!(house.versions().await, before);
    let versions = format!("secret_versions where secret_id = '{key}'");
    assert_eq!(house.world.count(&versions).await, 1);
}

fn switch(active: bool) -> SecretEdit {
    SecretEdit {
        active: Some(active),
        ..SecretEdit::default()
    }
}
