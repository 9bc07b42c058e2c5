//! What the forms of the page answer with: the part that is on the server alone.

use leptos::prelude::expect_context;
use uuid::Uuid;

use super::super::wire::back;
use super::address;
use super::slot::form_of;
use crate::deploy::Deployer;
use crate::model::actors::Caller;
use crate::model::connections::ConnectPage;
use crate::model::errors::Refusal;
use crate::model::paths::{DeploymentName, EnvName};
use crate::store::{Db, Error};

/// The fields of a slot that say what is wrong with them.
const FIELDS: [&str; 2] = ["value", "typed"];

/// The caller's instance gives way, for its keys are others now. Returns how the keys stand.
pub async fn retire(caller: &Caller, name: &DeploymentName) -> Result<ConnectPage, Error> {
    let page = expect_context::<Db>().connect_page(caller, name).await?;
    retire_of(caller, page.id);
    Ok(page)
}

pub fn retire_of(caller: &Caller, deployment_id: Uuid) {
    if let Some(user) = caller.user() {
        expect_context::<Deployer>().retire_own(deployment_id, user.id);
    }
}

/// Back to the page, with what is wrong at its field where there is one.
pub async fn refused(
    name: &DeploymentName,
    env: &EnvName,
    mut refusal: Refusal,
) -> Result<(), Refusal> {
    refusal.field = refusal
        .field
        .filter(|field| FIELDS.contains(&field.as_str()));
    back(&address(name), &form_of(env), refusal, &[]).await
}
