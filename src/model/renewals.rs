//! Where a secret runs, and how its newest value gets there.

use std::hash::{DefaultHasher, Hash, Hasher};

use serde::{Deserialize, Serialize};

use super::deployments::{DeploymentState, ReleaseState, StepName};
use super::levels::Level;
use super::paths::DeploymentName;
use super::plans::Begun;
use super::targets::Target;

/// A deployment that runs a secret now, or that was asked to run its newest value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretRun {
    pub deployment: DeploymentName,
    pub target: Target,
    pub state: DeploymentState,
    /// How far one reaches on it: `read` at least.
    pub level: Level,
    /// The version that runs; none where nothing does.
    pub version: Option<i32>,
    /// Whether its value is the newest one, also under an older version's number.
    pub is_current: bool,
    /// The newest release, where it was asked for after the newest value was stored.
    pub renewal: Option<Renewal>,
}

/// A release that is to bring the newest value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renewal {
    pub release: i32,
    pub state: ReleaseState,
    /// The step that is under way.
    pub step: Option<StepName>,
    pub reason: Option<String>,
}

impl SecretRun {
    pub fn is_under_way(&self) -> bool {
        let renewal = self.renewal.as_ref();
        renewal.is_some_and(|it| [ReleaseState::Queued, ReleaseState::Running].contains(&it.state))
    }

    /// It runs an older value, and nothing is under way that brings the newest.
    pub fn is_older(&self) -> bool {
        self.version.is_some() && !self.is_current && !self.is_under_way()
    }
}

/// Another text whenever any of it is another: a page tells by it whether it is fresh.
pub fn gist(runs: &[SecretRun]) -> String {
    let mut hasher = DefaultHasher::new();
    for run in runs {
        (run.deployment.as_str(), run.state.as_str()).hash(&mut hasher);
        (run.version, run.is_current).hash(&mut hasher);
        if let Some(renewal) = &run.renewal {
            (renewal.release, renewal.state.as_str(), &renewal.reason).hash(&mut hasher);
            renewal.step.map(StepName::as_str).hash(&mut hasher);
        }
    }
    format!("{:016x}", hasher.finish())
}

/// What came of redeploying all that run an older value of a secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renewed {
    pub begun: Vec<Begun>,
    pub skipped: Vec<Skipped>,
    /// There are more of them than one request redeploys.
    pub more: bool,
}

/// A deployment that runs an older value and was left as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    pub deployment: DeploymentName,
    /// In a sentence.
    pub why: String,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn run(version: Option<i32>, is_current: bool, state: Option<ReleaseState>) -> SecretRun {
        SecretRun {
            deployment: DeploymentName::parse("crawl").unwrap(),
            target: Target::Local,
            state: DeploymentState::Running,
            level: Level::Read,
            version,
            is_current,
            renewal: state.map(|state| Renewal {
                release: 2,
                state,
                step: None,
                reason: None,
            }),
        }
    }

    #[test]
    fn older_is_what_runs_an_older_value_and_has_no_newer_one_on_its_way() {
        for (version, is_current, state, older) in [
            (Some(1), false, None, true),
            (Some(1), false, Some(ReleaseState::Queued), false),
            (Some(1), false, Some(ReleaseState::Running), false),
            (Some(1), false, Some(ReleaseState::Failed), true),
            (Some(2), true, Some(ReleaseState::Live), false),
            (None, false, Some(ReleaseState::Failed), false),
        ] {
            let it = run(version, is_current, state);
            assert_eq!(it.is_older(), older, "{it:?}");
        }
    }

    #[test]
    fn the_gist_is_another_when_anything_moved() {
        let at = |state| gist(&[run(Some(1), false, Some(state))]);
        assert_eq!(at(ReleaseState::Queued), at(ReleaseState::Queued));
        assert_ne!(at(ReleaseState::Queued), at(ReleaseState::Running));
        assert_ne!(gist(&[]), at(ReleaseState::Queued));
    }
}
