//! Teams: who is in them, and what they own.

use leptos::prelude::*;
use leptos_router::hooks::use_params_map;

use super::fields::{SelectField, TextField};
use super::frame::{Folding, Here, Page, Section, page};
use super::icons::Icon;
use super::secrets::address;
use super::times::When;
use super::wire::{Flash, page_open};
use crate::model::errors::Refusal;
use crate::model::grants::Member;
use crate::model::levels::Level;
use crate::model::teams::{TeamDetail, TeamSummary};

/// Names the form for a new team in a flash.
pub const NEW_TEAM: &str = "team-new";
const MEMBER_FORM: &str = "member";

/// The caller's teams.
#[server(prefix = "/_fn", endpoint = "teams_list")]
pub async fn teams_list() -> Result<Vec<TeamSummary>, Refusal> {
    let db = expect_context::<crate::store::Db>();
    let caller = super::wire::caller().await?;
    db.teams_list(&caller)
        .await
        .map_err(crate::store::Error::into_refusal)
}

#[server(prefix = "/_fn", endpoint = "team_open")]
pub async fn team_open(handle: String) -> Result<TeamDetail, Refusal> {
    use crate::model::paths::Handle;
    let db = expect_context::<crate::store::Db>();
    let caller = super::wire::caller().await?;
    let handle = Handle::parse(&handle).map_err(|_| Refusal::not_found("team"))?;
    db.team_show(&caller, &handle)
        .await
        .map_err(crate::store::Error::into_refusal)
}

/// Makes a team; its page is next.
#[server(prefix = "/_fn", endpoint = "team_new")]
pub async fn team_new(#[server(default)] handle: String) -> Result<(), Refusal> {
    use super::wire::{back, caller, done};
    use crate::model::paths::Handle;
    let db = expect_context::<crate::store::Db>();
    let caller = caller().await?;
    let typed = handle.trim().to_owned();
    let made = async {
        let handle = Handle::parse(&typed)?;
        db.team_create(&caller, &handle).await?;
        Ok::<_, crate::store::Error>(handle)
    };
    match made.await {
        Ok(handle) => {
            done(
                &format!("/teams/{handle}"),
                "The team is there. Add its members.",
            )
            .await
        }
        Err(error) => {
            let refusal = error.into_refusal();
            back("/people#teams", NEW_TEAM, refusal, &[("handle", &typed)]).await
        }
    }
}

/// Makes somebody a member, or changes a member's level.
#[server(prefix = "/_fn", endpoint = "team_member_set")]
pub async fn team_member_set(
    team: String,
    #[server(default)] with: String,
    #[server(default)] level: String,
) -> Result<(), Refusal> {
    use super::wire::{back, confirmed_with, done};
    use crate::model::paths::Handle;
    let db = expect_context::<crate::store::Db>();
    let typed = [("with", with.as_str()), ("level", level.as_str())];
    let caller = confirmed_with(MEMBER_FORM, &typed).await?;
    let set = async {
        let team = Handle::parse(&team).map_err(|_| Refusal::not_found("team"))?;
        let level =
            Level::from_name(&level).ok_or_else(|| Refusal::invalid("level", "Choose a level."))?;
        let member = db.team_member_set(&caller, &team, &with, level).await?;
        Ok::<_, crate::store::Error>((member, level))
    };
    match set.await {
        Ok((member, level)) => {
            let notice = format!("{member} has {} on what the team owns.", level.as_str());
            done(&page_of(&team), notice).await
        }
        Err(error) => back(&page_of(&team), MEMBER_FORM, error.into_refusal(), &typed).await,
    }
}

/// Ends a membership, another's or one's own.
#[server(prefix = "/_fn", endpoint = "team_member_remove")]
pub async fn team_member_remove(
    team: String,
    #[server(default)] member: String,
) -> Result<(), Refusal> {
    use super::wire::{back, caller, done};
    use crate::model::paths::Handle;
    let db = expect_context::<crate::store::Db>();
    let caller = caller().await?;
    let leaves = caller.user().is_some_and(|user| user.handle == member);
    let removed = async {
        let team = Handle::parse(&team).map_err(|_| Refusal::not_found("team"))?;
        let member = Handle::parse(&member).map_err(|_| Refusal::not_found("member"))?;
        db.team_member_remove(&caller, &team, &member).await
    };
    match removed.await {
        Ok(()) if leaves => done("/people", format!("You have left {team}.")).await,
        Ok(()) => done(&page_of(&team), format!("{member} is no member any more.")).await,
        Err(error) => back(&page_of(&team), "members", error.into_refusal(), &[]).await,
    }
}

/// Ends a team that owns nothing.
#[server(prefix = "/_fn", endpoint = "team_dissolve")]
pub async fn team_dissolve(
    team: String,
    /// The handle, typed again.
    #[server(default)]
    typed: String,
) -> Result<(), Refusal> {
    use super::wire::{back, caller, done};
    use crate::model::paths::Handle;
    let db = expect_context::<crate::store::Db>();
    let caller = caller().await?;
    let dissolved = async {
        let handle = Handle::parse(&team).map_err(|_| Refusal::not_found("team"))?;
        if typed.trim() != team {
            return Err(
                Refusal::invalid("typed", format!("Type {team} to dissolve it for good.")).into(),
            );
        }
        db.team_dissolve(&caller, &handle).await
    };
    match dissolved.await {
        Ok(()) => {
            done(
                "/people",
                format!("{team} is dissolved. Its handle stays taken."),
            )
            .await
        }
        Err(error) => back(&page_of(&team), "dissolve", error.into_refusal(), &[]).await,
    }
}

/// A team's page; the list of people for what is no handle.
pub fn page_of(team: &str) -> String {
    match crate::model::paths::Handle::parse(team) {
        Ok(handle) => format!("/teams/{handle}"),
        Err(_) => "/people".to_owned(),
    }
}

/// For a form that asks whose something shall be: oneself (sent as nothing), and the teams on which one has `needed`.
pub async fn owners(me: &str, needed: Level) -> Result<Vec<(String, String)>, Refusal> {
    let mut owners = vec![(String::new(), format!("Mine ({me})"))];
    let teams = teams_list().await?;
    owners.extend(
        teams
            .into_iter()
            .filter(|team| team.level >= needed)
            .map(|team| (team.handle.clone(), format!("The team {}", team.handle))),
    );
    Ok(owners)
}

/// One's teams, and a form for a new one.
#[component]
pub fn Teams(teams: Vec<TeamSummary>, new: Flash) -> impl IntoView {
    view! {
        <Section title="Teams" id="teams">
            {if teams.is_empty() {
                view! {
                    <p class="max-w-prose text-dim">
                        "You are in no team. A team owns secrets and deployments together: each member has a level on all of them."
                    </p>
                }
                    .into_any()
            } else {
                view! {
                    <ul class="flex flex-col divide-y divide-base-300">
                        {teams
                            .into_iter()
                            .map(|team| {
                                view! {
                                    <li class="flex flex-wrap items-center gap-x-4 py-1.5">
                                        <a class="link min-h-6 font-mono" href=format!("/teams/{}", team.handle)>
                                            {team.handle.clone()}
                                        </a>
                                        <span class="badge badge-sm">{team.level.as_str()}</span>
                                        <span class="text-sm text-dim">
                                            {match team.members {
                                                1 => "1 member".to_owned(),
                                                count => format!("{count} members"),
                                            }}
                                        </span>
                                    </li>
                                }
                            })
                            .collect_view()}
                    </ul>
                }
                    .into_any()
            }}
            <form method="post" action="/_fn/team_new" class="flex max-w-xl flex-wrap items-start gap-3">
                <div class="min-w-48 flex-1">
                    <TextField
                        name="handle"
                        id="team-handle"
                        label="New team"
                        code=true
                        required=true
                        maxlength=39
                        value=new.typed("handle")
                        error=new.error("handle").or_else(|| new.error(""))
                        hint="Its handle: small letters, digits and hyphens. It cannot be changed."
                    />
                </div>
                <button class="btn sm:mt-6.25">
                    <Icon name="plus" />
                    "Make a team"
                </button>
            </form>
        </Section>
    }
}

#[component]
pub fn TeamPage() -> impl IntoView {
    let handle = use_params_map().with_untracked(|params| params.get("handle").unwrap_or_default());
    page(Here::People, async move {
        let team = team_open(handle).await?;
        let opened = page_open().await?;
        let me = opened.handle.clone();
        let is_admin = team.level == Level::Admin;
        let (member, dissolve) = (opened.flash_of(MEMBER_FORM), opened.flash_of("dissolve"));
        let (handle, members) = (team.handle.clone(), team.members.clone());
        let (of, ended) = (handle.clone(), handle.clone());
        let crumbs = vec![("People".to_owned(), "/people".to_owned())];
        Ok(view! {
            <Page opened here=Here::People title=team.handle.clone() code=true crumbs>
                <p class="text-dim">"You have " <strong>{team.level.as_str()}</strong> " on everything that this team owns."</p>
                <Section title="Members" id="members">
                    <ul class="flex flex-col divide-y divide-base-300">
                        {members
                            .into_iter()
                            .map(|member| view! { <MemberRow member team=of.clone() me=me.clone() is_admin /> })
                            .collect_view()}
                    </ul>
                    {is_admin.then(|| view! { <AddMember team=handle flash=member /> })}
                </Section>
                <Owned team=team.clone() />
                {is_admin.then(|| view! { <Dissolve team=ended flash=dissolve /> })}
            </Page>
        })
    })
}

#[component]
fn MemberRow(member: Member, team: String, me: String, is_admin: bool) -> impl IntoView {
    let is_me = member.handle == me;
    let options = levels();
    let (set_for, remove) = (member.handle.clone(), member.handle.clone());
    view! {
        <li class="flex flex-wrap items-center gap-x-4 gap-y-2 py-2">
            <a class="link min-h-6 font-mono" href=format!("/people/{}", member.handle)>{member.handle.clone()}</a>
            {(!is_admin).then(|| view! { <span class="badge badge-sm">{member.level.as_str()}</span> })}
            <span class="min-w-0 flex-1 basis-72 text-sm text-dim">
                "added by " {member.added_by.clone()} " " <When at=member.added_at />
            </span>
            {is_admin
                .then(|| {
                    view! {
                        <form method="post" action="/_fn/team_member_set" class="flex items-center gap-2">
                            <input type="hidden" name="team" value=team.clone() />
                            <input type="hidden" name="with" value=set_for.clone() />
                            <select class="select select-sm w-28" name="level" aria-label=format!("Level of {set_for}")>
                                {options
                                    .into_iter()
                                    .map(|(sent, read)| {
                                        let selected = sent == member.level.as_str();
                                        view! { <option value=sent selected=selected>{read}</option> }
                                    })
                                    .collect_view()}
                            </select>
                            <button class="btn btn-sm">
                                "Set"
                                <span class="sr-only">{format!(" the level of {set_for}")}</span>
                            </button>
                        </form>
                    }
                })}
            {(is_admin || is_me)
                .then(|| {
                    view! {
                        <form method="post" action="/_fn/team_member_remove">
                            <input type="hidden" name="team" value=team.clone() />
                            <input type="hidden" name="member" value=remove.clone() />
                            <button class="btn btn-sm">
                                {if is_me { "Leave" } else { "Remove" }}
                                {(!is_me).then(|| view! { <span class="sr-only">{format!(" {remove}")}</span> })}
                            </button>
                        </form>
                    }
                })}
        </li>
    }
}

fn levels() -> Vec<(String, String)> {
    Level::ALL
        .into_iter()
        .map(|level| (level.as_str().to_owned(), level.as_str().to_owned()))
        .collect()
}

#[component]
fn AddMember(team: String, flash: Flash) -> impl IntoView {
    view! {
        <form method="post" action="/_fn/team_member_set" class="flex max-w-2xl flex-wrap items-start gap-3">
            <input type="hidden" name="team" value=team />
            <div class="min-w-48 flex-1">
                <TextField
                    name="with"
                    id="member-with"
                    label="Add a member"
                    required=true
                    maxlength=254
                    value=flash.typed("with")
                    error=flash.error("with").or_else(|| flash.error(""))
                    hint="An e-mail address or a handle."
                />
            </div>
            <div class="w-32">
                <SelectField
                    name="level"
                    id="member-level"
                    label="Level"
                    options=levels()
                    value=flash.typed("level")
                    error=flash.error("level")
                />
            </div>
            <button class="btn mt-6.25">
                <Icon name="plus" />
                "Add"
            </button>
        </form>
    }
}

#[component]
fn Owned(team: TeamDetail) -> impl IntoView {
    let handle = team.handle.clone();
    view! {
        <Section title="What it owns" id="owned">
            {(team.secrets.is_empty() && team.deployments.is_empty())
                .then(|| {
                    view! {
                        <p class="max-w-prose text-dim">
                            "Nothing yet. Choose the team as the owner when you add a secret or deploy a server."
                        </p>
                        {(team.level >= Level::Write)
                            .then(|| {
                                view! {
                                    <p>
                                        <a class="btn btn-sm" href=format!("/secrets/new?owner={handle}")>
                                            <Icon name="plus" />
                                            "Add a secret"
                                        </a>
                                    </p>
                                }
                            })}
                    }
                })}
            <ul class="flex flex-col gap-1">
                {team
                    .secrets
                    .into_iter()
                    .map(|path| {
                        view! {
                            <li class="flex items-center gap-2">
                                <Icon name="lock" />
                                <a class="link min-h-6 break-all font-mono" href=address(&handle, &path)>{path.clone()}</a>
                            </li>
                        }
                    })
                    .collect_view()}
                {team
                    .deployments
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
        </Section>
    }
}

#[component]
fn Dissolve(team: String, flash: Flash) -> impl IntoView {
    let error = flash.error("typed").or_else(|| flash.error(""));
    view! {
        <Folding title="Dissolve" id="dissolve" icon="trash" danger=true open=error.is_some()>
            <p class="max-w-prose">
                "Ends the team, its memberships and what was shared with it. A team that owns something cannot be dissolved. Its handle stays taken."
            </p>
            <form method="post" action="/_fn/team_dissolve" class="flex flex-wrap items-start gap-3">
                <input type="hidden" name="team" value=team.clone() />
                <TextField name="typed" id="dissolve-typed" label=format!("Type {team} to go on") code=true required=true error />
                <button class="btn btn-error sm:mt-6.25">"Dissolve the team"</button>
            </form>
        </Folding>
    }
}
