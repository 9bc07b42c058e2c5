//! Step 4: everything once more, names only; then Deploy.

use leptos::prelude::*;

use super::secrets::asked_word;
use super::steps::{DraftDeploy, DraftView};
use super::{STEPS, step_page};
use crate::app::frame::Section;
use crate::app::icons::Icon;
use crate::model::drafts::step_of;

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
            .map(|(field, error)| {
                let error = match named(draft, field) {
                    Some(name) => format!("{name}: {error}"),
                    None => error.clone(),
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
            form.plain
                .iter()
                .map(|plain| (plain.env.clone(), "plain text".to_owned())),
        );
        let nothing = rows.is_empty();
        let deployed = draft.draft.deployed_as.clone();
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
                {match deployed {
                    Some(name) => {
                        view! {
                            <p>
                                "This draft was deployed: "
                                <a class="link font-mono" href=format!("/deployments/{name}")>
                                    {name.clone()}
                                </a>
                            </p>
                        }
                            .into_any()
                    }
                    None => {
                        view! {
                            <ActionForm action>
                                <input type="hidden" name="id" value=id.to_string() />
                                <button class="btn btn-primary" data-primary="">
                                    <Icon name="ship" />
                                    "Deploy"
                                </button>
                            </ActionForm>
                        }
                            .into_any()
                    }
                }}
            </Section>
        }
    })
}

/// Which row of the secrets step a field is in.
fn named(draft: &DraftView, field: &str) -> Option<String> {
    if let Some(id) = field.strip_prefix("env.") {
        let row = draft.secrets.iter().find(|row| row.id.to_string() == id);
        return row.map(|row| row.path.clone());
    }
    let (row, _) = field.strip_prefix("plain.")?.split_once('.')?;
    let row: usize = row.parse().ok()?;
    match draft.draft.form.plain.get(row) {
        Some(plain) if !plain.env.is_empty() => Some(plain.env.clone()),
        _ => Some(format!("Plain variable {}", row + 1)),
    }
}
