//! What stands in answers: headers under TLS, the id of a request that failed, the end of a stream.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode, header};
use futures::StreamExt;
use tower::ServiceExt;

use crate::{Browser, HOST, Installation, OURS, PASSWORD};

const HTTPS: &str = "https://sealport.example.org";

impl Installation {
    /// Status and headers of one request, with these headers and no others.
    async fn plain(
        &self,
        method: &str,
        path: &str,
        form: &str,
        headers: &[(&str, &str)],
    ) -> (StatusCode, HeaderMap) {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(form.to_owned())).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        (response.status(), response.headers().clone())
    }
}

fn cookies(headers: &HeaderMap) -> Vec<String> {
    let all = headers.get_all(header::SET_COOKIE).iter();
    all.map(|cookie| cookie.to_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn under_https_cookies_and_answers_are_bound_to_it() {
    let house = Installation::at(HTTPS).await;
    let owner = house.person("owner").await;
    let host = ("host", "sealport.example.org");
    let ours = [host, ("origin", HTTPS)];
    let form = format!("email={}&password={PASSWORD}", owner.user().unwrap().email);
    let (status, headers) = house.plain("POST", "/sign-in", &form, &ours).await;
    assert_eq!(status, StatusCode::SEE_OTHER);
    let hsts = header::STRICT_TRANSPORT_SECURITY;
    // As the guide says: this host, not its subdomains.
    assert_eq!(headers[&hsts], "max-age=63072000");
    let made = cookies(&headers);
    assert_eq!(made.len(), 2, "{made:?}");
    let made_as = |name: &str, max_age: &str| {
        let mut all = made.iter().filter_map(|cookie| cookie.split_once("; "));
        let (cookie, attributes) = all.find(|(cookie, _)| cookie.starts_with(name)).unwrap();
        let mut attributes: Vec<&str> = attributes.split("; ").collect();
        attributes.sort_unstable();
        // `__Host-` holds only without a domain and for every path.
        let expected = ["HttpOnly", max_age, "Path=/", "SameSite=Lax", "Secure"];
        assert_eq!(attributes, expected, "{cookie}");
        cookie
    };
    let session = made_as("__Host-sealport=", "Max-Age=1209600");
    let mark = made_as("__Host-sealport-browser=", "Max-Age=34560000");
    // A browser that is known is not signed in by that.
    let known = [host, ("cookie", mark)];
    let (status, _) = house.plain("GET", "/settings", "", &known).await;
    assert_eq!(status, StatusCode::SEE_OTHER);

    // It signs in, and a cookie of the plain name does not.
    let plain_name = session.replace("__Host-", "");
    for (cookie, status) in [
        (session, StatusCode::OK),
        (plain_name.as_str(), StatusCode::SEE_OTHER),
    ] {
        let (got, headers) = house
            .plain("GET", "/settings", "", &[host, ("cookie", cookie)])
            .await;
        assert_eq!(got, status, "{cookie}");
        assert!(headers.contains_key(&hsts));
    }
    let signed_in = [host, ("origin", HTTPS), ("cookie", session)];
    let (_, headers) = house
        .plain("POST", "/_fn/preferences_set", "theme=dark", &signed_in)
        .await;
    let kept = cookies(&headers);
    assert!(
        kept.iter().any(|cookie| cookie.starts_with("theme=dark;")),
        "{kept:?}"
    );
    assert!(
        kept.iter().all(|cookie| cookie.contains("; Secure")),
        "{kept:?}"
    );

    // The same host over plain http is another site, and loopback is another host.
    let plain = [
        host,
        ("origin", "http://sealport.example.org"),
        ("cookie", session),
    ];
    let (status, headers) = house.plain("POST", "/sign-out", "", &plain).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(headers.contains_key(&hsts));
    let (status, _) = house.plain("GET", "/sign-in", "", &[("host", HOST)]).await;
    assert_eq!(status, StatusCode::MISDIRECTED_REQUEST);
}

#[tokio::test]
async fn programs_are_told_in_json_what_is_not_there_and_nothing_by_another_hosts_name() {
    let house = Installation::new().await;
    for (method, path) in [
        // Where clients look for OAuth, of which their SDKs read the answer as JSON.
        ("GET", "/.well-known/oauth-protected-resource/s/any/mcp"),
        ("GET", "/.well-known/oauth-authorization-server"),
        ("GET", "/.well-known/openid-configuration/s/any/mcp"),
        ("GET", "/s/any/mcp/.well-known/openid-configuration"),
        ("GET", "/mcp/.well-known/openid-configuration"),
        ("POST", "/register"),
        ("POST", "/s/any/sse"),
        ("POST", "/s/any"),
    ] {
        let (status, headers) = house.plain(method, path, "{}", &[("host", HOST)]).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
        assert_eq!(
            headers["content-type"], "application/problem+json",
            "{path}"
        );
    }
    for path in ["/s/any/mcp", "/s/any/mcp/", "/mcp", "/mcp/"] {
        let (status, _) = house.plain("POST", path, "{}", &[("host", HOST)]).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{path}");
        // A name that was rebound to our address.
        let elsewhere = [("host", "evil.example"), ("authorization", "Bearer sp_x")];
        let (status, _) = house.plain("POST", path, "{}", &elsewhere).await;
        assert_eq!(status, StatusCode::MISDIRECTED_REQUEST, "{path}");
    }
}

#[tokio::test]
async fn over_plain_loopback_nothing_asks_for_tls() {
    let house = Installation::new().await;
    let owner = house.person("owner").await;
    let form = format!("email={}&password={PASSWORD}", owner.user().unwrap().email);
    let ours = [("host", HOST), ("origin", "http://127.0.0.1:3000")];
    let (_, headers) = house.plain("POST", "/sign-in", &form, &ours).await;
    assert!(!headers.contains_key(header::STRICT_TRANSPORT_SECURITY));
    let made = cookies(&headers);
    assert!(
        made.iter().any(|cookie| cookie.starts_with("sealport=")),
        "{made:?}"
    );
    for cookie in &made {
        assert!(
            cookie.contains("; HttpOnly") && !cookie.contains("Secure"),
            "{made:?}"
        );
    }
}

#[tokio::test]
async fn without_a_database_there_are_words_and_a_request_id() {
    let house = Installation::new().await;
    let owner = house.person("owner").await;
    let mut browser = house.signed_in(&owner).await;
    house.world.sql("alter table sessions rename to gone").await;
    let html = [("accept", "text/html"), ("origin", OURS)];
    let form = format!("email=owner%40example.org&password={PASSWORD}");
    for (method, path, form) in [("GET", "/secrets", ""), ("POST", "/sign-in", &form)] {
        let page = house.send(&mut browser, method, path, form, &html).await;
        assert_eq!(page.status, StatusCode::SERVICE_UNAVAILABLE, "{path}");
        assert!(page.text.contains("does not reach its database"), "{path}");
        assert!(page.text.contains(&page.request_id), "{path}");
    }
    let told = house.send(&mut browser, "GET", "/secrets", "", &[]).await;
    assert!(
        told.text.starts_with("Sealport does not reach"),
        "{}",
        told.text
    );
}

#[tokio::test]
async fn answers_before_every_door_carry_what_all_carry() {
    let house = Installation::at(HTTPS).await;
    let (status, headers) = house.plain("GET", "/sign-in", "", &[("host", HOST)]).await;
    assert_eq!(status, StatusCode::MISDIRECTED_REQUEST);
    assert!(headers.contains_key(header::STRICT_TRANSPORT_SECURITY));
    assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
    assert_eq!(headers[header::CACHE_CONTROL], "no-store");

    // Whoever asks by address whether it lives.
    let (status, _) = house
        .plain("GET", "/healthz", "", &[("host", "10.0.0.7:3000")])
        .await;
    assert_eq!(status, StatusCode::OK);
    let two = [
        ("host", "sealport.example.org"),
        ("host", "evil.example.org"),
    ];
    let (status, _) = house.plain("GET", "/sign-in", "", &two).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);

    // A file of the next version must not be remembered as missing.
    let host = ("host", "sealport.example.org");
    let (status, headers) = house.plain("GET", "/pkg/of-tomorrow.js", "", &[host]).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(headers[header::CACHE_CONTROL], "no-store");
}

#[tokio::test]
async fn what_fails_on_our_side_is_shown_with_the_id_of_the_request_that_failed() {
    let house = Installation::new().await;
    let owner = house.person("owner").await;
    let mut browser = house.signed_in(&owner).await;
    house
        .world
        .sql("alter table secret_versions rename to gone")
        .await;
    let form = "path=A_NEW_KEY&value=a+new+value";
    let failed = house
        .send(&mut browser, "POST", "/_fn/secret_add", form, &[])
        .await;
    assert_eq!(failed.request_id.len(), 36);
    let page = house
        .send(&mut browser, "GET", &failed.location, "", &[])
        .await;
    assert!(
        page.text.contains("under the request id below"),
        "{}",
        page.text
    );
    assert!(page.text.contains(&failed.request_id), "{}", page.text);
    assert_ne!(page.request_id, failed.request_id);
    // What the person can put right themselves needs no log.
    let form = "path=not+a+path&value=a+new+value";
    let refused = house
        .send(&mut browser, "POST", "/_fn/secret_add", form, &[])
        .await;
    let page = house
        .send(&mut browser, "GET", &refused.location, "", &[])
        .await;
    assert!(
        page.text.contains("What is wrong stands at its field"),
        "{}",
        page.text
    );
    assert!(!page.text.contains(&refused.request_id), "{}", page.text);
}

#[tokio::test]
async fn a_stream_ends_with_its_session() {
    let house = Installation::new().await;
    let owner = house.person("owner").await;
    let things = house.things(&owner, 1).await;
    let mut browser = house.signed_in(&owner).await;
    let open = async |browser: &Browser| {
        let request = Request::builder()
            .uri(format!("/deployments/{}/events", things.name))
            .header(header::HOST, HOST)
            .header(header::COOKIE, &browser.cookie)
            .body(Body::empty())
            .unwrap();
        let response = house.router.clone().oneshot(request).await.unwrap();
        let mut pieces = response.into_body().into_data_stream();
        let first = pieces.next().await.unwrap().unwrap();
        assert!(first.starts_with(b"event: state"), "{first:?}");
        pieces
    };
    let elsewhere = house.signed_in(&owner).await;
    let (mut here, mut other) = (open(&browser).await, open(&elsewhere).await);
    house.send(&mut browser, "POST", "/sign-out", "", &[]).await;
    let rest = tokio::time::timeout(Duration::from_secs(20), async {
        let mut rest = Vec::new();
        while let Some(piece) = here.next().await {
            rest.extend_from_slice(&piece.unwrap());
        }
        String::from_utf8(rest).unwrap()
    });
    // Without a word, so that a browser comes back by itself once it is signed in again.
    let rest = rest.await.expect("the stream ends");
    assert!(!rest.contains("event: end"), "{rest}");
    // The other session's goes on: what happens next is told there.
    let name = sealport::model::paths::DeploymentName::parse(&things.name).unwrap();
    house.world.db.deployment_stop(&owner, &name).await.unwrap();
    let told = tokio::time::timeout(Duration::from_secs(20), other.next()).await;
    assert!(told.expect("in time").is_some());
}

#[tokio::test]
async fn administrators_see_how_the_store_is_kept_and_nobody_else_does() {
    let house = Installation::new().await;
    let owner = house.person("owner").await;
    let mut browser = house.signed_in(&owner).await;
    let fingerprint = house.world.db.key_fingerprint();
    let settings = house.send(&mut browser, "GET", "/settings", "", &[]).await;
    assert!(!settings.text.contains(&fingerprint));
    assert!(!settings.text.contains("two logins"));
    let admin = "alter table users disable trigger users_guard; update users set is_admin = true; \
                 alter table users enable trigger users_guard";
    house.world.sql(admin).await;
    let settings = house.send(&mut browser, "GET", "/settings", "", &[]).await;
    assert!(settings.text.contains(&fingerprint), "{}", settings.text);
    assert!(settings.text.contains("two logins"), "{}", settings.text);
}

/// Leptos keeps the current page by thread: what is answered beside a page must not take the page's headers.
#[tokio::test]
async fn a_file_takes_nothing_of_the_page_beside_it() {
    let house = Installation::new().await;
    let owner = house.person("owner").await;
    let browser = house.signed_in(&owner).await;
    let headers = [("host", HOST), ("cookie", browser.cookie.as_str())];
    for round in 0..50 {
        let page = house.plain("GET", "/people", "", &headers);
        let files = futures::future::join_all(
            (0..16).map(|_| house.plain("GET", "/favicon.svg", "", &headers)),
        );
        let ((status, page), files) = tokio::join!(page, files);
        assert_eq!(status, StatusCode::OK);
        let policy = page[&header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.contains("'nonce-"), "round {round}: {policy}");
        for (status, file) in files {
            assert_eq!(status, StatusCode::OK);
            let policy = &file[&header::CONTENT_SECURITY_POLICY];
            assert_eq!(policy, "default-src 'none'; frame-ancestors 'none'");
        }
    }
}

#[tokio::test]
async fn nobody_follows_deployments_without_end() {
    let house = Installation::new().await;
    let owner = house.person("owner").await;
    let things = house.things(&owner, 1).await;
    let browser = house.signed_in(&owner).await;
    let follow = async || {
        let request = Request::builder()
            .uri(format!("/deployments/{}/events", things.name))
            .header(header::HOST, HOST)
            .header(header::COOKIE, &browser.cookie)
            .body(Body::empty())
            .unwrap();
        house.router.clone().oneshot(request).await.unwrap()
    };
    let mut streams = Vec::new();
    loop {
        let answer = follow().await;
        if answer.status() != StatusCode::OK {
            assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
            break;
        }
        streams.push(answer);
        assert!(streams.len() <= 20, "there is no end to it");
    }
    assert_eq!(streams.len(), 20);
    // One that ends gives its place back.
    streams.pop();
    assert_eq!(follow().await.status(), StatusCode::OK);
}

#[tokio::test]
async fn where_a_secret_runs_is_followed_until_nothing_is_under_way() {
    let house = Installation::new().await;
    let owner = house.person("owner").await;
    let things = house.things(&owner, 1).await;
    let mut browser = house.signed_in(&owner).await;
    // Its one deployment waits for its first release.
    let page = format!("/secrets/{}/{}", things.handle, things.path);
    let shown = house.send(&mut browser, "GET", &page, "", &[]).await;
    assert!(
        shown.text.contains("Release 1 waits for its turn."),
        "{}",
        shown.text
    );
    let request = Request::builder()
        .uri(format!("/runs/{}/events", things.secret))
        .header(header::HOST, HOST)
        .header(header::COOKIE, &browser.cookie)
        .body(Body::empty())
        .unwrap();
    let response = house.router.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let mut pieces = response.into_body().into_data_stream();
    let first = pieces.next().await.unwrap().unwrap();
    assert!(first.starts_with(b"event: state"), "{first:?}");
    let name = sealport::model::paths::DeploymentName::parse(&things.name).unwrap();
    house.world.db.deployment_stop(&owner, &name).await.unwrap();
    let rest = tokio::time::timeout(Duration::from_secs(20), async {
        let mut rest = Vec::new();
        while let Some(piece) = pieces.next().await {
            rest.extend_from_slice(&piece.unwrap());
        }
        String::from_utf8(rest).unwrap()
    });
    let rest = rest.await.expect("the stream ends");
    assert!(
        rest.contains("event: state") && rest.contains("event: end"),
        "{rest}"
    );
    let shown = house.send(&mut browser, "GET", &page, "", &[]).await;
    assert!(!shown.text.contains("Runs now"), "{}", shown.text);
}
