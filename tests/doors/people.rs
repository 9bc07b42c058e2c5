//! People at the doors: invitations, reset links, the password asked again, accounts that end.

use sealport::model::actors::Caller;
use sealport::model::grants::Shareable;
use sealport::model::levels::Level;
use sealport::model::paths::{Folder, Handle};

use crate::{Answer, Browser, Installation, OURS, PASSWORD, world};

impl Installation {
    async fn administrator(&self, name: &str) -> (Caller, Browser) {
        let who = self.person(name).await;
        let sql = format!(
            "set sealport.job = 'operator'; update users set is_admin = true where id = '{}'",
            world::id(&who)
        );
        self.world.sql(&sql).await;
        let browser = self.signed_in(&who).await;
        (who, browser)
    }

    /// As if all sessions had been begun some time ago.
    async fn age_sessions(&self, minutes: u32) {
        let sql =
            format!("update sessions set confirmed_at = now() - interval '{minutes} minutes'");
        self.world.sql(&sql).await;
    }

    async fn press(&self, browser: &mut Browser, from: &str, to: &str, form: &str) -> Answer {
        let page = format!("{OURS}{from}");
        let headers = [
            ("origin", OURS),
            ("referer", page.as_str()),
            ("accept", "text/html"),
        ];
        self.send(browser, "POST", to, form, &headers).await
    }

    async fn get(&self, browser: &mut Browser, path: &str) -> Answer {
        self.send(browser, "GET", path, "", &[]).await
    }

    /// The path of the link that the page shows.
    async fn shown_link(&self, browser: &mut Browser, made: &Answer, kind: &str) -> String {
        assert!(
            made.location.starts_with("/people?shown="),
            "{}",
            made.location
        );
        let page = made.location.split('#').next().unwrap().to_owned();
        let text = self.get(browser, &page).await.text;
        let at = format!("{OURS}/{kind}/");
        let (_, rest) = text.split_once(&at).expect("the link is shown");
        let secret: String = rest.chars().take(43).collect();
        // Once.
        assert!(!self.get(browser, &page).await.text.contains(&secret));
        format!("/{kind}/{secret}")
    }
}

#[tokio::test]
async fn an_invitation_is_shown_once_and_opens_by_its_form_alone() {
    let house = Installation::new().await;
    let (_, mut ada) = house.administrator("ada").await;
    let made = house
        .press(
            &mut ada,
            "/people",
            "/_fn/invitation_make",
            "email=new%40example.org",
        )
        .await;
    let link = house.shown_link(&mut ada, &made, "invitation").await;
    let mut newcomer = Browser::default();
    for _ in 0..2 {
        let page = house.get(&mut newcomer, &link).await;
        assert!(page.text.contains("new@example.org"), "{}", page.text);
    }
    let short = house
        .send(&mut newcomer, "POST", &link, "password=short", &[])
        .await;
    assert_eq!(short.location, "?again");
    let form = format!("password={PASSWORD}");
    let made = house.send(&mut newcomer, "POST", &link, &form, &[]).await;
    assert_eq!(made.location, "/secrets");
    assert!(
        house
            .get(&mut newcomer, "/settings")
            .await
            .text
            .contains("new@example.org")
    );
    let mut late = Browser::default();
    let again = house.send(&mut late, "POST", &link, &form, &[]).await;
    assert_eq!(again.location, "?again");
    let page = house.get(&mut late, &link).await;
    assert!(
        page.text.contains("This link opens nothing"),
        "{}",
        page.text
    );
    assert!(!page.text.contains("new@example.org"));
}

#[tokio::test]
async fn a_reset_link_ends_the_persons_sessions_at_their_next_request() {
    let house = Installation::new().await;
    let (_, mut ada) = house.administrator("ada").await;
    let ben = house.person("ben").await;
    let mut bens = house.signed_in(&ben).await;
    let form = format!("id={}", world::id(&ben));
    let made = house
        .press(&mut ada, "/people", "/_fn/reset_make", &form)
        .await;
    let link = house.shown_link(&mut ada, &made, "reset").await;
    assert_eq!(house.get(&mut bens, "/secrets").await.status, 200);
    let mut holder = Browser::default();
    assert!(
        house
            .get(&mut holder, &link)
            .await
            .text
            .contains("ben@example.org")
    );
    assert_eq!(house.get(&mut bens, "/secrets").await.status, 200);
    let set = house
        .send(
            &mut holder,
            "POST",
            &link,
            "password=a+newer+long+password",
            &[],
        )
        .await;
    assert_eq!(set.location, "/secrets");
    assert_eq!(house.get(&mut holder, "/secrets").await.status, 200);
    let old = house.get(&mut bens, "/secrets").await;
    assert!(
        old.location.starts_with("/sign-in?next="),
        "{}",
        old.location
    );
    assert_eq!(house.get(&mut ada, "/secrets").await.status, 200);
}

#[tokio::test]
async fn what_gives_power_away_asks_for_the_password_again() {
    let house = Installation::new().await;
    let (ada, mut browser) = house.administrator("ada").await;
    let ben = house.person("ben").await;
    let secret = house.world.secret(&ada, "KEY", "a value").await;
    let moved = format!("id={secret}&to=ada");
    let (id, me) = (world::id(&ben), world::id(&ada));
    let crew = Handle::parse("crew").unwrap();
    house.world.db.team_create(&ada, &crew).await.unwrap();
    // What is shared with a folder goes by the path: a rename shares, too.
    let (ours, bens) = (Handle::parse("ada").unwrap(), "ben");
    let folder = Shareable::Folder {
        owner: ours,
        prefix: Folder::parse("project/shop").unwrap(),
    };
    let shared = house.world.db.share(&ada, &folder, bens, Level::Use, &[]);
    shared.await.unwrap();
    let renamed =
        format!("id={secret}&path=KEY&rename=project/shop/KEY&sure=project/shop/KEY&kind=api_key");
    let share = format!("of=secret:{secret}&with=ben&level=use");
    let before = house.world.dump_of("users").await;
    house.age_sessions(11).await;
    for (page, to, form) in [
        (
            "/people",
            "/_fn/invitation_make",
            "email=new%40example.org".to_owned(),
        ),
        ("/people", "/_fn/reset_make", format!("id={id}")),
        (
            "/people",
            "/_fn/administrator_set",
            format!("id={id}&is=true"),
        ),
        (
            "/people/ben/end",
            "/_fn/account_end",
            format!("id={id}&handle=ben&confirm=ben"),
        ),
        ("/move/secret/x?to=crew", "/_fn/secret_move", moved),
        ("/secrets/ada/KEY", "/_fn/secret_edit", renamed),
        ("/share/secret/x", "/_fn/share", share),
        (
            "/teams/crew",
            "/_fn/team_member_set",
            "team=crew&with=ben&level=use".to_owned(),
        ),
        (
            "/settings",
            "/_fn/versions_keep",
            "keep_count=0&sure=0%2F".to_owned(),
        ),
        ("/settings", "/_fn/mcp_reveal", "on=true".to_owned()),
        (
            "/tokens",
            "/_fn/api_token_new",
            "name=x&can=read".to_owned(),
        ),
    ] {
        let led = house.press(&mut browser, page, to, &form).await;
        let next: String = url::form_urlencoded::byte_serialize(page.as_bytes()).collect();
        assert_eq!(led.location, format!("/confirm?next={next}"), "{to}");
        assert_eq!(led.status, 302, "{to}");
    }
    assert_eq!(house.world.dump_of("users").await, before);
    assert_eq!(house.world.count("one_time_links").await, 0);
    assert_eq!(house.world.count("secrets where path = 'KEY'").await, 1);
    assert_eq!(house.world.count("grants").await, 1);
    assert_eq!(house.world.count("team_members").await, 1);
    assert_eq!(house.world.count("tokens").await, 0);
    // What asks for nothing of the kind goes on as before.
    let theme = house
        .press(
            &mut browser,
            "/settings",
            "/_fn/preferences_set",
            "theme=dark",
        )
        .await;
    assert_eq!(theme.location, "/settings");

    // What was typed is there again, and the button is to be pressed once more.
    let form = "email=new%40example.org&administrator=true";
    house
        .press(&mut browser, "/people", "/_fn/invitation_make", form)
        .await;
    let page = house.get(&mut browser, "/confirm?next=%2Fpeople").await;
    assert!(page.text.contains("Your password again"), "{}", page.text);
    let wrong = house
        .press(
            &mut browser,
            "/confirm",
            "/confirm",
            "password=wrong+wrong+wrong&next=%2Fpeople",
        )
        .await;
    assert_eq!(wrong.location, "/confirm?next=%2Fpeople");
    let page = house.get(&mut browser, &wrong.location).await;
    assert!(
        page.text.contains("That is not your password."),
        "{}",
        page.text
    );
    let right = format!("password={PASSWORD}&next=%2Fpeople");
    let done = house
        .press(&mut browser, "/confirm", "/confirm", &right)
        .await;
    assert_eq!(done.location, "/people");
    let page = house.get(&mut browser, "/people").await;
    assert!(
        page.text.contains("press the button once more"),
        "{}",
        page.text
    );
    assert!(
        page.text.contains("value=\"new@example.org\""),
        "{}",
        page.text
    );
    assert_eq!(house.world.count("one_time_links").await, 0);
    let made = house
        .press(&mut browser, "/people", "/_fn/invitation_make", form)
        .await;
    house.shown_link(&mut browser, &made, "invitation").await;
    // Another session of the same person still has to.
    let mut other = house.signed_in(&ada).await;
    let sql = format!(
        "update sessions set confirmed_at = now() - interval '11 minutes' where id_hash =
         (select id_hash from sessions where user_id = '{me}' order by created_at desc limit 1)"
    );
    house.world.sql(&sql).await;
    let led = house
        .press(&mut other, "/people", "/_fn/invitation_make", form)
        .await;
    assert!(led.location.starts_with("/confirm?"), "{}", led.location);
    // It leads nowhere but to ourselves.
    for next in [
        "https://evil.example/",
        "//evil.example",
        "/_fn/secrets_list",
    ] {
        let next: String = url::form_urlencoded::byte_serialize(next.as_bytes()).collect();
        let form = format!("password={PASSWORD}&next={next}");
        let led = house.press(&mut other, "/confirm", "/confirm", &form).await;
        assert_eq!(led.location, "/secrets");
    }
}

#[tokio::test]
async fn an_ended_account_opens_nothing_from_its_next_request_on() {
    let house = Installation::new().await;
    let (_, mut ada) = house.administrator("ada").await;
    let ben = house.person("ben").await;
    let things = house.things(&ben, 1).await;
    let mut bens = house.signed_in(&ben).await;
    let token = format!("Bearer {}", things.token);
    let gateway = async || {
        let path = format!("/s/{}/mcp", things.name);
        let headers = [("authorization", token.as_str())];
        let mut nobody = Browser::default();
        house
            .send(&mut nobody, "POST", &path, "{}", &headers)
            .await
            .status
    };
    assert_eq!(house.get(&mut bens, "/secrets").await.status, 200);
    assert_eq!(gateway().await, 503);

    let page = house.get(&mut ada, "/people/ben/end").await;
    assert!(
        page.text.contains("Secrets: 2. Deployments: 1."),
        "{}",
        page.text
    );
    // What he owns is not told, only how much.
    assert!(!page.text.contains(&things.path), "{}", page.text);
    let form = |confirm: &str, heir: &str| {
        format!(
            "id={}&handle=ben&heir={heir}&confirm={confirm}",
            world::id(&ben)
        )
    };
    // Ada shares a folder into which something of his comes.
    let carl = house.person("carl").await;
    house
        .world
        .sql(&format!(
            "insert into secrets (id, owner_id, path, kind, version) values (gen_random_uuid(), '{}', 'project/shop/KEY', 'custom', 1);
             insert into grants (id, owner_id, prefix, grantee_id, level, granted_by, granted_by_name)
             select gen_random_uuid(), id, 'project/shop', '{}', 2, id, handle from owners where handle = 'ada'",
            world::id(&ben),
            world::id(&carl)
        ))
        .await;
    for wrong in [form("bne", "ada"), form("ben", ""), form("ben", "nobody")] {
        let led = house
            .press(&mut ada, "/people/ben/end", "/_fn/account_end", &wrong)
            .await;
        assert_eq!(led.location, "/people/ben/end");
        assert_eq!(house.get(&mut bens, "/secrets").await.status, 200);
    }
    // What was typed wrong before does not count for having been shown it.
    for _ in 0..2 {
        let led = house
            .press(
                &mut ada,
                "/people/ben/end",
                "/_fn/account_end",
                &form("ben", "ada"),
            )
            .await;
        assert_eq!(led.location, "/people/ben/end");
        let page = house.get(&mut ada, "/people/ben/end").await;
        assert!(
            page.text.contains("let these in to it: carl (read)."),
            "{}",
            page.text
        );
        assert!(
            page.text.contains("name=\"sure\" value=\"ada\""),
            "{}",
            page.text
        );
        assert_eq!(house.get(&mut bens, "/secrets").await.status, 200);
    }
    let ended = house
        .press(
            &mut ada,
            "/people/ben/end",
            "/_fn/account_end",
            &format!("{}&sure=ada", form("ben", "ada")),
        )
        .await;
    assert_eq!(ended.location, "/people");
    let turned_away = house.get(&mut bens, "/secrets").await;
    assert!(turned_away.location.starts_with("/sign-in?next="));
    assert_eq!(gateway().await, 401);
    let mut late = Browser::default();
    let form = format!("email=ben@example.org&password={PASSWORD}");
    let refused = house.send(&mut late, "POST", "/sign-in", &form, &[]).await;
    assert!(
        refused.location.starts_with("/sign-in"),
        "{}",
        refused.location
    );
    let listed = house.get(&mut ada, "/secrets").await;
    assert!(listed.text.contains(&things.path));
    let gone = house.get(&mut ada, "/people/ben/end").await;
    assert_eq!(gone.status, 404);
}

#[tokio::test]
async fn one_sees_where_one_is_signed_in_and_ends_it() {
    let house = Installation::new().await;
    let ben = house.person("ben").await;
    let (mut here, mut there) = (house.signed_in(&ben).await, house.signed_in(&ben).await);
    let page = house.get(&mut here, "/settings").await;
    assert!(page.text.contains("This one"), "{}", page.text);
    let (_, rest) = page
        .text
        .split_once("action=\"/_fn/session_end\"")
        .expect("the other can be ended");
    let (_, rest) = rest.split_once("value=\"").unwrap();
    let form = format!("id={}", rest.split('"').next().unwrap());
    let ended = house
        .press(&mut here, "/settings", "/_fn/session_end", &form)
        .await;
    assert!(
        ended.location.starts_with("/settings"),
        "{}",
        ended.location
    );
    assert!(
        house
            .get(&mut there, "/secrets")
            .await
            .location
            .starts_with("/sign-in")
    );
    assert_eq!(house.get(&mut here, "/secrets").await.status, 200);
    let again = house
        .press(&mut here, "/settings", "/_fn/session_end", &form)
        .await;
    assert_eq!(again.location, "/settings");
    let page = house.get(&mut here, "/settings").await;
    assert!(page.text.contains("not yours to see"), "{}", page.text);
}
