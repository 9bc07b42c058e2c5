//! The code that a release ran at its provider, and running it again: with what is bound now, and its newest values.

use super::audit::{self, Entry};
use super::deployment_changes::{check, stored};
use super::deployments::{Code, about, person, queue_release_of};
use super::holds::held_elsewhere;
use super::releases::ReleaseTask;
use super::{Db, Result};
use crate::model::actors::{Caller, Job};
use crate::model::audit::Action;
use crate::model::errors::{Refusal, RefusalKind};
use crate::model::levels::Level;
use crate::model::paths::DeploymentName;
use crate::model::sources::Source;

impl Db {
    /// Queues a release that builds the commit of an older one, which was live, instead of what the source names. Returns its number.
    /// It is another code for what is bound: so it takes what another source takes, and asks what that asks.
    /// Errors: `NotFound`, also of the older release; `Denied`; `Conflict` where its code is not known or not to be had, with the reason;
    /// as `deployment_change` of what is bound.
    pub async fn deployment_run_again(
        &self,
        caller: &Caller,
        name: &DeploymentName,
        of: i32,
    ) -> Result<i32> {
        let action = Action::DeploymentRedeploy;
        let (mut tx, found) = self.reached(caller, name, Level::Admin, action).await?;
        let user = person(caller)?;
        let past = sqlx::query!(
            "select state, commit, built_from from releases where deployment_id = $1 and number = $2",
            found.id,
            of,
        )
        .fetch_optional(&mut *tx)
        .await?;
        let Some(past) = past else {
            tx.rollback().await?;
            return Err(Refusal::not_found("release").into());
        };
        let before = stored(&mut tx, found.id, name).await?;
        let known = past.commit.zip(past.built_from);
        let is_elsewhere = |built_from: &str| {
            let built_from = Source::parse(built_from);
            !built_from.is_ok_and(|source| source.is_same_repository(&before.source))
        };
        let code = match known {
            _ if past.state != "live" => Err(format!(
                "Release {of} never was live: there is no code of it to run."
            )),
            None => Err(format!(
                "It is not known which code release {of} ran. That is noted of what Render builds from git; elsewhere, deploy the source that it had."
            )),
            Some((_, built_from)) if is_elsewhere(&built_from) => Err(format!(
                "Release {of} was built from another repository or folder, {built_from}. Change the source back instead."
            )),
            Some((commit, source)) => Ok(Code { of, commit, source }),
        };
        let code = match code {
            Ok(code) => code,
            Err(why) => {
                tx.rollback().await?;
                return Err(Refusal::new(RefusalKind::Conflict, why).into());
            }
        };
        let mut spec = before.clone();
        if let Source::Git { reference, .. } = &mut spec.source {
            *reference = Some(code.commit.clone());
        }
        if let Err(wrong) = check(&mut tx, &found, &before, &spec).await? {
            tx.rollback().await?;
            self.record_refusal(caller, wrong.entry(action, found.owner_id, name))
                .await?;
            return Err(wrong.refusal.into());
        }
        let asked_by = audit::asked_by(caller);
        let number =
            queue_release_of(&mut tx, &asked_by, &found, user.is_admin, Some(&code)).await?;
        let entry = Entry {
            release: Some(number),
            reason: Some("with the code of an older release"),
            ..about(action, found.owner_id, name)
        };
        audit::record(&mut tx, caller, entry).await?;
        tx.commit().await?;
        Ok(number)
    }

    /// Notes what the provider built for the release. Errors: `Conflict` when another server took it.
    pub async fn release_built(&self, task: &ReleaseTask, commit: &str) -> Result<()> {
        let mut tx = self.begin_as(&Caller::job(Job::Supervisor)).await?;
        let noted = sqlx::query!(
            "update releases set commit = $4, built_from = $5 where deployment_id = $1 and number = $2 and fence = $3",
            task.deployment_id,
            task.number,
            task.fence,
            commit,
            task.source.to_string(),
        )
        .execute(&mut *tx)
        .await?;
        if noted.rows_affected() == 0 {
            tx.rollback().await?;
            return Err(held_elsewhere());
        }
        tx.commit().await?;
        Ok(())
    }
}
