//! Deployments at a provider: its key, what it has of them, and their end.

use sealport::model::actors::Caller;
use sealport::model::deployments::{Binding, DeploymentSpec, DeploymentState, ReleaseState};
use sealport::model::errors::RefusalKind;
use sealport::model::grants::Shareable;
use sealport::model::levels::Level;
use sealport::model::paths::DeploymentName;
use sealport::model::targets::{Placed, PlacedDeploy, Target};
use sealport::store::deployment_changes::DeploymentChange;
use sealport::store::releases::ReleaseTask;
use sealport::store::{DatabaseConfig, Db, KeySource};
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

use crate::world::{World, assert_refused, id, refusal, secret, spec};

fn at_render(name: &str, key: Option<Uuid>, bindings: Vec<Binding>) -> DeploymentSpec {
    DeploymentSpec {
        target: Target::Render,
        options: [("region".to_owned(), "frankfurt".to_owned())].into(),
        provider_key: key,
        ..spec(name, bindings)
    }
}

fn placed(release: i32) -> Placed {
    Placed {
        account: Some("tea-1".into()),
        service: Some("srv-1".into()),
        env_names: vec!["KEY".into()],
        deploy: Some(PlacedDeploy {
            release,
            id: "dep-1".into(),
        }),
        ..Placed::default()
    }
}

/// Ada's deployment at Render, with its first release claimed.
async fn claimed(world: &World, holder: Uuid) -> (Caller, DeploymentName, ReleaseTask) {
    let ada = world.user("ada").await;
    let key = world
        .secret(&ada, "meta/render/api_key", "rnd_the_key")
        .await;
    let spec = at_render("crawl", Some(key), vec![]);
    let name = world.db.deployment_create(&ada, None, &spec).await.unwrap();
    let task = world.claim(holder).await;
    (ada, name, task)
}

#[tokio::test]
async fn a_provider_is_reached_with_a_key_that_caller_and_owner_may_use() {
    let world = World::new().await;
    let (ada, bob) = (world.user("ada").await, world.user("bob").await);
    let (own, bobs) = (
        world.secret(&ada, "meta/render/api_key", "rnd_adas").await,
        world.secret(&bob, "meta/render/api_key", "rnd_bobs").await,
    );
    let create = async |spec: DeploymentSpec| world.db.deployment_create(&ada, None, &spec).await;
    assert_refused(
        create(at_render("crawl", None, vec![])).await,
        RefusalKind::Invalid,
        Some("key"),
    );
    let here = DeploymentSpec {
        target: Target::Local,
        ..at_render("crawl", Some(own), vec![])
    };
    assert_refused(create(here).await, RefusalKind::Invalid, Some("key"));
    let refused = create(at_render("crawl", Some(bobs), vec![])).await;
    assert_refused(refused, RefusalKind::Denied, Some("key"));
    assert_eq!(world.count("deployments").await, 0);
    create(at_render("crawl", Some(own), vec![])).await.unwrap();
    // The policy says the same, whatever the code would let through.
    world
        .sql(&format!(
            "set role sealport_server; set sealport.actor = '{}';
             do $$ begin
                 update deployments set provider_key = '{bobs}';
                 raise exception 'it was let through';
             exception when insufficient_privilege then null; end $$",
            id(&ada)
        ))
        .await;
}

#[tokio::test]
async fn a_release_knows_its_target_and_what_the_provider_has_already() {
    let world = World::new().await;
    let (first, next) = (Uuid::now_v7(), Uuid::now_v7());
    let (ada, name, task) = claimed(&world, first).await;
    assert_eq!(task.target, Target::Render);
    assert_eq!(task.options["region"], "frankfurt");
    assert_eq!(task.placed, Placed::default());
    let shown = world.db.deployment_show(&ada, &name).await.unwrap();
    let steps: Vec<_> = shown.releases[0]
        .steps
        .iter()
        .map(|step| step.name)
        .collect();
    assert_eq!(steps, Target::Render.steps());

    world.db.release_placed(&task, &placed(1)).await.unwrap();
    // The server is killed; another goes on with what is there.
    world.lapse().await;
    let held = world.db.deployments_hold(next, 60).await.unwrap();
    assert_eq!(
        (held[0].target, &held[0].placed),
        (Target::Render, &placed(1))
    );
    let again = world.db.release_claim(next).await.unwrap().unwrap();
    assert_eq!((again.number, &again.placed), (1, &placed(1)));
    // Too late to say anything else.
    let late = world.db.release_placed(&task, &Placed::default()).await;
    assert_refused(late, RefusalKind::Conflict, None);
    let shown = world.db.deployment_show(&ada, &name).await.unwrap();
    assert_eq!(shown.placed, placed(1));
    // Nobody but a supervisor says what a provider has, nor moves it somewhere else meanwhile.
    for change in ["placed = '{}'", "target = 'railway'", "destroying = true"] {
        let allowed = change.starts_with("destroying");
        world
            .sql(&format!(
                "set role sealport_server; set sealport.actor = '{}';
                 do $$ begin
                     update deployments set {change};
                     if not {allowed} then raise exception 'it was let through'; end if;
                 exception when insufficient_privilege then
                     if {allowed} then raise; end if;
                 end $$",
                id(&ada)
            ))
            .await;
    }
}

#[tokio::test]
async fn the_provider_s_key_opens_for_its_deployment_alone_and_on_record() {
    let world = World::new().await;
    let (_, _, task) = claimed(&world, Uuid::now_v7()).await;
    let open = async || {
        let opened = world
            .db
            .provider_key_open(task.deployment_id, task.owner_id);
        opened.await
    };
    assert_eq!(open().await.unwrap().expose_secret(), "rnd_the_key");
    let done = (
        "deployment".into(),
        "done".into(),
        "to reach the provider".into(),
    );
    assert_eq!(world.record("secret.bind").await, [done]);
    // Another's deployment, and one that is not there, open nothing.
    let bob = world.user("bob").await;
    let foreign = world
        .db
        .provider_key_open(task.deployment_id, id(&bob))
        .await;
    assert_refused(foreign, RefusalKind::NotFound, None);

    world.sql("update secrets set active = false").await;
    let refused = refusal(open().await);
    assert_eq!(refused.field.as_deref(), Some("key"));
    assert!(
        refused.detail.contains("key of Render is switched off"),
        "{refused}"
    );
    world
        .sql("delete from secret_versions; delete from secrets")
        .await;
    assert_refused(open().await, RefusalKind::NotFound, Some("key"));
    let reasons: Vec<String> = world
        .record("secret.bind")
        .await
        .into_iter()
        .map(|(_, outcome, _)| outcome)
        .collect();
    assert_eq!(reasons, ["done", "refused", "refused"]);
}

#[tokio::test]
async fn what_a_provider_has_goes_before_the_deployment_does() {
    let world = World::new().await;
    let holder = Uuid::now_v7();
    let (ada, name, task) = claimed(&world, holder).await;
    let db = &world.db;
    db.release_placed(&task, &placed(1)).await.unwrap();
    db.release_end(&task, ReleaseState::Live, None)
        .await
        .unwrap();
    let gone = db.deployment_destroy(&ada, &name, name.as_str()).await;
    assert!(!gone.unwrap());
    let rows = db.deployment_rows(&ada).await.unwrap();
    assert!(rows[0].destroying && rows[0].target == Target::Render);
    let shown = db.deployment_show(&ada, &name).await.unwrap();
    assert!(shown.destroying);
    for refused in [
        db.deployment_redeploy(&ada, &name).await,
        db.deployment_start(&ada, &name).await,
    ] {
        assert_refused(refused, RefusalKind::Conflict, None);
    }
    // Also after it is said to be stopped it is held, until nothing is left.
    db.deployment_state(
        task.deployment_id,
        task.fence,
        None,
        DeploymentState::Stopped,
        None,
    )
    .await
    .unwrap();
    let held = db.deployments_hold(holder, 60).await.unwrap();
    assert!(held[0].destroying && !held[0].wanted);
    world.lapse().await;
    db.deployments_hold(Uuid::now_v7(), 60).await.unwrap();
    assert_refused(
        db.deployment_destroyed(&held[0]).await,
        RefusalKind::Conflict,
        None,
    );
    let held = db.deployments_hold(holder, 60).await.unwrap();
    assert!(held.is_empty(), "another has it");
    world.lapse().await;
    let held = db.deployments_hold(holder, 60).await.unwrap();
    db.deployment_destroyed(&held[0]).await.unwrap();
    assert_eq!(world.count("deployments").await, 0);
    let record = world.record("deployment.destroy").await;
    assert_eq!(record.len(), 2, "{record:?}");
    assert_eq!(record[1].0, "job");
}

#[tokio::test]
async fn what_has_nothing_at_a_provider_goes_at_once() {
    let world = World::new().await;
    let (ada, name, _) = claimed(&world, Uuid::now_v7()).await;
    let gone = world
        .db
        .deployment_destroy(&ada, &name, name.as_str())
        .await;
    assert!(gone.unwrap());
    assert_eq!(world.count("deployments").await, 0);
}

#[tokio::test]
async fn a_list_tells_where_each_runs_and_what_ran_last() {
    let world = World::new().await;
    let (ada, _, task) = claimed(&world, Uuid::now_v7()).await;
    let db = &world.db;
    db.release_end(&task, ReleaseState::Failed, Some("It did not build."))
        .await
        .unwrap();
    let key = world.secret(&ada, "KEY", "a bound value").await;
    for name in ["zebra", "ant"] {
        world.deployment(&ada, name, vec![secret("KEY", key)]).await;
    }
    let told = async |caller: &Caller| -> Vec<_> {
        let rows = db.deployment_rows(caller).await.unwrap();
        rows.into_iter()
            .map(|row| {
                let last = row
                    .last
                    .map(|last| (last.number, last.state, last.created_by));
                (row.target, row.summary.name.to_string(), last)
            })
            .collect()
    };
    let of = |state: ReleaseState| Some((1, state, "ada".to_owned()));
    assert_eq!(
        told(&ada).await,
        [
            (Target::Local, "ant".to_owned(), of(ReleaseState::Queued)),
            (Target::Local, "zebra".to_owned(), of(ReleaseState::Queued)),
            (Target::Render, "crawl".to_owned(), of(ReleaseState::Failed)),
        ]
    );
    // Others see none of them, and with `use` alone no release.
    let bob = world.user("bob").await;
    assert!(told(&bob).await.is_empty());
    world
        .sql(&format!(
            "insert into grants (id, owner_id, grantee_id, deployment_id, level, granted_by, granted_by_name)
             select gen_random_uuid(), d.owner_id, '{}', d.id, 1, d.owner_id, 'ada' from deployments d where d.name = 'ant'",
            id(&bob)
        ))
        .await;
    assert_eq!(told(&bob).await, [(Target::Local, "ant".to_owned(), None)]);
}

#[tokio::test]
async fn the_gateway_s_key_is_one_s_own_and_outlives_the_master_key() {
    let world = World::new().await;
    let (ada, _, task) = claimed(&world, Uuid::now_v7()).await;
    let key = world.secret(&ada, "KEY", "a bound value").await;
    world
        .deployment(&ada, "other", vec![secret("KEY", key)])
        .await;
    let other = world
        .text("select id::text from deployments where name = 'other'")
        .await;
    let other = Uuid::parse_str(&other.unwrap()).unwrap();
    let first = world.db.gateway_key_open(task.deployment_id).await.unwrap();
    let others = world.db.gateway_key_open(other).await.unwrap();
    assert_ne!(first.expose_secret(), others.expose_secret());
    assert!(!world.dump().await.contains(first.expose_secret()));

    let both = SecretString::from(format!("{},{}", "42".repeat(32), "43".repeat(32)));
    let config = DatabaseConfig::new(
        world.database.app_options.clone(),
        Some(world.database.owner_options.clone()),
    );
    let db = Db::open(config.clone(), KeySource::Variable(both))
        .await
        .unwrap();
    world.db.close().await;
    db.master_key_rotate(|_| {}).await.unwrap();
    db.close().await;
    let new = SecretString::from("43".repeat(32));
    let db = Db::open(config, KeySource::Variable(new)).await.unwrap();
    let again = db.gateway_key_open(task.deployment_id).await.unwrap();
    assert_eq!(first.expose_secret(), again.expose_secret());
}

#[tokio::test]
async fn another_key_of_the_provider_asks_about_everything_bound() {
    let world = World::new().await;
    let (ada, bob) = (world.user("ada").await, world.user("bob").await);
    let key = world.secret(&ada, "meta/render/api_key", "rnd_adas").await;
    let bound = world.secret(&ada, "KEY", "a bound value").await;
    let spec = at_render("crawl", Some(key), vec![secret("KEY", bound)]);
    let db = &world.db;
    let name = db.deployment_create(&ada, None, &spec).await.unwrap();
    let bobs = world.secret(&bob, "meta/render/api_key", "rnd_bobs").await;
    let on = Shareable::Deployment { name: name.clone() };
    db.share(&ada, &on, "bob", Level::Admin, &[]).await.unwrap();
    let theirs = Shareable::Secret { id: bobs };
    db.share(&bob, &theirs, "ada", Level::Use, &[])
        .await
        .unwrap();
    let change = DeploymentChange {
        provider_key: Some(bobs),
        ..DeploymentChange::default()
    };
    // It would be sent to an account of bob's.
    let refused = db.deployment_change(&bob, &name, &change).await;
    assert_refused(refused, RefusalKind::Denied, Some("bindings.KEY"));
    db.deployment_change(&ada, &name, &change).await.unwrap();
}

#[tokio::test]
async fn while_it_is_destroyed_its_key_alone_can_be_another_and_its_row_stays() {
    let world = World::new().await;
    let (ada, name, task) = claimed(&world, Uuid::now_v7()).await;
    let db = &world.db;
    db.release_placed(&task, &placed(1)).await.unwrap();
    // The second lock: what a provider has is not forgotten by a mistake of ours.
    world
        .sql(&format!(
            "set role sealport_server; set sealport.actor = '{}'; delete from deployments",
            id(&ada)
        ))
        .await;
    assert_eq!(world.count("deployments").await, 1);
    db.deployment_destroy(&ada, &name, name.as_str())
        .await
        .unwrap();
    let other = world.secret(&ada, "meta/render/other", "rnd_other").await;
    let change = DeploymentChange {
        provider_key: Some(other),
        ..DeploymentChange::default()
    };
    db.deployment_change(&ada, &name, &change).await.unwrap();
    let opened = db.provider_key_open(task.deployment_id, task.owner_id);
    assert_eq!(opened.await.unwrap().expose_secret(), "rnd_other");
    assert_eq!(world.count("releases").await, 1);
    let more = DeploymentChange {
        options: Some(Default::default()),
        ..change
    };
    let refused = db.deployment_change(&ada, &name, &more).await;
    assert_refused(refused, RefusalKind::Conflict, None);
}
