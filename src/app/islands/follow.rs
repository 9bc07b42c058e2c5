//! Follows a deployment: new lines of its log as they come, and the live parts of the page when its state changes.

use leptos::prelude::*;
use leptos::wasm_bindgen::closure::Closure;
use leptos::wasm_bindgen::{JsCast, JsValue};
use leptos::web_sys::{self, Element, MessageEvent, js_sys};

use super::copy::to_clipboard;
use crate::app::icons::Icon;

/// Lines that stay on the page.
const LINES_KEPT: u32 = 2_000;

/// Listens to the address of the `[data-follow]` around it; appends to its `[data-log]`, where there is one; replaces what is marked
/// `[data-live]` by the same part of the page as it is now. Without JavaScript it does not show.
#[island]
pub fn Follow() -> impl IntoView {
    let place = NodeRef::<leptos::html::Div>::new();
    let paused = RwSignal::new(false);
    let ready = RwSignal::new(false);
    let copied = RwSignal::new(false);
    let around = move || {
        place
            .get_untracked()?
            .closest("[data-follow]")
            .ok()
            .flatten()
    };
    Effect::new(move || {
        let Some(around) = around() else {
            return;
        };
        // Its buttons are of a log.
        ready.set(matches!(around.query_selector("[data-log]"), Ok(Some(_))));
        listen(&around, paused);
    });
    view! {
        <div node_ref=place class="flex flex-wrap gap-2" hidden=move || !ready.get()>
            <button type="button" class="btn btn-sm" aria-pressed=move || paused.get().to_string() on:click=move |_| paused.update(|is| *is = !*is)>
                <Icon name="pause" />
                {move || if paused.get() { "Follow again" } else { "Pause" }}
            </button>
            <button
                type="button"
                class="btn btn-sm"
                title="Copies the lines that show"
                on:click=move |_| {
                    if let Some(around) = around() {
                        to_clipboard(&visible(&around));
                        copied.set(true);
                        set_timeout(move || copied.set(false), std::time::Duration::from_secs(2));
                    }
                }
            >
                <Icon name="copy" />
                <span aria-live="polite">{move || if copied.get() { "Copied" } else { "Copy" }}</span>
            </button>
            <label class="input input-sm">
                <Icon name="search" />
                <span class="sr-only">"Show lines that contain"</span>
                <input
                    type="search"
                    placeholder="Filter lines"
                    on:input=move |event| {
                        if let Some(around) = around() {
                            filter(&around, &event_target_value(&event).to_lowercase());
                        }
                    }
                />
            </label>
        </div>
    }
}

fn listen(around: &Element, paused: RwSignal<bool>) {
    let Some(address) = around.get_attribute("data-follow") else {
        return;
    };
    // Lines that the page has already are not sent again.
    let after = around.get_attribute("data-after").unwrap_or_default();
    let Ok(source) = web_sys::EventSource::new(&format!("{address}?after={after}")) else {
        return;
    };
    let log = around.query_selector("[data-log]").ok().flatten();
    if let Some(log) = log.clone() {
        log.set_scroll_top(log.scroll_height());
        on(&source, "line", move |data| {
            append(&log, &data, paused.get_untracked())
        });
    }
    let shown = StoredValue::new(around.get_attribute("data-gist").unwrap_or_default());
    on(&source, "state", move |data| {
        // The first often says what the page shows already.
        let gist =
            js_sys::JSON::parse(&data).map_or_else(|_| String::new(), |data| text(&data, "gist"));
        if gist != shown.get_value() {
            renew();
            shown.set_value(gist);
        }
    });
    let closing = source.clone();
    on(&source, "end", move |_| closing.close());
}

fn on(source: &web_sys::EventSource, name: &str, act: impl Fn(String) + 'static) {
    let heard = Closure::<dyn Fn(MessageEvent)>::new(move |event: MessageEvent| {
        act(event.data().as_string().unwrap_or_default());
    });
    let _ = source.add_event_listener_with_callback(name, heard.as_ref().unchecked_ref());
    // It listens as long as the page is open.
    heard.forget();
}

/// A line arrives as JSON, which the browser reads by itself.
fn append(log: &Element, data: &str, paused: bool) {
    let Ok(line) = js_sys::JSON::parse(data) else {
        return;
    };
    let Ok(item) = document().create_element("li") else {
        return;
    };
    item.set_class_name("whitespace-pre-wrap break-words");
    item.set_text_content(Some(&format!(
        "{} {}",
        text(&line, "stream"),
        text(&line, "line")
    )));
    let _ = log.append_child(&item);
    if log.child_element_count() > LINES_KEPT
        && let Some(oldest) = log.first_element_child()
    {
        oldest.remove();
    }
    if !paused {
        log.set_scroll_top(log.scroll_height());
    }
}

/// A text of an object that arrived as JSON.
fn text(of: &JsValue, name: &str) -> String {
    js_sys::Reflect::get(of, &JsValue::from_str(name))
        .ok()
        .and_then(|value| value.as_string())
        .unwrap_or_default()
}

/// Shows the lines that contain the text.
fn filter(around: &Element, wanted: &str) {
    for line in lines(around, "[data-log] > li") {
        let text = line.text_content().unwrap_or_default().to_lowercase();
        let _ = line.toggle_attribute_with_force("hidden", !text.contains(wanted));
    }
}

/// The lines that show, one below the other.
fn visible(around: &Element) -> String {
    let mut text = String::new();
    for line in lines(around, "[data-log] > li:not([hidden])") {
        text.push_str(&line.text_content().unwrap_or_default());
        text.push('\n');
    }
    text
}

fn lines(around: &Element, which: &str) -> Vec<Element> {
    let Ok(found) = around.query_selector_all(which) else {
        return Vec::new();
    };
    (0..found.length())
        .filter_map(|i| found.item(i)?.dyn_into::<Element>().ok())
        .collect()
}

/// Fetches the page as it is now and puts its live parts in the place of the old ones.
fn renew() {
    let Ok(address) = window().location().href() else {
        return;
    };
    // A token is shown once; asking for it again would say that it is gone.
    let address = address
        .split(['?', '#'])
        .next()
        .unwrap_or_default()
        .to_owned();
    leptos::task::spawn_local(async move {
        let Ok(answer) = wait(window().fetch_with_str(&address)).await else {
            return;
        };
        let Ok(text) = answer.unchecked_into::<web_sys::Response>().text() else {
            return;
        };
        let Some(text) = wait(text).await.ok().and_then(|text| text.as_string()) else {
            return;
        };
        let Some(page) = web_sys::DomParser::new().ok().and_then(|parser| {
            parser
                .parse_from_string(&text, web_sys::SupportedType::TextHtml)
                .ok()
        }) else {
            return;
        };
        let Ok(parts) = document().query_selector_all("[data-live]") else {
            return;
        };
        for i in 0..parts.length() {
            let part = parts
                .item(i)
                .and_then(|node| node.dyn_into::<Element>().ok());
            if let Some(part) = part
                && let Some(fresh) = page.get_element_by_id(&part.id())
                && !part.contains(document().active_element().as_deref())
            {
                let _ = part.replace_with_with_node_1(&fresh);
            }
        }
    });
}

/// A promise of the browser's, awaited.
async fn wait(promise: js_sys::Promise) -> Result<JsValue, JsValue> {
    wasm_bindgen_futures::JsFuture::from(promise).await
}
