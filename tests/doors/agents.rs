//! What the dashboard has for agents: how to connect one, for everybody, and the administrators' switch. Forms alone, no JavaScript.

use sealport::model::actors::{Actor, Caller, Origin};
use sealport::model::users::Email;
use secrecy::SecretString;

use crate::{Browser, Installation, OURS, PASSWORD};

const SWITCH: &str = "Values may leave by MCP";

#[tokio::test]
async fn everybody_connects_agents_and_administrators_keep_values_from_them() {
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

    let page = house.send(&mut anns, "GET", "/tokens", "", &[]).await;
    assert!(page.text.contains("Connect an agent"), "{}", page.text);
    let address = format!("{OURS}/mcp");
    for client in [
        "Claude Code",
        "Claude Desktop",
        "Cursor",
        "VS Code",
        "Windsurf",
    ] {
        assert!(page.text.contains(client), "{client}");
    }
    assert!(page.text.contains(&address));
    // No token in a command: it would stay in a shell's history.
    assert!(page.text.contains("Bearer ${SEALPORT_TOKEN}"));
    assert!(!page.text.contains("mcp add"));
    assert!(page.text.contains("list_secrets"));
    assert!(
        !page.text.contains("sp_"),
        "no token stands in a configuration"
    );

    assert!(!settings(&house, &mut anns).await.contains(SWITCH));
    let shown = settings(&house, &mut roots).await;
    let ticked = |page: &str| {
        let (before, _) = page.split_once(SWITCH).unwrap();
        before.rsplit_once("<input").unwrap().1.contains("checked")
    };
    assert!(ticked(&shown), "as long as nobody decided otherwise");
    for (form, told, on) in [
        ("", "No tool of MCP tells a value", false),
        ("on=true", "Agents get values by MCP", true),
    ] {
        let sent = house
            .send(&mut roots, "POST", "/_fn/mcp_reveal", form, &[])
            .await;
        assert_eq!(sent.location, "/settings#agents");
        let shown = settings(&house, &mut roots).await;
        assert!(shown.contains(told), "{shown}");
        assert_eq!(ticked(&shown), on);
        assert_eq!(house.world.db.mcp_reveals(&root).await.unwrap(), on);
    }
}

async fn settings(house: &Installation, browser: &mut Browser) -> String {
    house.send(browser, "GET", "/settings", "", &[]).await.text
}
