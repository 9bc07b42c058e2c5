//! What the Railway for tests knows, and what it does when it is asked.

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Map, Value, json};
use time::macros::datetime;
use time::{Duration, OffsetDateTime};

use super::document::list;
use super::takes::{
    Answer, Arguments, Failed, check, failed, input, invalid, not_authorized, text,
};
use super::{ACCOUNT_KEY, PROJECT_KEY, WORKSPACE_KEY};

/// How a build that goes well goes.
pub const GOES_WELL: [&str; 5] = ["QUEUED", "INITIALIZING", "BUILDING", "DEPLOYING", "SUCCESS"];

#[derive(Clone, Debug)]
pub enum Key {
    Account,
    Workspace(String),
    Project {
        project: String,
        environment: String,
    },
}

impl Key {
    fn is_of_project(&self) -> bool {
        matches!(self, Key::Project { .. })
    }
}

pub struct State {
    pub keys: BTreeMap<String, Key>,
    /// Ids and names.
    pub workspaces: Vec<(String, String)>,
    pub projects: Vec<Project>,
    pub environments: Vec<Environment>,
    pub services: Vec<Service>,
    pub deployments: Vec<Deployment>,
    pub domains: Vec<Domain>,
    /// Of the deployments that come, in their order; those without go well.
    pub courses: VecDeque<Vec<&'static str>>,
    /// Names for the domains that come.
    pub domain_names: VecDeque<String>,
    /// Items of one page at most, whatever is asked for.
    pub page_len: usize,
    /// The next request for this field is refused with an error that quotes the key and the variables.
    pub echoes: Option<String>,
    /// A log that has more lines than are asked for answers with its last ones.
    pub last_lines: bool,
    made: u32,
}

#[derive(Clone, Debug)]
pub struct Project {
    pub id: String,
    pub name: String,
    pub workspace: String,
    pub deleted: bool,
    /// Each with its `id`.
    pub volumes: Vec<Value>,
}

#[derive(Clone, Debug)]
pub struct Environment {
    pub id: String,
    pub name: String,
    pub project: String,
}

#[derive(Clone, Debug)]
pub struct Service {
    pub id: String,
    pub name: String,
    pub project: String,
    pub environment: String,
    pub deleted: bool,
    /// `image`, `repo` and `branch`.
    pub source: Map<String, Value>,
    pub settings: Map<String, Value>,
    pub variables: BTreeMap<String, String>,
}

#[derive(Clone, Debug)]
pub struct Deployment {
    pub id: String,
    pub service: String,
    pub environment: String,
    pub course: VecDeque<String>,
    pub created: OffsetDateTime,
    pub restarts: usize,
    /// What the variables were when it began.
    pub variables: BTreeMap<String, String>,
    /// The one that was asked for.
    pub commit: Option<String>,
    pub build_log: Vec<(OffsetDateTime, String)>,
    pub run_log: Vec<(OffsetDateTime, String)>,
}

impl Deployment {
    pub fn status(&self) -> &str {
        self.course.front().map_or("SUCCESS", String::as_str)
    }

    pub fn becomes(&mut self, status: &str) {
        self.course = [status.to_owned()].into();
    }

    pub(super) fn goes_on(&mut self) {
        if self.course.len() > 1 {
            self.course.pop_front();
        }
        let line = (
            self.created + Duration::milliseconds(self.build_log.len() as i64),
            format!("now {}", self.status()),
        );
        self.build_log.push(line);
    }
}

#[derive(Clone, Debug)]
pub struct Domain {
    pub name: String,
    pub service: String,
    pub environment: String,
    pub port: Option<u64>,
}

impl State {
    pub fn new() -> State {
        let mut state = State {
            keys: BTreeMap::new(),
            workspaces: vec![
                ("workspace-1".into(), "Ada's".into()),
                ("workspace-2".into(), "The team".into()),
            ],
            projects: Vec::new(),
            environments: Vec::new(),
            services: Vec::new(),
            deployments: Vec::new(),
            domains: Vec::new(),
            courses: VecDeque::new(),
            domain_names: VecDeque::new(),
            page_len: 2,
            echoes: None,
            last_lines: true,
            made: 0,
        };
        let (project, environment) = state.new_project("existing", "workspace-1");
        state.keys.insert(ACCOUNT_KEY.into(), Key::Account);
        state
            .keys
            .insert(WORKSPACE_KEY.into(), Key::Workspace("workspace-1".into()));
        state.keys.insert(
            PROJECT_KEY.into(),
            Key::Project {
                project,
                environment,
            },
        );
        state
    }

    /// Their ids.
    pub fn new_project(&mut self, name: &str, workspace: &str) -> (String, String) {
        let id = self.id("project");
        self.projects.push(Project {
            id: id.clone(),
            name: name.to_owned(),
            workspace: workspace.to_owned(),
            deleted: false,
            volumes: Vec::new(),
        });
        let environment = self.new_environment("production", &id);
        (id, environment)
    }

    pub fn new_environment(&mut self, name: &str, project: &str) -> String {
        let id = self.id("environment");
        self.environments.push(Environment {
            id: id.clone(),
            name: name.to_owned(),
            project: project.to_owned(),
        });
        id
    }

    /// Services with this name that are not deleted.
    pub fn services_named(&self, name: &str) -> Vec<Service> {
        self.services
            .iter()
            .filter(|service| service.name == name && !service.deleted)
            .cloned()
            .collect()
    }

    pub fn deployment(&mut self, id: &str) -> &mut Deployment {
        self.deployments
            .iter_mut()
            .find(|deployment| deployment.id == id)
            .unwrap()
    }

    pub fn resolve(
        &mut self,
        key: Option<&Key>,
        changes: bool,
        field: &str,
        arguments: &Arguments,
    ) -> Answer {
        check(changes, field, arguments)?;
        let key = key.ok_or_else(not_authorized)?;
        match field {
            "me" => self.me(key),
            "apiToken" => self.api_token(key),
            "projectToken" => self.project_token(key),
            "projects" => self.projects(key, arguments),
            "project" => {
                let project = self.project(key, &text(arguments, "id"))?;
                Ok(self.whole_project(&project))
            }
            "environments" => {
                let project = self.project(key, &text(arguments, "projectId"))?;
                Ok(self.environments_of(key, &project.id))
            }
            "environment" => self.environment_whole(key, arguments),
            "serviceInstance" => self.service_instance(key, arguments),
            "deployment" => self.look_at(key, &text(arguments, "id")),
            "domains" => self.domains_of(key, arguments),
            "buildLogs" => self.log(key, arguments, |deployment| &deployment.build_log),
            "deploymentLogs" => self.log(key, arguments, |deployment| &deployment.run_log),
            "projectCreate" => self.project_create(key, input(arguments)),
            "projectDelete" => self.project_delete(key, &text(arguments, "id")),
            "environmentCreate" => self.environment_create(key, input(arguments)),
            "serviceCreate" => self.service_create(key, input(arguments)),
            "serviceConnect" => self.service_connect(key, arguments),
            "serviceInstanceUpdate" => self.service_update(key, arguments),
            "serviceInstanceDeployV2" => {
                let service = self.service(key, &text(arguments, "serviceId"))?;
                let id = self.deploy(&service.id)?;
                let commit = arguments.get("commitSha").and_then(Value::as_str);
                self.find(key, &id)?.commit = commit.map(str::to_owned);
                Ok(id.into())
            }
            "serviceDelete" => self.service_delete(key, &text(arguments, "id")),
            "variableCollectionUpsert" => self.variables_upsert(key, input(arguments)),
            "variableDelete" => self.variable_delete(key, input(arguments)),
            "serviceDomainCreate" => self.domain_create(key, input(arguments)),
            "deploymentStop" => self.turn(key, arguments, &["SUCCESS", "SLEEPING"], "REMOVED"),
            "deploymentCancel" => self.turn(key, arguments, &GOES_WELL[..4], "REMOVED"),
            "deploymentRestart" => self.restart(key, arguments),
            "deploymentRemove" => self.remove(key, arguments),
            _ => Err(invalid(format!("Cannot query field \"{field}\""))),
        }
    }

    pub(super) fn id(&mut self, of: &str) -> String {
        self.made += 1;
        format!("{of}-{:04}", self.made)
    }

    pub(super) fn now(&self) -> OffsetDateTime {
        datetime!(2026-01-01 00:00:00 UTC) + Duration::seconds(i64::from(self.made))
    }

    // Who.

    fn me(&self, key: &Key) -> Answer {
        match key {
            Key::Account => Ok(json!({ "workspaces": self.workspaces_as_json(None) })),
            _ => Err(not_authorized()),
        }
    }

    fn api_token(&self, key: &Key) -> Answer {
        match key {
            Key::Account => Ok(json!({ "workspaces": self.workspaces_as_json(None) })),
            Key::Workspace(only) => {
                Ok(json!({ "workspaces": self.workspaces_as_json(Some(only)) }))
            }
            Key::Project { .. } => Err(not_authorized()),
        }
    }

    fn workspaces_as_json(&self, only: Option<&String>) -> Vec<Value> {
        self.workspaces
            .iter()
            .filter(|(id, _)| only.is_none_or(|only| only == id))
            .map(|(id, name)| json!({ "id": id, "name": name }))
            .collect()
    }

    fn project_token(&self, key: &Key) -> Answer {
        let Key::Project {
            project,
            environment,
        } = key
        else {
            return Err(not_authorized());
        };
        let found = self.project(key, project)?;
        let of = self.environment(key, environment)?;
        Ok(json!({
            "projectId": found.id, "project": self.whole_project(&found),
            "environmentId": of.id, "environment": whole_environment(&of),
        }))
    }

    // Projects and environments.

    fn projects(&self, key: &Key, arguments: &Arguments) -> Answer {
        let workspace = arguments.get("workspaceId").and_then(Value::as_str);
        if let Some(workspace) = workspace
            && !self.reaches_workspace(key, workspace)
        {
            return Err(not_authorized());
        }
        if key.is_of_project() {
            return Err(not_authorized());
        }
        let found = self.projects.iter().filter(|project| {
            !project.deleted
                && workspace.is_none_or(|workspace| project.workspace == workspace)
                && self.reaches_workspace(key, &project.workspace)
        });
        Ok(list(found.map(|project| self.whole_project(project))))
    }

    fn reaches_workspace(&self, key: &Key, workspace: &str) -> bool {
        match key {
            Key::Account => self.workspaces.iter().any(|(id, _)| id == workspace),
            Key::Workspace(only) => only == workspace,
            Key::Project { .. } => false,
        }
    }

    pub(super) fn project(&self, key: &Key, id: &str) -> Result<Project, Failed> {
        let found = self
            .projects
            .iter()
            .find(|project| project.id == id && !project.deleted)
            .ok_or_else(|| failed("Project not found"))?;
        let reached = match key {
            Key::Project { project, .. } => project == id,
            _ => self.reaches_workspace(key, &found.workspace),
        };
        reached.then(|| found.clone()).ok_or_else(not_authorized)
    }

    pub(super) fn environment(&self, key: &Key, id: &str) -> Result<Environment, Failed> {
        let found = self
            .environments
            .iter()
            .find(|environment| environment.id == id)
            .ok_or_else(|| failed("Environment not found"))?;
        self.project(key, &found.project)?;
        match key {
            Key::Project { environment, .. } if environment != id => Err(not_authorized()),
            _ => Ok(found.clone()),
        }
    }

    fn environments_of(&self, key: &Key, project: &str) -> Value {
        list(
            self.environments
                .iter()
                .filter(|environment| environment.project == project)
                .filter(|environment| self.environment(key, &environment.id).is_ok())
                .map(whole_environment),
        )
    }

    fn whole_project(&self, project: &Project) -> Value {
        let services = self
            .services
            .iter()
            .filter(|service| service.project == project.id)
            .map(|service| {
                json!({
                    "id": service.id, "name": service.name, "projectId": service.project,
                    "deletedAt": service.deleted.then_some("2026-01-02T00:00:00Z"),
                })
            });
        json!({
            "id": project.id, "name": project.name, "deletedAt": null, "workspaceId": project.workspace,
            "services": list(services), "volumes": list(project.volumes.clone()), "buckets": list([]),
            "environments": self.environments_of(&Key::Account, &project.id),
        })
    }

    fn environment_whole(&self, key: &Key, arguments: &Arguments) -> Answer {
        let environment = self.environment(key, &text(arguments, "id"))?;
        let mut whole = whole_environment(&environment);
        let variables =
            self.services
                .iter()
                .filter(|service| service.environment == environment.id && !service.deleted)
                .flat_map(|service| {
                    service.variables.keys().map(
                        |name| json!({ "name": name, "serviceId": service.id, "isSealed": false }),
                    )
                })
                // One that is no service's.
                .chain([json!({ "name": "SHARED", "serviceId": null, "isSealed": false })]);
        whole["variables"] = list(variables);
        Ok(whole)
    }

    fn project_create(&mut self, key: &Key, input: &Arguments) -> Answer {
        let workspace = match input.get("workspaceId").and_then(Value::as_str) {
            Some(workspace) => workspace.to_owned(),
            None => self.workspaces[0].0.clone(),
        };
        if !self.reaches_workspace(key, &workspace) {
            return Err(not_authorized());
        }
        let (id, _) = self.new_project(&text(input, "name"), &workspace);
        let project = self.project(key, &id)?;
        Ok(self.whole_project(&project))
    }

    fn project_delete(&mut self, key: &Key, id: &str) -> Answer {
        if key.is_of_project() {
            return Err(not_authorized());
        }
        self.project(key, id)?;
        for project in &mut self.projects {
            project.deleted |= project.id == id;
        }
        for service in &mut self.services {
            service.deleted |= service.project == id;
        }
        Ok(true.into())
    }

    fn environment_create(&mut self, key: &Key, input: &Arguments) -> Answer {
        if key.is_of_project() {
            return Err(not_authorized());
        }
        let project = self.project(key, &text(input, "projectId"))?;
        let id = self.new_environment(&text(input, "name"), &project.id);
        self.environment(key, &id)
            .map(|environment| whole_environment(&environment))
    }
}

fn whole_environment(environment: &Environment) -> Value {
    json!({
        "id": environment.id, "name": environment.name, "projectId": environment.project, "deletedAt": null,
    })
}
