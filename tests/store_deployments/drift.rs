//! Which value runs where, and deployments that follow changes by themselves.

use sealport::model::actors::Caller;
use sealport::model::deployments::{DeploymentDetail, DeploymentState, ReleaseState};
use sealport::model::errors::RefusalKind;
use sealport::model::paths::{DeploymentName, SecretPath};
use sealport::store::secrets::{NewValue, SecretEdit};
use secrecy::SecretString;
use uuid::Uuid;

use crate::world::{World, assert_refused, id, own, secret};

struct Following {
    world: World,
    ada: Caller,
    secret: Uuid,
    name: DeploymentName,
    holder: Uuid,
}

impl Following {
    /// A deployment of Ada's that runs version 1 of its one secret.
    async fn new() -> Following {
        let world = World::new().await;
        let ada = world.user("ada").await;
        let secret_id = world.secret(&ada, "KEY", "the first value").await;
        let name = world
            .deployment(&ada, "crawl", vec![secret("KEY", secret_id)])
            .await;
        let made = Following {
            world,
            ada,
            secret: secret_id,
            name,
            holder: Uuid::now_v7(),
        };
        made.release(ReleaseState::Live).await;
        made
    }

    /// Takes the queued release through its start to its end.
    async fn release(&self, end: ReleaseState) {
        let task = self.world.claim(self.holder).await;
        self.world
            .db
            .bindings_open(task.deployment_id, task.owner_id, task.number)
            .await
            .unwrap();
        self.world.db.release_end(&task, end, None).await.unwrap();
    }

    async fn replace(&self, expected: i32, value: &str) {
        let value = NewValue::Typed(SecretString::from(value));
        self.world
            .db
            .secret_replace(&self.ada, self.secret, expected, value)
            .await
            .unwrap();
    }

    async fn shown(&self) -> DeploymentDetail {
        let db = &self.world.db;
        db.deployment_show(&self.ada, &self.name).await.unwrap()
    }

    /// Whether the deployment's page, its row in the list and the secret's page say that an older value runs.
    async fn is_older(&self) -> bool {
        let on_deployment = self.shown().await.bindings[0].is_older;
        let path = SecretPath::parse("KEY").unwrap();
        let db = &self.world.db;
        let shown = db.secret_show(&self.ada, &own(&self.ada), &path).await;
        let secret = shown.unwrap();
        assert_eq!(secret.runs.len(), 1);
        assert_eq!(secret.runs[0].is_current, !on_deployment);
        let rows = db.deployment_rows(&self.ada).await.unwrap();
        assert_eq!(rows[0].is_older, on_deployment);
        on_deployment
    }

    async fn step(&self) -> u64 {
        self.world.db.follow_step(self.holder).await.unwrap()
    }
}

#[tokio::test]
async fn an_older_value_is_said_and_a_value_set_again_is_not() {
    let it = Following::new().await;
    assert!(!it.is_older().await);
    it.replace(1, "the first value").await;
    assert!(!it.is_older().await, "the same value under a new version");
    it.replace(2, "another value").await;
    assert!(it.is_older().await);
    it.replace(3, "the first value").await;
    assert!(!it.is_older().await, "the first value, come back");
    // Nobody chose that it redeploys by itself.
    it.replace(4, "another value").await;
    assert_eq!(it.step().await, 0);
    assert_eq!(it.shown().await.releases.len(), 1);
}

#[tokio::test]
async fn one_that_follows_changes_is_redeployed_once_for_each_new_value() {
    let it = Following::new().await;
    let db = &it.world.db;
    db.deployment_follow(&it.ada, &it.name, true).await.unwrap();
    assert!(it.shown().await.follows_changes);
    assert_eq!(it.step().await, 0, "nothing changed");
    it.replace(1, "the first value").await;
    assert_eq!(it.step().await, 0, "the same value restarts nothing");

    it.replace(2, "another value").await;
    assert_eq!(it.step().await, 1);
    assert_eq!(it.step().await, 0, "a release is under way");
    it.release(ReleaseState::Live).await;
    assert!(!it.is_older().await);
    assert_eq!(it.step().await, 0);
    assert_eq!(
        it.world.record("deployment.redeploy").await,
        [(
            "deployment".into(),
            "done".into(),
            "a bound secret has a newer value".into()
        )]
    );

    // A value with which it fails is tried once; the next one again.
    it.replace(3, "a value that fails").await;
    assert_eq!(it.step().await, 1);
    it.release(ReleaseState::Failed).await;
    assert_eq!(it.step().await, 0, "it failed with this value");
    it.replace(4, "a better value").await;
    assert_eq!(it.step().await, 1);
    it.release(ReleaseState::Live).await;
    assert!(!it.is_older().await);

    // Neither a value that nobody can use, nor one of a deployment that is stopped.
    it.replace(5, "a value switched off").await;
    let off = |active| SecretEdit {
        active: Some(active),
        ..SecretEdit::default()
    };
    db.secret_edit(&it.ada, it.secret, off(false))
        .await
        .unwrap();
    assert_eq!(it.step().await, 0);
    db.secret_edit(&it.ada, it.secret, off(true)).await.unwrap();
    db.deployment_stop(&it.ada, &it.name).await.unwrap();
    assert_eq!(it.step().await, 0);
    db.deployment_start(&it.ada, &it.name).await.unwrap();
    it.release(ReleaseState::Live).await;
    assert_eq!(it.shown().await.summary.state, DeploymentState::Running);

    db.deployment_follow(&it.ada, &it.name, false)
        .await
        .unwrap();
    it.replace(6, "the last value").await;
    assert_eq!(it.step().await, 0);
}

#[tokio::test]
async fn another_server_and_another_person_have_no_part_in_it() {
    let it = Following::new().await;
    let db = &it.world.db;
    let bob = it.world.user("bob").await;
    let tried = db.deployment_follow(&bob, &it.name, true).await;
    assert_refused(tried, RefusalKind::NotFound, None);
    // With `write` one redeploys; that it happens by itself is for those with `admin`.
    it.world
        .sql(&format!(
            "insert into grants (id, owner_id, deployment_id, grantee_id, level, granted_by, granted_by_name)
             select gen_random_uuid(), owner_id, id, '{}', 3, owner_id, 'ada' from deployments",
            id(&bob)
        ))
        .await;
    let tried = db.deployment_follow(&bob, &it.name, true).await;
    assert_refused(tried, RefusalKind::Denied, None);
    assert!(!it.shown().await.follows_changes);
    db.deployment_follow(&it.ada, &it.name, true).await.unwrap();
    it.replace(1, "another value").await;
    assert_eq!(db.follow_step(Uuid::now_v7()).await.unwrap(), 0);
    assert_eq!(it.step().await, 1);
}
