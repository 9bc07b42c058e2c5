//! What programs and people read of the API: OpenAPI 3.1 from the code, the same as a page, and a page for each kind of problem.
//! Open to everybody: it says nothing of an installation.

use axum::extract::Path;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use leptos::prelude::*;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use utoipa::OpenApi;

use super::Api;
use super::problems::KINDS;

/// Statuses that every route can end with; each has a problem as its body.
const EVERYWHERE: [u16; 7] = [400, 401, 403, 404, 429, 500, 503];
/// Those of routes that change something or take a body.
const CHANGING: [u16; 4] = [409, 413, 415, 422];

/// Light and dark as the reader's system has it; readable on a phone.
const STYLE: &str = ":root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:0 auto;padding:1rem}\
code,pre{font-family:ui-monospace,monospace;font-size:.9em}h2{margin-top:2.5rem;border-bottom:1px solid}h3{margin:2rem 0 .25rem;overflow-wrap:anywhere}\
table{border-collapse:collapse;width:100%}td,th{text-align:start;vertical-align:top;padding:.25rem .75rem .25rem 0}\
.m{display:inline-block;min-width:4.5rem;font-weight:700}div.t{overflow-x:auto}";

/// The document, with what is the same for every route.
pub fn document() -> Value {
    let mut document = serde_json::to_value(Api::openapi()).unwrap_or_default();
    document["info"]["version"] = json!("1");
    document["info"]["license"] = json!({"name": "Apache-2.0", "identifier": "Apache-2.0"});
    document["servers"] = json!([{"url": "/"}]);
    document["components"]["securitySchemes"] =
        json!({"token": {"type": "http", "scheme": "bearer", "bearerFormat": "sp_…"}});
    document["security"] = json!([{"token": []}]);
    let paths = document["paths"].as_object_mut();
    for (path, operations) in paths.into_iter().flatten() {
        for (method, operation) in operations.as_object_mut().into_iter().flatten() {
            if let Some(responses) = operation["responses"].as_object_mut() {
                complete(path, method, responses);
            }
        }
    }
    document
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
        let kinds = KINDS.iter().filter(|kind| kind.status.as_u16() == *status);
        let titles: Vec<&str> = kinds.map(|kind| kind.title).collect();
        responses.entry(status.to_string()).or_insert_with(|| {
            json!({
                "description": titles.join(", or "),
                "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
            })
        });
    }
    for (status, response) in responses.iter_mut() {
        if let Some("") = response["description"].as_str() {
            response["description"] = json!(if status == "204" {
                "Done"
            } else {
                "Done, or found"
            });
        }
        // What axum answers to problems has one content type, whatever utoipa guesses.
        if status.starts_with(['4', '5'])
            && let Some(content) = response["content"].as_object_mut()
            && let Some(body) = content.remove("application/json")
        {
            content.insert("application/problem+json".to_owned(), body);
        }
    }
}

pub(in crate::doors) async fn openapi() -> Response {
    axum::Json(document()).into_response()
}

/// The document as a page.
pub(in crate::doors) async fn docs() -> Response {
    let document = document();
    let operations: Vec<(String, String, Value)> = document["paths"]
        .as_object()
        .into_iter()
        .flatten()
        .flat_map(|(path, operations)| {
            operations
                .as_object()
                .into_iter()
                .flatten()
                .map(|(method, operation)| (path.clone(), method.clone(), operation.clone()))
        })
        .collect();
    let schemas: Vec<(String, Value)> = document["components"]["schemas"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, schema)| (name.clone(), schema.clone()))
        .collect();
    let body = view! {
        <h1>"The API of Sealport"</h1>
        <p>
            "Send a token as " <code>"Authorization: Bearer sp_…"</code> ". Bodies are JSON, in UTF-8. A secret’s path may have slashes, as they are or as "
            <code>"%2F"</code> "; " <code>"handle:path"</code> " names another owner’s. Errors are problem details (RFC 9457): "
            <code>"type"</code> " leads to a page that explains it. Lists have pages: send " <code>"next_cursor"</code> " as "
            <code>"cursor"</code> " until it is null. " <code>"X-Request-Id"</code> " of an answer names it in the server’s log, and "
            <code>"RateLimit"</code> " says how many requests the token has left. For programs: "
            <a href="/api/openapi.json">"OpenAPI 3.1"</a> "."
        </p>
        <h2>"Routes"</h2>
        {operations.iter().map(|(path, method, operation)| route(path, method, operation)).collect_view()}
        <h2>"Shapes"</h2>
        {schemas.iter().map(|(name, schema)| shape(name, schema)).collect_view()}
        <h2>"Problems"</h2>
        <ul>
            {KINDS
                .iter()
                .map(|kind| {
                    view! {
                        <li>
                            <a href=format!("/problems/{}", kind.slug)>{kind.slug}</a>
                            {format!(" ({}): {}", kind.status.as_u16(), kind.title)}
                        </li>
                    }
                })
                .collect_view()}
        </ul>
    };
    html("The API of Sealport", body.to_html())
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn route(path: &str, method: &str, operation: &Value) -> impl IntoView + use<> {
    let described = [text(&operation["summary"]), text(&operation["description"])].join(" ");
    let parameters: Vec<Value> = operation["parameters"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let sends = operation["requestBody"]["content"]["application/json"]["schema"].clone();
    let answers: Vec<(String, Value)> = operation["responses"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(status, answer)| (status.clone(), answer.clone()))
        .collect();
    view! {
        <h3>
            <span class="m">{method.to_uppercase()}</span>
            <code>{path.to_owned()}</code>
        </h3>
        <p>{described}</p>
        {(!parameters.is_empty())
            .then(|| {
                view! {
                    <div class="t">
                        <table>
                            {parameters
                                .iter()
                                .map(|one| {
                                    view! {
                                        <tr>
                                            <th scope="row"><code>{text(&one["name"])}</code></th>
                                            <td>{text(&one["in"])}</td>
                                            <td>{kind_of(&one["schema"])}</td>
                                            <td>{text(&one["description"])}</td>
                                        </tr>
                                    }
                                })
                                .collect_view()}
                        </table>
                    </div>
                }
            })}
        {(!sends.is_null()).then(|| view! { <p>"Sends " {kind_of(&sends)} "."</p> })}
        <p>
            "Answers "
            {answers
                .iter()
                .filter(|(status, _)| status.starts_with('2'))
                .map(|(status, answer)| {
                    let body = answer["content"]["application/json"]["schema"].clone();
                    view! {
                        <code>{status.clone()}</code>
                        " "
                        {(!body.is_null()).then(|| view! { "with " {kind_of(&body)} " " })}
                    }
                })
                .collect_view()}
            "or a problem: "
            {answers
                .iter()
                .filter(|(status, _)| !status.starts_with('2'))
                .map(|(status, _)| status.clone())
                .collect::<Vec<_>>()
                .join(", ")}
            "."
        </p>
    }
}

fn shape(name: &str, schema: &Value) -> impl IntoView + use<> {
    let required: Vec<String> = schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .map(text)
        .collect();
    let fields: Vec<(String, Value)> = schema["properties"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, field)| (name.clone(), field.clone()))
        .collect();
    view! {
        <h3 id=name.to_owned()>{name.to_owned()}</h3>
        <p>
            {text(&schema["description"])} " "
            {fields.is_empty().then(|| kind_of(schema))}
        </p>
        <div class="t">
            <table>
                {fields
                    .iter()
                    .map(|(name, field)| {
                        let optional = if required.contains(name) { "" } else { "optional" };
                        view! {
                            <tr>
                                <th scope="row"><code>{name.clone()}</code></th>
                                <td>{kind_of(field)}</td>
                                <td>{optional}</td>
                                <td>{text(&field["description"])}</td>
                            </tr>
                        }
                    })
                    .collect_view()}
            </table>
        </div>
    }
}

/// A schema in a word or two, with a link to a shape.
fn kind_of(schema: &Value) -> AnyView {
    if let Some(name) = schema["$ref"].as_str().and_then(|to| to.rsplit('/').next()) {
        let name = name.to_owned();
        return view! { <a href=format!("#{name}")>{name.clone()}</a> }.into_any();
    }
    for choice in ["oneOf", "anyOf", "allOf"] {
        if let Some(choices) = schema[choice].as_array() {
            let choices: Vec<AnyView> = choices
                .iter()
                .map(|one| view! { {kind_of(one)} " " }.into_any())
                .collect();
            return choices.into_any();
        }
    }
    if let Some(values) = schema["enum"].as_array() {
        let values: Vec<String> = values.iter().map(text).collect();
        return values.join(" | ").into_any();
    }
    if let Some(items) = schema.get("items") {
        return view! { "list of " {kind_of(items)} }.into_any();
    }
    let kind = match &schema["type"] {
        Value::String(kind) => kind.clone(),
        Value::Array(kinds) => kinds.iter().map(text).collect::<Vec<_>>().join(" or "),
        _ => String::new(),
    };
    let format = schema["format"]
        .as_str()
        .map(|format| format!(" ({format})"));
    let most = schema["maximum"]
        .as_i64()
        .map(|most| format!(", at most {most}"));
    let long = schema["maxLength"]
        .as_i64()
        .map(|long| format!(", at most {long} characters"));
    [Some(kind), format, most, long]
        .into_iter()
        .flatten()
        .collect::<String>()
        .into_any()
}

/// What a kind of problem means.
pub(in crate::doors) async fn problem(Path(slug): Path<String>) -> Response {
    let Some(kind) = KINDS.iter().find(|kind| kind.slug == slug) else {
        return (
            StatusCode::NOT_FOUND,
            "There is no such problem. /api/docs lists them.",
        )
            .into_response();
    };
    let body = view! {
        <h1>{kind.title}</h1>
        <p>{format!("HTTP status {}.", kind.status.as_u16())}</p>
        <p>{kind.about}</p>
        <p>
            <a href="/api/docs">"The API of Sealport"</a>
        </p>
    };
    html(kind.title, body.to_html())
}

fn html(title: &str, body: String) -> Response {
    let page = format!(
        "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title}</title><style>{STYLE}</style></head><body><main>{body}</main></body></html>"
    );
    let hash = STANDARD.encode(Sha256::digest(STYLE));
    // This one style sheet, and nothing else is loaded or framed.
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let mut response = axum::response::Html(page).into_response();
    if let Ok(policy) = HeaderValue::try_from(policy) {
        response
            .headers_mut()
            .insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}
