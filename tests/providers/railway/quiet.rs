//! Nothing prints a key or a value: no error, no type, no line of a log, even when Railway quotes what it was sent.

use sealport::deploy::masks::MASK;
use sealport::deploy::providers::railway::{LogPosition, WorkspaceId};

use super::*;
use crate::fakes::heard::Heard;

/// Pieces of what must not be seen: of the value, and of each key.
const PIECES: [&str; 3] = ["canary-9", "5d1c7a90", "a4471e6c"];

fn seen(text: &str) -> Vec<&'static str> {
    let found = PIECES.iter().filter(|piece| text.contains(*piece));
    found.copied().collect()
}

#[tokio::test]
async fn no_key_and_no_value_is_printed() {
    let heard = Heard::listen();
    let mut shown = String::new();
    let mut quoted = 0;
    for (key, kind) in [
        (ACCOUNT_KEY, TokenKind::Account),
        (PROJECT_KEY, TokenKind::Project),
    ] {
        let house = House::with_key(key).await;
        let place = house.made("shop").await;
        let given = values(&[("API_KEY", VALUE), ("KEY_AS_VALUE", key)]);
        let masks = Masks::new(given.iter().map(|(_, value)| value));
        let source = image();
        let new = house.service("other", Some(&source));
        let workspace = WorkspaceId::from("workspace-1".to_owned());
        for field in ["serviceCreate", "variableCollectionUpsert", "projects"] {
            let fault = |fault: Option<Fault>| match fault {
                Some(fault) => house.fake.will(field, fault),
                None => house.fake.state().echoes = Some(field.to_owned()),
            };
            for told in [
                None,
                Some(Fault::Echo),
                Some(Fault::Cut),
                Some(Fault::CutWithin),
                Some(Fault::status(401)),
                Some(Fault::status(500)),
                Some(Fault::limited("retry-after", 3600)),
                Some(Fault::Html(200)),
                Some(Fault::Text(format!(
                    "{{\"data\":{{\"it\":\"{key} {VALUE}\"}}}}"
                ))),
            ] {
                let quotes = matches!(told, None | Some(Fault::Echo));
                fault(told);
                let trouble = match field {
                    "serviceCreate" => house.railway.service_create(&new, &given).await.err(),
                    "projects" => house
                        .railway
                        .projects_named(Some(&workspace), "x")
                        .await
                        .err(),
                    _ => house
                        .railway
                        .variables_set(&place, &given, false)
                        .await
                        .err(),
                };
                let Some(trouble) = trouble else {
                    continue;
                };
                shown += &format!("{trouble}\n{trouble:?}\n");
                let masked = trouble.masked(&masks);
                shown += &format!("{masked}\n{masked:?}\n");
                quoted += usize::from(quotes && masked.to_string().contains(MASK));
            }
        }
        assert_eq!(house.railway.kind().await.unwrap(), kind);

        let id = house.latest(&place).await;
        let line = (time::OffsetDateTime::UNIX_EPOCH, format!("key is {VALUE}"));
        house
            .fake
            .state()
            .deployment(id.as_str())
            .run_log
            .push(line);
        let mut position = LogPosition::default();
        let read = house
            .railway
            .run_logs(&id, &mut position, None)
            .await
            .unwrap();
        assert!(read.lines[0].message.contains(VALUE));
        let names = house.railway.variable_names(&place).await.unwrap();
        shown += &format!("{new:?} {place:?} {read:?} {position:?} {names:?}\n");
        shown += &format!("{:?}\n", house.railway);
    }
    assert!(quoted >= 8, "Railway quoted what it was sent: {quoted}");
    assert_eq!(seen(&shown), Vec::<&str>::new(), "{shown}");
    let heard = heard.text();
    assert!(heard.contains("asked in vain") && heard.contains("TRACE"));
    assert_eq!(seen(&heard), Vec::<&str>::new());
}
