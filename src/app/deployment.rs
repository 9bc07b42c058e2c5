//! A deployment's page: state and age first, then the release, the log, how to connect, what is bound, and the end.

use leptos::prelude::*;
use leptos_router::hooks::{use_params_map, use_query_map};
use time::OffsetDateTime;
use uuid::Uuid;

use super::activity_parts::ActivityOf;
use super::calls::calls;
use super::clients::{Clients, NO_TOKEN};
use super::connection::people::{bring_your_own, connected_people};
use super::deploy::steps::DraftNew;
use super::deployments::{
    DeploymentAct, DeploymentDestroy, DeploymentFollow, DeploymentView, GatewayTokenNew,
    StateBadge, deployment, release_word, token_shown_once,
};
use super::earlier_releases::{code, older, versions};
use super::fields::{SelectField, TextField};
use super::frame::{Folding, Here, Page, Section, page};
use super::icons::Icon;
use super::islands::copy::Copy;
use super::islands::follow::Follow;
use super::placements::{destroying, drift, options, placed, taken};
use super::release_timeline::timeline;
use super::times::{When, span};
use super::wire::{Flash, page_open};
use crate::model::deployments::{BindingSummary, DeploymentState, LogLine, Step, StepName};
use crate::model::errors::Refusal;
use crate::model::levels::Level;
use crate::model::paths::DeploymentName;
use crate::model::targets::Target;

#[component]
pub fn DeploymentPage() -> impl IntoView {
    let name = use_params_map().with_untracked(|params| params.get("name").unwrap_or_default());
    let shown = use_query_map().with_untracked(|query| query.get("shown"));
    let loaded = Resource::new(
        || (),
        move |()| {
            let (name, shown) = (name.clone(), shown.clone());
            async move {
                let name =
                    DeploymentName::parse(&name).map_err(|_| Refusal::not_found("deployment"))?;
                let opened = page_open().await?;
                let found = deployment(name).await?;
                let token = match shown.and_then(|id| Uuid::parse_str(&id).ok()) {
                    Some(id) => token_shown_once(id).await?,
                    None => None,
                };
                Ok::<_, Refusal>((opened, found, token))
            }
        },
    );
    view! {
        <Suspense>
            {move || page(
                Here::Deployments,
                async move {
                    let (opened, found, token) = loaded.await?;
                    let name = found.detail.summary.name.clone();
                    let crumbs = vec![("Deployments".to_owned(), "/deployments".to_owned())];
                    // Not while a token is shown: it is shown once.
                    let is_ending = found.detail.destroying;
                    let target = found.detail.target;
                    let moving = token.is_none() && (is_ending || matches!(
                        found.detail.summary.state,
                        DeploymentState::Deploying | DeploymentState::Restarting
                    ));
                    let level = found.detail.summary.level;
                    // With `use` alone there is nothing to follow.
                    let events = (level >= Level::Read).then(|| format!("/deployments/{name}/events"));
                    let last = found.log.last().map_or(0, |line| line.seq).to_string();
                    let is_mine = found.detail.summary.owner == opened.handle;
                    let (token_flash, destroy_flash) = (opened.flash_of("token"), opened.flash_of("destroy"));
                    Ok(
                        view! {
                            <Page opened here=Here::Deployments title=name.to_string() code=true crumbs action=share(&name, level)>
                                {moving
                                    .then(|| {
                                        view! {
                                            // To an address without a fragment: with one, browsers only scroll.
                                            <noscript>
                                                <meta http-equiv="refresh" content=format!("3; url=/deployments/{name}") />
                                            </noscript>
                                        }
                                    })}
                                <div class="flex flex-col gap-5" data-follow=events data-after=last data-gist=found.detail.gist()>
                                    {head(&found, is_mine)}
                                    {(level >= Level::Read)
                                        .then(|| {
                                            view! {
                                                {release(&found)}
                                                {timeline(&found.detail, OffsetDateTime::now_utc())}
                                                {log(found.log.clone())}
                                            }
                                        })}
                                    {connect(&found, token, &token_flash)}
                                    {connected_people(&found)}
                                    {calls("Calls", found.calls.clone(), level >= Level::Write)}
                                    {(level >= Level::Read)
                                        .then(|| {
                                            view! { {bindings(&found)} {older(&found.detail)} }
                                        })}
                                    <ActivityOf deployment=name.to_string() />
                                    {(level == Level::Admin)
                                        .then(|| match is_ending {
                                            true => forgetting(&name, target, &destroy_flash).into_any(),
                                            false => danger(&name, target, &destroy_flash).into_any(),
                                        })}
                                </div>
                            </Page>
                        },
                    )
                },
            )}
        </Suspense>
    }
}

/// The way to its sharing, for its admins.
fn share(name: &DeploymentName, level: Level) -> impl Fn() -> AnyView + Send + Sync + 'static {
    let href = format!("/share/deployment/{name}");
    move || {
        (level == Level::Admin)
            .then(|| {
                view! {
                    <a class="btn" href=href.clone()>
                        <Icon name="people" />
                        "Share"
                    </a>
                }
            })
            .into_any()
    }
}

/// State and age, why, and what can be done about it.
fn head(found: &DeploymentView, is_mine: bool) -> impl IntoView + use<> {
    let summary = found.detail.summary.clone();
    let name = summary.name.to_string();
    let buttons: Vec<(&str, &str, &str)> = match summary.state {
        _ if summary.level < Level::Write || found.detail.destroying => Vec::new(),
        DeploymentState::Running | DeploymentState::Restarting => vec![
            ("Redeploy", "replace", "redeploy"),
            ("Stop", "stop", "stop"),
        ],
        DeploymentState::Deploying => vec![("Stop", "stop", "stop")],
        DeploymentState::Failed => vec![
            ("Redeploy", "replace", "redeploy"),
            ("Start", "play", "start"),
        ],
        DeploymentState::Stopped => vec![
            ("Start", "play", "start"),
            ("Redeploy", "replace", "redeploy"),
        ],
    };
    let lost: Vec<(String, String)> = found
        .detail
        .bindings
        .iter()
        .filter_map(|binding| Some((binding.env.to_string(), binding.lost.clone()?)))
        .collect();
    let runs = [DeploymentState::Running, DeploymentState::Restarting].contains(&summary.state);
    let (owner, level) = (summary.owner.clone(), summary.level);
    let weak: Vec<String> = found
        .confinement
        .iter()
        .filter(|(sound, _)| !sound && !found.detail.target.is_remote())
        .map(|(_, sentence)| sentence.clone())
        .collect();
    view! {
        <section id="state" data-live="" aria-label="State" class="flex flex-col gap-3 rounded-box border border-base-300 p-4">
            <div class="flex flex-wrap items-center gap-3">
                <StateBadge state=summary.state />
                <span class="text-dim">"since " <When at=summary.state_since /></span>
                <span class="min-w-0 break-all font-mono text-sm text-dim">{summary.source.to_string()}</span>
                <div class="ms-auto flex flex-wrap gap-2">
                    {buttons
                        .into_iter()
                        .map(|(label, icon, act)| {
                            let name = name.clone();
                            let action = ServerAction::<DeploymentAct>::new();
                            view! {
                                <ActionForm action>
                                    <input type="hidden" name="name" value=name />
                                    <button class="btn btn-sm" name="act" value=act>
                                        <Icon name=icon />
                                        {label}
                                    </button>
                                </ActionForm>
                            }
                        })
                        .collect_view()}
                </div>
            </div>
            {options(found.detail.target, &found.detail.options)}
            {found.usage.map(|usage| taken(usage, &found.detail.options))}
            {destroying(&found.detail)}
            {drift(&found.detail)}
            {(!is_mine)
                .then(|| {
                    view! {
                        <p class="text-dim">
                            "It belongs to " <a class="link font-mono" href=format!("/people/{owner}")>{owner.clone()}</a>
                            ". You have " <strong>{level.as_str()}</strong> ": " {level.on_deployment()} "."
                        </p>
                    }
                })}
            {lost
                .into_iter()
                .map(|(env, path)| {
                    let then = if runs {
                        "It runs with what it was given; its next start stops it."
                    } else {
                        "It does not start without it."
                    };
                    view! {
                        <p class="flex items-start gap-2 text-amber">
                            <Icon name="alert" class="mt-0.5 size-4 shrink-0" />
                            <span>{format!("{env} needs the secret {path}, which is gone, or which the owner may not use any more. {then}")}</span>
                        </p>
                    }
                })
                .collect_view()}
            {summary
                .reason
                .map(|reason| {
                    let class = if summary.state == DeploymentState::Failed { "text-error" } else { "text-amber" };
                    view! { <p class=format!("whitespace-pre-wrap break-words {class}")>{reason}</p> }
                })}
            {(summary.state == DeploymentState::Failed && level >= Level::Read && !found.detail.destroying).then(|| way_on(found))}
            {older_values(&found.detail.bindings)}
            {unusable(&found.detail.bindings)}
            {weak
                .into_iter()
                .map(|sentence| view! { <p class="text-sm text-amber">{sentence}</p> })
                .collect_view()}
        </section>
    }
}

/// What to do about a failure that the same again would not mend.
fn way_on(found: &DeploymentView) -> impl IntoView + use<> {
    let can_change = may_change(found);
    let says = match (found.detail.summary.level, found.detail.target.is_remote()) {
        (Level::Admin, false) => ": change it there.",
        (Level::Admin, true) => {
            ": change it with PATCH /api/v1/deployments/NAME and all of its bindings, or destroy it below and deploy it anew."
        }
        _ => ": whoever administers it can change that.",
    };
    view! {
        <p class="text-dim break-words">
            "When a variable is missing or wrong, see what is "
            <a class="link" href=if can_change { "#change" } else { "#bindings" }>
                "bound"
            </a> {says}
        </p>
    }
}

/// Whether the wizard can change it: what a provider runs takes a plan that a draft does not have.
fn may_change(found: &DeploymentView) -> bool {
    let detail = &found.detail;
    detail.summary.level == Level::Admin && !detail.target.is_remote() && !detail.destroying
}

/// A draft with all of it, whose last step changes this deployment.
fn change(found: &DeploymentView) -> impl IntoView + use<> {
    let action = ServerAction::<DraftNew>::new();
    let name = found.detail.summary.name.to_string();
    view! {
        <ActionForm action attr:class="flex flex-wrap items-center gap-3" attr:id="change">
            <input type="hidden" name="from" value=name />
            <span class="text-sm text-dim">
                "Another source, other bindings or other limits: a draft with all of it, whose last step changes this deployment."
            </span>
            <button class="btn btn-sm">"Begin a draft from this"</button>
        </ActionForm>
    }
}

/// What runs is not what is newest: Redeploy, above, brings it.
fn older_values(bindings: &[BindingSummary]) -> Option<impl IntoView + use<>> {
    let names: Vec<String> = bindings
        .iter()
        .filter(|binding| binding.is_older)
        .map(|binding| binding.env.to_string())
        .collect();
    (!names.is_empty()).then(|| {
        view! {
            <p class="text-amber">
                "Runs an older value of " <span class="font-mono">{names.join(", ")}</span> ". Redeploy to use the newest."
            </p>
        }
    })
}

/// What the next start will be refused for.
fn unusable(bindings: &[BindingSummary]) -> impl IntoView + use<> {
    bindings
        .iter()
        .filter_map(|binding| {
            let (path, why) = (binding.secret.as_ref()?, binding.unusable.as_ref()?);
            Some(format!(
                "{}: the secret {path} {why}. What runs goes on with it; the next start is refused.",
                binding.env
            ))
        })
        .map(|sentence| view! { <p class="break-words text-amber">{sentence}</p> })
        .collect_view()
}

/// The newest release's steps, with how long each took.
fn release(found: &DeploymentView) -> impl IntoView + use<> {
    let newest = found.detail.releases.first().cloned();
    view! {
        <div id="release" data-live="">
            {newest
                .map(|release| {
                    view! {
                        <Section title=format!("Release {}", release.number)>
                            <ol class="flex flex-col gap-1">
                                {release.steps.iter().map(step_row).collect_view()}
                            </ol>
                            <p class="text-sm text-dim">
                                {release_word(release.state)} ", asked for by " {release.created_by.clone()} " "
                                <When at=release.created_at />
                                {versions(&release)}
                                {code(&release)}
                            </p>
                        </Section>
                    }
                })}
        </div>
    }
}

fn step_row(step: &Step) -> impl IntoView + use<> {
    let title = match step.name {
        StepName::Fetch => "Fetch",
        StepName::Install => "Install",
        StepName::Provision => "Provision",
        StepName::Build => "Build",
        StepName::Start => "Start",
        StepName::Handshake => "Handshake",
    };
    let (icon, class) = match step.state.as_str() {
        "done" => ("check", "text-success"),
        "failed" => ("alert", "text-error"),
        "running" => ("clock", "text-primary"),
        _ => ("clock", "text-dim"),
    };
    let took = step
        .started_at
        .zip(step.ended_at)
        .map(|(began, ended)| span(began, ended));
    view! {
        <li class="flex flex-wrap items-center gap-x-3">
            <span class=class>
                <Icon name=icon />
            </span>
            <span class="w-24 font-medium">{title}</span>
            <span class="w-24 text-sm text-dim">{step.state.clone()}</span>
            <span class="font-mono text-sm text-dim">{took}</span>
            <span class="min-w-0 break-words text-sm text-dim">{step.detail.clone()}</span>
        </li>
    }
}

/// Masked lines; grows by itself where the browser runs scripts.
fn log(lines: Vec<LogLine>) -> impl IntoView {
    view! {
        <Section title="Log" id="log">
            <Follow />
            {log_lines(lines)}
            <p class="text-sm text-dim">
                "Bound secrets are masked as [sealed] before a line is kept. The newest 300 lines stand here."
            </p>
        </Section>
    }
}

pub fn log_lines(lines: Vec<LogLine>) -> impl IntoView {
    view! {
        <ol
            data-log=""
            tabindex="0"
            aria-label="Lines of the log"
            class="max-h-96 overflow-auto rounded-field bg-base-200 p-3 font-mono text-xs leading-5"
        >
            {lines
                .into_iter()
                .map(|line| {
                    let stream = line.stream.clone();
                    view! {
                        <li class="whitespace-pre-wrap break-words" data-stream=stream>
                            <span class="text-dim">{line.stream} " "</span>
                            {line.line}
                        </li>
                    }
                })
                .collect_view()}
        </ol>
    }
}

/// A token made on the spot, and what each client wants to be told.
fn connect(found: &DeploymentView, token: Option<String>, flash: &Flash) -> impl IntoView + use<> {
    let action = ServerAction::<GatewayTokenNew>::new();
    let name = found.detail.summary.name.to_string();
    let url = found.gateway_url.clone();
    let there = placed(found.detail.target, &found.detail.placed);
    let own = bring_your_own(found);
    let is_ending = found.detail.destroying;
    let label_error = flash.error("name").or_else(|| flash.error(""));
    let typed = flash.typed("label");
    let lives = [("30", "30 days"), ("90", "90 days"), ("365", "a year")]
        .map(|(sent, read)| (sent.to_owned(), read.to_owned()))
        .to_vec();
    let word = token.clone().unwrap_or_else(|| NO_TOKEN.to_owned());
    let called = name.clone();
    view! {
        <Section title="Connect" id="connect">
            <p>"Its address: " <code class="break-all font-mono select-all">{url.clone()}</code></p>
            {own}
            <div id="placed" data-live="">{there}</div>
            {token
                .map(|token| {
                    view! {
                        <div class="alert alert-success alert-soft flex-wrap" role="status" data-copy="">
                            <Icon name="token" />
                            <div class="min-w-0">
                                <p class="font-semibold">"Copy the token now. It cannot be shown again."</p>
                                <code class="break-all font-mono select-all" data-copy-from="" id="token">
                                    {token}
                                </code>
                            </div>
                            <Copy />
                        </div>
                    }
                })}
            {(!is_ending)
                .then(|| {
                    view! {
                        <ActionForm action attr:class="flex flex-wrap items-end gap-3">
                            <input type="hidden" name="name" value=name.clone() />
                            <div class="min-w-48 flex-1">
                                <TextField name="label" label="What the token is for" value=typed error=label_error placeholder="Claude Code on my laptop" maxlength=100 />
                            </div>
                            <div class="w-40">
                                <SelectField name="days" label="It lives" options=lives value="90" />
                            </div>
                            <button class="btn">
                                <Icon name="token" />
                                "Make a token"
                            </button>
                        </ActionForm>
                    }
                })}
            <Clients name=called url token=word open=true />
        </Section>
    }
}

/// Names, what they are bound to, and which version runs.
fn bindings(found: &DeploymentView) -> impl IntoView + use<> {
    let rows = found.detail.bindings.clone();
    let has_secrets = rows.iter().any(BindingSummary::is_secret);
    let follow = (has_secrets && !found.detail.destroying)
        .then(|| follow(&found.detail.summary.name, found.detail.follows_changes));
    let change = may_change(found).then(|| change(found));
    view! {
        <Section title="Bindings" id="bindings">
            {if rows.is_empty() {
                view! { <p class="text-dim">"Nothing is bound."</p> }.into_any()
            } else {
                view! {
                    <div class="overflow-x-auto" id="bindings-table" data-live="">
                        <table class="table table-sm">
                            <thead>
                                <tr>
                                    <th scope="col">"Variable"</th>
                                    <th scope="col">"Is"</th>
                                    <th scope="col">"Version"</th>
                                </tr>
                            </thead>
                            <tbody>{rows.into_iter().map(binding_row).collect_view()}</tbody>
                        </table>
                    </div>
                }
                    .into_any()
            }}
            {follow}
            {change}
        </Section>
    }
}

/// Whether a changed value redeploys it, and the button that changes this.
fn follow(name: &DeploymentName, follows: bool) -> impl IntoView + use<> {
    let action = ServerAction::<DeploymentFollow>::new();
    let name = name.to_string();
    let (says, label) = if follows {
        (
            "It redeploys by itself when the value of a bound secret changes.",
            "Keep values until I redeploy",
        )
    } else {
        (
            "It keeps the values it started with until you redeploy it.",
            "Redeploy by itself on a change",
        )
    };
    view! {
        <ActionForm action attr:class="flex flex-wrap items-center gap-3">
            <input type="hidden" name="name" value=name />
            <span class="text-sm text-dim">{says}</span>
            <button class="btn btn-sm" name="on" value=(!follows).to_string()>
                {label}
            </button>
        </ActionForm>
    }
}

fn binding_row(binding: BindingSummary) -> impl IntoView {
    let is = match (&binding.secret, &binding.text) {
        _ if binding.lost.is_some() => {
            let path = binding.lost.clone().unwrap_or_default();
            format!("secret {path}, which is gone or not the owner’s to use any more")
        }
        _ if binding.per_user => "Each caller’s own".to_owned(),
        (Some(path), _) => format!("secret {path}"),
        (None, Some(text)) => format!("plain text: {text}"),
        (None, None) => "a secret that is gone".to_owned(),
    };
    let version = match (binding.running_version, binding.current_version) {
        (Some(running), Some(current)) if binding.is_older => {
            format!("runs {running}, newest is {current}: redeploy to use it")
        }
        (Some(running), Some(current)) if running < current => {
            format!("runs {running}, the same value as {current}")
        }
        (Some(running), _) => running.to_string(),
        (None, Some(current)) => format!("newest is {current}"),
        (None, None) => String::new(),
    };
    view! {
        <tr>
            <th scope="row" class="break-all font-mono font-normal">
                {binding.env.to_string()}
            </th>
            <td class="break-all">{is}</td>
            <td>{version}</td>
        </tr>
    }
}

fn danger(name: &DeploymentName, target: Target, flash: &Flash) -> impl IntoView + use<> {
    let action = ServerAction::<DeploymentDestroy>::new();
    let name = name.to_string();
    let error = flash.error("typed").or_else(|| flash.error(""));
    let there = target.is_remote().then(|| {
        let title = target.title();
        view! { <p>{format!("What Sealport made at {title} goes first, and is tried again until it is gone.")}</p> }
    });
    view! {
        <Folding title="Destroy" id="destroy" icon="trash" open=error.is_some() danger=true>
            <p>
                "Stops the server and deletes its releases, its log and its tokens; clients that use it stop working. Its secrets stay. The name stays its owner’s."
            </p>
            {there}
            <ActionForm action attr:class="flex flex-wrap items-end gap-3">
                <input type="hidden" name="name" value=name.clone() />
                <TextField name="typed" label=format!("Type {name} to go on") error=error required=true code=true id="destroy-typed" />
                <button class="btn btn-error">
                    <Icon name="trash" />
                    "Destroy"
                </button>
            </ActionForm>
        </Folding>
    }
}

/// What could not be destroyed at its provider, as when its key is gone, can be forgotten here.
fn forgetting(name: &DeploymentName, target: Target, flash: &Flash) -> impl IntoView + use<> {
    let action = ServerAction::<DeploymentDestroy>::new();
    let name = name.to_string();
    let title = target.title();
    let error = flash.error("typed").or_else(|| flash.error(""));
    view! {
        <Folding title="Forget" id="forget" icon="trash" open=error.is_some() danger=true>
            <p>
                {format!(
                    "If another key reaches it at {title}, give the deployment that one (PATCH /api/v1/deployments/NAME with key) and wait. Otherwise forget the deployment: it is deleted here alone. Its service at {title} runs on, and may cost money, until you remove it there.",
                )}
            </p>
            <ActionForm action attr:class="flex flex-wrap items-end gap-3">
                <input type="hidden" name="name" value=name.clone() />
                <input type="hidden" name="forget" value="true" />
                <TextField name="typed" label=format!("Type {name} to go on") error=error required=true code=true id="forget-typed" />
                <button class="btn btn-error">
                    <Icon name="trash" />
                    "Forget"
                </button>
            </ActionForm>
        </Folding>
    }
}
