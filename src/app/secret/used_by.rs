//! Which deployments would miss it.

use leptos::prelude::*;

use super::super::frame::Section;
use super::super::icons::Icon;
use crate::model::secrets::SecretSummary;

#[component]
pub fn UsedBy(secret: SecretSummary) -> impl IntoView {
    let fetched = secret.fetched_by.clone();
    view! {
        <Section title="Used by" id="used">
            {if secret.deployments().is_empty() {
                view! {
                    <p class="text-sm text-dim">
                        "No deployment yet. " <a class="link" href="/deploy">"Deploy a server"</a> " and tick it there."
                    </p>
                }
                    .into_any()
            } else {
                view! {
                    <Names deployments=secret.used_by.clone() />
                    {(!fetched.is_empty())
                        .then(|| {
                            view! {
                                <p class="text-sm text-dim">"To fetch the code of"</p>
                                <Names deployments=fetched />
                            }
                        })}
                }
                    .into_any()
            }}
        </Section>
    }
}

#[component]
pub fn Names(deployments: Vec<String>) -> impl IntoView {
    view! {
        <ul class="flex flex-col gap-1">
            {deployments
                .into_iter()
                .map(|name| {
                    view! {
                        <li class="flex items-center gap-2">
                            <Icon name="ship" />
                            <a class="link min-h-6 font-mono" href=format!("/deployments/{name}")>{name.clone()}</a>
                        </li>
                    }
                })
                .collect_view()}
        </ul>
    }
}
