//! The permission table of the dashboard and the gateway: every page, server function and route × the owner, another
//! signed-in user (by real and by guessed ids) and nobody, against the real server. Walked from the router itself, so
//! that a route without a row fails.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use reqwest::{Client, Method, StatusCode, header};

/// Stands in whatever is the owner's: nobody else may ever be told of it.
const MARK: &str = "ADAS_OWN";
const SERVER: &str = "adas-own";
const PATIENCE: Duration = Duration::from_secs(120);

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Owner,
    Other,
    Nobody,
}

/// What a route does for whom.
#[derive(Clone, Copy, Debug)]
enum Rule {
    /// Anybody gets the same.
    Open,
    /// Whoever is signed in sees, or changes, only what is their own.
    SignedIn,
    /// About one thing that has an owner: to another user it is not there, by a real id as by a guessed one.
    Owned,
    /// Opened by a token of its own, never by a cookie.
    Bearer,
}

struct Row {
    route: &'static str,
    rule: Rule,
    method: Method,
    /// The address and the form, with `{secret}`, `{draft}`, `{name}`, `{path}` and `{token}` for what is asked about.
    address: &'static str,
    form: &'static [(&'static str, &'static str)],
}

const fn get(route: &'static str, rule: Rule, address: &'static str) -> Row {
    Row {
        route,
        rule,
        method: Method::GET,
        address,
        form: &[],
    }
}

const fn post(
    route: &'static str,
    rule: Rule,
    address: &'static str,
    form: &'static [(&'static str, &'static str)],
) -> Row {
    Row {
        route,
        rule,
        method: Method::POST,
        address,
        form,
    }
}

use Rule::{Bearer, Open, Owned, SignedIn};

/// What destroys stands last: the owner's turn at it is the end of what the rows above ask about.
const TABLE: &[Row] = &[
    // Pages
    get("/", SignedIn, "/"),
    get("/sign-in", Open, "/sign-in"),
    get("/welcome/{link}", Open, "/welcome/guessed"),
    get("/secrets", SignedIn, "/secrets"),
    get("/secrets/new", SignedIn, "/secrets/new"),
    get("/secrets/{handle}/{*path}", Owned, "/secrets/ada/{path}"),
    get("/activity", SignedIn, "/activity"),
    get("/tokens", SignedIn, "/tokens"),
    get("/people", SignedIn, "/people"),
    get("/settings", SignedIn, "/settings"),
    get("/deployments", SignedIn, "/deployments"),
    get("/deployments/{name}", Owned, "/deployments/{name}"),
    get("/deploy", SignedIn, "/deploy"),
    get("/deploy/{id}/source", Owned, "/deploy/{draft}/source"),
    get("/deploy/{id}/secrets", Owned, "/deploy/{draft}/secrets"),
    get("/deploy/{id}/target", Owned, "/deploy/{draft}/target"),
    get("/deploy/{id}/review", Owned, "/deploy/{draft}/review"),
    // What the doors answer themselves
    get("/healthz", Open, "/healthz"),
    get("/readyz", Open, "/readyz"),
    get(
        "/deployments/{name}/events",
        Owned,
        "/deployments/{name}/events",
    ),
    post("/s/{name}/mcp", Bearer, "/s/{name}/mcp", &[]),
    // Server functions that read
    post("/_fn/flash_take", SignedIn, "/_fn/flash_take", &[]),
    post("/_fn/page_open", SignedIn, "/_fn/page_open", &[]),
    post("/_fn/confinement", SignedIn, "/_fn/confinement", &[]),
    post("/_fn/secrets_list", SignedIn, "/_fn/secrets_list", &[]),
    post("/_fn/activity_list", SignedIn, "/_fn/activity_list", &[]),
    post("/_fn/tokens_list", SignedIn, "/_fn/tokens_list", &[]),
    post("/_fn/deployments", SignedIn, "/_fn/deployments", &[]),
    post("/_fn/drafts", SignedIn, "/_fn/drafts", &[]),
    post(
        "/_fn/secret_open",
        Owned,
        "/_fn/secret_open",
        &[("handle", "ada"), ("path", "{path}")],
    ),
    post(
        "/_fn/deployment",
        Owned,
        "/_fn/deployment",
        &[("name", "{name}")],
    ),
    post(
        "/_fn/draft_load",
        Owned,
        "/_fn/draft_load",
        &[("id", "{draft}")],
    ),
    post(
        "/_fn/token_shown_once",
        Owned,
        "/_fn/token_shown_once",
        &[("id", "{shown}")],
    ),
    // Server functions that change something
    post(
        "/_fn/preferences_set",
        SignedIn,
        "/_fn/preferences_set",
        &[("theme", "dark"), ("keys", "true")],
    ),
    post("/_fn/draft_new", SignedIn, "/_fn/draft_new", &[]),
    post(
        "/_fn/secret_add",
        SignedIn,
        "/_fn/secret_add",
        &[("path", "ANOTHER"), ("value", "a value of some length")],
    ),
    post(
        "/_fn/secret_compare",
        Owned,
        "/_fn/secret_compare",
        &[("id", "{secret}"), ("path", "{path}"), ("value", "guess")],
    ),
    post(
        "/_fn/secret_replace",
        Owned,
        "/_fn/secret_replace",
        &[
            ("id", "{secret}"),
            ("path", "{path}"),
            ("expected", "1"),
            ("value", "a newer value of some length"),
        ],
    ),
    post(
        "/_fn/secret_switch",
        Owned,
        "/_fn/secret_switch",
        &[("id", "{secret}"), ("path", "{path}"), ("on", "true")],
    ),
    post(
        "/_fn/secret_edit",
        Owned,
        "/_fn/secret_edit",
        &[
            ("id", "{secret}"),
            ("path", "{path}"),
            ("rename", "{path}"),
            ("kind", "custom"),
            ("description", "edited"),
        ],
    ),
    post(
        "/_fn/draft_source",
        Owned,
        "/_fn/draft_source",
        &[
            ("id", "{draft}"),
            ("source_kind", "npm"),
            ("source", "changed"),
        ],
    ),
    post(
        "/_fn/draft_secrets",
        Owned,
        "/_fn/draft_secrets",
        &[
            ("id", "{draft}"),
            ("ticked[{secret}]", "on"),
            ("env[{secret}]", "CHANGED"),
        ],
    ),
    post(
        "/_fn/draft_add_secret",
        Owned,
        "/_fn/draft_add_secret",
        &[
            ("id", "{draft}"),
            ("env", "ON_THE_SPOT"),
            ("path", "ON_THE_SPOT"),
            ("value", "a value of some length"),
        ],
    ),
    post(
        "/_fn/draft_target",
        Owned,
        "/_fn/draft_target",
        &[("id", "{draft}"), ("target", "local"), ("name", "changed")],
    ),
    post(
        "/_fn/draft_deploy",
        Owned,
        "/_fn/draft_deploy",
        &[("id", "{draft}")],
    ),
    post(
        "/_fn/gateway_token_new",
        Owned,
        "/_fn/gateway_token_new",
        &[("name", "{name}"), ("label", "another")],
    ),
    post(
        "/_fn/token_revoke",
        Owned,
        "/_fn/token_revoke",
        &[("id", "{token}")],
    ),
    post(
        "/_fn/deployment_act",
        Owned,
        "/_fn/deployment_act",
        &[("name", "{name}"), ("act", "stop")],
    ),
    post(
        "/_fn/draft_delete",
        Owned,
        "/_fn/draft_delete",
        &[("id", "{draft}")],
    ),
    post(
        "/_fn/deployment_destroy",
        Owned,
        "/_fn/deployment_destroy",
        &[("name", "{name}"), ("typed", "{name}")],
    ),
    post(
        "/_fn/secret_delete",
        Owned,
        "/_fn/secret_delete",
        &[
            ("id", "{secret}"),
            ("path", "{path}"),
            ("confirm", "{path}"),
        ],
    ),
    // Accounts and sessions
    post(
        "/sign-in",
        Open,
        "/sign-in",
        &[("email", "nobody@example.org"), ("password", "guessed")],
    ),
    post(
        "/welcome",
        Open,
        "/welcome",
        &[
            ("link", "guessed"),
            ("email", "eve@example.org"),
            ("password", "a long enough passphrase"),
        ],
    ),
    post(
        "/settings/password",
        SignedIn,
        "/settings/password",
        &[("current", "guessed"), ("new", "a long enough passphrase")],
    ),
    post("/sign-out", SignedIn, "/sign-out", &[]),
];

#[test]
fn every_route_has_its_row() {
    let mut routes: BTreeSet<String> = leptos_axum::generate_route_list(sealport::app::App)
        .iter()
        .map(|route| route.path().to_owned())
        .collect();
    let pages = routes.len();
    assert!(pages > 10, "the router was not read: {routes:?}");
    routes.extend(server_fn::axum::server_fn_paths().map(|(path, _)| path.to_owned()));
    assert!(
        routes.len() > pages + 10,
        "no server functions were found: {routes:?}"
    );
    let before = routes.len();
    doors_routes(
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("src/doors")
            .as_path(),
        &mut routes,
    );
    assert!(routes.len() > before, "the doors' routes were not read");

    let rows: BTreeSet<String> = TABLE.iter().map(|row| row.route.to_owned()).collect();
    let bare: Vec<_> = routes.difference(&rows).collect();
    let stale: Vec<_> = rows.difference(&routes).collect();
    assert!(
        bare.is_empty(),
        "without a row in the permission table: {bare:?}"
    );
    assert!(stale.is_empty(), "rows of routes that are gone: {stale:?}");
}

/// What the doors route by hand, read from their source: axum does not tell.
fn doors_routes(dir: &Path, routes: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            doors_routes(&path, routes);
        } else {
            let text = std::fs::read_to_string(&path).unwrap();
            for rest in text.split(".route(").skip(1) {
                let literal = rest.trim_start().strip_prefix('"').unwrap_or_else(|| {
                    panic!("{}: write a route's address as a literal", path.display())
                });
                routes.insert(literal.split('"').next().unwrap().to_owned());
            }
        }
    }
}

#[tokio::test]
async fn each_sees_and_changes_only_what_is_theirs() {
    let world = World::new().await;
    let untouched = world.owners_view().await;
    assert!(
        untouched.contains(MARK),
        "the owner sees their own: {untouched}"
    );
    let mut wrong = Vec::new();

    for row in TABLE {
        for who in [Who::Nobody, Who::Other] {
            if who == Who::Other && row.route == "/sign-out" {
                continue; // It would be nobody for the rows that follow.
            }
            let real = world.ask(row, who, &world.real).await;
            if let Some(why) = not_as_ruled(row, who, &real) {
                wrong.push(format!(
                    "{} {} by {who:?}: {why}: {real:?}",
                    row.method, row.route
                ));
            }
            if matches!(row.rule, Owned | Bearer) {
                let guessed = world.ask(row, who, &world.guessed).await;
                if real.without(&world.real) != guessed.without(&world.guessed) {
                    wrong.push(format!(
                        "{} {} by {who:?}: a real id is told from a guessed one: {real:?} and {guessed:?}",
                        row.method, row.route
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(
        world.owners_view().await,
        untouched,
        "what another did shows at the owner's"
    );

    for row in TABLE {
        let answer = world.ask(row, Who::Owner, &world.real).await;
        if let Some(why) = not_as_ruled(row, Who::Owner, &answer) {
            wrong.push(format!(
                "{} {} by the owner: {why}: {answer:?}",
                row.method, row.route
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn cookies_and_bearers_never_mix() {
    let world = World::new().await;
    let gateway = format!("{}/s/{SERVER}/mcp", world.url);
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    let call = |client: &Client| {
        client
            .post(&gateway)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json, text/event-stream")
            .body(body)
    };
    let with_cookie = call(&world.client).header(header::COOKIE, world.cookie(Who::Owner));
    assert_eq!(
        with_cookie.send().await.unwrap().status(),
        StatusCode::UNAUTHORIZED
    );
    let token = world.gateway_token.as_str();
    let with_token = call(&world.client).bearer_auth(token).send().await.unwrap();
    assert_ne!(with_token.status(), StatusCode::UNAUTHORIZED);
    for path in ["/secrets", "/_fn/secrets_list"] {
        let answer = world
            .client
            .post(format!("{}{path}", world.url))
            .bearer_auth(token)
            .header(header::ORIGIN, &world.url)
            .send()
            .await
            .unwrap();
        assert_ne!(answer.status(), StatusCode::OK, "{path}");
        assert!(!answer.text().await.unwrap().contains(MARK), "{path}");
    }
}

/// Why an answer breaks the row's rule, if it does.
fn not_as_ruled(row: &Row, who: Who, answer: &Answer) -> Option<String> {
    let told = answer.body.contains(MARK) || answer.body.contains(SERVER);
    let refused = |status: u16| {
        (answer.status != status).then(|| format!("{} instead of {status}", answer.status))
    };
    if who != Who::Owner && told && !asked_with_it(row) {
        return Some("it tells of what is the owner's".into());
    }
    match (row.rule, who) {
        (Open, _) => (answer.status >= 500).then(|| "it fails".into()),
        (Bearer, _) => refused(401),
        (SignedIn | Owned, Who::Nobody) if row.method == Method::GET => {
            let sign_in = answer.location.starts_with("/sign-in?next=");
            (answer.status != 303 || !sign_in).then(|| "nobody was not sent to sign in".into())
        }
        (SignedIn | Owned, Who::Nobody) => refused(401),
        (SignedIn, _) => (answer.status >= 400).then(|| "it fails".into()),
        (Owned, Who::Other) if row.method == Method::GET => refused(404),
        // A form's refusal is told by the page that it leads to; what it may not do is succeed, which the owner's
        // view shows.
        (Owned, Who::Other) => (answer.status > 500).then(|| "it breaks".into()),
        (Owned, Who::Owner) => (answer.status >= 400).then(|| "the owner is refused".into()),
    }
}

/// The caller named it, so that its name in the answer tells nothing.
fn asked_with_it(row: &Row) -> bool {
    let names = |text: &str| text.contains("{path}") || text.contains("{name}");
    names(row.address) || row.form.iter().any(|(_, text)| names(text))
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Answer {
    status: u16,
    location: String,
    body: String,
}

impl Answer {
    /// Without what differs from one request to the next, and without the ids that were asked with.
    fn without(&self, ids: &BTreeMap<&'static str, String>) -> Answer {
        let cut = |text: &str| {
            let mut text = text.to_owned();
            for id in ids.values() {
                text = text.replace(id, "…");
            }
            text
        };
        Answer {
            status: self.status,
            location: cut(&self.location),
            body: cut(&visible(&self.body)),
        }
    }
}

/// What a person reads of a page: neither its nonces nor its request id.
fn visible(body: &str) -> String {
    let mut text = String::new();
    let mut rest = body;
    while let Some((before, after)) = rest.split_once('<') {
        text.push_str(before);
        text.push(' ');
        rest = match after.strip_prefix("script").or(after.strip_prefix("style")) {
            Some(inside) => inside.split_once("</").map_or("", |(_, after)| after),
            None => after,
        };
        rest = rest.split_once('>').map_or("", |(_, after)| after);
    }
    text.push_str(rest);
    text.split_whitespace()
        .filter(|word| uuid::Uuid::parse_str(word).is_err())
        .collect::<Vec<_>>()
        .join(" ")
}

struct World {
    // Before its directory: fields are dropped in this order.
    _server: Server,
    _dir: tempfile::TempDir,
    client: Client,
    url: String,
    cookies: BTreeMap<&'static str, String>,
    real: BTreeMap<&'static str, String>,
    guessed: BTreeMap<&'static str, String>,
    gateway_token: String,
}

impl World {
    /// A server with an owner who has one of everything, and another user who has nothing.
    async fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        // PostgreSQL and guests are other users: they must be able to pass through.
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
        let sources = dir.path().join("sources/echo");
        std::fs::create_dir_all(&sources).unwrap();
        std::fs::write(
            sources.join("package.json"),
            r#"{"name":"echo","version":"1.0.0","bin":"index.mjs"}"#,
        )
        .unwrap();
        std::fs::write(sources.join("index.mjs"), "process.stdin.resume();").unwrap();

        let data = dir.path().join("data");
        let mut server = Server(
            Command::new(env!("CARGO_BIN_EXE_sealport"))
                .current_dir(env!("CARGO_MANIFEST_DIR"))
                .args(["serve", "--addr", "127.0.0.1:0", "--data"])
                .arg(&data)
                .env("SEALPORT_DIR_ROOTS", dir.path().join("sources"))
                .env_remove("DATABASE_URL")
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap(),
        );
        let mut url = String::new();
        let mut link = String::new();
        let said = BufReader::new(server.0.stdout.take().unwrap());
        let mut lines = said.lines();
        while link.is_empty() {
            let line = lines.next().expect("the server ended").unwrap();
            if let Some(at) = line.strip_prefix("Sealport is at ") {
                url = at.trim_end_matches('/').to_owned();
            }
            if let Some((_, rest)) = line.split_once("/welcome/") {
                link = rest.trim().to_owned();
            }
        }
        // What it says from here on is read, so that it never waits for us.
        std::thread::spawn(move || lines.for_each(drop));

        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .unwrap();
        let mut world = World {
            _server: server,
            _dir: dir,
            client,
            url,
            cookies: BTreeMap::new(),
            real: BTreeMap::new(),
            guessed: BTreeMap::new(),
            gateway_token: String::new(),
        };
        let welcome = [
            ("link", link.as_str()),
            ("email", "ada@example.org"),
            ("password", "a long enough passphrase"),
        ];
        let owner = world.session("/welcome", &welcome).await;
        world.cookies.insert("owner", owner);
        let mut bob = Command::new(env!("CARGO_BIN_EXE_sealport"))
            .args([
                "user",
                "add",
                "bob@example.org",
                "--password-stdin",
                "--data",
            ])
            .arg(&data)
            .env_remove("DATABASE_URL")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        bob.stdin
            .take()
            .unwrap()
            .write_all(b"bob has a passphrase too\n")
            .unwrap();
        assert!(bob.wait().unwrap().success());
        let sign_in = [
            ("email", "bob@example.org"),
            ("password", "bob has a passphrase too"),
        ];
        let other = world.session("/sign-in", &sign_in).await;
        world.cookies.insert("other", other);
        world.furnish(&sources).await;
        world
    }

    /// Gives the owner a secret, a deployment with a token, and a draft.
    async fn furnish(&mut self, sources: &Path) {
        let add = [
            ("path", MARK),
            ("value", "a value of some length"),
            ("kind", "custom"),
        ];
        self.do_as_owner("/_fn/secret_add", &add).await;
        let page = self.page(&format!("/secrets/ada/{MARK}")).await;
        let secret = between(&page, "name=\"id\" value=\"", "\"");

        let source = sources.to_str().unwrap();
        let draft = self.draft(source).await;
        let target = [
            ("id", draft.as_str()),
            ("target", "local"),
            ("name", SERVER),
        ];
        let ticked = format!("ticked[{secret}]");
        let env = format!("env[{secret}]");
        let bind = [
            ("id", draft.as_str()),
            (ticked.as_str(), "on"),
            (env.as_str(), MARK),
        ];
        self.do_as_owner("/_fn/draft_secrets", &bind).await;
        self.do_as_owner("/_fn/draft_target", &target).await;
        let to = self
            .do_as_owner("/_fn/draft_deploy", &[("id", &draft)])
            .await;
        assert_eq!(to, format!("/deployments/{SERVER}"));
        // The server never answers the handshake; that ends, so that the owner's view keeps still.
        self.do_as_owner("/_fn/deployment_act", &[("name", SERVER), ("act", "stop")])
            .await;
        self.wait_for(&format!("/deployments/{SERVER}"), "Stopped")
            .await;

        let token = [("name", SERVER), ("label", MARK)];
        let to = self.do_as_owner("/_fn/gateway_token_new", &token).await;
        let page = self.page(to.split('#').next().unwrap()).await;
        self.gateway_token = format!("sp_{}", between(&page, "sp_", "<").trim());
        let tokens = self.page("/tokens").await;
        let token = between(&tokens, "name=\"id\" value=\"", "\"");
        // One that waits to be shown.
        let to = self
            .do_as_owner(
                "/_fn/gateway_token_new",
                &[("name", SERVER), ("label", MARK)],
            )
            .await;
        let shown = between(&to, "shown=", "#");
        let draft = self.draft(source).await;

        self.real = BTreeMap::from([
            ("{secret}", secret),
            ("{draft}", draft),
            ("{token}", token),
            ("{shown}", shown),
            ("{path}", MARK.to_owned()),
            ("{name}", SERVER.to_owned()),
        ]);
        self.guessed = BTreeMap::from([
            ("{secret}", uuid::Uuid::now_v7().to_string()),
            ("{draft}", uuid::Uuid::now_v7().to_string()),
            ("{token}", uuid::Uuid::now_v7().to_string()),
            ("{shown}", uuid::Uuid::new_v4().to_string()),
            ("{path}", "NOBODYS_OWN".to_owned()),
            ("{name}", "nobodys-own".to_owned()),
        ]);
    }

    /// A draft whose source was looked at.
    async fn draft(&self, source: &str) -> String {
        let to = self.do_as_owner("/_fn/draft_new", &[]).await;
        let draft = between(&to, "/deploy/", "/");
        let form = [
            ("id", draft.as_str()),
            ("source_kind", "dir"),
            ("source", source),
        ];
        self.do_as_owner("/_fn/draft_source", &form).await;
        self.wait_for(&format!("/deploy/{draft}/source"), "Go on to secrets")
            .await;
        draft
    }

    /// What the owner's own pages say, but for times and what is different each time.
    async fn owners_view(&self) -> String {
        let mut view = String::new();
        let draft = &self.real["{draft}"];
        for path in [
            "/secrets".to_owned(),
            format!("/secrets/ada/{MARK}"),
            "/deployments".to_owned(),
            format!("/deployments/{SERVER}"),
            "/tokens".to_owned(),
            "/deploy".to_owned(),
            format!("/deploy/{draft}/source"),
            format!("/deploy/{draft}/secrets"),
            format!("/deploy/{draft}/target"),
        ] {
            let page = visible(&self.page(&path).await);
            let still: Vec<&str> = page
                .split_whitespace()
                .filter(|word| !word.contains(|c: char| c.is_ascii_digit()))
                .collect();
            // "3 seconds ago" becomes "a minute ago" while the table is walked.
            let still = still
                .join(" ")
                .replace("just now", "")
                .replace("minutes", "")
                .replace("minute", "")
                .replace("seconds", "");
            view.push_str(&format!("{path}: {still}\n"));
        }
        view
    }

    async fn ask(&self, row: &Row, who: Who, ids: &BTreeMap<&'static str, String>) -> Answer {
        let fill = |text: &str| {
            ids.iter()
                .fold(text.to_owned(), |text, (name, id)| text.replace(name, id))
        };
        let mut request = self
            .client
            .request(
                row.method.clone(),
                format!("{}{}", self.url, fill(row.address)),
            )
            .header(header::ACCEPT, "text/html")
            .timeout(PATIENCE);
        if row.method == Method::POST {
            let form = row.form.iter().map(|(name, text)| (fill(name), fill(text)));
            let body: String = url::form_urlencoded::Serializer::new(String::new())
                .extend_pairs(form)
                .finish();
            request = request
                .header(header::ORIGIN, &self.url)
                .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(body);
        }
        if who != Who::Nobody {
            request = request.header(header::COOKIE, self.cookie(who));
        }
        let answer = request.send().await.unwrap();
        let is_stream = answer
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
        Answer {
            status: answer.status().as_u16(),
            location: text(answer.headers(), header::LOCATION),
            body: if is_stream {
                String::new()
            } else {
                answer.text().await.unwrap()
            },
        }
    }

    fn cookie(&self, who: Who) -> &str {
        &self.cookies[if who == Who::Owner { "owner" } else { "other" }]
    }

    /// Sends a form and returns the session's cookie.
    async fn session(&self, to: &str, form: &[(&str, &str)]) -> String {
        let answer = self.send(to, form, "").await;
        let cookie = text(answer.headers(), header::SET_COOKIE);
        assert_eq!(text(answer.headers(), header::LOCATION), "/secrets", "{to}");
        cookie.split(';').next().unwrap().to_owned()
    }

    /// Sends a form of a page and returns where it leads.
    async fn do_as_owner(&self, to: &str, form: &[(&str, &str)]) -> String {
        let answer = self.send(to, form, &self.cookies["owner"]).await;
        let status = answer.status();
        let location = text(answer.headers(), header::LOCATION);
        assert_eq!(
            status,
            StatusCode::FOUND,
            "{to}: {}",
            answer.text().await.unwrap()
        );
        location
    }

    async fn send(&self, to: &str, form: &[(&str, &str)], cookie: &str) -> reqwest::Response {
        let body: String = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(form)
            .finish();
        self.client
            .post(format!("{}{to}", self.url))
            .header(header::ORIGIN, &self.url)
            .header(header::ACCEPT, "text/html")
            .header(header::COOKIE, cookie)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(body)
            .send()
            .await
            .unwrap()
    }

    async fn page(&self, path: &str) -> String {
        let request = self.client.get(format!("{}{path}", self.url));
        let answer = request
            .header(header::COOKIE, self.cookie(Who::Owner))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        answer.text().await.unwrap()
    }

    async fn wait_for(&self, path: &str, words: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let page = self.page(path).await;
            if page.contains(words) {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{path} never says {words}: {}",
                visible(&page)
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// Ends with the test, however that ends.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.0);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.0.wait();
    }
}

fn text(headers: &header::HeaderMap, name: header::HeaderName) -> String {
    headers
        .get(name)
        .map(|value| value.to_str().unwrap().to_owned())
        .unwrap_or_default()
}

fn between(text: &str, before: &str, after: &str) -> String {
    let rest = text
        .split_once(before)
        .unwrap_or_else(|| panic!("no {before} in {text}"))
        .1;
    rest.split(after).next().unwrap().to_owned()
}
