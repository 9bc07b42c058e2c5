//! What can be asked of the Railway for tests, and with what: all else is refused, as by a schema.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

pub type Arguments = Map<String, Value>;
pub type Answer = Result<Value, Failed>;

/// What a field takes, and what its `input` has: `!` marks what must be there.
type Takes = (&'static str, &'static str, &'static str);

const QUERIES: &[Takes] = &[
    ("me", "", ""),
    ("apiToken", "", ""),
    ("projectToken", "", ""),
    ("projects", "workspaceId first after", ""),
    ("project", "id!", ""),
    ("environments", "projectId! first after", ""),
    ("environment", "id! projectId", ""),
    ("serviceInstance", "serviceId! environmentId!", ""),
    ("deployment", "id!", ""),
    ("domains", "projectId! environmentId! serviceId!", ""),
    (
        "buildLogs",
        "deploymentId! limit startDate endDate filter",
        "",
    ),
    (
        "deploymentLogs",
        "deploymentId! limit startDate endDate filter",
        "",
    ),
];

const MUTATIONS: &[Takes] = &[
    (
        "projectCreate",
        "input!",
        "name! workspaceId defaultEnvironmentName",
    ),
    ("projectDelete", "id!", ""),
    ("environmentCreate", "input!", "name! projectId!"),
    (
        "serviceCreate",
        "input!",
        "projectId! environmentId name branch source variables",
    ),
    ("serviceConnect", "id! input!", "image repo branch"),
    (
        "serviceInstanceUpdate",
        "serviceId! environmentId input!",
        "startCommand buildCommand dockerfilePath rootDirectory healthcheckPath source",
    ),
    (
        "serviceInstanceDeployV2",
        "serviceId! environmentId! commitSha",
        "",
    ),
    ("serviceDelete", "id!", ""),
    (
        "variableCollectionUpsert",
        "input!",
        "projectId! environmentId! serviceId variables! replace skipDeploys",
    ),
    (
        "variableDelete",
        "input!",
        "projectId! environmentId! serviceId name!",
    ),
    (
        "serviceDomainCreate",
        "input!",
        "environmentId! serviceId! targetPort",
    ),
    ("deploymentStop", "id!", ""),
    ("deploymentCancel", "id!", ""),
    ("deploymentRestart", "id!", ""),
    ("deploymentRemove", "id!", ""),
];

pub struct Failed {
    pub status: u16,
    pub message: String,
}

/// Whether a field of queries, or of mutations, takes these arguments.
pub fn check(changes: bool, field: &str, arguments: &Arguments) -> Result<(), Failed> {
    let table = if changes { MUTATIONS } else { QUERIES };
    let (_, takes, has) = table
        .iter()
        .find(|(name, ..)| *name == field)
        .ok_or_else(|| invalid(format!("Cannot query field \"{field}\"")))?;
    only(arguments, takes)?;
    if has.is_empty() {
        return Ok(());
    }
    only(input(arguments), has)?;
    // Null means to unset, so nothing is null by accident.
    let may_unset = field == "serviceInstanceUpdate";
    match input(arguments)
        .values()
        .chain(arguments.values())
        .any(Value::is_null)
    {
        true if !may_unset => Err(invalid(format!("{field} was given a null"))),
        _ => Ok(()),
    }
}

fn only(given: &Arguments, takes: &str) -> Result<(), Failed> {
    let takes: Vec<(&str, bool)> = takes
        .split_whitespace()
        .map(|name| (name.trim_end_matches('!'), name.ends_with('!')))
        .collect();
    for name in given.keys() {
        if takes.iter().all(|(known, _)| known != name) {
            return Err(invalid(format!("Unknown argument \"{name}\"")));
        }
    }
    for (name, required) in takes {
        if required && given.get(name).is_none_or(Value::is_null) {
            return Err(invalid(format!("\"{name}\" was not provided")));
        }
    }
    Ok(())
}

pub fn input(arguments: &Arguments) -> &Arguments {
    static EMPTY: std::sync::LazyLock<Arguments> = std::sync::LazyLock::new(Map::new);
    arguments
        .get("input")
        .and_then(Value::as_object)
        .unwrap_or(&EMPTY)
}

pub fn text(arguments: &Arguments, name: &str) -> String {
    arguments
        .get(name)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

pub fn texts(value: Option<&Value>) -> Result<BTreeMap<String, String>, Failed> {
    let Some(value) = value else {
        return Ok(BTreeMap::new());
    };
    serde_json::from_value(value.clone())
        .map_err(|_| invalid("EnvironmentVariables are texts by name".into()))
}

/// To the millisecond, as JavaScript's dates are.
pub fn date(arguments: &Arguments, name: &str) -> Result<Option<OffsetDateTime>, Failed> {
    let Some(value) = arguments.get(name) else {
        return Ok(None);
    };
    let at = OffsetDateTime::parse(value.as_str().unwrap_or_default(), &Rfc3339)
        .map_err(|_| invalid(format!("{name} is no DateTime")))?;
    Ok(Some(
        at.replace_millisecond(at.millisecond())
            .map_err(|_| invalid(format!("{name} is no DateTime")))?,
    ))
}

pub fn not_authorized() -> Failed {
    failed("Not Authorized")
}

pub fn failed(message: &str) -> Failed {
    Failed {
        status: 200,
        message: message.to_owned(),
    }
}

pub fn invalid(message: String) -> Failed {
    Failed {
        status: 400,
        message,
    }
}
