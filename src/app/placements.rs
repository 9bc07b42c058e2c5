//! Where a deployment runs, on its page: what the target was told, and what a provider has of it.

use std::collections::BTreeMap;

use leptos::prelude::*;

use super::icons::Icon;
use crate::model::deployments::DeploymentDetail;
use crate::model::errors::Refusal;
use crate::model::limits::{GuestLimits, GuestUsage};
use crate::model::paths::DeploymentName;
use crate::model::targets::{Placed, Target};

/// The target, with what it was told.
pub fn options(target: Target, options: &BTreeMap<String, String>) -> impl IntoView + use<> {
    let told = options
        .iter()
        .map(|(name, said)| {
            let known = target.options().iter().find(|option| option.name == name);
            let title = known.map_or_else(|| name.clone(), |option| option.title());
            view! {
                <div class="flex min-w-0 gap-2">
                    <dt class="text-dim">{title}</dt>
                    <dd class="min-w-0 break-all font-mono">{said.clone()}</dd>
                </div>
            }
        })
        .collect_view();
    view! {
        <dl class="flex flex-wrap gap-x-5 gap-y-1 text-sm">
            <div class="flex gap-2">
                <dt class="text-dim">"Runs at"</dt>
                <dd>{target.title()}</dd>
            </div>
            {told}
        </dl>
    }
}

/// What a server takes of this machine, of what it may.
pub fn taken(usage: GuestUsage, options: &BTreeMap<String, String>) -> impl IntoView + use<> {
    let most = GuestLimits::of(options).unwrap_or_default();
    let says = format!(
        "Takes {} of {} MiB of memory, {} of {} processes and threads, {} of {} MiB of disk.",
        usage.memory_mib,
        most.memory_mib,
        usage.processes,
        most.processes,
        usage.disk_mib,
        most.disk_mib,
    );
    view! { <p class="text-sm text-dim">{says}</p> }
}

/// What the provider has of it, also after a release that failed; its address, and whether that lets in whoever comes.
pub fn placed(target: Target, placed: &Placed) -> Option<impl IntoView + use<>> {
    let service = placed.service.clone()?;
    let title = target.title();
    let place = [("workspace", &placed.account), ("project", &placed.project)];
    let place: Vec<String> = place
        .iter()
        .filter_map(|(what, id)| Some(format!("{what} {}", id.as_ref()?)))
        .collect();
    let place = match place.is_empty() {
        true => String::new(),
        false => format!(" ({})", place.join(", ")),
    };
    let is_open = placed.open == Some(true);
    Some(view! {
        <p class="text-sm">
            {format!("{title} has the service ")} <code class="break-all font-mono">{service}</code>
            {format!("{place} of it. Destroying the deployment removes it there.")}
        </p>
        {placed
            .url
            .clone()
            .map(|url| {
                view! {
                    <p class="text-sm">
                        {format!("At {title} it answers at ")} <code class="break-all font-mono">{url}</code>
                        ". Clients go by the gateway’s address above."
                    </p>
                }
            })}
        {is_open
            .then(|| {
                view! {
                    <p class="mt-1 flex items-start gap-2 text-sm text-amber">
                        <Icon name="alert" class="mt-0.5 size-4 shrink-0" />
                        "Whoever knows this address can call the server: it does not check SEALPORT_GATEWAY_SECRET."
                    </p>
                }
            })}
    })
}

/// That it goes, and what goes first; the reason, below, says how far that is.
pub fn destroying(detail: &DeploymentDetail) -> Option<impl IntoView + use<>> {
    let title = detail.target.title();
    detail.destroying.then(|| {
        view! {
            <p class="flex items-start gap-2 text-amber">
                <Icon name="alert" class="mt-0.5 size-4 shrink-0" />
                <span>
                    {format!(
                        "It is being destroyed. What {title} has of it goes first; then it goes here. It is tried again until that is done.",
                    )}
                </span>
            </p>
        }
    })
}

/// Asks the provider what is other there than Sealport left it, and says it on the deployment's page.
#[server(prefix = "/_fn", endpoint = "deployment_drift")]
pub async fn deployment_drift(name: DeploymentName) -> Result<(), Refusal> {
    use super::wire::{Flash, back, caller, go};
    let deployer = expect_context::<crate::deploy::Deployer>();
    let caller = caller().await?;
    let here = format!("/deployments/{name}");
    let says = match deployer.look_for_drift(&caller, &name).await {
        Ok(says) => says,
        Err(refusal) => return back(&here, "drift", refusal, &[]).await,
    };
    let flash = Flash {
        notice: says
            .is_empty()
            .then(|| "Nothing has changed there since Sealport last deployed.".to_owned()),
        notes: says,
        ..Flash::default()
    };
    go(&here, flash).await
}

/// The button that looks for drift, where a provider has something of it.
pub fn drift(detail: &DeploymentDetail) -> Option<impl IntoView + use<>> {
    let name = detail.summary.name.to_string();
    let title = detail.target.title();
    let is_there = detail.placed.service.is_some() && !detail.destroying;
    is_there.then(|| {
        view! {
            <form method="post" action="/_fn/deployment_drift" class="flex flex-wrap items-center gap-3">
                <input type="hidden" name="name" value=name />
                <button class="btn btn-sm">
                    <Icon name="search" />
                    "Look for drift"
                </button>
                <span class="text-sm text-dim">
                    {format!("Asks {title} what has changed there since Sealport last deployed.")}
                </span>
            </form>
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_lets_in_everyone_is_said() {
        let shown =
            |placed_there: &Placed| placed(Target::Render, placed_there).map(|view| view.to_html());
        assert_eq!(shown(&Placed::default()), None);
        let mut there = Placed {
            service: Some("srv-1".into()),
            account: Some("tea-1".into()),
            url: Some("https://crawl.onrender.com".into()),
            ..Placed::default()
        };
        for (open, said) in [(None, false), (Some(false), false), (Some(true), true)] {
            there.open = open;
            let html = shown(&there).unwrap_or_default();
            assert!(html.contains("https://crawl.onrender.com"), "{html}");
            assert!(html.contains("srv-1") && html.contains("(workspace tea-1)"));
            assert!(html.contains("Clients go by the gateway’s address above."));
            let is_said = html.contains("it does not check SEALPORT_GATEWAY_SECRET");
            assert_eq!(is_said, said, "{html}");
        }
    }
}
