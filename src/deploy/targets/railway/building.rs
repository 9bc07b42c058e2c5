//! What Railway builds and runs, as it wants to be told.

use std::collections::BTreeMap;

use url::Url;

use super::whereabouts::said;
use crate::deploy::providers::railway::{Change, ServiceSettings, Source};
use crate::deploy::targets::shape::Shape;
use crate::model::errors::Refusal;

/// Errors: `Invalid` at the source, when it is a repository that Railway does not reach.
pub(super) fn built(
    shape: Shape,
    options: &BTreeMap<String, String>,
) -> Result<(Source, ServiceSettings), Refusal> {
    let health_check = change(said(options, "health_check").map(str::to_owned));
    // What is not said is as if it had never been: the service may have had another source before.
    Ok(match shape {
        Shape::Image { reference, command } => (
            Source::Image(reference),
            ServiceSettings {
                start_command: change(command),
                build_command: Change::Clear,
                root_directory: Change::Clear,
                healthcheck_path: health_check,
                source: None,
            },
        ),
        Shape::Native {
            repo,
            branch,
            folder,
            build,
            start,
            ..
        } => (
            Source::Repository {
                name: repository(&repo)?,
                branch,
            },
            ServiceSettings {
                start_command: Change::To(start),
                build_command: Change::To(build),
                root_directory: change(folder.map(|folder| format!("/{folder}"))),
                healthcheck_path: health_check,
                source: None,
            },
        ),
    })
}

/// In the words of a plan.
pub(super) fn says(source: &Source, settings: &ServiceSettings) -> String {
    match (source, &settings.start_command) {
        (Source::Image(image), Change::To(command)) => {
            format!("from the image {image}, started with: {command}")
        }
        (Source::Image(image), _) => format!("from the image {image}"),
        (Source::Repository { name, branch }, _) => match branch {
            Some(branch) => format!("built by Railway from {name} on GitHub, branch {branch}"),
            None => format!("built by Railway from {name} on GitHub"),
        },
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
        let (source, settings) = built(image, &BTreeMap::new()).unwrap();
        assert_eq!(source, Source::Image("ghcr.io/ada/shop:1".into()));
        assert_eq!(
            says(&source, &settings),
            "from the image ghcr.io/ada/shop:1"
        );
        assert_eq!(settings.start_command, Change::Clear);
        assert_eq!(settings.root_directory, Change::Clear);

        let options = BTreeMap::from([("health_check".to_owned(), "/healthz".to_owned())]);
        let native = Shape::Native {
            repo: "https://github.com/ada/shop".into(),
            branch: Some("next".into()),
            folder: Some("server".into()),
            runtime: Runtime::Node,
            build: "npm install".into(),
            start: "node index.js".into(),
        };
        let (source, settings) = built(native, &options).unwrap();
        assert_eq!(
            says(&source, &settings),
            "built by Railway from ada/shop on GitHub, branch next"
        );
        assert_eq!(settings.root_directory, Change::To("/server".into()));
        assert_eq!(settings.healthcheck_path, Change::To("/healthz".into()));
        assert_eq!(settings.build_command, Change::To("npm install".into()));
    }
}
