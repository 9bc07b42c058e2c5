//! On a deployment's page: the releases before the newest, what each ran, and running one's code again.

use leptos::prelude::*;

use super::deployments::release_word;
use super::frame::Folding;
use super::times::When;
use crate::model::deployments::{DeploymentDetail, ReleaseState, ReleaseSummary};
use crate::model::levels::Level;

/// Releases before the newest.
pub fn older(detail: &DeploymentDetail) -> Option<impl IntoView + use<>> {
    let name = detail.summary.name.to_string();
    let older: Vec<ReleaseSummary> = detail.releases.iter().skip(1).cloned().collect();
    let may = detail.summary.level == Level::Admin && !detail.destroying;
    (!older.is_empty()).then(|| {
        view! {
            <Folding title="Earlier releases" id="releases" icon="clock" open=false>
                <ul class="flex flex-col gap-2">
                    {older
                        .into_iter()
                        .map(|release| {
                            view! {
                                <li class="text-sm">
                                    <span class="font-medium">{format!("Release {}: ", release.number)}</span>
                                    {release_word(release.state)} " " <When at=release.created_at /> {versions(&release)}
                                    {code(&release)}
                                    {may.then(|| run_again(&name, &release))}
                                    {release
                                        .reason
                                        .clone()
                                        .map(|reason| {
                                            view! { <p class="whitespace-pre-wrap break-words text-dim">{reason}</p> }
                                        })}
                                </li>
                            }
                        })
                        .collect_view()}
                </ul>
            </Folding>
        }
    })
}

/// Which code it ran, where that is known.
pub fn code(release: &ReleaseSummary) -> Option<impl IntoView + use<>> {
    let commit = release.commit.as_ref()?;
    let short: String = commit.chars().take(12).collect();
    let of = release
        .code_of
        .map(|of| format!(", the code of release {of}"));
    Some(
        view! { <span class="text-dim">" Commit " <span class="font-mono">{short}</span> {of} "."</span> },
    )
}

/// For what was live, and whose code is known.
fn run_again(name: &str, release: &ReleaseSummary) -> Option<impl IntoView + use<>> {
    let can = release.commit.is_some() && release.state == ReleaseState::Live;
    let (name, number) = (name.to_owned(), release.number);
    can.then(|| {
        view! {
            <form method="post" action="/_fn/deployment_run_again" class="py-1">
                <input type="hidden" name="name" value=name />
                <button class="btn btn-sm" name="release" value=number title="A new release, with the values of now">
                    "Run this code again"
                    <span class="sr-only">", of release " {number}</span>
                </button>
            </form>
        }
    })
}

/// With which versions it ran, to the end of the sentence.
pub fn versions(release: &ReleaseSummary) -> String {
    let used: Vec<String> = release
        .versions
        .iter()
        .map(|(env, version)| format!("{env} version {version}"))
        .collect();
    if used.is_empty() {
        ".".to_owned()
    } else {
        format!(", with {}.", used.join(", "))
    }
}
