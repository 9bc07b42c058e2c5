//! Holds, claims, fences, and how a release ends.

use std::collections::BTreeSet;

use sealport::model::actors::Actor;
use sealport::model::deployments::{DeploymentState, ReleaseState, StepName};
use sealport::model::errors::RefusalKind;
use sealport::model::paths::DeploymentName;
use sealport::model::sources::Source;
use sealport::model::targets::Target;
use sealport::store::db::begin_for_tests;
use sealport::store::releases::ReleaseTask;
use sealport::store::{DatabaseConfig, Db, KeySource};
use secrecy::SecretString;
use uuid::Uuid;

use crate::key_backup::administrator;
use crate::world::{World, assert_refused, spec};

#[tokio::test]
async fn a_release_is_claimed_once_by_whoever_holds_its_deployment() {
    let world = World::new().await;
    let ada = world.user("ada").await;
    let (one, other) = (Uuid::now_v7(), Uuid::now_v7());
    for name in ["first", "second", "third"] {
        world.deployment(&ada, name, vec![]).await;
    }
    assert!(
        world.db.release_claim(one).await.unwrap().is_none(),
        "claimed without a hold"
    );
    let held = world.db.deployments_hold(one, 60).await.unwrap();
    assert_eq!(held.len(), 3);
    assert!(
        held.iter()
            .all(|held| held.wanted && held.fence == 1 && held.live_release.is_none())
    );
    assert!(
        world
            .db
            .deployments_hold(other, 60)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(world.db.release_claim(other).await.unwrap().is_none());

    // Four at once: three get one each, in a row or side by side; nobody gets what another has.
    let db = &world.db;
    let (a, b, c, d) = tokio::join!(
        db.release_claim(one),
        db.release_claim(one),
        db.release_claim(one),
        db.release_claim(one)
    );
    let mut claimed: Vec<String> = [a, b, c, d]
        .into_iter()
        .filter_map(|claim| claim.unwrap())
        .map(|task| task.name)
        .collect();
    while let Some(task) = db.release_claim(one).await.unwrap() {
        claimed.push(task.name);
    }
    assert_eq!(claimed.len(), 3, "{claimed:?}");
    assert_eq!(
        claimed.iter().collect::<BTreeSet<_>>().len(),
        3,
        "{claimed:?}"
    );
}

#[tokio::test]
async fn a_late_servers_writes_are_refused() {
    let world = World::new().await;
    let ada = world.user("ada").await;
    let (late, next) = (Uuid::now_v7(), Uuid::now_v7());
    let name = world.deployment(&ada, "crawl", vec![]).await;
    let task = world.claim(late).await;
    world
        .db
        .release_step(&task, StepName::Fetch, "running", "")
        .await
        .unwrap();
    // Its own renewal keeps the fence.
    assert_eq!(
        world.db.deployments_hold(late, 60).await.unwrap()[0].fence,
        task.fence
    );
    world.lapse().await;
    assert_eq!(
        world.db.deployments_hold(late, 60).await.unwrap()[0].fence,
        task.fence
    );
    assert!(
        world.db.release_claim(late).await.unwrap().is_none(),
        "claimed its own work again"
    );

    world.lapse().await;
    let held = world.db.deployments_hold(next, 60).await.unwrap();
    assert_eq!(held[0].fence, task.fence + 1);
    assert!(
        world
            .db
            .deployments_hold(late, 60)
            .await
            .unwrap()
            .is_empty()
    );
    let db = &world.db;
    let conflict = RefusalKind::Conflict;
    let step = db
        .release_step(&task, StepName::Fetch, "done", "late")
        .await;
    assert_refused(step, conflict, None);
    assert_refused(
        db.release_end(&task, ReleaseState::Live, None).await,
        conflict,
        None,
    );
    let state = db
        .deployment_state(
            task.deployment_id,
            task.fence,
            None,
            DeploymentState::Failed,
            None,
        )
        .await;
    assert_refused(state, conflict, None);
    assert!(!db.release_wanted(&task).await.unwrap());
    assert!(world.record("release.end").await.is_empty());

    // The next server starts it over.
    let again = db.release_claim(next).await.unwrap().unwrap();
    assert_eq!((again.number, again.fence), (1, task.fence + 1));
    assert_eq!(again.source, task.source);
    let shown = db.deployment_show(&ada, &name).await.unwrap();
    assert!(
        shown.releases[0]
            .steps
            .iter()
            .all(|step| step.state == "waiting" && step.started_at.is_none())
    );
    assert_refused(
        db.release_end(&task, ReleaseState::Failed, None).await,
        conflict,
        None,
    );
    db.release_end(&again, ReleaseState::Live, None)
        .await
        .unwrap();
    let shown = db.deployment_show(&ada, &name).await.unwrap();
    assert_eq!(shown.summary.state, DeploymentState::Running);
}

#[tokio::test]
async fn a_release_that_is_interrupted_again_and_again_ends() {
    let world = World::new().await;
    let ada = administrator(&world, "ada").await;
    let name = world.deployment(&ada, "crawl", vec![]).await;
    let mut begun = 0;
    loop {
        let holder = Uuid::now_v7();
        world.db.deployments_hold(holder, 60).await.unwrap();
        let Some(task) = world.db.release_claim(holder).await.unwrap() else {
            break;
        };
        assert_eq!(task.number, 1);
        begun += 1;
        world.lapse().await;
    }
    assert_eq!(begun, 4);
    let shown = world.db.deployment_show(&ada, &name).await.unwrap();
    assert_eq!(shown.summary.state, DeploymentState::Failed);
    assert_eq!(shown.releases[0].state, ReleaseState::Failed);
    let why = shown.releases[0].reason.clone().unwrap();
    assert!(why.contains("begun 4 times"), "{why}");
    // A person may try again.
    let again = world.db.deployment_redeploy(&ada, &name).await.unwrap();
    assert_eq!(again, 2);
    world.lapse().await;
    assert!(world.claim(Uuid::now_v7()).await.anew);
}

#[tokio::test]
async fn a_release_goes_live_step_by_step() {
    let world = World::new().await;
    let ada = world.user("ada").await;
    let holder = Uuid::now_v7();
    let name = world.deployment(&ada, "crawl", vec![]).await;
    let task = world.claim(holder).await;
    let db = &world.db;
    assert!(db.release_wanted(&task).await.unwrap());
    for step in Target::Local.steps().iter().copied() {
        db.release_step(&task, step, "running", "").await.unwrap();
        db.release_step(&task, step, "done", "It\x1b[1m went\0 well")
            .await
            .unwrap();
    }
    // Said twice, a step keeps the time at which it first was done.
    let fetch = async || {
        let shown = db.deployment_show(&ada, &name).await.unwrap();
        shown.releases[0].steps[0].ended_at
    };
    let ended_at = fetch().await;
    db.release_step(&task, StepName::Fetch, "done", "It\x1b[1m went\0 well")
        .await
        .unwrap();
    assert_eq!(fetch().await, ended_at);
    db.release_end(&task, ReleaseState::Live, None)
        .await
        .unwrap();
    let shown = db.deployment_show(&ada, &name).await.unwrap();
    assert_eq!(shown.summary.state, DeploymentState::Running);
    assert_eq!(shown.releases[0].state, ReleaseState::Live);
    assert!(shown.releases[0].ended_at.is_some());
    for step in &shown.releases[0].steps {
        assert_eq!(step.state, "done");
        assert!(step.ended_at >= step.started_at && step.started_at.is_some());
        assert_eq!(step.detail, r"It\x1b[1m went\x00 well");
    }
    assert_eq!(
        world.record("release.end").await,
        [("job".into(), "done".into(), "live".into())]
    );
    // It runs: a start changes nothing, and what crashed waits for its restart.
    db.deployment_start(&ada, &name).await.unwrap();
    assert_eq!(world.count("releases").await, 1);
    let held = db.deployments_hold(holder, 60).await.unwrap();
    assert_eq!(
        (held[0].state, held[0].live_release),
        (DeploymentState::Running, Some(1))
    );
    let crashed = Some("It exited with code 1.");
    db.deployment_state(
        task.deployment_id,
        task.fence,
        Some(1),
        DeploymentState::Restarting,
        crashed,
    )
    .await
    .unwrap();
    // What is said of another release than the live one comes too late.
    let late = db.deployment_state(
        task.deployment_id,
        task.fence,
        Some(2),
        DeploymentState::Failed,
        None,
    );
    assert_refused(late.await, RefusalKind::Conflict, None);
    let shown = db.deployments_list(&ada).await.unwrap();
    assert_eq!(
        (shown[0].state, shown[0].reason.as_deref()),
        (DeploymentState::Restarting, crashed)
    );
}

#[tokio::test]
async fn a_failed_release_says_why_and_can_be_started_again() {
    let world = World::new().await;
    let ada = world.user("ada").await;
    let name = world.deployment(&ada, "crawl", vec![]).await;
    let holder = Uuid::now_v7();
    let task = world.claim(holder).await;
    let db = &world.db;
    db.release_step(&task, StepName::Start, "running", "")
        .await
        .unwrap();
    let why = Some("FIRECRAWL_API_KEY is missing.");
    db.release_end(&task, ReleaseState::Failed, why)
        .await
        .unwrap();
    let shown = db.deployment_show(&ada, &name).await.unwrap();
    assert_eq!(
        (shown.summary.state, shown.summary.reason.as_deref()),
        (DeploymentState::Failed, why)
    );
    assert_eq!(shown.releases[0].reason.as_deref(), why);
    assert_eq!(shown.releases[0].steps[2].state, "failed");
    assert!(
        db.release_claim(holder).await.unwrap().is_none(),
        "a failed release was claimed again"
    );

    db.deployment_start(&ada, &name).await.unwrap();
    let shown = db.deployment_show(&ada, &name).await.unwrap();
    assert_eq!(
        (shown.summary.state, shown.summary.reason),
        (DeploymentState::Deploying, None)
    );
    assert_eq!(world.claim(holder).await.number, 2);
}

#[tokio::test]
async fn a_stop_comes_before_a_release_under_way() {
    let world = World::new().await;
    let ada = world.user("ada").await;
    let name = world.deployment(&ada, "crawl", vec![]).await;
    let holder = Uuid::now_v7();
    let task = world.claim(holder).await;
    let db = &world.db;
    db.deployment_stop(&ada, &name).await.unwrap();
    assert!(!db.release_wanted(&task).await.unwrap());
    assert_refused(
        db.release_end(&task, ReleaseState::Live, None).await,
        RefusalKind::Conflict,
        None,
    );
    db.release_end(&task, ReleaseState::Superseded, None)
        .await
        .unwrap();
    let shown = db.deployment_show(&ada, &name).await.unwrap();
    assert_eq!(shown.releases[0].state, ReleaseState::Superseded);
    // Held until the supervisor has stopped what may be running, and then no more.
    let held = db.deployments_hold(holder, 60).await.unwrap();
    assert!(!held[0].wanted);
    db.deployment_state(
        task.deployment_id,
        task.fence,
        None,
        DeploymentState::Stopped,
        None,
    )
    .await
    .unwrap();
    let shown = db.deployment_show(&ada, &name).await.unwrap();
    assert_eq!(
        (shown.summary.state, shown.summary.reason),
        (DeploymentState::Stopped, None)
    );
    assert!(db.deployments_hold(holder, 60).await.unwrap().is_empty());
    assert!(db.release_claim(holder).await.unwrap().is_none());
    assert_eq!(world.record("deployment.stop").await.len(), 1);

    db.deployment_start(&ada, &name).await.unwrap();
    let task = world.claim(holder).await;
    assert_eq!(task.number, 2);
    // The word of a guest's end that comes late does not hide the release under way.
    let late = db.deployment_state(
        task.deployment_id,
        task.fence,
        None,
        DeploymentState::Stopped,
        None,
    );
    assert_refused(late.await, RefusalKind::Conflict, None);
    let shown = db.deployment_show(&ada, &name).await.unwrap();
    assert_eq!(shown.summary.state, DeploymentState::Deploying);
}

#[tokio::test]
async fn a_newer_release_comes_before_an_older() {
    let world = World::new().await;
    let ada = world.user("ada").await;
    let name = world.deployment(&ada, "crawl", vec![]).await;
    let holder = Uuid::now_v7();
    let older = world.claim(holder).await;
    let db = &world.db;
    let (one, other) = tokio::join!(
        db.deployment_redeploy(&ada, &name),
        db.deployment_redeploy(&ada, &name)
    );
    let mut numbers = [one.unwrap(), other.unwrap()];
    numbers.sort_unstable();
    assert_eq!(numbers, [2, 3]);
    assert!(!db.release_wanted(&older).await.unwrap());
    assert_refused(
        db.release_end(&older, ReleaseState::Failed, None).await,
        RefusalKind::Conflict,
        None,
    );
    let newest = db.release_claim(holder).await.unwrap().unwrap();
    assert_eq!(newest.number, 3);
    assert!(db.release_claim(holder).await.unwrap().is_none());
    db.release_end(&newest, ReleaseState::Live, None)
        .await
        .unwrap();
    let shown = db.deployment_show(&ada, &name).await.unwrap();
    let states: Vec<ReleaseState> = shown.releases.iter().map(|release| release.state).collect();
    assert_eq!(
        states,
        [
            ReleaseState::Live,
            ReleaseState::Superseded,
            ReleaseState::Superseded
        ]
    );
}

#[tokio::test]
async fn what_is_destroyed_is_held_and_written_no_more() {
    let world = World::new().await;
    let ada = world.user("ada").await;
    let name = world.deployment(&ada, "crawl", vec![]).await;
    let holder = Uuid::now_v7();
    let task = world.claim(holder).await;
    let db = &world.db;
    db.deployment_destroy(&ada, &name, "crawl").await.unwrap();
    assert!(!db.release_wanted(&task).await.unwrap());
    assert!(db.deployments_hold(holder, 60).await.unwrap().is_empty());
    assert_refused(
        db.release_end(&task, ReleaseState::Live, None).await,
        RefusalKind::Conflict,
        None,
    );
    assert_eq!(world.record("deployment.destroy").await.len(), 1);
}

#[tokio::test]
async fn a_server_that_stops_gives_up_its_holds() {
    let world = World::new().await;
    let ada = world.user("ada").await;
    world.deployment(&ada, "crawl", vec![]).await;
    let (one, other) = (Uuid::now_v7(), Uuid::now_v7());
    let task = world.claim(one).await;
    world.db.deployments_release_holds(other).await.unwrap();
    assert!(
        world
            .db
            .deployments_hold(other, 60)
            .await
            .unwrap()
            .is_empty()
    );
    world.db.deployments_release_holds(one).await.unwrap();
    let held = world.db.deployments_hold(other, 60).await.unwrap();
    assert_eq!(held[0].fence, task.fence + 1);
    assert!(!world.db.release_wanted(&task).await.unwrap());
    // One that knows itself to be alone need not wait for a dead one's holds.
    let third = Uuid::now_v7();
    assert!(
        world
            .db
            .deployments_hold(third, 60)
            .await
            .unwrap()
            .is_empty()
    );
    world.db.deployments_release_all_holds().await.unwrap();
    assert_eq!(
        world.db.deployments_hold(third, 60).await.unwrap()[0].fence,
        task.fence + 2
    );
}

#[tokio::test]
async fn a_directory_is_copied_anew_for_administrators_only() {
    let world = World::new().await;
    let root = administrator(&world, "root").await;
    let mut asked = spec("local", vec![]);
    asked.source = Source::parse("dir:/srv/tools").unwrap();
    let name = world.db.deployment_create(&root, None, &asked).await;
    let name = name.unwrap();
    let holder = Uuid::now_v7();
    let first = world.claim(holder).await;
    assert!(first.owner_is_administrator);
    let end = async |task: &ReleaseTask| {
        let ended = world.db.release_end(task, ReleaseState::Live, None).await;
        ended.unwrap();
    };
    end(&first).await;
    world.db.deployment_redeploy(&root, &name).await.unwrap();
    let sql = "set sealport.job = 'operator'; update users set is_admin = false";
    world.sql(sql).await;
    let mut former = root.clone();
    if let Actor::User(user) = &mut former.actor {
        user.is_admin = false;
    }
    // What an administrator asked for is done, also by the release that takes the place of theirs.
    world.db.deployment_redeploy(&former, &name).await.unwrap();
    let in_its_place = world.claim(holder).await;
    assert_eq!((in_its_place.number, in_its_place.anew), (3, true));
    end(&in_its_place).await;

    world.db.deployment_redeploy(&former, &name).await.unwrap();
    let refused = world.claim(holder).await;
    assert_eq!(
        (refused.anew, refused.owner_is_administrator),
        (false, false)
    );
}

#[tokio::test]
async fn requests_take_no_connection_from_the_hold() {
    let world = World::new().await;
    let ada = world.user("ada").await;
    world.deployment(&ada, "crawl", vec![]).await;
    let config = DatabaseConfig {
        max_connections: 1,
        ..DatabaseConfig::new(
            world.database.app_options.clone(),
            Some(world.database.owner_options.clone()),
        )
    };
    let key = SecretString::from("42".repeat(32));
    let db = Db::open(config, KeySource::Variable(key)).await.unwrap();
    // All that requests may have.
    let request = begin_for_tests(&db, &ada).await.unwrap();
    let held = db.deployments_hold(Uuid::now_v7(), 60).await.unwrap();
    assert_eq!(held.len(), 1);
    // Another request waits for one, and then hears why nothing came of it.
    let name = DeploymentName::parse("crawl").unwrap();
    let refused = db.deployment_show(&ada, &name).await.unwrap_err();
    let refused = refused.into_refusal();
    assert_eq!(refused.kind, RefusalKind::Unavailable, "{refused}");
    drop(request);
    db.deployment_show(&ada, &name).await.unwrap();
}

#[tokio::test]
async fn a_request_that_is_left_while_it_begins_leaves_no_transaction_open() {
    let world = World::new().await;
    let ada = world.user("ada").await;
    let open =
        "pg_stat_activity where datname = current_database() and state like 'idle in transaction%'";
    // Left at the first look, the second, and so on, wherever it waits then.
    for looks in 1..12 {
        let mut begun = Box::pin(begin_for_tests(&world.db, &ada));
        for _ in 0..looks {
            if futures::poll!(&mut begun).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(begun);
    }
    let all_closed = async {
        while world.count(open).await > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), all_closed)
        .await
        .expect("a transaction stays open");
}
