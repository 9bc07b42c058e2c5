//! On a secret's page: the deployments that run it now, whether with its newest value, and the button that brings it to all of them.

use leptos::prelude::*;
use uuid::Uuid;

use super::deployments::StateBadge;
use super::frame::Section;
use super::icons::Icon;
use super::islands::follow::Follow;
use super::secret::FormOf;
use crate::model::deployments::{ReleaseState, StepName};
use crate::model::errors::Refusal;
use crate::model::levels::Level;
use crate::model::renewals::{Renewal, SecretRun, gist};

/// Redeploys all that run an older value.
#[server(prefix = "/_fn", endpoint = "secret_renew")]
pub async fn secret_renew(id: Uuid, #[server(default)] path: String) -> Result<(), Refusal> {
    use super::secret::{again, own};
    use super::wire::{Flash, caller, go};
    // Of those that were left as they are, so many are named on the page that follows.
    const NAMED: usize = 10;
    let deployer = expect_context::<crate::deploy::Deployer>();
    let caller = caller().await?;
    let renewed = match deployer.redeploy_using(&caller, id).await {
        Ok(renewed) => renewed,
        Err(refusal) => return again(&caller, &path, "runs", refusal, &[]).await,
    };
    let mut flash = Flash {
        notice: Some(match renewed.begun.len() {
            0 => "Nothing was redeployed.".to_owned(),
            1 => "1 deployment is being redeployed with the newest value.".to_owned(),
            many => format!("{many} deployments are being redeployed with the newest value."),
        }),
        ..Flash::default()
    };
    let skipped = renewed.skipped.iter().take(NAMED);
    flash
        .notes
        .extend(skipped.map(|it| format!("{} was skipped: {}", it.deployment, it.why)));
    let unnamed = renewed.skipped.len().saturating_sub(NAMED);
    if unnamed > 0 {
        flash
            .notes
            .push(format!("{unnamed} more were skipped for such reasons."));
    }
    if renewed.more {
        let says = "There are more than one press redeploys: press again when these are done.";
        flash.notes.push(says.to_owned());
    }
    // Without JavaScript the page looks again by itself only after this, when nobody is typing in it.
    go(&format!("{}?follow=runs#runs", own(&caller, &path)), flash).await
}

#[component]
pub fn RunsNow(
    runs: Vec<SecretRun>,
    /// More that run it, which one may not see.
    hidden: i64,
    /// Why no release would be given its value.
    unusable: Option<&'static str>,
    form: FormOf,
    /// Somebody just asked for it and waits.
    follows: bool,
) -> impl IntoView {
    (!runs.is_empty() || hidden > 0).then(|| {
        let under_way = runs.iter().any(SecretRun::is_under_way);
        let events = under_way.then(|| format!("/runs/{}/events", form.id));
        let gist = gist(&runs);
        view! {
            <Section title="Runs now" id="runs">
                <div data-follow=events data-gist=gist class="flex flex-col gap-3 text-sm">
                    {under_way.then(|| view! { <Follow /> })}
                    {(under_way && follows)
                        .then(|| {
                            view! {
                                // To an address without a fragment: with one, browsers only scroll.
                                <noscript>
                                    <meta http-equiv="refresh" content="3; url=?follow=runs" />
                                </noscript>
                            }
                        })}
                    <div id="runs-now" data-live="" class="flex flex-col gap-3">
                        {(!runs.is_empty())
                            .then(|| view! { <ul class="flex flex-col gap-2.5">{runs.iter().map(run_row).collect_view()}</ul> })}
                        {(hidden > 0)
                            .then(|| {
                                let says = match hidden {
                                    1 => "1 more runs it, which you may not see.".to_owned(),
                                    many => format!("{many} more run it, which you may not see."),
                                };
                                view! { <p class="text-dim">{says}</p> }
                            })}
                        {renew(&runs, unusable, &form)}
                    </div>
                </div>
            </Section>
        }
    })
}

/// The button, or why there is none.
fn renew(runs: &[SecretRun], unusable: Option<&'static str>, form: &FormOf) -> AnyView {
    let may = |run: &&SecretRun| run.is_older() && run.level >= Level::Write;
    let label = match (runs.iter().filter(may).count(), unusable) {
        (0, _) => return ().into_any(),
        (_, Some(why)) => {
            let says = format!("It is {why}: a release would not be given its value.");
            return view! { <p class="text-amber">{says}</p> }.into_any();
        }
        (1, _) => "Redeploy the 1 that runs an older value".to_owned(),
        (many, _) => format!("Redeploy the {many} that run an older value"),
    };
    view! {
        <form method="post" action="/_fn/secret_renew" class="flex flex-col items-start gap-2">
            {form.hidden()}
            <button class="btn h-auto min-h-10 py-2">
                <Icon name="replace" />
                {label}
            </button>
        </form>
    }
    .into_any()
}

fn run_row(run: &SecretRun) -> impl IntoView + use<> {
    let name = run.deployment.to_string();
    let href = format!("/deployments/{name}");
    let runs = run.version.map(|version| match run.is_current {
        true => ("text-dim", format!("the newest value, version {version}")),
        false if run.is_older() => (
            "text-amber",
            format!("an older value, version {version}: redeploy it to use the newest"),
        ),
        false => ("text-amber", format!("an older value, version {version}")),
    });
    let may_not = (run.is_older() && run.level < Level::Write).then(|| {
        format!(
            "You have {} on it: redeploying it needs write.",
            run.level.as_str()
        )
    });
    view! {
        <li>
            <div class="flex flex-wrap items-center gap-x-2 gap-y-0.5">
                <a class="link min-h-6 break-all font-mono" href=href.clone()>
                    {name}
                </a>
                <StateBadge state=run.state />
                <span class="text-dim">{run.target.title()}</span>
            </div>
            {runs.map(|(class, says)| view! { <div class=class>{says}</div> })}
            {may_not.map(|says| view! { <div class="text-dim">{says}</div> })}
            {run.renewal.as_ref().and_then(|renewal| renewal_row(renewal, href))}
        </li>
    }
}

/// How far the release is that brings the newest value; what is live needs no words.
fn renewal_row(renewal: &Renewal, href: String) -> Option<impl IntoView + use<>> {
    let number = renewal.release;
    let (class, says) = match renewal.state {
        ReleaseState::Queued => ("text-dim", format!("Release {number} waits for its turn.")),
        ReleaseState::Running => {
            let step = renewal.step.map_or("it begins", StepName::as_str);
            (
                "text-dim",
                format!("Release {number} is under way: {step}."),
            )
        }
        ReleaseState::Failed => {
            // The rest, the server's last lines among it, stands on the deployment's page.
            let reason = renewal.reason.as_deref().unwrap_or_default();
            let reason = reason.lines().next().unwrap_or_default();
            ("text-error", format!("Release {number} failed. {reason} "))
        }
        ReleaseState::Live | ReleaseState::Superseded => return None,
    };
    let failed = renewal.state == ReleaseState::Failed;
    Some(view! {
        <div class=format!("break-words {class}")>
            {says}
            {failed
                .then(|| {
                    view! {
                        <a class="link" href=href>
                            "See why"
                            <span class="sr-only">" release " {number} " failed"</span>
                        </a>
                    }
                })}
        </div>
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::deployments::DeploymentState;
    use crate::model::paths::DeploymentName;
    use crate::model::targets::Target;

    fn run(is_current: bool, renewal: Option<(ReleaseState, &str)>) -> SecretRun {
        SecretRun {
            deployment: DeploymentName::parse("crawl").unwrap(),
            target: Target::Render,
            state: DeploymentState::Running,
            level: Level::Write,
            version: Some(3),
            is_current,
            renewal: renewal.map(|(state, reason)| Renewal {
                release: 7,
                state,
                step: Some(StepName::Build),
                reason: Some(reason.to_owned()),
            }),
        }
    }

    #[test]
    fn a_row_says_where_and_with_which_value_and_how_far_the_newest_is() {
        let html = |run: &SecretRun| run_row(run).to_html();
        let newest = html(&run(true, Some((ReleaseState::Live, ""))));
        assert!(newest.contains("Render") && newest.contains("the newest value, version 3"));
        assert!(!newest.contains("Release 7"), "{newest}");
        let under_way = html(&run(false, Some((ReleaseState::Running, ""))));
        assert!(
            under_way.contains("Release 7 is under way: build."),
            "{under_way}"
        );
        assert!(!under_way.contains("redeploy it"), "{under_way}");
        let failed = html(&run(
            false,
            Some((ReleaseState::Failed, "It ended.\na line of the log")),
        ));
        assert!(failed.contains("Release 7 failed. It ended."), "{failed}");
        assert!(!failed.contains("a line of the log") && failed.contains("/deployments/crawl"));
        let mut read = run(false, None);
        read.level = Level::Read;
        assert!(html(&read).contains("You have read on it"));
    }
}
