//! What is left of a project, and its end.

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{ById, Connection, ProjectId, Railway, Repeat, Trouble, gone_is_done};

const KEEPS: &str = "query ProjectKeeps($id: String!) {
    project(id: $id) {
        volumes(first: 1) { edges { node { id } } }
        buckets(first: 1) { edges { node { id } } }
    }
}";
const PROJECT_DELETE: &str =
    "mutation ProjectDelete($id: String!) { done: projectDelete(id: $id) }";

pub(super) const DOCUMENTS: &[&str] = &[KEEPS, PROJECT_DELETE];

impl Railway {
    /// Whether a project has no services, no volumes and no buckets, by `project`. Errors: `NotFound`, and those of the
    /// connection.
    pub async fn project_is_empty(&self, project: &ProjectId) -> Result<bool, Trouble> {
        #[derive(Deserialize)]
        struct Answered {
            project: Keeps,
        }
        #[derive(Deserialize)]
        struct Keeps {
            volumes: Connection<IgnoredAny>,
            buckets: Connection<IgnoredAny>,
        }
        if !self.services(project).await?.is_empty() {
            return Ok(false);
        }
        let by = ById {
            id: project.as_str(),
        };
        let Answered { project } = self.ask(KEEPS, by, Repeat::Safe).await?;
        Ok(project.volumes.edges.is_empty() && project.buckets.edges.is_empty())
    }

    /// Deletes a project with all that is in it by `projectDelete`. One that is not there is deleted. Errors: those of the
    /// connection; a project token is not allowed to.
    pub async fn project_delete(&self, project: &ProjectId) -> Result<(), Trouble> {
        let by = ById {
            id: project.as_str(),
        };
        gone_is_done(self.bid(PROJECT_DELETE, by, Repeat::Safe).await)
    }
}
