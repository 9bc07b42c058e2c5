//! What the page begins with: whose it is, what runs, where, and whether one's calls have what they need.

use leptos::prelude::*;

use super::super::deployments::StateBadge;
use super::super::icons::Icon;
use super::super::times::When;
use super::slot::value_id;
use crate::model::connections::{ConnectPage, SlotState};

pub fn about(page: &ConnectPage, email: &str) -> impl IntoView + use<> {
    let command = match page.command.as_str() {
        "" => "as its source says, once it is installed",
        command => command,
    };
    let network = match page.network {
        true => "It may open connections to the outside",
        false => "None: it reaches nothing outside",
    };
    let rows = [
        ("Owner", page.owner.clone()),
        ("Source", page.source.to_string()),
        ("Starts with", command.to_owned()),
        ("Network", network.to_owned()),
        ("Runs at", page.target.title().to_owned()),
        ("You are", email.to_owned()),
    ]
    .into_iter()
    .map(|(what, is)| {
        view! {
            <div class="flex min-w-0 gap-2">
                <dt class="shrink-0 text-dim">{what}</dt>
                <dd class="min-w-0 break-all font-mono">{is}</dd>
            </div>
        }
    })
    .collect_view();
    view! {
        <section id="standing" aria-label="Standing" class="flex flex-col gap-3 rounded-box border border-base-300 p-4">
            {says(page)}
            {mend(page)}
            <dl class="flex flex-wrap gap-x-5 gap-y-1 text-sm">
                <div class="flex gap-2">
                    <dt class="text-dim">"State"</dt>
                    <dd>
                        <StateBadge state=page.state />
                    </dd>
                </div>
                {rows}
            </dl>
        </section>
    }
}

/// In a sentence.
fn says(page: &ConnectPage) -> impl IntoView + use<> {
    let used = page.slots.iter().filter(|slot| slot.state.is_used());
    let (icon, class, says) = match (page.refused_at, page.is_connected()) {
        (Some(at), _) => {
            let which = match page.slots.len() {
                1 => {
                    "Calls go on reaching it, and fail until you replace the key, or connect it again once it is mended there."
                }
                _ => {
                    "It does not say which. Calls go on reaching it, and fail until you replace the one, or connect it again once it is mended there."
                }
            };
            let says = view! { "The far service refused your keys " <When at /> ". " {which} };
            ("alert", "text-error", says.into_any())
        }
        (None, true) => (
            "check",
            "text-success",
            "Connected. Your calls run in an instance of your own, with these keys.".into_any(),
        ),
        (None, false) => {
            let says = format!(
                "Your calls wait: {} of {} keys can be used. Until all can, your calls are answered with the address of this page.",
                used.count(),
                page.slots.len()
            );
            ("alert", "text-amber", says.into_any())
        }
    };
    view! {
        <p class="flex items-start gap-2">
            <span class=class>
                <Icon name=icon class="mt-0.5 size-4 shrink-0" />
            </span>
            <span>{says}</span>
        </p>
    }
}

/// One click to the field where a new value mends it. A browser puts the cursor there.
fn mend(page: &ConnectPage) -> Option<impl IntoView + use<>> {
    let is_mended_so = |state: SlotState| {
        matches!(
            state,
            SlotState::Refused | SlotState::Expired | SlotState::Expiring
        )
    };
    let links = page.slots.iter().filter(|slot| is_mended_so(slot.state));
    let links = links
        .map(|slot| {
            view! {
                <a class="btn btn-sm" href=format!("#{}", value_id(&slot.env))>
                    <Icon name="lock" />
                    {format!("Replace {}", slot.env)}
                </a>
            }
        })
        .collect::<Vec<_>>();
    (!links.is_empty()).then(|| view! { <p class="flex flex-wrap gap-2">{links}</p> })
}
