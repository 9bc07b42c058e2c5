//! The history of a secret: who, when, from where; rolling back, and destroying one version.

use leptos::prelude::*;
use uuid::Uuid;

use super::super::activity::program;
use super::super::fields::TextField;
use super::super::frame::{Folding, Section};
use super::super::times::When;
use super::super::wire::Flash;
use super::FormOf;
use crate::model::errors::Refusal;
use crate::model::levels::Level;
use crate::model::secrets::VersionSummary;

#[server(prefix = "/_fn", endpoint = "secret_roll_back")]
pub async fn secret_roll_back(
    id: Uuid,
    #[server(default)] path: String,
    /// The version that the person saw as the newest.
    expected: i32,
    /// The one whose value shall be the newest.
    version: i32,
) -> Result<(), Refusal> {
    use super::super::wire::{caller, done};
    use super::{again, own};
    let db = expect_context::<crate::store::Db>();
    let caller = caller().await?;
    match db.secret_roll_back(&caller, id, expected, version).await {
        Ok(made) => {
            let notice = format!(
                "Version {made} has the value of version {version}. Running deployments keep theirs until they are redeployed."
            );
            done(&own(&caller, &path), notice).await
        }
        Err(error) => again(&caller, &path, "versions", error.into_refusal(), &[]).await,
    }
}

#[server(prefix = "/_fn", endpoint = "secret_version_destroy")]
pub async fn secret_version_destroy(
    id: Uuid,
    #[server(default)] path: String,
    #[server(default)] version: String,
    /// The number, typed.
    #[server(default)]
    confirm: String,
) -> Result<(), Refusal> {
    use super::super::wire::{caller, done};
    use super::{again, own};
    let db = expect_context::<crate::store::Db>();
    let caller = caller().await?;
    let destroyed = async {
        let number: i32 = match confirm.trim().parse() {
            Ok(number) if confirm.trim() == version => number,
            _ => {
                return Err(Refusal::invalid(
                    "confirm",
                    "That is not this version's number. Nothing was destroyed.",
                )
                .into());
            }
        };
        db.secret_version_destroy(&caller, id, number).await
    };
    match destroyed.await {
        Ok(()) => {
            let notice = format!("Version {version} is destroyed. That there was one stays here.");
            done(&own(&caller, &path), notice).await
        }
        Err(error) => {
            let typed = [("version", version.as_str()), ("confirm", confirm.as_str())];
            again(
                &caller,
                &path,
                "destroy-version",
                error.into_refusal(),
                &typed,
            )
            .await
        }
    }
}

#[component]
pub fn Versions(
    form: FormOf,
    versions: Vec<VersionSummary>,
    newest: i32,
    level: Level,
) -> impl IntoView {
    view! {
        <Section title="Versions" id="versions">
            <ol class="flex flex-col gap-2.5 text-sm" reversed>
                {versions
                    .into_iter()
                    .map(|version| view! { <Version form=form.clone() version newest level /> })
                    .collect_view()}
            </ol>
        </Section>
    }
}

#[component]
fn Version(form: FormOf, version: VersionSummary, newest: i32, level: Level) -> impl IntoView {
    let number = version.version;
    let destroyed = version.destroyed_at.map(|at| {
        view! {
            <span class="w-full text-dim">
                "Destroyed " <When at /> {version.destroyed_by.clone().map(|by| format!(" by {by}"))}
            </span>
        }
    });
    let agent = version.agent.clone();
    let place: Vec<String> = [version.address.clone(), agent.as_deref().map(program)]
        .into_iter()
        .flatten()
        .collect();
    let can = (level >= Level::Write && number != newest && destroyed.is_none()).then(|| {
        let end = format!("?open=destroy-version&version={number}#destroy-version");
        view! {
            <span class="ms-auto flex items-center gap-1">
                <form method="post" action="/_fn/secret_roll_back">
                    {form.hidden()}
                    <input type="hidden" name="expected" value=newest />
                    <button class="btn btn-sm" name="version" value=number title="Makes its value the newest again, as a new version">
                        "Roll back"
                        <span class="sr-only">" to version " {number}</span>
                    </button>
                </form>
                {(level == Level::Admin)
                    .then(|| {
                        view! {
                            <a class="btn btn-sm text-error" href=end>
                                "Destroy"
                                <span class="sr-only">" version " {number}</span>
                            </a>
                        }
                    })}
            </span>
        }
    });
    view! {
        <li class="flex flex-wrap items-baseline gap-x-2">
            <strong>"Version " {number}</strong>
            {(number == newest).then(|| view! { <span class="badge badge-sm">"Newest"</span> })}
            {version.generated.then(|| view! { <span class="text-dim">"generated"</span> })}
            {version.rolled_back_from.map(|from| view! { <span class="text-dim">"the value of version " {from}</span> })}
            {can}
            <span class="w-full text-dim">
                <When at=version.created_at /> " by " {version.created_by}
            </span>
            {(!place.is_empty())
                .then(|| view! { <span class="w-full truncate text-dim" title=agent>"from " {place.join(" · ")}</span> })}
            {destroyed}
        </li>
    }
}

/// Opened for one version, from its line.
#[component]
pub fn DestroyVersion(form: FormOf, flash: Flash, asked: String) -> impl IntoView {
    let version = if flash.form.is_empty() {
        asked
    } else {
        flash.typed("version")
    };
    // What stands in an address is a number or nothing.
    let version = version.parse::<u32>().ok();
    version.map(|version| {
        view! {
            <Folding id="destroy-version" icon="trash" title=format!("Destroy version {version}") danger=true open=true>
                <p>
                    "Its value goes for good, also for Sealport: nothing can be rolled back to it. Who made it and when stays. A deployment that still runs with it goes on until it is started again; redeploy it before."
                </p>
                <form method="post" action="/_fn/secret_version_destroy" class="flex flex-col gap-4">
                    {form.hidden()}
                    <input type="hidden" name="version" value=version />
                    <TextField
                        name="confirm"
                        id="destroy-confirm"
                        label=format!("Type {version} to confirm")
                        code=true
                        required=true
                        value=flash.typed("confirm")
                        error=flash.error("confirm").or_else(|| flash.error(""))
                    />
                    <div>
                        <button class="btn btn-error">"Destroy this version"</button>
                    </div>
                </form>
            </Folding>
        }
    })
}
