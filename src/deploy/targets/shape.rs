//! What a provider runs of a deployment: an image, a repository that it builds, or the bridge with a pinned package. And the
//! Dockerfile for a repository that has none and that no provider could run as it is.

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
    /// Built by the provider.
    Repository {
        repo: String,
        branch: Option<String>,
        /// What was looked at, so that nothing newer gets the values.
        commit: Option<String>,
        folder: Option<String>,
        build: Build,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Build {
    /// With the provider's own runtime for the language.
    Native {
        runtime: Runtime,
        build: String,
        start: String,
    },
    Dockerfile {
        /// Below the folder.
        path: String,
        /// Instead of the image's own.
        command: Option<String>,
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
            command: said(options, "command"),
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
        Source::Git {
            url,
            reference,
            folder,
        } => Ok(Shape::Repository {
            repo: url.clone(),
            branch: said(options, "branch"),
            commit: reference.clone().filter(|reference| is_commit(reference)),
            folder: folder.clone(),
            build: build(start, options)?,
        }),
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

fn build(start: &StartPlan, options: &BTreeMap<String, String>) -> Result<Build, Refusal> {
    if let Some(path) = said(options, "dockerfile") {
        let is_below = !path.starts_with('/') && path.split('/').all(|part| part != "..");
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
        if !is_below || !path.chars().all(is_plain) {
            return Err(Refusal::invalid(
                "options.dockerfile",
                "The path of a Dockerfile is one below the source's folder, as in Dockerfile or docker/Dockerfile.",
            ));
        }
        return Ok(Build::Dockerfile {
            path,
            command: said(options, "command"),
        });
    }
    if start.transport == Transport::Stdio {
        return Err(Refusal::invalid(
            "source",
            "This server speaks over standard input and output, and a provider needs one that listens. Put a Dockerfile that starts it with `sealport bridge -- COMMAND` into the repository (the wizard’s review and `sealport deploy … --dry-run` write one) and name it with the option dockerfile; or choose a package (npm: or pypi:) or an image.",
        ));
    }
    let build = match start.runtime {
        Runtime::Node => "npm install --omit=dev",
        Runtime::Python => "pip install .",
    };
    Ok(Build::Native {
        runtime: start.runtime,
        build: build.to_owned(),
        start: joined(words_of(start))?,
    })
}

/// The program that starts it, where its source is installed, and its arguments.
fn words_of(start: &StartPlan) -> impl Iterator<Item = String> {
    // A Python command is a script of the package, unless it is a module or a file.
    let is_script = |word: &String| !word.starts_with('-') && !word.ends_with(".py");
    let runner = match start.runtime {
        Runtime::Node => Some("node"),
        Runtime::Python if start.command.first().is_some_and(is_script) => None,
        Runtime::Python => Some("python"),
    };
    let runner = runner.map(str::to_owned).into_iter();
    runner.chain(start.command.iter().cloned())
}

/// An option that says something.
fn said(options: &BTreeMap<String, String>, name: &str) -> Option<String> {
    let said = options.get(name)?.trim();
    (!said.is_empty()).then(|| said.to_owned())
}

fn is_commit(reference: &str) -> bool {
    matches!(reference.len(), 40 | 64) && reference.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A Dockerfile for a repository whose server a provider could not run as it is, to be put there. None for all else. Values have no
/// place in it: they arrive as variables when the image runs.
pub(in crate::deploy) fn written_dockerfile(
    source: &Source,
    start: &StartPlan,
    options: &BTreeMap<String, String>,
    bridge_image: Option<&str>,
) -> Option<String> {
    let is_wanted = matches!(source, Source::Git { .. })
        && start.transport == Transport::Stdio
        && said(options, "dockerfile").is_none();
    if !is_wanted {
        return None;
    }
    let mut words = vec!["sealport".to_owned(), "bridge".to_owned(), "--".to_owned()];
    words.extend(words_of(start));
    let words: Vec<String> = words.into_iter().map(quoted).collect();
    let (from, install, user) = match start.runtime {
        Runtime::Node => (
            "node:24-slim",
            "if [ -f package-lock.json ]; then npm ci; else npm install; fi && npm run build --if-present && npm prune --omit=dev",
            "node",
        ),
        Runtime::Python => (
            "python:3.13-slim",
            "if [ -f requirements.txt ]; then pip install --no-cache-dir -r requirements.txt; fi && if [ -f pyproject.toml ] || [ -f setup.py ]; then pip install --no-cache-dir .; fi",
            "nobody",
        ),
    };
    let (says, bridge) = match bridge_image {
        Some(bridge) => ("", bridge),
        None => (
            "# The name of the bridge image that you pushed goes here (packaging/README.md, The images).\n",
            "registry.example.org/sealport-bridge:1",
        ),
    };
    Some(format!(
        "# Secrets arrive as variables when this image runs. Put none into an ARG, an ENV or a file of it.\n\
         FROM {from}\n\
         {says}COPY --from={bridge} /sealport /usr/local/bin/sealport\n\
         WORKDIR /app\n\
         COPY . .\n\
         RUN {install}\n\
         USER {user}\n\
         ENV NODE_ENV=production\n\
         CMD [{}]\n",
        words.join(", ")
    ))
}

/// A word in JSON, with nothing in it that moves what is read around it: it is shown, and copied.
fn quoted(word: String) -> String {
    let quoted = serde_json::Value::String(word).to_string();
    let is_plain = |c: char| c.is_ascii() && !c.is_ascii_control() || c.is_alphanumeric();
    let mut shown = String::with_capacity(quoted.len());
    for c in quoted.chars() {
        if is_plain(c) {
            shown.push(c);
            continue;
        }
        let mut units = [0; 2];
        for unit in c.encode_utf16(&mut units) {
            shown.push_str(&format!("\\u{unit:04x}"));
        }
    }
    shown
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
        let repository = |build| Shape::Repository {
            repo: "https://git.example/a/b".into(),
            branch: None,
            // Of what names no commit the newest is built.
            commit: None,
            folder: Some("folder".into()),
            build,
        };
        assert_eq!(
            of(source, &http, None).unwrap(),
            repository(Build::Native {
                runtime: Runtime::Node,
                build: "npm install --omit=dev".into(),
                start: "node index.js".into(),
            })
        );
        let options = BTreeMap::from([("dockerfile".to_owned(), " ops/Dockerfile ".to_owned())]);
        let source = Source::parse(source).unwrap();
        assert_eq!(
            shape(&source, &stdio, &options, None).unwrap(),
            repository(Build::Dockerfile {
                path: "ops/Dockerfile".into(),
                command: None,
            })
        );
        for path in [
            "/etc/Dockerfile",
            "../Dockerfile",
            "a/../../b",
            "Docker file",
            "D$(x)",
        ] {
            let options = BTreeMap::from([("dockerfile".to_owned(), path.to_owned())]);
            let refused = shape(&source, &stdio, &options, None).unwrap_err();
            assert_eq!(
                refused.field.as_deref(),
                Some("options.dockerfile"),
                "{path}"
            );
        }
    }

    #[test]
    fn what_was_looked_at_is_what_is_built() {
        let http = start(
            &["index.js"],
            Transport::Http {
                path: "/mcp".into(),
            },
        );
        let commit = "0123456789abcdef0123456789abcdef01234567";
        for (reference, wanted) in [(commit, Some(commit)), ("main", None), ("0123456", None)] {
            let source = format!("git:https://git.example/a/b#{reference}");
            let Shape::Repository { commit, .. } = of(&source, &http, None).unwrap() else {
                panic!("not built there");
            };
            assert_eq!(commit.as_deref(), wanted);
        }
    }

    #[test]
    fn a_dockerfile_is_written_for_a_repository_that_needs_one() {
        let stdio = start(
            &["--no-warnings", "dist/a \"b\".js", "\u{202e}\u{9b}é"],
            Transport::Stdio,
        );
        let http = start(
            &["x.js"],
            Transport::Http {
                path: "/mcp".into(),
            },
        );
        let git = Source::parse("git:https://git.example/a/b").unwrap();
        let npm = Source::parse("npm:x@1.0.0").unwrap();
        let none = BTreeMap::new();
        let written = written_dockerfile(&git, &stdio, &none, Some("bridge:1")).unwrap();
        assert!(
            written.contains("COPY --from=bridge:1 /sealport"),
            "{written}"
        );
        let command = r#"CMD ["sealport", "bridge", "--", "node", "--no-warnings", "dist/a \"b\".js", "\u202e\u009bé"]"#;
        assert!(written.contains(command), "{written}");
        // Nothing of an ARG reaches a build, so no value does.
        assert!(
            !written.lines().any(|line| line.starts_with("ARG")),
            "{written}"
        );
        let said = BTreeMap::from([("dockerfile".to_owned(), "Dockerfile".to_owned())]);
        for (source, start, options) in [
            (&git, &http, &none),
            (&npm, &stdio, &none),
            (&git, &stdio, &said),
        ] {
            assert_eq!(written_dockerfile(source, start, options, None), None);
        }
        let python = StartPlan {
            runtime: Runtime::Python,
            ..start(&["shop"], Transport::Stdio)
        };
        let written = written_dockerfile(&git, &python, &none, None).unwrap();
        assert!(written.contains("that you pushed goes here"), "{written}");
        assert!(
            written.contains(r#""--", "shop"]"#) && written.contains("USER nobody"),
            "{written}"
        );
    }
}
