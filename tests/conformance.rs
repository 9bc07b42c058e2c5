//! The official conformance suite against one server twice: at the SDK's own HTTP transports, and deployed as a stdio server, through the
//! gateway. In both eras, what the suite finds is the same, check by check, but for what `differences.rs` names with its reason.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
#[path = "common/installed.rs"]
mod installed;
#[path = "store_deployments/world.rs"]
#[allow(dead_code)]
mod world;

#[path = "fixtures/clients/mod.rs"]
mod clients;

#[path = "conformance/differences.rs"]
mod differences;
#[path = "conformance/servers.rs"]
mod servers;
#[path = "conformance/suite.rs"]
mod suite;

use std::collections::BTreeSet;

use differences::{DIFFERENCES, OF_SESSIONS, SESSIONS, STATELESS};
use servers::{Direct, Gateway};
use suite::{Found, Suite};

#[tokio::test]
async fn the_gateway_conforms_as_the_server_behind_it_does() {
    let suite = Suite::installed();
    let direct = Direct::start().await;
    let gateway = Gateway::shared().await;
    let mut wrong = Vec::new();
    for revision in [SESSIONS, STATELESS] {
        let alone = suite.run(&direct.url, revision).await;
        let behind = suite.run(&gateway.url, revision).await;
        assert!(alone.len() > 25, "{revision}: {alone:?}");
        wrong.extend(compared(revision, &alone, &behind));
    }
    gateway.close().await;

    // A server of sessions that a caller has alone asks them through the gateway as it does without; also where the client has none.
    let gateway = Gateway::own().await;
    for (revision, label) in [(SESSIONS, SESSIONS), (STATELESS, OF_SESSIONS)] {
        let alone = suite.run(&direct.url, revision).await;
        let behind = suite.run(&gateway.url, revision).await;
        wrong.extend(compared(label, &alone, &behind));
    }
    gateway.close().await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What differs and is not named, and what is named and does not differ.
fn compared(revision: &str, alone: &Found, behind: &Found) -> Vec<String> {
    let named = |scenario: &str, check: &str| {
        DIFFERENCES.iter().any(|difference| {
            difference.revision == revision
                && difference.scenario == scenario
                && difference.checks.contains(&check)
        })
    };
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    let scenarios: BTreeSet<&String> = alone.keys().chain(behind.keys()).collect();
    for scenario in scenarios {
        let of = |found: &Found| found.get(scenario).cloned().unwrap_or_default();
        let (alone, behind) = (of(alone), of(behind));
        let checks: BTreeSet<&String> = alone.keys().chain(behind.keys()).collect();
        for check in checks {
            let (alone, behind) = (alone.get(check), behind.get(check));
            let differs = alone.map(|one| one.status) != behind.map(|one| one.status);
            if differs {
                seen.insert((scenario.clone(), check.clone()));
            }
            if differs && !named(scenario, check) {
                wrong.push(format!(
                    "{revision} {scenario} {check}\n  alone:  {alone:?}\n  behind: {behind:?}"
                ));
            }
        }
    }
    for difference in DIFFERENCES
        .iter()
        .filter(|difference| difference.revision == revision)
    {
        for check in difference.checks {
            if !seen.contains(&(difference.scenario.to_owned(), (*check).to_owned())) {
                wrong.push(format!(
                    "{revision} {} {check} does not differ any more",
                    difference.scenario
                ));
            }
        }
    }
    wrong
}
