//! Where a server's code comes from, and what inspecting it showed.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::errors::Refusal;

/// `npm:PACKAGE[@VERSION]`, `pypi:PACKAGE[==VERSION]`, `git:https://…[#REF[:FOLDER]]`, `dir:PATH`, `image:REF`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Source {
    Npm {
        package: String,
        version: Option<String>,
    },
    Pypi {
        package: String,
        version: Option<String>,
    },
    Git {
        url: String,
        reference: Option<String>,
        folder: Option<String>,
    },
    Dir {
        path: String,
    },
    Image {
        reference: String,
    },
}

impl Source {
    /// The same folder of the same repository, of whichever commit.
    pub fn is_same_repository(&self, other: &Source) -> bool {
        match (self, other) {
            (
                Source::Git { url, folder, .. },
                Source::Git {
                    url: other_url,
                    folder: other_folder,
                    ..
                },
            ) => (url, folder) == (other_url, other_folder),
            _ => false,
        }
    }

    /// Errors: `Invalid` at the field `source`, with an example of the right form.
    pub fn parse(raw: &str) -> Result<Self, Refusal> {
        let raw = raw.trim();
        let refuse = |detail: &str| Err(Refusal::invalid("source", detail));
        let Some((scheme, rest)) = raw.split_once(':') else {
            return refuse(
                "Say where the code is, as in npm:firecrawl-mcp, pypi:mcp-server-time, git:https://host/repository or dir:/path.",
            );
        };
        if rest.len() > 2_000 || rest.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return refuse("A source has no spaces and at most 2,000 characters.");
        }
        match scheme {
            "npm" => {
                // The first character is left out, for a scope begins with '@' too.
                let at = rest
                    .char_indices()
                    .skip(1)
                    .find(|(_, c)| *c == '@')
                    .map(|(i, _)| i);
                let (package, version) = match at {
                    Some(i) => (&rest[..i], Some(&rest[i + 1..])),
                    None => (rest, None),
                };
                let (scope, name) = match package.strip_prefix('@') {
                    Some(scoped) => match scoped.split_once('/') {
                        Some((scope, name)) => (Some(scope), name),
                        None => return refuse("A scoped npm package looks like npm:@scope/name."),
                    },
                    None => (None, package),
                };
                if !scope.is_none_or(is_package_name) || !is_package_name(name) {
                    return refuse(
                        "An npm source is a registry name, as in npm:firecrawl-mcp or npm:@scope/name@1.2.3.",
                    );
                }
                if !version.is_none_or(is_version) {
                    return refuse(
                        "An npm version is one version or tag, as in npm:firecrawl-mcp@3.26.0.",
                    );
                }
                Ok(Source::Npm {
                    package: package.into(),
                    version: version.map(Into::into),
                })
            }
            "pypi" => {
                let (package, version) = match rest.split_once("==") {
                    Some((package, version)) => (package, Some(version)),
                    None => (rest, None),
                };
                if !is_package_name(package) || !version.is_none_or(is_version) {
                    return refuse(
                        "A PyPI source is a registry name, as in pypi:mcp-server-time or pypi:mcp-server-time==2026.1.1.",
                    );
                }
                Ok(Source::Pypi {
                    package: package.into(),
                    version: version.map(Into::into),
                })
            }
            "git" => {
                let (url, fragment) = match rest.split_once('#') {
                    Some((url, fragment)) => (url, Some(fragment)),
                    None => (rest, None),
                };
                let Some(location) = url.strip_prefix("https://") else {
                    return refuse(
                        "A git source is fetched over https, as in git:https://host/owner/repository.",
                    );
                };
                let host = location.split('/').next().unwrap_or_default();
                if host.contains('@') || host.is_empty() || !location.contains('/') {
                    return refuse(
                        "A git URL has a host and a path and no user name or password: choose a fetch key for a private repository.",
                    );
                }
                let plain = |c: char| c.is_ascii_alphanumeric() || "/._-~%:[]".contains(c);
                if !location.chars().all(plain) || location.contains("..") {
                    return refuse(
                        "That git URL has characters that are not allowed: no query, no '..'.",
                    );
                }
                let (reference, folder) = match fragment {
                    Some(fragment) => match fragment.split_once(':') {
                        Some((reference, folder)) => (Some(reference), Some(folder)),
                        None => (Some(fragment), None),
                    },
                    None => (None, None),
                };
                if !reference.is_none_or(is_git_reference) {
                    return refuse("A git reference is a branch, a tag or a commit, as in #main.");
                }
                if !folder.is_none_or(is_folder) {
                    return refuse(
                        "A folder is a relative path inside the repository, as in #main:servers/time.",
                    );
                }
                Ok(Source::Git {
                    url: url.into(),
                    reference: reference.filter(|r| !r.is_empty()).map(Into::into),
                    folder: folder.filter(|f| !f.is_empty()).map(Into::into),
                })
            }
            "dir" => {
                if !rest.starts_with('/') || rest.split('/').any(|segment| segment == "..") {
                    return refuse(
                        "A directory source is an absolute path without '..', as in dir:/srv/my-server.",
                    );
                }
                Ok(Source::Dir { path: rest.into() })
            }
            "image" => {
                let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:@".contains(c);
                if rest.is_empty() || rest.starts_with('-') || !rest.chars().all(plain) {
                    return refuse(
                        "An image source is a reference, as in image:registry/owner/name:tag.",
                    );
                }
                Ok(Source::Image {
                    reference: rest.into(),
                })
            }
            _ => refuse("A source begins with npm:, pypi:, git:https://, dir: or image:."),
        }
    }
}

fn is_package_name(name: &str) -> bool {
    name.len() <= 214
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

/// One version or tag, not a range.
pub(super) fn is_version(version: &str) -> bool {
    version.len() <= 128
        && version.starts_with(|c: char| c.is_ascii_alphanumeric())
        && version
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "._-+!".contains(c))
}

/// A branch, a tag or a commit.
pub(super) fn is_git_reference(reference: &str) -> bool {
    reference.len() <= 200
        && !reference.starts_with(['-', '/', '.'])
        && !reference.contains("..")
        && reference
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "/._-+".contains(c))
}

/// A path inside a repository.
pub(super) fn is_folder(folder: &str) -> bool {
    !folder.starts_with(['/', '-'])
        && folder
            .split('/')
            .all(|segment| segment != ".." && segment != "." && segment != ".git")
        && folder
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "/._-@+".contains(c))
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Npm {
                package,
                version: None,
            } => write!(f, "npm:{package}"),
            Source::Npm {
                package,
                version: Some(version),
            } => write!(f, "npm:{package}@{version}"),
            Source::Pypi {
                package,
                version: None,
            } => write!(f, "pypi:{package}"),
            Source::Pypi {
                package,
                version: Some(version),
            } => write!(f, "pypi:{package}=={version}"),
            Source::Git {
                url,
                reference,
                folder,
            } => {
                write!(f, "git:{url}")?;
                match (reference, folder) {
                    (None, None) => Ok(()),
                    (Some(reference), None) => write!(f, "#{reference}"),
                    (reference, Some(folder)) => {
                        write!(f, "#{}:{folder}", reference.as_deref().unwrap_or_default())
                    }
                }
            }
            Source::Dir { path } => write!(f, "dir:{path}"),
            Source::Image { reference } => write!(f, "image:{reference}"),
        }
    }
}

impl TryFrom<String> for Source {
    type Error = Refusal;
    fn try_from(raw: String) -> Result<Self, Refusal> {
        Source::parse(&raw)
    }
}

impl From<Source> for String {
    fn from(source: Source) -> String {
        source.to_string()
    }
}

/// What inspecting a source showed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inspection {
    /// The source pinned to what was resolved: an exact version or commit.
    pub resolved: Source,
    /// A title and a sentence, as the source gives them; not ours, so shown as text only.
    pub title: String,
    pub description: String,
    pub start: StartPlan,
    pub variables: Vec<WantedVariable>,
    /// What a person should know before going on, in sentences.
    pub notes: Vec<String>,
}

/// How the server is started. Never a shell: a program and its arguments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartPlan {
    pub runtime: Runtime,
    /// What runs, relative to where the source is installed, and its arguments: for Node.js a file (after options of
    /// `node`), for Python a file, `-m` and a module, or the name of a script.
    pub command: Vec<String>,
    pub transport: Transport,
    /// The file or rule that said so, as in `package.json (bin)`.
    pub said_by: String,
    /// Names of variables without which it may not start, for saying so when it does not.
    #[serde(default)]
    pub wants: Vec<String>,
}

impl StartPlan {
    /// The program and its arguments in one line, each with a gap in it in quotes; empty before the source was installed.
    pub fn spoken(&self) -> String {
        let words = self.command.iter().map(|word| {
            match word.is_empty() || word.contains(char::is_whitespace) {
                true => format!("{word:?}"),
                false => word.clone(),
            }
        });
        words.collect::<Vec<_>>().join(" ")
    }
}

impl Inspection {
    /// How the server is started, with the names that it may not start without.
    pub fn start_plan(&self) -> StartPlan {
        let wants = self
            .variables
            .iter()
            .filter(|variable| variable.default.is_none())
            .filter(|variable| variable.required || variable.secret)
            .map(|variable| variable.name.clone())
            .collect();
        StartPlan {
            wants,
            ..self.start.clone()
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Runtime {
    Node,
    Python,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Transport {
    Stdio,
    /// Listens on `PORT`; the path is where it speaks MCP, `/mcp` by default.
    Http {
        path: String,
    },
}

/// A variable that the source asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantedVariable {
    pub name: String,
    pub description: String,
    /// Where it is only suggested: the code seems to stop without it.
    pub required: bool,
    /// Declared so, or guessed from the name.
    pub secret: bool,
    pub default: Option<String>,
    /// Only found in the code or an example file: a suggestion.
    pub suggested: bool,
}
