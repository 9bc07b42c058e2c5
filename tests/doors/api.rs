//! The permission table of the API: who gets what by a token at every route. A person reads it; the test holds it against the router.
//!
//! Letters as in `table.rs`: `s` shown, `o` answered with nothing of the owner's, `d` done to what is the owner's, `m` carried out
//! on nothing of the owner's, `n` as if it did not exist, `r` refused, and said why, `i` 401.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::{Request, header};
use sealport::model::actors::Caller;
use sealport::model::deployments::{Binding, Bound};
use sealport::model::grants::Shareable;
use sealport::model::levels::Level;
use sealport::model::paths::{EnvName, Folder};
use sealport::store::api_tokens::ApiTokenSpec;
use sealport::store::secrets::NewValue;
use secrecy::SecretString;
use tower::ServiceExt;
use uuid::Uuid;

use crate::{Browser, HOST, Installation, Things, walk, world};

/// The callers: the owner's tokens with each ceiling, and with `use` and the right to deploy; the owner's with `admin` under another
/// prefix; somebody else's with `admin`; an expired and a revoked one; a gateway's; the owner's session without a token; nobody.
const CALLERS: [&str; 12] = [
    "use",
    "read",
    "write",
    "admin",
    "use, deploys",
    "other prefix",
    "other owner",
    "expired",
    "revoked",
    "gateway's",
    "cookie",
    "nobody",
];

pub const TABLE: &str = r#"
GET    /api/v1/secrets                        | | ssss s oo iiiii
POST   /api/v1/secrets                        | {"path":"{path}_NEW","value":"a new value"} | rrdd r rm iiiii
GET    /api/v1/secrets/{*path}                | | ssss s nn iiiii
PUT    /api/v1/secrets/{*path}                | {"value":"another value"} | rrdd r rm iiiii
PATCH  /api/v1/secrets/{*path}                | {"description":"changed"} | rrdd r nn iiiii
DELETE /api/v1/secrets/{*path}                | | rrrd r nn iiiii
GET    /api/v1/values/{*path}                 | | rsss r nn iiiii
POST   /api/v1/values                         | {"paths":["{path}"]} | rsss r nn iiiii
POST   /api/v1/check/{*path}                  | {"value":"a guess"} | rooo r nn iiiii
GET    /api/v1/versions/{*path}               | | oooo o nn iiiii
POST   /api/v1/rollback/{*path}               | {"version":1} | rrdd r nn iiiii
POST   /api/v1/redeploy/{*path}               | | mmmm m nn iiiii
GET    /api/v1/grants                         | secret={path} | rrrs r nn iiiii
POST   /api/v1/grants                         | {"secret":"{path}","grantee":"{other}","level":"use"} | rrrd r nn iiiii
DELETE /api/v1/grants/{id}                    | | nnnd n nn iiiii
GET    /api/v1/tokens                         | | ooos o oo iiiii
DELETE /api/v1/tokens/{id}                    | | nnnd n nn iiiii
GET    /api/v1/teams                          | | oooo o oo iiiii
GET    /api/v1/teams/{handle}/members         | | nnnn n nn iiiii
PUT    /api/v1/teams/{handle}/members/{member} | {"level":"use"} | nnnn n nn iiiii
DELETE /api/v1/teams/{handle}/members/{member} | | nnnn n nn iiiii
GET    /api/v1/deployments                    | | ssss s oo iiiii
POST   /api/v1/deployments                    | {"name":"{fresh}","source":"dir:/"} | rrrr r rr iiiii
GET    /api/v1/deployments/{name}             | | osss s nn iiiii
PATCH  /api/v1/deployments/{name}             | {"follows_changes":true} | rrrr d nn iiiii
DELETE /api/v1/deployments/{name}             | | rrrr d nn iiiii
POST   /api/v1/deployments/{name}/start       | | rrrr m nn iiiii
POST   /api/v1/deployments/{name}/stop        | | rrrr d nn iiiii
POST   /api/v1/deployments/{name}/releases    | | rrrr d nn iiiii
GET    /api/v1/deployments/{name}/releases/{number} | | nooo o nn iiiii
GET    /api/v1/deployments/{name}/logs        | | nooo o nn iiiii
GET    /api/v1/connections/{deployment}       | | nnss n nn iiiii
PUT    /api/v1/connections/{deployment}/{env} | {"value":"a new value"} | nndd n nn iiiii
DELETE /api/v1/connections/{deployment}/{env} | | nnrd n nn iiiii
GET    /api/v1/audit                          | | ooos o oo iiiii
POST   /api/v1/import                         | {"entries":[{"name":"{path}_MORE","value":"one more value"}]} | rrdd r ro iiiii
"#;

/// What callers of a deployment bring.
const OWN_KEY: &str = "OWN_KEY";

/// The owner's deployment whose callers bring it.
fn per_user(things: &Things) -> String {
    format!("{}-keys", things.name)
}

struct Row {
    method: &'static str,
    route: &'static str,
    body: &'static str,
    expected: String,
}

fn rows() -> Vec<Row> {
    let lines = TABLE.lines().filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let cells: Vec<&str> = line.splitn(2, " | ").collect();
            let (body, expected) = cells[1].rsplit_once('|').unwrap();
            let (method, route) = cells[0].trim().split_once(' ').unwrap();
            let expected = expected.replace(' ', "");
            assert_eq!(
                expected.len(),
                CALLERS.len(),
                "a letter for each caller: {line}"
            );
            Row {
                method,
                route: route.trim(),
                body: body.trim().trim_start_matches('|').trim(),
                expected,
            }
        })
        .collect()
}

/// The tokens of one row, one for each caller that has one.
struct Tokens(Vec<String>);

impl Installation {
    pub async fn token(
        &self,
        maker: &Caller,
        can: Level,
        under: Option<&str>,
        deploys: bool,
    ) -> (Uuid, String) {
        let spec = ApiTokenSpec {
            owner: None,
            name: format!("a-token-{}", Uuid::now_v7().simple()),
            ceiling: can,
            under: under.map(|under| Folder::parse(under).unwrap()),
            deploys,
            expires_at: None,
        };
        let new = self.world.db.api_token_create(maker, &spec).await.unwrap();
        (new.id, new.token)
    }

    async fn tokens(&self, owner: &Caller, other: &Caller, things: &Things) -> Tokens {
        let mut all = Vec::new();
        for can in Level::ALL {
            all.push(self.token(owner, can, None, false).await.1);
        }
        all.push(self.token(owner, Level::Use, None, true).await.1);
        all.push(
            self.token(owner, Level::Admin, Some("project/elsewhere"), true)
                .await
                .1,
        );
        all.push(self.token(other, Level::Admin, None, true).await.1);
        let (expired, token) = self.token(owner, Level::Admin, None, true).await;
        self.world
            .sql(&format!(
                "set session_replication_role = replica; update tokens set expires_at = now() where id = '{expired}'"
            ))
            .await;
        all.push(token);
        let (revoked, token) = self.token(owner, Level::Admin, None, true).await;
        self.world.db.token_revoke(owner, revoked).await.unwrap();
        all.push(token);
        all.push(things.token.clone());
        Tokens(all)
    }

    /// Sends a row's call, and says in a letter what came of it; `done` where it was carried out.
    async fn api(
        &self,
        row: &Row,
        things: &Things,
        token: Option<&str>,
        cookie: &str,
    ) -> (&'static str, String) {
        let route = row
            .route
            .replace("{deployment}", &per_user(things))
            .replace("{env}", OWN_KEY);
        let (mut path, mut body) = (things.fill_route(&route), things.fill(row.body));
        if row.method == "GET" && !body.is_empty() {
            path = format!("{path}?{}", std::mem::take(&mut body));
        }
        let mut request = Request::builder()
            .method(row.method)
            .uri(&path)
            .header(header::HOST, HOST)
            .header(header::COOKIE, cookie);
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let request = request.body(Body::from(body.clone())).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let kind = response.headers().get(header::CONTENT_TYPE).cloned();
        let kind = kind.map_or(String::new(), |kind| kind.to_str().unwrap().to_owned());
        assert!(
            response.headers().get(header::SET_COOKIE).is_none(),
            "{path}"
        );
        assert_eq!(
            response.headers()[header::CACHE_CONTROL],
            "no-store",
            "{path}"
        );
        let text = if kind.starts_with("text/event-stream") {
            use futures::StreamExt;
            let piece = response.into_body().into_data_stream().next().await;
            String::from_utf8_lossy(&piece.unwrap().unwrap()).into_owned()
        } else {
            let bytes = axum::body::to_bytes(response.into_body(), 1 << 20)
                .await
                .unwrap();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        if status.is_client_error() {
            assert_eq!(kind, "application/problem+json", "{path}: {text}");
        }
        let sent = format!("{path} {body}");
        let tells = things
            .marks
            .iter()
            .any(|mark| !sent.contains(mark) && text.contains(mark));
        let word = match status.as_u16() {
            _ if tells && status.is_success() => "s",
            _ if tells => "tells",
            401 => "i",
            404 => "n",
            400..=499 => "r",
            500.. => "broken",
            201 | 202 | 204 => "done",
            _ => "o",
        };
        (word, text)
    }
}

#[tokio::test]
async fn every_route_of_the_api_gives_each_token_what_the_table_says() {
    let all = rows();
    let told: BTreeSet<String> = all
        .iter()
        .map(|row| format!("{} {}", row.method, row.route))
        .collect();
    let real = walk::api_routes();
    let without_row: Vec<_> = real.difference(&told).collect();
    let of_nothing: Vec<_> = told.difference(&real).collect();
    assert!(
        without_row.is_empty() && of_nothing.is_empty(),
        "routes without a row: {without_row:?}; rows without a route: {of_nothing:?}"
    );

    let house = Installation::new().await;
    let (owner, other) = (house.person("ownera").await, house.person("otherb").await);
    house.person(crate::callers::OTHER).await;
    let session = house.signed_in(&owner).await;
    let mut wrong = Vec::new();
    println!("{}", CALLERS.join(", "));
    let only = std::env::var("ROW").unwrap_or_default();
    for (number, row) in all
        .iter()
        .enumerate()
        .filter(|(_, row)| row.route.contains(&only))
    {
        let letters = house
            .api_row(row, number, &owner, &other, &session, &mut wrong)
            .await;
        println!("{:6} {:44} {letters}", row.method, row.route);
        if letters != row.expected {
            wrong.push(format!(
                "{} {}: {letters}, not {}",
                row.method, row.route, row.expected
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

impl Installation {
    /// What each caller gets, those who may do least first. Things serve until somebody has done something to them.
    async fn api_row(
        &self,
        row: &Row,
        number: usize,
        owner: &Caller,
        other: &Caller,
        session: &Browser,
        wrong: &mut Vec<String>,
    ) -> String {
        let mut letters = vec!["?"; CALLERS.len()];
        let mut kept: Option<(Things, Tokens)> = None;
        for place in (5..CALLERS.len()).rev().chain(0..5) {
            let (things, tokens) = match kept.take() {
                Some(kept) => kept,
                None => {
                    let mut things = self.things(owner, 1_000 + number * 20 + place).await;
                    // What is read is what only a value tells.
                    things.marks.push("a value to keep".to_owned());
                    let on = Shareable::Secret { id: things.secret };
                    let given =
                        self.world
                            .db
                            .share(owner, &on, crate::callers::OTHER, Level::Use, &[]);
                    things.grant = given.await.unwrap();
                    things.marks.push(things.grant.to_string());
                    if row.route.contains("/connections/") {
                        self.connected(owner, &mut things).await;
                    }
                    let tokens = self.tokens(owner, other, &things).await;
                    (things, tokens)
                }
            };
            let before = self.rows_but_last_use(&things).await;
            let token = tokens.0.get(place).map(String::as_str);
            let cookie = if CALLERS[place] == "cookie" {
                session.cookie.as_str()
            } else {
                ""
            };
            let (word, text) = self.api(row, &things, token, cookie).await;
            let changed = self.rows_but_last_use(&things).await != before;
            letters[place] = match (word, changed) {
                ("done" | "o" | "s", true) => "d",
                ("done", false) => "m",
                ("tells" | "broken", _) => {
                    wrong.push(format!(
                        "{} {} for {}: {word}: {text}",
                        row.method, row.route, CALLERS[place]
                    ));
                    "!"
                }
                (refused, true) => {
                    wrong.push(format!(
                        "{} {} for {}: {refused}, and it changed rows",
                        row.method, row.route, CALLERS[place]
                    ));
                    refused
                }
                (word, false) => word,
            };
            if !changed {
                kept = Some((things, tokens));
            }
        }
        letters.concat()
    }

    /// A deployment whose callers bring a key, with the owner's own connected.
    async fn connected(&self, owner: &Caller, things: &mut Things) {
        let description = format!("said-of-{}", things.name);
        let env = EnvName::parse(OWN_KEY).unwrap();
        let brought = Binding {
            env: env.clone(),
            to: Bound::PerUser {
                description: description.clone(),
            },
        };
        let db = &self.world.db;
        let spec = world::spec(&per_user(things), vec![brought]);
        let name = db.deployment_create(owner, None, &spec).await.unwrap();
        let value = NewValue::Typed(SecretString::from("a value to keep"));
        db.connection_put(owner, &name, &env, None, Some(value))
            .await
            .unwrap();
        things.marks.push(description);
    }

    /// The owner's rows; when a token was used last is no change of theirs.
    async fn rows_but_last_use(&self, things: &Things) -> BTreeSet<String> {
        self.world
            .sql("set session_replication_role = replica; update tokens set last_used_at = null")
            .await;
        self.rows_of(things).await
    }
}
