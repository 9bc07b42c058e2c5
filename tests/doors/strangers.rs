//! What somebody without an account can leave behind, and what an answer tells them.

use axum::http::StatusCode;

use crate::{Browser, Installation};

/// What an address may leave in a minute, of one kind.
const LEFT_IN_A_MINUTE: i64 = 20;

impl Installation {
    async fn number(&self, sql: &str) -> i64 {
        self.world.text(sql).await.unwrap().parse().unwrap()
    }
}

#[tokio::test]
async fn strangers_make_few_sessions_and_short_ones() {
    let house = Installation::new().await;
    let mut answers = Vec::new();
    for number in 0..LEFT_IN_A_MINUTE + 5 {
        let form = format!("email=user{number}@example.org&password=wrong+wrong+wrong");
        // A cookie of nobody's session is as good as none.
        let mut stranger = Browser {
            cookie: "sealport=AAAAAAAAAAAAAAAAAAAAAA".into(),
        };
        let answer = house.send(&mut stranger, "POST", "/sign-in", &form, &[]);
        answers.push(answer.await);
    }
    let (first, last) = (&answers[0], &answers[answers.len() - 1]);
    assert!(first.location.starts_with("/sign-in?"), "{}", first.text);
    assert_eq!(last.status, StatusCode::UNAUTHORIZED);
    assert!(
        last.text.contains("do not belong together"),
        "{}",
        last.text
    );
    let sessions = "select count(*)::text from sessions";
    assert_eq!(house.number(sessions).await, LEFT_IN_A_MINUTE);
    let long =
        "select count(*)::text from sessions where expires_at > now() + interval '15 minutes'";
    assert_eq!(house.number(long).await, 0);

    // The same browser goes on in its session, and signing in makes it a long one.
    let owner = house.person("owner").await;
    house.signed_in(&owner).await;
    assert_eq!(house.number(long).await, 1);
}

#[tokio::test]
async fn who_knocks_at_anothers_deployment_is_on_record_for_its_owner() {
    let house = Installation::new().await;
    let (owner, eve) = (house.person("owner").await, house.person("eve").await);
    let things = house.things(&owner, 1).await;
    let (mut owners, mut eves) = (house.signed_in(&owner).await, house.signed_in(&eve).await);
    let page = format!("/deployments/{}", things.name);
    house.send(&mut owners, "GET", &page, "", &[]).await;
    let nowhere = house.send(&mut eves, "GET", "/deployments/not-there", "", &[]);
    assert_eq!(nowhere.await.status, StatusCode::NOT_FOUND);
    assert_eq!(house.world.record("deployment.show").await, []);
    for _ in 0..LEFT_IN_A_MINUTE + 5 {
        let refused = house.send(&mut eves, "GET", &page, "", &[]).await;
        assert_eq!(refused.status, StatusCode::NOT_FOUND);
    }
    let record = house.world.record("deployment.show").await;
    assert_eq!(record.len() as i64, LEFT_IN_A_MINUTE);
    let row = ["user", "refused", "no right to the deployment"].map(str::to_owned);
    assert_eq!(record[0], row.into());
    let seen = house.send(&mut owners, "GET", "/activity", "", &[]).await;
    assert!(seen.text.contains("eve"), "{}", seen.text);
    // Eve's own record would tell her that there is such a deployment.
    let hidden = house.send(&mut eves, "GET", "/activity", "", &[]).await;
    assert_eq!(hidden.status, StatusCode::OK);
    assert!(!hidden.text.contains(&things.name), "{}", hidden.text);

    // At the gateway too, where no name is looked at.
    let gateway = format!("/s/{}/mcp", things.name);
    let mut nobody = Browser::default();
    for headers in [("accept", "*/*"), ("origin", "https://evil.example")] {
        house
            .send(&mut nobody, "POST", &gateway, "{}", &[headers])
            .await;
    }
    let record = house.world.record("gateway.connect").await;
    let reasons: Vec<&str> = record.iter().map(|row| row.2.as_str()).collect();
    assert_eq!(reasons, ["no token", "foreign Origin"]);
}

#[tokio::test]
async fn guessed_links_are_on_record_some_in_each_minute_and_stand_in_no_answer() {
    let house = Installation::new().await;
    for number in 0..LEFT_IN_A_MINUTE * 2 {
        let link = format!("a-guessed-link-{number}");
        let mut stranger = Browser::default();
        let path = format!("/welcome/{link}");
        let form = "email=no@example.org&password=long+enough+password";
        let answer = house.send(&mut stranger, "POST", &path, form, &[]).await;
        assert!(!answer.location.contains("guessed"), "{}", answer.location);
        assert!(!answer.text.contains("guessed"), "{}", answer.text);
        if number == 0 {
            assert_eq!(answer.location, "?again");
            // Followed as a browser does, it is the page of the same link, with what was wrong.
            let page = format!("{path}?again");
            let page = house.send(&mut stranger, "GET", &page, "", &[]).await;
            assert_eq!(page.status, StatusCode::OK);
            assert!(page.text.contains("This link was used"), "{}", page.text);
        }
    }
    let record = house.world.record("user.add").await;
    let refused: Vec<_> = record.iter().filter(|row| row.1 == "refused").collect();
    assert_eq!(refused.len() as i64, LEFT_IN_A_MINUTE);
    assert_eq!(refused[0].2, "link does not hold");
    let last = &refused[refused.len() - 1].2;
    assert_eq!(last, "link does not hold, and more in this minute");
}
