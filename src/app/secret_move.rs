//! Moving a secret to another owner: first to whom, then who gains and who loses, then the move.

use leptos::prelude::*;
use leptos_router::hooks::{use_params_map, use_query_map};
use uuid::Uuid;

use super::fields::SelectField;
use super::frame::{Here, Page, Section, page};
use super::secrets::address;
use super::wire::page_open;
use crate::model::errors::Refusal;
use crate::model::levels::Level;
use crate::model::moves::{MoveEffect, MovePlan, ReachChange};

#[server(prefix = "/_fn", endpoint = "secret_move_plan")]
pub async fn secret_move_plan(
    id: Uuid,
    /// The handle of the owner to come; nobody yet.
    #[server(default)]
    to: String,
) -> Result<MovePlan, Refusal> {
    use crate::model::paths::Handle;
    let db = expect_context::<crate::store::Db>();
    let caller = super::wire::caller().await?;
    let to = match to.trim() {
        "" => None,
        to => Some(Handle::parse(to)?),
    };
    db.secret_move_plan(&caller, id, to.as_ref())
        .await
        .map_err(crate::store::Error::into_refusal)
}

#[server(prefix = "/_fn", endpoint = "secret_move")]
pub async fn secret_move(id: Uuid, #[server(default)] to: String) -> Result<(), Refusal> {
    use super::wire::{back, confirmed, done};
    use crate::model::paths::Handle;
    let db = expect_context::<crate::store::Db>();
    let caller = confirmed().await?;
    let moved = async {
        let to = Handle::parse(to.trim()).map_err(|refusal| refusal.at("to"))?;
        let path = db.secret_move(&caller, id, &to).await?;
        Ok::<_, crate::store::Error>((path, to))
    };
    match moved.await {
        Ok((path, to)) => {
            let is_mine = caller.user().is_some_and(|user| user.handle == to.as_str());
            let next = match is_mine {
                true => address(to.as_str(), path.as_str()),
                false => "/secrets".to_owned(),
            };
            done(&next, format!("{path} is {to}’s now.")).await
        }
        Err(error) => {
            let refusal = error.into_refusal();
            // What is wrong is said as a whole: the field stands on the step before.
            let whole = Refusal::new(refusal.kind, refusal.detail);
            back(&format!("/move/secret/{id}"), "move", whole, &[]).await
        }
    }
}

#[component]
pub fn SecretMovePage() -> impl IntoView {
    let id = use_params_map()
        .get_untracked()
        .get("id")
        .unwrap_or_default();
    let to = use_query_map()
        .get_untracked()
        .get("to")
        .unwrap_or_default();
    page(Here::Secrets, async move {
        let id = Uuid::parse_str(&id).map_err(|_| Refusal::not_found("secret"))?;
        let plan = secret_move_plan(id, to).await?;
        let opened = page_open().await?;
        let crumbs = vec![
            ("Secrets".to_owned(), "/secrets".to_owned()),
            (
                plan.path.to_string(),
                address(&plan.owner, plan.path.as_str()),
            ),
        ];
        Ok(view! {
            <Page opened here=Here::Secrets title="Move to another owner" crumbs>
                <Choose plan=plan.clone() />
                {plan.effect.clone().map(|effect| view! { <Effect id=plan.id owner=plan.owner.clone() effect /> })}
            </Page>
        })
    })
}

#[component]
fn Choose(plan: MovePlan) -> impl IntoView {
    let chosen = plan
        .effect
        .as_ref()
        .map(|effect| effect.to.clone())
        .unwrap_or_default();
    let options: Vec<(String, String)> = plan
        .targets
        .iter()
        .map(|handle| (handle.clone(), handle.clone()))
        .collect();
    view! {
        <Section title="To whom" id="target">
            <p class="max-w-prose">
                "It is " <strong class="font-mono">{plan.owner}</strong>
                "’s now. All its versions move with it, and are sealed anew for the new owner. What was shared of this secret itself stays shared."
            </p>
            {if options.is_empty() {
                view! { <p class="text-dim">"There is nobody to move it to: that takes a team in which you may write."</p> }.into_any()
            } else {
                view! {
                    <form method="get" action=format!("/move/secret/{}", plan.id) class="flex max-w-md flex-wrap items-end gap-3">
                        <div class="min-w-48 flex-1">
                            <SelectField name="to" label="New owner" options value=chosen />
                        </div>
                        <button class="btn">"Show what changes"</button>
                    </form>
                }
                    .into_any()
            }}
        </Section>
    }
}

#[component]
fn Effect(id: Uuid, owner: String, effect: MoveEffect) -> impl IntoView {
    let MoveEffect {
        to,
        taken,
        changes,
        used_by,
        rule_lost,
    } = effect;
    view! {
        <Section title=format!("What changes when it is {to}’s") id="effect">
            <Changes changes />
            <p class="max-w-prose text-sm text-dim">
                {format!(
                    "Folders that {owner} shared do not cover it any more; folders that {to} shared do. Those whom you may not know of are not listed.",
                )}
            </p>
            {rule_lost
                .map(|folder| {
                    view! {
                        <p class="max-w-prose">
                            {format!(
                                "The rule of rotation that {owner} set on the folder {folder} does not hold for it any more. If it needs one, give it one afterwards.",
                            )}
                        </p>
                    }
                })}
            {(!used_by.is_empty())
                .then(|| {
                    view! {
                        <div>
                            <p>"These deployments of others use it. They run on; at their next start their owner needs use of it:"</p>
                            <ul class="flex flex-col gap-1">
                                {used_by.iter().map(|name| view! { <li class="font-mono">{name.clone()}</li> }).collect_view()}
                            </ul>
                        </div>
                    }
                })}
            {if taken {
                view! {
                    <p role="alert" class="text-error">
                        {format!("{to} has a secret with this path already. Rename one of the two first.")}
                    </p>
                }
                    .into_any()
            } else {
                view! {
                    <form method="post" action="/_fn/secret_move">
                        <input type="hidden" name="id" value=id.to_string() />
                        <input type="hidden" name="to" value=to.clone() />
                        <button class="btn btn-primary">{format!("Move it to {to}")}</button>
                    </form>
                }
                    .into_any()
            }}
        </Section>
    }
}

#[component]
fn Changes(changes: Vec<ReachChange>) -> impl IntoView {
    let word = |level: Option<Level>| level.map_or("nothing", Level::as_str);
    if changes.is_empty() {
        return view! { <p>"Everybody reaches as far as before."</p> }.into_any();
    }
    view! {
        <table class="table table-sm max-w-md">
            <thead>
                <tr>
                    <th scope="col">"Who"</th>
                    <th scope="col">"Now"</th>
                    <th scope="col">"Afterwards"</th>
                </tr>
            </thead>
            <tbody>
                {changes
                    .into_iter()
                    .map(|change| {
                        view! {
                            <tr>
                                <th scope="row" class="font-mono font-normal">
                                    {change.handle.clone()}
                                </th>
                                <td>{word(change.before)}</td>
                                <td>{word(change.after)}</td>
                            </tr>
                        }
                    })
                    .collect_view()}
            </tbody>
        </table>
    }
    .into_any()
}
