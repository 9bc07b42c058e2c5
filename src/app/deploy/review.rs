//! Step 4: everything once more, names only; then Deploy.

use leptos::prelude::*;

use super::secrets::asked_word;
use super::steps::{Changes, DraftDeploy, DraftView};
use super::{STEPS, step_page};
use crate::app::frame::Section;
use crate::app::icons::Icon;
use crate::app::islands::copy::Copy;
use crate::model::drafts::step_of;
use crate::model::targets::Target;

#[component]
pub fn ReviewPage() -> impl IntoView {
    step_page("review", |draft, _| {
        let action = ServerAction::<DraftDeploy>::new();
        let id = draft.draft.id;
        let form = &draft.draft.form;
        // Each with the step where it is mended.
        let errors: Vec<_> = draft
            .draft
            .errors
            .iter()
            .map(|(field, error)| (field.as_str(), error.as_str()))
            .chain(in_the_way(draft))
            .map(|(field, error)| {
                let error = match named(draft, field) {
                    Some(name) => format!("{name}: {error}"),
                    None => error.to_owned(),
                };
                let step = step_of(field).and_then(|at| STEPS.iter().find(|(step, _)| *step == at));
                (error, step.copied())
            })
            .collect();
        // Said once.
        let has_said = draft
            .draft
            .errors
            .keys()
            .any(|field| field.starts_with("missing."));
        let missing = |suggested: bool| {
            let of_it = draft
                .missing
                .iter()
                .filter(|wanted| wanted.suggested == suggested);
            let names: Vec<_> = of_it.map(|wanted| wanted.name.as_str()).collect();
            names.join(", ")
        };
        let (missing, doubtful) = (missing(false), missing(true));
        let mut rows: Vec<(String, String)> = draft
            .secrets
            .iter()
            .filter(|row| row.ticked)
            .map(|row| {
                let guessed = row.asked.as_ref().filter(|asked| asked.suggested);
                let guessed =
                    guessed.map_or(String::new(), |asked| format!(" ({})", asked_word(asked)));
                (row.env.clone(), format!("secret {}{guessed}", row.path))
            })
            .collect();
        rows.extend(
            form.per_user
                .iter()
                .map(|own| (own.clone(), "each caller’s own".to_owned())),
        );
        rows.extend(
            draft
                .given_plain()
                .map(|(_, plain)| (plain.env.clone(), "plain text".to_owned())),
        );
        let provider = form.chosen_target().filter(|target| target.is_remote());
        if provider.is_some() {
            let own = [
                "NODE_ENV",
                "PORT",
                "SEALPORT_GATEWAY_SECRET",
                "SEALPORT_BRIDGE_MASK",
            ];
            rows.extend(own.map(|env| (env.to_owned(), "set by Sealport".to_owned())));
        }
        let nothing = rows.is_empty();
        // The plan's own lines say it too.
        let is_planned = matches!(draft.changes, Some(Changes::Lines(_)));
        let shown_there = provider.filter(|_| !is_planned).map(|target| {
            let title = target.title();
            format!("{title} shows these variables with their values to whoever may see the service there.")
        });
        let changes = provider.filter(|_| draft.draft.deployed_as.is_none());
        let changes = changes.map(|target| changes_there(target, draft));
        let changed = form.changed_deployment().map(|name| {
            let (name, href) = (name.to_owned(), format!("/deployments/{name}"));
            view! {
                <p>
                    "Deploy changes " <a class="link font-mono" href=href>{name}</a>
                    " with a new release: from then on it gets this, and what it has of secrets that you do not see."
                </p>
            }
        });
        let is_deployed = draft.draft.deployed_as.is_some();
        let dockerfile = draft.dockerfile.clone().map(dockerfile_for_it);
        view! {
            {(!errors.is_empty())
                .then(|| {
                    view! {
                        <div role="alert" class="alert alert-error alert-soft items-start">
                            <Icon name="alert" />
                            <ul class="flex flex-col gap-1">
                                {errors
                                    .into_iter()
                                    .map(|(error, step)| {
                                        let mend = step
                                            .map(|(at, title)| {
                                                view! {
                                                    " "
                                                    <a class="link" href=format!("/deploy/{id}/{at}")>
                                                        {format!("Go to {title}")}
                                                    </a>
                                                }
                                            });
                                        view! { <li>{error} {mend}</li> }
                                    })
                                    .collect_view()}
                            </ul>
                        </div>
                    }
                })}
            {(!missing.is_empty() && !has_said)
                .then(|| {
                    view! {
                        <p class="text-amber">
                            "Still missing: " <span class="font-mono">{missing}</span> ". "
                            <a class="link" href=format!("/deploy/{id}/secrets")>
                                "Add them"
                            </a>
                        </p>
                    }
                })}
            {(!doubtful.is_empty())
                .then(|| {
                    view! {
                        <p class="text-amber">
                            "Its code seems to stop without " <span class="font-mono">{doubtful}</span> ". "
                            <a class="link" href=format!("/deploy/{id}/secrets")>
                                "Add them"
                            </a> ", or deploy and see."
                        </p>
                    }
                })}
            {changes}
            {dockerfile}
            <Section title="What the server gets" id="review">
                {nothing.then(|| view! { <p>"No variables but PATH, HOME, LANG, PORT and NODE_ENV."</p> })}
                <dl class="grid gap-x-4 gap-y-1 sm:grid-cols-[auto_minmax(0,1fr)]">
                    {rows
                        .into_iter()
                        .map(|(env, from)| {
                            view! {
                                <dt class="break-all font-mono">{env}</dt>
                                <dd class="wrap-anywhere text-dim max-sm:mb-1">{from}</dd>
                            }
                        })
                        .collect_view()}
                </dl>
                {shown_there.map(|sentence| view! { <p class="text-sm text-amber">{sentence}</p> })}
                {changed}
                {(!is_deployed)
                    .then(|| {
                        view! {
                            <ActionForm action>
                                <input type="hidden" name="id" value=id.to_string() />
                                <button class="btn btn-primary" data-primary="">
                                    <Icon name="ship" />
                                    "Deploy"
                                </button>
                            </ActionForm>
                        }
                    })}
            </Section>
        }
    })
}

/// What the provider said against it, unless that is noted already.
fn in_the_way(draft: &DraftView) -> Option<(&str, &str)> {
    match &draft.changes {
        Some(Changes::Wrong { field, says }) if draft.draft.errors.get(field) != Some(says) => {
            Some((field, says))
        }
        _ => None,
    }
}

/// What would be made at the provider, which was asked for this page.
fn changes_there(target: Target, draft: &DraftView) -> impl IntoView + use<> {
    let title = target.title();
    let inner = match &draft.changes {
        Some(Changes::Lines(lines)) => view! {
            <ul class="list-disc ps-5">
                {lines
                    .iter()
                    .map(|line| view! { <li class="wrap-anywhere">{line.clone()}</li> })
                    .collect_view()}
            </ul>
        }
        .into_any(),
        Some(Changes::Wrong { .. }) => view! {
            <p class="text-dim">"Nothing until what is in the way is mended."</p>
        }
        .into_any(),
        None => view! {
            <p class="text-dim">{format!("{title} is asked once the steps before are in order.")}</p>
        }
        .into_any(),
    };
    view! {
        <Section title=format!("What happens at {title}") id="changes">
            {inner}
        </Section>
    }
}

/// What makes a repository one that a provider can run, to be put there.
fn dockerfile_for_it(written: String) -> impl IntoView {
    view! {
        <Section title="A Dockerfile for it" id="dockerfile">
            <p>
                "The provider needs a server that listens. Put this into the source’s folder as "
                <code class="font-mono">"Dockerfile"</code>
                ", look at the source once more, and give its path with the target. It has no secret in it: the values arrive when it runs."
            </p>
            <div class="flex flex-col items-start gap-2" data-copy="">
                <pre class="log w-full overflow-x-auto" tabindex="0" data-copy-from="">
                    {written}
                </pre>
                <Copy />
            </div>
        </Section>
    }
}

/// Which row of the secrets step a field is in.
fn named(draft: &DraftView, field: &str) -> Option<String> {
    if let Some(id) = field.strip_prefix("env.") {
        let row = draft.secrets.iter().find(|row| row.id.to_string() == id);
        return row.map(|row| row.path.clone());
    }
    if let Some(row) = field.strip_prefix("own.") {
        let row: usize = row.split('.').next()?.parse().ok()?;
        return draft.draft.form.per_user.get(row).cloned();
    }
    let (row, _) = field.strip_prefix("plain.")?.split_once('.')?;
    let row: usize = row.parse().ok()?;
    match draft.draft.form.plain.get(row) {
        Some(plain) if !plain.env.is_empty() => Some(plain.env.clone()),
        _ => Some(format!("Plain variable {}", row + 1)),
    }
}
