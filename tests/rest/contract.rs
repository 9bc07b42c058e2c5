//! The API against its own description: schemathesis sends what the OpenAPI document allows and what it forbids, with a token of
//! each level, and looks at every answer.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use sealport::model::levels::Level;
use sha2::{Digest, Sha256};
use tokio::process::Command;

use crate::house::House;

/// What no answer may be: a fault of ours, a status or a shape that is not described, an acceptance of what is forbidden.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,\
    response_schema_conformance,negative_data_rejection,unsupported_method,ignored_auth";
/// Revoking ends the token with which it is asked; deploying fetches what a package is called; following has no end.
const APART: [&str; 3] = [
    "DELETE /api/v1/tokens/{id}",
    "POST /api/v1/deployments",
    "GET /api/v1/deployments/{name}/logs",
];

/// Installs what requirements.txt names once into the user's cache. None where it cannot be fetched.
async fn schemathesis() -> Option<PathBuf> {
    let wanted =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/schemathesis/requirements.txt");
    let hash = hex::encode(Sha256::digest(std::fs::read(&wanted).unwrap()));
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache"),
        PathBuf::from,
    );
    let dir = cache.join("sealport/schemathesis").join(&hash[..16]);
    let program = dir.join("bin/schemathesis");
    // Its own scripts name the directory, so it is made in place, and complete when the mark is there.
    let whole = dir.join("whole");
    if !whole.exists() {
        let _ = std::fs::remove_dir_all(&dir);
        let run = async |command: &mut Command| {
            command
                .stdout(Stdio::null())
                .status()
                .await
                .is_ok_and(|status| status.success())
        };
        let made = run(Command::new("python3").args(["-m", "venv"]).arg(&dir)).await
            && run(Command::new(dir.join("bin/python"))
                .args([
                    "-m",
                    "pip",
                    "install",
                    "--quiet",
                    "--disable-pip-version-check",
                    "-r",
                ])
                .arg(&wanted))
            .await;
        if !made {
            return None;
        }
        std::fs::write(&whole, "").unwrap();
    }
    Some(program)
}

#[tokio::test]
async fn the_api_answers_as_its_document_says_to_a_token_of_each_level() {
    let Some(schemathesis) = schemathesis().await else {
        crate::common::left_out::say(
            "schemathesis cannot be installed: the API was not held against its document",
        );
        return;
    };
    let house = House::new().await;
    let reports = tempfile::tempdir().unwrap();
    // Of what is forbidden some is too large to be read at all.
    let settings = "[checks]\nnegative_data_rejection.expected-statuses = [400, 401, 403, 404, 405, 409, 412, 413, 415, 422, 429]\n";
    std::fs::write(reports.path().join("schemathesis.toml"), settings).unwrap();
    let admin = house.token(&house.ada, Level::Admin, false).await;
    let mut wrong = Vec::new();
    for can in Level::ALL {
        // Each has something to read and to spoil.
        let value = serde_json::json!({"value": "a value to read"});
        let stored = house
            .call("PUT", "/secrets/project/shop/STRIPE_KEY", &admin, value)
            .await;
        assert!(stored.status.is_success(), "{}", stored.text);
        let token = house.token(&house.ada, can, false).await;
        let mut command = Command::new(&schemathesis);
        command
            .args(["run", &format!("{}api/openapi.json", house.at)])
            .args(["--header", &format!("Authorization: Bearer {token}")])
            .args(["--checks", CHECKS, "--phases", "examples,coverage,fuzzing"])
            .args([
                "--max-examples",
                "10",
                "--seed",
                "4",
                "--request-timeout",
                "60",
                "--no-color",
            ])
            .current_dir(reports.path())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        for name in APART {
            command.args(["--exclude-name", name]);
        }
        let output = command.output().await.unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let summary = said.rsplit("SUMMARY").next().unwrap_or_default();
        println!(
            "a token that can {}:{}",
            can.as_str(),
            summary.trim_matches(['=', ' '])
        );
        // A run whose token opens nothing would find nothing.
        let opened = house
            .call("GET", "/secrets", &token, serde_json::Value::Null)
            .await;
        assert_eq!(
            opened.status, 200,
            "the token holds to the end: {}",
            opened.text
        );
        if !output.status.success() {
            wrong.push(format!("{}: {said}", can.as_str()));
        }
    }
    house.close().await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
