//! Whose key it is, and the workspaces, projects and environments that it reaches.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{
    Connection, EnvironmentId, Input, NAME, ProjectId, ProviderHttp, Railway, Repeat, Trouble,
    WorkspaceId, send,
};

const ME: &str = "query Me { me { workspaces { id name } } }";
const API_TOKEN: &str = "query ApiToken { apiToken { workspaces { id name } } }";
const PROJECT_TOKEN: &str = "query ProjectToken {
    projectToken { project { id name } environment { id name } }
}";
const PROJECTS: &str = "query Projects($workspaceId: String, $after: String) {
    projects(workspaceId: $workspaceId, first: 100, after: $after) {
        edges {
            node {
                id name deletedAt
                environments(first: 100) { edges { node { id name deletedAt } } }
            }
        }
        pageInfo { hasNextPage endCursor }
    }
}";
const PROJECT_CREATE: &str = "mutation ProjectCreate($input: ProjectCreateInput!) {
    projectCreate(input: $input) {
        id name deletedAt
        environments(first: 100) { edges { node { id name deletedAt } } }
    }
}";
const ENVIRONMENTS: &str = "query Environments($projectId: String!, $after: String) {
    environments(projectId: $projectId, first: 100, after: $after) {
        edges { node { id name deletedAt } }
        pageInfo { hasNextPage endCursor }
    }
}";
const ENVIRONMENT_CREATE: &str = "mutation EnvironmentCreate($input: EnvironmentCreateInput!) {
    environmentCreate(input: $input) { id name }
}";

pub(super) const DOCUMENTS: &[&str] = &[
    ME,
    API_TOKEN,
    PROJECT_TOKEN,
    PROJECTS,
    PROJECT_CREATE,
    ENVIRONMENTS,
    ENVIRONMENT_CREATE,
];

/// Workspaces of one account whose projects are listed. Each takes a request, and a free plan has a hundred an hour.
const WORKSPACES_MAX: usize = 20;

/// What a key is. It does not show it; Railway tells by what it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenKind {
    /// All that a person may reach.
    Account,
    /// One workspace.
    Workspace,
    /// One environment of one project. It makes no projects and no environments.
    Project,
}

impl fmt::Display for TokenKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TokenKind::Account => "account token",
            TokenKind::Workspace => "workspace token",
            TokenKind::Project => "project token",
        })
    }
}

/// What a key reaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    pub kind: TokenKind,
    /// None for a project token.
    pub workspaces: Vec<Workspace>,
    /// Of all these workspaces; for a project token its one project with its one environment.
    pub projects: Vec<Project>,
    /// There are more of them than are listed.
    pub cut: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Workspace {
    pub id: WorkspaceId,
    pub name: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    pub id: ProjectId,
    pub name: String,
    /// Where it was found; none where that was not asked for.
    pub workspace: Option<WorkspaceId>,
    pub environments: Vec<Environment>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Environment {
    pub id: EnvironmentId,
    pub name: String,
}

#[derive(Deserialize)]
struct Workspaces {
    workspaces: Vec<Workspace>,
}

#[derive(Deserialize)]
struct TokenOf {
    project: ProjectOfToken,
    environment: Environment,
}

#[derive(Deserialize)]
struct ProjectOfToken {
    id: ProjectId,
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FoundProject {
    id: ProjectId,
    name: String,
    deleted_at: Option<String>,
    environments: Connection<FoundEnvironment>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FoundEnvironment {
    id: EnvironmentId,
    name: String,
    deleted_at: Option<String>,
}

#[derive(Deserialize)]
struct Projects {
    projects: Connection<FoundProject>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OfWorkspace<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    workspace_id: Option<&'a WorkspaceId>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OfProject<'a> {
    project_id: &'a ProjectId,
}

/// Who answered, and with what.
enum Who {
    Person(Vec<Workspace>),
    Workspace(Vec<Workspace>),
    Project(TokenOf),
}

impl Who {
    fn kind(&self) -> TokenKind {
        match self {
            Who::Person(_) => TokenKind::Account,
            Who::Workspace(_) => TokenKind::Workspace,
            Who::Project(_) => TokenKind::Project,
        }
    }
}

impl Railway {
    /// What the key is and what it reaches. Sends `me` as bearer; where that is not authorised `apiToken`, which workspace
    /// tokens may ask; then `projectToken` as project token; then `projects` of each workspace. Errors: `NoAccess` when
    /// none of them is answered, and those of the connection.
    pub async fn check(&self) -> Result<Account, Trouble> {
        let who = self.who().await?;
        let kind = who.kind();
        let _ = self.kind.set(kind);
        let workspaces = match who {
            Who::Project(of) => {
                return Ok(Account {
                    kind,
                    workspaces: Vec::new(),
                    projects: vec![Project {
                        id: of.project.id,
                        name: of.project.name,
                        workspace: None,
                        environments: vec![of.environment],
                    }],
                    cut: false,
                });
            }
            Who::Person(workspaces) | Who::Workspace(workspaces) => workspaces,
        };
        let mut projects = Vec::new();
        let mut cut = workspaces.len() > WORKSPACES_MAX;
        for workspace in workspaces.iter().take(WORKSPACES_MAX) {
            let of = OfWorkspace {
                workspace_id: Some(&workspace.id),
            };
            // One page: a person chooses from it.
            let page: Projects = send(&self.bearer, PROJECTS, of, Repeat::Safe).await?;
            let info = page.projects.page_info.unwrap_or_default();
            cut |= info.has_next_page;
            projects.extend(
                page.projects
                    .edges
                    .into_iter()
                    .filter_map(|edge| standing(edge.node, Some(&workspace.id))),
            );
        }
        Ok(Account {
            kind,
            workspaces,
            projects,
            cut,
        })
    }

    /// What kind of key this is, found out at the first call as in [`Railway::check`]. Errors: as there.
    pub async fn kind(&self) -> Result<TokenKind, Trouble> {
        self.kind
            .get_or_try_init(|| async { Ok(self.who().await?.kind()) })
            .await
            .copied()
    }

    async fn who(&self) -> Result<Who, Trouble> {
        #[derive(Deserialize)]
        struct Me {
            me: Workspaces,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct ApiToken {
            api_token: Workspaces,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct ProjectToken {
            project_token: TokenOf,
        }
        if let Some(Me { me }) = answered(&self.bearer, ME).await? {
            return Ok(Who::Person(me.workspaces));
        }
        // `me` is a person, which a workspace's token is not.
        if let Some(ApiToken { api_token }) = answered(&self.bearer, API_TOKEN).await? {
            return Ok(Who::Workspace(api_token.workspaces));
        }
        match answered(&self.project_token, PROJECT_TOKEN).await? {
            Some(ProjectToken { project_token }) => Ok(Who::Project(project_token)),
            None => Err(Trouble::NoAccess { provider: NAME }),
        }
    }

    /// The projects of a workspace (without one: those that are the key's own) with exactly this name, by `projects`, page
    /// by page. Railway lets several have one name. Errors: those of the connection; `TooLarge` when there are too many to
    /// look through.
    pub async fn projects_named(
        &self,
        workspace: Option<&WorkspaceId>,
        name: &str,
    ) -> Result<Vec<Project>, Trouble> {
        let of = OfWorkspace {
            workspace_id: workspace,
        };
        let found = self
            .all(PROJECTS, &of, |answer: Projects| answer.projects)
            .await?;
        Ok(found
            .into_iter()
            .filter(|project| project.name == name)
            .filter_map(|project| standing(project, workspace))
            .collect())
    }

    /// Makes a project, which comes with an environment ("production"), by `projectCreate`. Errors: `Lost` when it may have
    /// been made: [`Railway::projects_named`] finds it. A project token is not allowed to.
    pub async fn project_create(
        &self,
        name: &str,
        workspace: Option<&WorkspaceId>,
    ) -> Result<(Project, Environment), Trouble> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct NewProject<'a> {
            name: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            workspace_id: Option<&'a WorkspaceId>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Made {
            project_create: FoundProject,
        }
        let input = NewProject {
            name,
            workspace_id: workspace,
        };
        let made: Made = self
            .ask(PROJECT_CREATE, Input { input }, Repeat::Once)
            .await?;
        let project = standing(made.project_create, workspace);
        let first = project
            .as_ref()
            .and_then(|project| project.environments.first().cloned());
        project.zip(first).ok_or(Trouble::Unexpected {
            provider: NAME,
            status: 200,
        })
    }

    /// The environment of a project with exactly this name, by `environments`, page by page. Errors: `NotFound` for the
    /// project, and those of the connection.
    pub async fn environment_find(
        &self,
        project: &ProjectId,
        name: &str,
    ) -> Result<Option<Environment>, Trouble> {
        #[derive(Deserialize)]
        struct Environments {
            environments: Connection<FoundEnvironment>,
        }
        let of = OfProject {
            project_id: project,
        };
        let found = self
            .all(ENVIRONMENTS, &of, |answer: Environments| {
                answer.environments
            })
            .await?;
        Ok(found
            .into_iter()
            .filter_map(open)
            .find(|environment| environment.name == name))
    }

    /// Makes an empty environment, by `environmentCreate` without a source to copy from. Errors: `Lost` when it may have
    /// been made: [`Railway::environment_find`] finds it. A project token is not allowed to.
    pub async fn environment_create(
        &self,
        project: &ProjectId,
        name: &str,
    ) -> Result<Environment, Trouble> {
        #[derive(Serialize)]
        struct NewEnvironment<'a> {
            #[serde(flatten)]
            of: OfProject<'a>,
            name: &'a str,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Made {
            environment_create: Environment,
        }
        let input = NewEnvironment {
            of: OfProject {
                project_id: project,
            },
            name,
        };
        let made: Made = self
            .ask(ENVIRONMENT_CREATE, Input { input }, Repeat::Once)
            .await?;
        Ok(made.environment_create)
    }
}

/// None where the key may not ask this.
async fn answered<D: serde::de::DeserializeOwned>(
    http: &ProviderHttp,
    document: &str,
) -> Result<Option<D>, Trouble> {
    #[derive(Serialize)]
    struct Nothing {}
    match send(http, document, Nothing {}, Repeat::Safe).await {
        Ok(answer) => Ok(Some(answer)),
        Err(Trouble::NoAccess { .. } | Trouble::Unauthorised { .. }) => Ok(None),
        Err(other) => Err(other),
    }
}

/// Without what is deleted.
fn standing(found: FoundProject, workspace: Option<&WorkspaceId>) -> Option<Project> {
    found.deleted_at.is_none().then(|| Project {
        id: found.id,
        name: found.name,
        workspace: workspace.cloned(),
        environments: found
            .environments
            .edges
            .into_iter()
            .filter_map(|edge| open(edge.node))
            .collect(),
    })
}

fn open(found: FoundEnvironment) -> Option<Environment> {
    found.deleted_at.is_none().then_some(Environment {
        id: found.id,
        name: found.name,
    })
}
