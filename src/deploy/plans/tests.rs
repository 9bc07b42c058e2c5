#![allow(clippy::unwrap_used, clippy::expect_used)]
use super::*;
use crate::model::actors::Job;
use crate::model::paths::EnvName;
use crate::model::plans::BindingRequest;
use crate::model::sources::{Runtime, Source, StartPlan, Transport, WantedVariable};

fn text(env: &str, text: &str, plain: bool) -> BindingRequest {
    BindingRequest {
        env: env.into(),
        text: Some(text.into()),
        plain,
        ..BindingRequest::default()
    }
}

fn weighed(bindings: Vec<BindingRequest>) -> Weighed {
    let request = DeployRequest {
        name: "shop".into(),
        source: "npm:shop".into(),
        bindings,
        ..DeployRequest::default()
    };
    let mut plan = Plan::default();
    let parts = Parts::of_new(&Caller::job(Job::Operator), &request, &mut plan);
    Weighed {
        plan,
        parts,
        name: None,
        answered: None,
        stands: None,
    }
}

/// Its variables: required, secret, with a default, suggested.
fn found(variables: &[(&str, bool, bool, bool, bool)]) -> Inspection {
    let wanted =
        |(name, required, secret, has_default, suggested): &(&str, bool, bool, bool, bool)| {
            WantedVariable {
                name: (*name).into(),
                description: String::new(),
                required: *required,
                secret: *secret,
                default: has_default.then(|| "x".into()),
                suggested: *suggested,
            }
        };
    Inspection {
        resolved: Source::parse("npm:shop@1.0.0").unwrap(),
        title: "Shop".into(),
        description: String::new(),
        start: StartPlan {
            runtime: Runtime::Node,
            command: vec!["shop.js".into()],
            transport: Transport::Stdio,
            said_by: "package.json (bin)".into(),
            wants: Vec::new(),
        },
        variables: variables.iter().map(wanted).collect(),
        notes: Vec::new(),
    }
}

#[test]
fn what_a_source_requires_is_missing_until_something_is_bound_to_it() {
    let variables = found(&[
        ("MUST", true, false, false, false),
        ("MAY", false, false, false, false),
        ("HAS_ONE", true, false, true, false),
        ("GUESSED", true, false, false, true),
    ]);
    let mut none = weighed(Vec::new());
    none.take(&variables);
    let missing: Vec<_> = none.plan.missing.iter().map(|lack| &lack.field).collect();
    assert_eq!(missing, ["bindings.MUST"]);
    assert!(!none.plan.is_ready());
    assert_eq!(none.plan.found.unwrap().variables.len(), 4);

    let mut bound = weighed(vec![text("MUST", "loud", false)]);
    bound.take(&variables);
    assert!(bound.plan.is_ready(), "{:?}", bound.plan);
    assert_eq!(bound.plan.bound.len(), 1);
}

#[test]
fn many_unknown_options_are_one_refusal_and_what_is_refused_is_not_bound() {
    let options = |names: Vec<String>| DeployRequest {
        name: "shop".into(),
        source: "npm:shop".into(),
        options: names.into_iter().map(|name| (name, "x".into())).collect(),
        bindings: vec![text("PATH", "/", false), text("sk-live 4242", "/", false)],
        ..DeployRequest::default()
    };
    let many = (0..10_000).map(|number| format!("sk_live_{number} {number}"));
    for (names, said) in [(many.collect(), false), (vec!["region".to_owned()], true)] {
        let mut plan = Plan::default();
        Parts::of_new(&Caller::job(Job::Operator), &options(names), &mut plan);
        let fields: Vec<_> = plan.refused.iter().map(|lack| &lack.field).collect();
        assert_eq!(fields, ["options", "bindings.PATH", "bindings"]);
        let detail = &plan.refused[0].says;
        assert_eq!(detail.contains("region"), said, "{detail}");
        let all = plan.refusal().unwrap().detail;
        assert!(
            !all.contains("sk_live") && !all.contains("sk-live"),
            "{all}"
        );
        assert!(plan.refused[2].says.starts_with("Binding 2: "));
    }
    let mut asked = weighed(vec![
        text("API_KEY", "a value of its own", false),
        text("MODE", "loud", false),
    ]);
    asked.take(&found(&[]));
    assert_eq!(asked.plan.bound, [EnvName::parse("MODE").unwrap()]);
}

#[test]
fn what_a_target_is_told_is_read_without_what_looks_like_a_secret() {
    let options = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        let pairs = pairs.iter();
        pairs
            .map(|(name, said)| ((*name).to_owned(), (*said).to_owned()))
            .collect()
    };
    let typed = options(&[
        ("region", " frankfurt "),
        ("owner", "ghp_0123456789abcdefghijklmnopqrstuvwxyzAB"),
        ("plan", ""),
    ]);
    let told = read_told(Target::Render, "", &typed);
    assert_eq!(told.options, options(&[("region", "frankfurt")]));
    assert_eq!(
        told.key.map(|key| key.to_string()).as_deref(),
        Target::Render.key_path()
    );
    let fields: Vec<_> = told.wrong.iter().map(|wrong| wrong.field.clone()).collect();
    assert_eq!(fields, [Some("options.owner".to_owned())]);
    let told = read_told(Target::Render, "not a path!", &options(&[]));
    assert_eq!(told.wrong[0].field.as_deref(), Some("key"));
    assert!(told.key.is_none());
    let told = read_told(Target::Local, "", &options(&[]));
    assert!(told.key.is_none() && told.wrong.is_empty());
}

#[test]
fn what_a_source_calls_a_secret_is_no_plain_text_unless_somebody_says_so() {
    let variables = found(&[("SHOP_PIN", false, true, false, false)]);
    for (text_of, plain, refused) in [
        ("12345", false, true),
        ("12345", true, false),
        ("", false, false),
    ] {
        let mut asked = weighed(vec![text("SHOP_PIN", text_of, plain)]);
        asked.take(&variables);
        assert_eq!(
            !asked.plan.refused.is_empty(),
            refused,
            "{text_of:?} {plain}"
        );
    }
    // Said once, where the name and the text say so already.
    let mut asked = weighed(vec![text("API_KEY", "a value of its own", false)]);
    asked.take(&found(&[("API_KEY", false, true, false, false)]));
    assert_eq!(asked.plan.refused.len(), 1, "{:?}", asked.plan.refused);
}
