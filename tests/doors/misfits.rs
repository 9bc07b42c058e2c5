//! What the API says to bodies and parameters that do not fit: where, and what would; never what was sent.

use axum::body::Body;
use axum::http::{Request, header};
use sealport::model::levels::Level;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::{HOST, Installation};

const CANARY: &str = "canary-4f8a";

#[tokio::test]
async fn what_does_not_fit_is_named_and_not_repeated() {
    let house = Installation::new().await;
    let owner = house.person("owner").await;
    let (_, token) = house.token(&owner, Level::Admin, None, true).await;
    for (method, path, body, status, field, detail) in [
        (
            "POST",
            "grants",
            "{}",
            422,
            "grantee",
            "grantee is missing.",
        ),
        (
            "POST",
            "grants",
            r#"{"grante":"bob","level":"use"}"#,
            422,
            "grante",
            "There is no field grante here. There are: secret, under, deployment, grantee,",
        ),
        (
            "POST",
            "grants",
            r#"{"grantee":"bob","level":"canary-4f8a"}"#,
            422,
            "level",
            "level is one of use, read, write, admin.",
        ),
        ("POST", "grants", "{", 400, "", "at line 1, column 1"),
        (
            "PUT",
            "secrets/A",
            r#"{"value":["canary-4f8a"]}"#,
            422,
            "value",
            "value is a text.",
        ),
        (
            "PUT",
            "secrets/A",
            r#"{"canary-4f8a":1}"#,
            422,
            "",
            "There is a field that this address does not take. There are: path,",
        ),
        (
            "POST",
            "secrets",
            r#"{"path":"canary-4f8a/A","value":"x"}"#,
            422,
            "path",
            "A path with folders starts with",
        ),
        (
            "POST",
            "import",
            r#"{"entries":[{"name":"A","value":"canary-4f8a"},{"name":"B"}]}"#,
            422,
            "entries[1].value",
            "entries[1].value is missing.",
        ),
        (
            "PUT",
            "secrets/A",
            r#"{"generate":{"bytes":8}}"#,
            422,
            "generate",
            "16 to 4096",
        ),
        (
            "GET",
            "secrets?limit=canary-4f8a",
            "",
            400,
            "limit",
            "limit is a whole number.",
        ),
        (
            "GET",
            "secrets?limti=3",
            "",
            400,
            "limti",
            "There is no parameter limti here. There are: under, kind,",
        ),
        (
            "GET",
            "secrets?tag=a&tag=b",
            "",
            400,
            "tag",
            "Give tag once.",
        ),
        (
            "GET",
            "secrets?due=3&cursor=x",
            "",
            422,
            "cursor",
            "one page",
        ),
    ] {
        let request = Request::builder()
            .method(method)
            .uri(format!("/api/v1/{path}"))
            .header(header::HOST, HOST)
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(body))
            .unwrap();
        let response = house.router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), status, "{path} {body}");
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await;
        let problem: Value = serde_json::from_slice(&bytes.unwrap()).unwrap();
        assert!(!problem.to_string().contains(CANARY), "{problem}");
        let said = problem["detail"].as_str().unwrap();
        assert!(said.contains(detail), "{path} {body}: {said}");
        let expected = if field.is_empty() {
            Value::Null
        } else {
            json!(field)
        };
        assert_eq!(problem["field"], expected, "{path} {body}");
    }
}

#[tokio::test]
async fn answers_have_the_headers_that_the_document_names() {
    let house = Installation::new().await;
    let owner = house.person("owner").await;
    let (_, token) = house.token(&owner, Level::Admin, None, false).await;
    let send = async |method: &str, path: &str, body: &str| {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, HOST)
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(body.to_owned()))
            .unwrap();
        house.router.clone().oneshot(request).await.unwrap()
    };
    let stored = send("PUT", "/api/v1/secrets/A", r#"{"value":"one"}"#).await;
    assert_eq!(stored.status(), 201);
    for path in ["/api/v1/secrets/A", "/api/v1/values/A"] {
        let read = send("GET", path, "").await;
        assert_eq!(read.headers()[header::ETAG], "\"1\"", "{path}");
    }
    let gone = send("POST", "/api/v1/rollback/A", r#"{"version":9}"#).await;
    assert_eq!(gone.status(), 404);
    let other = send("PATCH", "/api/v1/audit", "{}").await;
    assert_eq!(other.status(), 405);
    assert_eq!(other.headers()[header::ALLOW], "GET,HEAD");
    let docs = send("GET", "/api", "").await;
    assert_eq!(docs.status(), 200);
    let docs = axum::body::to_bytes(docs.into_body(), 1 << 22).await;
    let docs = String::from_utf8(docs.unwrap().to_vec()).unwrap();
    assert_eq!(
        docs.matches("curl").count(),
        9,
        "a call to try for each group"
    );
    let counted = send("GET", "/metrics", "").await;
    let counted = axum::body::to_bytes(counted.into_body(), 1 << 22).await;
    let counted = String::from_utf8(counted.unwrap().to_vec()).unwrap();
    assert!(
        counted.contains("# HELP sealport_http_requests_total"),
        "{counted}"
    );
}
