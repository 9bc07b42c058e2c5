//! What the Railway for tests does with services, their variables, domains and deployments.

use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::state::{Deployment, Domain, GOES_WELL, Key, Service, State};
use super::takes::{Answer, Arguments, Failed, date, failed, input, invalid, text, texts};

impl State {
    // Services.

    pub(super) fn service(&self, key: &Key, id: &str) -> Result<Service, Failed> {
        let found = self
            .services
            .iter()
            .find(|service| service.id == id && !service.deleted)
            .ok_or_else(|| failed("Service not found"))?;
        self.environment(key, &found.environment)?;
        Ok(found.clone())
    }

    pub(super) fn service_mut(&mut self, key: &Key, id: &str) -> Result<&mut Service, Failed> {
        self.service(key, id)?;
        self.services
            .iter_mut()
            .find(|service| service.id == id)
            .ok_or_else(|| failed("Service not found"))
    }

    pub(super) fn service_create(&mut self, key: &Key, input: &Arguments) -> Answer {
        let project = self.project(key, &text(input, "projectId"))?;
        let environment = self.environment(key, &text(input, "environmentId"))?;
        if environment.project != project.id {
            return Err(failed("Environment not found"));
        }
        let mut source = match input.get("source") {
            None => Map::new(),
            Some(source) => source.as_object().cloned().unwrap_or_default(),
        };
        if let Some(branch) = input.get("branch") {
            source.insert("branch".into(), branch.clone());
        }
        check_source(&source)?;
        let id = self.id("service");
        self.services.push(Service {
            id: id.clone(),
            name: text(input, "name"),
            project: project.id,
            environment: environment.id,
            deleted: false,
            source,
            settings: Map::new(),
            variables: texts(input.get("variables"))?,
        });
        self.deploy_if_sourced(&id);
        Ok(json!({ "id": id, "name": text(input, "name") }))
    }

    pub(super) fn service_connect(&mut self, key: &Key, arguments: &Arguments) -> Answer {
        let source = input(arguments).clone();
        check_source(&source)?;
        let service = self.service_mut(key, &text(arguments, "id"))?;
        service.source = source;
        let (id, name) = (service.id.clone(), service.name.clone());
        self.deploy_if_sourced(&id);
        Ok(json!({ "id": id, "name": name }))
    }

    pub(super) fn service_update(&mut self, key: &Key, arguments: &Arguments) -> Answer {
        let changes = input(arguments).clone();
        let service = self.service_mut(key, &text(arguments, "serviceId"))?;
        for (name, value) in changes {
            match (name.as_str(), value) {
                ("source", value) => {
                    service.source = value.as_object().cloned().unwrap_or_default();
                }
                (_, Value::Null) => {
                    service.settings.remove(&name);
                }
                (_, value) => {
                    service.settings.insert(name, value);
                }
            }
        }
        Ok(true.into())
    }

    pub(super) fn service_delete(&mut self, key: &Key, id: &str) -> Answer {
        self.service_mut(key, id)?.deleted = true;
        self.domains.retain(|domain| domain.service != id);
        self.deployments
            .retain(|deployment| deployment.service != id);
        Ok(true.into())
    }

    pub(super) fn variables_upsert(&mut self, key: &Key, input: &Arguments) -> Answer {
        let new = texts(input.get("variables"))?;
        let service = self.service_mut(key, &text(input, "serviceId"))?;
        if input.get("replace") == Some(&Value::Bool(true)) {
            service.variables.clear();
        }
        service.variables.extend(new);
        let id = service.id.clone();
        if input.get("skipDeploys") != Some(&Value::Bool(true)) {
            self.deploy_if_sourced(&id);
        }
        Ok(true.into())
    }

    pub(super) fn variable_delete(&mut self, key: &Key, input: &Arguments) -> Answer {
        let service = self.service_mut(key, &text(input, "serviceId"))?;
        service
            .variables
            .remove(&text(input, "name"))
            .ok_or_else(|| failed("Variable not found"))?;
        let id = service.id.clone();
        self.deploy_if_sourced(&id);
        Ok(true.into())
    }

    pub(super) fn service_instance(&self, key: &Key, arguments: &Arguments) -> Answer {
        let service = self.service(key, &text(arguments, "serviceId"))?;
        let latest = self
            .deployments
            .iter()
            .rfind(|deployment| deployment.service == service.id)
            .map(|deployment| self.whole_deployment(deployment));
        let active: Vec<Value> = self
            .deployments
            .iter()
            .filter(|deployment| deployment.service == service.id)
            .filter(|deployment| matches!(deployment.status(), "SUCCESS" | "SLEEPING"))
            .map(|deployment| self.whole_deployment(deployment))
            .collect();
        Ok(
            json!({ "serviceId": service.id, "latestDeployment": latest, "activeDeployments": active }),
        )
    }

    // Domains.

    pub(super) fn domains_of(&self, key: &Key, arguments: &Arguments) -> Answer {
        let service = self.service(key, &text(arguments, "serviceId"))?;
        let given: Vec<Value> = self
            .domains
            .iter()
            .filter(|domain| domain.service == service.id)
            .map(whole_domain)
            .collect();
        Ok(json!({ "serviceDomains": given, "customDomains": [] }))
    }

    pub(super) fn domain_create(&mut self, key: &Key, input: &Arguments) -> Answer {
        let service = self.service(key, &text(input, "serviceId"))?;
        let number = self.id("domain");
        let name = self
            .domain_names
            .pop_front()
            .unwrap_or_else(|| format!("{}-{number}.up.railway.test", service.name));
        let domain = Domain {
            name,
            service: service.id,
            environment: text(input, "environmentId"),
            port: input.get("targetPort").and_then(Value::as_u64),
        };
        let whole = whole_domain(&domain);
        self.domains.push(domain);
        Ok(whole)
    }

    // Deployments.

    pub(super) fn deploy_if_sourced(&mut self, service: &str) {
        let _ = self.deploy(service);
    }

    pub(super) fn deploy(&mut self, service: &str) -> Result<String, Failed> {
        let of = self
            .services
            .iter()
            .find(|found| found.id == service)
            .cloned()
            .ok_or_else(|| failed("Service not found"))?;
        if of.source.is_empty() {
            return Err(failed("Service has no source to deploy"));
        }
        let id = self.id("deployment");
        let course = self.courses.pop_front();
        let course = course.unwrap_or_else(|| GOES_WELL.to_vec());
        let created = self.now();
        self.deployments.push(Deployment {
            id: id.clone(),
            service: of.id,
            environment: of.environment,
            course: course.into_iter().map(str::to_owned).collect(),
            created,
            restarts: 0,
            variables: of.variables,
            commit: None,
            build_log: Vec::new(),
            run_log: Vec::new(),
        });
        Ok(id)
    }

    pub(super) fn find(&mut self, key: &Key, id: &str) -> Result<&mut Deployment, Failed> {
        let at = self
            .deployments
            .iter()
            .position(|deployment| deployment.id == id)
            .ok_or_else(|| failed("Deployment not found"))?;
        let environment = self.deployments[at].environment.clone();
        self.environment(key, &environment)?;
        Ok(&mut self.deployments[at])
    }

    pub(super) fn look_at(&mut self, key: &Key, id: &str) -> Answer {
        let deployment = self.find(key, id)?;
        deployment.goes_on();
        let deployment = deployment.clone();
        Ok(self.whole_deployment(&deployment))
    }

    pub(super) fn whole_deployment(&self, deployment: &Deployment) -> Value {
        let domain = self
            .domains
            .iter()
            .find(|domain| domain.service == deployment.service)
            .map(|domain| domain.name.as_str());
        json!({
            "id": deployment.id,
            "status": deployment.status(),
            "createdAt": deployment.created.format(&Rfc3339).unwrap(),
            "serviceId": deployment.service,
            "url": null,
            "staticUrl": domain,
        })
    }

    pub(super) fn turn(
        &mut self,
        key: &Key,
        arguments: &Arguments,
        from: &[&str],
        to: &str,
    ) -> Answer {
        let deployment = self.find(key, &text(arguments, "id"))?;
        if !from.contains(&deployment.status()) {
            return Err(failed("Deployment cannot be changed in its state"));
        }
        deployment.becomes(to);
        Ok(true.into())
    }

    pub(super) fn restart(&mut self, key: &Key, arguments: &Arguments) -> Answer {
        let deployment = self.find(key, &text(arguments, "id"))?;
        deployment.restarts += 1;
        deployment.course = ["DEPLOYING", "SUCCESS"].map(str::to_owned).into();
        Ok(true.into())
    }

    pub(super) fn remove(&mut self, key: &Key, arguments: &Arguments) -> Answer {
        let id = text(arguments, "id");
        self.find(key, &id)?;
        self.deployments.retain(|deployment| deployment.id != id);
        Ok(true.into())
    }

    pub(super) fn log(
        &mut self,
        key: &Key,
        arguments: &Arguments,
        of: fn(&Deployment) -> &Vec<(OffsetDateTime, String)>,
    ) -> Answer {
        let last_lines = self.last_lines;
        let limit = match arguments.get("limit") {
            None => 100,
            Some(limit) => limit
                .as_u64()
                .filter(|limit| (1..=5000).contains(limit))
                .ok_or_else(|| invalid("limit is at most 5000".into()))?,
        } as usize;
        let start = date(arguments, "startDate")?;
        let end = date(arguments, "endDate")?;
        let filter = arguments.get("filter").and_then(Value::as_str);
        let deployment = self.find(key, &text(arguments, "deploymentId"))?;
        let mut lines: Vec<&(OffsetDateTime, String)> = of(deployment)
            .iter()
            .filter(|(at, _)| start.is_none_or(|start| *at >= start))
            .filter(|(at, _)| end.is_none_or(|end| *at < end))
            .filter(|(_, line)| filter.is_none_or(|filter| line.contains(filter)))
            .collect();
        lines.sort_by_key(|(at, _)| *at);
        if lines.len() > limit {
            let from = if last_lines { lines.len() - limit } else { 0 };
            lines = lines[from..from + limit].to_vec();
        }
        let lines = lines.into_iter().map(|(at, message)| {
            json!({ "timestamp": at.format(&Rfc3339).unwrap(), "message": message, "severity": "info" })
        });
        Ok(Value::Array(lines.collect()))
    }
}

fn whole_domain(domain: &Domain) -> Value {
    json!({
        "domain": domain.name, "serviceId": domain.service, "environmentId": domain.environment,
        "targetPort": domain.port, "deletedAt": null,
    })
}

fn check_source(source: &Arguments) -> Result<(), Failed> {
    let is_image = source.contains_key("image");
    match source.get("repo").and_then(Value::as_str) {
        Some(_) if is_image => Err(failed("A service has one source")),
        Some(repo) if repo.split('/').count() != 2 || repo.contains(':') => {
            Err(failed("Repository is owner/name"))
        }
        _ => Ok(()),
    }
}
