//! Where a secret runs, and redeploying all that run an older value of it.

use sealport::model::actors::Caller;
use sealport::model::deployments::{DeploymentState, ReleaseState};
use sealport::model::errors::RefusalKind;
use sealport::model::grants::Shareable;
use sealport::model::levels::Level;
use sealport::model::paths::{DeploymentName, SecretPath};
use sealport::model::renewals::SecretRun;
use sealport::store::secrets::{NewValue, SecretEdit};
use secrecy::SecretString;
use uuid::Uuid;

use crate::world::{World, assert_refused, own, secret};

/// Ann's secret, which two deployments of hers and one of Bob's run.
struct Shared {
    world: World,
    ann: Caller,
    bob: Caller,
    secret: Uuid,
    bobs: DeploymentName,
    holder: Uuid,
}

impl Shared {
    async fn new() -> Shared {
        let world = World::new().await;
        let (ann, bob) = (world.user("ann").await, world.user("bob").await);
        let id = world.secret(&ann, "KEY", "the first value").await;
        let of = Shareable::Secret { id };
        let given = world.db.share(&ann, &of, "bob", Level::Use, &[]).await;
        given.unwrap();
        let it = Shared {
            bobs: DeploymentName::parse("bobs").unwrap(),
            holder: Uuid::now_v7(),
            world,
            ann,
            bob,
            secret: id,
        };
        for (owner, name) in [(&it.ann, "crawl"), (&it.ann, "shop"), (&it.bob, "bobs")] {
            let bound = vec![secret("KEY", id), secret("ALSO_KEY", id)];
            it.world.running(owner, name, bound).await;
        }
        it.world.lapse().await;
        it
    }

    /// Takes the oldest queued release through its start to its end.
    async fn release(&self, end: ReleaseState) -> String {
        let task = self.world.claim(self.holder).await;
        let db = &self.world.db;
        let opened = db.bindings_open(task.deployment_id, task.owner_id, task.number);
        opened.await.unwrap();
        let reason = (end == ReleaseState::Failed).then_some("It did not answer.");
        db.release_end(&task, end, reason).await.unwrap();
        task.name
    }

    async fn replace(&self, value: &str) {
        let value = NewValue::Typed(SecretString::from(value));
        let replaced = self
            .world
            .db
            .secret_replace(&self.ann, self.secret, 1, value);
        replaced.await.unwrap();
    }

    async fn runs(&self, caller: &Caller) -> (Vec<SecretRun>, i64) {
        let (owner, path) = (own(&self.ann), SecretPath::parse("KEY").unwrap());
        let shown = self.world.db.secret_show(caller, &owner, &path).await;
        let shown = shown.unwrap();
        let alone = self
            .world
            .db
            .secret_runs(caller, self.secret)
            .await
            .unwrap();
        assert_eq!(shown.runs, alone);
        (shown.runs, shown.runs_hidden)
    }

    async fn run(&self, name: &str) -> SecretRun {
        let (runs, _) = self.runs(&self.ann).await;
        let mut runs = runs.into_iter();
        runs.find(|run| run.deployment.as_str() == name).unwrap()
    }

    async fn redeploys(&self) -> Vec<(String, String)> {
        let rows = self.world.record("deployment.redeploy").await.into_iter();
        rows.map(|(_, outcome, reason)| (outcome, reason)).collect()
    }
}

fn names(runs: &[SecretRun]) -> Vec<&str> {
    runs.iter().map(|run| run.deployment.as_str()).collect()
}

#[tokio::test]
async fn a_secret_says_where_it_runs_as_far_as_one_may_see() {
    let it = Shared::new().await;
    let (runs, hidden) = it.runs(&it.ann).await;
    assert_eq!((names(&runs), hidden), (vec!["crawl", "shop"], 1));
    let run = &runs[0];
    assert_eq!((run.version, run.is_current), (Some(1), true));
    assert_eq!(run.state, DeploymentState::Running);
    assert_eq!(run.level, Level::Admin);
    // How many others' there are is for those with `admin`.
    let (runs, hidden) = it.runs(&it.bob).await;
    assert_eq!((names(&runs), hidden), (vec!["bobs"], 0));

    let name = it.bobs.clone();
    let of = Shareable::Deployment { name };
    let db = &it.world.db;
    db.share(&it.bob, &of, "ann", Level::Use, &[])
        .await
        .unwrap();
    assert_eq!(it.runs(&it.ann).await.1, 1, "`use` alone shows no binding");
    db.share(&it.bob, &of, "ann", Level::Read, &[])
        .await
        .unwrap();
    let (runs, hidden) = it.runs(&it.ann).await;
    // What one may redeploy comes first.
    assert_eq!((names(&runs), hidden), (vec!["crawl", "shop", "bobs"], 0));
    // What is stopped runs nothing.
    db.deployment_stop(&it.bob, &it.bobs).await.unwrap();
    assert_eq!(names(&it.runs(&it.ann).await.0), ["crawl", "shop"]);

    let eve = it.world.user("eve").await;
    let none = db.secret_runs(&eve, it.secret).await;
    assert_refused(none, RefusalKind::NotFound, None);
}

#[tokio::test]
async fn all_that_run_an_older_value_are_redeployed_at_once_and_what_one_may_not_is_named() {
    let it = Shared::new().await;
    let db = &it.world.db;
    let name = it.bobs.clone();
    let of = Shareable::Deployment { name };
    db.share(&it.bob, &of, "ann", Level::Read, &[])
        .await
        .unwrap();
    let none = db.redeploy_using(&it.ann, it.secret).await.unwrap();
    assert_eq!((none.begun.len(), none.skipped.len()), (0, 0), "{none:?}");
    assert_eq!(it.redeploys().await, []);

    it.replace("the second value").await;
    assert!(it.run("shop").await.is_older());
    let renewed = db.redeploy_using(&it.ann, it.secret).await.unwrap();
    let begun = renewed
        .begun
        .iter()
        .map(|it| (it.name.as_str(), it.release));
    let begun: Vec<_> = begun.collect();
    assert_eq!(begun, [("crawl", 2), ("shop", 2)]);
    assert_eq!(renewed.skipped.len(), 1, "{renewed:?}");
    assert_eq!(renewed.skipped[0].deployment, it.bobs);
    assert!(
        renewed.skipped[0].why.contains("takes write"),
        "{renewed:?}"
    );
    assert!(!renewed.more);
    let why = "it ran an older value of a secret";
    let (done, refused) = (("done", why), ("refused", "level too low on a deployment"));
    let expected = [done, done, refused].map(|(one, two)| (one.to_owned(), two.to_owned()));
    assert_eq!(it.redeploys().await, expected);

    // What is under way is not asked for twice.
    let again = db.redeploy_using(&it.ann, it.secret).await.unwrap();
    assert_eq!((again.begun.len(), again.skipped.len()), (0, 1));
    let crawl = it.run("crawl").await;
    assert!(crawl.is_under_way() && !crawl.is_older());
    assert_eq!((crawl.version, crawl.is_current), (Some(1), false));

    assert_eq!(it.release(ReleaseState::Live).await, "crawl");
    let crawl = it.run("crawl").await;
    assert_eq!((crawl.version, crawl.is_current), (Some(2), true));
    assert_eq!(crawl.renewal.unwrap().state, ReleaseState::Live);
    assert_eq!(it.release(ReleaseState::Failed).await, "shop");
    let shop = it.run("shop").await;
    assert_eq!((shop.state, shop.version), (DeploymentState::Failed, None));
    let renewal = shop.renewal.unwrap();
    assert_eq!((renewal.release, renewal.state), (2, ReleaseState::Failed));
    assert_eq!(renewal.reason.as_deref(), Some("It did not answer."));

    // With `use` of the secret one renews one's own.
    let renewed = db.redeploy_using(&it.bob, it.secret).await.unwrap();
    assert_eq!(renewed.begun.len(), 1);
    assert_eq!(renewed.begun[0].name, it.bobs);
}

#[tokio::test]
async fn what_nobody_can_use_and_what_is_out_of_sight_redeploys_nothing() {
    let it = Shared::new().await;
    let db = &it.world.db;
    it.replace("the second value").await;
    let eve = it.world.user("eve").await;
    let tried = db.redeploy_using(&eve, it.secret).await;
    assert_refused(tried, RefusalKind::NotFound, None);
    let off = SecretEdit {
        active: Some(false),
        ..SecretEdit::default()
    };
    db.secret_edit(&it.ann, it.secret, off).await.unwrap();
    let tried = db.redeploy_using(&it.ann, it.secret).await;
    assert_refused(tried, RefusalKind::Conflict, None);
    let refused = ("refused".to_owned(), "no such secret".to_owned());
    assert_eq!(it.redeploys().await, [refused]);
    assert_eq!(it.world.count("releases").await, 3);
}
