//! What people read of the API: the document as a page, and a page for each kind of problem. Open to everybody: it says nothing of an
//! installation.

use axum::extract::Path;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use leptos::prelude::*;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::document::document;
use super::problems::ProblemKind;

/// Light and dark as the reader's system has it, in the dashboard's colours; readable on a phone, where a row stands as lines. The
/// ground is said, so that what looks at contrast need not guess it.
const STYLE: &str = ":root{color-scheme:light dark;--ground:oklch(99.2% 0.002 200);--ink:oklch(27% 0.025 225);--link:oklch(43% 0.078 207)}\
@media (prefers-color-scheme:dark){:root{--ground:oklch(23.5% 0.018 225);--ink:oklch(92.5% 0.01 205);--link:oklch(76% 0.1 196)}}\
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:0 auto;padding:1rem}html,body{background:var(--ground);color:var(--ink)}a{color:var(--link)}\
header a{display:inline-flex;align-items:center;gap:.5rem;min-height:1.75rem;font-weight:700;color:inherit;text-decoration:none}\
code,pre{font-family:ui-monospace,monospace;font-size:.9em}h2{margin-top:2.5rem;border-bottom:1px solid}h3{margin:2rem 0 .25rem;overflow-wrap:anywhere}\
pre{overflow-x:auto}table{border-collapse:collapse;width:100%}td,th{text-align:start;vertical-align:top;padding:.25rem .75rem .25rem 0}\
.m{display:inline-block;min-width:4.5rem;font-weight:700}div.t{overflow-x:auto}\
@media (max-width:50rem){tr,td,th{display:block;padding:0;overflow-wrap:anywhere}tr{padding:.5rem 0}}";

/// By tag: the title, and a call to try.
const GROUPS: [(&str, &str, &str); 9] = [
    (
        "secrets",
        "Secrets",
        r#"curl -X PUT "$SEALPORT_URL/api/v1/secrets/project/shop/STRIPE_KEY" -H "Authorization: Bearer $SEALPORT_TOKEN" \
  -H "Content-Type: application/json" -d '{"generate": {"bytes": 32}, "tags": ["prod"]}'"#,
    ),
    (
        "values",
        "Values",
        r#"curl "$SEALPORT_URL/api/v1/values/project/shop/STRIPE_KEY" -H "Authorization: Bearer $SEALPORT_TOKEN""#,
    ),
    (
        "versions",
        "Versions",
        r#"curl "$SEALPORT_URL/api/v1/versions/project/shop/STRIPE_KEY" -H "Authorization: Bearer $SEALPORT_TOKEN""#,
    ),
    (
        "deployments",
        "Deployments",
        r#"curl -X POST "$SEALPORT_URL/api/v1/deployments?dry_run=true" -H "Authorization: Bearer $SEALPORT_TOKEN" \
  -H "Content-Type: application/json" -d '{"name": "shop-tools", "source": "npm:firecrawl-mcp",
  "bindings": [{"env": "FIRECRAWL_API_KEY", "secret": "project/shop/FIRECRAWL_API_KEY"}]}'"#,
    ),
    (
        "connections",
        "One’s own keys of per-user deployments",
        r#"printf '{"value": "%s"}' "$STRIPE_KEY" | curl -X PUT "$SEALPORT_URL/api/v1/connections/shop-tools/STRIPE_KEY" \
  -H "Authorization: Bearer $SEALPORT_TOKEN" -H "Content-Type: application/json" -d @-"#,
    ),
    (
        "grants",
        "Sharing",
        r#"curl -X POST "$SEALPORT_URL/api/v1/grants" -H "Authorization: Bearer $SEALPORT_TOKEN" \
  -H "Content-Type: application/json" -d '{"under": "project/shop", "grantee": "bob", "level": "use"}'"#,
    ),
    (
        "teams",
        "Teams",
        r#"curl "$SEALPORT_URL/api/v1/teams" -H "Authorization: Bearer $SEALPORT_TOKEN""#,
    ),
    (
        "tokens",
        "Tokens",
        r#"curl "$SEALPORT_URL/api/v1/tokens" -H "Authorization: Bearer $SEALPORT_TOKEN""#,
    ),
    (
        "audit",
        "Record",
        r#"curl "$SEALPORT_URL/api/v1/audit?action=secret&limit=20" -H "Authorization: Bearer $SEALPORT_TOKEN""#,
    ),
];

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
            <code>"%2F"</code>
            ". A token sees one owner’s things: its owner’s own handle may stand before a path, as in " <code>"handle:path"</code>
            "; another’s finds nothing. For what somebody shares with you, make a token for that owner. Errors are problem details (RFC 9457): "
            <code>"type"</code> " leads to a page that explains it, " <code>"field"</code> " names what is wrong. Lists have pages: send "
            <code>"next_cursor"</code> " as " <code>"cursor"</code> " until it is null. " <code>"X-Request-Id"</code>
            " of an answer names it in the server’s log, and " <code>"RateLimit"</code> " says how many requests the token has left. For programs: "
            <a href="/api/openapi.json">"OpenAPI 3.1"</a> ". The examples have the address in " <code>"SEALPORT_URL"</code> " and the token in "
            <code>"SEALPORT_TOKEN"</code> "."
        </p>
        {GROUPS
            .iter()
            .map(|(tag, title, example)| {
                view! {
                    <h2 id=*tag>{*title}</h2>
                    // Whoever has no mouse scrolls it with the keys.
                    <pre tabindex="0">{*example}</pre>
                    {operations
                        .iter()
                        .filter(|(_, _, operation)| operation["tags"][0] == *tag)
                        .map(|(path, method, operation)| route(path, method, operation))
                        .collect_view()}
                }
            })
            .collect_view()}
        <h2>"Shapes"</h2>
        {schemas.iter().map(|(name, schema)| shape(name, schema)).collect_view()}
        <h2>"Problems"</h2>
        <ul>
            {ProblemKind::ALL
                .iter()
                .map(|kind| {
                    view! {
                        <li>
                            <a href=format!("/problems/{}", kind.slug())>{kind.slug()}</a>
                            {format!(" ({}): {}", kind.status().as_u16(), kind.title())}
                        </li>
                    }
                })
                .collect_view()}
        </ul>
    };
    html("API", body.to_html())
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
    let Some(kind) = ProblemKind::ALL.iter().find(|kind| kind.slug() == slug) else {
        return (
            StatusCode::NOT_FOUND,
            "There is no such problem. /api/docs lists them.",
        )
            .into_response();
    };
    let body = view! {
        <h1>{kind.title()}</h1>
        <p>{format!("HTTP status {}.", kind.status().as_u16())}</p>
        <p>{kind.about()}</p>
        <p>
            <a href="/api/docs">"The API of Sealport"</a>
        </p>
    };
    html(kind.title(), body.to_html())
}

fn html(title: &str, body: String) -> Response {
    let page = format!(
        "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <link rel=\"icon\" href=\"/favicon.svg\" type=\"image/svg+xml\"><title>{title} · Sealport</title><style>{STYLE}</style></head>\
         <body><header><a href=\"/\"><img src=\"/mark.svg\" alt=\"\" width=\"28\" height=\"28\">Sealport</a></header>\
         <main>{body}</main></body></html>"
    );
    let hash = STANDARD.encode(Sha256::digest(STYLE));
    // This one style sheet and the mark, and nothing else is loaded or framed.
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let mut response = axum::response::Html(page).into_response();
    if let Ok(policy) = HeaderValue::try_from(policy) {
        response
            .headers_mut()
            .insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_operation_stands_in_a_group() {
        for operations in document()["paths"].as_object().unwrap().values() {
            for operation in operations.as_object().unwrap().values() {
                let is_there = GROUPS.iter().any(|(tag, ..)| operation["tags"][0] == *tag);
                assert!(is_there, "{operation}");
            }
        }
    }
}
