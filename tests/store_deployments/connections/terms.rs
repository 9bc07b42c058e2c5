//! A key goes to what its caller agreed to, and to nothing else.

use sealport::model::connections::SlotState;
use sealport::model::errors::RefusalKind;
use sealport::model::paths::{Handle, SecretPath};
use sealport::model::sources::{Source, StartPlan};
use sealport::store::deployment_changes::DeploymentChange;
use sealport::store::gateway::CallersKeys;
use sealport::store::secrets::{NewValue, SecretEdit};
use secrecy::{ExposeSecret, SecretString};

use super::{House, VALUE, missing, typed};
use crate::world::{assert_refused, brought, id, secret, spec, text};

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
            "It was started with node_modules/.bin/firecrawl-mcp and now with node_modules/.bin/another.",
        ),
        (
            "another network",
            DeploymentChange {
                options: Some([("network".to_owned(), "none".to_owned())].into()),
                ..DeploymentChange::default()
            },
            "It does not reach the network any more.",
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
