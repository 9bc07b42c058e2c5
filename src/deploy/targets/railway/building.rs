//! What Railway builds and runs, as it wants to be told.

use std::collections::BTreeMap;

use url::Url;

use super::whereabouts::said;
use crate::deploy::providers::railway::{Change, ServiceSettings, Source};
use crate::deploy::targets::shape::{Build, Shape};
use crate::model::errors::Refusal;

pub(super) struct Built {
    pub source: Source,
    pub settings: ServiceSettings,
    /// None: what is newest.
    pub commit: Option<String>,
}

/// Errors: `Invalid` at the source, when it is a repository that Railway does not reach.
pub(super) fn built(shape: Shape, options: &BTreeMap<String, String>) -> Result<Built, Refusal> {
    let health_check = change(said(options, "health_check").map(str::to_owned));
    // What is not said is as if it had never been: the service may have had another source before.
    Ok(match shape {
        Shape::Image { reference, command } => Built {
            source: Source::Image(reference),
            settings: ServiceSettings {
                start_command: change(command),
                build_command: Change::Clear,
                dockerfile_path: Change::Clear,
                root_directory: Change::Clear,
                healthcheck_path: health_check,
                source: None,
            },
            commit: None,
        },
        Shape::Repository {
            repo,
            branch,
            commit,
            folder,
            build,
        } => {
            let (start_command, build_command, dockerfile_path) = match build {
                Build::Native { build, start, .. } => {
                    (Change::To(start), Change::To(build), Change::Clear)
                }
                Build::Dockerfile { path, command } => {
                    (change(command), Change::Clear, Change::To(path))
                }
            };
            Built {
                source: Source::Repository {
                    name: repository(&repo)?,
                    branch,
                },
                settings: ServiceSettings {
                    start_command,
                    build_command,
                    dockerfile_path,
                    root_directory: change(folder.map(|folder| format!("/{folder}"))),
                    healthcheck_path: health_check,
                    source: None,
                },
                commit,
            }
        }
    })
}

/// In the words of a plan.
pub(super) fn says(built: &Built) -> String {
    match (&built.source, &built.settings.start_command) {
        (Source::Image(image), Change::To(command)) => {
            format!("from the image {image}, started with: {command}")
        }
        (Source::Image(image), _) => format!("from the image {image}"),
        (Source::Repository { name, branch }, _) => {
            let branch = branch.as_ref();
            let branch = branch.map_or(String::new(), |branch| format!(", branch {branch}"));
            let by = match &built.settings.dockerfile_path {
                Change::To(path) => format!(" by its {path}"),
                Change::Keep | Change::Clear => String::new(),
            };
            format!("built by Railway from {name} on GitHub{branch}{by}")
        }
    }
}

fn change(to: Option<String>) -> Change {
    to.map_or(Change::Clear, Change::To)
}

/// `owner/name` on GitHub, which is all that Railway builds from.
fn repository(url: &str) -> Result<String, Refusal> {
    let name = || {
        let url = Url::parse(url).ok()?;
        if !matches!(url.host_str()?, "github.com" | "www.github.com") || url.port().is_some() {
            return None;
        }
        let path = url.path().trim_matches('/');
        let (owner, name) = path.split_once('/')?;
        let name = name.strip_suffix(".git").unwrap_or(name);
        let is_whole = !owner.is_empty() && !name.is_empty() && !name.contains('/');
        is_whole.then(|| format!("{owner}/{name}"))
    };
    name().ok_or_else(|| {
        Refusal::invalid(
            "source",
            "Railway builds from repositories on github.com alone. Choose one there (git:https://github.com/OWNER/NAME), a package (npm: or pypi:), or an image.",
        )
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::sources::Runtime;

    #[test]
    fn a_repository_is_on_github() {
        for (url, name) in [
            ("https://github.com/ada/shop", Some("ada/shop")),
            ("https://github.com/ada/shop.git", Some("ada/shop")),
            ("https://GitHub.com/ada/shop/", Some("ada/shop")),
            ("https://gitlab.com/ada/shop", None),
            ("https://github.com.example/ada/shop", None),
            ("https://github.com:8443/ada/shop", None),
            ("https://github.com/ada", None),
            ("https://github.com/ada/.git", None),
            ("https://github.com/ada/shop/tree", None),
            ("github.com/ada/shop", None),
        ] {
            let found = repository(url);
            assert_eq!(found.as_deref().ok(), name, "{url}");
            let field = found.err().and_then(|refusal| refusal.field);
            assert_eq!(field.is_some(), name.is_none());
        }
    }

    #[test]
    fn what_is_not_said_is_cleared() {
        let image = Shape::Image {
            reference: "ghcr.io/ada/shop:1".into(),
            command: None,
        };
        let image = built(image, &BTreeMap::new()).unwrap();
        assert_eq!(image.source, Source::Image("ghcr.io/ada/shop:1".into()));
        assert_eq!(says(&image), "from the image ghcr.io/ada/shop:1");
        assert_eq!(image.settings.start_command, Change::Clear);
        assert_eq!(image.settings.root_directory, Change::Clear);

        let options = BTreeMap::from([("health_check".to_owned(), "/healthz".to_owned())]);
        let repository = |build| Shape::Repository {
            repo: "https://github.com/ada/shop".into(),
            branch: Some("next".into()),
            commit: None,
            folder: Some("server".into()),
            build,
        };
        let native = repository(Build::Native {
            runtime: Runtime::Node,
            build: "npm install".into(),
            start: "node index.js".into(),
        });
        let native = built(native, &options).unwrap();
        let settings = &native.settings;
        assert_eq!(
            says(&native),
            "built by Railway from ada/shop on GitHub, branch next"
        );
        assert_eq!(settings.root_directory, Change::To("/server".into()));
        assert_eq!(settings.healthcheck_path, Change::To("/healthz".into()));
        assert_eq!(settings.build_command, Change::To("npm install".into()));
        assert_eq!(settings.dockerfile_path, Change::Clear);

        let docker = repository(Build::Dockerfile {
            path: "ops/Dockerfile".into(),
            command: None,
        });
        let docker = built(docker, &BTreeMap::new()).unwrap();
        let settings = &docker.settings;
        assert_eq!(
            says(&docker),
            "built by Railway from ada/shop on GitHub, branch next by its ops/Dockerfile"
        );
        assert_eq!(settings.start_command, Change::Clear);
        assert_eq!(settings.build_command, Change::Clear);
    }
}
