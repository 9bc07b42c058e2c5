//! Railway: made, changed, stopped, started, destroyed; and what is said when it goes wrong.

use std::collections::BTreeMap;
use std::time::Duration;

use sealport::model::deployments::{DeploymentState, ReleaseState};
use sealport::model::paths::DeploymentName;
use sealport::model::plans::{BindingRequest, DeployRequest};
use sealport::model::sources::{Source, Transport};
use sealport::model::targets::Target;

use crate::fakes::railway::state::Key;
use crate::fakes::railway::{PROJECT_KEY, WORKSPACE_KEY};
use crate::fakes::wire::Fault;
use crate::house::House;
use crate::world::{secret, text};

const VALUE: &str = "sk-canary-4fT9QzW1xR7mLp2";
/// More requests than a first release sends.
const POINTS: usize = 24;

/// What stands there under the deployment's name: projects and services.
fn made(house: &House) -> (usize, usize) {
    let state = house.railway.state();
    let is_ours = |name: &str| name.starts_with("crawl-");
    let projects = state.projects.iter();
    let projects = projects.filter(|one| is_ours(&one.name) && !one.deleted);
    let services = state.services.iter();
    let services = services.filter(|one| is_ours(&one.name) && !one.deleted);
    (projects.count(), services.count())
}

async fn destroyed(house: &House, name: &DeploymentName) {
    let db = &house.world.db;
    db.deployment_destroy(&house.ada, name, name.as_str())
        .await
        .unwrap();
    house.deployer.wake();
    let gone = async {
        while house.world.count("deployments").await > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let gone = tokio::time::timeout(Duration::from_secs(60), gone).await;
    assert!(gone.is_ok(), "{:#?}", house.show(name).await);
}

#[tokio::test]
async fn a_server_at_railway_has_its_secrets_and_is_called_through_the_gateway() {
    let house = House::new().await;
    let bound = house.world.secret(&house.ada, "SHOP_KEY", VALUE).await;
    let bindings = vec![secret("SHOP_KEY", bound), text("MODE", "fast")];
    let name = house.deploy_to_railway("crawl", bindings).await;
    let served = house.serve_of_railway().await;
    let detail = house.state(&name, DeploymentState::Running).await;
    assert_eq!(made(&house), (1, 1));
    let (service, env) = {
        let state = house.railway.state();
        assert_eq!(state.deployments.len(), 1, "{:?}", house.railway.fields());
        (
            state.services[0].id.clone(),
            state.deployments[0].variables.clone(),
        )
    };
    assert_eq!(
        (env["SHOP_KEY"].as_str(), env["MODE"].as_str()),
        (VALUE, "fast")
    );
    assert_eq!(env["PORT"], "8080");
    assert_eq!(detail.placed.service, Some(service));
    assert_eq!(detail.placed.open, Some(false));
    assert!(detail.placed.project_made);
    assert_eq!(house.railway.state().domains[0].port, Some(8080));
    assert!(house.call(&name).await.unwrap().contains("bridged"));

    let gateway = &env["SEALPORT_GATEWAY_SECRET"];
    let log = house.log(&name).await;
    assert!(log.contains(&"now BUILDING".to_owned()), "{log:?}");
    let dump = house.world.dump().await;
    let shown = format!("{detail:?} {log:?}");
    for secret in [VALUE, WORKSPACE_KEY, gateway.as_str()] {
        assert!(
            !dump.contains(secret) && !shown.contains(secret),
            "{secret}"
        );
    }
    drop(served);
    house.end().await;
}

#[tokio::test]
async fn a_repository_is_built_by_its_dockerfile_and_of_the_commit_that_was_looked_at() {
    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
    let house = House::new().await;
    let mut spec = house.spec("crawl", vec![]);
    spec.target = Target::Railway;
    spec.provider_key = Some(house.railway_key);
    let source = format!("git:https://github.com/ada/crawl#{COMMIT}:server");
    spec.source = Source::parse(&source).unwrap();
    spec.start.command = vec!["index.js".into()];
    spec.start.transport = Transport::Stdio;
    spec.options = BTreeMap::from([("dockerfile".into(), "ops/Dockerfile".into())]);
    let name = house.deploy_as(&spec).await;
    let _served = house
        .serve_when(|house| {
            let state = house.railway.state();
            let newest = state.deployments.iter().find(|one| one.commit.is_some())?;
            Some(newest.variables.clone())
        })
        .await;
    let detail = house.state(&name, DeploymentState::Running).await;
    {
        let state = house.railway.state();
        let [service] = state
            .services
            .iter()
            .filter(|one| one.name.starts_with("crawl-"))
            .collect::<Vec<_>>()[..]
        else {
            panic!("one service");
        };
        assert_eq!(service.settings["dockerfilePath"], "ops/Dockerfile");
        assert_eq!(service.settings["rootDirectory"], "/server");
        // The image says how it starts, not what looking at the source found.
        assert!(!service.settings.contains_key("startCommand"));
        let newest = state.deployments.last().unwrap();
        assert_eq!(newest.commit.as_deref(), Some(COMMIT));
        let noted = detail.placed.deploy.map(|deploy| deploy.id);
        assert_eq!(noted.as_ref(), Some(&newest.id));
    }
    house.end().await;
}

#[tokio::test]
async fn nothing_is_made_twice_when_an_answer_is_lost() {
    for field in [
        "projectCreate",
        "serviceCreate",
        "serviceDomainCreate",
        "serviceConnect",
    ] {
        let house = House::new().await;
        house.railway.will(field, Fault::LoseAnswer);
        let name = house.deploy_to_railway("crawl", vec![]).await;
        let _served = house.serve_of_railway().await;
        house.state(&name, DeploymentState::Running).await;
        assert_eq!(made(&house), (1, 1), "{field}");
        assert_eq!(house.railway.state().domains.len(), 1, "{field}");
        house.end().await;
    }
}

#[tokio::test]
async fn wherever_a_server_is_killed_one_service_runs_in_the_end() {
    let mut reached = 0;
    for point in 0..POINTS {
        let house = House::new().await;
        // It is never answered, whether it was done or not.
        let fault = match point % 2 {
            0 => Fault::Hang,
            _ => Fault::DoAndHang,
        };
        house.railway.wire.will_at(point, fault);
        let name = house.deploy_to_railway("crawl", vec![]).await;
        let hangs = |house: &House| {
            let asked = house.railway.wire.count();
            (asked > point).then_some(asked)
        };
        let asked = house.until_there("a request that hangs", hangs);
        let Ok(asked) = tokio::time::timeout(Duration::from_secs(20), asked).await else {
            // A release sends no more than that.
            break;
        };
        reached = reached.max(asked);
        let house = house.another().await;
        // The newest deployment is known only when the release is through with making.
        let built = |house: &House| {
            let mut state = house.railway.state();
            let newest = state.deployments.last_mut()?;
            (newest.status() == "SUCCESS").then_some(())
        };
        house.until_there("a build", built).await;
        let _served = house.serve_of_railway().await;
        let detail = house.state(&name, DeploymentState::Running).await;
        assert_eq!(detail.releases.len(), 1);
        assert_eq!(detail.releases[0].state, ReleaseState::Live);
        assert_eq!(made(&house), (1, 1), "killed at {point}");
        assert!(house.call(&name).await.unwrap().contains("bridged"));
        house.end().await;
    }
    assert!(
        reached >= 12,
        "a release sends more requests than {reached}"
    );
}

#[tokio::test]
async fn it_is_stopped_and_deployed_anew_and_destroyed_with_its_project() {
    let house = House::new().await;
    let name = house.deploy_to_railway("crawl", vec![]).await;
    let _served = house.serve_of_railway().await;
    house.state(&name, DeploymentState::Running).await;
    let db = &house.world.db;
    db.deployment_stop(&house.ada, &name).await.unwrap();
    house.deployer.wake();
    house.state(&name, DeploymentState::Stopped).await;
    assert!(house.railway.state().deployments.is_empty());
    assert_eq!(made(&house), (1, 1));

    db.deployment_start(&house.ada, &name).await.unwrap();
    house.deployer.wake();
    house.state(&name, DeploymentState::Running).await;
    assert_eq!(house.railway.state().deployments.len(), 1);
    assert_eq!(house.railway.times("serviceCreate"), 1);

    destroyed(&house, &name).await;
    assert_eq!(made(&house), (0, 0));
    // Another project is nobody's business.
    assert!(!house.railway.state().projects[0].deleted);
    house.end().await;
}

#[tokio::test]
async fn a_project_that_others_use_or_made_stays() {
    for own in [true, false] {
        let house = House::new().await;
        let mut spec = house.spec("crawl", vec![]);
        spec.target = Target::Railway;
        spec.provider_key = Some(house.railway_key);
        if !own {
            spec.options = BTreeMap::from([("project".into(), "existing".into())]);
        }
        let name = house.deploy_as(&spec).await;
        let _served = house.serve_of_railway().await;
        let detail = house.state(&name, DeploymentState::Running).await;
        assert_eq!(detail.placed.project_made, own);
        if own {
            let project = detail.placed.project.unwrap();
            let mut state = house.railway.state();
            let mut theirs = state.services[0].clone();
            assert_eq!(theirs.project, project);
            theirs.id = "service-of-theirs".into();
            theirs.name = "theirs".into();
            state.services.push(theirs);
        }
        destroyed(&house, &name).await;
        assert_eq!(made(&house), (usize::from(own), 0));
        assert!(!house.railway.state().projects[0].deleted);
        house.end().await;
    }
}

#[tokio::test]
async fn what_is_not_found_with_a_key_of_elsewhere_is_not_gone() {
    let house = House::new().await;
    let name = house.deploy_to_railway("crawl", vec![]).await;
    let _served = house.serve_of_railway().await;
    house.state(&name, DeploymentState::Running).await;
    let own = {
        let mut state = house.railway.state();
        let project = state
            .projects
            .iter_mut()
            .find(|one| one.name.starts_with("crawl-"));
        project.unwrap().deleted = true;
        state
            .workspaces
            .push(("workspace-else".into(), "Else".into()));
        let elsewhere = Key::Workspace("workspace-else".into());
        state.keys.insert(WORKSPACE_KEY.into(), elsewhere).unwrap()
    };
    let db = &house.world.db;
    db.deployment_destroy(&house.ada, &name, name.as_str())
        .await
        .unwrap();
    house.deployer.wake();
    house
        .until(&name, "said why", |detail| {
            let why = detail.summary.reason.as_deref().unwrap_or_default();
            why.contains("does not reach the workspace or project")
        })
        .await;
    // With the key that made it, it is.
    house.railway.state().keys.insert(WORKSPACE_KEY.into(), own);
    destroyed(&house, &name).await;
    house.end().await;
}

#[tokio::test]
async fn an_address_that_is_not_its_own_any_more_is_not_called() {
    let house = House::new().await;
    let name = house.deploy_to_railway("crawl", vec![]).await;
    let _served = house.serve_of_railway().await;
    house.state(&name, DeploymentState::Running).await;
    house.railway.state().domains.clear();
    let house = house.another().await;
    let detail = house.state(&name, DeploymentState::Failed).await;
    let why = detail.summary.reason.unwrap();
    assert!(why.contains("not its own any more"), "{why}");
    house.end().await;
}

#[tokio::test]
async fn a_build_that_fails_says_why_and_the_next_uses_the_same_service() {
    let house = House::new().await;
    house.railway.state().courses = [vec!["QUEUED", "BUILDING", "FAILED"]].into();
    let name = house.deploy_to_railway("crawl", vec![]).await;
    let detail = house.state(&name, DeploymentState::Failed).await;
    let why = detail.summary.reason.unwrap();
    assert!(
        why.contains("The deployment at Railway failed") && why.contains("now FAILED"),
        "{why}"
    );
    let db = &house.world.db;
    db.deployment_redeploy(&house.ada, &name).await.unwrap();
    house.deployer.wake();
    let _served = house.serve_of_railway().await;
    house.state(&name, DeploymentState::Running).await;
    assert_eq!(made(&house), (1, 1));
    house.end().await;
}

#[tokio::test]
async fn what_railway_says_is_told_without_the_values_that_it_echoes() {
    let house = House::new().await;
    let bound = house.world.secret(&house.ada, "SHOP_KEY", VALUE).await;
    house.railway.state().echoes = Some("variableCollectionUpsert".into());
    let bindings = vec![secret("SHOP_KEY", bound)];
    let name = house.deploy_to_railway("crawl", bindings).await;
    let detail = house.state(&name, DeploymentState::Failed).await;
    let why = detail.summary.reason.unwrap();
    assert!(why.contains("Problem processing request"), "{why}");
    let log = house.log(&name).await;
    let all = format!("{why} {log:?} {}", house.world.dump().await);
    assert!(!all.contains(&VALUE[..8]), "{all}");
    house.end().await;
}

#[tokio::test]
async fn a_value_that_railway_would_change_is_refused_before_anything_is_made() {
    let house = House::new().await;
    let value = "before ${{ other.SECRET }}";
    let bound = house.world.secret(&house.ada, "SHOP_KEY", value).await;
    let bindings = vec![secret("SHOP_KEY", bound)];
    let name = house.deploy_to_railway("crawl", bindings).await;
    let detail = house.state(&name, DeploymentState::Failed).await;
    let why = detail.summary.reason.unwrap();
    assert!(why.contains("The value for SHOP_KEY contains ${{"), "{why}");
    assert_eq!(house.railway.fields(), Vec::<String>::new());
    house.end().await;
}

#[tokio::test]
async fn a_plan_says_what_would_be_made_and_what_cannot_go() {
    let house = House::new().await;
    let project_key = house
        .world
        .secret(&house.ada, "meta/railway/project_key", PROJECT_KEY);
    project_key.await;
    let ask = |source: &str, options: &[(&str, &str)]| DeployRequest {
        name: "crawl".into(),
        source: source.into(),
        target: Some("railway".into()),
        options: options
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        ..DeployRequest::default()
    };
    let plan = async |request| house.deployer.plan(&house.ada, &request).await.unwrap();
    let image = "image:registry.example/crawl:1";
    let of_project = DeployRequest {
        key: Some("meta/railway/project_key".into()),
        ..ask(image, &[])
    };
    let own = "Make a service in a project of its own, in the workspace Ada's,";
    let existing = "Make a service in the project existing, environment production,";
    for (request, says) in [
        (ask(image, &[]), own),
        (ask(image, &[("project", "existing")]), existing),
        (of_project, existing),
    ] {
        let good = plan(request).await;
        assert!(good.is_ready(), "{good:?}");
        let changes = &good.changes;
        assert!(changes[0].contains("This key can"), "{changes:?}");
        assert!(changes[1].contains(says), "{changes:?}");
    }
    let reference = BindingRequest {
        env: "GREETING".into(),
        text: Some("hello ${{ other.NAME }}".into()),
        ..BindingRequest::default()
    };
    for (request, field) in [
        (
            ask(image, &[("workspace", "nobody's")]),
            "options.workspace",
        ),
        (ask(image, &[("project", "none")]), "options.project"),
        (ask(image, &[("environment", "dev")]), "options.environment"),
        (ask(image, &[("region", "mars")]), "options"),
        (
            DeployRequest {
                bindings: vec![reference],
                ..ask(image, &[])
            },
            "bindings.GREETING",
        ),
    ] {
        let refused = plan(request).await;
        let lack = refused.first_lack().expect(field);
        assert_eq!(lack.field, field, "{refused:?}");
    }
    assert_eq!(made(&house), (0, 0));
    house.end().await;
}
