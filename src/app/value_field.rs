//! The field that a value is typed into. What stands in it goes one way: nothing ever fills it from the server.

use leptos::prelude::*;

use super::fields::{FieldAround, described_by};
use super::islands::value_tools::ValueTools;
use super::wire::Flash;

const HINT: &str = "Up to 64 KiB, as many lines as it has. It is sealed when it is saved and cannot be shown here again.";

#[component]
pub fn ValueField(
    /// Unique on the page.
    #[prop(default = "value".into(), into)]
    id: String,
    /// The name that the form sends.
    #[prop(default = "value".into(), into)]
    name: String,
    #[prop(default = "Value")] label: &'static str,
    #[prop(optional_no_strip, into)] error: Option<String>,
    #[prop(default = HINT)] hint: &'static str,
    #[prop(default = true)] required: bool,
    /// Offers to fill it at random, in the browser.
    #[prop(optional)]
    generate: bool,
) -> impl IntoView {
    let described = described_by(&id, hint, &error);
    let class = if error.is_some() {
        "textarea textarea-error field-sizing-content max-h-80 min-h-20 w-full break-all font-mono"
    } else {
        "textarea field-sizing-content max-h-80 min-h-20 w-full break-all font-mono"
    };
    view! {
        <FieldAround id=id.clone() label hint error=error.clone() required=true>
            <div class="flex flex-col gap-2" data-value=if generate { "generate" } else { "" }>
                <textarea
                    class=class
                    id=id
                    name=name
                    rows="3"
                    required=required
                    autocomplete="off"
                    autocapitalize="off"
                    spellcheck="false"
                    aria-describedby=described
                    aria-invalid=error.is_some().then_some("true")
                ></textarea>
                <ValueTools />
            </div>
        </FieldAround>
    }
}

/// What is said at the field after its form came back: what was typed there is gone, whatever else is wrong.
pub fn value_error(flash: &Flash) -> Option<String> {
    let again = "Type, paste or generate the value again: it was not kept.";
    flash
        .error("value")
        .or_else(|| (!flash.errors.is_empty()).then(|| again.to_owned()))
}

/// Sends the form without a value: the server makes one that nobody sees. Needs no JavaScript.
#[component]
pub fn GenerateUnseen() -> impl IntoView {
    view! {
        <button
            class="btn"
            name="generate"
            value="true"
            formnovalidate
            title="32 random bytes as URL-safe base64, made on the server and shown to nobody"
        >
            "Generate unseen"
        </button>
    }
}
