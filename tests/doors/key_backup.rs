//! The reminder to back up the master key: for administrators, until one says that it is done. Forms alone, no JavaScript.

use axum::http::StatusCode;
use sealport::model::actors::{Actor, Caller, Origin};
use sealport::model::users::Email;
use secrecy::SecretString;

use crate::{Installation, PASSWORD};

const REMINDER: &str = "Back up the master key";

#[tokio::test]
async fn administrators_are_reminded_until_one_says_that_it_is_done() {
    let house = Installation::new().await;
    let email = Email::parse("root@example.org").unwrap();
    let password = SecretString::from(PASSWORD);
    let root = house.world.db.user_add(&email, &password, true).await;
    let root = Caller {
        actor: Actor::User(root.unwrap()),
        origin: Origin::default(),
    };
    let ann = house.person("ann").await;
    let (mut roots, mut anns) = (house.signed_in(&root).await, house.signed_in(&ann).await);
    let key = house.world.db.key_fingerprint().to_owned();

    for _ in 0..2 {
        let page = house.send(&mut roots, "GET", "/secrets", "", &[]).await;
        assert!(page.text.contains(REMINDER), "it stays");
    }
    let page = house.send(&mut anns, "GET", "/secrets", "", &[]).await;
    assert!(!page.text.contains(REMINDER));
    let page = house.send(&mut anns, "GET", "/settings", "", &[]).await;
    assert!(!page.text.contains(&key) && !page.text.contains("key_backup_confirm"));
    let page = house.send(&mut roots, "GET", "/settings", "", &[]).await;
    assert!(page.text.contains("key_backup_confirm"), "{}", page.text);

    // Without the tick, and for another key, it is not taken.
    for (form, told) in [
        (format!("fingerprint={key}"), "tick that it is done"),
        ("fingerprint=00&done=true".to_owned(), "Another master key"),
    ] {
        let sent = house
            .send(&mut roots, "POST", "/_fn/key_backup_confirm", &form, &[])
            .await;
        assert_eq!(sent.location, "/settings#keys");
        let page = house.send(&mut roots, "GET", "/settings", "", &[]).await;
        assert!(page.text.contains(told), "{}", page.text);
    }
    let page = house.send(&mut roots, "GET", "/secrets", "", &[]).await;
    assert!(page.text.contains(REMINDER));

    let form = format!("fingerprint={key}&done=true");
    let sent = house
        .send(&mut roots, "POST", "/_fn/key_backup_confirm", &form, &[])
        .await;
    assert_eq!(sent.location, "/settings#keys");
    let page = house.send(&mut roots, "GET", "/settings", "", &[]).await;
    assert!(page.text.contains("Noted: the master key is backed up."));
    assert!(!page.text.contains("key_backup_confirm"));
    let page = house.send(&mut roots, "GET", "/secrets", "", &[]).await;
    assert!(!page.text.contains(REMINDER));
}

#[tokio::test]
async fn a_damaged_path_shows_in_the_list_and_has_a_page() {
    let house = Installation::new().await;
    let ann = house.person("ann").await;
    let id = house.world.secret(&ann, "API_KEY", "a value to keep").await;
    house.world.secret(&ann, "OTHER", "a value to keep").await;
    house
        .world
        .sql(&format!(
            "set session_replication_role = replica; update secrets set path = 'no/../path' where id = '{id}'"
        ))
        .await;
    let mut browser = house.signed_in(&ann).await;
    let page = house.send(&mut browser, "GET", "/secrets", "", &[]).await;
    let address = format!("/secrets/ann/damaged-{id}");
    for part in ["OTHER", "Damaged path", &address] {
        assert!(page.text.contains(part), "{part}: {}", page.text);
    }
    let page = house.send(&mut browser, "GET", &address, "", &[]).await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.text.contains("is damaged in the database"));
    let form = format!("id={id}&path=damaged-{id}&rename=API_KEY&kind=api_key");
    let sent = house
        .send(&mut browser, "POST", "/_fn/secret_edit", &form, &[])
        .await;
    assert_eq!(sent.location, "/secrets/ann/API_KEY");
}
