//! The tools for secrets: what each kind of token gets of each.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use sealport::model::levels::Level;
use serde_json::{Value, json};

use crate::house::{CANARY, House};

const PATH: &str = "project/shop/STRIPE_KEY";

/// What a tool answers each kind of token, as `reason`, in capitals where it counts as an error; `ok` for a result without one, and
/// `token` for a plan that the token itself stands in the way of.
const TABLE: &str = "
                                  admin  write   read    use      deploys  prefix   elsewhere
get_secret        STRIPE_KEY    | ok     ok      ok      use_only use_only ok       missing
get_secret        A_BARE_NAME   | ok     ok      ok      use_only use_only missing  missing
get_secret        NOT_THERE     | missing missing missing missing missing  missing  missing
get_secret        EXPIRED       | expired expired expired expired expired  missing  missing
get_secret        OFF           | off    off     off     off      off      missing  missing
set_secret        STRIPE_KEY    | ok     ok      REFUSED REFUSED  REFUSED  REFUSED  REFUSED
set_secret        NEW_NAME      | ok     ok      REFUSED REFUSED  REFUSED  REFUSED  REFUSED
list_secrets      -             | ok     ok      ok      ok       ok       ok       ok
delete_secret     STRIPE_KEY    | ok     REFUSED REFUSED REFUSED  REFUSED  REFUSED  MISSING
delete_secret     NOT_THERE     | MISSING MISSING MISSING MISSING MISSING  MISSING  MISSING
list_deployments  -             | ok     ok      ok      ok       ok       ok       ok
deploy            -             | token  token   token   token    refused  token    token
deployment_status -             | ok     ok      ok      ok       ok       ok       MISSING
deployment_logs   -             | ok     ok      ok      MISSING  ok       ok       MISSING
";

#[tokio::test]
async fn each_token_gets_of_each_tool_what_its_rights_are() {
    let mut wrong = Vec::new();
    for row in TABLE.trim_matches('\n').lines().skip(1) {
        let (what, expected) = row.split_once('|').unwrap();
        let what: Vec<&str> = what.split_whitespace().collect();
        let house = House::new().await;
        house.secret(PATH, CANARY).await;
        house.secret("A_BARE_NAME", CANARY).await;
        let expired = house.secret("EXPIRED", CANARY).await;
        house.expire(expired).await;
        let off = house.secret("OFF", CANARY).await;
        house.switch(off, false).await;
        house.world.deployment(&house.ada, "shop", Vec::new()).await;
        house
            .world
            .sql("set session_replication_role = replica; update deployments set folder = 'project/shop'")
            .await;
        let tokens = [
            house.token(Level::Admin, None, false).await.1,
            house.token(Level::Write, None, false).await.1,
            house.token(Level::Read, None, false).await.1,
            house.token(Level::Use, None, false).await.1,
            house.token(Level::Use, None, true).await.1,
            house
                .token(Level::Read, Some("project/shop"), false)
                .await
                .1,
            house
                .token(Level::Admin, Some("project/other"), false)
                .await
                .1,
        ];
        let path = match what[1] {
            "STRIPE_KEY" => PATH,
            other => other,
        };
        let arguments = match what[0] {
            "get_secret" | "delete_secret" => json!({"keyPath": path}),
            "set_secret" => json!({"keyPath": path, "value": CANARY}),
            "deploy" => {
                json!({"name": "new-one", "source": "npm:left-pad", "options": {"transport": "none"}, "dryRun": true})
            }
            "deployment_status" | "deployment_logs" => json!({"name": "shop"}),
            _ => json!({}),
        };
        // The strongest last: it deletes.
        for (place, token) in tokens.iter().enumerate().rev() {
            let called = house.call(token, what[0], arguments.clone()).await;
            let got = match (called.reason(), called.failed) {
                ("-", false) => "ok".to_owned(),
                _ if in_the_way(&called.structured, "token") => "token".to_owned(),
                (reason, true) => reason.to_uppercase(),
                (reason, false) => reason.to_owned(),
            };
            let expected = expected.split_whitespace().nth(place).unwrap();
            if got != expected {
                wrong.push(format!(
                    "{what:?} column {place}: {got}, not {expected}: {}",
                    called.text
                ));
            }
            let shown = called.text.contains(CANARY);
            let may = what[0] == "get_secret" && got == "ok";
            if shown != may {
                wrong.push(format!(
                    "{what:?} column {place}: the value {}",
                    called.text
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn in_the_way(plan: &Value, field: &str) -> bool {
    let refused = plan["refused"].as_array();
    refused.is_some_and(|refused| refused.iter().any(|lack| lack["field"] == field))
}

#[tokio::test]
async fn with_use_a_secret_is_described_and_can_be_bound() {
    let house = House::new().await;
    house.secret(PATH, CANARY).await;
    let (_, token) = house.token(Level::Use, None, false).await;
    let got = house
        .call(&token, "get_secret", json!({"keyPath": PATH}))
        .await
        .structured;
    assert_eq!(got["found"], true);
    assert_eq!(got["revealed"], false);
    assert_eq!(got["envName"], "STRIPE_KEY");
    assert_eq!(
        (&got["scope"], &got["status"]),
        (&json!("project"), &json!("active"))
    );
    assert!(
        got["howToBind"]
            .as_str()
            .unwrap()
            .contains(r#""secret": "project/shop/STRIPE_KEY""#)
    );
    assert!(got.get("value").is_none());
    let reads = house.world.record("secret.read").await;
    assert_eq!(
        reads,
        [(
            "token".into(),
            "refused".into(),
            "no right to the value".into()
        )]
    );

    // Of a secret that somebody shared, only use of that one.
    let ben = house.world.user("ben").await;
    house
        .world
        .sql(&format!(
            "insert into grants (id, owner_id, secret_id, grantee_id, level, granted_by, granted_by_name)
             select gen_random_uuid(), owner_id, id, '{}', 1, owner_id, 'ada' from secrets",
            crate::world::id(&ben)
        ))
        .await;
    let spec = sealport::store::api_tokens::ApiTokenSpec {
        owner: Some(crate::world::own(&house.ada)),
        name: "for Ada".into(),
        ceiling: Level::Admin,
        under: None,
        deploys: false,
        expires_at: None,
    };
    let bens = house
        .world
        .db
        .api_token_create(&ben, &spec)
        .await
        .unwrap()
        .token;
    let got = house
        .call(&bens, "get_secret", json!({"keyPath": PATH}))
        .await;
    assert_eq!(got.reason(), "use_only", "{}", got.text);
    let named = house
        .call(
            &bens,
            "get_secret",
            json!({"keyPath": format!("ada:{PATH}")}),
        )
        .await;
    assert_eq!(named.structured["keyPath"], format!("ada:{PATH}"));
    assert_eq!(named.reason(), "use_only");
}

#[tokio::test]
async fn with_read_the_value_is_there_and_on_record() {
    let house = House::new().await;
    let odd = format!("{CANARY}\n\"quoted\" \\ é\u{1f980}\t\u{7f}");
    house.secret(PATH, &odd).await;
    let (id, token) = house.token(Level::Read, None, false).await;
    // In another case it is the same secret.
    let asked = json!({"keyPath": "project/SHOP/stripe_key"});
    let got = house.call(&token, "get_secret", asked).await.structured;
    assert_eq!(got["value"], odd.as_str(), "exactly");
    assert_eq!(
        (&got["keyPath"], &got["version"]),
        (&json!(PATH), &json!(1))
    );
    let reads = house.world.record("secret.read").await;
    assert_eq!(reads, [("token".into(), "done".into(), String::new())]);
    let who = house
        .world
        .text("select actor_id::text from audit where action = 'secret.read'")
        .await;
    assert_eq!(who.unwrap(), id.to_string());
    let whole = "x".repeat(64 * 1024);
    house.secret("LONG", &whole).await;
    let got = house
        .call(&token, "get_secret", json!({"keyPath": "LONG"}))
        .await;
    assert_eq!(got.structured["value"], whole.as_str());
}

#[tokio::test]
async fn an_installation_can_keep_values_from_agents() {
    let house = House::new().await;
    house.secret(PATH, CANARY).await;
    let (_, reads) = house.token(Level::Admin, None, true).await;
    let (_, uses) = house.token(Level::Use, None, false).await;
    let asked = json!({"keyPath": PATH});
    assert!(
        house
            .call(&reads, "get_secret", asked.clone())
            .await
            .text
            .contains(CANARY)
    );
    house.reveal(false).await;
    let got = house.call(&reads, "get_secret", asked.clone()).await;
    assert_eq!(got.reason(), "values_off");
    assert!(!got.failed && !got.text.contains(CANARY));
    assert!(got.structured["howToBind"].is_string());
    assert_eq!(
        house
            .call(&uses, "get_secret", asked.clone())
            .await
            .reason(),
        "use_only"
    );
    assert_eq!(
        house
            .call(&uses, "get_secret", json!({"keyPath": "NONE"}))
            .await
            .reason(),
        "missing"
    );
    let refused = house.world.record("secret.read").await;
    assert_eq!(
        refused[1],
        ("token".into(), "refused".into(), "no values by MCP".into())
    );
    // The other doors of programs are another matter, and no tool changes the switch, an administrator's token neither.
    let rest = house
        .http
        .get(format!("{}/api/v1/values/{PATH}", house.url))
        .bearer_auth(&reads);
    assert_eq!(rest.send().await.unwrap().status(), 200);
    let origin = sealport::model::actors::Origin::default();
    let caller = house
        .world
        .db
        .api_token_open(&reads.clone().into(), &origin)
        .await
        .unwrap();
    assert!(house.world.db.mcp_reveal(&caller, true).await.is_err());
    assert_eq!(
        house
            .call(&reads, "get_secret", asked.clone())
            .await
            .reason(),
        "values_off"
    );
    house.reveal(true).await;
    assert!(
        house
            .call(&reads, "get_secret", asked)
            .await
            .text
            .contains(CANARY)
    );
    let changes = house.world.record("settings.change").await;
    let done = changes
        .iter()
        .filter(|(_, outcome, _)| outcome == "done")
        .count();
    assert_eq!((changes.len(), done), (3, 2));
}

#[tokio::test]
async fn set_makes_replaces_generates_and_describes_and_returns_no_value() {
    let house = House::new().await;
    let (_, token) = house.token(Level::Write, None, false).await;
    let set = async |arguments: Value| {
        let called = house.call(&token, "set_secret", arguments).await;
        assert!(!called.failed, "{}", called.text);
        assert!(!called.text.contains(&CANARY[..8]), "{}", called.text);
        called.structured
    };
    let made = set(json!({"keyPath": PATH, "value": CANARY, "description": "for the shop", "expiresAt": "2099-03-31T12:00:00Z"})).await;
    assert_eq!(
        (&made["created"], &made["version"]),
        (&json!(true), &json!(1))
    );
    assert!(house.is_value(PATH, CANARY).await);
    let again = set(json!({"keyPath": PATH, "value": format!("{CANARY}2")})).await;
    assert_eq!(
        (&again["created"], &again["version"]),
        (&json!(false), &json!(2))
    );
    assert!(house.is_value(PATH, &format!("{CANARY}2")).await);

    for (generate, length) in [
        (json!(true), 43),
        (json!(16), 22),
        (json!({"bytes": 48}), 64),
        (json!({"bytes": 20, "encoding": "hex"}), 40),
    ] {
        let made = set(json!({"keyPath": "MADE", "generate": generate})).await;
        assert_eq!(made["generated"], true);
        let (_, reads) = house.token(Level::Read, None, false).await;
        let got = house
            .call(&reads, "get_secret", json!({"keyPath": "MADE"}))
            .await
            .structured;
        let value = got["value"].as_str().unwrap();
        assert_eq!(value.len(), length, "{generate}");
        assert!(!made.to_string().contains(value));
    }

    let described = set(json!({"keyPath": PATH, "description": "other words"})).await;
    assert_eq!(described["version"], 2, "no new version");
    let (_, uses) = house.token(Level::Use, None, false).await;
    let got = house
        .call(&uses, "get_secret", json!({"keyPath": PATH}))
        .await
        .structured;
    assert_eq!(got["description"], "other words");
    assert_eq!(got["expiresAt"], "2099-03-31T12:00:00Z");

    for (arguments, reason) in [
        (json!({"keyPath": PATH}), "invalid"),
        (
            json!({"keyPath": "NONE", "description": "of nothing"}),
            "missing",
        ),
        (
            json!({"keyPath": PATH, "value": "a", "generate": true}),
            "invalid",
        ),
        (json!({"keyPath": PATH, "generate": 8}), "invalid"),
        (
            json!({"keyPath": PATH, "generate": {"bytes": 8}}),
            "invalid",
        ),
        (json!({"keyPath": "shop/KEY", "value": "a"}), "invalid"),
        (json!({"keyPath": "somebody:KEY", "value": "a"}), "refused"),
    ] {
        let called = house.call(&token, "set_secret", arguments.clone()).await;
        assert!(called.failed, "{arguments}");
        assert_eq!(called.reason(), reason, "{arguments}: {}", called.text);
        assert!(called.structured["detail"].as_str().unwrap().len() > 20);
        if arguments["generate"].is_u64() || arguments["generate"].is_object() {
            assert_eq!(called.structured["argument"], "generate");
        }
    }
    let (_, reads) = house.token(Level::Read, Some("project/shop"), false).await;
    for path in ["project/shop/NEW", "project/other/NEW"] {
        let refused = house
            .call(&reads, "set_secret", json!({"keyPath": path, "value": "a"}))
            .await;
        assert_eq!(refused.reason(), "refused", "{path}");
        assert!(
            refused.structured["detail"]
                .as_str()
                .unwrap()
                .contains("write"),
            "{}",
            refused.text
        );
    }
    let made = house.world.record("secret.create").await;
    assert!(made.iter().all(|(kind, ..)| kind == "token"), "{made:?}");
    let refused = made
        .iter()
        .filter(|(_, outcome, _)| outcome == "refused")
        .count();
    assert_eq!(refused, 3, "all are on record: {made:?}");
}

#[tokio::test]
async fn a_list_is_narrowed_and_says_when_each_was_last_used() {
    let house = House::new().await;
    for path in [
        "BARE",
        "meta/ai/OPENAI_API_KEY",
        PATH,
        "project/other/KEY",
        "service/mail/KEY",
    ] {
        house.secret(path, CANARY).await;
    }
    let (_, token) = house.token(Level::Read, None, false).await;
    let paths = async |arguments: Value| {
        let called = house.call(&token, "list_secrets", arguments).await;
        assert!(
            !called.failed && !called.text.contains(CANARY),
            "{}",
            called.text
        );
        let secrets = called.structured["secrets"].as_array().unwrap().clone();
        assert_eq!(called.structured["more"], false);
        secrets
            .iter()
            .map(|secret| {
                (
                    secret["keyPath"].as_str().unwrap().to_owned(),
                    secret.clone(),
                )
            })
            .collect::<BTreeMap<_, _>>()
    };
    assert_eq!(paths(json!({})).await.len(), 5);
    for (arguments, expected) in [
        (json!({"scope": "bare"}), vec!["BARE"]),
        (json!({"scope": "project"}), vec!["project/other/KEY", PATH]),
        (json!({"project": "shop"}), vec![PATH]),
        (json!({"project": "shop", "scope": "project"}), vec![PATH]),
        (json!({"service": "mail"}), vec!["service/mail/KEY"]),
        (json!({"project": "none"}), vec![]),
    ] {
        let found = paths(arguments.clone()).await;
        assert_eq!(found.keys().collect::<Vec<_>>(), expected, "{arguments}");
    }
    for arguments in [
        json!({"scope": "everything"}),
        json!({"project": "shop", "service": "mail"}),
        json!({"project": "shop", "scope": "meta"}),
        json!({"project": "../x"}),
    ] {
        let called = house.call(&token, "list_secrets", arguments.clone()).await;
        assert_eq!(
            (called.failed, called.reason()),
            (true, "invalid"),
            "{arguments}"
        );
    }
    assert!(paths(json!({})).await[PATH]["lastAccessed"].is_null());
    house
        .call(&token, "get_secret", json!({"keyPath": PATH}))
        .await;
    let after = paths(json!({})).await;
    assert!(after[PATH]["lastAccessed"].is_string());
    assert!(after["BARE"]["lastAccessed"].is_null());
    let (_, admins) = house.token(Level::Admin, None, false).await;
    let seen = house
        .call(&admins, "list_secrets", json!({"project": "shop"}))
        .await
        .structured;
    assert!(
        seen["secrets"][0]["lastAccessed"].is_string(),
        "another token's use, for who sees the record"
    );
}

#[tokio::test]
async fn deleting_says_which_deployments_miss_it() {
    let house = House::new().await;
    let secret = house.secret(PATH, CANARY).await;
    let bound = crate::world::secret("STRIPE_KEY", secret);
    house
        .world
        .deployment(&house.ada, "shop", vec![bound])
        .await;
    let (_, token) = house.token(Level::Admin, None, false).await;
    let gone = house
        .call(&token, "delete_secret", json!({"keyPath": PATH}))
        .await;
    assert_eq!(
        gone.structured,
        json!({"keyPath": PATH, "deleted": true, "missedBy": ["shop"]})
    );
    assert_eq!(house.world.count("secrets").await, 0);
    let again = house
        .call(&token, "delete_secret", json!({"keyPath": PATH}))
        .await;
    assert_eq!((again.failed, again.reason()), (true, "missing"));
    let deletes = house.world.record("secret.delete").await;
    assert_eq!(deletes[0], ("token".into(), "done".into(), String::new()));
}

/// Whatever the log's level is set to, no value is in it.
#[tokio::test]
async fn no_value_is_logged_at_any_level() {
    const LOGGED: &str = "sk-logged-0gZp4Vb9/Xc+71";
    let log = Log::of(&LOGGED[..8]);
    let writer = log.clone();
    // For the whole process: what another test's thread met first is known to no subscriber of one thread.
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .init();
    let house = House::new().await;
    let (_, token) = house.token(Level::Write, None, false).await;
    let call = async |tool: &str, arguments: Value| house.call(&token, tool, arguments).await;
    call("set_secret", json!({"keyPath": PATH, "value": LOGGED})).await;
    let got = call("get_secret", json!({"keyPath": PATH})).await;
    assert!(got.text.contains(LOGGED));
    call("set_secret", json!({"keyPath": PATH, "value": [LOGGED]})).await;
    let kept = log.0.lock().unwrap();
    assert!(kept.requests >= 3, "requests are logged");
    assert!(kept.traces > 0, "at the finest level");
    assert!(kept.with_value.is_empty(), "{}", kept.with_value.join("\n"));
}

/// Counts what is logged, and keeps what has a piece of the value in it.
#[derive(Clone)]
struct Log(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    piece: &'static str,
    requests: usize,
    traces: usize,
    with_value: Vec<String>,
}

impl Log {
    fn of(piece: &'static str) -> Log {
        let kept = Kept {
            piece,
            ..Kept::default()
        };
        Log(Arc::new(Mutex::new(kept)))
    }
}

impl std::io::Write for Log {
    /// An event comes in one piece.
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let event = String::from_utf8_lossy(bytes);
        let mut kept = self.0.lock().unwrap();
        kept.requests += usize::from(event.contains("route=\"/mcp\""));
        kept.traces += usize::from(event.contains("TRACE"));
        if event.contains(kept.piece) {
            kept.with_value.push(event.into_owned());
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
