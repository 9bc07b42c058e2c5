//! On a deployment's page: the way to one's own keys, and who has connected theirs. Never with what.

use leptos::prelude::*;

use super::super::deployments::DeploymentView;
use super::super::frame::Section;
use super::super::icons::Icon;
use super::super::times::When;
use super::address;
use crate::model::connections::{ConnectedPerson, PersonState};
use crate::model::levels::Level;

/// Where callers bring keys of their own: says so, and leads there.
pub fn bring_your_own(found: &DeploymentView) -> Option<impl IntoView + use<>> {
    let name = found.detail.summary.name.clone();
    (found.detail.summary.per_user && !found.detail.destroying).then(|| {
        view! {
            <p class="flex flex-wrap items-center gap-3">
                <span>"Each caller brings keys of their own, and has an instance of their own."</span>
                <a class="btn btn-sm" href=address(&name)>
                    <Icon name="lock" />
                    "Connect your keys"
                </a>
            </p>
        }
    })
}

/// For whoever may change it.
pub fn connected_people(found: &DeploymentView) -> Option<impl IntoView + use<>> {
    let is_shown = found.detail.summary.per_user && found.detail.summary.level >= Level::Write;
    let people = found.people.clone();
    is_shown.then(|| {
        view! {
            <Section title="Connected people" id="connected-people">
                {if people.is_empty() {
                    view! { <p class="text-dim">"Nobody has connected keys yet."</p> }.into_any()
                } else {
                    view! {
                        <ul class="flex flex-col divide-y divide-base-300">
                            {people.into_iter().map(person).collect_view()}
                        </ul>
                    }
                        .into_any()
                }}
                <p class="text-sm text-dim">"With which values, Sealport tells nobody."</p>
            </Section>
        }
    })
}

fn person(of: ConnectedPerson) -> impl IntoView {
    let (class, says) = match of.state {
        PersonState::Connected => ("badge badge-success badge-soft badge-sm", "Connected"),
        PersonState::Expiring => ("badge badge-warning badge-sm", "Expires soon"),
        PersonState::Refused => (
            "badge badge-error badge-soft badge-sm",
            "Refused by the far service",
        ),
        PersonState::Missing => ("badge badge-warning badge-sm", "Cannot call now"),
    };
    view! {
        <li class="flex flex-wrap items-center gap-x-3 gap-y-1 py-2">
            <a class="link inline-flex min-h-6 items-center font-mono" href=format!("/people/{}", of.handle)>
                {of.handle.clone()}
            </a>
            <span class=class>{says}</span>
            <span class="text-sm text-dim">"since " <When at=of.since /></span>
        </li>
    }
}
