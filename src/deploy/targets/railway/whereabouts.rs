//! In which workspace, project and environment at Railway a deployment stands.

use std::collections::BTreeMap;

use crate::deploy::providers::railway::{Account, Environment, Project, TokenKind, Workspace};
use crate::model::errors::Refusal;

/// The environment that every project begins with.
const FIRST: &str = "production";

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ground {
    There {
        project: Project,
        environment: Environment,
    },
    /// A project of its own, which is made.
    Own { workspace: Workspace },
}

/// An option that says something.
pub(super) fn said<'a>(options: &'a BTreeMap<String, String>, name: &str) -> Option<&'a str> {
    options
        .get(name)
        .map(|said| said.trim())
        .filter(|said| !said.is_empty())
}

/// Errors: `Invalid` at the option that has to be said, or said otherwise.
pub(super) fn chosen(
    account: &Account,
    options: &BTreeMap<String, String>,
) -> Result<Ground, Refusal> {
    let environment = said(options, "environment");
    let workspace = match said(options, "workspace") {
        // A key of one project knows no workspaces.
        Some(wanted) if account.kind != TokenKind::Project => Some(workspace_of(account, wanted)?),
        _ => None,
    };
    let project = match said(options, "project") {
        Some(wanted) => {
            let reached = account.projects.iter().filter(|project| {
                workspace.is_none_or(|workspace| project.workspace.as_ref() == Some(&workspace.id))
            });
            let named =
                reached.map(|project| (project.id.as_str(), project.name.as_str(), project));
            one_of(named, wanted, "project")?
        }
        None if account.kind == TokenKind::Project => account
            .projects
            .first()
            .ok_or_else(|| Refusal::invalid("key", "The key reaches no project at Railway."))?,
        None => return own(account, workspace, environment),
    };
    Ok(Ground::There {
        environment: environment_of(project, environment)?.clone(),
        project: project.clone(),
    })
}

/// The one that is named, or production, or the only one.
pub(super) fn environment_of<'a>(
    project: &'a Project,
    wanted: Option<&str>,
) -> Result<&'a Environment, Refusal> {
    let all = &project.environments;
    if let Some(wanted) = wanted {
        let named = all
            .iter()
            .map(|one| (one.id.as_str(), one.name.as_str(), one));
        return one_of(named, wanted, "environment");
    }
    let first = all.iter().find(|one| one.name == FIRST);
    match (first, all.as_slice()) {
        (Some(first), _) => Ok(first),
        (None, [only]) => Ok(only),
        (None, []) => Err(Refusal::invalid(
            "options.environment",
            format!(
                "The project {} has no environment at Railway. Make one there.",
                project.name
            ),
        )),
        (None, several) => {
            let names: Vec<&str> = several.iter().map(|one| one.name.as_str()).collect();
            Err(Refusal::invalid(
                "options.environment",
                format!(
                    "The project {} has several environments at Railway, and none is called {FIRST}: name one of {} with the option environment.",
                    project.name,
                    names.join(", ")
                ),
            ))
        }
    }
}

fn own(
    account: &Account,
    workspace: Option<&Workspace>,
    environment: Option<&str>,
) -> Result<Ground, Refusal> {
    if environment.is_some_and(|wanted| wanted != FIRST) {
        return Err(Refusal::invalid(
            "options.environment",
            format!(
                "A project that is made has the environment {FIRST} alone. Name a project that has another with the option project."
            ),
        ));
    }
    let workspace = match (workspace, account.workspaces.as_slice()) {
        (Some(workspace), _) => workspace,
        (None, [only]) => only,
        (None, []) => {
            return Err(Refusal::invalid(
                "key",
                "The key reaches no workspace at Railway, so no project can be made with it.",
            ));
        }
        (None, several) => {
            let names: Vec<String> = several
                .iter()
                .map(|one| format!("{} ({})", one.name, one.id))
                .collect();
            return Err(Refusal::invalid(
                "options.workspace",
                format!(
                    "The key reaches several workspaces at Railway: name one of {} with the option workspace, or a project with the option project.",
                    names.join(", ")
                ),
            ));
        }
    };
    Ok(Ground::Own {
        workspace: workspace.clone(),
    })
}

fn workspace_of<'a>(account: &'a Account, wanted: &str) -> Result<&'a Workspace, Refusal> {
    let named = account
        .workspaces
        .iter()
        .map(|one| (one.id.as_str(), one.name.as_str(), one));
    one_of(named, wanted, "workspace")
}

/// The one with this id, or the only one with this name, of triples of both and what has them.
fn one_of<'a, T>(
    all: impl Iterator<Item = (&'a str, &'a str, &'a T)>,
    wanted: &str,
    option: &str,
) -> Result<&'a T, Refusal> {
    let mut named = Vec::new();
    for (id, name, one) in all {
        if id == wanted {
            return Ok(one);
        }
        if name == wanted {
            named.push((id, one));
        }
    }
    let says = match named.as_slice() {
        [(_, only)] => return Ok(only),
        [] => format!(
            "The key reaches no {option} {wanted} at Railway. Look at the option {option}: it takes an id or a name."
        ),
        several => {
            let ids: Vec<&str> = several.iter().map(|(id, _)| *id).collect();
            format!(
                "Several {option}s at Railway are called {wanted}: name one by its id ({}) with the option {option}.",
                ids.join(", ")
            )
        }
    };
    Err(Refusal::invalid(&format!("options.{option}"), says))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn project(id: &str, name: &str, workspace: &str, environments: &[&str]) -> Project {
        let environment = |name: &&str| Environment {
            id: format!("{id}-{name}").into(),
            name: (*name).to_owned(),
        };
        Project {
            id: id.to_owned().into(),
            name: name.to_owned(),
            workspace: Some(workspace.to_owned().into()),
            environments: environments.iter().map(environment).collect(),
        }
    }

    fn account(kind: TokenKind, workspaces: &[&str], projects: Vec<Project>) -> Account {
        let workspace = |id: &&str| Workspace {
            id: (*id).to_owned().into(),
            name: id.to_uppercase(),
        };
        Account {
            kind,
            workspaces: workspaces.iter().map(workspace).collect(),
            projects,
            cut: false,
        }
    }

    /// The project's id and the environment's name, or the workspace and nothing, or the field that is in the way.
    fn of(account: &Account, options: &[(&str, &str)]) -> (String, String) {
        let options = options
            .iter()
            .map(|(name, said)| ((*name).to_owned(), (*said).to_owned()))
            .collect();
        match chosen(account, &options) {
            Ok(Ground::There {
                project,
                environment,
            }) => (project.id.to_string(), environment.name),
            Ok(Ground::Own { workspace }) => (workspace.id.to_string(), String::new()),
            Err(refusal) => ("no".into(), refusal.field.unwrap_or_default()),
        }
    }

    fn pair(first: &str, second: &str) -> (String, String) {
        (first.to_owned(), second.to_owned())
    }

    #[test]
    fn a_project_is_named_by_id_or_name_and_in_its_workspace() {
        let account = account(
            TokenKind::Account,
            &["one", "two"],
            vec![
                project("p1", "shop", "one", &["staging", "production"]),
                project("p2", "shop", "two", &["dev"]),
                project("p3", "twin", "two", &["a", "b"]),
                project("p4", "bare", "two", &[]),
            ],
        );
        for (options, found) in [
            (vec![("project", "p1")], pair("p1", "production")),
            (vec![("project", "shop")], pair("no", "options.project")),
            (
                vec![("project", " shop "), ("workspace", "two")],
                pair("p2", "dev"),
            ),
            (
                vec![("project", "shop"), ("workspace", "ONE")],
                pair("p1", "production"),
            ),
            (
                vec![("project", "p1"), ("environment", "staging")],
                pair("p1", "staging"),
            ),
            (
                vec![("project", "p1"), ("environment", "p1-staging")],
                pair("p1", "staging"),
            ),
            (
                vec![("project", "p1"), ("environment", "none")],
                pair("no", "options.environment"),
            ),
            (vec![("project", "twin")], pair("no", "options.environment")),
            (vec![("project", "bare")], pair("no", "options.environment")),
            (vec![("project", "none")], pair("no", "options.project")),
            (
                vec![("workspace", "three")],
                pair("no", "options.workspace"),
            ),
        ] {
            assert_eq!(of(&account, &options), found, "{options:?}");
        }
    }

    #[test]
    fn without_a_project_one_is_made_in_the_only_workspace() {
        let two = account(TokenKind::Account, &["one", "two"], Vec::new());
        assert_eq!(of(&two, &[]), pair("no", "options.workspace"));
        assert_eq!(of(&two, &[("workspace", "two")]), pair("two", ""));
        let one = account(TokenKind::Workspace, &["one"], Vec::new());
        assert_eq!(of(&one, &[("project", " ")]), pair("one", ""));
        assert_eq!(of(&one, &[("environment", FIRST)]), pair("one", ""));
        let staging = [("environment", "staging")];
        assert_eq!(of(&one, &staging), pair("no", "options.environment"));
        let none = account(TokenKind::Account, &[], Vec::new());
        assert_eq!(of(&none, &[]), pair("no", "key"));
    }

    #[test]
    fn a_key_of_one_project_goes_there() {
        let there = vec![project("p1", "shop", "", &["staging"])];
        let key = account(TokenKind::Project, &[], there);
        assert_eq!(of(&key, &[("workspace", "any")]), pair("p1", "staging"));
        let other = of(&key, &[("project", "other")]);
        assert_eq!(other, pair("no", "options.project"));
    }
}
