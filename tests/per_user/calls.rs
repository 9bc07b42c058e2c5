//! A thousand calls of two people, interleaved, by a real package: each reaches the far service with its caller's own key.

use futures::StreamExt as _;
use futures::stream;
use sealport::deploy::CallersLimits;
use sealport::model::levels::Level;
use sealport::model::sources::Source;
use serde_json::json;

use super::far::Far;
use super::house::{House, brought};
use crate::world;

const CALLS: usize = 1_000;
const AT_ONCE: usize = 16;

#[tokio::test]
async fn a_thousand_calls_of_two_people_run_each_with_its_own_key() {
    let house = House::new(CallersLimits::default()).await;
    let far = Far::new().await;
    let mut spec = world::spec(
        "gitlab",
        vec![
            brought("GITLAB_PERSONAL_ACCESS_TOKEN"),
            world::text(
                "GITLAB_API_URL",
                &format!("http://host.sealport.internal:{}/api/v4", far.port),
            ),
        ],
    );
    spec.source = Source::parse("npm:@modelcontextprotocol/server-gitlab@2025.4.25").unwrap();
    spec.start.command = vec!["node_modules/.bin/mcp-server-gitlab".into()];
    let name = house.deploy(&spec).await;
    let bob = house.world.user("bob").await;
    house.share(&name, "bob", Level::Use).await;

    let people = [
        ("ada", &house.ada, "glpat-Adas-own-7Yk2"),
        ("bob", &bob, "glpat-Bobs-own-3Qz9"),
    ];
    let mut clients = Vec::new();
    for (_, who, key) in people {
        house
            .connect(who, &name, "GITLAB_PERSONAL_ACCESS_TOKEN", key)
            .await;
        let mut client = house.client(who, &name).await;
        let begun = client.begin(json!({})).await;
        assert_eq!(begun.status, 200, "{begun:?}");
        clients.push(client);
    }
    let calls = (0..CALLS).map(|number| {
        let (whose, client) = (number % 2, &clients[number % 2]);
        async move {
            let search = format!("{}-{number}", people[whose].0);
            let answer = client
                .call("search_repositories", json!({"search": search}))
                .await;
            assert_eq!(answer.status, 200, "{answer:?}");
            assert!(answer.message.get("error").is_none(), "{answer:?}");
        }
    });
    stream::iter(calls)
        .buffer_unordered(AT_ONCE)
        .collect::<Vec<()>>()
        .await;

    let heard = far.take();
    let mut of = [0, 0];
    for one in &heard {
        let whose = people
            .iter()
            .position(|(who, ..)| one.query.contains(&format!("search={who}-")))
            .unwrap_or_else(|| panic!("nobody asked {one:?}"));
        assert_eq!(one.key, people[whose].2, "{}", one.query);
        of[whose] += 1;
    }
    println!(
        "{} calls of Ada with her key, {} of Bob with his, none crossed",
        of[0], of[1]
    );
    assert_eq!(of, [CALLS / 2, CALLS / 2]);
    house.end().await;
}
