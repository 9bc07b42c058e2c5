//! Single keys: `/` searches, `n` adds, `g s`, `g d` and `g a` go, `?` lists them.

use leptos::ev::{self, KeyboardEvent};
use leptos::html::{Button, Dialog};
use leptos::prelude::*;
use leptos::wasm_bindgen::JsCast;
use leptos::web_sys::{self, HtmlElement};

use crate::app::icons::Icon;

const KEYS: [(&str, &str); 6] = [
    ("/", "Search"),
    ("n", "Add"),
    ("g s", "Go to secrets"),
    ("g d", "Go to deployments"),
    ("g a", "Go to activity"),
    ("?", "Show this list"),
];

/// Listens on the whole page; Settings turns it off.
#[island]
pub fn Keys() -> impl IntoView {
    let dialog = NodeRef::<Dialog>::new();
    let button = NodeRef::<Button>::new();
    let ready = RwSignal::new(false);
    let show = move || {
        // In a narrow window the rail is not shown: a dialog in it would lock the page unseen.
        if let Some(dialog) = dialog.get_untracked()
            && button
                .get_untracked()
                .is_some_and(|button| button.offset_width() > 0)
        {
            let _ = dialog.show_modal();
        }
    };
    Effect::new(move || {
        ready.set(true);
        let after_g = StoredValue::new(false);
        window_event_listener(ev::keydown, move |event| {
            let went = after_g.get_value();
            after_g.set_value(false);
            if event.key() == "Escape" {
                close_menu();
            } else if is_for_us(&event) {
                match (went, event.key().as_str()) {
                    (false, "g") => after_g.set_value(true),
                    (true, "s") => go("/secrets"),
                    (true, "d") => go("/deployments"),
                    (true, "a") => go("/activity"),
                    (false, "/") => focus_search(&event),
                    (false, "n") => press("[data-primary]"),
                    (false, "?") => show(),
                    _ => {}
                }
            }
        });
    });
    view! {
        <button
            node_ref=button
            type="button"
            class="btn btn-ghost btn-sm w-full justify-start gap-2.5 px-2.5 font-normal text-dim"
            hidden=move || !ready.get()
            on:click=move |_| show()
        >
            <Icon name="keyboard" />
            "Keyboard"
            <kbd class="kbd kbd-sm ms-auto">"?"</kbd>
        </button>
        <dialog node_ref=dialog class="modal" aria-labelledby="keys-title">
            <div class="modal-box max-w-xs">
                <h2 id="keys-title" class="mb-3">
                    "Keyboard"
                </h2>
                <dl class="grid grid-cols-[5rem_1fr] gap-y-2">
                    {KEYS
                        .into_iter()
                        .map(|(key, does)| {
                            view! {
                                <dt>
                                    <kbd class="kbd kbd-sm">{key}</kbd>
                                </dt>
                                <dd>{does}</dd>
                            }
                        })
                        .collect_view()}
                </dl>
                <p class="mt-3 text-sm text-dim">"Settings turns them off."</p>
                <form method="dialog" class="modal-action">
                    <button class="btn">"Close"</button>
                </form>
            </div>
        </dialog>
    }
}

/// Not while something is typed or a dialog is open, and never with a modifier.
fn is_for_us(event: &KeyboardEvent) -> bool {
    let typing = event
        .target()
        .and_then(|target| target.dyn_into::<web_sys::Element>().ok())
        .is_some_and(|target| {
            target
                .closest("input, textarea, select, dialog, [contenteditable]")
                .is_ok_and(|found| found.is_some())
        });
    !typing
        && !event.ctrl_key()
        && !event.meta_key()
        && !event.alt_key()
        && !event.is_composing()
        && !event.repeat()
}

fn find(selector: &str) -> Option<HtmlElement> {
    document()
        .query_selector(selector)
        .ok()
        .flatten()?
        .dyn_into()
        .ok()
}

fn go(to: &str) {
    let _ = window().location().set_href(to);
}

fn press(selector: &str) {
    if let Some(element) = find(selector) {
        element.click();
    }
}

fn focus_search(event: &KeyboardEvent) {
    if let Some(search) = find("input[type=search]") {
        event.prevent_default();
        let _ = search.focus();
    }
}

/// A menu of a row closes and its button has the focus again.
fn close_menu() {
    if let Some(open) = find("details.dropdown[open]") {
        let _ = open.remove_attribute("open");
        press_focus(&open);
    }
}

fn press_focus(details: &HtmlElement) {
    if let Some(summary) = details
        .query_selector("summary")
        .ok()
        .flatten()
        .and_then(|summary| summary.dyn_into::<HtmlElement>().ok())
    {
        let _ = summary.focus();
    }
}
