//! Each document that the adapter has, with the variables that it sends, against Railway's schema by the mock that stands
//! beside it. Left out where the schema is not at hand, or what the mock needs cannot be installed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use sealport::deploy::providers::railway::{DOCUMENTS, LogPosition};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::*;
use crate::fakes::contracts;
use crate::fakes::railway::Asked;
use crate::left_out;

/// All that can be asked, at least once, and with everything that can be left out there and not there.
async fn everything(house: &House) {
    let railway = &house.railway;
    let check = Railway::new(
        house.fake.url.clone(),
        SecretString::from(PROJECT_KEY),
        house.fake.hosts(),
    );
    check.unwrap().check().await.unwrap();
    railway.check().await.unwrap();
    house.fake.state().new_project("second", "workspace-1");
    house.fake.state().new_project("third", "workspace-1");
    let workspace = WorkspaceId::from("workspace-1".to_owned());
    railway.projects_named(None, "x").await.unwrap();
    railway.projects_named(Some(&workspace), "x").await.unwrap();
    railway.project_create("made", None).await.unwrap();
    let (project, _) = railway
        .project_create("made", Some(&workspace))
        .await
        .unwrap();
    railway
        .environment_create(&project.id, "staging")
        .await
        .unwrap();
    railway
        .environment_find(&project.id, "staging")
        .await
        .unwrap();

    let repository = |branch: Option<&str>| Source::Repository {
        name: "ada/server".into(),
        branch: branch.map(str::to_owned),
    };
    let given = values(&[("API_KEY", VALUE), ("REGION", "eu"), ("ZONE", "")]);
    for source in [
        None,
        Some(image()),
        Some(repository(None)),
        Some(repository(Some("main"))),
    ] {
        let new = house.service("shop", source.as_ref());
        railway.service_create(&new, &[]).await.unwrap();
        let made = railway.service_create(&new, &given).await.unwrap();
        if let Some(source) = source {
            railway.service_connect(&made.id, &source).await.unwrap();
        }
    }
    let found = railway
        .services_named(&house.project, "shop")
        .await
        .unwrap();
    let place = house.place(&found[7]);
    let all = ServiceSettings {
        start_command: Change::To("serve".into()),
        build_command: Change::Clear,
        dockerfile_path: Change::To("ops/Dockerfile".into()),
        root_directory: Change::To("/server".into()),
        healthcheck_path: Change::To("/mcp".into()),
        source: Some(image()),
    };
    railway.service_set(&place, &all).await.unwrap();
    railway
        .service_set(&place, &ServiceSettings::default())
        .await
        .unwrap();
    railway.variables_set(&place, &given, true).await.unwrap();
    railway.variables_set(&place, &given, false).await.unwrap();
    railway.variable_names(&place).await.unwrap();
    railway
        .variables_remove(&place, &[env("REGION")])
        .await
        .unwrap();

    railway.domain_create(&place, 8080).await.unwrap();
    railway.deploy(&place, Some("c0ffee")).await.unwrap();
    let id = railway.deploy(&place, None).await.unwrap();
    railway.deployment(&id).await.unwrap();
    house.latest(&place).await;
    railway.standing_deployments(&place).await.unwrap();
    for filter in [None, Some("now")] {
        let mut position = LogPosition::default();
        railway
            .build_logs(&id, &mut position, filter)
            .await
            .unwrap();
        railway
            .build_logs(&id, &mut position, filter)
            .await
            .unwrap();
        let log: Vec<_> = (0..5_000)
            .map(|at| {
                (
                    time::OffsetDateTime::UNIX_EPOCH + time::Duration::seconds(at),
                    "x now".into(),
                )
            })
            .collect();
        house.fake.state().deployment(id.as_str()).run_log = log;
        railway
            .run_logs(&id, &mut LogPosition::default(), filter)
            .await
            .unwrap();
    }
    railway.deployment_cancel(&id).await.unwrap();
    railway.deployment_restart(&id).await.unwrap();
    house
        .fake
        .state()
        .deployment(id.as_str())
        .becomes("SUCCESS");
    railway.deployment_stop(&id).await.unwrap();
    railway.deployment_remove(&id).await.unwrap();
    railway.service_delete(&place.service).await.unwrap();
    assert!(railway.project_is_empty(&project.id).await.unwrap());
    railway.project_delete(&project.id).await.unwrap();
}

/// No two of the same document with the same names of variables in it.
fn different(asked: Vec<Asked>) -> Vec<Asked> {
    let mut kept = BTreeMap::new();
    for asked in asked {
        let inputs = asked.variables.get("input").and_then(Value::as_object);
        let names: BTreeSet<String> = asked
            .variables
            .keys()
            .chain(inputs.into_iter().flat_map(|input| input.keys()))
            .cloned()
            .collect();
        kept.entry((asked.query.clone(), names)).or_insert(asked);
    }
    kept.into_values().collect()
}

/// Where the packages of the mock are.
fn packages() -> Option<PathBuf> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let output = std::process::Command::new("node")
        .arg(fixtures.join("clients/install.mjs"))
        .arg(fixtures.join("graphql"))
        .stderr(Stdio::inherit())
        .output()
        .ok()?;
    let answer: Value = serde_json::from_slice(&output.stdout).ok()?;
    Some(Path::new(answer["dir"].as_str()?).join("node_modules"))
}

struct Mock {
    url: String,
    http: reqwest::Client,
    _dir: tempfile::TempDir,
    _process: Child,
}

impl Mock {
    /// The mock imports its packages from beside itself, where nothing can be put; so it is run as if it were elsewhere.
    async fn start(contracts: &Path, packages: &Path) -> Mock {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("railway-mock.mjs");
        std::os::unix::fs::symlink(contracts.join("railway-mock.mjs"), &script).unwrap();
        std::os::unix::fs::symlink(packages, dir.path().join("node_modules")).unwrap();
        // It does not tell which port it got, so one is chosen for it.
        let port = {
            let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            free.local_addr().unwrap().port()
        };
        let mut process = Command::new("node")
            .args(["--preserve-symlinks", "--preserve-symlinks-main"])
            .arg(&script)
            .arg(contracts.join("railway-schema.graphql"))
            .arg(port.to_string())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let line = lines.next_line().await.unwrap();
        assert!(line.is_some_and(|line| line.contains("railway mock")));
        let _ = rustls::crypto::ring::default_provider().install_default();
        Mock {
            url: format!("http://127.0.0.1:{port}/graphql/v2"),
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            _dir: dir,
            _process: process,
        }
    }

    async fn ask(&self, header: &str, query: &str, variables: &Value) -> (u16, Value) {
        let body = json!({ "query": query, "variables": variables });
        let answer = self
            .http
            .post(&self.url)
            .header(header, "Bearer x")
            .header("content-type", "application/json")
            .body(body.to_string())
            .send()
            .await
            .unwrap();
        let status = answer.status().as_u16();
        (
            status,
            serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap(),
        )
    }
}

#[tokio::test]
async fn all_that_is_sent_fits_the_schema() {
    let house = House::with_key(WORKSPACE_KEY).await;
    everything(&house).await;
    let asked = different(house.fake.asked());
    let sent: BTreeSet<&str> = asked.iter().map(|asked| asked.query.as_str()).collect();
    let written: BTreeSet<&str> = DOCUMENTS.iter().copied().flatten().copied().collect();
    assert_eq!(sent, written, "each document is sent, and no other");

    let Some(contracts) = contracts() else {
        left_out::say(
            "Railway's schema is not at hand: what is sent to it was held against the test's own Railway only",
        );
        return;
    };
    let Some(packages) = packages() else {
        left_out::say(
            "what Railway's mock needs cannot be installed: what is sent was held against the test's own Railway only",
        );
        return;
    };
    let mock = Mock::start(&contracts, &packages).await;
    let mut wrong = Vec::new();
    for asked in &asked {
        let variables = Value::Object(asked.variables.clone());
        let (status, answer) = mock.ask(asked.header, &asked.query, &variables).await;
        if status != 200 || answer.get("errors").is_some() {
            wrong.push(format!("{}: {status} {answer}", asked.query));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    println!(
        "{} requests of Railway's adapter fit its schema",
        asked.len()
    );

    // And the mock would say so if they did not: of a document, and of its variables.
    let wrong = "query Q($id: String!) { deployment(id: $id) { state } }";
    let (status, _) = mock
        .ask("authorization", wrong, &json!({ "id": "x" }))
        .await;
    assert_eq!(status, 400);
    let create = asked
        .iter()
        .find(|asked| asked.field == "serviceCreate")
        .unwrap();
    let unknown = json!({ "input": { "projectId": "x", "vars": {} } });
    let (_, answer) = mock.ask("authorization", &create.query, &unknown).await;
    assert!(answer.get("errors").is_some());
}
