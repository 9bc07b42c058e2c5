//! What a provider runs of a deployment: an image, a repository that it builds, or the bridge with a pinned package.

use std::collections::BTreeMap;

use crate::model::errors::Refusal;
use crate::model::sources::{Runtime, Source, StartPlan, Transport};

/// Where a server at a provider listens, as it does here.
pub(super) const PORT: u16 = 8080;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Image {
        reference: String,
        /// Instead of the image's own.
        command: Option<String>,
    },
    /// Built by the provider, with its own runtime for the language.
    Native {
        repo: String,
        branch: Option<String>,
        folder: Option<String>,
        runtime: Runtime,
        build: String,
        start: String,
    },
}

/// Errors: `Invalid` at the field that is in the way, with what to do: what cannot go is said before anything is made.
pub(super) fn shape(
    source: &Source,
    start: &StartPlan,
    options: &BTreeMap<String, String>,
    bridge_image: Option<&str>,
) -> Result<Shape, Refusal> {
    match source {
        Source::Image { reference } => Ok(Shape::Image {
            reference: reference.clone(),
            command: options
                .get("command")
                .map(|command| command.trim().to_owned())
                .filter(|command| !command.is_empty()),
        }),
        Source::Npm { package, version } => {
            let pinned = pinned(package, "@", version)?;
            let mut words = vec!["npx".to_owned(), "-y".to_owned(), pinned];
            // The package's own program; what was looked at is the file behind it.
            let after_options = start
                .command
                .iter()
                .skip_while(|word| word.starts_with('-'));
            words.extend(after_options.skip(1).cloned());
            bridged(bridge_image, "node", words, start)
        }
        Source::Pypi { package, version } => {
            let pinned = pinned(package, "==", version)?;
            let mut words = vec!["uvx".to_owned(), "--from".to_owned(), pinned];
            if start.command.first().is_some_and(|word| word == "-m") {
                words.push("python".to_owned());
            }
            words.extend(start.command.iter().cloned());
            bridged(bridge_image, "python", words, start)
        }
        Source::Git { url, folder, .. } => native(url, folder.as_deref(), start, options),
        Source::Dir { .. } => Err(Refusal::invalid(
            "source",
            "A directory of this machine runs on this machine alone.",
        )),
    }
}

fn pinned(package: &str, between: &str, version: &Option<String>) -> Result<String, Refusal> {
    match version {
        Some(version) => Ok(format!("{package}{between}{version}")),
        None => Err(Refusal::invalid(
            "source",
            "A package goes to a provider with its exact version, so that what was looked at is what runs.",
        )),
    }
}

/// A package in the bridge image, which has its runner.
fn bridged(
    bridge_image: Option<&str>,
    variant: &str,
    words: Vec<String>,
    start: &StartPlan,
) -> Result<Shape, Refusal> {
    let image = bridge_image.ok_or_else(|| {
        Refusal::invalid(
            "source",
            "An npm or PyPI package goes to a provider in the bridge image, and this installation names none. An operator builds it (packaging/README.md) and sets SEALPORT_BRIDGE_IMAGE; or choose an image or a git source.",
        )
    })?;
    let command = joined(words.into_iter())?;
    Ok(Shape::Image {
        reference: variant_of(image, variant),
        command: Some(match start.transport {
            Transport::Stdio => format!("sealport bridge -- {command}"),
            Transport::Http { .. } => command,
        }),
    })
}

/// `registry/sealport-bridge:1` is `registry/sealport-bridge-node:1` for npm.
fn variant_of(image: &str, variant: &str) -> String {
    let name_at = image.rfind('/').map_or(0, |slash| slash + 1);
    match image[name_at..].find(':') {
        Some(colon) => {
            let (name, tag) = image.split_at(name_at + colon);
            format!("{name}-{variant}{tag}")
        }
        None => format!("{image}-{variant}"),
    }
}

fn native(
    url: &str,
    folder: Option<&str>,
    start: &StartPlan,
    options: &BTreeMap<String, String>,
) -> Result<Shape, Refusal> {
    if start.transport == Transport::Stdio {
        return Err(Refusal::invalid(
            "source",
            "This server speaks over standard input and output, and a provider needs one that listens. Choose one that speaks HTTP, a package (npm: or pypi:), or an image that starts `sealport bridge -- COMMAND` (docs/guide.md shows its Dockerfile).",
        ));
    }
    // A Python command is a script of the package, unless it is a module or a file.
    let is_script = |word: &String| !word.starts_with('-') && !word.ends_with(".py");
    let (build, runner) = match start.runtime {
        Runtime::Node => ("npm install --omit=dev", Some("node")),
        Runtime::Python if start.command.first().is_some_and(is_script) => ("pip install .", None),
        Runtime::Python => ("pip install .", Some("python")),
    };
    Ok(Shape::Native {
        repo: url.to_owned(),
        branch: options.get("branch").cloned(),
        folder: folder.map(str::to_owned),
        runtime: start.runtime,
        build: build.to_owned(),
        start: joined(
            runner
                .map(str::to_owned)
                .into_iter()
                .chain(start.command.iter().cloned()),
        )?,
    })
}

/// One line for a shell.
fn joined(words: impl Iterator<Item = String>) -> Result<String, Refusal> {
    let words: Vec<String> = words.collect();
    match words.iter().any(|word| word.contains(['\0', '\n', '\r'])) {
        true => Err(Refusal::invalid(
            "command",
            "A command has no NUL and no line end in it.",
        )),
        false => Ok(shell_words::join(&words)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn start(command: &[&str], transport: Transport) -> StartPlan {
        StartPlan {
            runtime: Runtime::Node,
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            transport,
            said_by: String::new(),
            wants: Vec::new(),
        }
    }

    fn of(source: &str, start: &StartPlan, bridge: Option<&str>) -> Result<Shape, Refusal> {
        shape(
            &Source::parse(source).unwrap(),
            start,
            &BTreeMap::new(),
            bridge,
        )
    }

    #[test]
    fn packages_go_in_the_bridge_image_with_their_exact_version() {
        let stdio = start(
            &[
                "--no-warnings",
                "node_modules/@s/shop/index.js",
                "--name",
                "a b",
            ],
            Transport::Stdio,
        );
        let bridge = Some("registry.example:5000/sealport-bridge:1.2");
        assert_eq!(
            of("npm:@s/shop@1.0.0", &stdio, bridge).unwrap(),
            Shape::Image {
                reference: "registry.example:5000/sealport-bridge-node:1.2".into(),
                command: Some("sealport bridge -- npx -y @s/shop@1.0.0 --name 'a b'".into()),
            }
        );
        let path = "/mcp".to_owned();
        for (command, wanted) in [
            (vec!["shop", "x"], "uvx --from 'shop==1.0.0' shop x"),
            (
                vec!["-m", "shop.main"],
                "uvx --from 'shop==1.0.0' python -m shop.main",
            ),
        ] {
            let http = start(&command, Transport::Http { path: path.clone() });
            assert_eq!(
                of("pypi:shop==1.0.0", &http, Some("bridge")).unwrap(),
                Shape::Image {
                    reference: "bridge-python".into(),
                    command: Some(wanted.into()),
                }
            );
        }
        let refused = of("npm:shop@1.0.0", &stdio, None).unwrap_err();
        assert!(
            refused.detail.contains("SEALPORT_BRIDGE_IMAGE"),
            "{refused}"
        );
        let refused = of("npm:shop", &stdio, bridge).unwrap_err();
        assert_eq!(refused.field.as_deref(), Some("source"));
    }

    #[test]
    fn what_cannot_go_is_said() {
        let stdio = start(&["index.js"], Transport::Stdio);
        let http = start(
            &["index.js"],
            Transport::Http {
                path: "/mcp".into(),
            },
        );
        let source = "git:https://git.example/a/b#1234567:folder";
        let refused = of(source, &stdio, Some("bridge")).unwrap_err();
        assert!(refused.detail.contains("sealport bridge"), "{refused}");
        assert!(of("dir:/srv/x", &http, None).is_err());
        let Shape::Native {
            repo,
            folder,
            start,
            ..
        } = of(source, &http, None).unwrap()
        else {
            panic!("not built there");
        };
        assert_eq!(
            (repo.as_str(), folder.as_deref(), start.as_str()),
            ("https://git.example/a/b", Some("folder"), "node index.js")
        );
    }
}
