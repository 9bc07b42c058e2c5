//! Step 3: where it runs, what is said for that, and under which name.

use leptos::prelude::*;

use super::steps::{DraftTarget, DraftView};
use super::{STEP_FORM, alert, step_page, wrong};
use crate::app::fields::{SelectField, TextField};
use crate::app::frame::Section;
use crate::app::icons::Icon;
use crate::app::provider::address_of;
use crate::model::targets::Target;

#[component]
pub fn TargetPage() -> impl IntoView {
    step_page("target", |draft, _| {
        let action = ServerAction::<DraftTarget>::new();
        let (name_error, owner_error) = (wrong(draft, "name"), wrong(draft, "owner"));
        let target_error = wrong(draft, "target");
        let described = target_error.is_some().then_some("target-error");
        let id = draft.draft.id.to_string();
        let name = draft.draft.form.name.clone();
        let (owners, owner) = (draft.owners.clone(), draft.draft.form.owner.clone());
        let targets = draft
            .targets
            .iter()
            .map(|target| choice(draft, *target))
            .collect_view();
        view! {
            {alert(draft, "target")}
            <Section title="Where does it run?" id="target">
                <ActionForm action attr:id=STEP_FORM attr:class="flex flex-col gap-4">
                    <input type="hidden" name="id" value=id />
                    <fieldset class="flex flex-col gap-2" aria-describedby=described>
                        <legend class="sr-only">"Target"</legend>
                        {targets}
                        {target_error
                            .map(|error| {
                                view! {
                                    <p class="flex items-start gap-1 text-sm text-error" id="target-error">
                                        <Icon name="alert" class="mt-0.5 size-4 shrink-0" />
                                        {error}
                                    </p>
                                }
                            })}
                    </fieldset>
                    {(owners.len() > 1)
                        .then(|| {
                            view! {
                                <SelectField
                                    name="owner"
                                    label="Whose it is"
                                    options=owners
                                    value=owner
                                    error=owner_error
                                    hint="A team’s deployment binds what the team may use, and its members reach it, each with their level."
                                />
                            }
                        })}
                    <TextField
                        name="name"
                        label="Name"
                        value=name
                        error=name_error
                        hint="Part of its address, and yours for good: small letters, digits and hyphens."
                        required=true
                        code=true
                        maxlength=39
                    />
                    <div>
                        <button class="btn btn-primary" data-primary="">
                            "Go on to the review"
                            <Icon name="right" />
                        </button>
                    </div>
                </ActionForm>
            </Section>
        }
    })
}

/// A target, with what belongs to it below: shown while it is chosen.
fn choice(draft: &DraftView, target: Target) -> impl IntoView + use<> {
    let is_chosen = draft.draft.form.chosen_target() == Some(target);
    let says = match target {
        Target::Local => "In a sandbox, watched over, started again when it crashes.",
        Target::Render => {
            "A web service in your workspace there, made and changed with your own key. Render gets the values of what is bound."
        }
        Target::Railway => {
            "A service in a project of yours there, made and changed with your own key. Railway gets the values of what is bound."
        }
    };
    let below = match target {
        Target::Local => view! {
            {confinement(draft)}
            <details>
                <summary class="cursor-pointer text-sm font-medium">"Limits and network"</summary>
                <div class="pt-3">{option_fields(draft, target, is_chosen)}</div>
            </details>
        }
        .into_any(),
        target => told(draft, target, is_chosen).into_any(),
    };
    view! {
        <div class="target rounded-box border border-base-300">
            <label class="flex items-start gap-3 p-3">
                <input
                    class="radio mt-0.5"
                    type="radio"
                    name="target"
                    value=target.as_str()
                    checked=is_chosen
                    required
                />
                <span>
                    <span class="block font-medium">{target.title()}</span>
                    <span class="block text-sm text-dim">{says}</span>
                </span>
            </label>
            <div class="for-target flex flex-col gap-4 border-t border-base-300 p-3">{below}</div>
        </div>
    }
}

/// How servers are confined on this machine.
fn confinement(draft: &DraftView) -> impl IntoView + use<> {
    draft
        .confinement
        .iter()
        .map(|(sound, sentence)| {
            let (icon, class) = if *sound {
                ("shield", "text-dim")
            } else {
                ("alert", "text-amber")
            };
            view! {
                <p class=format!("flex items-start gap-2 text-sm {class}")>
                    <Icon name=icon />
                    <span>{sentence.clone()}</span>
                </p>
            }
        })
        .collect_view()
}

/// The provider's key, by its path, and what the provider can be told.
fn told(draft: &DraftView, target: Target, is_chosen: bool) -> impl IntoView + use<> {
    let form = &draft.draft.form;
    let error = |field: &str| is_chosen.then(|| wrong(draft, field)).flatten();
    let at = target.as_str();
    let usual = target.key_path().unwrap_or_default();
    let key = if is_chosen && !form.key.is_empty() {
        form.key.clone()
    } else {
        usual.to_owned()
    };
    view! {
        <TextField
            name=format!("key[{at}]")
            id=format!("{at}-key")
            label=format!("Path of your key for {}", target.title())
            value=key
            error=error("key")
            hint=format!("Store the key under Secrets, as {usual} or elsewhere; to use it is right enough. Never the key itself here.")
            code=true
        />
        <p class="text-sm">
            <a class="link inline-flex min-h-6 items-center" href=address_of(target)>
                {format!("How to make a key at {}, seal it here and check it", target.title())}
            </a>
        </p>
        {option_fields(draft, target, is_chosen)}
    }
}

/// What a target can be told beside that.
fn option_fields(draft: &DraftView, target: Target, is_chosen: bool) -> impl IntoView + use<> {
    let at = target.as_str();
    let options = target
        .own_options()
        .map(|option| {
            let value = draft.draft.form.options.get(option.name).cloned();
            let error = is_chosen
                .then(|| wrong(draft, &format!("options.{}", option.name)))
                .flatten();
            view! {
                <TextField
                    name=format!("options[{at}][{}]", option.name)
                    id=format!("{at}-{}", option.name)
                    label=option.title()
                    value=value.unwrap_or_default()
                    error
                    hint=option.says
                    code=true
                    maxlength=500
                />
            }
        })
        .collect_view();
    view! { <div class="grid items-start gap-4 sm:grid-cols-2">{options}</div> }
}
