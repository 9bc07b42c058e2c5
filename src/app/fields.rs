//! Form fields: a label above, a hint below, what is wrong at the field it is about.

use leptos::prelude::*;

/// One line of text.
#[component]
pub fn TextField(
    /// The name that the form sends.
    #[prop(into)]
    name: String,
    #[prop(into)] label: String,
    /// What stands in it now; never a value of a secret or a password.
    #[prop(optional, into)]
    value: String,
    /// What is wrong with it and what to do.
    #[prop(optional_no_strip, into)]
    error: Option<String>,
    #[prop(optional, into)] hint: String,
    #[prop(default = "text")] kind: &'static str,
    /// Unique on the page; the name when there is one form.
    #[prop(optional, into)]
    id: String,
    #[prop(optional)] required: bool,
    /// Set in monospace, without the browser's help with words: for paths, names and commands.
    #[prop(optional)]
    code: bool,
    #[prop(default = "off")] autocomplete: &'static str,
    #[prop(optional, into)] placeholder: String,
    #[prop(optional)] minlength: Option<usize>,
    #[prop(optional)] maxlength: Option<usize>,
    #[prop(optional)] autofocus: bool,
    /// What the browser holds against it, with the title that says so.
    #[prop(optional)]
    pattern: Option<&'static str>,
    #[prop(optional)] title: Option<&'static str>,
) -> impl IntoView {
    let id = if id.is_empty() { name.clone() } else { id };
    let described = described_by(&id, &hint, &error);
    let class = match (code, error.is_some()) {
        (true, true) => "input input-error w-full font-mono",
        (true, false) => "input w-full font-mono",
        (false, true) => "input input-error w-full",
        (false, false) => "input w-full",
    };
    view! {
        <FieldAround id=id.clone() label hint error=error.clone() required>
            <input
                class=class
                id=id.clone()
                type=kind
                name=name
                value=(!value.is_empty()).then_some(value.clone())
                placeholder=(!placeholder.is_empty()).then_some(placeholder.clone())
                autocomplete=autocomplete
                autocapitalize=code.then_some("off")
                spellcheck=code.then_some("false")
                minlength=minlength
                maxlength=maxlength
                pattern=pattern
                title=title
                required=required
                autofocus=autofocus
                aria-describedby=described.clone()
                aria-invalid=error.is_some().then_some("true")
            />
        </FieldAround>
    }
}

/// One of a few.
#[component]
pub fn SelectField(
    name: &'static str,
    #[prop(into)] label: String,
    /// What is sent, and what a person reads.
    options: Vec<(String, String)>,
    #[prop(optional, into)] value: String,
    #[prop(optional_no_strip, into)] error: Option<String>,
    #[prop(optional, into)] hint: String,
    #[prop(optional, into)] id: String,
) -> impl IntoView {
    let id = if id.is_empty() { name.to_owned() } else { id };
    let described = described_by(&id, &hint, &error);
    view! {
        <FieldAround id=id.clone() label hint error=error.clone() required=true>
            <select
                class="select w-full"
                id=id.clone()
                name=name
                aria-describedby=described.clone()
                aria-invalid=error.is_some().then_some("true")
            >
                {options
                    .iter()
                    .map(|(sent, read)| {
                        view! {
                            <option value=sent.clone() selected=*sent == value>
                                {read.clone()}
                            </option>
                        }
                    })
                    .collect_view()}
            </select>
        </FieldAround>
    }
}

/// A label, the field itself, its hint and its error. The field inside carries `id`, and `described_by` as
/// its `aria-describedby`.
#[component]
pub fn FieldAround(
    #[prop(into)] id: String,
    #[prop(into)] label: String,
    #[prop(optional, into)] hint: String,
    #[prop(optional_no_strip, into)] error: Option<String>,
    #[prop(optional)] required: bool,
    children: Children,
) -> impl IntoView {
    view! {
        <div class="flex flex-col gap-1">
            <label class="font-medium" for=id.clone()>
                {label}
                {(!required).then(|| view! { <span class="ms-1 font-normal text-dim">"optional"</span> })}
            </label>
            {children()}
            {error
                .map(|error| {
                    view! {
                        <p class="flex items-start gap-1 text-sm text-error" id=format!("{id}-error")>
                            <super::icons::Icon name="alert" class="mt-0.5 size-4 shrink-0" />
                            {error}
                        </p>
                    }
                })}
            {(!hint.is_empty())
                .then(|| view! { <p class="text-sm text-dim" id=format!("{id}-hint")>{hint}</p> })}
        </div>
    }
}

/// What a field's `aria-describedby` names.
pub fn described_by(id: &str, hint: &str, error: &Option<String>) -> Option<String> {
    let mut ids = Vec::new();
    if error.is_some() {
        ids.push(format!("{id}-error"));
    }
    if !hint.is_empty() {
        ids.push(format!("{id}-hint"));
    }
    (!ids.is_empty()).then(|| ids.join(" "))
}
