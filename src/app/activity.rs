//! The record, as sentences.

use leptos::prelude::*;
use leptos_router::hooks::use_query_map;
use uuid::Uuid;

use super::frame::{Empty, Here, Page, page};
use super::icons::Icon;
use super::times::When;
use super::wire::page_open;
use crate::model::audit::AuditRow;
use crate::model::errors::Refusal;

/// Rows of one page.
const LISTED: usize = 50;

/// One row more than a page shows, when there are more.
#[server(prefix = "/_fn", endpoint = "activity_list")]
pub async fn activity_list(
    #[server(default)] search: String,
    #[server(default)] before: Option<Uuid>,
) -> Result<Vec<AuditRow>, Refusal> {
    let db = expect_context::<crate::store::Db>();
    let caller = super::wire::caller().await?;
    let search: String = search.trim().chars().take(255).collect();
    db.audit_list(&caller, &search, before, LISTED as i64 + 1)
        .await
        .map_err(crate::store::Error::into_refusal)
}

#[component]
pub fn ActivityPage() -> impl IntoView {
    let query = use_query_map().get_untracked();
    let search = query.get("q").unwrap_or_default();
    let before = query.get("before").and_then(|id| id.parse::<Uuid>().ok());
    page(Here::Activity, async move {
        let opened = page_open().await?;
        let mut rows = activity_list(search.clone(), before).await?;
        let older = (rows.len() > LISTED)
            .then(|| rows.get(LISTED - 1).map(|row| row.id))
            .flatten();
        rows.truncate(LISTED);
        Ok(view! {
            <Page opened here=Here::Activity title="Activity">
                <form method="get" action="/activity" role="search" class="flex max-w-md gap-2">
                    <label class="input w-full">
                        <Icon name="search" label="Search the record" />
                        <input type="search" name="q" value=search.clone() placeholder="Path, deployment, actor or action" />
                    </label>
                    <button class="btn">"Search"</button>
                </form>
                {if rows.is_empty() {
                    view! { <Nothing search=search.clone() /> }.into_any()
                } else {
                    view! { <Rows rows /> }.into_any()
                }}
                {older.map(|id| view! { <Older id search /> })}
            </Page>
        })
    })
}

#[component]
fn Nothing(search: String) -> impl IntoView {
    if search.is_empty() {
        view! {
            <Empty icon="activity" title="Nothing on record yet">
                <p>"Every access, change and refusal is written here before it happens: who, what, when and from where."</p>
            </Empty>
        }
        .into_any()
    } else {
        view! {
            <p class="text-dim">
                "Nothing matches “" {search} "”. " <a class="link" href="/activity">"Show everything"</a>
            </p>
        }
        .into_any()
    }
}

#[component]
fn Older(id: Uuid, search: String) -> impl IntoView {
    view! {
        <form method="get" action="/activity">
            <input type="hidden" name="q" value=search />
            <input type="hidden" name="before" value=id.to_string() />
            <button class="btn">"Older"</button>
        </form>
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
    let verb = verb(&row.action, refused);
    let version = row.version.map(|version| format!(", version {version}"));
    let deployment = row.deployment.clone().map(|name| {
        let release = row.release.map(|number| format!(", release {number}"));
        let preposition = match (row.path.is_some(), row.action.as_str()) {
            (true, _) => "for ",
            (false, action) => leads_to(action),
        };
        view! {
            " "
            {preposition}
            <a class="font-mono hover:underline" href=format!("/deployments/{name}")>{name.clone()}</a>
            {release}
        }
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
        "deployment" => format!("Deployment {}", row.actor_name),
        "token" => format!("Token {}", row.actor_name),
        "job" => format!("Sealport’s {}", row.actor_name),
        "anonymous" => "Somebody".to_owned(),
        _ => row.actor_name.clone(),
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
        "release.end" => ("ended a release", "end a release"),
        "token.create" => ("made a token", "make a token"),
        "token.revoke" => ("revoked a token", "revoke a token"),
        "gateway.connect" => ("connected", "connect"),
        "key.create" => ("made a key", "make a key"),
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
        "gateway.connect" => "to ",
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
    use crate::model::audit::Action;

    #[test]
    fn programs_are_named_shortly() {
        let chrome = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0 Safari/537.36";
        assert_eq!(program(chrome), "Chrome on Linux");
        assert_eq!(program("curl/8.5.0"), "curl/8.5.0");
        assert_eq!(program(&"x".repeat(200)).len(), 40);
    }

    #[test]
    fn every_action_reads_as_words() {
        for action in [
            Action::SignIn,
            Action::PasswordChange,
            Action::SecretBind,
            Action::DeploymentRedeploy,
            Action::GatewayConnect,
            Action::KeyCreate,
            Action::KeyBackedUp,
            Action::StoreBackup,
            Action::StoreRestore,
            Action::StoreCheck,
        ] {
            let name = action.as_str();
            assert_ne!(verb(name, false), name);
            assert_ne!(verb(name, true), format!("tried to {name}"));
        }
        assert_eq!(verb("sign-in", true), "tried to sign in");
    }
}
