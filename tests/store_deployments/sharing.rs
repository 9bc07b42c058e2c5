//! Deployments that are shared or a team's: who reaches what of them, and what happens when a right to a bound secret ends.

use sealport::model::actors::Caller;
use sealport::model::deployments::{DeploymentState, ReleaseState};
use sealport::model::errors::RefusalKind;
use sealport::model::grants::Shareable;
use sealport::model::levels::Level;
use sealport::model::paths::{DeploymentName, Handle, SecretPath};
use sealport::store::releases::ReleaseTask;
use sealport::store::secrets::{NewSecret, NewValue};
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

use crate::world::{World, assert_refused, own, refusal, secret, spec, text};

fn handle(text: &str) -> Handle {
    Handle::parse(text).unwrap()
}

fn of_secret(id: Uuid) -> Shareable {
    Shareable::Secret { id }
}

fn of_deployment(name: &DeploymentName) -> Shareable {
    Shareable::Deployment { name: name.clone() }
}

impl World {
    async fn end(&self, task: &ReleaseTask, state: ReleaseState) {
        self.db.release_end(task, state, None).await.unwrap();
    }

    /// Whether it is said on the deployment's page that its owner may not use what is bound, and on the secret's.
    async fn flagged(
        &self,
        name: &DeploymentName,
        by: &Caller,
        id: Uuid,
        owner: &Caller,
    ) -> (bool, bool) {
        let shown = self.db.deployment_show(by, name).await.unwrap();
        let list = self
            .db
            .secrets_list(owner, "", Default::default(), 50)
            .await
            .unwrap();
        let row = list.into_iter().find(|row| row.id == id).unwrap();
        let page = self
            .db
            .secret_show(owner, &handle(&row.owner), &row.path)
            .await
            .unwrap();
        let on_secret = page
            .lost_by
            .iter()
            .any(|bound| bound.deployment == name.as_str());
        (
            shown.bindings.iter().any(|binding| binding.lost.is_some()),
            on_secret,
        )
    }
}

#[tokio::test]
async fn a_level_on_a_deployment_opens_what_it_says() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let db = &world.db;
    let key = world.secret(&ann, "KEY", "a value to keep").await;
    let name = world
        .deployment(
            &ann,
            "weather",
            vec![secret("KEY", key), text("MODE", "fast")],
        )
        .await;
    assert_refused(
        db.deployment_show(&bob, &name).await,
        RefusalKind::NotFound,
        None,
    );
    let mut token = None;
    for level in Level::ALL {
        db.share(&ann, &of_deployment(&name), "bob", level, &[])
            .await
            .unwrap();
        let shown = db.deployment_show(&bob, &name).await.unwrap();
        assert_eq!(shown.summary.level, level);
        assert_eq!(db.deployments_list(&bob).await.unwrap()[0].level, level);
        let reads = level >= Level::Read;
        assert_eq!(
            (
                shown.bindings.len(),
                !shown.releases.is_empty(),
                shown.start.command.is_empty()
            ),
            (if reads { 2 } else { 0 }, reads, !reads),
            "{level:?}"
        );
        // Whoever sees the page without a right to the secret is not told that it is lost.
        assert!(shown.bindings.iter().all(|binding| binding.lost.is_none()));
        assert_eq!(db.log_read(&bob, &name, None, 10).await.is_ok(), reads);
        for acted in [
            db.deployment_redeploy(&bob, &name).await.map(drop),
            db.deployment_stop(&bob, &name).await,
            db.deployment_start(&bob, &name).await.map(drop),
        ] {
            assert_eq!(acted.is_ok(), level >= Level::Write, "{level:?}");
        }
        let wrong = refusal(db.deployment_destroy(&bob, &name, "not the name").await);
        let kind = if level == Level::Admin {
            RefusalKind::Invalid
        } else {
            RefusalKind::Denied
        };
        assert_eq!(wrong.kind, kind, "{level:?}");
        assert_eq!(
            db.reachers(&bob, &of_deployment(&name)).await.is_ok(),
            level == Level::Admin
        );
        let made = db
            .gateway_token_create(&bob, &name, "mine", None)
            .await
            .unwrap();
        token = Some(SecretString::from(made.token));
    }
    // A token reaches as far as its maker does at that moment.
    let token = token.unwrap();
    db.gateway_open(&token, "weather", &bob.origin, true)
        .await
        .unwrap();
    let grant = db
        .reachers(&ann, &of_deployment(&name))
        .await
        .unwrap()
        .grants[0]
        .id;
    db.unshare(&ann, grant).await.unwrap();
    assert_refused(
        db.gateway_open(&token, "weather", &bob.origin, true)
            .await
            .map(drop),
        RefusalKind::Unauthenticated,
        None,
    );
    assert_refused(
        db.deployment_show(&bob, &name).await,
        RefusalKind::NotFound,
        None,
    );
    assert!(db.deployments_list(&bob).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_right_that_is_taken_back_is_flagged_to_both_and_stops_the_next_start() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let db = &world.db;
    let key = world
        .secret(&ann, "project/shop/KEY", "a value to keep")
        .await;
    let asked = spec("weather", vec![secret("KEY", key)]);
    assert_refused(
        db.deployment_create(&bob, None, &asked).await,
        RefusalKind::Denied,
        Some("bindings.KEY"),
    );
    let only = [DeploymentName::parse("other").unwrap()];
    let grant = db
        .share(&ann, &of_secret(key), "bob", Level::Use, &only)
        .await
        .unwrap();
    // Narrowed to another deployment, it is seen and not bound here.
    assert_refused(
        db.deployment_create(&bob, None, &asked).await,
        RefusalKind::Denied,
        Some("bindings.KEY"),
    );
    let only = [DeploymentName::parse("weather").unwrap()];
    db.share(&ann, &of_secret(key), "bob", Level::Use, &only)
        .await
        .unwrap();
    let name = db.deployment_create(&bob, None, &asked).await.unwrap();
    let task = world.claim(Uuid::now_v7()).await;
    let opened = db
        .bindings_open(task.deployment_id, task.owner_id, 1)
        .await
        .unwrap();
    assert_eq!(opened.environment[0].1.expose_secret(), "a value to keep");
    world.end(&task, ReleaseState::Live).await;
    assert_eq!(world.flagged(&name, &bob, key, &ann).await, (false, false));

    db.unshare(&ann, grant).await.unwrap();
    let shown = db.deployment_show(&bob, &name).await.unwrap();
    assert_eq!(
        shown.summary.state,
        DeploymentState::Running,
        "what runs, runs on"
    );
    assert_eq!(shown.bindings[0].lost.as_deref(), Some("project/shop/KEY"));
    assert_eq!(world.flagged(&name, &bob, key, &ann).await, (true, true));
    let refused = refusal(db.bindings_open(task.deployment_id, task.owner_id, 1).await);
    assert!(
        refused.detail.contains(
            "KEY needs the secret project/shop/KEY, which is gone, or not yours to use any more"
        ),
        "{refused}"
    );
    let record = world.record("secret.bind").await;
    assert_eq!(
        record.last().unwrap().2,
        "the secret is gone or no longer usable"
    );

    // Given again, it opens again.
    db.share(&ann, &of_secret(key), "bob", Level::Read, &[])
        .await
        .unwrap();
    db.bindings_open(task.deployment_id, task.owner_id, 1)
        .await
        .unwrap();
    assert_eq!(world.flagged(&name, &bob, key, &ann).await, (false, false));
}

#[tokio::test]
async fn a_teams_deployment_binds_what_the_actor_and_the_team_may_use() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let db = &world.db;
    let ops = handle("ops");
    db.team_create(&ann, &ops).await.unwrap();
    db.team_member_set(&ann, &ops, "bob", Level::Write)
        .await
        .unwrap();
    let teams = NewSecret {
        tags: Vec::new(),
        owner: Some(ops.clone()),
        path: SecretPath::parse("TEAM_KEY").unwrap(),
        value: NewValue::Typed(SecretString::from("the team's value")),
        kind: Default::default(),
        description: String::new(),
        expires_at: None,
    };
    let teams = db.secret_create(&bob, teams).await.unwrap();
    let anns = world.secret(&ann, "ANNS_KEY", "ann's value").await;
    let mut asked = spec(
        "ops-server",
        vec![secret("TEAM", teams), secret("OWN", anns)],
    );
    asked.owner = Some(ops.clone());
    // Ann may use both; the team may not use hers.
    let refused = refusal(db.deployment_create(&ann, None, &asked).await);
    assert_eq!(
        (refused.kind, refused.field.as_deref()),
        (RefusalKind::Denied, Some("bindings.OWN"))
    );
    db.share(&ann, &of_secret(anns), "ops", Level::Use, &[])
        .await
        .unwrap();
    // It takes an admin of the team.
    assert_refused(
        db.deployment_create(&bob, None, &asked).await,
        RefusalKind::Denied,
        Some("owner"),
    );
    let refused = ("user", "refused", "no right to the owner");
    let record = world.record("deployment.create").await;
    assert!(
        record
            .iter()
            .any(|row| (row.0.as_str(), row.1.as_str(), row.2.as_str()) == refused),
        "{record:?}"
    );
    let name = db.deployment_create(&ann, None, &asked).await.unwrap();
    let shown = db.deployment_show(&bob, &name).await.unwrap();
    assert_eq!(
        (shown.summary.owner.as_str(), shown.summary.level),
        ("ops", Level::Write)
    );
    let task = world.claim(Uuid::now_v7()).await;
    let opened = db
        .bindings_open(task.deployment_id, task.owner_id, 1)
        .await
        .unwrap();
    assert_eq!(opened.secrets.len(), 2);
    world.end(&task, ReleaseState::Live).await;
    db.deployment_redeploy(&bob, &name).await.unwrap();

    // Its name is the team's for good.
    db.deployment_destroy(&ann, &name, "ops-server")
        .await
        .unwrap();
    let mut again = spec("ops-server", vec![]);
    assert_refused(
        db.deployment_create(&ann, None, &again).await,
        RefusalKind::Taken,
        Some("name"),
    );
    again.owner = Some(ops);
    db.deployment_create(&ann, None, &again).await.unwrap();
    assert_eq!(own(&bob).as_str(), "bob");
}
