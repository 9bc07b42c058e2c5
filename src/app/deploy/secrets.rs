//! Step 2: which secrets the server gets, under which names, and its plain variables.

use leptos::prelude::*;

use super::own::each_callers_own;
use super::steps::{DraftSecrets, DraftView, SECRETS_FORM as FORM, SecretRow};
use super::{STEP_FORM, alert, step_page, wrong};
use crate::app::fields::TextField;
use crate::app::frame::{Folding, Section};
use crate::app::icons::Icon;
use crate::app::value_field::ValueField;
use crate::app::wire::{Flash, Opened};
use crate::model::drafts::DraftPlain;
use crate::model::secrets::TOO_SHORT;
use crate::model::sources::WantedVariable;

/// Empty rows for plain variables beyond those that are filled.
const SPARE_ROWS: usize = 2;

#[component]
pub fn SecretsStepPage() -> impl IntoView {
    step_page("secrets", |draft, opened| {
        view! {
            {alert(draft, "secrets")}
            {form(draft, opened)}
        }
    })
}

/// One form for the whole step: whichever button is pressed, ticks, names and texts are kept, and what was typed as
/// the value of a new secret is sealed.
fn form(draft: &DraftView, opened: &Opened) -> impl IntoView + use<> {
    let action = ServerAction::<DraftSecrets>::new();
    // What the source asks for stands first.
    let mut rows = draft.secrets.clone();
    rows.sort_by_key(|row| (row.asked.is_none(), !row.ticked, row.path.clone()));
    let none = rows.is_empty();
    let secrets = rows
        .into_iter()
        .map(|row| {
            let error = wrong(draft, &format!("env.{}", row.id));
            secret_row(row, error)
        })
        .collect_view();
    let flash = opened.flash_of(FORM);
    let plain = plain_rows(draft, &flash);
    let own = each_callers_own(draft);
    let (missing, optional) = (missing(draft, &flash), optional(draft, &flash));
    let id = draft.draft.id.to_string();
    let cut = draft.is_cut.then(|| {
        view! {
            <p class="text-amber">
                "Only the first 2,000 secrets by path are listed here, and those that the source asks for by name."
            </p>
        }
    });
    view! {
        <ActionForm action attr:id=STEP_FORM attr:class="flex flex-col gap-5">
            <input type="hidden" name="id" value=id />
            {missing}
            <Section title="Secrets" id="secrets">
                <p class="text-dim">
                    "The server reads each ticked secret as an environment variable. The value is not shown again here; where all of it stands in the server’s log, it is masked."
                </p>
                {none
                    .then(|| {
                        view! {
                            <p>
                                "You have no secrets yet. "
                                <a class="link" href="/secrets/new">
                                    "Add one"
                                </a> ", then come back: the draft waits."
                            </p>
                        }
                    })}
                {cut}
                <ul class="flex flex-col divide-y divide-base-300">{secrets}</ul>
            </Section>
            {optional}
            {own}
            <Section title="Plain variables" id="plain">
                <p class="text-dim">
                    "Whoever sees the deployment can read these. Keys and passwords belong among the secrets."
                </p>
                {plain}
                <div>
                    <button class="btn btn-sm" name="then" value="stay">
                        <Icon name="plus" />
                        "Keep, and add more rows"
                    </button>
                </div>
            </Section>
            <div>
                <button class="btn btn-primary" data-primary="">
                    "Go on to the target"
                    <Icon name="right" />
                </button>
            </div>
        </ActionForm>
    }
}

/// What the source requires and nothing is bound to: each can be added on the spot.
fn missing(draft: &DraftView, flash: &Flash) -> impl IntoView + use<> {
    draft
        .missing
        .iter()
        .filter(|wanted| wanted.secret)
        .map(|wanted| {
            let name = wanted.name.clone();
            let label = format!("{name} is missing");
            let asks = if wanted.suggested {
                "Its code seems to stop without this"
            } else {
                "The server asks for it"
            };
            let (says, add) = match of_name(draft, &wanted.name) {
                Some(row) => match &row.unusable {
                    Some(why) => (format!("{asks}. {} is {why}: make it usable, or tick another one below.", row.path), None),
                    None => (format!("{asks}. Tick {} below, or another one.", row.path), None),
                },
                None => (
                    format!("{asks}, and no secret of yours has this name. Tick another one below, or add it here."),
                    Some(new_secret(&wanted.name, draft, flash)),
                ),
            };
            view! {
                <section class="flex flex-col gap-3 rounded-box border-2 border-warning p-4" aria-label=label>
                    <h2 class="flex items-center gap-2">
                        <Icon name="alert" />
                        <span class="break-all font-mono">{name}</span>
                        <span class="badge badge-warning badge-sm">"required"</span>
                    </h2>
                    {(!wanted.description.is_empty())
                        .then(|| view! { <p class="text-dim break-words">{wanted.description.clone()}</p> })}
                    <p class="text-dim break-words">{says}</p>
                    {add}
                    <p class="text-dim">
                        "Or let each caller bring it: mark it under "
                        <a class="link" href="#own">"Each caller brings it"</a> "."
                    </p>
                </section>
            }
        })
        .collect_view()
}

/// The secret in the list that would be given under this name.
fn of_name<'a>(draft: &'a DraftView, name: &str) -> Option<&'a SecretRow> {
    draft.secrets.iter().find(|row| row.env == name)
}

/// Further keys that the source would use and nothing is bound to.
fn optional(draft: &DraftView, flash: &Flash) -> Option<impl IntoView + use<>> {
    let wanted: Vec<_> = draft
        .unbound()
        .into_iter()
        .filter(|wanted| {
            wanted.secret && !wanted.required && of_name(draft, &wanted.name).is_none()
        })
        .collect();
    let open = wanted
        .iter()
        .any(|wanted| add_error(flash, &wanted.name).is_some());
    let keys = wanted
        .iter()
        .map(|wanted| {
            view! {
                <li class="flex flex-col gap-3 py-4 first:pt-0 last:pb-0">
                    <h3 class="break-all font-mono font-semibold">{wanted.name.clone()}</h3>
                    {(!wanted.description.is_empty())
                        .then(|| view! { <p class="text-dim break-words">{wanted.description.clone()}</p> })}
                    {new_secret(&wanted.name, draft, flash)}
                </li>
            }
        })
        .collect_view();
    (!wanted.is_empty()).then(|| {
        view! {
            <Folding title=format!("Other keys that it can use ({})", wanted.len()) id="optional" icon="lock" open>
                <ul class="flex flex-col divide-y divide-base-300">{keys}</ul>
            </Folding>
        }
    })
}

fn new_secret(name: &str, draft: &DraftView, flash: &Flash) -> impl IntoView + use<> {
    let typed = match flash.typed(&format!("add.{name}.path")) {
        path if path.is_empty() => {
            let kept = draft.draft.form.new_paths.get(name);
            kept.map_or(name.to_owned(), String::clone)
        }
        path => path,
    };
    let path_error = flash.error(&format!("add.{name}.path"));
    let value_error = flash
        .error(&format!("add.{name}.value"))
        .or_else(|| flash.error(&format!("add.{name}.")));
    view! {
        <TextField
            name=format!("add_path[{name}]")
            label="Path of the new secret"
            value=typed
            error=path_error
            id=format!("path-{name}")
            required=true
            code=true
        />
        <ValueField
            name=format!("add_value[{name}]")
            id=format!("value-{name}")
            error=value_error
            hint="Sealed with the next button that you press, and not shown here again."
            required=false
        />
        <div>
            <button class="btn" name="then" value="stay">
                <Icon name="lock" />
                "Seal and tick"
                <span class="sr-only">{format!(" {name}")}</span>
            </button>
        </div>
    }
}

fn add_error(flash: &Flash, name: &str) -> Option<String> {
    ["path", "value", ""]
        .iter()
        .find_map(|field| flash.error(&format!("add.{name}.{field}")))
}

fn secret_row(row: SecretRow, error: Option<String>) -> impl IntoView {
    let id = row.key();
    let (tick, env) = (format!("tick-{id}"), format!("env-{id}"));
    let described = error.is_some().then(|| format!("{env}-error"));
    let class = if error.is_some() {
        "input input-sm input-error w-full font-mono"
    } else {
        "input input-sm w-full font-mono"
    };
    view! {
        <li class="grid items-center gap-x-4 gap-y-1 py-2 sm:grid-cols-[minmax(0,1fr)_minmax(0,16rem)]">
            <div class="flex min-w-0 items-center gap-3">
                <input class="checkbox shrink-0" type="checkbox" id=tick.clone() name=format!("ticked[{id}]") value="on" checked=row.ticked />
                <div class="flex min-w-0 flex-wrap items-center gap-x-3 gap-y-1">
                    <label class="min-w-0 break-all font-mono" for=tick>
                        {row.path.clone()}
                    </label>
                    {row.asked
                        .as_ref()
                        .map(|asked| {
                            let class = if asked.suggested { "badge badge-warning badge-sm" } else { "badge badge-ghost badge-sm" };
                            view! { <span class=class>{asked_word(asked)}</span> }
                        })}
                    {row.unusable.map(|why| view! { <span class="badge badge-error badge-sm">{why}</span> })}
                    {(!row.maskable)
                        .then(|| view! { <span class="badge badge-warning badge-sm" title=TOO_SHORT>"too short to mask"</span> })}
                </div>
            </div>
            <div class="flex flex-col">
                <label class="sr-only" for=env.clone()>
                    {format!("Variable for {}", row.path)}
                </label>
                <input
                    class=class
                    id=env.clone()
                    name=format!("env[{id}]")
                    value=row.env
                    autocomplete="off"
                    spellcheck="false"
                    aria-describedby=described
                    aria-invalid=error.is_some().then_some("true")
                />
                {error
                    .map(|error| {
                        view! {
                            <p class="text-sm text-error" id=format!("{env}-error")>
                                {error}
                            </p>
                        }
                    })}
            </div>
        </li>
    }
}

/// How a source asks for a variable.
pub(super) fn asked_word(asked: &WantedVariable) -> &'static str {
    match (asked.suggested, asked.required) {
        (false, true) => "required",
        (false, false) => "asked for",
        (true, true) => "its code seems to stop without it",
        (true, false) => "found in its code",
    }
}

/// The rows that are filled, one for each plain variable that the source asks for, and some spare.
fn plain_rows(draft: &DraftView, flash: &Flash) -> impl IntoView + use<> {
    let mut rows: Vec<DraftPlain> = draft.draft.form.plain.clone();
    let wanted = draft.wanted();
    for wanted in wanted.iter().filter(|wanted| !wanted.secret) {
        // Those that it needs stand here until they are given; the others are offered, and without a text give nothing.
        let offered = match wanted.required {
            true => draft.missing.contains(wanted),
            false => !wanted.suggested,
        };
        let has_ticked = draft
            .secrets
            .iter()
            .any(|row| row.ticked && row.env == wanted.name);
        if offered
            && !has_ticked
            && !draft.is_brought(&wanted.name)
            && !rows.iter().any(|row| row.env == wanted.name)
        {
            rows.push(DraftPlain {
                env: wanted.name.clone(),
                // Whoever took the offered text away once is not given it again.
                text: match draft.draft.form.ticked {
                    true => String::new(),
                    false => wanted.default.clone().unwrap_or_default(),
                },
                kept_plain: false,
            });
        }
    }
    rows.extend(std::iter::repeat_n(DraftPlain::default(), SPARE_ROWS));
    rows.into_iter()
        .enumerate()
        .map(|(i, row)| {
            let env_error = wrong(draft, &format!("plain.{i}.env"));
            let text_error = wrong(draft, &format!("plain.{i}.text"));
            let (env, text, keep) = (
                format!("plain-env-{i}"),
                format!("plain-text-{i}"),
                format!("plain-keep-{i}"),
            );
            let doubted = text_error.is_some() || row.kept_plain;
            // Where it is in no list above, this is the place to store it as a secret.
            let begun = text_error.is_some() || add_error(flash, &row.env).is_some();
            let listed = wanted.iter().any(|wanted| wanted.name == row.env);
            let stored = (begun && row.text.is_empty() && !listed)
                .then(|| new_secret(&row.env, draft, flash));
            let asked = wanted.iter().find(|wanted| wanted.name == row.env).cloned();
            let missing = wrong(draft, &format!("missing.{}", row.env));
            let error = env_error.or(text_error).or(missing);
            let described = error.is_some().then(|| format!("{env}-error"));
            view! {
                <div class="flex flex-col gap-1">
                    <div class="grid gap-2 sm:grid-cols-2">
                        <div>
                            <label class="sr-only" for=env.clone()>
                                {format!("Name of plain variable {}", i + 1)}
                            </label>
                            <input
                                class="input input-sm w-full font-mono"
                                id=env.clone()
                                name=format!("plain_env[{i}]")
                                value=row.env
                                placeholder="NAME"
                                autocomplete="off"
                                aria-describedby=described
                            />
                        </div>
                        <div>
                            <label class="sr-only" for=text.clone()>
                                {format!("Text of plain variable {}", i + 1)}
                            </label>
                            <input
                                class="input input-sm w-full font-mono"
                                id=text
                                name=format!("plain_text[{i}]")
                                value=row.text
                                placeholder="text"
                                autocomplete="off"
                            />
                        </div>
                    </div>
                    {error
                        .map(|error| {
                            view! {
                                <p class="text-sm text-error" id=format!("{env}-error")>
                                    {error}
                                </p>
                            }
                        })}
                    {asked
                        .map(|asked| {
                            view! {
                                <p class="flex items-start gap-2 text-sm text-dim break-words">
                                    {asked.required.then(|| view! { <span class="badge badge-warning badge-sm">"required"</span> })}
                                    {asked.description}
                                </p>
                            }
                        })}
                    {doubted
                        .then(|| {
                            view! {
                                <label class="flex items-center gap-2 text-sm" for=keep.clone()>
                                    <input
                                        class="checkbox checkbox-sm"
                                        type="checkbox"
                                        id=keep.clone()
                                        name=format!("plain_keep[{i}]")
                                        value="on"
                                        checked=row.kept_plain
                                    />
                                    "Keep it plain: it is no secret"
                                </label>
                            }
                        })}
                    {stored
                        .map(|stored| {
                            view! { <div class="flex flex-col gap-3 rounded-box border-2 border-warning p-4">{stored}</div> }
                        })}
                </div>
            }
        })
        .collect_view()
}
