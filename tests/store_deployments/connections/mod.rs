//! Callers' own keys: to what they go, when they stop going there, and who comes by them, which is nobody.

mod asked;
mod ended;
mod own;
mod refused;
mod terms;

use sealport::model::actors::Caller;
use sealport::model::connections::{ConnectPage, Slot, SlotState};
use sealport::model::errors::RefusalKind;
use sealport::model::grants::Shareable;
use sealport::model::levels::Level;
use sealport::model::paths::{DeploymentName, EnvName, SecretPath};
use sealport::store::Error;
use sealport::store::db::begin_for_tests;
use sealport::store::deployment_changes::DeploymentChange;
use sealport::store::gateway::CallersKeys;
use sealport::store::secrets::{NewValue, SecretEdit};
use secrecy::{ExposeSecret, SecretString};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use crate::world::{World, assert_refused, brought, id, secret, text};

const VALUE: &str = "bobs-own-value-0123456789";

fn env(name: &str) -> EnvName {
    EnvName::parse(name).unwrap()
}

fn typed(value: &str) -> Option<NewValue> {
    Some(NewValue::Typed(SecretString::from(value)))
}

/// Ann's server asks for `DESK_KEY`. Bob may call it, Cat may not.
struct House {
    world: World,
    ann: Caller,
    bob: Caller,
    cat: Caller,
    name: DeploymentName,
    deployment: Uuid,
    /// Ann's, bound beside it.
    key: Uuid,
    /// Bob's and Ann's, for its gateway.
    clients: [SecretString; 2],
}

impl House {
    async fn new() -> House {
        let world = World::new().await;
        let (ann, bob, cat) = (
            world.user("ann").await,
            world.user("bob").await,
            world.user("cat").await,
        );
        let db = &world.db;
        let key = world.secret(&ann, "project/desk/KEY", "ann's value").await;
        let bindings = vec![
            brought("DESK_KEY"),
            secret("KEY", key),
            text("MODE", "fast"),
        ];
        let name = world.deployment(&ann, "desk", bindings).await;
        let on = Shareable::Deployment { name: name.clone() };
        db.share(&ann, &on, "bob", Level::Use, &[]).await.unwrap();
        let client = async |who: &Caller| {
            let new = db.gateway_token_create(who, &name, "client", None).await;
            SecretString::from(new.unwrap().token)
        };
        let clients = [client(&bob).await, client(&ann).await];
        let deployment = world.text("select id::text from deployments").await;
        House {
            deployment: deployment.unwrap().parse().unwrap(),
            world,
            ann,
            bob,
            cat,
            name,
            key,
            clients,
        }
    }

    async fn page(&self, who: &Caller) -> ConnectPage {
        self.world.db.connect_page(who, &self.name).await.unwrap()
    }

    async fn slot(&self, who: &Caller) -> Slot {
        self.page(who).await.slots.remove(0)
    }

    async fn state(&self) -> SlotState {
        self.slot(&self.bob).await.state
    }

    async fn put(
        &self,
        who: &Caller,
        terms: Option<i32>,
        value: Option<NewValue>,
    ) -> Result<(), Error> {
        let (db, env) = (&self.world.db, env("DESK_KEY"));
        db.connection_put(who, &self.name, &env, terms, value).await
    }

    /// Bob's key is connected; the secret.
    async fn connected(&self) -> Uuid {
        self.put(&self.bob, None, typed(VALUE)).await.unwrap();
        self.slot(&self.bob).await.secret_id.unwrap()
    }

    /// What the gateway says of a call.
    async fn call(&self, client: usize) -> CallersKeys {
        let (db, name) = (&self.world.db, self.name.as_str());
        let origin = self.bob.origin.clone();
        let pass = db.gateway_open(&self.clients[client], name, &origin, false);
        let pass = pass.await.unwrap();
        assert_eq!(pass.user_id, id([&self.bob, &self.ann][client]));
        pass.keys
    }

    async fn versions(&self) -> String {
        match self.call(0).await {
            CallersKeys::Connected(versions) => versions,
            other => panic!("{other:?}"),
        }
    }

    async fn opened(&self, versions: &str) -> Result<Vec<(EnvName, SecretString)>, Error> {
        let db = &self.world.db;
        db.connections_open(self.deployment, id(&self.bob), versions)
            .await
    }

    async fn terms(&self) -> i32 {
        let terms = self.world.text("select terms::text from deployments").await;
        terms.unwrap().parse().unwrap()
    }

    async fn change(&self, change: DeploymentChange) {
        let db = &self.world.db;
        let changed = db.deployment_change(&self.ann, &self.name, &change).await;
        changed.unwrap();
    }

    /// Rows that a statement touches as the bound role, with `{bob}` and the like filled in; else its SQLSTATE.
    async fn sql_as(&self, who: &Caller, sql: &str) -> Result<u64, String> {
        let filled = [
            ("{ann}", id(&self.ann)),
            ("{bob}", id(&self.bob)),
            ("{cat}", id(&self.cat)),
            ("{deployment}", self.deployment),
            ("{anns_key}", self.key),
        ]
        .into_iter()
        .fold(sql.to_owned(), |sql, (word, id)| {
            sql.replace(word, &id.to_string())
        });
        let mut tx = begin_for_tests(&self.world.db, who).await.unwrap();
        let done = sqlx::query(AssertSqlSafe(filled)).execute(&mut *tx).await;
        match done {
            Ok(done) => {
                tx.commit().await.unwrap();
                Ok(done.rows_affected())
            }
            Err(sqlx::Error::Database(error)) => Err(error.code().unwrap_or_default().into_owned()),
            Err(error) => panic!("{sql}: {error}"),
        }
    }
}

fn missing() -> CallersKeys {
    CallersKeys::Missing(vec!["DESK_KEY".into()])
}

#[tokio::test]
async fn a_key_goes_to_the_server_that_its_caller_connected_it_to() {
    let house = House::new().await;
    let (db, bob) = (&house.world.db, &house.bob);
    let page = house.page(bob).await;
    assert_eq!(
        (page.owner.as_str(), page.source.to_string().as_str()),
        ("ann", "npm:firecrawl-mcp@1.2.3")
    );
    assert_eq!(page.slots.len(), 1, "what is the owner's is not asked for");
    let slot = &page.slots[0];
    assert_eq!(
        (slot.env.as_str(), slot.state, slot.path.as_str()),
        ("DESK_KEY", SlotState::Missing, "service/desk/DESK_KEY")
    );
    assert_eq!(slot.description, "The DESK_KEY of whoever calls");
    assert_eq!(
        (house.call(0).await, house.call(1).await),
        (missing(), missing())
    );

    // A value that is kept there is not used until it is connected.
    let kept = house
        .world
        .secret(bob, "service/desk/DESK_KEY", VALUE)
        .await;
    assert_eq!(house.state().await, SlotState::Kept);
    assert_eq!(house.call(0).await, missing());
    house.put(bob, None, None).await.unwrap();
    assert_eq!(house.slot(bob).await.secret_id, Some(kept));
    assert!(house.page(bob).await.is_connected());
    let versions = house.versions().await;
    let terms = house.terms().await;
    assert_eq!(versions, format!("{terms} DESK_KEY={kept}@1"));
    assert_eq!(
        house.call(1).await,
        missing(),
        "nobody else's calls have it"
    );
    let opened = house.opened(&versions).await.unwrap();
    assert_eq!(opened.len(), 1);
    assert_eq!(
        (opened[0].0.as_str(), opened[0].1.expose_secret()),
        ("DESK_KEY", VALUE)
    );

    // Another value is another version; what was told before is not opened any more.
    house.put(bob, None, typed("another-value")).await.unwrap();
    assert_eq!(house.versions().await, format!("{terms} DESK_KEY={kept}@2"));
    assert_refused(house.opened(&versions).await, RefusalKind::Conflict, None);

    // Renamed by its owner it stays connected.
    let edit = SecretEdit {
        path: Some(SecretPath::parse("MY_DESK").unwrap()),
        ..SecretEdit::default()
    };
    db.secret_edit(bob, kept, edit).await.unwrap();
    let slot = house.slot(bob).await;
    assert_eq!(
        (slot.path.as_str(), slot.state),
        ("MY_DESK", SlotState::Connected)
    );
    db.connection_end(bob, &house.name, &env("DESK_KEY"))
        .await
        .unwrap();
    assert_eq!(house.call(0).await, missing());
    assert_eq!(house.state().await, SlotState::Missing);
    assert_eq!(house.world.count("secrets where use_only").await, 0);

    for (action, kind, times) in [
        ("connection.make", "user", 2),
        ("connection.end", "user", 1),
        ("secret.bind", "deployment", 1),
    ] {
        let record = house.world.record(action).await;
        let done = (kind.to_owned(), "done".to_owned(), String::new());
        assert_eq!(record, vec![done; times], "{action}");
    }
    let row = "select concat_ws(' ', actor_name, path, version, deployment, o.handle) from audit a
        join owners o on o.id = a.owner_id where action = 'secret.bind'";
    assert_eq!(
        house.world.text(row).await.as_deref(),
        Some("desk service/desk/DESK_KEY 1 desk bob")
    );
    assert!(!house.world.dump().await.contains(&VALUE[..8]));
}

#[tokio::test]
async fn a_key_that_cannot_be_used_is_missing() {
    let house = House::new().await;
    let db = &house.world.db;
    let key = house.connected().await;
    let versions = house.versions().await;
    let switch = |active| SecretEdit {
        active: Some(active),
        ..SecretEdit::default()
    };
    let ends = |at: &str| {
        format!(
            "set session_replication_role = replica; update secrets set expires_at = {at} where id = '{key}'"
        )
    };
    db.secret_edit(&house.bob, key, switch(false))
        .await
        .unwrap();
    assert_eq!(
        (house.state().await, house.call(0).await),
        (SlotState::Off, missing())
    );
    assert_refused(house.opened(&versions).await, RefusalKind::Conflict, None);
    db.secret_edit(&house.bob, key, switch(true)).await.unwrap();
    house.world.sql(&ends("now() + interval '1 day'")).await;
    assert_eq!(house.state().await, SlotState::Expiring);
    assert_eq!(house.versions().await, versions);
    house.world.sql(&ends("now()")).await;
    assert_eq!(
        (house.state().await, house.call(0).await),
        (SlotState::Expired, missing())
    );
    assert_refused(house.opened(&versions).await, RefusalKind::Conflict, None);
    house.world.sql(&ends("null")).await;
    assert_eq!(house.versions().await, versions);

    // A caller who may not call any more has no instance either.
    let on = Shareable::Deployment {
        name: house.name.clone(),
    };
    let grant = db.reachers(&house.ann, &on).await.unwrap().grants[0].id;
    db.unshare(&house.ann, grant).await.unwrap();
    assert_refused(house.opened(&versions).await, RefusalKind::Conflict, None);
    assert_refused(
        db.connect_page(&house.bob, &house.name).await,
        RefusalKind::NotFound,
        None,
    );
}
