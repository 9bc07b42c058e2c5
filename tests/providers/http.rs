//! The client below the adapters: what it waits for, sends again, refuses to reach, and never shows.

use std::time::Duration;

use http::{HeaderName, Method};
use sealport::deploy::masks::{MASK, Masks};
use sealport::deploy::providers::Trouble;
use sealport::deploy::providers::http::{Answer, Ask, Auth, ProviderHttp, Repeat};
use sealport::deploy::sources::SourceHosts;
use secrecy::SecretString;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::{Rfc2822, Rfc3339};
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::fakes::heard::Heard;
use crate::fakes::wire::{Fault, Reply, Wire};

const KEY: &str = "key-canary-8c1d40e2b7";
const VALUE: &str = "value-canary-51f09ab3dd";

async fn wire() -> Wire {
    Wire::start(|_| Reply::json(200, json!({"id": "done"}))).await
}

fn client_at(base: &str, listed: &[&str]) -> ProviderHttp {
    let hosts = SourceHosts::new(listed.iter().map(|host| (*host).to_owned()));
    let key = Auth::Bearer(SecretString::from(KEY));
    ProviderHttp::new("Render", base.parse().unwrap(), key, hosts).unwrap()
}

fn client(wire: &Wire) -> ProviderHttp {
    client_at(wire.url.as_str(), &["127.0.0.1"])
}

fn post(repeat: Repeat) -> Ask {
    let body = json!({"envVars": [{"key": "API_KEY", "value": VALUE}]});
    Ask::new(Method::POST, &["services"], repeat).body(body)
}

async fn sent(wire: &Wire, repeat: Repeat) -> Result<Answer, Trouble> {
    client(wire).send(post(repeat)).await
}

#[tokio::test]
async fn a_request_arrives_as_it_is_meant() {
    let wire = wire().await;
    let http = client_at(wire.url.join("/v1/").unwrap().as_str(), &["127.0.0.1"]);
    let ask = Ask::get(&["services", "a/b?c"]).query("name", "x&y=z");
    let answer = http.send(ask).await.unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(answer.read::<Value>().unwrap(), json!({"id": "done"}));
    http.send(post(Repeat::Once)).await.unwrap();

    let recorded = wire.recorded();
    assert_eq!(
        wire.lines(),
        ["GET /v1/services/a%2Fb%3Fc", "POST /v1/services"]
    );
    assert_eq!(recorded[0].asked("name"), Some("x&y=z"));
    assert_eq!(recorded[0].header("authorization"), format!("Bearer {KEY}"));
    assert_eq!(recorded[0].header("content-type"), "");
    assert_eq!(recorded[1].header("content-type"), "application/json");
    assert_eq!(recorded[1].json()["envVars"][0]["value"], VALUE);

    let header = Auth::Header(
        HeaderName::from_static("project-access-token"),
        SecretString::from(format!("{KEY}\n")),
    );
    let hosts = SourceHosts::new(["127.0.0.1".to_owned()]);
    let http = ProviderHttp::new("Railway", wire.url.clone(), header, hosts).unwrap();
    http.send(Ask::get(&["x"])).await.unwrap();
    let last = wire.recorded().pop().unwrap();
    assert_eq!(last.header("project-access-token"), KEY);
    assert_eq!(last.header("authorization"), "");
}

/// A path is never another than was meant.
#[tokio::test]
async fn a_part_of_a_path_that_would_be_none_is_not_sent() {
    let wire = wire().await;
    for part in ["", ".", ".."] {
        let trouble = client(&wire).send(Ask::get(&["services", part])).await;
        assert!(matches!(trouble, Err(Trouble::NotFound { .. })), "{part:?}");
    }
    assert_eq!(wire.lines(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn every_header_that_asks_to_wait_is_obeyed() {
    let now = OffsetDateTime::now_utc();
    let later = now + time::Duration::seconds(20);
    let forms = [
        ("retry-after", "20".to_owned()),
        (
            "retry-after",
            later.format(&Rfc2822).unwrap().replace("+0000", "GMT"),
        ),
        ("ratelimit-reset", "20".to_owned()),
        ("ratelimit-reset", later.unix_timestamp().to_string()),
        ("x-ratelimit-reset", later.unix_timestamp().to_string()),
        ("x-ratelimit-reset", later.format(&Rfc3339).unwrap()),
    ];
    for repeat in [Repeat::Safe, Repeat::Once] {
        for (header, value) in &forms {
            let wire = wire().await;
            wire.will("", Fault::limited(header, value));
            let began = Instant::now();
            sent(&wire, repeat).await.unwrap();
            let waited = began.elapsed();
            // Dates are of whole seconds, and it is later than it was.
            let wanted = Duration::from_secs(17)..Duration::from_secs(22);
            assert!(wanted.contains(&waited), "{header}: {value}: {waited:?}");
            assert_eq!(wire.lines().len(), 2, "{header}: {value}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_too_long_is_left_to_the_caller() {
    for repeat in [Repeat::Safe, Repeat::Once] {
        let wire = wire().await;
        wire.will("", Fault::limited("retry-after", 1800));
        let began = Instant::now();
        let trouble = sent(&wire, repeat).await.unwrap_err();
        assert!(
            matches!(
                trouble,
                Trouble::Limited {
                    wait_secs: 1800,
                    ..
                }
            ),
            "{trouble:?}"
        );
        assert!(trouble.may_pass() && !trouble.may_be_done());
        assert!(began.elapsed() < Duration::from_secs(1));
        assert_eq!(wire.lines().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn it_gives_up_after_four_times() {
    let wire = wire().await;
    for _ in 0..5 {
        wire.will("", Fault::status(429));
    }
    let began = Instant::now();
    let trouble = sent(&wire, Repeat::Once).await.unwrap_err();
    assert!(matches!(trouble, Trouble::Limited { .. }), "{trouble:?}");
    assert_eq!(wire.lines().len(), 4);
    assert!(began.elapsed() < Duration::from_secs(10));
}

fn passing_faults() -> [Fault; 6] {
    [
        Fault::status(502),
        Fault::status(503),
        Fault::Html(504),
        Fault::Cut,
        Fault::CutWithin,
        Fault::Hang,
    ]
}

#[tokio::test(start_paused = true)]
async fn what_is_safe_is_sent_again() {
    for fault in passing_faults() {
        let wire = wire().await;
        wire.will("", fault.clone());
        sent(&wire, Repeat::Safe).await.unwrap();
        assert_eq!(wire.lines().len(), 2, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_safe_is_sent_once_and_may_be_done() {
    for fault in passing_faults() {
        let wire = wire().await;
        wire.will("", fault.clone());
        let trouble = sent(&wire, Repeat::Once).await.unwrap_err();
        assert!(
            matches!(trouble, Trouble::Lost { .. }),
            "{fault:?}: {trouble:?}"
        );
        assert!(trouble.may_be_done());
        assert_eq!(wire.lines().len(), 1, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn it_ends_within_its_patience() {
    let wire = wire().await;
    for _ in 0..5 {
        wire.will("", Fault::Hang);
    }
    let began = Instant::now();
    let trouble = sent(&wire, Repeat::Safe).await.unwrap_err();
    assert!(
        matches!(trouble, Trouble::Unreachable { .. }),
        "{trouble:?}"
    );
    let taken = began.elapsed();
    assert!(
        (Duration::from_secs(30)..=Duration::from_secs(61)).contains(&taken),
        "{taken:?}"
    );
    assert!(trouble.to_string().contains("did not answer in time"));
}

#[tokio::test(start_paused = true)]
async fn nobody_there_is_told() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    for repeat in [Repeat::Safe, Repeat::Once] {
        let trouble = client_at(&url, &["127.0.0.1"]).send(post(repeat)).await;
        let trouble = trouble.unwrap_err();
        // Nothing was sent, so nothing can be done.
        assert!(
            matches!(trouble, Trouble::Unreachable { .. }),
            "{trouble:?}"
        );
        assert!(trouble.to_string().contains("refused"), "{trouble}");
    }
}

#[tokio::test]
async fn each_refusal_has_its_name() {
    let wire = wire().await;
    let mut kinds = Vec::new();
    for status in [400, 401, 402, 403, 404, 409, 410, 422, 500, 501] {
        wire.will("", Fault::status(status));
        let trouble = sent(&wire, Repeat::Safe).await.unwrap_err();
        let kind = format!("{trouble:?}");
        kinds.push(format!("{status} {}", kind.split(' ').next().unwrap()));
        assert_eq!(trouble.may_be_done(), status >= 500, "{status}");
        assert!(trouble.to_string().contains("Render"));
    }
    let wanted = [
        "400 Refused",
        "401 Unauthorised",
        "402 Payment",
        "403 Refused",
        "404 NotFound",
        "409 Refused",
        "410 NotFound",
        "422 Refused",
        "500 Refused",
        "501 Refused",
    ];
    assert_eq!(kinds, wanted);
    assert_eq!(wire.lines().len(), wanted.len(), "none is sent again");

    wire.will(
        "",
        Fault::Status(400, vec![], json!({"message": "name is taken"})),
    );
    let trouble = sent(&wire, Repeat::Safe).await.unwrap_err();
    assert_eq!(
        trouble.masked(&Masks::none()).to_string(),
        "Render refused it (status 400): name is taken"
    );
}

/// A page is from something in front of the API: what its status means there is not what it means here.
#[tokio::test]
async fn a_page_is_reported_and_not_read() {
    let wire = wire().await;
    for status in [200, 400, 403, 404, 500] {
        wire.will("", Fault::Html(status));
        let trouble = sent(&wire, Repeat::Once).await.unwrap_err();
        assert!(
            matches!(trouble, Trouble::NotJson { status: told, .. } if told == status),
            "{status}: {trouble:?}"
        );
    }
    // What calls itself JSON and is a page, is cut short, or has another form.
    for (text, is_json) in [
        ("<!DOCTYPE html>", false),
        ("{\"id\": ", false),
        ("", false),
        ("[1]", true),
    ] {
        wire.will("", Fault::Text(text.to_owned()));
        #[derive(Debug, serde::Deserialize)]
        #[allow(dead_code)]
        struct Id {
            id: String,
        }
        let read = sent(&wire, Repeat::Safe).await;
        let trouble = read.and_then(|answer| answer.read::<Id>()).unwrap_err();
        assert_eq!(
            matches!(trouble, Trouble::Unexpected { .. }),
            is_json,
            "{text}: {trouble:?}"
        );
        assert_eq!(matches!(trouble, Trouble::NotJson { .. }), !is_json);
    }
}

#[tokio::test]
async fn nobody_is_followed() {
    let (here, elsewhere) = (wire().await, wire().await);
    here.will("", Fault::Redirect(elsewhere.url.to_string()));
    let trouble = sent(&here, Repeat::Safe).await.unwrap_err();
    assert!(
        matches!(trouble, Trouble::Moved { status: 307, .. }),
        "{trouble:?}"
    );
    assert_eq!(elsewhere.lines(), [""; 0]);
    assert_eq!(here.lines().len(), 1);
}

#[tokio::test]
async fn private_places_are_reached_only_when_they_are_listed() {
    let wire = wire().await;
    let port = wire.url.port().unwrap();
    let bases = [
        format!("http://127.0.0.1:{port}/"),
        format!("https://127.0.0.1:{port}/"),
        format!("http://localhost:{port}/"),
        // Resolved, and looked at then.
        format!("https://localhost:{port}/"),
        format!("https://LOCALHOST:{port}/"),
        format!("https://[::1]:{port}/"),
        format!("https://[::ffff:127.0.0.1]:{port}/"),
        format!("https://2130706433:{port}/"),
        "https://169.254.169.254/latest".into(),
        "https://10.1.2.3/".into(),
        // Public, and the key in clear.
        "http://1.1.1.1/".into(),
        "http://api.render.example/".into(),
        "ftp://1.1.1.1/".into(),
    ];
    for base in &bases {
        for listed in [&[][..], &["127.0.0.1:1", "other.example", "192.168.0.0/16"]] {
            let trouble = client_at(base, listed).send(post(Repeat::Safe)).await;
            let trouble = trouble.unwrap_err();
            assert!(
                matches!(trouble, Trouble::NotAllowed { .. }),
                "{base}: {trouble:?}"
            );
            assert!(trouble.to_string().contains("SEALPORT_SOURCE_HOSTS"));
        }
    }
    assert_eq!(wire.lines(), [""; 0]);

    let by_address = format!("127.0.0.1:{port}");
    for (base, listed) in [
        (&bases[0], "127.0.0.1"),
        (&bases[0], by_address.as_str()),
        (&bases[2], "localhost"),
    ] {
        client_at(base, &[listed])
            .send(post(Repeat::Safe))
            .await
            .unwrap();
    }
    assert_eq!(wire.lines().len(), 3);
    // Listed by its network, a host is asked, but not without TLS.
    let trouble = client_at(&bases[0], &["127.0.0.0/8"])
        .send(post(Repeat::Safe))
        .await;
    assert!(matches!(trouble, Err(Trouble::NotAllowed { .. })));
    let trouble = client_at(&bases[1], &["127.0.0.0/8"])
        .send(post(Repeat::Once))
        .await;
    assert!(
        matches!(trouble, Err(Trouble::Unreachable { .. })),
        "it is asked, and speaks no TLS: {trouble:?}"
    );
}

#[tokio::test]
async fn a_name_that_is_none_is_told() {
    let http = client_at("https://nowhere.invalid/", &[]);
    let trouble = http.send(post(Repeat::Once)).await.unwrap_err();
    assert!(
        matches!(trouble, Trouble::Unreachable { .. }),
        "{trouble:?}"
    );
    assert!(
        trouble.to_string().contains("name is not found"),
        "{trouble}"
    );
}

#[tokio::test]
async fn what_is_longer_than_any_answer_is_not_read() {
    let wire = wire().await;
    for announced in [true, false] {
        wire.will("", Fault::Huge { announced });
        let trouble = sent(&wire, Repeat::Once).await.unwrap_err();
        assert!(matches!(trouble, Trouble::TooLarge { .. }), "{trouble:?}");
        assert!(trouble.may_be_done());
    }
}

/// With all that libraries say too.
#[tokio::test]
async fn neither_key_nor_value_is_shown() {
    let heard = Heard::listen();
    let wire = wire().await;
    let http = client(&wire);
    let mut shown = format!("{http:?} {:?}", post(Repeat::Once));
    let faults = [
        Fault::status(400),
        Fault::Echo,
        Fault::status(401),
        Fault::Html(500),
        Fault::Cut,
        Fault::CutWithin,
        Fault::Redirect("http://127.0.0.1:1/".into()),
        Fault::limited("retry-after", 1800),
        Fault::Text(format!("[{VALUE:?}, 1")),
        Fault::Text(format!("{{\"id\": {{\"v\": {VALUE:?}}}}}")),
    ];
    for fault in &faults {
        wire.will("", fault.clone());
        let answer = http.send(post(Repeat::Once)).await;
        shown.push_str(&format!("{answer:?}"));
        if let Err(trouble) = answer.and_then(|answer| answer.read::<Vec<u32>>()) {
            shown.push_str(&format!("{trouble} {trouble:?}"));
        }
    }
    // The echo is told, and all that was sent is masked in it.
    wire.will("", Fault::Echo);
    let trouble = http.send(post(Repeat::Once)).await.unwrap_err();
    let masks = Masks::new([&SecretString::from(VALUE)]);
    let told = trouble.masked(&masks).to_string();
    assert!(told.contains("bad request"), "{told}");
    assert_eq!(told.matches(MASK).count(), 2, "{told}");
    shown.push_str(&told);

    assert_eq!(wire.lines().len(), faults.len() + 1, "all were sent");
    let heard = heard.text();
    assert!(
        heard.contains("asked in vain"),
        "something is logged at all"
    );
    for text in [&shown, &heard] {
        for canary in [KEY, VALUE] {
            assert!(!text.contains(canary), "{canary}");
        }
    }
}
