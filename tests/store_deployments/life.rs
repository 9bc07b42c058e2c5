//! What the life of a secret does to the deployments that bind it.

use sealport::model::actors::Caller;
use sealport::model::deployments::ReleaseState;
use sealport::model::paths::{DeploymentName, SecretPath};
use sealport::model::secrets::{RotationRule, VersionsKept};
use sealport::store::secrets::NewValue;
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

use crate::world::{World, id, own, refusal, secret};

/// A deployment with one bound secret, whose first release is live with its version 1.
async fn running(world: &World, ada: &Caller, holder: Uuid) -> (Uuid, DeploymentName, Uuid) {
    let key = world.secret(ada, "KEY", "the first value").await;
    let name = world
        .deployment(ada, "shop", vec![secret("KEY", key)])
        .await;
    let task = world.claim(holder).await;
    let deployment = task.deployment_id;
    let opened = world.db.bindings_open(deployment, id(ada), 1).await;
    assert_eq!(
        opened.unwrap().secrets[0].expose_secret(),
        "the first value"
    );
    world.go_live().await;
    (key, name, deployment)
}

impl World {
    /// As the supervisor leaves what it brought up.
    async fn go_live(&self) {
        self.sql(
            "set sealport.job = 'supervisor'; \
             update releases set state = 'live', ended_at = now() where state in ('queued', 'running'); \
             update deployments set state = 'running'",
        )
        .await;
    }
}

#[tokio::test]
async fn an_expired_secret_shows_on_its_deployments_and_stops_their_next_start() {
    let world = World::new().await;
    let ada = world.user("ada").await;
    let (key, name, deployment) = running(&world, &ada, Uuid::now_v7()).await;
    let shown = world.db.deployment_show(&ada, &name).await.unwrap();
    assert_eq!(shown.bindings[0].unusable, None);
    world
        .sql(&format!(
            "update secrets set expires_at = now() - interval '1 hour' where id = '{key}'"
        ))
        .await;
    for step in [0, 1] {
        assert_eq!(world.db.caretaker_step().await.unwrap(), 1 - step);
        let shown = world.db.deployment_show(&ada, &name).await.unwrap();
        let unusable = shown.bindings[0].unusable.as_deref();
        assert_eq!(unusable, Some("has expired"));
        let opened = world.db.bindings_open(deployment, id(&ada), 1).await;
        let said = refusal(opened).detail;
        assert_eq!(said, "KEY needs the secret KEY, which has expired.");
    }
}

#[tokio::test]
async fn a_destroyed_version_stops_the_next_start_of_its_release_and_retention_spares_it() {
    let world = World::new().await;
    let ada = world.user("ada").await;
    let (key, name, deployment) = running(&world, &ada, Uuid::now_v7()).await;
    for expected in 1..4 {
        let value = NewValue::Typed(SecretString::from("another value"));
        let replaced = world.db.secret_replace(&ada, key, expected, value).await;
        replaced.unwrap();
    }
    world
        .sql("alter table users disable trigger users_guard; update users set is_admin = true")
        .await;
    let none = VersionsKept::new(Some(0), None).unwrap();
    world.db.versions_keep(&ada, none).await.unwrap();
    assert_eq!(world.db.retention_step().await.unwrap(), 2);
    let whole = "secret_versions where destroyed_at is null";
    assert_eq!(world.count(whole).await, 2);
    // A release that runs starts again with its own version.
    let opened = world.db.bindings_open(deployment, id(&ada), 1).await;
    assert_eq!(
        opened.unwrap().secrets[0].expose_secret(),
        "the first value"
    );
    // A person may destroy it all the same; then the start says so, and a redeploy takes the newest.
    world.db.secret_version_destroy(&ada, key, 1).await.unwrap();
    let opened = world.db.bindings_open(deployment, id(&ada), 1).await;
    let said = refusal(opened).detail;
    assert!(said.contains("was destroyed"), "{said}");
    assert!(said.contains("Redeploy"), "{said}");
    world.db.deployment_redeploy(&ada, &name).await.unwrap();
    let opened = world.db.bindings_open(deployment, id(&ada), 2).await;
    assert_eq!(opened.unwrap().secrets[0].expose_secret(), "another value");
    let path = SecretPath::parse("KEY").unwrap();
    assert!(world.db.secret_show(&ada, &own(&ada), &path).await.is_ok());
}

#[tokio::test]
async fn what_sealport_generated_is_generated_anew_and_what_runs_with_it_redeployed() {
    let world = World::new().await;
    let (ada, bob) = (world.user("ada").await, world.user("bob").await);
    let (key, name, deployment) = running(&world, &ada, Uuid::now_v7()).await;
    let stopped = world
        .deployment(&ada, "stopped", vec![secret("KEY", key)])
        .await;
    world.db.deployment_stop(&ada, &stopped).await.unwrap();
    let rule = RotationRule::new(30, true).unwrap();
    world.db.rotation_set(&ada, key, Some(rule)).await.unwrap();
    let aged = "update secret_versions set created_at = now() - interval '31 days'";
    world.sql(aged).await;
    // Typed by a person: only reminded of.
    assert_eq!(world.db.caretaker_step().await.unwrap(), 0);
    assert_eq!(world.db.secrets_due(&ada).await.unwrap().len(), 1);
    assert!(world.db.secrets_due(&bob).await.unwrap().is_empty());

    let generated = NewValue::generated(48);
    let replaced = world.db.secret_replace(&ada, key, 1, generated).await;
    replaced.unwrap();
    assert_eq!(world.db.caretaker_step().await.unwrap(), 0);
    world.sql(aged).await;
    assert!(world.db.secrets_due(&ada).await.unwrap().is_empty());
    let (one, other) = tokio::join!(world.db.caretaker_step(), world.db.caretaker_step());
    assert_eq!(one.unwrap() + other.unwrap(), 1);

    let shown = world.db.deployment_show(&ada, &name).await.unwrap();
    let newest = &shown.releases[0];
    assert_eq!((newest.number, newest.state), (2, ReleaseState::Queued));
    assert_eq!(newest.created_by, "caretaker");
    let other = world.db.deployment_show(&ada, &stopped).await.unwrap();
    assert_eq!(other.summary.release, 1, "what is stopped stays stopped");
    let opened = world.db.bindings_open(deployment, id(&ada), 2).await;
    let value = opened.unwrap().secrets.remove(0);
    // As long as it was.
    assert_eq!(value.expose_secret().len(), 64);
    let path = SecretPath::parse("KEY").unwrap();
    let versions = world
        .db
        .secret_show(&ada, &own(&ada), &path)
        .await
        .unwrap()
        .versions;
    let made = (versions[0].version, versions[0].generated);
    assert_eq!(made, (3, true));
    assert_eq!(versions[0].created_by, "caretaker");
    let row = |outcome: &str, reason: &str| {
        let row = ["job", outcome, reason];
        row.map(str::to_owned).into()
    };
    let replaced = world.record("secret.replace").await;
    assert_eq!(replaced.last(), Some(&row("done", "its rotation was due")));
    let redeployed = world.record("deployment.redeploy").await;
    assert_eq!(redeployed, [row("done", "a secret was rotated")]);
}
