//! Who gets what at every door, against the real server: the table of `doors/table.rs`, walked from the router,
//! so that a new page, server function or route without a row fails.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod common;
#[path = "common/installed.rs"]
mod installed;
#[path = "store_deployments/world.rs"]
#[allow(dead_code)]
mod world;

#[path = "doors/agents.rs"]
mod agents;
#[path = "doors/answers.rs"]
mod answers;
#[path = "doors/api.rs"]
mod api;
#[path = "doors/callers.rs"]
mod callers;
#[path = "doors/floods.rs"]
mod floods;
#[path = "doors/key_backup.rs"]
mod key_backup;
#[path = "doors/misfits.rs"]
mod misfits;
#[path = "doors/people.rs"]
mod people;
#[path = "doors/strangers.rs"]
mod strangers;
#[path = "doors/table.rs"]
mod table;
#[path = "doors/walk.rs"]
mod walk;

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use futures::StreamExt;
use sealport::app::wire::Flash;
use sealport::doors::requests::REQUEST_ID;
use sealport::model::actors::{Actor, Caller, Origin};
use sealport::model::users::Email;
use secrecy::SecretString;
use tower::ServiceExt;
use uuid::Uuid;

use table::Row;
use world::World;

const HOST: &str = "127.0.0.1:3000";
const OURS: &str = "http://127.0.0.1:3000";
const PASSWORD: &str = "correct horse battery";
/// What the page of nothing and every "not found" says.
const NOT_YOURS: &str = "not yours to see";

/// An installation with its real doors, and nothing that runs in the background.
struct Installation {
    world: World,
    router: axum::Router,
    _place: tempfile::TempDir,
}

/// A browser, by its session's cookie; nobody has none.
#[derive(Clone, Default)]
struct Browser {
    cookie: String,
}

/// What the owner made for one row, each named like nothing else.
struct Things {
    /// Whose they are: a person, or the team itself.
    owner_id: Uuid,
    handle: String,
    team: String,
    team_id: Uuid,
    prefix: String,
    /// Given to somebody else on the secret.
    grant: Uuid,
    path: String,
    secret: Uuid,
    free: Uuid,
    draft: Uuid,
    /// One that waits.
    import: Uuid,
    name: String,
    /// A deployment whose callers bring a key of their own, where the table's rows made one.
    own: String,
    token_id: Uuid,
    token: String,
    /// Words that tell of these things wherever they appear.
    marks: Vec<String>,
}

struct Answer {
    status: StatusCode,
    location: String,
    request_id: String,
    text: String,
}

impl Installation {
    async fn new() -> Installation {
        Installation::at(OURS).await
    }

    /// Reached by people at this address.
    async fn at(public_url: &str) -> Installation {
        let world = World::new().await;
        let place = tempfile::tempdir().unwrap();
        let deployer = installed::deployer(&world.db, place.path(), |sandbox, _| {
            sandbox.private_networks = vec!["10.1.2.0/24".parse().unwrap()];
            sandbox.tools_path = Default::default();
        })
        .await;
        let router = installed::doors(&world.db, deployer, public_url, 0);
        Installation {
            world,
            router,
            _place: place,
        }
    }

    async fn person(&self, name: &str) -> Caller {
        let email = Email::parse(&format!("{name}@example.org")).unwrap();
        let password = SecretString::from(PASSWORD);
        let user = self.world.db.user_add(&email, &password, false).await;
        Caller {
            actor: Actor::User(user.unwrap()),
            origin: Origin::default(),
        }
    }

    async fn signed_in(&self, caller: &Caller) -> Browser {
        let mut browser = Browser::default();
        let form = format!("email={}&password={PASSWORD}", caller.user().unwrap().email);
        let answer = self
            .send(&mut browser, "POST", "/sign-in", &form, &[])
            .await;
        assert_eq!(answer.location, "/secrets", "signing in");
        browser
    }

    /// One request as a browser sends it from our own pages, unless `headers` say otherwise.
    async fn send(
        &self,
        browser: &mut Browser,
        method: &str,
        path: &str,
        form: &str,
        headers: &[(&str, &str)],
    ) -> Answer {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, HOST)
            .header(header::COOKIE, &browser.cookie)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        if headers.is_empty() {
            request = request.header(header::ORIGIN, OURS);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(form.to_owned())).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        for cookie in response.headers().get_all(header::SET_COOKIE) {
            let cookie = cookie.to_str().unwrap().split(';').next().unwrap();
            if cookie.starts_with("sealport=") {
                browser.cookie = cookie.to_owned();
            }
        }
        let of = |name| match response.headers().get(name) {
            Some(value) => value.to_str().unwrap().to_owned(),
            None => String::new(),
        };
        let (status, location) = (response.status(), of(header::LOCATION));
        let request_id = of(REQUEST_ID);
        let endless = of(header::CONTENT_TYPE).starts_with("text/event-stream");
        let mut text = String::new();
        let mut body = response.into_body().into_data_stream();
        while let Some(piece) = body.next().await {
            text.push_str(&String::from_utf8_lossy(&piece.unwrap()));
            if endless {
                break;
            }
        }
        Answer {
            status,
            location,
            request_id,
            text,
        }
    }

    /// Every row with the id of the owner or of one of these things: names alone are anybody's to use.
    async fn rows_of(&self, things: &Things) -> BTreeSet<String> {
        let mut ids = vec![things.owner_id, things.team_id, things.grant];
        ids.extend([
            things.secret,
            things.free,
            things.draft,
            things.import,
            things.token_id,
        ]);
        let ids: Vec<String> = ids.iter().map(Uuid::to_string).collect();
        let tables = walk::TABLES_OF_AN_OWNER.map(|table| {
            format!(
                "select '{table} ' || t::text as row from {table} t where t::text ~ '{}'",
                ids.join("|")
            )
        });
        let sql = format!(
            "select string_agg(row, E'\\n') from ({}) all_rows",
            tables.join(" union all ")
        );
        let rows = self.world.text(&sql).await.unwrap_or_default();
        rows.lines().map(str::to_owned).collect()
    }

    /// Sends a row's call and says in a letter what came of it; `done` where it was carried out.
    async fn outcome(
        &self,
        browser: &mut Browser,
        row: &Row,
        things: &Things,
        guess: Option<&Things>,
        headers: &[(&str, &str)],
    ) -> (&'static str, Answer) {
        let named = guess.unwrap_or(things);
        let (path, form) = (named.fill_route(row.route), named.fill(row.form));
        let method = row.method.replace("ANY", "POST");
        let answer = self.send(browser, &method, &path, &form, headers).await;
        let sent = format!("{path} {form}");
        let said = format!("{} {}", answer.text, answer.location);
        let tells = things
            .marks
            .iter()
            .any(|mark| !sent.contains(mark) && said.contains(mark));
        let mut flash = Flash::default();
        if answer.status.is_success() || answer.status.is_redirection() {
            let taken = self.send(browser, "POST", "/_fn/flash_take", "", &[]).await;
            flash = serde_json::from_str(&taken.text).unwrap_or_default();
        }
        let errors: Vec<&String> = flash.errors.values().collect();
        let word = if tells || answer.text.starts_with("event: state") {
            "s"
        } else if answer.status == 401 || answer.location.starts_with("/sign-in?next=") {
            "i"
        } else if answer.status == 404 || errors.iter().any(|why| why.contains(NOT_YOURS)) {
            "n"
        } else if !errors.is_empty() || answer.status.is_client_error() {
            "r"
        } else if answer.status.is_server_error() {
            "broken"
        } else if answer.location == "?again" {
            "r"
        } else if flash.notice.is_some() || !answer.location.is_empty() {
            "done"
        } else {
            "o"
        };
        (word, answer)
    }
}

impl Things {
    /// What somebody may guess: of the right form, and nobody's.
    fn guessed() -> Things {
        Things {
            owner_id: Uuid::now_v7(),
            team: "guessed-team".into(),
            team_id: Uuid::now_v7(),
            prefix: "project/guessed".into(),
            grant: Uuid::now_v7(),
            handle: "somebody".into(),
            path: "GUESSED_KEY".into(),
            secret: Uuid::now_v7(),
            free: Uuid::now_v7(),
            draft: Uuid::now_v7(),
            import: Uuid::now_v7(),
            name: "guessed-server".into(),
            own: "guessed-own".into(),
            token_id: Uuid::now_v7(),
            token: String::new(),
            marks: Vec::new(),
        }
    }

    /// A route names its parts as it likes.
    fn fill_route(&self, route: &str) -> String {
        let route = route
            .replace("/share/secret/{id}", "/share/secret/{secret}")
            .replace("/move/secret/{id}", "/move/secret/{secret}")
            .replace("/runs/{id}", "/runs/{secret}")
            .replace("/teams/{handle}", "/teams/{team}")
            .replace("/connect/{name}", "/connect/{own}")
            .replace("/grants/{id}", "/grants/{grant}")
            .replace("/tokens/{id}", "/tokens/{token}")
            .replace("/releases/{number}", "/releases/1")
            .replace("/rollback/{*path}", "/rollback/{*path}_FREE")
            .replace("{member}", callers::OTHER);
        self.fill(&route)
    }

    fn fill(&self, text: &str) -> String {
        let fresh = format!("fresh-{}", Uuid::now_v7().simple());
        [
            ("{fresh}", fresh),
            ("{other}", callers::OTHER.into()),
            ("{team}", self.team.clone()),
            ("{*prefix}", self.prefix.clone()),
            ("{prefix}", self.prefix.clone()),
            ("{grant}", self.grant.to_string()),
            ("{handle}", self.handle.clone()),
            ("{*path}", self.path.clone()),
            ("{path}", self.path.clone()),
            ("{secret}", self.secret.to_string()),
            ("{free}", self.free.to_string()),
            ("{id}", self.draft.to_string()),
            ("{import}", self.import.to_string()),
            ("{name}", self.name.clone()),
            ("{own}", self.own.clone()),
            ("{own_key}", callers::OWN_KEY.into()),
            ("{token}", self.token_id.to_string()),
            ("{link}", "guess".into()),
        ]
        .into_iter()
        .fold(text.to_owned(), |text, (word, with)| {
            text.replace(word, &with)
        })
    }
}

impl Installation {
    /// The same call from another site with the owner's cookie, and with the owner's bearer in the cookie's place.
    async fn by_other_doors(&self, row: &Row, things: &Things, owners: &Browser) -> Vec<String> {
        let mut wrong = Vec::new();
        let (path, form) = (things.fill_route(row.route), things.fill(row.form));
        let foreign: [&[(&str, &str)]; 3] = [
            &[("origin", "https://evil.example")],
            &[("sec-fetch-site", "cross-site")],
            &[("origin", OURS), ("sec-fetch-site", "same-site")],
        ];
        for headers in foreign.iter().filter(|_| row.method == "POST") {
            let mut browser = owners.clone();
            let answer = self.send(&mut browser, "POST", &path, &form, headers).await;
            if answer.status != 403 {
                wrong.push(format!(
                    "{}: {} with {headers:?}",
                    row.name(),
                    answer.status
                ));
            }
        }
        // The gateway is the one door that a bearer opens; it has a test of its own.
        if row.method != "ANY" {
            let bearer = format!("Bearer {}", things.token);
            let headers = [("authorization", bearer.as_str()), ("origin", OURS)];
            let mut nobody = Browser::default();
            let (word, _) = self.outcome(&mut nobody, row, things, None, &headers).await;
            if word != row.of_nobody() {
                wrong.push(format!("{}: {word} by a bearer", row.name()));
            }
        }
        wrong
    }
}

#[tokio::test]
async fn whether_servers_are_confined_is_said_to_strangers_without_an_address() {
    let house = Installation::new().await;
    let mut nobody = Browser::default();
    let answer = house.send(&mut nobody, "GET", "/readyz", "", &[]).await;
    assert_eq!(answer.status, StatusCode::OK);
    let told = [
        "ok: servers are confined",
        "weaker: the servers' network is open",
        "weaker: no servers run here",
    ];
    assert!(
        told.iter()
            .any(|line| answer.text == format!("ready\n{line}\n")),
        "{}",
        answer.text
    );

    let anna = house.person("anna").await;
    let mut browser = house.signed_in(&anna).await;
    let answer = house.send(&mut browser, "GET", "/settings", "", &[]).await;
    assert!(
        answer.text.contains("Landlock"),
        "Settings says more: {}",
        answer.text
    );
}

#[tokio::test]
async fn a_gateway_opens_to_a_token_of_its_own_and_says_the_same_to_all_else() {
    let house = Installation::new().await;
    let (owner, another) = (
        house.person("ownera").await,
        house.person("strangerb").await,
    );
    let (theirs, others) = (
        house.things(&owner, 1).await,
        house.things(&another, 2).await,
    );
    let revoked = house.things(&owner, 3).await;
    let db = &house.world.db;
    db.token_revoke(&owner, revoked.token_id).await.unwrap();
    let cookie = house.signed_in(&owner).await;

    let call = async |name: &str, browser: &Browser, headers: &[(&str, &str)]| {
        let mut browser = browser.clone();
        let path = format!("/s/{name}/mcp");
        let answer = house.send(&mut browser, "POST", &path, "{}", headers).await;
        (answer.status.as_u16(), answer.text)
    };
    let nobody = Browser::default();
    let bearer = |token: &str| format!("Bearer {token}");
    let own = bearer(&theirs.token);
    let (status, text) = call(&theirs.name, &nobody, &[("authorization", &own)]).await;
    // Nothing runs in this test: past the lock, the gateway says that.
    assert_eq!(status, 503, "{text}");
    assert!(text.contains("not running"), "{text}");
    let foreign = [
        ("authorization", own.as_str()),
        ("origin", "https://evil.example"),
    ];
    assert_eq!(call(&theirs.name, &nobody, &foreign).await.0, 403);

    let refused = call("no-such-server", &nobody, &[("accept", "*/*")]).await;
    assert_eq!(refused.0, 401);
    let shown = [
        ("another's", bearer(&others.token), theirs.name.as_str()),
        ("one's own elsewhere", own.clone(), others.name.as_str()),
        ("one's own nowhere", own.clone(), "no-such-server"),
        ("revoked", bearer(&revoked.token), revoked.name.as_str()),
        ("garbage", bearer("sp_garbage"), theirs.name.as_str()),
        (
            "no bearer",
            format!("Basic {}", theirs.token),
            theirs.name.as_str(),
        ),
        ("empty", "Bearer ".into(), theirs.name.as_str()),
    ];
    for (what, authorization, name) in &shown {
        let headers = [("authorization", authorization.as_str())];
        assert_eq!(call(name, &nobody, &headers).await, refused, "{what}");
        println!("{what:22} 401");
    }
    // A token is shown once, to its maker; another's asking neither shows nor burns it.
    let form = format!("name={}&label=once", theirs.name);
    let mut maker = cookie.clone();
    let made = house
        .send(&mut maker, "POST", "/_fn/gateway_token_new", &form, &[])
        .await;
    let (_, shown) = made.location.split_once("shown=").unwrap();
    let form = format!("id={}", shown.split('#').next().unwrap());
    let mut stranger = house.signed_in(&another).await;
    for (browser, sees) in [(&mut stranger, false), (&mut maker, true)] {
        let once = house.send(browser, "POST", "/_fn/token_shown_once", &form, &[]);
        let text = once.await.text;
        assert_eq!(text.contains("sp_"), sees, "{text}");
    }
    // The owner's cookie alone, for a name that is and one that is not.
    for name in [theirs.name.as_str(), "no-such-server"] {
        assert_eq!(call(name, &cookie, &[]).await, refused, "a cookie");
    }
}

#[tokio::test]
async fn a_form_that_carries_too_much_leads_back_and_says_what_to_do() {
    let house = Installation::new().await;
    let ann = house.person("ann").await;
    let mut browser = house.signed_in(&ann).await;
    let draft = house.world.db.draft_create(&ann).await.unwrap();
    let from = |page: &str| format!("{OURS}{page}");
    // Two values of 64 KiB, percent-encoded, are what the secrets step is for.
    let value = "%2B".repeat(64 * 1024);
    let two = format!(
        "id={draft}&add_path[ONE]=ONE&add_value[ONE]={value}&add_path[TWO]=TWO&add_value[TWO]={value}"
    );
    let page = from(&format!("/deploy/{draft}/secrets"));
    let headers = [("origin", OURS), ("referer", page.as_str())];
    let stored = house
        .send(&mut browser, "POST", "/_fn/draft_secrets", &two, &headers)
        .await;
    assert_eq!(stored.location, format!("/deploy/{draft}/target"));
    for path in ["ONE", "TWO"] {
        let path = sealport::model::paths::SecretPath::parse(path).unwrap();
        assert!(
            house
                .world
                .db
                .secret_show(&ann, &world::own(&ann), &path)
                .await
                .is_ok()
        );
    }
    for (to, len, page, back) in [
        ("/_fn/secret_add", 300_000, "/secrets/new", "/secrets/new"),
        ("/_fn/draft_secrets", 1_100_000, "/deploy", "/deploy"),
        ("/settings/password", 300_000, "/settings?x=1", "/settings"),
        (
            "/_fn/secret_add",
            300_000,
            "//elsewhere.example",
            "/secrets",
        ),
    ] {
        let page = from(page);
        let headers = [("origin", OURS), ("referer", page.as_str())];
        let form = format!("path=KEY&value={}", "x".repeat(len));
        let answer = house.send(&mut browser, "POST", to, &form, &headers).await;
        assert_eq!(
            (answer.status, answer.location.as_str()),
            (StatusCode::SEE_OTHER, back),
            "{to}"
        );
        let told = house.send(&mut browser, "GET", "/secrets", "", &[]).await;
        assert!(
            told.text.contains("That was more than one form can carry"),
            "{to}"
        );
    }
    // Nobody's is not read at all.
    let form = "x".repeat(300_000);
    let nobody = house
        .send(
            &mut Browser::default(),
            "POST",
            "/_fn/secret_add",
            &form,
            &[],
        )
        .await;
    assert_eq!(nobody.status, StatusCode::UNAUTHORIZED);
}
