//! Copies the text beside it.

use leptos::ev::MouseEvent;
use leptos::prelude::*;
use leptos::wasm_bindgen::{JsCast, JsValue};
use leptos::web_sys::{self, js_sys};

use crate::app::icons::Icon;

/// A button that copies the text of the nearest `[data-copy-from]` inside the nearest `[data-copy]` around it.
/// Without JavaScript it does not show.
#[island]
pub fn Copy() -> impl IntoView {
    let ready = RwSignal::new(false);
    let copied = RwSignal::new(false);
    Effect::new(move || ready.set(true));
    let press = move |event: MouseEvent| {
        let text = event
            .target()
            .and_then(|target| target.dyn_into::<web_sys::Element>().ok())
            .and_then(|button| button.closest("[data-copy]").ok().flatten())
            .and_then(|around| around.query_selector("[data-copy-from]").ok().flatten())
            .and_then(|from| from.text_content());
        if let Some(text) = text {
            to_clipboard(&text);
            copied.set(true);
            set_timeout(move || copied.set(false), std::time::Duration::from_secs(2));
        }
    };
    view! {
        <button type="button" class="btn btn-sm" hidden=move || !ready.get() on:click=press>
            <Icon name="copy" />
            <span aria-live="polite">{move || if copied.get() { "Copied" } else { "Copy" }}</span>
        </button>
    }
}

/// Nothing happens where the browser does not allow it.
pub fn to_clipboard(text: &str) {
    let get = |of: &JsValue, name: &str| js_sys::Reflect::get(of, &name.into()).ok();
    let clipboard = get(&window(), "navigator").and_then(|navigator| get(&navigator, "clipboard"));
    if let Some(clipboard) = clipboard
        && let Some(write) =
            get(&clipboard, "writeText").and_then(|write| write.dyn_into::<js_sys::Function>().ok())
    {
        let _ = write.call1(&clipboard, &text.into());
    }
}
