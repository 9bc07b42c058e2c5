//! Where a deployment runs.

use serde::{Deserialize, Serialize};

use super::deployments::StepName;

/// What a provider has of a deployment. Written down before anything is built on it, so that nothing is made twice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Placed {
    /// Whose it is there: a workspace or an owner, by id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// Sealport made the project, and so removes it with the last that is in it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub project_made: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Where the server answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The variables that Sealport set there: no others are ever changed or removed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env_names: Vec<String>,
    /// The provider's deploy that belongs to a release.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deploy: Option<PlacedDeploy>,
    /// Whether the server answers at its own address to whoever comes without the gateway's secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open: Option<bool>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacedDeploy {
    pub release: i32,
    pub id: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// A process of this machine, in a sandbox.
    Local,
    Render,
    Railway,
}

/// Something that a target wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetOption {
    pub name: &'static str,
    /// What it is, in a sentence.
    pub says: &'static str,
}

impl Target {
    pub const ALL: [Target; 3] = [Target::Local, Target::Render, Target::Railway];

    pub fn as_str(self) -> &'static str {
        match self {
            Target::Local => "local",
            Target::Render => "render",
            Target::Railway => "railway",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Target::ALL
            .into_iter()
            .find(|target| target.as_str() == name)
    }

    /// As a person calls it.
    pub fn title(self) -> &'static str {
        match self {
            Target::Local => "This machine",
            Target::Render => "Render",
            Target::Railway => "Railway",
        }
    }

    pub fn is_remote(self) -> bool {
        self != Target::Local
    }

    /// Where the provider's key stands unless another path is named; none where there is no provider.
    pub fn key_path(self) -> Option<&'static str> {
        match self {
            Target::Local => None,
            Target::Render => Some("meta/render/api_key"),
            Target::Railway => Some("meta/railway/api_key"),
        }
    }

    /// The steps of a release there, in their order.
    pub fn steps(self) -> &'static [StepName] {
        match self {
            Target::Local => &[
                StepName::Fetch,
                StepName::Install,
                StepName::Start,
                StepName::Handshake,
            ],
            Target::Render | Target::Railway => {
                &[StepName::Provision, StepName::Build, StepName::Handshake]
            }
        }
    }

    /// What may be said beside source and bindings; none of it must.
    pub fn options(self) -> &'static [TargetOption] {
        match self {
            Target::Local => &[COMMAND, TRANSPORT],
            Target::Render => &[
                COMMAND,
                TRANSPORT,
                BRANCH,
                HEALTH_CHECK,
                TargetOption {
                    name: "owner",
                    says: "The workspace at Render, by id or name; needed when the key opens several.",
                },
                TargetOption {
                    name: "region",
                    says: "oregon, ohio, virginia, frankfurt or singapore; oregon unless said. It stays as it was made.",
                },
                TargetOption {
                    name: "plan",
                    says: "free, starter, standard, pro and so on, as Render names them; starter unless said.",
                },
            ],
            Target::Railway => &[
                COMMAND,
                TRANSPORT,
                BRANCH,
                HEALTH_CHECK,
                TargetOption {
                    name: "workspace",
                    says: "The workspace at Railway, by id or name, where a project is made.",
                },
                TargetOption {
                    name: "project",
                    says: "The project, by id or name; one with the deployment’s name is made unless said.",
                },
                TargetOption {
                    name: "environment",
                    says: "The environment of that project, by id or name; production unless said.",
                },
            ],
        }
    }
}

impl Target {
    /// Those that only a target has: command and transport belong to the source.
    pub fn own_options(self) -> impl Iterator<Item = &'static TargetOption> {
        let of_source = [COMMAND.name, TRANSPORT.name];
        self.options()
            .iter()
            .filter(move |option| !of_source.contains(&option.name))
    }
}

impl TargetOption {
    /// As a field is headed, as in "Health check".
    pub fn title(&self) -> String {
        let mut title = self.name.replace('_', " ");
        if let Some(first) = title.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        title
    }
}

const COMMAND: TargetOption = TargetOption {
    name: "command",
    says: "The command that starts it, instead of what looking at the source finds.",
};
const TRANSPORT: TargetOption = TargetOption {
    name: "transport",
    says: "stdio or http, instead of what looking at the source finds.",
};
const BRANCH: TargetOption = TargetOption {
    name: "branch",
    says: "The branch of a git source that the provider builds from; its default one unless said.",
};
const HEALTH_CHECK: TargetOption = TargetOption {
    name: "health_check",
    says: "A path that answers 200 when the server is up, as in /healthz.",
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_has_one_name_and_its_own_options() {
        for target in Target::ALL {
            assert_eq!(Target::from_name(target.as_str()), Some(target));
            assert_eq!(target.key_path().is_some(), target.is_remote());
            let mut names: Vec<_> = target.options().iter().map(|option| option.name).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), target.options().len(), "{target:?}");
            assert_eq!(target.steps().last(), Some(&StepName::Handshake));
            assert!(target.steps().is_sorted());
            assert_eq!(target.own_options().count() + 2, target.options().len());
        }
        assert_eq!(Target::from_name("kubernetes"), None);
        assert_eq!(HEALTH_CHECK.title(), "Health check");
    }
}
