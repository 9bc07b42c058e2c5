//! The deploy wizard: Source, Secrets, Target, Review. Each step is a page of its own; a draft keeps what was typed.

pub mod steps;

pub mod own;
pub mod review;
pub mod secrets;
pub mod source;
pub mod target;

use leptos::prelude::*;
use leptos_router::hooks::use_params_map;
use uuid::Uuid;

use super::frame::{Empty, Here, Page, Section, page};
use super::icons::Icon;
use super::times::When;
use super::wire::{Opened, page_open};
use crate::model::drafts::{DRAFT_MAX_AGE_DAYS, InspectState};
use crate::model::errors::Refusal;
use crate::model::targets::Target;
use steps::{DraftDelete, DraftNew, DraftView, draft_load, drafts};

/// The steps, with their addresses.
const STEPS: [(&str, &str); 4] = [
    ("source", "Source"),
    ("secrets", "Secrets"),
    ("target", "Target"),
    ("review", "Review"),
];

/// The form of a step, whose buttons stand above it too.
const STEP_FORM: &str = "step";

/// What has been begun, and the way to begin.
#[component]
pub fn DraftsPage() -> impl IntoView {
    let opened = Resource::new(|| (), |()| async { (page_open().await, drafts().await) });
    let new = ServerAction::<DraftNew>::new();
    let begin = move || {
        view! {
            <ActionForm action=new>
                <button class="btn btn-primary" data-primary="">
                    <Icon name="plus" />
                    "New deployment"
                </button>
            </ActionForm>
        }
    };
    view! {
        <Suspense>
            {move || {
                page(
                    Here::Deployments,
                    async move {
                        let (opened, drafts) = opened.await;
                        let (opened, drafts) = (opened?, drafts?);
                        Ok(
                            view! {
                                <Page opened here=Here::Deployments title="Deploy" crumbs=crumbs() action=begin>
                                    {if drafts.is_empty() {
                                        view! {
                                            <Empty icon="ship" title="Put an MCP server to work">
                                                "Name a package, a repository or a directory. Sealport looks at what it needs, you tick the secrets, and it runs with just those, here or at a provider."
                                            </Empty>
                                        }
                                            .into_any()
                                    } else {
                                        drafts.into_iter().map(draft_row).collect_view().into_any()
                                    }}
                                </Page>
                            },
                        )
                    },
                )
            }}
        </Suspense>
    }
}

fn draft_row(draft: crate::model::drafts::Draft) -> impl IntoView {
    let id = draft.id;
    let what = match (draft.form.name.as_str(), draft.form.source.as_str()) {
        ("", "") => "Nothing chosen yet".to_owned(),
        ("", source) => source.to_owned(),
        (name, source) => format!("{name}: {source}"),
    };
    let at = draft.reached();
    let step = STEPS
        .iter()
        .find(|(step, _)| *step == at)
        .map_or("Source", |(_, title)| title);
    let changed = draft.changed_at;
    let delete = ServerAction::<DraftDelete>::new();
    view! {
        <div class="flex flex-wrap items-center gap-3 rounded-box border border-base-300 p-3">
            <span class="min-w-0 grow basis-full sm:basis-0">
                <span class="block break-all font-mono">{what.clone()}</span>
                <span class="block text-sm text-dim">
                    {format!("At {step}")}
                    {changed.map(|at| view! { ", changed " <When at /> ", goes " <When at=at + time::Duration::days(DRAFT_MAX_AGE_DAYS) /> })}
                </span>
            </span>
            <a class="btn btn-sm" href=format!("/deploy/{id}/{at}")>
                "Go on"
                <span class="sr-only">{format!(" with {what}")}</span>
            </a>
            <ActionForm action=delete>
                <input type="hidden" name="id" value=id.to_string() />
                <button class="btn btn-ghost btn-sm">
                    <Icon name="trash" />
                    "Throw away"
                    <span class="sr-only">{format!(" {what}")}</span>
                </button>
            </ActionForm>
        </div>
    }
}

fn crumbs() -> Vec<(String, String)> {
    vec![("Deployments".to_owned(), "/deployments".to_owned())]
}

/// From a step back to the list of drafts.
fn step_crumbs() -> Vec<(String, String)> {
    let drafts = ("Drafts".to_owned(), "/deploy".to_owned());
    crumbs().into_iter().chain([drafts]).collect()
}

/// A step's page: the draft loaded, the steps above, the summary beside.
fn step_page<V: IntoView + 'static>(
    step: &'static str,
    view: impl Fn(&DraftView, &Opened) -> V + Copy + Send + Sync + 'static,
) -> impl IntoView {
    let id = use_params_map().with_untracked(|params| params.get("id").unwrap_or_default());
    let loaded = Resource::new(
        || (),
        move |()| {
            let id = id.clone();
            async move {
                let id = Uuid::parse_str(&id).map_err(|_| Refusal::not_found("draft"))?;
                let review = step == "review";
                Ok::<_, Refusal>((page_open().await?, draft_load(id, review).await?))
            }
        },
    );
    view! {
        <Suspense>
            {move || {
                page(
                    Here::Deployments,
                    async move {
                        let (opened, draft) = loaded.await?;
                        let title = STEPS.iter().find(|(at, _)| *at == step).map_or("Deploy", |(_, title)| title);
                        let title = format!("Deploy: {title}");
                        let inner = view(&draft, &opened);
                        let deployed = draft.draft.deployed_as.clone();
                        // What does not change any more cannot be typed into either.
                        let inner = match deployed.is_some() && step != "review" {
                            true => view! { <fieldset class="contents" disabled>{inner}</fieldset> }.into_any(),
                            false => inner.into_any(),
                        };
                        Ok(
                            view! {
                                <Page opened here=Here::Deployments title crumbs=step_crumbs()>
                                    <Steps draft=draft.clone() step />
                                    {deployed.map(was_deployed)}
                                    <div class="grid items-start gap-5 lg:grid-cols-[minmax(0,1fr)_18rem]">
                                        <div class="flex min-w-0 flex-col gap-5">{inner}</div>
                                        <Summary draft />
                                    </div>
                                </Page>
                            },
                        )
                    },
                )
            }}
        </Suspense>
    }
}

/// Above each step of a draft that has become a deployment.
fn was_deployed(name: String) -> impl IntoView {
    view! {
        <p role="status" class="alert">
            <span>
                "This draft was deployed as "
                <a class="link font-mono" href=format!("/deployments/{name}")>
                    {name.clone()}
                </a> "; it does not change any more."
            </span>
        </p>
    }
}

/// The four steps. Where there is a form, each other one is a button of it that looks like a link: what was typed is
/// kept on the way, with and without JavaScript.
#[component]
fn Steps(draft: DraftView, step: &'static str) -> impl IntoView {
    let id = draft.draft.id;
    let inspected = draft.is_inspected();
    let has_form = draft.draft.deployed_as.is_none()
        && match step {
            "source" => !matches!(draft.draft.inspecting, InspectState::Running { .. }),
            step => step != "review",
        };
    view! {
        <nav aria-label="Steps">
            // Enter presses a form's first button, which is not to be one of the steps.
            {has_form.then(|| view! { <button form=STEP_FORM class="hidden" tabindex="-1"></button> })}
            <ol class="flex flex-wrap gap-x-2 gap-y-1 text-sm">
                {STEPS
                    .iter()
                    .enumerate()
                    .map(|(i, (at, title))| {
                        let is_here = *at == step;
                        let wrong = draft
                            .draft
                            .errors_of(at)
                            .next()
                            .map(|_| view! { <Icon name="alert" label="not in order yet" class="size-4 shrink-0 text-error" /> });
                        let label = view! {
                            {format!("{} {title}", i + 1)}
                            {wrong}
                        };
                        view! {
                            <li class="inline-flex items-center">
                                {if is_here || (i > 0 && !inspected) {
                                    let class = if is_here {
                                        "inline-flex items-center gap-1 rounded-field bg-base-300 px-2.5 py-1 font-semibold"
                                    } else {
                                        "inline-flex items-center gap-1 px-2.5 py-1 text-dim"
                                    };
                                    view! {
                                        <span class=class aria-current=is_here.then_some("step")>
                                            {label}
                                        </span>
                                    }
                                        .into_any()
                                } else if has_form {
                                    view! {
                                        <button
                                            class="link inline-flex items-center gap-1 px-2.5 py-1"
                                            form=STEP_FORM
                                            name="then"
                                            value=*at
                                            formnovalidate
                                        >
                                            {label}
                                        </button>
                                    }
                                        .into_any()
                                } else {
                                    view! {
                                        <a class="link inline-flex items-center gap-1 px-2.5 py-1" href=format!("/deploy/{id}/{at}")>
                                            {label}
                                        </a>
                                    }
                                        .into_any()
                                }}
                            </li>
                        }
                    })
                    .collect_view()}
            </ol>
        </nav>
    }
}

/// What, where, which names: in view at every step.
#[component]
fn Summary(draft: DraftView) -> impl IntoView {
    let form = &draft.draft.form;
    let what = match &draft.draft.inspection {
        Some(found) => found.resolved.to_string(),
        None if form.source.is_empty() => "not chosen yet".to_owned(),
        None => form.source.clone(),
    };
    let mut names: Vec<String> = draft
        .secrets
        .iter()
        .filter(|row| row.ticked)
        .map(|row| row.env.clone())
        .collect();
    names.extend(form.per_user.iter().cloned());
    names.extend(draft.given_plain().map(|(_, plain)| plain.env.clone()));
    if names.is_empty() {
        names.push("none yet".to_owned());
    }
    let place = match form.chosen_target() {
        Some(Target::Local) => "this machine",
        Some(target) => target.title(),
        None => "not chosen yet",
    };
    let name = if form.name.is_empty() {
        "not chosen yet".to_owned()
    } else {
        form.name.clone()
    };
    view! {
        <aside aria-label="Summary" class="rounded-box border border-base-300 bg-base-200 p-4 text-sm">
            <dl class="flex flex-col gap-3">
                <div>
                    <dt class="text-dim">"What"</dt>
                    <dd class="break-all font-mono">{what}</dd>
                </div>
                <div>
                    <dt class="text-dim">"Where"</dt>
                    <dd>{place}</dd>
                </div>
                <div>
                    <dt class="text-dim">"Name"</dt>
                    <dd class="break-all font-mono">{name}</dd>
                </div>
                <div>
                    <dt class="text-dim">"Which names"</dt>
                    {names.into_iter().map(|name| view! { <dd class="break-all font-mono">{name}</dd> }).collect_view()}
                </div>
            </dl>
        </aside>
    }
}

/// What a draft says is wrong at a field.
fn wrong(draft: &DraftView, field: &str) -> Option<String> {
    draft.draft.errors.get(field).cloned()
}

/// Above a step's form, when something on it is wrong. What has no field there is said here.
fn alert(draft: &DraftView, step: &str) -> Option<impl IntoView + use<>> {
    let (whole, at_fields): (Vec<_>, Vec<_>) = draft
        .draft
        .errors_of(step)
        .partition(|(field, _)| has_no_field(field));
    let mut said: Vec<String> = whole.iter().map(|(_, error)| (*error).to_owned()).collect();
    if !at_fields.is_empty() {
        said.push(
            "Not in order yet. What is wrong stands at the field; everything else was kept."
                .to_owned(),
        );
    }
    (!said.is_empty()).then(|| {
        view! {
            <div role="alert" class="alert alert-error alert-soft items-start">
                <Icon name="alert" />
                <ul>{said.into_iter().map(|said| view! { <li>{said}</li> }).collect_view()}</ul>
            </div>
        }
    })
}

fn has_no_field(field: &str) -> bool {
    ["inspection", "options", "bindings"].contains(&field) || field.starts_with("bindings.")
}

/// Sentences in a box.
fn notes(title: &'static str, sentences: Vec<String>) -> Option<impl IntoView> {
    (!sentences.is_empty()).then(|| {
        view! {
            <Section title>
                <ul class="list-disc ps-5">
                    {sentences.into_iter().map(|sentence| view! { <li>{sentence}</li> }).collect_view()}
                </ul>
            </Section>
        }
    })
}
