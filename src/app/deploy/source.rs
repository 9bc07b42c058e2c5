//! Step 1: where the code comes from, and what looking at it showed.

use leptos::prelude::*;

use super::steps::{DraftSource, DraftView};
use super::{STEP_FORM, alert, notes, step_page, wrong};
use crate::app::fields::{SelectField, TextField};
use crate::app::frame::Section;
use crate::app::icons::Icon;
use crate::model::drafts::InspectState;
use crate::model::sources::{Inspection, Source, Transport};

#[component]
pub fn SourcePage() -> impl IntoView {
    step_page("source", |draft, _| {
        let found = draft.draft.inspection.clone();
        let state = match &draft.draft.inspecting {
            InspectState::Idle => None,
            InspectState::Running { step } => Some(looking(step).into_any()),
            InspectState::Failed { reason } => Some(failed(reason).into_any()),
            InspectState::Done => found.map(|found| shown(found).into_any()),
        };
        let running = matches!(draft.draft.inspecting, InspectState::Running { .. });
        view! {
            {alert(draft, "source")}
            {state}
            {(!running).then(|| form(draft))}
        }
    })
}

/// The page asks again by itself until there is an end, with or without JavaScript.
fn looking(step: &str) -> impl IntoView + use<> {
    let step = if step.is_empty() {
        "Waiting for a place to look at it"
    } else {
        step
    }
    .to_owned();
    view! {
        <meta http-equiv="refresh" content="2" />
        <div role="status" class="alert">
            <span class="loading loading-spinner loading-sm" aria-hidden="true"></span>
            <span>{step} "…"</span>
        </div>
    }
}

fn failed(reason: &str) -> impl IntoView + use<> {
    let reason = reason.to_owned();
    view! {
        <div role="alert" class="alert alert-error alert-soft items-start">
            <Icon name="alert" />
            <div>
                <p class="font-semibold">"The source could not be looked at"</p>
                <p class="whitespace-pre-wrap break-words">{reason}</p>
            </div>
        </div>
    }
}

fn shown(found: Inspection) -> impl IntoView {
    let transport = match &found.start.transport {
        Transport::Stdio => "over standard input and output".to_owned(),
        Transport::Http { path } => format!("over HTTP at {path}"),
    };
    let reference = match &found.resolved {
        Source::Image { reference } => Some(reference.as_str()),
        _ => None,
    };
    // A tag may mean another image tomorrow; a digest does not.
    let pinned = match reference {
        Some(reference) if !reference.contains('@') => "Image",
        // What stands in a directory may be another tomorrow too.
        None if matches!(found.resolved, Source::Dir { .. }) => "Directory",
        _ => "Pinned to",
    };
    let mut variables = found.variables.iter();
    let described = variables.any(|wanted| !wanted.description.is_empty());
    let command = if reference.is_some() && found.start.command.is_empty() {
        "as the image says".to_owned()
    } else if found.start.command.is_empty() {
        "known once it is installed".to_owned()
    } else {
        found.start.command.join(" ")
    };
    view! {
        <Section title="What it is" id="found">
            <div class="flex flex-wrap items-start justify-between gap-3">
                <div class="min-w-0">
                    <p class="font-semibold break-words">{found.title.clone()}</p>
                    <p class="text-dim break-words">{found.description.clone()}</p>
                </div>
                <button class="btn btn-primary" form=STEP_FORM name="then" value="secrets" formnovalidate data-primary="">
                    "Go on to secrets"
                    <Icon name="right" />
                </button>
            </div>
            <dl class="grid grid-cols-[auto_minmax(0,1fr)] gap-x-4 gap-y-1 text-sm">
                <dt class="text-dim">{pinned}</dt>
                <dd class="break-all font-mono">{found.resolved.to_string()}</dd>
                <dt class="text-dim">"Starts with"</dt>
                <dd class="break-all font-mono">{command}</dd>
                <dt class="text-dim">"Speaks"</dt>
                <dd>{transport}</dd>
                <dt class="text-dim">"From"</dt>
                <dd class="break-all">{found.start.said_by.clone()}</dd>
            </dl>
            {(!found.variables.is_empty())
                .then(|| {
                    view! {
                        <div class="overflow-x-auto">
                            <table class="table table-sm">
                                <caption class="sr-only">"Variables that it asks for"</caption>
                                <thead>
                                    <tr>
                                        <th scope="col">"Variable"</th>
                                        <th scope="col">"What it is"</th>
                                        {described.then(|| view! { <th scope="col">"For"</th> })}
                                    </tr>
                                </thead>
                                <tbody>
                                    {found
                                        .variables
                                        .iter()
                                        .map(|wanted| {
                                            let mut kinds = Vec::new();
                                            if wanted.secret {
                                                kinds.push("secret");
                                            }
                                            if wanted.required {
                                                kinds.push("required");
                                            }
                                            if wanted.suggested {
                                                kinds.push("found in its code");
                                            }
                                            view! {
                                                <tr>
                                                    <th scope="row" class="break-all font-mono font-normal">{wanted.name.clone()}</th>
                                                    <td>{kinds.join(", ")}</td>
                                                    {described.then(|| view! { <td class="break-words text-dim">{wanted.description.clone()}</td> })}
                                                </tr>
                                            }
                                        })
                                        .collect_view()}
                                </tbody>
                            </table>
                        </div>
                    }
                })}
        </Section>
        {notes("Good to know", found.notes)}
    }
}

fn form(draft: &DraftView) -> impl IntoView + use<> {
    let typed = draft.draft.form.clone();
    let errors = |field: &str| wrong(draft, field);
    let again = draft.draft.inspection.is_some();
    let action = ServerAction::<DraftSource>::new();
    let mut kinds = vec![
        ("npm".to_owned(), "npm package".to_owned()),
        ("pypi".to_owned(), "PyPI package".to_owned()),
        ("git".to_owned(), "Git repository over https".to_owned()),
        (
            "image".to_owned(),
            "Container image, for a provider".to_owned(),
        ),
    ];
    if draft.is_admin {
        kinds.push(("dir".to_owned(), "Directory of this machine".to_owned()));
    }
    let mut keys = vec![(String::new(), "None: it is public".to_owned())];
    keys.extend(draft.secrets.iter().map(|row| {
        let why = row.unusable.as_ref();
        let why = why.map_or(String::new(), |why| format!(" ({why})"));
        (row.id.to_string(), format!("{}{why}", row.path))
    }));
    let transports = [
        ("", "What the source says"),
        ("stdio", "Standard input and output"),
        ("http", "HTTP"),
    ]
    .map(|(sent, read)| (sent.to_owned(), read.to_owned()))
    .to_vec();
    let has_more = !typed.command.is_empty()
        || !typed.transport.is_empty()
        || typed.fetch_key.is_some()
        || ["command", "transport", "fetch_key"]
            .iter()
            .any(|field| errors(field).is_some());
    let (source_error, kind_error) = (errors("source"), errors("source_kind"));
    let (command_error, key_error) = (errors("command"), errors("fetch_key"));
    let transport_error = errors("transport");
    let (version_error, folder_error) = (errors("version"), errors("folder"));
    let reference_error = errors("reference");
    let id = draft.draft.id.to_string();
    view! {
        <Section title=if again { "Look at something else" } else { "Where is the code?" } id="source-form">
            <ActionForm action attr:id=STEP_FORM attr:class="flex flex-col gap-4">
                <input type="hidden" name="id" value=id />
                <SelectField name="source_kind" label="It is a" options=kinds value=typed.source_kind error=kind_error />
                <TextField
                    name="source"
                    label="Package, repository, image or directory"
                    value=typed.source
                    error=source_error
                    hint="As in @modelcontextprotocol/server-everything, mcp-server-time, https://host/owner/repository, ghcr.io/owner/server:1.2 or /srv/servers/mine."
                    required=true
                    code=true
                />
                <div class="for-packages">
                    <TextField
                        name="version"
                        label="Version of a package"
                        value=typed.version
                        error=version_error
                        hint="The newest when empty; pinned either way."
                        code=true
                    />
                </div>
                <div class="for-repositories grid gap-4 sm:grid-cols-2">
                    <TextField name="reference" label="Branch, tag or commit of a repository" value=typed.reference error=reference_error code=true />
                    <TextField name="folder" label="Folder in the repository" value=typed.folder error=folder_error code=true />
                </div>
                <details class="rounded-box border border-base-300 p-3" open=has_more>
                    <summary class="cursor-pointer font-medium">"Private source, other command"</summary>
                    <div class="flex flex-col gap-4 pt-3">
                        <div class="for-fetching">
                            <SelectField
                                name="fetch_key"
                                label="Fetch key"
                                options=keys
                                value=typed.fetch_key.map(|id| id.to_string()).unwrap_or_default()
                                error=key_error
                                hint="A secret with the credential of a private repository or registry: used for fetching only, never given to the server."
                            />
                        </div>
                        <TextField
                            name="command"
                            label="Command"
                            value=typed.command
                            error=command_error
                            hint="A program and its arguments, when the source says none or the wrong one. There is no shell."
                            code=true
                        />
                        <SelectField name="transport" label="It speaks over" options=transports value=typed.transport error=transport_error />
                    </div>
                </details>
                <div>
                    <button class=if again { "btn" } else { "btn btn-primary" }>
                        <Icon name="search" />
                        {if again { "Look again" } else { "Look at it" }}
                    </button>
                </div>
            </ActionForm>
        </Section>
    }
}
