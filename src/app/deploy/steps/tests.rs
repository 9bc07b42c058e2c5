#![allow(clippy::unwrap_used)]
use time::{Duration, OffsetDateTime};

use super::*;
use crate::model::deployments::Bound;
use crate::model::drafts::{DraftForm, DraftPlain};
use crate::model::paths::SecretPath;
use crate::model::secrets::{Kind, SecretSummary};

fn secret(path: &str) -> SecretSummary {
    SecretSummary {
        tags: Vec::new(),
        id: Uuid::now_v7(),
        owner: "ann".into(),
        path: SecretPath::parse(path).unwrap(),
        kind: Kind::ApiKey,
        description: String::new(),
        version: 1,
        changed_at: OffsetDateTime::now_utc(),
        expires_at: None,
        active: true,
        used_by: Vec::new(),
        fetched_by: Vec::new(),
        maskable: true,
        use_only: false,
        level: crate::model::levels::Level::Admin,
    }
}

fn wanted(name: &str, required: bool, suggested: bool) -> WantedVariable {
    WantedVariable {
        name: name.into(),
        description: String::new(),
        required,
        secret: true,
        default: None,
        suggested,
    }
}

fn inspected(variables: Vec<WantedVariable>) -> Draft {
    let found = serde_json::json!({
        "resolved": "npm:x@1.0.0", "title": "X", "description": "", "variables": variables, "notes": [],
        "start": {"runtime": "node", "command": ["x.js"], "transport": {"kind": "stdio"}, "said_by": "package.json (bin)"},
    });
    Draft {
        inspecting: InspectState::Done,
        inspection: Some(serde_json::from_value(found).unwrap()),
        ..Draft::default()
    }
}

fn view_of(draft: Draft, secrets: Vec<SecretRow>) -> DraftView {
    DraftView {
        draft,
        secrets,
        is_cut: false,
        missing: Vec::new(),
        is_admin: false,
        owners: Vec::new(),
        confinement: Vec::new(),
        targets: TARGETS.to_vec(),
        provider_key: None,
        changes: None,
        dockerfile: None,
    }
}

#[test]
fn only_what_a_source_declares_or_needs_is_ticked_at_first() {
    let draft = inspected(vec![
        wanted("DECLARED", false, false),
        wanted("AWS_SECRET_ACCESS_KEY", false, true),
        wanted("NEEDED", true, true),
        wanted("EXPIRED", true, false),
        wanted("OFF", true, false),
    ]);
    let mut known: Vec<_> = [
        "DECLARED",
        "AWS_SECRET_ACCESS_KEY",
        "NEEDED",
        "EXPIRED",
        "OFF",
        "OTHER",
    ]
    .map(secret)
    .into();
    known[3].expires_at = Some(OffsetDateTime::now_utc() - Duration::days(1));
    known[4].active = false;
    let rows = secret_rows(&draft, known.clone());
    let ticks: Vec<_> = rows
        .iter()
        .map(|row| (row.path.as_str(), row.ticked, row.unusable.as_deref()))
        .collect();
    assert_eq!(
        ticks,
        [
            ("DECLARED", true, None),
            ("AWS_SECRET_ACCESS_KEY", false, None),
            ("NEEDED", true, None),
            ("EXPIRED", false, Some("expired")),
            ("OTHER", false, None),
        ]
    );
    // What was ticked and then switched off does not vanish: it is said.
    let mut draft = draft;
    let before = secret_rows(&draft, vec![secret("X")]);
    let ticked = BTreeMap::from([(before[0].key(), "on".to_owned())]);
    read_secrets(&mut draft.form, &before, &ticked, &BTreeMap::new());
    let mut off = secret("X");
    (off.id, off.active) = (before[0].id, false);
    let rows = secret_rows(&draft, vec![off]);
    assert_eq!(
        (rows[0].ticked, rows[0].unusable.as_deref()),
        (true, Some("switched off"))
    );
}

#[test]
fn of_thousands_of_secrets_a_draft_keeps_what_was_chosen() {
    let known: Vec<_> = (0..2_000)
        .map(|n| secret(&format!("project/shop/KEY_{n}")))
        .collect();
    let mut draft = inspected(Vec::new());
    let rows = secret_rows(&draft, known.clone());
    let env: BTreeMap<_, _> = rows
        .iter()
        .enumerate()
        .map(|(n, row)| {
            (
                row.key(),
                if n == 2 {
                    "RENAMED".into()
                } else {
                    row.env.clone()
                },
            )
        })
        .collect();
    let ticked = BTreeMap::from([(rows[1].key(), "on".to_owned())]);
    assert!(read_secrets(&mut draft.form, &rows, &ticked, &env).is_empty());
    let kept: Vec<_> = draft
        .form
        .secrets
        .iter()
        .map(|kept| (kept.env.as_str(), kept.ticked))
        .collect();
    assert_eq!(kept, [("KEY_1", true), ("RENAMED", false)]);
    // They come back as they were.
    let again = secret_rows(&draft, known);
    assert_eq!(
        (again[1].ticked, again[2].env.as_str(), again[3].ticked),
        (true, "RENAMED", false)
    );
}

#[test]
fn what_a_deployment_refuses_stands_at_the_row_of_its_name() {
    let mut draft = inspected(vec![wanted("KEY", true, false)]);
    draft.form.plain.push(DraftPlain {
        env: "LEVEL".into(),
        text: "info".into(),
        kept_plain: false,
    });
    let rows = secret_rows(&draft, vec![secret("KEY")]);
    let id = rows[0].id;
    let view = view_of(draft, rows);
    for (field, place) in [
        ("bindings.KEY", format!("env.{id}")),
        ("bindings.LEVEL", "plain.0.env".to_owned()),
        ("bindings.GONE", "bindings.GONE".to_owned()),
        ("name", "name".to_owned()),
    ] {
        assert_eq!(field_of(&view, field), place);
    }
}

#[test]
fn what_was_not_kept_as_typed_keeps_a_draft_from_being_deployed() {
    let mut draft = inspected(Vec::new());
    draft.form.name = "shop".into();
    assert!(spec(&view_of(draft.clone(), Vec::new())).is_ok());
    for field in ["source", "command", "plain.0.text"] {
        draft.errors = BTreeMap::from([(field.to_owned(), "It was not kept.".to_owned())]);
        let refused = spec(&view_of(draft.clone(), Vec::new()));
        assert_eq!(refused.unwrap_err(), draft.errors, "{field}");
    }
    // What Deploy itself said the last time is looked at anew.
    draft.errors = BTreeMap::from([("name".to_owned(), "The name shop is taken.".to_owned())]);
    assert!(spec(&view_of(draft, Vec::new())).is_ok());
}

#[test]
fn a_new_secrets_path_is_kept_where_it_can_be_one() {
    let typed = |env: &str, path: &str| (env.to_owned(), path.to_owned());
    let paths = BTreeMap::from([
        typed("A", " project/shop/A "),
        typed("B", "B"),
        typed("C", "no path!"),
        typed("D", "ghp_0123456789abcdefghijklmnopqrstuvwxyzAB"),
    ]);
    assert_eq!(
        paths_to_keep(&paths, &[]),
        BTreeMap::from([typed("A", "project/shop/A")])
    );
}

fn typed(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let pairs = pairs.iter();
    pairs
        .map(|(name, said)| ((*name).to_owned(), (*said).to_owned()))
        .collect()
}

#[test]
fn a_target_s_fields_are_kept_unless_they_look_like_a_secret() {
    let mut form = DraftForm {
        target: "render".into(),
        ..Default::default()
    };
    let options = typed(&[
        ("region", "frankfurt"),
        ("owner", "ghp_0123456789abcdefghijklmnopqrstuvwxyzAB"),
        ("command", "not asked for here"),
    ]);
    let errors = read_target(&mut form, "meta/team/render", Some(&options));
    assert_eq!(form.key, "meta/team/render");
    assert_eq!(form.options, typed(&[("region", "frankfurt")]));
    let fields: Vec<_> = errors.keys().map(String::as_str).collect();
    assert_eq!(fields, ["options.owner"]);
    // The usual path is not written down; what may be the key itself is not either.
    let usual = Target::Render.key_path().unwrap();
    assert!(read_target(&mut form, usual, None).is_empty());
    assert!(form.key.is_empty() && form.options.is_empty());
    for key in ["ghp_0123456789abcdefghijklmnopqrstuvwxyzAB", "no path!"] {
        let errors = read_target(&mut form, key, None);
        assert!(form.key.is_empty());
        assert!(!errors["key"].contains(key), "{errors:?}");
        assert!(errors["key"].ends_with("What was typed was not kept."));
    }
    // A path that cannot be one stays to be mended.
    let errors = read_target(&mut form, "meta/no path", None);
    assert!(errors.contains_key("key"));
    assert_eq!(form.key, "meta/no path");
    // What stands there for a provider is nothing to this machine.
    form.target = "local".into();
    assert!(read_target(&mut form, "meta/x", Some(&options)).is_empty());
    assert!(form.key.is_empty() && form.options.is_empty());
    form.target = "kubernetes".into();
    assert!(read_target(&mut form, "", None).contains_key("target"));
}

#[test]
fn a_provider_is_told_what_stands_at_every_step_and_needs_its_key() {
    let mut draft = inspected(Vec::new());
    draft.form.name = "shop".into();
    draft.form.target = "render".into();
    draft.form.command = "node server.mjs".into();
    draft.form.options = typed(&[("region", "ohio")]);
    let mut view = view_of(draft, Vec::new());
    let errors = spec(&view).unwrap_err();
    assert!(errors["key"].contains("meta/render/api_key"), "{errors:?}");
    view.provider_key = Some(Uuid::now_v7());
    let made = spec(&view).unwrap();
    assert_eq!(
        (made.target, made.provider_key),
        (Target::Render, view.provider_key)
    );
    assert_eq!(
        made.options,
        typed(&[("command", "node server.mjs"), ("region", "ohio")])
    );
    // This machine takes neither.
    view.draft.form.target.clear();
    view.draft.form.options.clear();
    let made = spec(&view).unwrap();
    assert_eq!((made.target, made.provider_key), (Target::Local, None));
    assert!(made.options.is_empty());
    // An image runs nowhere until a provider is chosen.
    view.draft.form.source_kind = "image".into();
    assert!(spec(&view).unwrap_err().contains_key("target"));
    // What a target said stands at the field of the wizard.
    assert_eq!(field_of(&view, "options.command"), "command");
    assert_eq!(field_of(&view, "options.region"), "options.region");
    // A field that was not kept keeps it from being deployed, whatever else is in order.
    view.draft.form.source_kind.clear();
    let errors = read_target(&mut view.draft.form.clone(), "", None);
    assert!(errors.contains_key("target"));
    view.draft.errors = BTreeMap::from([("options.owner".into(), format!("Wrong. {NOT_KEPT}"))]);
    assert!(spec(&view).unwrap_err().contains_key("options.owner"));
}

#[test]
fn an_image_is_named_without_its_tag_and_kept_without_a_password() {
    for (reference, name) in [
        ("ghcr.io/owner/server:1.2", "server"),
        ("registry.example:5000/owner/server@sha256:0123", "server"),
        ("server", "server"),
    ] {
        assert_eq!(suggested_name(without_tag(reference)), name);
    }
    let mut form = DraftForm {
        source_kind: "image".into(),
        source: "me:hunter2@ghcr.io/owner/server:1".into(),
        ..Default::default()
    };
    let errors = drop_credentials(&mut form);
    assert!(form.source.is_empty() && errors.contains_key("source"));
    form.source = "ghcr.io/owner/server@sha256:0123".into();
    assert!(drop_credentials(&mut form).is_empty());
    assert!(!form.source.is_empty());
}

#[test]
fn what_each_caller_brings_is_bound_and_goes_to_no_provider() {
    let mut declared = wanted("KEY", true, false);
    declared.description = "The key\nof the shop".into();
    let mut draft = inspected(vec![declared, wanted("OTHER", false, false)]);
    draft.form.name = "shop".into();
    let wanted = draft.inspection.clone().unwrap().variables;
    let marked = typed(&[("KEY", "on"), ("NOT_ASKED_FOR", "on")]);
    let rows = typed(&[("0", " EXTRA_KEY "), ("1", "KEY"), ("2", "")]);
    let (brought, errors) = read_own(&wanted, &marked, &rows);
    assert_eq!(
        (brought.as_slice(), errors.len()),
        (["KEY".to_owned(), "EXTRA_KEY".to_owned()].as_slice(), 0)
    );
    draft.form.per_user = brought;
    let mut view = view_of(draft, Vec::new());
    let unbound: Vec<_> = view
        .unbound()
        .into_iter()
        .map(|wanted| wanted.name)
        .collect();
    assert_eq!(unbound, ["OTHER"]);
    let made = spec(&view).unwrap();
    let bound: Vec<_> = made
        .bindings
        .iter()
        .map(|binding| (binding.env.as_str(), &binding.to))
        .collect();
    let own = |description: &str| Bound::PerUser {
        description: description.into(),
    };
    assert_eq!(
        bound,
        [
            ("KEY", &own("The key of the shop")),
            ("EXTRA_KEY", &own(""))
        ]
    );
    assert_eq!(field_of(&view, "bindings.EXTRA_KEY"), "own.1.env");

    // A name stands once, whoever gives it.
    let rows = secret_rows(&view.draft, vec![secret("KEY")]);
    let ticked = BTreeMap::from([(rows[0].key(), "on".to_owned())]);
    let errors = read_secrets(&mut view.draft.form, &rows, &ticked, &BTreeMap::new());
    assert!(
        errors["own.0.env"].contains("already given by KEY"),
        "{errors:?}"
    );

    view.draft.form.target = "render".into();
    view.draft.form.secrets.clear();
    view.provider_key = Some(Uuid::now_v7());
    let errors = spec(&view).unwrap_err();
    assert!(
        errors["own.0.env"].contains("one environment for everybody"),
        "{errors:?}"
    );
    assert_eq!(not_there(&view.draft.form).map(|(i, _)| i), Some(0));
}

#[test]
fn what_can_be_no_name_is_said_and_not_kept() {
    for bad in ["MY KEY", "ghp_0123456789abcdefghijklmnopqrstuvwxyzAB"] {
        let (brought, errors) = read_own(&[], &BTreeMap::new(), &typed(&[("0", bad)]));
        assert!(brought.is_empty());
        assert!(errors["bindings.own"].ends_with(NOT_KEPT), "{errors:?}");
        assert!(!errors["bindings.own"].contains(bad));
    }
}

#[test]
fn a_plain_row_is_untouched_with_no_text_or_the_one_that_was_offered() {
    let mut level = wanted("LEVEL", false, false);
    level.default = Some("info".into());
    let untouched = |text: &str| {
        is_untouched(
            std::slice::from_ref(&level),
            "LEVEL",
            Some(&Typed::from(text.to_owned())),
        )
    };
    assert_eq!(
        (untouched(""), untouched("info"), untouched("debug")),
        (true, true, false)
    );
    assert!(!is_untouched(
        &[],
        "LEVEL",
        Some(&Typed::from("info".to_owned()))
    ));
    assert!(is_untouched(&[], "LEVEL", None));
}

#[test]
fn an_offered_plain_variable_without_a_text_gives_nothing() {
    let mut level = wanted("LEVEL", false, false);
    level.secret = false;
    let mut host = wanted("HOST", true, false);
    host.secret = false;
    let mut draft = inspected(vec![host, level]);
    draft.form.name = "shop".into();
    let names = typed(&[("0", "HOST"), ("1", "LEVEL"), ("2", "OWN"), ("3", "")]);
    let texts = ["0", "1", "2", "3"].map(|row| (row.to_owned(), Typed::default()));
    let offered = draft.inspection.clone().unwrap().variables;
    let (rows, errors) = read_plain(
        &names,
        &BTreeMap::from(texts),
        &BTreeMap::new(),
        &offered,
        &[],
    );
    let kept: Vec<_> = rows.iter().map(|row| row.env.as_str()).collect();
    assert_eq!((kept.as_slice(), errors.len()), (["OWN"].as_slice(), 0));

    // A draft of before may have such rows: what is missing is not bound at the same time.
    draft.form.plain = ["HOST", "LEVEL", "OWN"]
        .map(|env| DraftPlain {
            env: env.into(),
            ..DraftPlain::default()
        })
        .into();
    let view = view_of(draft, Vec::new());
    let given: Vec<_> = view
        .given_plain()
        .map(|(row, plain)| (row, plain.env.as_str()))
        .collect();
    assert_eq!(given, [(2, "OWN")]);
    let unbound: Vec<_> = view.unbound().into_iter().map(|one| one.name).collect();
    assert_eq!(unbound, ["HOST", "LEVEL"]);
    let bound = spec(&view).unwrap().bindings;
    let bound: Vec<_> = bound.iter().map(|one| one.env.as_str()).collect();
    assert_eq!(bound, ["OWN"]);
}

#[test]
fn a_token_that_slipped_into_a_source_or_a_name_is_not_kept() {
    let token = "ghp_0123456789abcdefghijklmnopqrstuvwxyzAB";
    let form = |kind: &str, parts: [&str; 4]| {
        let [source, version, reference, folder] = parts.map(str::to_owned);
        let source_kind = kind.to_owned();
        DraftForm {
            source_kind,
            source,
            version,
            reference,
            folder,
            ..DraftForm::default()
        }
    };
    let git = "https://host/owner/x";
    for (kind, parts, field) in [
        ("npm", [token, "", "", ""], "source"),
        ("dir", [token, "", "", ""], "source"),
        ("image", [token, "", "", ""], "source"),
        ("pypi", ["mcp-server-time", token, "", ""], "version"),
        ("git", [git, "", token, ""], "reference"),
        ("git", [git, "", "main", token], "folder"),
    ] {
        let mut form = form(kind, parts);
        let errors = drop_credentials(&mut form);
        let fields: Vec<_> = errors.keys().map(String::as_str).collect();
        assert_eq!(fields, [field], "{kind}");
        assert!(errors[field].ends_with(NOT_KEPT));
        let stored = serde_json::to_string(&(form, errors)).unwrap();
        assert!(!stored.contains(token), "{stored}");
    }
    // Typed for another kind, it is gone without a word: the field does not show.
    let mut switched = form("npm", ["x", "", token, token]);
    assert!(drop_credentials(&mut switched).is_empty());
    assert!(switched.reference.is_empty() && switched.folder.is_empty());
    // Names, versions and commits that are long are none.
    let commit = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b";
    for (kind, parts) in [
        ("npm", ["key-value-store-server", "", "", ""]),
        ("npm", ["@modelcontextprotocol/server-k8s-2fa", "", "", ""]),
        ("npm", ["x", "0.0.0-canary-9f86d081884c7d659a2f", "", ""]),
        ("pypi", ["pypi-query-mcp-server", "2026.1.1", "", ""]),
        ("git", [git, "", commit, "servers/time"]),
        ("git", [git, "", "key-rotation-and-more", ""]),
        ("dir", ["/srv/9f86d081884c7d659a2feaa0c55ad015", "", "", ""]),
    ] {
        let mut typed = form(kind, parts);
        let before = typed.clone();
        assert!(drop_credentials(&mut typed).is_empty(), "{parts:?}");
        assert_eq!(typed, before);
    }
    assert!(is_slipped(token) && !is_slipped("server-everything"));
}

#[test]
fn a_row_that_is_kept_plain_takes_another_text_with_its_tick() {
    let row = |said: &str| BTreeMap::from([("0".to_owned(), said.to_owned())]);
    let (first, second) = (
        "ghp_0123456789abcdefghijklmnopqrstuvwxyzAB",
        "ghp_abcdefghijklmnopqrstuvwxyzAB0123456789",
    );
    let read = |text: &str, keep: bool, before: &[DraftPlain]| {
        let text = BTreeMap::from([("0".to_owned(), Typed::from(text.to_owned()))]);
        let keep = if keep { row("on") } else { BTreeMap::new() };
        read_plain(&row("SAMPLE"), &text, &keep, &[], before)
    };
    // Ticked without having been asked: the row is new.
    let (doubted, errors) = read(first, true, &[]);
    assert!(errors.contains_key("plain.0.text") && doubted[0].text.is_empty());
    let (kept, errors) = read(first, true, &doubted);
    assert!(errors.is_empty() && kept[0].kept_plain);
    let (changed, errors) = read(second, true, &kept);
    assert_eq!((changed[0].text.as_str(), errors.len()), (second, 0));
    // Without the tick it is asked about anew.
    let (dropped, errors) = read(second, false, &changed);
    assert!(errors.contains_key("plain.0.text") && dropped[0].text.is_empty());
}

#[test]
fn a_suggested_name_goes_with_the_source() {
    let form = |kind: &str, source: &str| DraftForm {
        source_kind: kind.into(),
        source: source.into(),
        ..DraftForm::default()
    };
    assert_eq!(name_for(&form("npm", "@scope/server-one")), "server-one");
    assert_eq!(name_for(&form("image", "ghcr.io/me/two:1.2")), "two");
    assert_eq!(name_for(&DraftForm::default()), "");
    let mut named = DraftForm::default();
    for (name, source, next) in [
        ("", "one", "one"),
        ("server-one", "other", "other"),
        ("mine", "other", "mine"),
    ] {
        let before = DraftForm {
            name: name.into(),
            ..form("npm", "@scope/server-one")
        };
        named.source = source.into();
        named.name = name.into();
        rename(&mut named, &before);
        assert_eq!(named.name, next);
    }
}

#[test]
fn a_draft_from_a_deployment_has_all_of_it_and_changes_what_is_another() {
    let (seen_id, unseen_id) = (Uuid::now_v7(), Uuid::now_v7());
    let bound = |env: &str, to: Bound| crate::model::deployments::Binding {
        env: crate::model::paths::EnvName::parse(env).unwrap(),
        to,
    };
    let mut draft = inspected(Vec::new());
    draft.form.name = "shop".into();
    let mut before = spec(&view_of(draft.clone(), Vec::new())).unwrap();
    before.options = typed(&[("memory_mb", "512")]);
    before.bindings = vec![
        bound("SEEN_KEY", Bound::Secret { id: seen_id }),
        bound("UNSEEN_KEY", Bound::Secret { id: unseen_id }),
        bound(
            "LEVEL",
            Bound::Text {
                text: "info".into(),
            },
        ),
        bound(
            "OWN_KEY",
            Bound::PerUser {
                description: String::new(),
            },
        ),
    ];
    draft.form = form_of(&before);
    assert_eq!(draft.form.source().unwrap(), before.source);
    assert_eq!(draft.form.changed_deployment(), Some("shop"));
    let mut known = secret("SEEN_KEY");
    known.id = seen_id;
    let rows = secret_rows(&draft, vec![known]);
    let mut view = view_of(draft, rows);
    let in_sight = view.secrets.iter().map(|row| row.id).collect();
    let change = |view: &DraftView| {
        let asked = spec(view).unwrap();
        change_of(&view.draft.form, &before, &asked, &in_sight)
    };
    let names = |of: &[crate::model::deployments::Binding]| {
        let mut names: Vec<_> = of.iter().map(|one| one.env.to_string()).collect();
        names.sort();
        names
    };
    // With nothing touched, the code and what the target was told stay, and so does what is not in sight.
    let same = change(&view);
    assert!(same.source.is_none() && same.options.is_none() && same.fetch_key.is_none());
    assert_eq!(names(&same.bindings.unwrap()), names(&before.bindings));

    view.secrets[0].ticked = false;
    view.draft.form.plain.clear();
    view.draft.form.options.clear();
    view.draft.form.command = "node other.mjs".into();
    let other = change(&view);
    assert!(other.source.is_some() && other.options.is_some_and(|options| options.is_empty()));
    assert_eq!(names(&other.bindings.unwrap()), ["OWN_KEY", "UNSEEN_KEY"]);
    // Under another name it is a new one.
    view.draft.form.name = "shop-two".into();
    assert_eq!(view.draft.form.changed_deployment(), None);
}

#[test]
fn what_a_source_asks_for_is_looked_for_beyond_a_cut_list() {
    let mut draft = inspected(vec![wanted("API_KEY", true, false)]);
    let listed = secret("FIRST");
    let chosen = secret("service/zoo/CHOSEN");
    for (secret, env) in [(&listed, "FIRST"), (&chosen, "OTHER_NAME")] {
        draft.form.secrets.push(crate::model::drafts::DraftSecret {
            id: secret.id,
            path: format!("ann:{}", secret.path),
            env: env.into(),
            ticked: true,
        });
    }
    let names: Vec<_> = names_to_find(&draft, &[listed]).into_iter().collect();
    assert_eq!(names, ["API_KEY", "CHOSEN"]);
    assert!(is_meant(&draft, &secret("service/zoo/API_KEY")));
    assert!(is_meant(&draft, &chosen));
    // The search finds parts of paths as well.
    assert!(!is_meant(&draft, &secret("service/zoo/MY_API_KEY_OLD")));
}
