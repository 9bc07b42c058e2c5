//! The permission table: who gets what at every door. A person reads it; the test holds it against the router itself.
//!
//! `shown`: it tells something of the owner's. `own`: answered, with nothing of the owner's. `done`: it was carried
//! out, for a stranger on what is the stranger's own. `not-found`: as if it did not exist. `refused`: said why not.
//! `sign-in`: led to signing in, or 401. In every column but the first the owner's rows stay as they were.

/// Call, the form it sends, then the columns: the owner; another by the owner's real ids and names; another by
/// guessed ones; nobody. Placeholders stand for the owner's things, in the third column for guesses.
pub const TABLE: &str = "
GET  /                                | | shown | own | own | sign-in
GET  /sign-in                         | | own | own | own | own
GET  /welcome/{link}                  | | own | own | own | own
GET  /invitation/{link}               | | own | own | own | own
GET  /reset/{link}                    | | own | own | own | own
GET  /confirm                         | | own | own | own | sign-in
GET  /secrets                         | | shown | own | own | sign-in
GET  /secrets/new                     | | own | own | own | sign-in
GET  /secrets/import                  | | shown | own | own | sign-in
GET  /secrets/{handle}/{*path}        | | shown | not-found | not-found | sign-in
GET  /move/secret/{id}                | | not-found | not-found | not-found | sign-in
GET  /activity                        | | shown | own | own | sign-in
GET  /tokens                          | | shown | own | own | sign-in
GET  /people                          | | own | own | own | sign-in
GET  /people/{handle}/end             | | refused | refused | refused | sign-in
GET  /settings                        | | own | own | own | sign-in
GET  /deployments                     | | shown | own | own | sign-in
GET  /deployments/{name}              | | shown | not-found | not-found | sign-in
GET  /deploy                          | | shown | own | own | sign-in
GET  /deploy/{id}/source              | | shown | not-found | not-found | sign-in
GET  /deploy/{id}/secrets             | | shown | not-found | not-found | sign-in
GET  /deploy/{id}/target              | | shown | not-found | not-found | sign-in
GET  /deploy/{id}/review              | | shown | not-found | not-found | sign-in

POST /_fn/page_open                   | | own | own | own | sign-in
POST /_fn/flash_take                  | | own | own | own | sign-in
POST /_fn/preferences_set             | theme=dark | done | done | done | sign-in
POST /_fn/confinement                 | | own | own | own | sign-in
POST /_fn/installation                | | own | own | own | sign-in
POST /_fn/key_backup_missing          | | own | own | own | sign-in
POST /_fn/key_backup_said             | | own | own | own | sign-in
POST /_fn/key_backup_confirm          | fingerprint=00&done=true | refused | refused | refused | sign-in
POST /_fn/sessions_list               | | own | own | own | sign-in
POST /_fn/session_end                 | id={secret} | not-found | not-found | not-found | sign-in
POST /_fn/sessions_end_others         | | done | done | done | sign-in
POST /_fn/people_list                 | | refused | refused | refused | sign-in
POST /_fn/administrator_set           | id={secret}&is=true | refused | refused | refused | sign-in
POST /_fn/invitations                 | | refused | refused | refused | sign-in
POST /_fn/invitation_make             | email=no@example.org | refused | refused | refused | sign-in
POST /_fn/invitation_withdraw         | id={secret} | refused | refused | refused | sign-in
POST /_fn/invitation_open             | link=guess | own | own | own | sign-in
POST /_fn/reset_make                  | id={secret} | refused | refused | refused | sign-in
POST /_fn/reset_open                  | link=guess | own | own | own | sign-in
POST /_fn/account_ending              | handle={handle} | refused | refused | refused | sign-in
POST /_fn/account_end                 | id={secret}&handle={handle}&confirm={handle} | refused | refused | refused | sign-in
POST /_fn/activity_list               | | shown | own | own | sign-in
POST /_fn/activity_days               | | own | own | own | sign-in
POST /_fn/activity_of                 | secret={secret} | shown | own | own | sign-in
POST /_fn/secrets_list                | | shown | own | own | sign-in
POST /_fn/secret_open                 | handle={handle}&path={path} | shown | not-found | not-found | sign-in
POST /_fn/secret_add                  | path={path}_NEW&value=a+new+value | done | done | done | sign-in
POST /_fn/secret_replace              | id={secret}&path={path}&expected=1&value=another | done | not-found | not-found | sign-in
POST /_fn/secret_compare              | id={secret}&path={path}&value=guess | done | not-found | not-found | sign-in
POST /_fn/secret_edit                 | id={secret}&path={path}&rename={path}_B&kind=api-key | done | not-found | not-found | sign-in
POST /_fn/secret_switch               | id={secret}&path={path}&on=false | done | not-found | not-found | sign-in
POST /_fn/secret_delete               | id={free}&path={path}_FREE&confirm={path}_FREE | done | not-found | not-found | sign-in
POST /_fn/secret_move_plan            | id={secret} | shown | not-found | not-found | sign-in
POST /_fn/secret_move                 | id={secret}&to={handle} | refused | not-found | not-found | sign-in
POST /_fn/import_open                 | | shown | own | own | sign-in
POST /_fn/import_apply                | id={import}&take[1]=on | done | not-found | not-found | sign-in
POST /_fn/import_drop                 | id={import} | done | not-found | not-found | sign-in
POST /_fn/deployments                 | | shown | own | own | sign-in
POST /_fn/deployment                  | name={name} | shown | not-found | not-found | sign-in
POST /_fn/deployment_act              | name={name}&act=stop | done | not-found | not-found | sign-in
POST /_fn/deployment_follow           | name={name}&on=true | done | not-found | not-found | sign-in
POST /_fn/deployment_destroy          | name={name}&typed={name} | done | not-found | not-found | sign-in
POST /_fn/gateway_token_new           | name={name}&label=mine&days=7 | done | not-found | not-found | sign-in
POST /_fn/token_shown_once            | id={token} | own | own | own | sign-in
POST /_fn/tokens_list                 | | shown | own | own | sign-in
POST /_fn/token_revoke                | id={token} | done | not-found | not-found | sign-in
POST /_fn/drafts                      | | shown | own | own | sign-in
POST /_fn/draft_new                   | | done | done | done | sign-in
POST /_fn/draft_load                  | id={id} | shown | not-found | not-found | sign-in
POST /_fn/draft_source                | id={id}&source_kind=npm&source=left-pad | done | not-found | not-found | sign-in
POST /_fn/draft_secrets               | id={id}&plain_env[k0]=A&plain_text[k0]=b&add_path[B]={path}_B&add_value[B]=v | done | not-found | not-found | sign-in
POST /_fn/draft_target                | id={id}&target=local&name={name}-t | done | not-found | not-found | sign-in
POST /_fn/draft_deploy                | id={id} | done | not-found | not-found | sign-in
POST /_fn/draft_delete                | id={id} | done | not-found | not-found | sign-in

POST /secrets/import                  | under=&text={path}_SENT%3Da+new+value | done | done | done | sign-in
POST /sign-in                         | email=no@example.org&password=wrong+wrong+wrong | sign-in | sign-in | sign-in | sign-in
POST /welcome/{link}                  | email=no@example.org&password=long+enough+password | refused | refused | refused | refused
POST /invitation/{link}               | password=long+enough+password | refused | refused | refused | refused
POST /reset/{link}                    | password=long+enough+password | refused | refused | refused | refused
POST /confirm                         | password=wrong+wrong+wrong | refused | refused | refused | sign-in
POST /settings/password               | current=wrong+wrong+wrong&new=long+enough+password | refused | refused | refused | sign-in
POST /sign-out                        | | done | done | done | sign-in
GET  /deployments/{name}/events       | | shown | not-found | not-found | sign-in
GET  /activity/export                 | | shown | own | own | sign-in
GET  /healthz                         | | own | own | own | own
GET  /readyz                          | | own | own | own | own
GET  /pkg                             | | not-found | not-found | not-found | not-found
ANY  /s/{name}/mcp                    | | sign-in | sign-in | sign-in | sign-in
";

/// Files and addresses that are no routes.
pub const BESIDE_ROUTES: &str = "
GET  /favicon.svg                     | | own | own | own | own
GET  /mark.svg                        | | own | own | own | own
GET  /nothing-here                    | | not-found | not-found | not-found | sign-in
GET  /_fn/secrets_list                | | refused | refused | refused | sign-in
";

pub struct Row {
    pub method: &'static str,
    pub route: &'static str,
    pub form: &'static str,
    /// The owner; another by real ids; another by guessed ids; nobody.
    pub expected: [&'static str; 4],
}

impl Row {
    /// As the router names it.
    pub fn name(&self) -> String {
        format!("{} {}", self.method, self.route)
    }
}

pub fn rows(table: &'static str) -> Vec<Row> {
    table
        .lines()
        .filter(|line| !line.is_empty())
        .map(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let (method, route) = cells[0].split_once(' ').unwrap();
            Row {
                method,
                route: route.trim(),
                form: cells[1],
                expected: cells[2..].try_into().unwrap(),
            }
        })
        .collect()
}
