//! Running an older release's code again: the commit of then, with the values of now.

use sealport::model::actors::Caller;
use sealport::model::deployments::{DeploymentDetail, ReleaseState};
use sealport::model::errors::RefusalKind;
use sealport::model::grants::Shareable;
use sealport::model::levels::Level;
use sealport::model::paths::DeploymentName;
use sealport::model::sources::Source;
use sealport::store::deployment_changes::DeploymentChange;
use sealport::store::secrets::NewValue;
use secrecy::SecretString;

use crate::fakes::render::FailAt;
use crate::house::House;
use crate::world::secret;

const OLD: &str = "sk-canary-1vQ8ZrT6mB3cKx9";
const NEW: &str = "sk-canary-7pW4LnD2sJ5fHy0";
const THEN: &str = "0123456789abcdef0123456789abcdef01234567";
const SINCE: &str = "89abcdef0123456789abcdef0123456789abcdef";

async fn ended(house: &House, name: &DeploymentName, release: i32) -> DeploymentDetail {
    let over = |detail: &DeploymentDetail| {
        let newest = &detail.releases[0];
        newest.number == release && newest.ended_at.is_some()
    };
    house.until(name, "ended a release", over).await
}

async fn refused(house: &House, caller: &Caller, name: &DeploymentName, of: i32) -> RefusalKind {
    let tried = house.deployer.run_again(caller, name, of).await;
    tried.unwrap_err().kind
}

#[tokio::test]
async fn older_code_runs_again_with_the_values_of_now() {
    let house = House::new().await;
    house.render.state().head = THEN.into();
    let bound = house.world.secret(&house.ada, "SHOP_KEY", OLD).await;
    let mut spec = house.spec("crawl", vec![secret("SHOP_KEY", bound)]);
    let source =
        |commit: &str| Source::parse(&format!("git:https://git.example/ada/shop#{commit}"));
    spec.source = source(THEN).unwrap();
    spec.start.command = vec!["index.js".into()];
    let name = house.deploy_as(&spec).await;
    let served = house
        .serve_when(|house| {
            let state = house.render.state();
            let mut deploys = state.services.first()?.deploys.iter();
            Some(deploys.find(|one| one.asked.is_some())?.env.clone())
        })
        .await;
    let detail = ended(&house, &name, 1).await;
    assert_eq!(detail.releases[0].commit.as_deref(), Some(THEN));

    let db = &house.world.db;
    let new = NewValue::Typed(SecretString::from(NEW));
    db.secret_replace(&house.ada, bound, 1, new).await.unwrap();
    house.render.state().head = SINCE.into();
    let change = DeploymentChange {
        source: Some((source(SINCE).unwrap(), spec.start.clone())),
        ..DeploymentChange::default()
    };
    db.deployment_change(&house.ada, &name, &change)
        .await
        .unwrap();
    house.deployer.wake();
    let detail = ended(&house, &name, 2).await;
    assert_eq!(detail.releases[0].commit.as_deref(), Some(SINCE));

    let begun = house
        .deployer
        .run_again(&house.ada, &name, 1)
        .await
        .unwrap();
    assert_eq!(begun.release, 3);
    let detail = ended(&house, &name, 3).await;
    let release = &detail.releases[0];
    assert_eq!(release.state, ReleaseState::Live, "{release:?}");
    assert_eq!(
        (release.commit.as_deref(), release.code_of),
        (Some(THEN), Some(1))
    );
    assert_eq!(release.versions[0].1, 2, "{release:?}");
    {
        let state = house.render.state();
        let deploy = state.services[0].deploys.last().unwrap();
        assert_eq!(
            (deploy.commit.as_str(), deploy.env["SHOP_KEY"].as_str()),
            (THEN, NEW)
        );
        // With the one that a service begins with.
        assert_eq!(state.services[0].deploys.len(), 4);
    }
    // The provider's own would bring back the variables of then.
    let lines = house.render.wire.lines();
    assert!(
        !lines.iter().any(|line| line.contains("rollback")),
        "{lines:?}"
    );
    let record = house.world.record("deployment.redeploy").await;
    let reasons: Vec<&str> = record.iter().map(|row| row.2.as_str()).collect();
    assert_eq!(reasons, ["with the code of an older release"]);

    // The next one builds what the source names again.
    house.deployer.redeploy(&house.ada, &name).await.unwrap();
    let detail = ended(&house, &name, 4).await;
    assert_eq!(detail.releases[0].commit.as_deref(), Some(SINCE));
    let shown = format!(
        "{detail:?} {:?} {}",
        house.log(&name).await,
        house.world.dump().await
    );
    assert!(!shown.contains(OLD) && !shown.contains(NEW));
    drop(served);
    house.end().await;
}

#[tokio::test]
async fn what_cannot_run_again_is_refused_before_anything_is_made() {
    let house = House::new().await;
    let name = house.deploy("crawl", vec![]).await;
    let served = house.serve().await;
    ended(&house, &name, 1).await;
    house.render.state().fail_at = Some(FailAt::Build);
    house.deployer.redeploy(&house.ada, &name).await.unwrap();
    ended(&house, &name, 2).await;
    let bob = house.world.user("bob").await;
    assert_eq!(refused(&house, &bob, &name, 1).await, RefusalKind::NotFound);
    let of = Shareable::Deployment { name: name.clone() };
    let db = &house.world.db;
    db.share(&house.ada, &of, "bob", Level::Write, &[])
        .await
        .unwrap();
    assert_eq!(refused(&house, &bob, &name, 1).await, RefusalKind::Denied);
    for (of, kind) in [
        // Of an image no commit is known; what failed has no code worth running; and there is no ninth.
        (1, RefusalKind::Conflict),
        (2, RefusalKind::Conflict),
        (9, RefusalKind::NotFound),
    ] {
        assert_eq!(refused(&house, &house.ada, &name, of).await, kind, "{of}");
    }
    house
        .world
        .sql(&format!(
            "alter table releases no force row level security; \
             update releases set commit = '{THEN}', built_from = 'git:https://git.example/other#1234567' where number = 1; \
             alter table releases force row level security"
        ))
        .await;
    let tried = house.deployer.run_again(&house.ada, &name, 1).await;
    let says = tried.unwrap_err().detail;
    assert!(says.contains("built from another repository"), "{says}");
    assert_eq!(house.show(&name).await.releases.len(), 2);
    drop(served);
    house.end().await;
}
