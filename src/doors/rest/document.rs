//! What programs read of the API: OpenAPI 3.1, from the code. Open to everybody: it says nothing of an installation.

use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use utoipa::OpenApi;

use super::Api;
use super::problems::ProblemKind;

/// Statuses that every route can end with; each has a problem as its body.
const EVERYWHERE: [u16; 8] = [400, 401, 403, 404, 405, 429, 500, 503];
/// Those of routes that change something or take a body.
const CHANGING: [u16; 4] = [409, 413, 415, 422];

/// The document, with what is the same for every route.
pub fn document() -> Value {
    let mut document = serde_json::to_value(Api::openapi()).unwrap_or_default();
    document["info"]["version"] = json!("1");
    document["info"]["license"] = json!({"name": "Apache-2.0", "identifier": "Apache-2.0"});
    document["servers"] = json!([{"url": "/"}]);
    document["components"]["securitySchemes"] =
        json!({"token": {"type": "http", "scheme": "bearer", "bearerFormat": "sp_…"}});
    document["components"]["headers"] = headers();
    document["security"] = json!([{"token": []}]);
    let paths = document["paths"].as_object_mut();
    for (path, operations) in paths.into_iter().flatten() {
        for (method, operation) in operations.as_object_mut().into_iter().flatten() {
            // Of the function alone it would not be unique.
            if let (Some(tag), Some(name)) = (
                operation["tags"][0].as_str(),
                operation["operationId"].as_str(),
            ) {
                operation["operationId"] = json!(format!("{tag}_{name}"));
            }
            if let Some(responses) = operation["responses"].as_object_mut() {
                complete(path, method, responses);
            }
        }
    }
    document
}

/// Headers of answers, by the names that `complete` and the routes use.
fn headers() -> Value {
    let text = |says: &str| json!({"description": says, "schema": {"type": "string"}});
    let mut id = text("Names the request in the server's log.");
    id["required"] = json!(true);
    json!({
        "X-Request-Id": id,
        "RateLimit": text("How many requests the token has left, and in how many seconds it has one more; where there is a limit."),
        "RateLimit-Policy": text("How many requests a token has, and within how many seconds."),
        "Retry-After": {
            "description": "In how many seconds to try again.",
            "schema": {"type": "integer", "minimum": 1},
        },
        "Allow": text("The methods that the address takes."),
        "WWW-Authenticate": text("Which scheme is asked for."),
    })
}

/// Adds the problems that are the same everywhere, and the headers of every answer.
fn complete(path: &str, method: &str, responses: &mut Map<String, Value>) {
    let changes = method != "get" && method != "delete";
    // A value that is off or has expired is a conflict, and a list can be asked for in a way that is invalid.
    let more: &[u16] = match (changes, method) {
        (true, _) => &CHANGING,
        (false, "delete") => &[409, 422],
        (false, _) if path.starts_with("/api/v1/values") => &[409, 422],
        (false, _) => &[422],
    };
    for status in EVERYWHERE.iter().chain(more) {
        responses.entry(status.to_string()).or_insert_with(|| {
            json!({"content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}})
        });
    }
    for (status, response) in responses.iter_mut() {
        if response["description"].as_str().unwrap_or_default() == "" {
            response["description"] = json!(described(status));
        }
        // What axum answers to problems has one content type, whatever utoipa guesses.
        if status.starts_with(['4', '5'])
            && let Some(content) = response["content"].as_object_mut()
            && let Some(body) = content.remove("application/json")
        {
            content.insert("application/problem+json".to_owned(), body);
        }
        let own: &[&str] = match status.as_str() {
            "401" => &["WWW-Authenticate"],
            "405" => &["Allow"],
            "429" | "503" => &["Retry-After"],
            _ => &[],
        };
        for name in ["X-Request-Id", "RateLimit", "RateLimit-Policy"]
            .iter()
            .chain(own)
        {
            response["headers"][*name] = json!({"$ref": format!("#/components/headers/{name}")});
        }
    }
}

fn described(status: &str) -> String {
    let of = |kind: &ProblemKind| kind.status().as_str() == status;
    let titles: Vec<&str> = ProblemKind::ALL
        .iter()
        .filter(|kind| of(kind))
        .map(|kind| kind.title())
        .collect();
    match (status, titles.is_empty()) {
        ("204", _) => "Done".into(),
        (_, true) => "Done, or found".into(),
        (_, false) => titles.join(", or "),
    }
}

pub(in crate::doors) async fn openapi() -> Response {
    axum::Json(document()).into_response()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_operation_is_described_whole_and_named_once() {
        let document = document();
        let mut names = HashSet::new();
        for (path, operations) in document["paths"].as_object().unwrap() {
            for (method, operation) in operations.as_object().unwrap() {
                let at = format!("{method} {path}");
                let name = operation["operationId"].as_str().unwrap();
                assert!(names.insert(name.to_owned()), "{at}: {name} is not unique");
                assert!(!operation["summary"].as_str().unwrap().is_empty(), "{at}");
                for (status, response) in operation["responses"].as_object().unwrap() {
                    let said = response["description"].as_str();
                    assert!(said.is_some_and(|said| !said.is_empty()), "{at} {status}");
                    assert!(
                        response["headers"]["X-Request-Id"].is_object(),
                        "{at} {status}"
                    );
                    let is_problem = status.starts_with(['4', '5']);
                    let body = &response["content"]["application/problem+json"]["schema"];
                    assert_eq!(body.is_object(), is_problem, "{at} {status}");
                }
                // What stands in braces is said to be a parameter, and the other way round.
                let braces = path.matches('{').count();
                let parameters = operation["parameters"].as_array();
                let in_path = |one: &&Value| one["in"] == "path";
                let said = parameters.into_iter().flatten().filter(in_path).count();
                assert_eq!(said, braces, "{at}");
            }
        }
        assert!(
            names.contains("secrets_list") && names.contains("versions_list"),
            "{names:?}"
        );
        let text = document.to_string();
        for name in text.split("\"#/components/").skip(1) {
            let name = name.split('"').next().unwrap();
            let there = document.pointer(&format!("/components/{name}"));
            assert!(there.is_some(), "{name} is referred to, and is not there");
        }
    }
}
