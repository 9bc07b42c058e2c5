//! Step 3: where it runs, and under which name.

use leptos::prelude::*;

use super::steps::DraftTarget;
use super::{STEP_FORM, alert, step_page, wrong};
use crate::app::fields::{SelectField, TextField};
use crate::app::frame::Section;
use crate::app::icons::Icon;

#[component]
pub fn TargetPage() -> impl IntoView {
    step_page("target", |draft, _| {
        let action = ServerAction::<DraftTarget>::new();
        let name_error = wrong(draft, "name");
        let id = draft.draft.id.to_string();
        let name = draft.draft.form.name.clone();
        let owner_error = wrong(draft, "owner");
        let (owners, owner) = (draft.owners.clone(), draft.draft.form.owner.clone());
        let confinement = draft
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
            .collect_view();
        view! {
            {alert(draft, "target")}
            <Section title="Where does it run?" id="target">
                <ActionForm action attr:id=STEP_FORM attr:class="flex flex-col gap-4">
                    <input type="hidden" name="id" value=id />
                    <fieldset class="flex flex-col gap-2">
                        <legend class="sr-only">"Target"</legend>
                        <label class="flex items-start gap-3 rounded-box border border-base-300 p-3">
                            <input class="radio mt-0.5" type="radio" name="target" value="local" checked />
                            <span>
                                <span class="block font-medium">"This machine"</span>
                                <span class="block text-sm text-dim">
                                    "In a sandbox, watched over, started again when it crashes."
                                </span>
                            </span>
                        </label>
                    </fieldset>
                    {confinement}
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
