//! Step 2: which secrets the server gets, under which names, and its plain variables.

use leptos::prelude::*;

use super::steps::{DraftAddSecret, DraftSecrets, DraftView, SecretRow};
use super::{alert, step_page, wrong};
use crate::app::fields::TextField;
use crate::app::frame::Section;
use crate::app::icons::Icon;
use crate::app::wire::{Flash, Opened};
use crate::model::drafts::DraftPlain;
use crate::model::sources::WantedVariable;

/// Empty rows for plain variables beyond those that are filled.
const SPARE_ROWS: usize = 2;

#[component]
pub fn SecretsStepPage() -> impl IntoView {
    step_page("secrets", |draft, opened| {
        view! {
            {alert(draft)}
            {missing(draft, opened)}
            {form(draft)}
        }
    })
}

/// What the source requires and nothing is bound to: each can be added on the spot, sealed at once.
fn missing(draft: &DraftView, opened: &Opened) -> impl IntoView + use<> {
    let id = draft.draft.id.to_string();
    draft
        .missing
        .iter()
        .filter(|wanted| wanted.secret)
        .map(|wanted| {
            add_form(
                id.clone(),
                wanted,
                opened.flash_of(&format!("add.{}", wanted.name)),
            )
        })
        .collect_view()
}

fn add_form(id: String, wanted: &WantedVariable, flash: Flash) -> impl IntoView + use<> {
    let action = ServerAction::<DraftAddSecret>::new();
    let name = wanted.name.clone();
    let (path_id, value_id) = (format!("path-{name}"), format!("value-{name}"));
    let label = format!("{name} is missing");
    let typed = match flash.typed("path") {
        path if path.is_empty() => name.clone(),
        path => path,
    };
    let path_error = flash.error("path");
    let other = flash.error("value").or_else(|| flash.error(""));
    view! {
        <section class="rounded-box border-2 border-warning p-4" aria-label=label>
            <h2 class="flex items-center gap-2">
                <Icon name="alert" />
                <span class="break-all font-mono">{name.clone()}</span>
                <span class="badge badge-warning badge-sm">"required"</span>
            </h2>
            <p class="py-2 text-dim break-words">
                {wanted.description.clone()} " The server asks for it, and no secret of yours has this name. Tick another one below, or add it here."
            </p>
            <ActionForm action attr:class="flex flex-col gap-3">
                <input type="hidden" name="id" value=id />
                <input type="hidden" name="env" value=name.clone() />
                <TextField name="path" label="Path of the new secret" value=typed error=path_error id=path_id required=true code=true />
                <label class="font-medium" for=value_id.clone()>
                    "Value"
                </label>
                <textarea
                    class="textarea w-full font-mono"
                    id=value_id
                    name="value"
                    rows="2"
                    required
                    autocomplete="off"
                    spellcheck="false"
                ></textarea>
                {other.map(|error| view! { <p class="text-sm text-error">{error}</p> })}
                <div>
                    <button class="btn">
                        <Icon name="lock" />
                        "Seal and tick"
                    </button>
                </div>
            </ActionForm>
        </section>
    }
}

fn form(draft: &DraftView) -> impl IntoView + use<> {
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
    let plain = plain_rows(draft);
    let id = draft.draft.id.to_string();
    view! {
        <ActionForm action attr:class="flex flex-col gap-5">
            <input type="hidden" name="id" value=id />
            <Section title="Secrets" id="secrets">
                <p class="text-dim">
                    "The server reads each ticked secret as an environment variable. Nobody sees the value, here or in its log."
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
                <ul class="flex flex-col divide-y divide-base-300">{secrets}</ul>
            </Section>
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

fn secret_row(row: SecretRow, error: Option<String>) -> impl IntoView {
    let id = row.key();
    let (tick, env) = (format!("tick-{id}"), format!("env-{id}"));
    let described = error.is_some().then(|| format!("{env}-error"));
    view! {
        <li class="grid items-center gap-x-4 gap-y-1 py-2 sm:grid-cols-[minmax(0,1fr)_minmax(0,16rem)]">
            <div class="flex min-w-0 items-center gap-3">
                <input class="checkbox" type="checkbox" id=tick.clone() name=format!("ticked[{id}]") value="on" checked=row.ticked />
                <label class="min-w-0 break-all font-mono" for=tick>
                    {row.path.clone()}
                </label>
                {row.asked
                    .as_ref()
                    .map(|asked| {
                        let label = if asked.required { "required" } else { "asked for" };
                        view! { <span class="badge badge-sm">{label}</span> }
                    })}
            </div>
            <div class="flex flex-col">
                <label class="sr-only" for=env.clone()>
                    {format!("Variable for {}", row.path)}
                </label>
                <input
                    class="input input-sm w-full font-mono"
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

/// The rows that are filled, one for each plain variable that the source asks for, and some spare.
fn plain_rows(draft: &DraftView) -> impl IntoView + use<> {
    let mut rows: Vec<DraftPlain> = draft.draft.form.plain.clone();
    if let Some(found) = &draft.draft.inspection {
        for wanted in found
            .variables
            .iter()
            .filter(|wanted| !wanted.secret && !wanted.suggested)
        {
            if !rows.iter().any(|row| row.env == wanted.name) && !draft.draft.form.ticked {
                rows.push(DraftPlain {
                    env: wanted.name.clone(),
                    text: wanted.default.clone().unwrap_or_default(),
                    kept_plain: false,
                });
            }
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
            let error = env_error.or(text_error);
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
                </div>
            }
        })
        .collect_view()
}
