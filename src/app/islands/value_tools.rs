//! Beside a field for a value: hide what is typed, make a random one, copy it before it is sealed.

use leptos::ev::MouseEvent;
use leptos::html::Div;
use leptos::prelude::*;
use leptos::wasm_bindgen::closure::Closure;
use leptos::wasm_bindgen::{JsCast, JsValue};
use leptos::web_sys::{self, js_sys};

use super::copy::to_clipboard;

/// As many random bytes as a key of the strongest ciphers has.
const GENERATED_LEN_BYTES: u32 = 32;
const BASE64_URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Acts on the textarea of the nearest `[data-value]` around it; offers to generate where that says
/// `data-value="generate"`. Without JavaScript it does not show, and what is typed stays readable.
#[island]
pub fn ValueTools() -> impl IntoView {
    let place = NodeRef::<Div>::new();
    let ready = RwSignal::new(false);
    let hidden = RwSignal::new(false);
    let generates = RwSignal::new(false);
    let copied = RwSignal::new(false);
    let several = RwSignal::new(false);
    let around = move || {
        place
            .get_untracked()?
            .closest("[data-value]")
            .ok()
            .flatten()
    };
    let field = move || {
        around()?
            .query_selector("textarea")
            .ok()
            .flatten()?
            .dyn_into::<web_sys::HtmlTextAreaElement>()
            .ok()
    };
    let hide = move |is: bool| {
        hidden.set(is);
        if let Some(field) = field() {
            let _ = field
                .class_list()
                .toggle_with_force("[-webkit-text-security:disc]", is);
        }
    };
    Effect::new(move || {
        generates.set(
            around()
                .and_then(|around| around.get_attribute("data-value"))
                .as_deref()
                == Some("generate"),
        );
        hide(true);
        ready.set(true);
        if let Some(field) = field() {
            let typed = field.clone();
            let look = move || several.set(is_several(&typed.value()));
            // Typed or pasted before the script was here.
            look();
            let look = Closure::<dyn Fn()>::new(look);
            let _ = field.add_event_listener_with_callback("input", look.as_ref().unchecked_ref());
            // It looks as long as the page is open.
            look.forget();
        }
    });
    let generate = move |_: MouseEvent| {
        if let (Some(field), Some(value)) = (field(), random_value()) {
            field.set_value(&value);
            hide(false);
            let _ = field.focus();
        }
    };
    let copy = move |_: MouseEvent| {
        if let Some(field) = field().filter(|field| !field.value().is_empty()) {
            to_clipboard(&field.value());
            copied.set(true);
            set_timeout(move || copied.set(false), std::time::Duration::from_secs(2));
        }
    };
    view! {
        <div node_ref=place class="flex flex-wrap gap-2" hidden=move || !ready.get()>
            <button type="button" class="btn btn-sm" on:click=move |_| hide(!hidden.get_untracked())>
                {move || if hidden.get() { "Show" } else { "Hide" }}
            </button>
            <button type="button" class="btn btn-sm" hidden=move || !generates.get() on:click=generate>
                "Generate"
            </button>
            <button type="button" class="btn btn-sm" on:click=copy>
                <span aria-live="polite">{move || if copied.get() { "Copied" } else { "Copy" }}</span>
            </button>
            <p class="w-full text-sm text-amber" role="status">
                {move || several.get().then_some("This looks like several variables. All of it becomes one value.")}
            </p>
        </div>
    }
}

/// Whether this looks like a `.env` file: two or more lines such as `NAME=text`.
fn is_several(typed: &str) -> bool {
    let is_variable = |line: &&str| {
        let line = line.trim_start();
        let line = line.strip_prefix("export ").unwrap_or(line);
        line.split_once('=').is_some_and(|(name, _)| {
            name.starts_with(|c: char| c.is_ascii_uppercase())
                && name
                    .bytes()
                    .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
        })
    };
    typed.lines().filter(is_variable).nth(1).is_some()
}

/// Random bytes from the browser as URL-safe base64 without padding, as the server makes them.
fn random_value() -> Option<String> {
    let get = |of: &JsValue, name: &str| js_sys::Reflect::get(of, &name.into()).ok();
    let crypto = get(&window(), "crypto")?;
    let fill = get(&crypto, "getRandomValues")?
        .dyn_into::<js_sys::Function>()
        .ok()?;
    let bytes = js_sys::Uint8Array::new_with_length(GENERATED_LEN_BYTES);
    fill.call1(&crypto, &bytes).ok()?;
    Some(base64_url(&bytes.to_vec()))
}

fn base64_url(bytes: &[u8]) -> String {
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let group = three
            .iter()
            .chain([0; 2].iter())
            .take(3)
            .fold(0_u32, |group, byte| group << 8 | u32::from(*byte));
        for place in 0..=three.len() {
            let six = group >> (18 - 6 * place) & 63;
            text.push(char::from(BASE64_URL[six as usize]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{base64_url, is_several};

    #[test]
    fn several_variables_are_told_from_one_value() {
        for several in ["A_KEY=1\nB_KEY=2", "# keys\nexport A=1\r\n\r\n  B2=\n"] {
            assert!(is_several(several), "{several:?}");
        }
        for one in [
            "",
            "A_KEY=1",
            "{\n\"A\": \"b=c\"\n}",
            "-----BEGIN KEY-----\nMIIEvQIBADANBg\nkqhkiG9w0BAQEFAASC==\n-----END KEY-----",
            "postgres://a:b@c/d?x=1\npostgres://e",
        ] {
            assert!(!is_several(one), "{one:?}");
        }
    }

    #[test]
    fn base64_is_that_of_rfc_4648() {
        assert_eq!(base64_url(b""), "");
        assert_eq!(base64_url(b"f"), "Zg");
        assert_eq!(base64_url(b"fo"), "Zm8");
        assert_eq!(base64_url(b"foo"), "Zm9v");
        assert_eq!(base64_url(b"foobar"), "Zm9vYmFy");
        assert_eq!(base64_url(&[0xfb, 0xff]), "-_8");
    }
}
