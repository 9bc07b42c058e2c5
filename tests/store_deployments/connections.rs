//! Callers' own keys: to what they go, when they stop going there, and who comes by them, which is nobody.

use sealport::model::actors::Caller;
use sealport::model::connections::{ConnectPage, PersonState, Slot, SlotState};
use sealport::model::deployments::DeploymentSpec;
use sealport::model::errors::RefusalKind;
use sealport::model::grants::Shareable;
use sealport::model::levels::Level;
use sealport::model::paths::{DeploymentName, EnvName, Handle, SecretPath};
use sealport::model::sources::{Source, StartPlan};
use sealport::model::targets::Target;
use sealport::store::Error;
use sealport::store::db::begin_for_tests;
use sealport::store::deployment_changes::DeploymentChange;
use sealport::store::logs::NewLine;
use sealport::store::secrets::{NewValue, SecretEdit};
use sealport::store::tokens::CallersKeys;
use secrecy::{ExposeSecret, SecretString};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use crate::world::{World, assert_refused, brought, id, refusal, secret, spec, text};

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

/// Whatever makes it another server than the one that was agreed to.
#[tokio::test]
async fn a_key_is_not_used_for_anything_else_than_was_agreed_to() {
    let house = House::new().await;
    house.connected().await;
    let other = house
        .world
        .secret(&house.ann, "project/desk/OTHER", "another of ann's")
        .await;
    let was = spec("desk", vec![]);
    let start = StartPlan {
        command: vec!["node_modules/.bin/another".into()],
        ..was.start.clone()
    };
    let sourced = |source: &str, start: &StartPlan| DeploymentChange {
        source: Some((Source::parse(source).unwrap(), start.clone())),
        ..DeploymentChange::default()
    };
    let bound = |bindings| DeploymentChange {
        bindings: Some(bindings),
        ..DeploymentChange::default()
    };
    let (desk, mode) = (brought("DESK_KEY"), text("MODE", "fast"));
    let cases = [
        (
            "another source",
            sourced("npm:firecrawl-mcp@1.2.4", &was.start),
            "It ran npm:firecrawl-mcp@1.2.3 and now runs npm:firecrawl-mcp@1.2.4.",
        ),
        (
            "another start",
            sourced("npm:firecrawl-mcp@1.2.4", &start),
            "How it starts, whether it reaches the network, or one of its other variables was changed.",
        ),
        (
            "another network",
            DeploymentChange {
                options: Some([("network".to_owned(), "none".to_owned())].into()),
                ..DeploymentChange::default()
            },
            "How it starts, whether it reaches the network, or one of its other variables was changed.",
        ),
        (
            "another text",
            bound(vec![
                desk.clone(),
                secret("KEY", house.key),
                text("MODE", "slow"),
            ]),
            "How it starts, whether it reaches the network, or one of its other variables was changed.",
        ),
        (
            "another secret",
            bound(vec![
                desk.clone(),
                secret("KEY", other),
                text("MODE", "slow"),
            ]),
            "How it starts, whether it reaches the network, or one of its other variables was changed.",
        ),
        (
            "one variable less",
            bound(vec![desk.clone(), text("MODE", "slow")]),
            "How it starts, whether it reaches the network, or one of its other variables was changed.",
        ),
        (
            "one variable more",
            bound(vec![
                desk.clone(),
                mode.clone(),
                text("PROXY", "http://collects.example"),
            ]),
            "How it starts, whether it reaches the network, or one of its other variables was changed.",
        ),
        (
            "what is asked for besides",
            bound(vec![desk.clone(), mode.clone(), brought("MORE")]),
            "It now asks for MORE too.",
        ),
        (
            "what is not asked for any more",
            bound(vec![desk, mode]),
            "It does not ask for MORE any more.",
        ),
    ];
    for (what, change, says) in cases {
        let (before, versions) = (house.page(&house.bob).await, house.versions_of_desk().await);
        house.change(change).await;
        let page = house.page(&house.bob).await;
        assert!(page.terms > before.terms, "{what}");
        assert_eq!(page.changes, [says], "{what}");
        assert_eq!(page.slots[0].state, SlotState::Changed, "{what}");
        let CallersKeys::Missing(names) = house.call(0).await else {
            panic!("{what}: it is used")
        };
        assert_eq!(names[0], "DESK_KEY", "{what}");
        assert_refused(house.opened(&versions).await, RefusalKind::Conflict, None);
        // Agreed to what was seen before is not agreed to what it is.
        assert_refused(
            house
                .put(&house.bob, Some(before.terms), typed(VALUE))
                .await,
            RefusalKind::Conflict,
            None,
        );
        assert_eq!(house.slot(&house.bob).await.state, SlotState::Changed);
        house.put(&house.bob, Some(page.terms), None).await.unwrap();
        for slot in page.slots.iter().skip(1) {
            let db = &house.world.db;
            db.connection_put(&house.bob, &house.name, &slot.env, None, typed("more"))
                .await
                .unwrap();
        }
        assert!(house.page(&house.bob).await.is_connected(), "{what}");
        assert!(house.page(&house.bob).await.changes.is_empty(), "{what}");
    }
    // No longer asked for: kept, and used by nothing.
    assert!(house.versions().await.contains(" DESK_KEY="));
    assert!(!house.versions().await.contains("MORE"));
}

impl House {
    /// What the gateway told, where all is connected.
    async fn versions_of_desk(&self) -> String {
        let versions = self.versions().await;
        assert_eq!(
            self.opened(&versions).await.unwrap()[0].1.expose_secret(),
            VALUE
        );
        versions
    }
}

#[tokio::test]
async fn another_owner_is_agreed_to_anew() {
    let house = House::new().await;
    house.connected().await;
    let versions = house.versions().await;
    let make_administrator = format!(
        "set sealport.job = 'operator'; update users set is_admin = true where id = '{}'",
        id(&house.cat)
    );
    house.world.sql(&make_administrator).await;
    let heir = Handle::parse("cat").unwrap();
    let db = &house.world.db;
    db.account_end(&house.cat, id(&house.ann), Some(&heir))
        .await
        .unwrap();
    assert_eq!(house.call(0).await, missing());
    assert_refused(house.opened(&versions).await, RefusalKind::Conflict, None);
    let page = house.page(&house.bob).await;
    assert_eq!(page.changes, ["It belonged to ann and now belongs to cat."]);
    house.put(&house.bob, Some(page.terms), None).await.unwrap();
    // The same key, under other terms.
    let keys = |versions: &str| versions.split_once(' ').unwrap().1.to_owned();
    assert_eq!(keys(&house.versions().await), keys(&versions));
}

#[tokio::test]
async fn what_changes_nothing_for_callers_asks_nothing_of_them() {
    let house = House::new().await;
    let (world, db) = (&house.world, &house.world.db);
    house.connected().await;
    let (terms, versions) = (house.terms().await, house.versions().await);
    let same = async |what: &str| {
        assert_eq!(house.terms().await, terms, "{what}");
        assert_eq!(house.versions().await, versions, "{what}");
    };
    db.deployment_redeploy(&house.ann, &house.name)
        .await
        .unwrap();
    same("a redeploy").await;
    db.deployment_stop(&house.ann, &house.name).await.unwrap();
    db.deployment_start(&house.ann, &house.name).await.unwrap();
    same("a stop and a start").await;
    let renamed = SecretEdit {
        path: Some(SecretPath::parse("project/desk/RENAMED").unwrap()),
        ..SecretEdit::default()
    };
    db.secret_edit(&house.ann, house.key, renamed)
        .await
        .unwrap();
    same("another name of a bound secret").await;
    let value = NewValue::Typed(SecretString::from("a new value of ann's"));
    db.secret_replace(&house.ann, house.key, 1, value)
        .await
        .unwrap();
    same("another value of a bound secret").await;
    house
        .change(DeploymentChange {
            fetch_key: Some(None),
            ..DeploymentChange::default()
        })
        .await;
    same("a release").await;
    house
        .change(DeploymentChange {
            options: Some([("memory_mib".to_owned(), "1024".to_owned())].into()),
            ..DeploymentChange::default()
        })
        .await;
    same("another limit").await;
    db.secret_delete(&house.ann, house.key, None).await.unwrap();
    same("a bound secret that is deleted").await;
    // Nor does whoever may change the deployment say what the terms are.
    for sql in [
        "update deployments set terms = 1000 where id = '{deployment}'",
        "update deployments set per_user = false where id = '{deployment}'",
        "update bindings set description = 'something else' where deployment_id = '{deployment}'",
    ] {
        house.sql_as(&house.ann, sql).await.unwrap();
        same(sql).await;
    }
    assert_eq!(world.count("deployments where per_user").await, 1);
}

/// By SQL alone, whatever the functions ask.
#[tokio::test]
async fn only_ones_own_key_is_connected_and_only_by_oneself() {
    let house = House::new().await;
    let (bob, cat) = (&house.bob, &house.cat);
    let key = house.connected().await;
    let catskey = house
        .world
        .secret(cat, "service/desk/DESK_KEY", "cat's value")
        .await;
    let bobs_other = house
        .world
        .secret(bob, "OTHER", "not given to anybody")
        .await;
    let connect = |env: &str, user: &str, secret: String| {
        format!(
            "insert into connections (deployment_id, owner_id, user_id, env, secret_id, terms, agreed) \
             values ('{{deployment}}', '{{ann}}', '{user}', '{env}', '{secret}', 1, '{{}}')"
        )
    };
    let no = || Err("42501".to_owned());
    for (who, what, sql) in [
        (
            bob,
            "another's secret",
            connect("X", "{bob}", "{anns_key}".into()),
        ),
        (
            bob,
            "another's use-only secret",
            connect("X", "{bob}", catskey.to_string()),
        ),
        (
            bob,
            "one that is not for use only",
            connect("X", "{bob}", bobs_other.to_string()),
        ),
        (
            bob,
            "in another's name",
            connect("X", "{cat}", key.to_string()),
        ),
        (
            cat,
            "where one may not call",
            connect("X", "{cat}", catskey.to_string()),
        ),
        (
            &house.ann,
            "in a caller's name",
            connect("X", "{bob}", key.to_string()),
        ),
    ] {
        assert_eq!(house.sql_as(who, &sql).await, no(), "{what}");
    }
    let replace =
        format!("update connections set secret_id = '{bobs_other}' where user_id = '{{bob}}'");
    assert_eq!(house.sql_as(bob, &replace).await, no());
    // Seen by whose it is, and by whoever may change the deployment; changed and ended by whose it is alone.
    for (who, sees, changes) in [(bob, 1, 1), (&house.ann, 1, 0), (cat, 0, 0)] {
        let all = "select 1 from connections";
        assert_eq!(house.sql_as(who, all).await, Ok(sees));
        let change = "update connections set connected_at = now()";
        assert_eq!(house.sql_as(who, change).await, Ok(changes));
    }
    for who in [&house.ann, cat] {
        assert_eq!(house.sql_as(who, "delete from connections").await, Ok(0));
    }
    // For use only, for good; and the secret itself is nobody else's to see.
    let free = format!("update secrets set use_only = false where id = '{key}'");
    assert_eq!(house.sql_as(bob, &free).await, no());
    for who in [&house.ann, cat] {
        let seen = format!("select 1 from secrets where id = '{key}'");
        assert_eq!(house.sql_as(who, &seen).await, Ok(0));
        assert_eq!(house.sql_as(who, &free).await, Ok(0));
    }
    assert_eq!(house.world.count("secrets where use_only").await, 1);
    // Neither does it become another's with a move of the connection.
    let moved = "update connections set user_id = '{cat}'";
    assert_eq!(house.sql_as(bob, moved).await, no());
    assert!(house.page(bob).await.is_connected());
}

#[tokio::test]
async fn a_connected_key_stays_for_use_only() {
    let house = House::new().await;
    let (db, bob) = (&house.world.db, &house.bob);
    let key = house.connected().await;
    house
        .put(bob, None, typed("the second value"))
        .await
        .unwrap();
    let renamed = SecretEdit {
        path: Some(SecretPath::parse("project/mine/KEY").unwrap()),
        ..SecretEdit::default()
    };
    db.secret_edit(bob, key, renamed).await.unwrap();
    db.secret_roll_back(bob, key, 2, 1).await.unwrap();
    let value = NewValue::Typed(SecretString::from("the fourth value"));
    db.secret_replace(bob, key, 3, value).await.unwrap();
    let for_use = format!("secrets where use_only and id = '{key}'");
    assert_eq!(house.world.count(&for_use).await, 1);
    let terms = house.terms().await;
    assert_eq!(house.versions().await, format!("{terms} DESK_KEY={key}@4"));
}

#[tokio::test]
async fn the_owner_sees_who_is_connected_and_nobody_else_does() {
    let house = House::new().await;
    let db = &house.world.db;
    let people = async |who: &Caller| db.connected_people(who, &house.name).await.unwrap();
    assert!(people(&house.ann).await.is_empty());
    house.connected().await;
    let seen = people(&house.ann).await;
    assert_eq!(seen.len(), 1);
    assert_eq!(
        (seen[0].handle.as_str(), seen[0].state),
        ("bob", PersonState::Connected)
    );
    assert!(people(&house.bob).await.is_empty());
    assert!(people(&house.cat).await.is_empty());
    let bindings = vec![brought("DESK_KEY"), brought("MORE")];
    house
        .change(DeploymentChange {
            bindings: Some(bindings),
            ..DeploymentChange::default()
        })
        .await;
    assert_eq!(people(&house.ann).await[0].state, PersonState::Missing);
    // What was connected is not hers to see.
    let slot = house.slot(&house.ann).await;
    assert_eq!((slot.state, slot.secret_id), (SlotState::Missing, None));
}

#[tokio::test]
async fn what_is_not_asked_for_is_not_connected() {
    let house = House::new().await;
    let (world, db) = (&house.world, &house.world.db);
    let bobs = async |name: &DeploymentName, variable: &str| {
        db.connection_put(&house.bob, name, &env(variable), None, typed(VALUE))
            .await
    };
    // The owner's, one that is not there, a shared deployment, one that is not in sight or not there.
    let shared = world.deployment(&house.bob, "shared", vec![]).await;
    let hidden = world
        .deployment(&house.cat, "hidden", vec![brought("DESK_KEY")])
        .await;
    let none = DeploymentName::parse("none").unwrap();
    for variable in ["KEY", "MODE", "NONE"] {
        assert_refused(
            bobs(&house.name, variable).await,
            RefusalKind::Invalid,
            Some("env"),
        );
    }
    assert_refused(
        bobs(&shared, "DESK_KEY").await,
        RefusalKind::Invalid,
        Some("deployment"),
    );
    for name in [&hidden, &none] {
        assert_refused(bobs(name, "DESK_KEY").await, RefusalKind::NotFound, None);
        assert_refused(
            db.connection_end(&house.bob, name, &env("DESK_KEY")).await,
            RefusalKind::NotFound,
            None,
        );
    }
    // Nothing is kept for it.
    assert_refused(
        house.put(&house.bob, None, None).await,
        RefusalKind::Invalid,
        Some("value"),
    );
    assert_eq!(world.count("connections").await, 0);
    assert_eq!(
        world.count("secrets").await,
        1,
        "no value was stored on the way"
    );
    let refused = world.record("connection.make").await;
    assert!(refused.iter().all(|(_, outcome, _)| outcome == "refused") && refused.len() >= 4);
}

#[tokio::test]
async fn a_provider_has_no_place_for_callers_keys() {
    let house = House::new().await;
    let db = &house.world.db;
    let key = house
        .world
        .secret(&house.ann, "meta/render/api_key", "rnd_anns")
        .await;
    for target in [Target::Render, Target::Railway] {
        let remote = |name: &str, bindings| DeploymentSpec {
            target,
            provider_key: Some(key),
            ..spec(name, bindings)
        };
        let brings = remote("remote", vec![brought("EACH")]);
        let refused = refusal(db.deployment_create(&house.ann, None, &brings).await);
        assert_eq!(
            (refused.kind, refused.field.as_deref()),
            (RefusalKind::Invalid, Some("bindings.EACH"))
        );
        assert!(refused.detail.contains(target.title()), "{refused}");
        let name = format!("at-{}", target.as_str());
        let there = remote(&name, vec![]);
        let name = db
            .deployment_create(&house.ann, None, &there)
            .await
            .unwrap();
        let change = DeploymentChange {
            bindings: Some(vec![brought("EACH")]),
            ..DeploymentChange::default()
        };
        assert_refused(
            db.deployment_change(&house.ann, &name, &change).await,
            RefusalKind::Invalid,
            Some("bindings.EACH"),
        );
    }
    // The table says the same.
    let forged = "insert into bindings (deployment_id, owner_id, env, per_user) \
        select id, owner_id, 'EACH', true from deployments where target = 'render'";
    assert_eq!(house.sql_as(&house.ann, forged).await, Err("23514".into()));
    assert_eq!(house.world.count("bindings where per_user").await, 1);
}

/// A log of an instance is its caller's, also for whoever owns the server, and by SQL.
#[tokio::test]
async fn the_log_of_an_instance_is_its_callers_alone() {
    let house = House::new().await;
    let db = &house.world.db;
    house.world.claim(Uuid::now_v7()).await;
    let line = |text: &str| NewLine {
        stream: "stdout",
        line: text.to_owned(),
    };
    let append = async |user: Option<&Caller>, text: &str| {
        db.log_append_of(house.deployment, 1, user.map(id), &[line(text)])
            .await
            .unwrap();
    };
    append(None, "everybody's").await;
    append(Some(&house.bob), "bob's").await;
    append(Some(&house.ann), "ann's").await;
    let own = async |who: &Caller| -> Vec<String> {
        let lines = db.own_log_read(who, &house.name, 100).await.unwrap();
        lines.into_iter().map(|line| line.line).collect()
    };
    assert_eq!(own(&house.bob).await, ["bob's"]);
    assert_eq!(own(&house.ann).await, ["ann's"]);
    assert_refused(
        db.own_log_read(&house.cat, &house.name, 100).await,
        RefusalKind::NotFound,
        None,
    );
    let common = db
        .log_read(&house.ann, &house.name, None, 100)
        .await
        .unwrap();
    let common: Vec<&str> = common.iter().map(|line| line.line.as_str()).collect();
    assert_eq!(common, ["everybody's"]);
    let after = db
        .log_read(&house.ann, &house.name, Some(0), 100)
        .await
        .unwrap();
    assert_eq!(after.len(), 1);
    for (who, sees) in [(&house.ann, 2), (&house.bob, 1), (&house.cat, 0)] {
        assert_eq!(house.sql_as(who, "select 1 from log_lines").await, Ok(sees));
    }
    let bobs = "select 1 from log_lines where user_id = '{bob}'";
    assert_eq!(house.sql_as(&house.ann, bobs).await, Ok(0));
    // Nobody writes into another's.
    let forged = "insert into log_lines (deployment_id, owner_id, number, stream, line, user_id) \
        values ('{deployment}', '{ann}', 1, 'stdout', 'forged', '{bob}')";
    assert_eq!(house.sql_as(&house.ann, forged).await, Err("42501".into()));
    // Each log has bounds of its own: a chatty caller takes nothing of the others'.
    let many: Vec<NewLine> = (0..500).map(|n| line(&n.to_string())).collect();
    for _ in 0..5 {
        db.log_append_of(house.deployment, 1, Some(id(&house.bob)), &many)
            .await
            .unwrap();
    }
    assert_eq!(own(&house.ann).await, ["ann's"]);
    let bobs = format!("log_lines where user_id = '{}'", id(&house.bob));
    assert!(house.world.count(&bobs).await <= 1_000 + 500);
}
