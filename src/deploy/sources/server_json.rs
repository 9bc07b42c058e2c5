//! `server.json`, as the MCP registry defines it (schema of 2025-12-11).

use serde_json::{Map, Value};

use crate::deploy::json;
use crate::model::sources::{Transport, WantedVariable};

use super::text;
use super::variables::{Wanted, is_secret_name};

/// What `server.json` adds to what the package itself says.
#[derive(Default)]
pub(super) struct ServerJson {
    pub title: String,
    pub description: String,
    pub transport: Option<Transport>,
    /// Arguments for the server's command.
    pub arguments: Vec<String>,
    pub notes: Vec<String>,
    /// A sentence, when it can only be started with a secret in its arguments.
    pub refusal: Option<String>,
}

/// `identifier` is the package that was asked for; without one the first npm or PyPI package counts.
/// Errors: a sentence, for text that is no JSON object.
pub(super) fn parse(
    content: &str,
    identifier: Option<&str>,
    wanted: &mut Wanted,
) -> Result<ServerJson, String> {
    let value: Value = json::tree(content.as_bytes())
        .map_err(|_| "server.json is not readable as JSON.".to_owned())?;
    let Value::Object(server) = value else {
        return Err("server.json is not a JSON object.".into());
    };
    let mut said = ServerJson {
        title: text::line(text::string(&server, "title"), text::TITLE_LEN),
        description: text::line(text::string(&server, "description"), text::SENTENCE_LEN),
        ..ServerJson::default()
    };
    let packages: Vec<_> = list(&server, "packages").collect();
    let runs_here = |package: &&Map<String, Value>| {
        // The field was called registry_type in earlier schemas.
        let kind = match text::string(package, "registryType") {
            "" => text::string(package, "registry_type"),
            kind => kind,
        };
        matches!(kind, "npm" | "pypi")
    };
    let package = packages
        .iter()
        .find(|package| identifier.is_some_and(|name| text::string(package, "identifier") == name))
        .or_else(|| packages.iter().find(|package| runs_here(package)))
        .or_else(|| packages.first());
    let Some(package) = package else {
        return Ok(said);
    };
    for variable in list(package, "environmentVariables") {
        wanted.add(environment_variable(variable));
    }
    for argument in list(package, "runtimeArguments") {
        // Containers get their variables as `-e NAME={value}`: the name is worth knowing, the rest is not ours.
        if let Some(variable) = container_variable(argument) {
            wanted.add(variable);
        }
    }
    if runs_here(package) {
        said.transport = transport(package, &mut said.notes);
        for argument in list(package, "packageArguments") {
            add_argument(argument, &mut said);
        }
    }
    Ok(said)
}

fn environment_variable(input: &Map<String, Value>) -> WantedVariable {
    let name = text::string(input, "name");
    let template = text::string(input, "value");
    let parts: Vec<_> = variables_of(input).collect();
    let secret = match input.get("isSecret").and_then(Value::as_bool) {
        Some(secret) => secret || parts.iter().any(|(_, part)| text::flag(part, "isSecret")),
        // Many authors leave it out; a name that sounds like a secret is then taken as one.
        None => is_secret_name(name) || parts.iter().any(|(_, part)| text::flag(part, "isSecret")),
    };
    let fixed = !template.is_empty() && !template.contains('{');
    let mut description = sentence(input);
    if !template.is_empty() && !fixed {
        description = format!("{description} Written as {template}.");
    }
    let default = match fixed {
        true => template,
        false => text::string(input, "default"),
    };
    WantedVariable {
        name: name.to_owned(),
        description,
        required: text::flag(input, "isRequired"),
        secret,
        default: (!secret && !default.is_empty()).then(|| default.to_owned()),
        suggested: false,
    }
}

fn container_variable(argument: &Map<String, Value>) -> Option<WantedVariable> {
    if !matches!(text::string(argument, "name"), "-e" | "--env") {
        return None;
    }
    let (name, value) = text::string(argument, "value").split_once('=')?;
    let parts: Vec<_> = variables_of(argument)
        .filter(|(key, _)| value.contains(&format!("{{{key}}}")))
        .collect();
    if parts.is_empty() {
        return None;
    }
    Some(WantedVariable {
        name: name.to_owned(),
        description: parts
            .iter()
            .map(|(_, part)| text::string(part, "description"))
            .find(|said| !said.is_empty())
            .unwrap_or_else(|| text::string(argument, "description"))
            .to_owned(),
        required: text::flag(argument, "isRequired")
            || parts.iter().any(|(_, part)| text::flag(part, "isRequired")),
        secret: is_secret_name(name) || parts.iter().any(|(_, part)| text::flag(part, "isSecret")),
        default: None,
        suggested: false,
    })
}

fn add_argument(argument: &Map<String, Value>, said: &mut ServerJson) {
    let name = text::string(argument, "name");
    let label = match (name, text::string(argument, "valueHint")) {
        ("", "") => "an argument".to_owned(),
        ("", hint) => format!("the argument {}", text::line(hint, 60)),
        (name, _) => format!("the argument {}", text::line(name, 60)),
    };
    let parts: Vec<_> = variables_of(argument).collect();
    let secret = text::flag(argument, "isSecret")
        || parts.iter().any(|(_, part)| text::flag(part, "isSecret"));
    let required = text::flag(argument, "isRequired")
        || parts.iter().any(|(_, part)| text::flag(part, "isRequired"));
    if secret {
        let sentence = format!(
            "server.json wants a secret in {label}. Arguments can be read by other programs, so Sealport puts no secret there."
        );
        match required {
            true => said.refusal = Some(sentence),
            false => said.notes.push(sentence),
        }
        return;
    }
    let mut value = match text::string(argument, "value") {
        "" => text::string(argument, "default"),
        value => value,
    }
    .to_owned();
    for (key, part) in &parts {
        let filled = match text::string(part, "value") {
            "" => text::string(part, "default"),
            value => value,
        };
        if !filled.is_empty() {
            value = value.replace(&format!("{{{key}}}"), filled);
        }
    }
    let open = parts
        .iter()
        .any(|(key, _)| value.contains(&format!("{{{key}}}")));
    let is_switch = !name.is_empty()
        && value.is_empty()
        && text::string(argument, "valueHint").is_empty()
        && text::string(argument, "format") == "boolean";
    if open || (value.is_empty() && !is_switch) {
        if required {
            said.notes.push(format!(
                "server.json says that {label} must be given: {} Type the command with it.",
                sentence(argument)
            ));
        }
        return;
    }
    match (name, value.as_str()) {
        ("", value) => said.arguments.push(value.to_owned()),
        (name, "") => said.arguments.push(name.to_owned()),
        (name, value) if name.starts_with("--") => said.arguments.push(format!("{name}={value}")),
        (name, value) => said.arguments.extend([name.to_owned(), value.to_owned()]),
    }
}

fn transport(package: &Map<String, Value>, notes: &mut Vec<String>) -> Option<Transport> {
    let transport = package.get("transport")?.as_object()?;
    match text::string(transport, "type") {
        "stdio" => Some(Transport::Stdio),
        "streamable-http" => Some(Transport::Http {
            path: path_of(text::string(transport, "url")),
        }),
        "sse" => {
            notes.push("server.json names the older SSE transport, which Sealport does not speak. If the server also speaks standard input and output or Streamable HTTP, choose that.".into());
            None
        }
        _ => None,
    }
}

/// The path of `http://localhost:{port}/mcp`; the host is not ours to choose from.
fn path_of(url: &str) -> String {
    let path = url
        .split_once("://")
        .and_then(|(_, rest)| rest.find('/').map(|i| &rest[i..]))
        .and_then(|path| path.split(['?', '#']).next())
        .unwrap_or("/mcp");
    match is_plain_path(path) && path != "/" {
        true => path.to_owned(),
        false => "/mcp".into(),
    }
}

/// A path that may stand in a request line as it is.
pub(super) fn is_plain_path(path: &str) -> bool {
    path.starts_with('/')
        && path.len() <= 200
        && path
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "/._-~".contains(c))
        && !path.contains("..")
        && !path.contains("//")
}

/// The description with what may be chosen and an example.
fn sentence(input: &Map<String, Value>) -> String {
    let mut said = text::string(input, "description").trim().to_owned();
    let choices: Vec<_> = input
        .get("choices")
        .and_then(Value::as_array)
        .map(|choices| choices.iter().filter_map(Value::as_str).take(20).collect())
        .unwrap_or_default();
    if !choices.is_empty() {
        said = format!("{said} One of: {}.", choices.join(", "));
    }
    let placeholder = text::string(input, "placeholder");
    if !placeholder.is_empty() {
        said = format!("{said} For example {placeholder}.");
    }
    text::line(&said, text::SENTENCE_LEN)
}

fn variables_of(
    input: &Map<String, Value>,
) -> impl Iterator<Item = (&String, &Map<String, Value>)> {
    input
        .get("variables")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .take(50)
        .filter_map(|(key, part)| Some((key, part.as_object()?)))
}

fn list<'a>(
    object: &'a Map<String, Value>,
    field: &str,
) -> impl Iterator<Item = &'a Map<String, Value>> {
    object
        .get(field)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .take(100)
        .filter_map(Value::as_object)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn variables_and_arguments() {
        let mut wanted = Wanted::default();
        let said = parse(
            r#"{"title":"T","description":"D","packages":[
                {"registryType":"oci","identifier":"x","transport":{"type":"stdio"},"environmentVariables":[{"name":"NOT_THIS"}]},
                {"registryType":"npm","identifier":"p","version":"1.0.0","transport":{"type":"streamable-http","url":"http://localhost:{port}/api/mcp?x"},
                 "environmentVariables":[
                    {"name":"P_API_KEY","description":"The key.","isRequired":true,"isSecret":true,"placeholder":"pk-…"},
                    {"name":"P_MODE","choices":["a","b"],"default":"a"},
                    {"name":"P_FIXED","value":"1"},
                    {"name":"P_HEADER","value":"Bearer {token}","variables":{"token":{"isSecret":true,"isRequired":true}}},
                    {"name":"PATH"},{"name":"bad name"},{"nothing":1}],
                 "packageArguments":[{"type":"positional","value":"serve"},{"type":"named","name":"--port","default":"80"},{"type":"named","name":"-v","format":"boolean"},
                    {"type":"positional","valueHint":"dir","isRequired":true,"description":"A directory."}]}]}"#,
            Some("p"),
            &mut wanted,
        )
        .unwrap();
        assert_eq!(
            said.transport,
            Some(Transport::Http {
                path: "/api/mcp".into()
            })
        );
        assert_eq!(said.arguments, ["serve", "--port=80", "-v"]);
        assert_eq!(said.notes.len(), 1);
        assert!(said.refusal.is_none());
        let list = wanted.into_list();
        let names: Vec<_> = list
            .iter()
            .map(|v| (v.name.as_str(), v.required, v.secret, v.default.as_deref()))
            .collect();
        assert_eq!(
            names,
            [
                ("P_API_KEY", true, true, None),
                ("P_HEADER", false, true, None),
                ("P_MODE", false, false, Some("a")),
                ("P_FIXED", false, false, Some("1")),
            ]
        );
        assert_eq!(list[0].description, "The key. For example pk-….");
    }

    #[test]
    fn a_secret_argument_is_refused() {
        let said = parse(
            r#"{"packages":[{"registryType":"npm","identifier":"p","transport":{"type":"stdio"},
                "packageArguments":[{"type":"positional","valueHint":"database_url","isRequired":true,"isSecret":true}]}]}"#,
            None,
            &mut Wanted::default(),
        )
        .unwrap();
        assert!(said.refusal.unwrap().contains("database_url"));
        assert!(said.arguments.is_empty());
    }

    #[test]
    fn container_arguments_name_variables() {
        let mut wanted = Wanted::default();
        parse(
            r#"{"packages":[{"registryType":"oci","identifier":"ghcr.io/github/github-mcp-server","transport":{"type":"stdio"},
                "runtimeArguments":[{"type":"named","name":"-e","value":"GITHUB_PERSONAL_ACCESS_TOKEN={token}","isRequired":true,
                    "variables":{"token":{"isRequired":true,"isSecret":true,"description":"A token"}}}]}]}"#,
            None,
            &mut wanted,
        )
        .unwrap();
        let list = wanted.into_list();
        assert_eq!(list[0].name, "GITHUB_PERSONAL_ACCESS_TOKEN");
        assert!(list[0].secret && list[0].required);
    }

    #[test]
    fn odd_shapes_are_survived() {
        for text in [
            "{}",
            r#"{"packages":1}"#,
            r#"{"packages":[1,{"transport":1,"environmentVariables":{}}]}"#,
            r#"{"packages":[{"registryType":"npm","transport":{"type":"sse"}}]}"#,
        ] {
            assert!(parse(text, None, &mut Wanted::default()).is_ok(), "{text}");
        }
        assert!(parse("[]", None, &mut Wanted::default()).is_err());
        assert_eq!(path_of("http://x/../etc"), "/mcp");
        assert_eq!(path_of("nonsense"), "/mcp");
        assert_eq!(path_of("http://x:{port}/a b\r\nHost: y"), "/mcp");
    }
}
