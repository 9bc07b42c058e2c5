//! On a secret's page: the deployments that run it now, and whether with its newest value.

use leptos::prelude::*;

use super::frame::Section;
use crate::model::secrets::SecretRun;

#[component]
pub fn RunsNow(runs: Vec<SecretRun>) -> impl IntoView {
    (!runs.is_empty()).then(|| {
        view! {
            <Section title="Runs now" id="runs">
                <ul class="flex flex-col gap-1.5 text-sm">
                    {runs
                        .into_iter()
                        .map(|run| {
                            let name = run.deployment.to_string();
                            let (class, says) = if run.is_current {
                                ("text-dim", format!("the newest value, version {}", run.version))
                            } else {
                                ("text-amber", format!("an older value, version {}: redeploy it to use the newest", run.version))
                            };
                            view! {
                                <li>
                                    <a class="link font-mono" href=format!("/deployments/{name}")>
                                        {name.clone()}
                                    </a>
                                    " "
                                    <span class=class>{says}</span>
                                </li>
                            }
                        })
                        .collect_view()}
                </ul>
            </Section>
        }
    })
}
