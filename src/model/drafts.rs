//! A deployment that is being put together in the wizard. Holds names and plain text, never a value.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use super::errors::Refusal;
use super::sources::{Inspection, Source, is_folder, is_git_reference, is_version};
use super::targets::Target;

/// A draft lives this many days after its last change.
pub const DRAFT_MAX_AGE_DAYS: i64 = 7;

/// The wizard's steps, as their addresses name them.
pub const STEPS: [&str; 4] = ["source", "secrets", "target", "review"];

/// The step where what is wrong at a field is mended; none for what no step mends.
pub fn step_of(field: &str) -> Option<&'static str> {
    let (first, _) = field.split_once('.').unwrap_or((field, ""));
    match first {
        "source" | "source_kind" | "version" | "reference" | "folder" | "command" | "transport"
        | "fetch_key" | "inspection" => Some("source"),
        "env" | "own" | "plain" | "bindings" | "missing" => Some("secrets"),
        "name" | "owner" | "target" | "key" | "options" => Some("target"),
        _ => None,
    }
}

/// What was typed stays as typed, valid or not; `errors` stands beside the field it names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Draft {
    pub id: Uuid,
    pub form: DraftForm,
    /// Field name → what is wrong and what to do.
    pub errors: BTreeMap<String, String>,
    pub inspecting: InspectState,
    pub inspection: Option<Inspection>,
    /// Set once Deploy was pressed: the deployment's name. A second press changes nothing.
    pub deployed_as: Option<String>,
    /// It goes some days after that.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub changed_at: Option<OffsetDateTime>,
}

impl Draft {
    /// The step where it goes on: the first that was not sent yet.
    pub fn reached(&self) -> &'static str {
        let is_inspected = self.inspecting == InspectState::Done && self.inspection.is_some();
        match (is_inspected, self.form.ticked, self.form.target.is_empty()) {
            (false, ..) => "source",
            (true, false, _) => "secrets",
            (true, true, true) => "target",
            (true, true, false) => "review",
        }
    }

    /// What is wrong on one step, by field.
    pub fn errors_of(&self, step: &str) -> impl Iterator<Item = (&str, &str)> {
        self.errors
            .iter()
            .filter(move |(field, _)| step_of(field) == Some(step))
            .map(|(field, error)| (field.as_str(), error.as_str()))
    }

    /// Takes a step's new errors in the place of its old ones. Those of other steps stay until these are mended.
    pub fn set_errors(&mut self, step: &str, errors: BTreeMap<String, String>) {
        self.errors
            .retain(|field, _| step_of(field).is_some_and(|of| of != step));
        self.errors.extend(errors);
    }
}

/// What the person typed, step by step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DraftForm {
    /// `npm`, `pypi`, `git`, `image` or `dir`.
    pub source_kind: String,
    /// A package name, a URL, a reference or a path, as typed.
    pub source: String,
    /// A version for packages; empty for the newest.
    pub version: String,
    /// A branch, tag or commit for git.
    pub reference: String,
    pub folder: String,
    /// The secret with the credential to fetch.
    pub fetch_key: Option<Uuid>,
    /// Overrides what inspecting found, as a command line; empty for none.
    pub command: String,
    /// `stdio`, `http`, or empty for what inspecting found.
    pub transport: String,
    /// The handle of a team that shall own it; empty for oneself.
    pub owner: String,
    pub name: String,
    /// Empty until it was chosen.
    pub target: String,
    /// The path of the provider's key; empty for the target's usual one.
    pub key: String,
    /// What the target is told, by name.
    pub options: BTreeMap<String, String>,
    pub secrets: Vec<DraftSecret>,
    pub plain: Vec<DraftPlain>,
    /// The variables that each caller brings, as typed.
    pub per_user: Vec<String>,
    /// Env name → the path typed for a secret that is to be added under it.
    pub new_paths: BTreeMap<String, String>,
    /// Whether the ticks were set from what the source asks for, which happens once.
    pub ticked: bool,
    /// The deployment that it was begun from and that it changes; empty for a new one.
    pub changes: String,
}

impl DraftForm {
    /// Where it shall run: this machine until something else is chosen, but for an image, which runs at a provider.
    pub fn chosen_target(&self) -> Option<Target> {
        match (self.target.as_str(), self.source_kind.as_str()) {
            ("", "image") => None,
            ("", _) => Some(Target::Local),
            (name, _) => Target::from_name(name),
        }
    }

    /// The deployment that Deploy changes, as long as its name stands in the form.
    pub fn changed_deployment(&self) -> Option<&str> {
        (!self.changes.is_empty() && self.changes == self.name).then_some(self.changes.as_str())
    }

    /// Empties the fields that do not show for the chosen kind of source.
    pub fn clear_other_kinds(&mut self) {
        if !["npm", "pypi"].contains(&self.source_kind.as_str()) {
            self.version.clear();
        }
        if self.source_kind != "git" {
            self.reference.clear();
            self.folder.clear();
        }
    }

    /// What is wrong with the fields beside the source's own, for each in the words of the form.
    fn parts_wrong(&self) -> Result<(), Refusal> {
        let is_there = |part: &str| !part.trim().is_empty();
        let wrong = |field, says: &str| Err(Refusal::invalid(field, says));
        match self.source_kind.as_str() {
            "npm" | "pypi" if is_there(&self.version) && !is_version(self.version.trim()) => wrong(
                "version",
                "A version is a single one, as in 3.26.0, without spaces and without a range.",
            ),
            "git" if is_there(&self.reference) && !is_git_reference(self.reference.trim()) => {
                wrong(
                    "reference",
                    "A branch, tag or commit has letters, digits and . _ - + / alone, as in main or v1.2, and no two dots in a row.",
                )
            }
            "git" if is_there(&self.folder) && !is_folder(self.folder.trim()) => wrong(
                "folder",
                "A folder is a path inside the repository, without a slash at its start and without “..”, as in servers/time.",
            ),
            _ => Ok(()),
        }
    }

    /// The source that was typed. Errors: `Invalid` at the field that is wrong.
    pub fn source(&self) -> Result<Source, Refusal> {
        let typed = self.source.trim();
        if typed.is_empty() {
            return Err(Refusal::invalid("source", "Say what to deploy."));
        }
        self.parts_wrong()?;
        let text = match self.source_kind.as_str() {
            "npm" if self.version.trim().is_empty() => format!("npm:{typed}"),
            "npm" => format!("npm:{typed}@{}", self.version.trim()),
            "pypi" if self.version.trim().is_empty() => format!("pypi:{typed}"),
            "pypi" => format!("pypi:{typed}=={}", self.version.trim()),
            "git" => {
                let (reference, folder) = (self.reference.trim(), self.folder.trim());
                match (reference, folder) {
                    ("", "") => format!("git:{typed}"),
                    (reference, "") => format!("git:{typed}#{reference}"),
                    (reference, folder) => format!("git:{typed}#{reference}:{folder}"),
                }
            }
            "dir" => format!("dir:{typed}"),
            "image" => format!("image:{typed}"),
            _ => {
                return Err(Refusal::invalid(
                    "source_kind",
                    "Choose where the code comes from.",
                ));
            }
        };
        Source::parse(&text)
    }
}

/// A secret that is ticked, or has another env name than by default; as typed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DraftSecret {
    pub id: Uuid,
    pub path: String,
    pub env: String,
    pub ticked: bool,
}

/// A variable whose text is visible to whoever may see the deployment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DraftPlain {
    pub env: String,
    pub text: String,
    /// The person read the warning that this looks like a secret and keeps it plain.
    pub kept_plain: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum InspectState {
    #[default]
    Idle,
    /// What it is doing now, as in "Fetching firecrawl-mcp".
    Running {
        step: String,
    },
    Done,
    Failed {
        reason: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_s_errors_replace_its_own_and_what_no_step_mends_goes() {
        let errors = |fields: &[&str]| -> BTreeMap<String, String> {
            let all = fields.iter();
            all.map(|field| ((*field).to_owned(), format!("{field} is wrong")))
                .collect()
        };
        let mut draft = Draft {
            errors: errors(&[
                "",
                "source",
                "env.1",
                "missing.KEY",
                "name",
                "options.region",
            ]),
            ..Draft::default()
        };
        draft.set_errors("secrets", errors(&["plain.0.text"]));
        let kept = errors(&["source", "plain.0.text", "name", "options.region"]);
        assert_eq!(draft.errors, kept);
        let of_secrets: Vec<_> = draft.errors_of("secrets").collect();
        assert_eq!(of_secrets, [("plain.0.text", "plain.0.text is wrong")]);
        assert_eq!(draft.errors_of("review").count(), 0);
        draft.set_errors("target", errors(&["key"]));
        assert_eq!(draft.errors, errors(&["source", "plain.0.text", "key"]));
    }

    #[test]
    fn a_draft_of_before_reads() {
        let kept = serde_json::json!({"source_kind": "npm", "source": "left-pad", "plain": []});
        let form: Result<DraftForm, _> = serde_json::from_value(kept);
        assert!(form.is_ok_and(|form| form.per_user.is_empty()));
        assert_eq!(step_of("own.0.env"), Some("secrets"));
    }

    #[test]
    fn what_is_wrong_beside_a_source_stands_at_its_own_field() {
        let form = |kind: &str, version: &str, reference: &str, folder: &str| DraftForm {
            source_kind: kind.into(),
            source: "https://host/owner/x".into(),
            version: version.into(),
            reference: reference.into(),
            folder: folder.into(),
            ..DraftForm::default()
        };
        for (form, field) in [
            (form("npm", "^1.0 || 2", "", ""), "version"),
            (form("pypi", ">=1", "", ""), "version"),
            (form("git", "", "main..next", ""), "reference"),
            (form("git", "", "main", "/servers"), "folder"),
            (form("git", "", "", "../servers"), "folder"),
        ] {
            let refused = form.source().err();
            assert_eq!(
                refused.as_ref().and_then(|at| at.field.as_deref()),
                Some(field)
            );
            assert!(refused.is_some_and(|at| !at.detail.contains('#')));
            assert_eq!(step_of(field), Some("source"));
        }
        // What belongs to another kind of source is neither read nor kept.
        let mut switched = form("dir", "^1", "main..next", "/servers");
        switched.source = "/srv/x".into();
        assert!(switched.source().is_ok());
        switched.clear_other_kinds();
        let left = [switched.version, switched.reference, switched.folder];
        assert_eq!(left, ["", "", ""]);
    }

    #[test]
    fn an_image_runs_nowhere_until_a_provider_is_chosen() {
        let form = |kind: &str, target: &str| DraftForm {
            source_kind: kind.into(),
            source: "ghcr.io/owner/server:1".into(),
            target: target.into(),
            ..DraftForm::default()
        };
        assert_eq!(form("npm", "").chosen_target(), Some(Target::Local));
        assert_eq!(form("image", "").chosen_target(), None);
        let image = form("image", "render");
        assert_eq!(image.chosen_target(), Some(Target::Render));
        assert_eq!(form("npm", "kubernetes").chosen_target(), None);
        assert_eq!(
            image.source().map(|source| source.to_string()),
            Ok("image:ghcr.io/owner/server:1".to_owned())
        );
    }
}
