//! Render: made, changed, stopped, started, destroyed; and what is said when it goes wrong.

use sealport::model::deployments::{DeploymentState, ReleaseState};
use sealport::model::errors::RefusalKind;
use sealport::model::plans::DeployRequest;
use sealport::model::sources::{Source, Transport};
use sealport::store::secrets::NewValue;
use secrecy::SecretString;

use crate::fakes::render::{FailAt, KEY};
use crate::fakes::wire::Fault;
use crate::house::{House, INITIALIZE};
use crate::world::{secret, text};

const VALUE: &str = "sk-canary-4fT9QzW1xR7mLp2";

/// A server in a repository, looked at at this commit.
const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

#[tokio::test]
async fn only_the_commit_that_was_looked_at_gets_the_values() {
    for dockerfile in [false, true] {
        let house = House::new().await;
        let bound = house.world.secret(&house.ada, "SHOP_KEY", VALUE).await;
        let mut spec = house.spec("crawl", vec![secret("SHOP_KEY", bound)]);
        let source = format!("git:https://git.example/ada/crawl#{COMMIT}:server");
        spec.source = Source::parse(&source).unwrap();
        spec.start.command = vec!["index.js".into()];
        if dockerfile {
            // It says itself how it listens.
            spec.start.transport = Transport::Stdio;
            let named = ("dockerfile".to_owned(), "Dockerfile".to_owned());
            spec.options.insert(named.0, named.1);
        }
        let name = house.deploy_as(&spec).await;
        let _served = house
            .serve_when(|house| {
                let state = house.render.state();
                let service = state.services.first()?;
                let deploy = service.deploys.iter().find(|one| one.asked.is_some())?;
                Some(deploy.env.clone())
            })
            .await;
        house.state(&name, DeploymentState::Running).await;
        {
            let state = house.render.state();
            let [service] = state.services.as_slice() else {
                panic!("one service");
            };
            let [newest, wanted] = service.deploys.as_slice() else {
                panic!("two deploys");
            };
            // What a service begins with is whatever is newest.
            assert_eq!((newest.asked.as_deref(), newest.state), (None, "canceled"));
            assert!(newest.env.is_empty(), "{:?}", newest.env);
            assert_eq!(wanted.commit, COMMIT);
            assert_eq!(wanted.env["SHOP_KEY"], VALUE);
            let details = &service.body["serviceDetails"];
            let specific = &details["envSpecificDetails"];
            match dockerfile {
                true => {
                    assert_eq!(details["runtime"], "docker");
                    assert_eq!(specific["dockerfilePath"], "Dockerfile");
                }
                false => assert_eq!(specific["startCommand"], "node index.js"),
            }
            assert_eq!(service.body["rootDir"], "server");
        }
        house.end().await;
    }
}

#[tokio::test]
async fn a_server_at_render_has_its_secrets_and_is_called_through_the_gateway() {
    let house = House::new().await;
    let bound = house.world.secret(&house.ada, "SHOP_KEY", VALUE).await;
    let name = house
        .deploy(
            "crawl",
            vec![secret("SHOP_KEY", bound), text("MODE", "fast")],
        )
        .await;
    let served = house.serve().await;
    let detail = house.state(&name, DeploymentState::Running).await;
    let (id, env) = {
        let state = house.render.state();
        assert_eq!(state.services.len(), 1);
        (state.services[0].id.clone(), state.services[0].env.clone())
    };
    assert_eq!(
        (env["SHOP_KEY"].as_str(), env["MODE"].as_str()),
        (VALUE, "fast")
    );
    assert_eq!(
        (env["PORT"].as_str(), env["NODE_ENV"].as_str()),
        ("8080", "production")
    );
    assert_eq!(env["SEALPORT_BRIDGE_MASK"], "SHOP_KEY");
    assert_eq!(detail.placed.service, Some(id));
    assert_eq!(detail.placed.open, Some(false));
    assert!(
        detail.releases[0]
            .steps
            .iter()
            .all(|step| step.state == "done")
    );

    assert!(house.call(&name).await.unwrap().contains("bridged"));
    // Past the gateway there is no way in.
    let direct = reqwest::Client::new()
        .post(house.url())
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream")
        .body(INITIALIZE)
        .send()
        .await
        .unwrap();
    assert_eq!(direct.status(), 401);

    let gateway = &env["SEALPORT_GATEWAY_SECRET"];
    let dump = house.world.dump().await;
    let shown = format!("{detail:?} {:?}", house.log(&name).await);
    for secret in [VALUE, KEY, gateway.as_str()] {
        assert!(
            !dump.contains(secret) && !shown.contains(secret),
            "{secret}"
        );
    }
    let opened = house.world.record("secret.bind").await;
    assert!(
        opened.iter().any(|row| row.2 == "to reach the provider"),
        "{opened:?}"
    );
    drop(served);
    house.end().await;
}

#[tokio::test]
async fn one_that_lets_everybody_in_is_said_to_be_open() {
    let house = House::new().await;
    let name = house.deploy("crawl", vec![]).await;
    let mut env = house
        .until_there("a service", |house| {
            let state = house.render.state();
            state.services.first().map(|service| service.env.clone())
        })
        .await;
    env.remove("SEALPORT_GATEWAY_SECRET");
    let _served = house.serve_with(&env);
    let detail = house.state(&name, DeploymentState::Running).await;
    assert_eq!(detail.placed.open, Some(true));
    let log = house.log(&name).await.join("\n");
    assert!(
        log.contains("does not check SEALPORT_GATEWAY_SECRET"),
        "{log}"
    );
    house.end().await;
}

#[tokio::test]
async fn nothing_is_made_twice_when_an_answer_is_lost() {
    let house = House::new().await;
    house
        .render
        .wire
        .will("POST /v1/services", Fault::LoseAnswer);
    let name = house.deploy("crawl", vec![]).await;
    let _served = house.serve().await;
    house.state(&name, DeploymentState::Running).await;
    assert_eq!(house.render.state().services.len(), 1);
    house.end().await;
}

#[tokio::test]
async fn a_change_sets_what_is_ours_and_leaves_what_others_set() {
    let house = House::new().await;
    let bound = house.world.secret(&house.ada, "SHOP_KEY", VALUE).await;
    let name = house.deploy("crawl", vec![secret("SHOP_KEY", bound)]).await;
    let served = house.serve().await;
    house.state(&name, DeploymentState::Running).await;
    house.render.state().services[0]
        .env
        .insert("FOREIGN".into(), "theirs".into());
    let new = NewValue::Typed(SecretString::from("sk-another-value-of-it"));
    house
        .world
        .db
        .secret_replace(&house.ada, bound, 1, new)
        .await
        .unwrap();
    house
        .world
        .db
        .deployment_redeploy(&house.ada, &name)
        .await
        .unwrap();
    house.deployer.wake();
    house
        .until(&name, "ran release 2", |detail| {
            detail.releases[0].number == 2 && detail.releases[0].state == ReleaseState::Live
        })
        .await;
    {
        let state = house.render.state();
        let env = &state.services[0].env;
        assert_eq!(env["SHOP_KEY"], "sk-another-value-of-it");
        assert_eq!(env["FOREIGN"], "theirs");
        assert_eq!(state.services[0].deploys.len(), 2);
    }
    drop(served);
    house.end().await;
}

#[tokio::test]
async fn a_build_that_fails_says_why_and_the_next_uses_the_same_service() {
    let house = House::new().await;
    let bound = house.world.secret(&house.ada, "SHOP_KEY", VALUE).await;
    house.render.state().fail_at = Some(FailAt::Build);
    let name = house.deploy("crawl", vec![secret("SHOP_KEY", bound)]).await;
    let detail = house.state(&name, DeploymentState::Failed).await;
    let why = detail.summary.reason.unwrap();
    assert!(why.contains("failed while it was built"), "{why}");
    // What it left there is shown.
    assert!(detail.placed.service.is_some());
    house.render.state().fail_at = None;
    house
        .world
        .db
        .deployment_redeploy(&house.ada, &name)
        .await
        .unwrap();
    house.deployer.wake();
    let _served = house.serve().await;
    house.state(&name, DeploymentState::Running).await;
    assert_eq!(house.render.state().services.len(), 1);
    house.end().await;
}

#[tokio::test]
async fn what_render_says_is_told_without_the_values_that_it_echoes() {
    for (fault, words) in [
        (Fault::Echo, "Render refused it (status 400)"),
        (Fault::status(402), "asks for payment details"),
        (Fault::Html(403), "not data"),
        (Fault::status(401), "does not take this key"),
    ] {
        let house = House::new().await;
        let bound = house.world.secret(&house.ada, "SHOP_KEY", VALUE).await;
        house.render.wire.will("POST /v1/services", fault);
        let name = house.deploy("crawl", vec![secret("SHOP_KEY", bound)]).await;
        let detail = house.state(&name, DeploymentState::Failed).await;
        let why = detail.summary.reason.unwrap();
        assert!(why.contains(words), "{words}: {why}");
        let all = format!(
            "{why} {:?} {}",
            house.log(&name).await,
            house.world.dump().await
        );
        assert!(!all.contains(&VALUE[..8]), "{all}");
        assert!(house.render.state().services.is_empty());
        house.end().await;
    }
}

#[tokio::test]
async fn it_is_suspended_resumed_and_deleted_there() {
    let house = House::new().await;
    let name = house.deploy("crawl", vec![]).await;
    let served = house.serve().await;
    house.state(&name, DeploymentState::Running).await;
    let db = &house.world.db;
    // Another service of the workspace's is nobody's business.
    db.deployment_stop(&house.ada, &name).await.unwrap();
    house.deployer.wake();
    house.state(&name, DeploymentState::Stopped).await;
    assert!(house.render.state().services[0].suspended);
    let told = house.call(&name).await.unwrap_err();
    assert!(told.contains("not running now. It was stopped"), "{told}");

    db.deployment_start(&house.ada, &name).await.unwrap();
    house.deployer.wake();
    house.state(&name, DeploymentState::Running).await;
    assert!(!house.render.state().services[0].suspended);

    // Nobody has tried to destroy it there.
    let refused = db.deployment_forget(&house.ada, &name, name.as_str()).await;
    assert_eq!(
        refused.unwrap_err().into_refusal().kind,
        RefusalKind::Conflict
    );
    house
        .render
        .wire
        .will("DELETE /v1/services", Fault::status(403));
    db.deployment_destroy(&house.ada, &name, name.as_str())
        .await
        .unwrap();
    house.deployer.wake();
    let detail = house
        .until(&name, "said why it is not destroyed", |detail| {
            detail
                .summary
                .reason
                .as_deref()
                .is_some_and(|why| why.contains("tried again"))
        })
        .await;
    assert!(detail.destroying);
    assert_eq!(house.render.state().services.len(), 1);

    let refused = db.deployment_forget(&house.ada, &name, "crawler").await;
    let refused = refused.unwrap_err().into_refusal();
    assert_eq!(refused.field.as_deref(), Some("typed"));
    let grace = house.world.user("grace").await;
    assert!(
        db.deployment_forget(&grace, &name, name.as_str())
            .await
            .is_err()
    );
    assert_eq!(house.world.count("deployments").await, 1);
    db.deployment_forget(&house.ada, &name, name.as_str())
        .await
        .unwrap();
    assert_eq!(house.world.count("deployments").await, 0);
    assert_eq!(house.render.state().services.len(), 1);
    let said = "audit where action = 'deployment.destroy' and reason like 'forgotten here%'";
    assert_eq!(house.world.count(said).await, 1);
    drop(served);
    house.end().await;
}

#[tokio::test]
async fn what_is_stopped_while_it_is_built_is_cancelled_there() {
    let house = House::new().await;
    // It never gets anywhere.
    house.render.state().looks_per_state = u32::MAX;
    let name = house.deploy("crawl", vec![]).await;
    house
        .until(&name, "has a deploy there", |detail| {
            detail.placed.deploy.is_some()
        })
        .await;
    let db = &house.world.db;
    db.deployment_stop(&house.ada, &name).await.unwrap();
    house.deployer.wake();
    house.state(&name, DeploymentState::Stopped).await;
    {
        let state = house.render.state();
        assert!(state.services[0].suspended);
        assert_eq!(state.services[0].deploys[0].state, "canceled");
    }
    house.end().await;
}

#[tokio::test]
async fn what_is_destroyed_is_gone_there_and_then_here() {
    let house = House::new().await;
    let name = house.deploy("crawl", vec![]).await;
    let _served = house.serve().await;
    house.state(&name, DeploymentState::Running).await;
    let db = &house.world.db;
    db.deployment_destroy(&house.ada, &name, name.as_str())
        .await
        .unwrap();
    house.deployer.wake();
    house
        .until_there("an end", |house| {
            house.render.state().services.is_empty().then_some(())
        })
        .await;
    let gone = async {
        while house.world.count("deployments").await > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), gone)
        .await
        .unwrap();
    house.end().await;
}

#[tokio::test]
async fn a_plan_says_what_would_be_made_and_what_cannot_go() {
    let house = House::new().await;
    let ask = |source: &str, options: &[(&str, &str)]| DeployRequest {
        name: "crawl".into(),
        source: source.into(),
        target: Some("render".into()),
        options: options
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        ..DeployRequest::default()
    };
    let plan = async |request| house.deployer.plan(&house.ada, &request).await.unwrap();
    let image = "image:registry.example/crawl:1";
    let good = plan(ask(image, &[("region", "frankfurt")])).await;
    assert!(good.is_ready(), "{good:?}");
    assert!(
        good.changes[0].contains("This key can")
            && good.changes[1].contains("Make a web service")
            && good.changes[1].contains("frankfurt"),
        "{:?}",
        good.changes
    );
    for (request, field) in [
        (ask(image, &[("region", "mars")]), "options.region"),
        (ask(image, &[("owner", "nobody")]), "options.owner"),
        (ask(image, &[("colour", "red")]), "options"),
        (ask("dir:/srv/x", &[]), "source"),
        (
            DeployRequest {
                key: Some("meta/none/key".into()),
                ..ask(image, &[])
            },
            "key",
        ),
        (
            DeployRequest {
                target: Some("mars".into()),
                ..ask(image, &[])
            },
            "target",
        ),
    ] {
        let refused = plan(request).await;
        let lack = refused.first_lack().expect(field);
        assert_eq!(lack.field, field, "{refused:?}");
    }
    assert!(house.render.state().services.is_empty());
    assert_eq!(house.world.count("deployments").await, 0);
    house.end().await;
}

/// From before it is sent there, whatever becomes of the release, and after this server was started again.
#[tokio::test]
async fn a_new_value_is_masked_at_what_runs_already() {
    let house = House::new().await;
    let bound = house.world.secret(&house.ada, "SHOP_KEY", VALUE).await;
    let name = house
        .deploy(
            "crawl",
            vec![secret("SHOP_KEY", bound), text("ECHO", "SHOP_KEY")],
        )
        .await;
    let served = house.serve().await;
    house.state(&name, DeploymentState::Running).await;
    let masked = house.call(&name).await.unwrap();
    assert!(masked.contains("[sealed]"), "{masked}");

    let newer = "sk-another-value-of-it";
    let new = NewValue::Typed(SecretString::from(newer));
    let db = &house.world.db;
    db.secret_replace(&house.ada, bound, 1, new).await.unwrap();
    house.render.state().fail_at = Some(FailAt::Build);
    db.deployment_redeploy(&house.ada, &name).await.unwrap();
    house.deployer.wake();
    house
        .until(&name, "failed", |detail| {
            detail.releases[0].number == 2 && detail.releases[0].state == ReleaseState::Failed
        })
        .await;
    drop(served);
    let env = house.render.state().services[0].env.clone();
    assert_eq!(env["SHOP_KEY"], newer);
    let _served = house.serve_with(&env);
    let answers = async |house: &House| {
        let asking = async {
            loop {
                if let Ok(answer) = house.call(&name).await
                    && answer.contains("serverInfo")
                {
                    return answer;
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(60), asking)
            .await
            .unwrap()
    };
    let answer = answers(&house).await;
    assert!(
        answer.contains("[sealed]") && !answer.contains(newer),
        "{answer}"
    );
    let house = house.another().await;
    house.state(&name, DeploymentState::Running).await;
    let answer = answers(&house).await;
    assert!(
        answer.contains("[sealed]") && !answer.contains(newer),
        "{answer}"
    );
    house.end().await;
}

#[tokio::test]
async fn what_is_given_up_while_it_makes_something_leaves_one_service_or_none() {
    const LATE: std::time::Duration = std::time::Duration::from_millis(700);
    for destroys in [false, true] {
        let house = House::new().await;
        house
            .render
            .wire
            .will("POST /v1/services", Fault::Late(LATE));
        let name = house.deploy("crawl", vec![]).await;
        house
            .until_there("a request to make it", |house| {
                let lines = house.render.wire.lines();
                lines
                    .contains(&"POST /v1/services".to_owned())
                    .then_some(())
            })
            .await;
        let db = &house.world.db;
        match destroys {
            true => db
                .deployment_destroy(&house.ada, &name, name.as_str())
                .await
                .map(|_| ())
                .unwrap(),
            false => db
                .deployment_redeploy(&house.ada, &name)
                .await
                .map(|_| ())
                .unwrap(),
        }
        house.deployer.wake();
        if destroys {
            let gone = async {
                while house.world.count("deployments").await > 0 {
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                }
            };
            tokio::time::timeout(std::time::Duration::from_secs(60), gone)
                .await
                .unwrap();
            assert!(house.render.state().services.is_empty());
        } else {
            let _served = house.serve().await;
            house.state(&name, DeploymentState::Running).await;
            assert_eq!(house.render.state().services.len(), 1);
            assert_eq!(house.show(&name).await.releases[0].number, 2);
        }
        house.end().await;
    }
}

#[tokio::test]
async fn what_failed_is_stopped_there_and_a_key_of_elsewhere_ends_nothing() {
    let house = House::new().await;
    house.render.state().fail_at = Some(FailAt::Update);
    let name = house.deploy("crawl", vec![]).await;
    house.state(&name, DeploymentState::Failed).await;
    let db = &house.world.db;
    db.deployment_stop(&house.ada, &name).await.unwrap();
    house.deployer.wake();
    house.state(&name, DeploymentState::Stopped).await;
    assert!(house.render.state().services[0].suspended);

    // What this key does not see is not gone.
    house.render.state().owners = vec![("tea-2".into(), "Other".into(), "team")];
    db.deployment_destroy(&house.ada, &name, name.as_str())
        .await
        .unwrap();
    house.deployer.wake();
    house
        .until(&name, "said why", |detail| {
            let why = detail.summary.reason.as_deref().unwrap_or_default();
            why.contains("does not reach the workspace tea-1")
        })
        .await;
    assert_eq!(house.render.state().services.len(), 1);
    house.end().await;
}
