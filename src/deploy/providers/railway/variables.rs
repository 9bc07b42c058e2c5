//! The variables of a service. They are sent, and never asked for: only their names come back.

use std::collections::BTreeSet;

use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize, Serializer};

use super::{
    Connection, EnvName, EnvironmentId, Input, NAME, Place, ProjectId, Railway, Repeat,
    SecretString, ServiceId, Trouble, gone_is_done,
};

const VARIABLES_SET: &str = "mutation VariablesSet($input: VariableCollectionUpsertInput!) {
    done: variableCollectionUpsert(input: $input)
}";
const VARIABLE_DELETE: &str = "mutation VariableDelete($input: VariableDeleteInput!) {
    done: variableDelete(input: $input)
}";
/// Not `variables`, which answers with the values.
const VARIABLE_NAMES: &str =
    "query VariableNames($projectId: String!, $environmentId: String!, $after: String) {
    environment(id: $environmentId, projectId: $projectId) {
        variables(first: 100, after: $after) {
            edges { node { name serviceId } }
            pageInfo { hasNextPage endCursor }
        }
    }
}";

pub(super) const DOCUMENTS: &[&str] = &[VARIABLES_SET, VARIABLE_DELETE, VARIABLE_NAMES];

/// What Railway replaces in a value by another variable's, so that the server would not see what was stored here.
pub const REFERENCE: &str = "${{";

/// Errors: `Reference`, with the name of the first variable whose value Railway would not take as it is.
pub fn refuse_references(variables: &[(EnvName, SecretString)]) -> Result<(), Trouble> {
    match variables
        .iter()
        .find(|(_, value)| value.expose_secret().contains(REFERENCE))
    {
        None => Ok(()),
        Some((name, _)) => Err(Trouble::Reference {
            provider: NAME,
            name: name.clone(),
        }),
    }
}

/// Becomes the JSON that is sent, which is zeroed after it: here and nowhere else of this adapter is a value exposed to leave.
pub(super) struct Exposed<'a>(pub &'a [(EnvName, SecretString)]);

impl Serialize for Exposed<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(
            self.0
                .iter()
                .map(|(name, value)| (name.as_str(), value.expose_secret())),
        )
    }
}

impl Railway {
    /// Sets these variables of a service and leaves its others, by `variableCollectionUpsert`. Unless deploys are skipped it
    /// deploys the service with them, and is sent once. Errors: `Reference` before anything is sent; `Lost` when it may
    /// have been done, in which case setting them again is harmless.
    pub async fn variables_set(
        &self,
        place: &Place,
        variables: &[(EnvName, SecretString)],
        skip_deploys: bool,
    ) -> Result<(), Trouble> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Upsert<'a> {
            #[serde(flatten)]
            place: &'a Place,
            variables: Exposed<'a>,
            replace: bool,
            skip_deploys: bool,
        }
        refuse_references(variables)?;
        let input = Upsert {
            place,
            variables: Exposed(variables),
            replace: false,
            skip_deploys,
        };
        let repeat = if skip_deploys {
            Repeat::Safe
        } else {
            Repeat::Once
        };
        self.bid(VARIABLES_SET, Input { input }, repeat).await
    }

    /// Removes these variables of a service one by one, by `variableDelete`; one that is not there is removed. Railway has
    /// no way to say that this should not deploy: so do it before what deploys. Errors: those of the connection.
    pub async fn variables_remove(&self, place: &Place, names: &[EnvName]) -> Result<(), Trouble> {
        #[derive(Serialize)]
        struct Delete<'a> {
            #[serde(flatten)]
            place: &'a Place,
            name: &'a EnvName,
        }
        for name in names {
            let input = Delete { place, name };
            gone_is_done(
                self.bid(VARIABLE_DELETE, Input { input }, Repeat::Safe)
                    .await,
            )?;
        }
        Ok(())
    }

    /// The names of a service's variables, whoever set them, by the environment's `variables`, page by page, which have no
    /// values. Errors: `NotFound` for the environment, and those of the connection.
    pub async fn variable_names(&self, place: &Place) -> Result<BTreeSet<String>, Trouble> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Of<'a> {
            project_id: &'a ProjectId,
            environment_id: &'a EnvironmentId,
        }
        #[derive(Deserialize)]
        struct Answered {
            environment: Variables,
        }
        #[derive(Deserialize)]
        struct Variables {
            variables: Connection<Named>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Named {
            name: String,
            /// None for those that all services of the environment may use.
            service_id: Option<ServiceId>,
        }
        let of = Of {
            project_id: &place.project,
            environment_id: &place.environment,
        };
        let found = self
            .all(VARIABLE_NAMES, &of, |answer: Answered| {
                answer.environment.variables
            })
            .await?;
        Ok(found
            .into_iter()
            .filter(|variable| variable.service_id.as_ref() == Some(&place.service))
            .map(|variable| variable.name)
            .collect())
    }
}
