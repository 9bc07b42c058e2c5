//! What Render builds and runs, as it wants to be told.

use std::collections::BTreeMap;

use crate::deploy::providers::render::{
    NewService, Plan, Region, Runtime, ServiceBuild, ServiceSource,
};
use crate::deploy::targets::shape::{Build, Shape};
use crate::model::errors::Refusal;
use crate::model::sources;

/// A service as a release wants it.
pub(super) struct Wanted {
    pub service: NewService,
    /// None: what is newest.
    pub commit: Option<String>,
}

impl Wanted {
    /// Errors: `Invalid` at the option that Render does not know.
    pub(super) fn of(
        shape: Shape,
        name: &str,
        options: &BTreeMap<String, String>,
        owner: &str,
    ) -> Result<Wanted, Refusal> {
        let (source, commit) = match shape {
            Shape::Image { reference, command } => (
                ServiceSource::Image {
                    path: reference,
                    command,
                },
                None,
            ),
            Shape::Repository {
                repo,
                branch,
                commit,
                folder,
                build,
            } => (
                ServiceSource::Git {
                    repo,
                    branch,
                    folder,
                    build: service_build(build),
                },
                commit,
            ),
        };
        let service = NewService {
            owner: owner.to_owned(),
            name: name.to_owned(),
            source,
            region: word(
                options,
                "region",
                Region::Oregon,
                Region::parse,
                Region::ALL,
            )?,
            plan: word(options, "plan", Plan::Starter, Plan::parse, Plan::ALL)?,
            health_check_path: options.get("health_check").cloned(),
        };
        Ok(Wanted { service, commit })
    }

    /// In the words of a plan.
    pub(super) fn says(&self) -> String {
        match &self.service.source {
            ServiceSource::Image { path, command } => match command {
                Some(command) => format!("from the image {path}, started with: {command}"),
                None => format!("from the image {path}"),
            },
            ServiceSource::Git { repo, build, .. } => {
                let by = match build {
                    ServiceBuild::Dockerfile {
                        path: Some(path), ..
                    } => format!(" by its {path}"),
                    _ => String::new(),
                };
                let of = self.commit.as_ref().map_or_else(
                    || "what is newest there".to_owned(),
                    |commit| format!("the commit {commit}"),
                );
                format!("built by Render from {repo}{by}: {of}")
            }
        }
    }
}

fn service_build(build: Build) -> ServiceBuild {
    match build {
        Build::Native {
            runtime,
            build,
            start,
        } => ServiceBuild::Native {
            runtime: match runtime {
                sources::Runtime::Node => Runtime::Node,
                sources::Runtime::Python => Runtime::Python,
            },
            build,
            start,
        },
        Build::Dockerfile { path, command } => ServiceBuild::Dockerfile {
            path: Some(path),
            context: None,
            command,
        },
    }
}

/// With an empty command where there is none: left out, the one of before would stay, and start what is gone.
pub(super) fn cleared(source: ServiceSource) -> ServiceSource {
    match source {
        ServiceSource::Image { path, command } => ServiceSource::Image {
            path,
            command: Some(command.unwrap_or_default()),
        },
        ServiceSource::Git {
            repo,
            branch,
            folder,
            build:
                ServiceBuild::Dockerfile {
                    path,
                    context,
                    command,
                },
        } => ServiceSource::Git {
            repo,
            branch,
            folder,
            build: ServiceBuild::Dockerfile {
                path,
                context,
                command: Some(command.unwrap_or_default()),
            },
        },
        native => native,
    }
}

/// An option that is one of a list of words.
pub(super) fn word<T: Copy + std::fmt::Display>(
    options: &BTreeMap<String, String>,
    name: &str,
    unless_said: T,
    parse: impl Fn(&str) -> Option<T>,
    all: &[T],
) -> Result<T, Refusal> {
    let Some(said) = options
        .get(name)
        .map(|said| said.trim())
        .filter(|said| !said.is_empty())
    else {
        return Ok(unless_said);
    };
    parse(said).ok_or_else(|| {
        let words: Vec<String> = all.iter().map(T::to_string).collect();
        Refusal::invalid(
            &format!("options.{name}"),
            format!("For the {name} Render knows {}.", words.join(", ")),
        )
    })
}
