//! The suite: installed once, run against an address, and what it wrote down read again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;
use tokio::process::Command;

use crate::clients;

/// By scenario and check.
pub type Found = BTreeMap<String, BTreeMap<String, Verdict>>;

/// How a check ended; of one that was made several times, the worst.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Verdict {
    pub status: Status,
    pub why: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    Skipped,
    Passed,
    Warned,
    Failed,
}

pub struct Suite {
    node: PathBuf,
    program: PathBuf,
}

impl Suite {
    pub fn installed() -> Suite {
        let installed = clients::install(&clients::script("../conformance"));
        let program = "node_modules/@modelcontextprotocol/conformance/dist/index.js";
        Suite {
            node: installed.newer_node(),
            program: installed.dir.join(program),
        }
    }

    /// Every scenario for servers of that revision of the protocol, also those that it does not count.
    pub async fn run(&self, url: &str, revision: &str) -> Found {
        let out = tempfile::tempdir().unwrap();
        let output = Command::new(&self.node)
            .arg(&self.program)
            .args(["server", "--url", url, "--requirements", revision, "-o"])
            .arg(out.path())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .unwrap();
        let found = read(out.path());
        // It fails when a scenario does; that it ran is seen by what it wrote.
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!found.is_empty(), "{revision} at {url}: {said}");
        found
    }
}

/// `server-SCENARIO-TIME/checks.json`, each.
fn read(out: &Path) -> Found {
    let time = "-2026-11-26T22-35-29-524Z".len();
    std::fs::read_dir(out)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let scenario = name.strip_prefix("server-").unwrap();
            let scenario = scenario[..scenario.len() - time].to_owned();
            let checks = std::fs::read(entry.path().join("checks.json")).unwrap();
            (
                scenario,
                verdicts(&serde_json::from_slice(&checks).unwrap()),
            )
        })
        .collect()
}

fn verdicts(checks: &Value) -> BTreeMap<String, Verdict> {
    let mut verdicts = BTreeMap::new();
    for check in checks.as_array().unwrap() {
        let verdict = Verdict {
            status: match check["status"].as_str().unwrap() {
                "SUCCESS" => Status::Passed,
                "WARNING" => Status::Warned,
                "FAILURE" => Status::Failed,
                // Also what it tells for information.
                _ => Status::Skipped,
            },
            why: check["errorMessage"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
        };
        let worst = verdicts
            .entry(check["id"].as_str().unwrap().to_owned())
            .or_insert_with(|| verdict.clone());
        if verdict > *worst {
            *worst = verdict;
        }
    }
    verdicts
}
