//! What is connected is what a deployment asks for, and only one that can keep callers apart asks.

use sealport::model::deployments::DeploymentSpec;
use sealport::model::errors::RefusalKind;
use sealport::model::paths::DeploymentName;
use sealport::model::targets::Target;
use sealport::store::deployment_changes::DeploymentChange;

use super::{House, VALUE, env, typed};
use crate::world::{assert_refused, brought, refusal, spec};

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
