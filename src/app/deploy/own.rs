//! On step 2: the variables that each caller brings, instead of a secret of the owner's or a text.

use leptos::prelude::*;

use super::secrets::asked_word;
use super::steps::DraftView;
use super::wrong;
use crate::app::fields::TextField;
use crate::app::frame::Folding;
use crate::app::icons::Icon;

/// Empty rows for names that the source does not ask for, beyond those that are filled.
const SPARE_ROWS: usize = 1;

pub fn each_callers_own(draft: &DraftView) -> impl IntoView + use<> {
    let brought = &draft.draft.form.per_user;
    let error = |name: &str| {
        let at = brought.iter().position(|own| own == name)?;
        wrong(draft, &format!("own.{at}.env"))
    };
    let marks = draft
        .wanted()
        .iter()
        .map(|wanted| {
            let name = wanted.name.clone();
            let said = wanted.description.clone();
            mark(
                &name,
                said,
                asked_word(wanted),
                brought.contains(&name),
                error(&name),
            )
        })
        .collect_view();
    let is_wanted = |name: &str| draft.wanted().iter().any(|wanted| wanted.name == name);
    let typed = brought.iter().filter(|name| !is_wanted(name));
    let spare = std::iter::repeat_n("", SPARE_ROWS);
    let rows = typed
        .map(String::as_str)
        .chain(spare)
        .enumerate()
        .map(|(i, name)| {
            view! {
                <TextField
                    name=format!("own_env[{i}]")
                    id=format!("own-env-{i}")
                    label=format!("Name of another variable {}", i + 1)
                    value=name
                    error=error(name)
                    code=true
                    maxlength=100
                />
            }
        })
        .collect_view();
    let open = !brought.is_empty();
    let title = match brought.len() {
        0 => "Each caller brings it".to_owned(),
        many => format!("Each caller brings it ({many})"),
    };
    view! {
        <Folding title id="own" icon="people" open>
            <p class="text-dim">
                "What is marked here, everybody who calls the server connects for themselves, and each has an instance of their own that runs with it. Nobody else’s calls use it, and you never see it. For this machine only."
            </p>
            <ul class="flex flex-col divide-y divide-base-300">{marks}</ul>
            {rows}
            <div>
                <button class="btn btn-sm" name="then" value="stay">
                    <Icon name="plus" />
                    "Keep, and add another name"
                </button>
            </div>
        </Folding>
    }
}

/// A variable that the source asks for.
fn mark(
    name: &str,
    said: String,
    asked: &'static str,
    is_brought: bool,
    error: Option<String>,
) -> impl IntoView + use<> {
    let id = format!("own-{name}");
    let error_id = format!("{id}-error");
    let described = error.is_some().then(|| error_id.clone());
    view! {
        <li class="flex flex-col gap-1 py-2">
            <div class="flex min-w-0 items-center gap-3">
                <input
                    class="checkbox shrink-0"
                    type="checkbox"
                    id=id.clone()
                    name=format!("own[{name}]")
                    value="on"
                    checked=is_brought
                    aria-describedby=described
                    aria-invalid=error.is_some().then_some("true")
                />
                <label class="min-w-0 break-all font-mono" for=id>
                    <span class="sr-only">"Each caller brings "</span>
                    {name.to_owned()}
                </label>
                <span class="badge badge-ghost badge-sm">{asked}</span>
            </div>
            {(!said.is_empty()).then(|| view! { <p class="break-words text-sm text-dim">{said}</p> })}
            {error
                .map(|error| {
                    view! {
                        <p class="text-sm text-error" id=error_id>
                            {error}
                        </p>
                    }
                })}
        </li>
    }
}
