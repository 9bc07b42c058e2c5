//! Making a deployment, changing it, and who may.

use sealport::model::deployments::{DeploymentState, ReleaseState};
use sealport::model::errors::RefusalKind;
use sealport::model::paths::DeploymentName;
use sealport::model::sources::Source;
use sealport::store::db::begin_for_tests;
use sealport::store::secrets::SecretEdit;

use crate::world::{World, assert_refused, id, refusal, secret, spec, text};

#[tokio::test]
async fn a_new_deployment_waits_with_its_first_release() {
    let world = World::new().await;
    let ada = world.user("ada").await;
    let key = world
        .secret(&ada, "meta/firecrawl/api_key", "fc-0123456789")
        .await;
    let bindings = vec![
        secret("FIRECRAWL_API_KEY", key),
        text("LOG_LEVEL", "debug'); --"),
    ];
    let name = world.deployment(&ada, "crawl", bindings).await;

    let shown = world.db.deployment_show(&ada, &name).await.unwrap();
    assert_eq!(shown.summary.state, DeploymentState::Deploying);
    assert_eq!(shown.summary.owner, "ada");
    assert_eq!(shown.releases.len(), 1);
    assert_eq!(shown.releases[0].state, ReleaseState::Queued);
    assert_eq!(shown.releases[0].created_by, "ada");
    let steps: Vec<&str> = shown.releases[0]
        .steps
        .iter()
        .map(|step| step.name.as_str())
        .collect();
    assert_eq!(steps, ["fetch", "install", "start", "handshake"]);
    assert!(
        shown.releases[0]
            .steps
            .iter()
            .all(|step| step.state == "waiting")
    );
    assert_eq!(
        shown.bindings[0].secret.as_ref().unwrap().as_str(),
        "meta/firecrawl/api_key"
    );
    assert_eq!(shown.bindings[0].current_version, Some(1));
    assert_eq!(shown.bindings[0].running_version, None);
    assert_eq!(shown.bindings[1].text.as_deref(), Some("debug'); --"));
    assert_eq!(
        world.db.deployments_list(&ada).await.unwrap(),
        [shown.summary]
    );
    assert_eq!(
        world.record("deployment.create").await,
        [("user".into(), "done".into(), String::new())]
    );
    assert_eq!(world.count("audit where action = 'secret.bind'").await, 0);
}

#[tokio::test]
async fn two_presses_of_deploy_make_one_release() {
    let world = World::new().await;
    let ada = world.user("ada").await;
    let draft = world.db.draft_create(&ada).await.unwrap();
    let (first, second) = (spec("crawl", vec![]), spec("crawl", vec![]));
    let (first, second) = tokio::join!(
        world.db.deployment_create(&ada, Some(draft), &first),
        world.db.deployment_create(&ada, Some(draft), &second)
    );
    assert_eq!(first.unwrap(), second.unwrap());
    let later = world
        .db
        .deployment_create(&ada, Some(draft), &spec("other", vec![]))
        .await
        .unwrap();
    assert_eq!(later.as_str(), "crawl");
    assert_eq!(world.count("deployments").await, 1);
    assert_eq!(world.count("releases").await, 1);
    assert_eq!(world.count("deployment_names").await, 1);
    assert_eq!(world.record("deployment.create").await.len(), 1);
    let shown = world.db.draft(&ada, draft).await.unwrap();
    assert_eq!(shown.deployed_as.as_deref(), Some("crawl"));

    let eve = world.user("eve").await;
    let anothers = world
        .db
        .deployment_create(&eve, Some(draft), &spec("eves", vec![]))
        .await;
    assert_refused(anothers, RefusalKind::NotFound, None);
}

#[tokio::test]
async fn a_name_stays_its_owners() {
    let world = World::new().await;
    let (ada, eve) = (world.user("ada").await, world.user("eve").await);
    let name = world.deployment(&ada, "crawl", vec![]).await;
    let again = world
        .db
        .deployment_create(&ada, None, &spec("crawl", vec![]))
        .await;
    assert_refused(again, RefusalKind::Taken, Some("name"));
    let anothers = world
        .db
        .deployment_create(&eve, None, &spec("crawl", vec![]))
        .await;
    assert_refused(anothers, RefusalKind::Taken, Some("name"));

    assert_refused(
        world.db.deployment_destroy(&ada, &name, "crawler").await,
        RefusalKind::Invalid,
        Some("typed"),
    );
    assert_eq!(world.count("deployments").await, 1);
    world
        .db
        .deployment_destroy(&ada, &name, "crawl")
        .await
        .unwrap();
    assert_eq!(world.count("deployments").await, 0);
    assert_eq!(world.count("releases").await, 0);

    let anothers = world
        .db
        .deployment_create(&eve, None, &spec("crawl", vec![]))
        .await;
    assert_refused(anothers, RefusalKind::Taken, Some("name"));
    world.deployment(&ada, "crawl", vec![]).await;
    let refused = world.record("deployment.create").await;
    let reasons: Vec<&str> = refused.iter().map(|row| row.2.as_str()).collect();
    assert_eq!(
        reasons,
        [
            "",
            "the name is in use",
            "the name is another's",
            "the name is another's",
            ""
        ]
    );
}

#[tokio::test]
async fn anothers_secret_is_refused_and_the_refusal_recorded() {
    let world = World::new().await;
    let (ada, eve) = (world.user("ada").await, world.user("eve").await);
    let adas = world.secret(&ada, "ADAS_KEY", "0123456789").await;
    let eves = world.secret(&eve, "EVES_KEY", "0123456789").await;
    let bound = spec("mine", vec![secret("OWN", eves), secret("KEY", adas)]);
    let result = world.db.deployment_create(&eve, None, &bound).await;
    assert_refused(result, RefusalKind::Denied, Some("bindings.KEY"));
    let mut fetched = spec("mine", vec![]);
    fetched.fetch_key = Some(adas);
    let result = world.db.deployment_create(&eve, None, &fetched).await;
    assert_refused(result, RefusalKind::Denied, Some("fetch_key"));

    let refused = (
        "user".into(),
        "refused".into(),
        "no right to a bound secret".into(),
    );
    assert_eq!(
        world.record("deployment.create").await,
        [refused.clone(), refused]
    );
    assert_eq!(world.count("deployments").await, 0);
    // The name was not used up.
    assert_eq!(world.count("deployment_names").await, 0);
    world.deployment(&ada, "mine", vec![]).await;
}

#[tokio::test]
async fn what_cannot_be_started_is_said_at_its_field() {
    let world = World::new().await;
    let ada = world.user("ada").await;
    let off = world.secret(&ada, "OFF", "0123456789").await;
    let old = world.secret(&ada, "OLD", "0123456789").await;
    let edit = SecretEdit {
        active: Some(false),
        ..SecretEdit::default()
    };
    world.db.secret_edit(&ada, off, edit).await.unwrap();
    world
        .sql("update secrets set expires_at = now() - interval '1 second' where path = 'OLD'")
        .await;
    for (bindings, field) in [
        (vec![secret("A", off)], "bindings.A"),
        (vec![text("A", "x"), secret("B", old)], "bindings.B"),
        (vec![text("A", "x"), text("A", "y")], "bindings.A"),
        (vec![text("A", "x\0y")], "bindings.A"),
    ] {
        let result = world
            .db
            .deployment_create(&ada, None, &spec("crawl", bindings))
            .await;
        assert_refused(result, RefusalKind::Invalid, Some(field));
    }
    let mut dir = spec("crawl", vec![]);
    dir.source = Source::parse("dir:/srv/servers/one").unwrap();
    let result = world.db.deployment_create(&ada, None, &dir).await;
    assert_refused(result, RefusalKind::Denied, Some("source"));
    assert_eq!(world.count("deployments").await, 0);
}

#[tokio::test]
async fn anothers_deployment_is_neither_seen_nor_changed() {
    let world = World::new().await;
    let (ada, eve) = (world.user("ada").await, world.user("eve").await);
    let name = world.deployment(&ada, "crawl", vec![text("A", "x")]).await;
    let before = world.dump_of("deployments").await;
    let db = &world.db;
    assert!(db.deployments_list(&eve).await.unwrap().is_empty());
    let not_there = DeploymentName::parse("not-there").unwrap();
    let unseen = refusal(db.deployment_show(&eve, &not_there).await);
    assert_eq!(refusal(db.deployment_show(&eve, &name).await), unseen);
    assert_eq!(refusal(db.deployment_redeploy(&eve, &name).await), unseen);
    assert_eq!(refusal(db.deployment_start(&eve, &name).await), unseen);
    assert_eq!(refusal(db.deployment_stop(&eve, &name).await), unseen);
    assert_eq!(
        refusal(db.deployment_destroy(&eve, &name, "crawl").await),
        unseen
    );
    assert_eq!(refusal(db.log_read(&eve, &name, None, 10).await), unseen);
    assert_eq!(world.dump_of("deployments").await, before);
    assert_eq!(world.count("releases").await, 1);
    for action in ["redeploy", "start", "stop", "destroy"] {
        assert_eq!(
            world.record(&format!("deployment.{action}")).await,
            [(
                "user".into(),
                "refused".into(),
                "no right to the deployment".into()
            )]
        );
    }
}

#[tokio::test]
async fn the_database_itself_refuses_what_is_not_a_persons() {
    let world = World::new().await;
    let (ada, eve) = (world.user("ada").await, world.user("eve").await);
    let adas = world.secret(&ada, "ADAS_KEY", "0123456789").await;
    world.deployment(&ada, "adas", vec![]).await;
    world.deployment(&eve, "eves", vec![]).await;
    let eves_row = "(select id from deployments where name = 'eves')";
    let eve_id = id(&eve);
    for refused in [
        // Foreign keys see past policies: a binding to what its writer cannot see.
        format!(
            "insert into bindings (deployment_id, owner_id, env, secret_id, secret_path) values ({eves_row}, '{eve_id}', 'K', '{adas}', 'ADAS_KEY')"
        ),
        format!(
            "insert into releases (deployment_id, owner_id, number, state, created_by) values ({eves_row}, '{eve_id}', 2, 'live', 'eve')"
        ),
        "update releases set state = 'live'".into(),
        "update deployments set fence = fence + 1".into(),
        "update deployments set holder = gen_random_uuid()".into(),
        "update deployments set name = 'adas'".into(),
        format!("update deployments set owner_id = '{}'", id(&ada)),
    ] {
        let mut tx = begin_for_tests(&world.db, &eve).await.unwrap();
        let error = sqlx::raw_sql(sqlx::AssertSqlSafe(refused.clone()))
            .execute(&mut *tx)
            .await
            .unwrap_err();
        let code = error
            .as_database_error()
            .unwrap()
            .code()
            .unwrap()
            .into_owned();
        assert_eq!(code, "42501", "{refused}: {error}");
    }
    // What is hers she may: the statements above were refused for their content.
    let mut tx = begin_for_tests(&world.db, &eve).await.unwrap();
    let changed = sqlx::raw_sql("update deployments set wanted = false")
        .execute(&mut *tx)
        .await
        .unwrap();
    assert_eq!(changed.rows_affected(), 1);
    for table in [
        "deployments",
        "bindings",
        "releases",
        "release_steps",
        "release_bindings",
        "log_lines",
        "tokens",
        "drafts",
    ] {
        let seen: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
            "select count(*) from {table} t where t::text like '%{}%'",
            id(&ada)
        )))
        .fetch_one(&mut *tx)
        .await
        .unwrap();
        assert_eq!(seen, 0, "{table}");
    }
}
