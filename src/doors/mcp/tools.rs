//! Which tools there are, as `tools.json` describes them, and who does them.

use std::sync::LazyLock;

use serde_json::Value;
use serde_json::value::RawValue;

use super::Called;
use super::arguments::parse;
use super::outcome::Outcome;
use crate::model::errors::Refusal;

/// The same for every token: what each may do is decided when it is called.
static TOOLS: LazyLock<Vec<Value>> =
    LazyLock::new(|| serde_json::from_str(include_str!("tools.json")).unwrap_or_default());

/// As `tools/list` tells them.
pub(super) fn list() -> &'static [Value] {
    &TOOLS
}

pub(super) fn named(name: &str) -> Option<&'static Value> {
    TOOLS.iter().find(|tool| tool["name"] == name)
}

impl Called {
    /// Errors: why it was not done; `Unauthenticated` when the token has ended.
    pub(super) async fn tool(
        &self,
        name: &str,
        arguments: Option<&RawValue>,
    ) -> Result<Outcome, Refusal> {
        let schema = &named(name).ok_or_else(|| Refusal::not_found("tool"))?["inputSchema"];
        match name {
            "get_secret" => self.get_secret(parse(schema, arguments)?).await,
            "set_secret" => self.set_secret(parse(schema, arguments)?).await,
            "list_secrets" => self.list_secrets(parse(schema, arguments)?).await,
            "delete_secret" => self.delete_secret(parse(schema, arguments)?).await,
            "list_deployments" => self.list_deployments(parse(schema, arguments)?).await,
            "deploy" => self.deploy(parse(schema, arguments)?).await,
            "deployment_status" => self.deployment_status(parse(schema, arguments)?).await,
            "deployment_logs" => self.deployment_logs(parse(schema, arguments)?).await,
            _ => Err(Refusal::not_found("tool")),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_tool_is_described_whole() {
        let names: Vec<&str> = list()
            .iter()
            .map(|tool| tool["name"].as_str().unwrap())
            .collect();
        assert_eq!(
            names,
            [
                "get_secret",
                "set_secret",
                "list_secrets",
                "delete_secret",
                "list_deployments",
                "deploy",
                "deployment_status",
                "deployment_logs"
            ]
        );
        for tool in list() {
            let name = &tool["name"];
            for schema in ["inputSchema", "outputSchema"] {
                assert_eq!(tool[schema]["type"], "object", "{name}");
                closed(name, &tool[schema]);
            }
            for hint in [
                "readOnlyHint",
                "destructiveHint",
                "idempotentHint",
                "openWorldHint",
            ] {
                assert!(tool["annotations"][hint].is_boolean(), "{name} {hint}");
            }
            assert!(
                tool["title"].is_string() && tool["description"].is_string(),
                "{name}"
            );
            for (argument, about) in tool["inputSchema"]["properties"].as_object().unwrap() {
                assert!(about["description"].is_string(), "{name} {argument}");
            }
        }
    }

    /// Every object in a schema says what else it holds, and mostly that it holds nothing.
    fn closed(name: &Value, schema: &Value) {
        if schema["type"] == "object" {
            let others = &schema["additionalProperties"];
            assert!(*others == false || others.is_object(), "{name}: {schema}");
        }
        match schema {
            Value::Object(parts) => parts.values().for_each(|part| closed(name, part)),
            Value::Array(parts) => parts.iter().for_each(|part| closed(name, part)),
            _ => {}
        }
    }
}
