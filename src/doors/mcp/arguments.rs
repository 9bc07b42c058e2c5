//! A tool's arguments, parsed. What is wrong with them is told by the names and types of the tool's schema, never by what was sent.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::model::errors::Refusal;

/// The longest name that is said again where it was sent in the place of one that there is, in characters.
const NAME_LEN_CHARS: usize = 32;

/// Errors: `Invalid` at the argument that is wrong. `schema` is the tool's own.
pub(super) fn parse<T: DeserializeOwned>(
    schema: &Value,
    arguments: Option<&RawValue>,
) -> Result<T, Refusal> {
    let text = arguments.map_or("{}", RawValue::get);
    let Ok(sent) = serde_json::from_str::<BTreeMap<String, &RawValue>>(text) else {
        return Err(Refusal::invalid(
            "arguments",
            "The arguments are no JSON object.",
        ));
    };
    check_names(schema, &sent)?;
    serde_json::from_str(text).map_err(|_| misfit(schema, &sent))
}

fn check_names(schema: &Value, sent: &BTreeMap<String, &RawValue>) -> Result<(), Refusal> {
    let properties = schema["properties"].as_object();
    let known: Vec<&str> = properties
        .into_iter()
        .flat_map(|properties| properties.keys().map(String::as_str))
        .collect();
    let required = schema["required"].as_array();
    let missing = required
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .find(|name| !sent.contains_key(*name));
    if let Some(missing) = missing {
        return Err(Refusal::invalid(missing, format!("{missing} is missing.")));
    }
    let Some(unknown) = sent.keys().find(|name| !known.contains(&name.as_str())) else {
        return Ok(());
    };
    // What is no name may be a value in the wrong place.
    let (argument, wrong) = match is_name(unknown) {
        true => (
            unknown.as_str(),
            format!("There is no argument {unknown}. "),
        ),
        false => ("arguments", String::new()),
    };
    let takes = match known.as_slice() {
        [] => "This tool takes no arguments.".to_owned(),
        known => format!(
            "This tool takes no other arguments than {}.",
            known.join(", ")
        ),
    };
    Err(Refusal::invalid(argument, format!("{wrong}{takes}")))
}

fn is_name(text: &str) -> bool {
    (1..=NAME_LEN_CHARS).contains(&text.len())
        && text
            .chars()
            .all(|c| c.is_ascii_alphabetic() || c == '_' || c == '-')
}

/// Which of them is not of its type, as far as its beginning tells.
fn misfit(schema: &Value, sent: &BTreeMap<String, &RawValue>) -> Refusal {
    let wrong = sent.iter().find_map(|(name, value)| {
        let about = &schema["properties"][name.as_str()];
        if let Some(words) = about["enum"].as_array() {
            let is_one = serde_json::from_str(value.get()).is_ok_and(|sent| words.contains(&sent));
            let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
            return (!is_one).then(|| (name, format!("one of {}", words.join(", "))));
        }
        let (begins, is) = match about["type"].as_str()? {
            "string" => ("\"", "a string"),
            "boolean" => ("tf", "true or false"),
            "integer" => ("-0123456789", "a whole number"),
            "array" => ("[", "a list"),
            "object" => ("{", "an object"),
            _ => return None,
        };
        (!value.get().starts_with(|first| begins.contains(first))).then(|| (name, is.to_owned()))
    });
    match wrong {
        Some((name, is)) => Refusal::invalid(name, format!("{name} must be {is}.")),
        None => Refusal::invalid(
            "arguments",
            "An argument is not as the tool's input schema says. Look at it in tools/list.",
        ),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct Arguments {
        key_path: String,
        #[expect(dead_code)]
        on: Option<bool>,
        #[expect(dead_code)]
        scope: Option<bool>,
    }

    #[test]
    fn what_is_wrong_is_named_and_what_was_sent_is_not() {
        let schema = json!({
            "properties": {"keyPath": {"type": "string"}, "on": {"type": "boolean"}, "scope": {"type": "string", "enum": ["meta"]}},
            "required": ["keyPath"],
        });
        let parsed = |text: &str| {
            let raw = RawValue::from_string(text.to_owned()).unwrap();
            parse::<Arguments>(&schema, Some(&raw))
        };
        assert_eq!(
            parsed(r#"{"keyPath":"A","on":null}"#).unwrap().key_path,
            "A"
        );
        for (text, field) in [
            ("{}", "keyPath"),
            (r#"["canary"]"#, "arguments"),
            (r#"{"keyPath":{"canary":1}}"#, "keyPath"),
            (r#"{"keyPath":"A","on":"canary"}"#, "on"),
            (r#"{"keyPath":"A","scope":"canary"}"#, "scope"),
            (r#"{"keyPath":"A","keypath":1}"#, "keypath"),
            (r#"{"keyPath":"A","canary 42":1}"#, "arguments"),
            (r#"{"keyPath":"canary","keyPath":"A"}"#, "arguments"),
        ] {
            let refusal = parsed(text).unwrap_err();
            assert_eq!(refusal.field.as_deref(), Some(field), "{text}");
            assert!(!refusal.detail.contains("canary"), "{}", refusal.detail);
        }
        assert!(parse::<Arguments>(&schema, None).is_err());
    }
}
