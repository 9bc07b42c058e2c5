//! The record, as sentences.

use leptos::prelude::*;
use leptos_router::hooks::use_query_map;
use uuid::Uuid;

use super::activity_parts::ByDay;
use super::frame::{Empty, Here, Page, page};
use super::icons::Icon;
use super::times::When;
use super::wire::page_open;
use crate::model::audit::{Action, AuditAsked, AuditDays, AuditFilter, AuditRow};
use crate::model::errors::Refusal;

/// Rows of one page.
const LISTED: usize = 50;

/// One row more than a page shows, when there are more.
#[server(prefix = "/_fn", endpoint = "activity_list")]
pub async fn activity_list(
    #[server(default)] asked: AuditAsked,
    #[server(default)] before: Option<Uuid>,
) -> Result<Vec<AuditRow>, Refusal> {
    let db = expect_context::<crate::store::Db>();
    let caller = super::wire::caller().await?;
    let filter = AuditFilter::parse(&asked)?;
    db.audit_list(&caller, &filter, before, LISTED as i64 + 1)
        .await
        .map_err(crate::store::Error::into_refusal)
}

/// How much of it there is on each day.
#[server(prefix = "/_fn", endpoint = "activity_days")]
pub async fn activity_days(#[server(default)] asked: AuditAsked) -> Result<AuditDays, Refusal> {
    let db = expect_context::<crate::store::Db>();
    let caller = super::wire::caller().await?;
    let filter = AuditFilter::parse(&asked)?;
    db.audit_days(&caller, &filter)
        .await
        .map_err(crate::store::Error::into_refusal)
}

#[component]
pub fn ActivityPage() -> impl IntoView {
    let query = use_query_map().get_untracked();
    let text = |name: &str| query.get(name).unwrap_or_default();
    let asked = AuditAsked {
        path: text("path"),
        person: text("person"),
        action: text("action"),
        deployment: text("deployment"),
        secret: text("secret"),
        from: text("from"),
        to: text("to"),
    };
    let before = query.get("before").and_then(|id| id.parse::<Uuid>().ok());
    page(Here::Activity, async move {
        let opened = page_open().await?;
        let wrong = AuditFilter::parse(&asked).err();
        let found = match wrong {
            Some(_) => {
                view! { <p class="text-dim">"Put right what is marked, and filter again."</p> }
                    .into_any()
            }
            None => found(&asked, before).await?.into_any(),
        };
        Ok(view! {
            <Page opened here=Here::Activity title="Activity">
                <Filter asked wrong />
                {found}
            </Page>
        })
    })
}

async fn found(asked: &AuditAsked, before: Option<Uuid>) -> Result<impl IntoView + use<>, Refusal> {
    let mut rows = activity_list(asked.clone(), before).await?;
    // Paging on shows older rows of the same picture.
    let days = match before {
        None => Some(activity_days(asked.clone()).await?),
        Some(_) => None,
    };
    let older = (rows.len() > LISTED)
        .then(|| rows.get(LISTED - 1).map(|row| row.id))
        .flatten();
    rows.truncate(LISTED);
    if rows.is_empty() {
        return Ok(view! { <Nothing everything=asked.is_everything() /> }.into_any());
    }
    let asked = asked.clone();
    Ok(view! {
        {days.map(|counted| view! { <ByDay counted /> })}
        <Rows rows />
        <div class="flex flex-wrap gap-2">
            {older
                .map(|id| {
                    view! {
                        <form method="get" action="/activity">
                            {hidden(&asked)} <input type="hidden" name="before" value=id.to_string() />
                            <button class="btn">"Older"</button>
                        </form>
                    }
                })}
            // No page of ours: the browser keeps the file.
            <form method="get" action="/activity/export" class="ms-auto flex flex-wrap items-center gap-2">
                {hidden(&asked)} <span class="text-sm text-dim">"Export all that matches:"</span>
                <button class="btn btn-sm" name="format" value="csv">
                    "CSV"
                </button>
                <button class="btn btn-sm" name="format" value="jsonl">
                    "JSON lines"
                </button>
            </form>
        </div>
    }
    .into_any())
}

/// The filter, for a form that goes on with it.
fn hidden(asked: &AuditAsked) -> impl IntoView + use<> {
    asked
        .fields()
        .into_iter()
        .filter(|(_, text)| !text.is_empty())
        .map(|(name, text)| view! { <input type="hidden" name=name value=text.to_owned() /> })
        .collect_view()
}

#[component]
fn Filter(asked: AuditAsked, #[prop(optional_no_strip)] wrong: Option<Refusal>) -> impl IntoView {
    let error = |field: &str| {
        wrong
            .as_ref()
            .filter(|refusal| refusal.field.as_deref() == Some(field))
            .map(|refusal| refusal.detail.clone())
    };
    let of_one = !asked.secret.is_empty();
    let everything = asked.is_everything();
    view! {
        <form
            method="get"
            action="/activity"
            role="search"
            aria-label="Filter the record"
            class="grid grid-cols-2 items-end gap-3 sm:grid-cols-3 lg:grid-cols-6"
        >
            <FilterText name="path" label="Path" value=asked.path code=true />
            <FilterText name="person" label="Who" value=asked.person />
            <label class="flex min-w-0 flex-col gap-1 text-sm">
                "Action"
                <select class="select w-full" name="action">
                    {action_options()
                        .into_iter()
                        .map(|(sent, read)| {
                            let chosen = sent == asked.action;
                            view! {
                                <option value=sent selected=chosen>
                                    {read}
                                </option>
                            }
                        })
                        .collect_view()}
                </select>
            </label>
            <FilterText name="deployment" label="Deployment" value=asked.deployment code=true />
            <FilterText name="from" label="From" value=asked.from kind="date" error=error("from") />
            <FilterText name="to" label="To" value=asked.to kind="date" error=error("to") />
            {of_one
                .then(|| {
                    view! {
                        <input type="hidden" name="secret" value=asked.secret />
                        <p class="col-span-full text-sm text-dim">
                            {error("secret").unwrap_or_else(|| "Only what is about one secret, under whatever path.".to_owned())}
                        </p>
                    }
                })}
            <div class="col-span-full flex flex-wrap items-center gap-3">
                <button class="btn">
                    <Icon name="search" />
                    "Filter"
                </button>
                {(!everything)
                    .then(|| {
                        view! {
                            <a class="link text-sm" href="/activity">
                                "Show everything"
                            </a>
                        }
                    })}
            </div>
        </form>
    }
}

#[component]
fn FilterText(
    name: &'static str,
    label: &'static str,
    value: String,
    #[prop(default = "text")] kind: &'static str,
    #[prop(optional)] code: bool,
    #[prop(optional_no_strip)] error: Option<String>,
) -> impl IntoView {
    let described = error.is_some().then(|| format!("{name}-error"));
    view! {
        <div class="flex min-w-0 flex-col gap-1 text-sm">
            <label for=name>{label}</label>
            <input
                class=if code { "input w-full font-mono" } else { "input w-full" }
                id=name
                name=name
                type=kind
                value=(!value.is_empty()).then_some(value)
                maxlength="255"
                autocomplete="off"
                autocapitalize=code.then_some("off")
                spellcheck=code.then_some("false")
                aria-invalid=error.is_some().then_some("true")
                aria-describedby=described.clone()
            />
            {error
                .map(|error| {
                    view! {
                        <p class="text-error" id=described>
                            {error}
                        </p>
                    }
                })}
        </div>
    }
}

/// What stands for all actions of a kind.
fn all_of(kind: &str) -> String {
    let about = match kind {
        "audit" => "the record",
        "gateway" => "calls",
        "api" => "connections of programs",
        "store" => "the store",
        "key" => "master keys",
        "data-key" => "data keys",
        "settings" => "settings",
        "release" => "releases’ ends",
        kind => return format!("All about {kind}s"),
    };
    format!("All about {about}")
}

/// Each action, those of one kind after what stands for all of them.
fn action_options() -> Vec<(String, String)> {
    let mut options = vec![(String::new(), "Everything".to_owned())];
    for action in Action::ALL {
        let name = action.as_str();
        if let Some((kind, _)) = name.split_once('.')
            && !options.iter().any(|(sent, _)| sent == kind)
        {
            options.push((kind.to_owned(), all_of(kind)));
        }
        let kind = name.split_once('.').map_or("", |(kind, _)| kind);
        let read = match kind {
            "" => verb(name, false),
            "audit" => verb(name, false),
            kind => format!("{kind}: {}", verb(name, false)),
        };
        options.push((name.to_owned(), read));
    }
    options
}

#[component]
fn Nothing(everything: bool) -> impl IntoView {
    if everything {
        view! {
            <Empty icon="activity" title="Nothing on record yet">
                <p>"Every access, change and refusal is written here before it happens: who, what, when and from where."</p>
            </Empty>
        }
        .into_any()
    } else {
        view! {
            <p class="text-dim">
                "Nothing on record matches. " <a class="link" href="/activity">"Show everything"</a>
            </p>
        }
        .into_any()
    }
}

#[component]
fn Rows(rows: Vec<AuditRow>) -> impl IntoView {
    view! {
        <ol class="flex flex-col divide-y divide-base-300 border-y border-base-300">
            {rows
                .into_iter()
                .map(|row| {
                    let from = [row.address.clone(), row.agent.as_deref().map(program)].into_iter().flatten().collect::<Vec<_>>().join(" · ");
                    let agent = row.agent.clone();
                    let at = row.at;
                    view! {
                        <li class="flex flex-wrap items-baseline gap-x-4 gap-y-0.5 py-2">
                            <span class="min-w-0 flex-1 basis-72">
                                <Told row />
                            </span>
                            <span class="max-w-72 truncate text-sm text-dim max-sm:order-last max-sm:basis-full" title=agent>
                                {from}
                            </span>
                            <span class="w-28 text-sm text-dim sm:text-end">
                                <When at />
                            </span>
                        </li>
                    }
                })
                .collect_view()}
        </ol>
    }
}

/// A row as a sentence. `here` leaves out the path, on its own page.
#[component]
pub fn Told(row: AuditRow, #[prop(optional)] here: bool) -> impl IntoView {
    let refused = row.outcome != "done";
    let verb = what(&row);
    let version = row.version.map(|version| format!(", version {version}"));
    let own = row.actor_kind == "deployment" && row.deployment.as_ref() == Some(&row.actor_name);
    let deployment = row.deployment.clone().map(|name| {
        let href = format!("/deployments/{name}");
        if own {
            // Its name stands at the beginning.
            let release = row.release.map(|number| {
                view! { " for its " <a class="hover:underline" href=href>{format!("release {number}")}</a> }
            });
            return release.into_any();
        }
        let release = row.release.map(|number| format!(", release {number}"));
        let preposition = match (row.path.is_some(), row.action.as_str()) {
            (true, action) if !action.starts_with("connection.") => "for ",
            (_, action) => leads_to(action),
        };
        view! {
            " "
            {preposition}
            <a class="font-mono hover:underline" href=href>{name.clone()}</a>
            {release}
        }
        .into_any()
    });
    let object = if here {
        row.path.is_some().then(|| view! { " it" }.into_any())
    } else {
        row.path
            .clone()
            .map(|path| view! { " " <span class="break-all font-mono">{path}</span> }.into_any())
    };
    let given = row.grantee.clone().map(|who| {
        let level = row.level.as_ref().map(|level| format!(", {level}"));
        view! { " " {towards(&row.action)} <span class="font-mono">{who}</span> {level} }
    });
    view! {
        {refused.then(|| view! { <span class="badge badge-warning badge-sm me-1.5">"Refused"</span> })}
        <strong>{actor(&row)}</strong>
        " "
        {verb}
        {object}
        {version}
        {deployment}
        {given}
        {row.reason.clone().map(|reason| view! { <span class="text-dim">": " {reason}</span> })}
    }
}

fn actor(row: &AuditRow) -> String {
    match row.actor_kind.as_str() {
        // Whoever comes by a link is whom it was for.
        "anonymous" if row.outcome == "done" && is_by_link(&row.action) => {
            row.owner.clone().unwrap_or("Somebody".to_owned())
        }
        "deployment" => format!("Deployment {}", row.actor_name),
        "token" => match &row.maker {
            Some(maker) => format!("{maker}’s token {}", row.actor_name),
            None => format!("Token {}", row.actor_name),
        },
        "job" => format!("Sealport’s {}", row.actor_name),
        "anonymous" => "Somebody".to_owned(),
        _ => row.actor_name.clone(),
    }
}

fn is_by_link(action: &str) -> bool {
    matches!(action, "user.add" | "password.reset")
}

/// The verb, with the team where one is meant.
fn what(row: &AuditRow) -> String {
    let refused = row.outcome != "done";
    let verb = verb(&row.action, refused);
    match (row.action.as_str(), &row.owner) {
        ("team.member", Some(team)) if !refused => {
            verb.replace("a team", &format!("the team {team}"))
        }
        ("team.leave", Some(team)) if !refused => {
            verb.replace("membership", &format!("membership in {team}"))
        }
        _ => verb,
    }
}

/// A browser's name and system, or the beginning of what a program calls itself.
pub fn program(agent: &str) -> String {
    let first = |names: &[(&str, &'static str)]| {
        names
            .iter()
            .find(|(sign, _)| agent.contains(sign))
            .map(|(_, name)| *name)
    };
    // In this order: most browsers also name those before them.
    let browser = first(&[
        ("Firefox/", "Firefox"),
        ("Edg/", "Edge"),
        ("Chrome/", "Chrome"),
        ("Safari/", "Safari"),
    ]);
    let system = first(&[
        ("Android", "Android"),
        ("iPhone", "iPhone"),
        ("iPad", "iPad"),
        ("Windows", "Windows"),
        ("Mac OS", "Mac"),
        ("Linux", "Linux"),
    ]);
    match (browser, system) {
        (Some(browser), Some(system)) => format!("{browser} on {system}"),
        _ => agent.chars().take(40).collect(),
    }
}

/// What an action was, done or only tried.
fn verb(action: &str, refused: bool) -> String {
    let (done, tried) = match action {
        "sign-in" => ("signed in", "sign in"),
        "sign-out" => ("signed out", "sign out"),
        "password.change" => ("changed the password", "change the password"),
        "user.add" => ("made an account", "make an account"),
        "invitation.make" => ("invited somebody", "invite somebody"),
        "invitation.withdraw" => ("withdrew an invitation", "withdraw an invitation"),
        "reset.make" => (
            "made a link that sets a password",
            "make a link that sets a password",
        ),
        "password.reset" => ("set the password by a link", "set a password by a link"),
        "password.confirm" => ("gave the password again", "give the password again"),
        "session.end" => ("ended a session", "end a session"),
        "administrator.make" => (
            "made somebody an administrator",
            "make somebody an administrator",
        ),
        "administrator.unmake" => (
            "took the administrator’s role away",
            "take an administrator’s role away",
        ),
        "account.end" => ("ended an account", "end an account"),
        "secret.create" => ("added", "add"),
        "secret.replace" => ("replaced", "replace"),
        "secret.edit" => ("changed the details of", "change the details of"),
        "secret.compare" => ("compared a value with", "compare a value with"),
        "secret.read" => ("read the value of", "read the value of"),
        "secret.delete" => ("deleted", "delete"),
        "secret.move" => ("moved", "move"),
        "secret.roll-back" => ("rolled back", "roll back"),
        "secret.version-destroy" => ("destroyed a version of", "destroy a version of"),
        "secret.expire" => ("switched off", "switch off"),
        "secret.rotation" => ("set when to rotate", "set when to rotate"),
        "settings.change" => (
            "changed the installation's settings",
            "change the installation's settings",
        ),
        "secret.bind" => ("used", "use"),
        "deployment.create" => ("deployed", "deploy"),
        "deployment.change" => ("changed", "change"),
        "deployment.redeploy" => ("redeployed", "redeploy"),
        "deployment.start" => ("started", "start"),
        "deployment.show" => ("looked at", "look at"),
        "deployment.stop" => ("stopped", "stop"),
        "deployment.destroy" => ("destroyed", "destroy"),
        "deployment.move" => ("handed over", "hand over"),
        "connection.make" => ("connected", "connect a key"),
        "connection.end" => ("disconnected", "disconnect a key"),
        "release.end" => ("ended a release", "end a release"),
        "token.create" => ("made a token", "make a token"),
        "token.revoke" => ("revoked a token", "revoke a token"),
        "gateway.connect" => ("connected", "connect"),
        "api.connect" => ("connected to the API", "connect to the API"),
        "key.create" => ("made a key", "make a key"),
        "audit.export" => ("exported the record", "export the record"),
        "audit.drop" => (
            "dropped exported rows of the record",
            "drop rows of the record",
        ),
        "key.rotate" => ("changed the master key", "change the master key"),
        "key.split" => (
            "made recovery shares of the master key",
            "make recovery shares of the master key",
        ),
        "data-key.rotate" => ("changed a data key", "change a data key"),
        "key.backed-up" => (
            "said that the master key is backed up",
            "say that the master key is backed up",
        ),
        "store.backup" => ("made a backup", "make a backup"),
        "store.restore" => ("restored a backup", "restore a backup"),
        "store.check" => ("checked every value", "check every value"),
        "share" => ("shared", "share"),
        "unshare" => ("took back", "take back"),
        "team.create" => ("made the team", "make the team"),
        "team.member" => ("gave a place in a team to", "give a place in a team to"),
        "team.leave" => ("ended the membership of", "end the membership of"),
        "team.dissolve" => ("dissolved the team", "dissolve the team"),
        other => (other, other),
    };
    if refused {
        format!("tried to {tried}")
    } else {
        done.to_owned()
    }
}

/// The word between what was done and the deployment it was done to.
fn leads_to(action: &str) -> &'static str {
    match action {
        "release.end" => "of ",
        "token.create" | "token.revoke" => "for ",
        "gateway.connect" | "connection.make" => "to ",
        "connection.end" => "from ",
        _ => "",
    }
}

/// The word before whom something was given to or taken from.
fn towards(action: &str) -> &'static str {
    match action {
        "share" => "with ",
        "unshare" => "from ",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_named_shortly() {
        let chrome = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0 Safari/537.36";
        assert_eq!(program(chrome), "Chrome on Linux");
        assert_eq!(program("curl/8.5.0"), "curl/8.5.0");
        assert_eq!(program(&"x".repeat(200)).len(), 40);
    }

    #[test]
    fn a_sentence_names_who_came_by_a_link_and_which_team() {
        let row = |kind: &str, action: &str, outcome: &str| AuditRow {
            id: Uuid::nil(),
            at: time::OffsetDateTime::UNIX_EPOCH,
            actor_kind: kind.into(),
            actor_name: "ann".into(),
            action: action.into(),
            outcome: outcome.into(),
            path: None,
            version: None,
            deployment: None,
            release: None,
            address: None,
            agent: None,
            grantee: None,
            level: None,
            reason: None,
            owner: Some("ops".into()),
            maker: Some("bob".into()),
        };
        assert_eq!(
            actor(&row("token", "secret.read", "done")),
            "bob’s token ann"
        );
        assert_eq!(actor(&row("anonymous", "user.add", "done")), "ops");
        assert_eq!(actor(&row("anonymous", "user.add", "refused")), "Somebody");
        assert_eq!(actor(&row("anonymous", "sign-in", "done")), "Somebody");
        let told = |action: &str, outcome: &str| what(&row("user", action, outcome));
        assert_eq!(
            told("team.member", "done"),
            "gave a place in the team ops to"
        );
        assert_eq!(
            told("team.member", "refused"),
            "tried to give a place in a team to"
        );
        assert_eq!(told("team.leave", "done"), "ended the membership in ops of");
    }

    #[test]
    fn every_action_reads_as_words() {
        for action in Action::ALL {
            let name = action.as_str();
            assert_ne!(verb(name, false), name);
            // "share" reads as it is called.
            if name.contains(['.', '-']) {
                assert_ne!(verb(name, true), format!("tried to {name}"));
            }
        }
        assert_eq!(verb("sign-in", true), "tried to sign in");
    }

    #[test]
    fn every_action_can_be_chosen() {
        let options = action_options();
        for action in Action::ALL {
            let sent = action.as_str();
            assert_eq!(options.iter().filter(|(name, _)| name == sent).count(), 1);
        }
        assert!(options.contains(&("secret".into(), "All about secrets".into())));
        for (_, read) in &options {
            assert!(!read.ends_with("ss"), "{read}");
        }
        assert!(options.contains(&("secret.bind".into(), "secret: used".into())));
    }
}
