//! A Railway for tests: it keeps what it is told, answers what is selected and nothing else, builds slowly, and can be told
//! to fail.
//!
//! Its limits: it knows the fields and inputs that the adapter uses and refuses all others, but does not check their types
//! as the real schema does (the contract test does that). It deploys after each change of variables that does not skip it,
//! and after each removal, where the real one may gather several. It lets several services of a project have one name, so
//! that a second one shows. Nothing is fetched and nothing runs: a deployment goes one step further each time it is asked
//! for, and the last step of its course stays. It limits nobody of itself.

#[path = "railway/document.rs"]
pub mod document;
#[path = "railway/state.rs"]
pub mod state;
#[path = "railway/takes.rs"]
mod takes;
#[path = "railway/work.rs"]
mod work;

use std::sync::{Arc, Mutex, MutexGuard};

use sealport::deploy::sources::SourceHosts;
use serde_json::{Map, Value, json};
use url::Url;

use super::wire::{Fault, Recorded, Reply, Wire};
use document::Document;
use state::{Key, State};

/// Of a person with two workspaces.
pub const ACCOUNT_KEY: &str = "railway-account-key-5d1c7a90";
/// Of the first of them.
pub const WORKSPACE_KEY: &str = "railway-workspace-key-83be02f4";
/// Of the project `existing` and its environment `production`.
pub const PROJECT_KEY: &str = "railway-project-key-a4471e6c";

/// Where the API is below its host.
const PATH: &str = "/graphql/v2";

/// A request that came.
#[derive(Clone)]
pub struct Asked {
    /// `authorization` or `project-access-token`.
    pub header: &'static str,
    /// The field at the root of its document.
    pub field: String,
    pub query: String,
    pub variables: Map<String, Value>,
}

/// It ends when it is dropped.
pub struct FakeRailway {
    /// The API's address.
    pub url: Url,
    pub wire: Wire,
    state: Arc<Mutex<State>>,
}

impl FakeRailway {
    pub async fn start() -> FakeRailway {
        let state = Arc::new(Mutex::new(State::new()));
        let known = Arc::clone(&state);
        let wire = Wire::start(move |asked| answer(&mut known.lock().unwrap(), asked)).await;
        FakeRailway {
            url: wire.url.join(PATH).unwrap(),
            wire,
            state,
        }
    }

    /// A list of hosts that may be private, with this one.
    pub fn hosts(&self) -> SourceHosts {
        let url = &self.url;
        SourceHosts::new([format!(
            "{}:{}",
            url.host_str().unwrap(),
            url.port().unwrap()
        )])
    }

    /// What becomes of the next request for this field (nothing: for any). Several are taken in their order.
    pub fn will(&self, field: &str, fault: Fault) {
        let part = match field {
            "" => String::new(),
            // Those without arguments.
            "me" | "apiToken" | "projectToken" => format!(" {field} {{"),
            _ => format!("{field}("),
        };
        self.wire.will(&part, fault);
    }

    /// The next request for it is refused with an error in an answer of success, as GraphQL has it.
    pub fn will_refuse(&self, field: &str, message: &str) {
        let body = json!({ "data": null, "errors": [{ "message": message }] });
        self.will(field, Fault::Text(body.to_string()));
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.wire.recorded().iter().map(Asked::of).collect()
    }

    /// The fields that were asked for.
    pub fn fields(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.field).collect()
    }

    /// How often a field was asked for.
    pub fn times(&self, field: &str) -> usize {
        self.fields().iter().filter(|asked| *asked == field).count()
    }

    /// What Railway knows, to be looked at or changed.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl Asked {
    fn of(recorded: &Recorded) -> Asked {
        let mut body = recorded.json();
        let query = body["query"].as_str().unwrap_or_default().to_owned();
        let field = Document::parse(&query)
            .ok()
            .and_then(|document| document.fields.first().map(|field| field.name.clone()));
        let Value::Object(variables) = body["variables"].take() else {
            panic!("there are variables, if none in them");
        };
        Asked {
            header: key_of(recorded).map_or("none", |(header, _)| header),
            field: field.unwrap_or_default(),
            query,
            variables,
        }
    }
}

/// The header with which a key came, and the key.
fn key_of(recorded: &Recorded) -> Option<(&'static str, &str)> {
    let bearer = recorded.header("authorization").strip_prefix("Bearer ");
    match (bearer, recorded.header("project-access-token")) {
        (Some(key), "") => Some(("authorization", key)),
        (None, key) if !key.is_empty() => Some(("project-access-token", key)),
        _ => None,
    }
}

fn answer(state: &mut State, recorded: &Recorded) -> Reply {
    if recorded.line() != format!("POST {PATH}") {
        return Reply::json(404, json!({ "message": "Not Found" }));
    }
    if recorded.header("content-type") != "application/json" {
        return refused(400, "The body is not announced as JSON");
    }
    let body = recorded.json();
    let (Some(query), Some(variables)) = (body["query"].as_str(), body["variables"].as_object())
    else {
        return refused(400, "There is no query, or there are no variables");
    };
    let document = match Document::parse(query) {
        Ok(document) => document,
        Err(error) => return refused(400, &format!("Syntax Error: {error}")),
    };
    if let Err(error) = document.check(variables) {
        return refused(400, &error);
    }
    // A key that comes the other kind's way is none.
    let key = key_of(recorded).and_then(|(header, key)| {
        let key = state.keys.get(key)?;
        let is_of_project = matches!(key, Key::Project { .. });
        (is_of_project == (header == "project-access-token")).then(|| key.clone())
    });
    if let Some(field) = document.fields.first()
        && state
            .echoes
            .take_if(|echoed| *echoed == field.name)
            .is_some()
    {
        let sent = (key_of(recorded), variables);
        return refused(200, &format!("Problem processing request {sent:?}"));
    }
    match execute(state, &document, key.as_ref(), variables) {
        Ok(data) => Reply::json(200, json!({ "data": data })),
        Err(reply) => reply,
    }
}

fn execute(
    state: &mut State,
    document: &Document,
    key: Option<&Key>,
    variables: &Map<String, Value>,
) -> Result<Map<String, Value>, Reply> {
    let mut data = Map::new();
    for field in &document.fields {
        let arguments = field.arguments(variables);
        let whole = state
            .resolve(key, document.changes, &field.name, &arguments)
            .map_err(|failed| refused(failed.status, &failed.message))?;
        field
            .answer(whole, variables, state.page_len, &mut data)
            .map_err(|error| refused(400, &error))?;
    }
    Ok(data)
}

fn refused(status: u16, message: &str) -> Reply {
    let body = json!({ "data": null, "errors": [{ "message": message }] });
    Reply::json(status, body)
}
