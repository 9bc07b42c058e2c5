//! An MCPB manifest (`manifest.json`): the variables and the command that a desktop client would use.

use serde_json::{Map, Value};

use crate::deploy::json;
use crate::model::sources::WantedVariable;

use super::text;
use super::variables::Wanted;

#[derive(Default)]
pub(super) struct Mcpb {
    pub title: String,
    pub description: String,
    /// The program and its arguments, with paths relative to the directory.
    pub command: Vec<String>,
    pub notes: Vec<String>,
    /// A sentence, when it can only be started with a secret in its arguments.
    pub refusal: Option<String>,
}

/// None for a `manifest.json` of another kind, such as a browser extension's.
pub(super) fn parse(content: &str, wanted: &mut Wanted) -> Option<Mcpb> {
    let value: Value = json::tree(content.as_bytes()).ok()?;
    let manifest = value.as_object()?;
    let server = manifest.get("server")?.as_object()?;
    let config = server.get("mcp_config")?.as_object()?;
    let empty = Map::new();
    let asked = manifest
        .get("user_config")
        .and_then(Value::as_object)
        .unwrap_or(&empty);
    let mut said = Mcpb {
        title: text::line(
            match text::string(manifest, "display_name") {
                "" => text::string(manifest, "name"),
                title => title,
            },
            text::TITLE_LEN,
        ),
        description: text::line(text::string(manifest, "description"), text::SENTENCE_LEN),
        ..Mcpb::default()
    };
    for (name, template) in object(config, "env").take(200) {
        if let Some(template) = template.as_str() {
            wanted.add(variable(name, template, asked));
        }
    }
    said.command
        .push(text::string(config, "command").to_owned());
    let arguments = config.get("args").and_then(Value::as_array);
    for argument in arguments
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .take(100)
    {
        let argument = argument
            .replace("${__dirname}/", "")
            .replace("${__dirname}", ".")
            .replace("${/}", "/");
        match placeholder(&argument) {
            None => said.command.push(argument),
            Some(key) => add_asked_argument(&argument, key, asked, &mut said),
        }
    }
    Some(said)
}

fn variable(name: &str, template: &str, asked: &Map<String, Value>) -> WantedVariable {
    let option = placeholder(template).and_then(|key| asked.get(key)?.as_object());
    match option {
        None => WantedVariable {
            name: name.to_owned(),
            description: String::new(),
            required: false,
            secret: false,
            default: (!template.contains("${")).then(|| template.to_owned()),
            suggested: false,
        },
        Some(option) => {
            let secret = text::flag(option, "sensitive");
            WantedVariable {
                name: name.to_owned(),
                description: match text::string(option, "description") {
                    "" => text::string(option, "title").to_owned(),
                    description => description.to_owned(),
                },
                required: text::flag(option, "required"),
                secret,
                default: plain(option.get("default")).filter(|_| !secret),
                suggested: false,
            }
        }
    }
}

fn add_asked_argument(argument: &str, key: &str, asked: &Map<String, Value>, said: &mut Mcpb) {
    let label = text::line(key, 60);
    let Some(option) = asked.get(key).and_then(Value::as_object) else {
        said.notes.push(format!(
            "manifest.json puts {label} into the command, which only a desktop client can fill in. Type the command without it."
        ));
        return;
    };
    if text::flag(option, "sensitive") {
        let sentence = format!(
            "manifest.json wants the secret {label} as an argument. Arguments can be read by other programs, so Sealport puts no secret there."
        );
        match text::flag(option, "required") {
            true => said.refusal = Some(sentence),
            false => said.notes.push(sentence),
        }
        return;
    }
    match plain(option.get("default")) {
        Some(default) if !default.contains("${") => said
            .command
            .push(argument.replace(&format!("${{user_config.{key}}}"), &default)),
        _ if text::flag(option, "required") => said.notes.push(format!(
            "manifest.json says that the argument {label} must be given. Type the command with it."
        )),
        _ => {}
    }
}

/// The key in `${user_config.KEY}`, or what else stands between the braces.
fn placeholder(template: &str) -> Option<&str> {
    let start = template.find("${")? + 2;
    let end = template[start..].find('}')? + start;
    let inside = &template[start..end];
    Some(inside.strip_prefix("user_config.").unwrap_or(inside))
}

fn plain(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(text) => Some(text.clone()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn object<'a>(
    object: &'a Map<String, Value>,
    field: &str,
) -> impl Iterator<Item = (&'a String, &'a Value)> {
    object
        .get(field)
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_gives_command_and_variables() {
        let mut wanted = Wanted::default();
        let said = parse(
            r#"{"manifest_version":"0.3","name":"x","display_name":"X","description":"D","server":{"type":"node","entry_point":"server/index.js",
                "mcp_config":{"command":"node","args":["${__dirname}/server/index.js","--mode=${user_config.mode}","${user_config.dir}"],
                    "env":{"X_KEY":"${user_config.key}","X_FIXED":"1"}}},
               "user_config":{"key":{"type":"string","title":"Key","description":"The key","required":true,"sensitive":true,"default":"no"},
                    "mode":{"type":"string","title":"M","description":"","default":"fast"},
                    "dir":{"type":"directory","title":"Dir","description":"","required":true}}}"#,
            &mut wanted,
        )
        .unwrap();
        assert_eq!(said.command, ["node", "server/index.js", "--mode=fast"]);
        assert_eq!(said.notes.len(), 1);
        assert!(said.refusal.is_none());
        let list = wanted.into_list();
        assert_eq!(
            (
                list[0].name.as_str(),
                list[0].required,
                list[0].secret,
                list[0].default.as_deref()
            ),
            ("X_KEY", true, true, None)
        );
        assert_eq!(
            (list[1].name.as_str(), list[1].default.as_deref()),
            ("X_FIXED", Some("1"))
        );
    }

    #[test]
    fn a_secret_argument_is_refused() {
        let said = parse(
            r#"{"server":{"mcp_config":{"command":"node","args":["i.js","${user_config.key}"]}},"user_config":{"key":{"required":true,"sensitive":true}}}"#,
            &mut Wanted::default(),
        )
        .unwrap();
        assert!(said.refusal.is_some());
        assert_eq!(said.command, ["node", "i.js"]);
    }

    #[test]
    fn other_manifests_are_not_taken() {
        for text in [
            r#"{"manifest_version":3,"name":"an extension"}"#,
            "[]",
            "",
            r#"{"server":{"mcp_config":1}}"#,
        ] {
            assert!(parse(text, &mut Wanted::default()).is_none(), "{text}");
        }
    }
}
