//! The newest calls of a deployed server: who, which tool, how it went, how long it took.

use leptos::prelude::*;

use super::frame::Section;
use super::times::When;
use crate::model::calls::{CallRow, Outcome};

/// `whose` heads it; `named` is whether it says who called.
pub fn calls(whose: &'static str, calls: Vec<CallRow>, named: bool) -> impl IntoView {
    view! {
        <Section title=whose id="calls">
            {if calls.is_empty() {
                view! { <p class="text-dim">"None yet. A call of a tool stands here once it has ended."</p> }.into_any()
            } else {
                view! {
                    <ul class="flex flex-col divide-y divide-base-300 text-sm">
                        {calls.into_iter().map(|call| row(call, named)).collect_view()}
                    </ul>
                }
                    .into_any()
            }}
            <p class="text-sm text-dim">"What a tool was given and what it gave is not kept."</p>
        </Section>
    }
}

fn row(call: CallRow, named: bool) -> impl IntoView {
    let (class, says) = match call.outcome {
        Outcome::Done => ("text-dim", "done"),
        Outcome::Failed => ("text-amber", "the tool failed"),
        Outcome::Refused => ("text-amber", "refused"),
        Outcome::GivenUp => ("text-amber", "given up"),
    };
    view! {
        <li class="flex flex-wrap items-center gap-x-4 gap-y-1 py-1.5">
            <span class="min-w-0 break-all font-mono">{call.tool}</span>
            <span class=class>{says}</span>
            <span class="text-dim">{format!("{} ms", call.took_ms)}</span>
            {named.then(|| view! { <span class="font-mono text-dim">{call.who}</span> })}
            <span class="ms-auto text-dim"><When at=call.at /></span>
        </li>
    }
}
