//! Which commands let a value out: `get`, `export` and `run`, and no other, whatever happens.

use sealport::model::levels::Level;

use crate::served::{Ran, Served};
use crate::world::brought;

/// Of a value that would pass for the name of a variable.
const NAME_LIKE: &str = "sk_live_Canary_of_leaks";
const CANARY: &str = "Canary/of+leaks=%?&'\"x0123456789";

/// Whether it holds 8 or more characters in a row of it, in plain, base64, hex or URL form.
fn leaks(ran: &Ran) -> bool {
    use base64::Engine;
    let mut forms = vec![CANARY.to_owned(), hex::encode(CANARY)];
    for before in 0..3 {
        let shifted = format!("{}{CANARY}", "x".repeat(before));
        let encoded = base64::engine::general_purpose::STANDARD.encode(shifted);
        forms.push(encoded[4..].to_owned());
    }
    forms.push(url::form_urlencoded::byte_serialize(CANARY.as_bytes()).collect());
    forms.push(serde_json::to_string(CANARY).unwrap());
    let said = format!("{}{}", ran.out, ran.err);
    if said.contains(NAME_LIKE) {
        return true;
    }
    forms.iter().any(|form| {
        let characters: Vec<char> = form.chars().collect();
        characters
            .windows(8)
            .any(|part| said.contains(&part.iter().collect::<String>()))
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn only_get_export_and_run_print_a_value() {
    let served = Served::up().await;
    let anna = served.world.user("anna").await;
    let shell = served.shell(&anna, Level::Admin).await;
    let env = format!("KEY='{}'\nOTHER=\"{}\n", CANARY.replace('\'', ""), CANARY);
    std::fs::write(shell.dir().join("mixed.env"), env).unwrap();
    std::fs::write(shell.dir().join("KEY.secret"), CANARY).unwrap();
    std::fs::write(
        shell.dir().join("broken.json"),
        format!("{{\"A\": \"{CANARY}"),
    )
    .unwrap();
    std::fs::write(
        shell.dir().join("broken.yaml"),
        format!("A: \"{CANARY}\nB: {CANARY}: x"),
    )
    .unwrap();

    served
        .world
        .deployment(&anna, "desk", vec![brought("DESK_KEY")])
        .await;
    let silent: &[&[&str]] = &[
        &["secret", "set", "project/shop/KEY"],
        &["secret", "set", "project/shop/KEY", "--json"],
        &["secret", "set", "project/shop/KEY", CANARY],
        &["secret", "set", "project/shop/KEY", "--value", CANARY],
        &["secret", "set", "project/shop/KEY", &format!("--{CANARY}")],
        &["secret", "set", "project/shop/KEY", &format!("-{CANARY}")],
        &[
            "secret",
            "set",
            &format!("--value={CANARY}"),
            "project/shop/KEY",
        ],
        &["secret", "set", "--value", CANARY, "project/shop/KEY"],
        &["secret", "set", &format!("--{CANARY}"), "project/shop/KEY"],
        &["secret", "set", &format!("-{CANARY}"), "project/shop/KEY"],
        &["secret", "set", "--description", &format!("--{CANARY}")],
        &["secret", "set", &format!("KEY={CANARY}")],
        &["secret", "set", CANARY],
        &["secret", "set", "project/shop/KEY", "--expires", CANARY],
        &["secret", "set", "project/shop/KEY", "--kind", CANARY],
        &["secret", "check", CANARY],
        &["secret", "set", "project/shop/KEY", "--new"],
        &["secret", "set", "project/shop/../KEY"],
        &[
            "secret",
            "set",
            "project/shop/CERT",
            "--kind",
            "certificate",
        ],
        &["secret", "set", "project/shop/JSON", "--kind", "json"],
        &[
            "secret",
            "set",
            "project/shop/URL",
            "--kind",
            "database_url",
        ],
        &["secret", "check", "project/shop/KEY"],
        &["secret", "check", "project/shop/KEY", CANARY],
        &["secret", "list"],
        &["secret", "list", "--json"],
        &["secret", "show", "project/shop/KEY", "--json"],
        &["secret", "history", "project/shop/KEY", "--json"],
        &["secret", "rollback", "project/shop/KEY", "1", "--json"],
        &["secret", "off", "project/shop/KEY", "--json"],
        &["secret", "get", "project/shop/KEY"],
        &["secret", "on", "project/shop/KEY", "--json"],
        &["secret", "due", "--json"],
        &["import", "mixed.env", "--under", "project/x", "--dry-run"],
        &[
            "import",
            "KEY.secret",
            "--under",
            "project/shop",
            "--dry-run",
            "--json",
        ],
        &[
            "import",
            "KEY.secret",
            "--under",
            "project/shop",
            "--verify",
        ],
        &["import", "broken.json", "--under", "project/shop"],
        &["import", "broken.yaml", "--under", "project/shop"],
        &["login", CANARY],
        &[
            "deploy",
            "x",
            "--source",
            "npm:x",
            "--bind",
            &format!("DB={CANARY}"),
        ],
        &["deploy", "x", "--source", "npm:x", CANARY],
        &[
            "import",
            "--from-env",
            &format!("KEY={CANARY}"),
            "--under",
            "",
        ],
        &[
            "import",
            "mixed.env",
            &format!("KEY={CANARY}"),
            "--under",
            "",
        ],
        &["connect", "desk"],
        &["connect", "desk", "DESK_KEY"],
        &["connect", "desk", "DESK_KEY", "--json"],
        &["connect", "desk", "DESK_KEY", "--exact", "--json"],
        &["connect", "desk", "DESK_KEY", CANARY],
        &["connect", "desk", "DESK_KEY", "--value", CANARY],
        &["connect", "desk", "DESK_KEY", &format!("--{CANARY}")],
        &["connect", "desk", &format!("--value={CANARY}"), "DESK_KEY"],
        &["connect", "desk", &format!("DESK_KEY={CANARY}")],
        &["connect", "desk", CANARY],
        &["connect", "desk", NAME_LIKE],
        &["connect", CANARY, "DESK_KEY"],
        &["connect", "desk", "DESK_KEY", "--kept", "--json"],
        &["secret", "get", "service/desk/DESK_KEY"],
        &["secret", "get", "service/desk/DESK_KEY", "--version", "1"],
        &["export", "--under", "service/desk", "--format", "json"],
        &["run", "--under", "service/desk", "--", "env"],
        &["secret", "rollback", "service/desk/DESK_KEY", "1", "--json"],
        &["secret", "get", "service/desk/DESK_KEY", "--json"],
        &["run", "--under", CANARY, "--", "true"],
        &["share", "project/shop/KEY", CANARY],
        &["secret", "get", &format!("KEY={CANARY}")],
        &[
            "secret",
            "rename",
            "project/shop/KEY",
            "project/shop/NEW",
            "--json",
        ],
        &[
            "secret",
            "rename",
            "project/shop/NEW",
            "project/shop/KEY",
            "--json",
        ],
    ];
    for arguments in silent {
        let ran = shell.run_with(arguments, CANARY).await;
        assert!(!leaks(&ran), "{arguments:?}: {}{}", ran.out, ran.err);
    }
    let loud: &[&[&str]] = &[
        &["secret", "get", "project/shop/KEY"],
        &["secret", "get", "project/shop/KEY", "--json"],
        &["export", "--under", "project/shop", "--format", "json"],
        &["export", "--under", "project/shop", "--format", "shell"],
        &["run", "--under", "project/shop", "--", "env"],
    ];
    for arguments in loud {
        let ran = shell.run(arguments).await;
        assert!(
            ran.status == 0 && leaks(&ran),
            "{arguments:?}: {}{}",
            ran.out,
            ran.err
        );
    }
    let ran = shell
        .run(&["run", "--under", "project/shop", "--redact", "--", "env"])
        .await;
    assert!(ran.status == 0 && !leaks(&ran), "{}", ran.out);
    // Nor with `use`, from any of them.
    let shell = served.shell(&anna, Level::Use).await;
    for arguments in loud {
        let ran = shell.run(arguments).await;
        assert!(
            ran.status != 0 && !leaks(&ran),
            "{arguments:?}: {}{}",
            ran.out,
            ran.err
        );
    }
}
