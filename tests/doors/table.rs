//! The permission table: who gets what at every door. A person reads it; the test holds it against the router itself.
//!
//! Each call stands with the form it sends, then one letter for each caller:
//!
//! - `s` shown: it tells something of the owner's that was not named in the call. `o` answered, with nothing of that kind.
//! - `d` done, on what is the owner's. `m` carried out, and nothing of the owner's is changed: on one's own, or a comparison.
//! - `n` as if it did not exist. `r` refused, and said why. `i` led to signing in, or 401.
//!
//! The callers: the owner, a person; people who were given `use`, `read`, `write`, `admin` on the secrets, their folder and the
//! deployment; members of a team that owns such things, with these levels; a stranger by the real ids and names, and by guessed
//! ones; an account that has ended and had been given `admin`; nobody. Where no `d` stands the owner's rows stay as they were.

/// Placeholders stand for the owner's things, for a guessing stranger for guesses; `{other}` is somebody else's handle and `{fresh}` a
/// name that nobody has. `/connect/…` is about `{own}`, a deployment whose callers bring `{own_key}`.
pub const TABLE: &str = "
GET  /                                | | s ssss ssss oo ii
GET  /sign-in                         | | o oooo oooo oo oo
GET  /welcome/{link}                  | | o oooo oooo oo oo
GET  /invitation/{link}               | | o oooo oooo oo oo
GET  /reset/{link}                    | | o oooo oooo oo oo
GET  /confirm                         | | o oooo oooo oo ii
GET  /secrets/import                  | | s oooo oooo oo ii
GET  /move/secret/{id}                | | s rrrr rrrs nn ii
GET  /people/{handle}/end             | | r rrrr rrrr rr ii
GET  /secrets                         | | s ssss ssss oo ii
GET  /secrets/new                     | | s oooo ooss oo ii
GET  /secrets/{handle}/{*path}        | | s ssss ssss nn ii
GET  /share/secret/{id}               | | s rrrs rrrs nn ii
GET  /share/folder/{handle}/{*prefix} | | s rrrs rrrs nn ii
GET  /share/deployment/{name}         | | s rrrs rrrs nn ii
GET  /activity                        | | s oooo ooos oo ii
GET  /tokens                          | | s ooos ssss oo ii
GET  /people                          | | s oooo ssss oo ii
GET  /people/{handle}                 | | s oooo oooo on ii
GET  /teams/{handle}                  | | s nnnn ssss nn ii
GET  /settings                        | | o oooo oooo oo ii
GET  /settings/render                 | | s oooo ooss oo ii
GET  /settings/railway                | | s oooo ooss oo ii
GET  /deployments                     | | s ssss ssss oo ii
GET  /deployments/{name}              | | s osss ssss nn ii
GET  /connect/{name}                  | | s ssss ssss nn ii
GET  /deploy                          | | s oooo oooo oo ii
GET  /deploy/{id}/source              | | s nnnn nnnn nn ii
GET  /deploy/{id}/secrets             | | s nnnn nnnn nn ii
GET  /deploy/{id}/target              | | s nnnn nnnn nn ii
GET  /deploy/{id}/review              | | s nnnn nnnn nn ii

GET  /metrics                         | | i iiii iiii ii ii
GET  /api                             | | o oooo oooo oo oo
GET  /api/openapi.json                | | o oooo oooo oo oo
GET  /api/docs                        | | o oooo oooo oo oo
GET  /problems/{slug}                 | | n nnnn nnnn nn nn
POST /_fn/token_owners                | | s oooo ssss oo ii
POST /_fn/api_token_new               | name=x&can=read | d mmmm mmmm mm ii
POST /_fn/page_open                   | | o oooo oooo oo ii
POST /_fn/flash_take                  | | o oooo oooo oo ii
POST /_fn/preferences_set             | theme=dark | m mmmm mmmm mm ii
POST /_fn/confinement                 | | o oooo oooo oo ii
POST /_fn/installation                | | o oooo oooo oo ii
POST /_fn/key_backup_missing          | | o oooo oooo oo ii
POST /_fn/key_backup_said             | | o oooo oooo oo ii
POST /_fn/key_backup_confirm          | fingerprint=00&done=true | r rrrr rrrr rr ii
POST /_fn/sessions_list               | | o oooo oooo oo ii
POST /_fn/session_end                 | id={secret} | n nnnn nnnn nn ii
POST /_fn/sessions_end_others         | | m mmmm mmmm im ii
POST /_fn/people_list                 | | r rrrr rrrr rr ii
POST /_fn/administrator_set           | id={secret}&is=true | r rrrr rrrr rr ii
POST /_fn/invitations                 | | r rrrr rrrr rr ii
POST /_fn/invitation_make             | email=no@example.org | r rrrr rrrr rr ii
POST /_fn/invitation_withdraw         | id={secret} | r rrrr rrrr rr ii
POST /_fn/invitation_open             | link=guess | o oooo oooo oo ii
POST /_fn/reset_make                  | id={secret} | r rrrr rrrr rr ii
POST /_fn/reset_open                  | link=guess | o oooo oooo oo ii
POST /_fn/account_ending              | handle={handle} | r rrrr rrrr rr ii
POST /_fn/account_end                 | id={secret}&handle={handle}&confirm={handle} | r rrrr rrrr rr ii
POST /_fn/secret_versions_kept        | | o oooo oooo oo ii
POST /_fn/versions_keep               | keep_count=5 | r rrrr rrrr rr ii
POST /_fn/mcp_address                 | | o oooo oooo oo ii
POST /_fn/mcp_reveals                 | | o oooo oooo oo ii
POST /_fn/mcp_reveal                  | on=true | r rrrr rrrr rr ii
POST /_fn/activity_list               | | s oooo ooos oo ii
POST /_fn/activity_days               | | o oooo oooo oo ii
POST /_fn/activity_of                 | secret={secret} | s oooo ooos oo ii
POST /_fn/secrets_list                | | s ssss ssss oo ii
POST /_fn/secrets_tree                | owner={handle} | s ssss ssss oo ii
POST /_fn/secrets_facets              | | o oooo ssss oo ii
POST /_fn/secrets_due                 | | s ssss ssss oo ii
POST /_fn/folder_reach                | owner={handle}&under={prefix} | o oooo oooo oo ii
POST /_fn/folder_rotation             | owner={handle}&under={prefix}&after_days=30 | d rrdd rrdd nn ii
POST /_fn/secret_open                 | handle={handle}&path={path} | s ssss ssss nn ii
POST /_fn/secret_add                  | path={path}_NEW&value=a+new+value | d mmmm mmmm mm ii
POST /_fn/secret_add                  | owner={handle}&path={path}_NEW&value=a+new+value | d rrrr rrdd rr ii
POST /_fn/secret_replace              | id={secret}&path={handle}:{path}&expected=1&value=another | d rrdd rrdd nn ii
POST /_fn/secret_compare              | id={secret}&path={handle}:{path}&value=guess | m rmmm rmmm nn ii
POST /_fn/secret_edit                 | id={secret}&path={handle}:{path}&rename={path}&description=other | d rrdd rrdd nn ii
POST /_fn/secret_edit                 | id={secret}&path={handle}:{path}&rename={path}_B | d rrrd rrrd nn ii
POST /_fn/secret_switch               | id={secret}&path={handle}:{path}&on=false | d rrdd rrdd nn ii
POST /_fn/secret_roll_back            | id={free}&path={handle}:{path}_FREE&expected=2&version=1 | d rrdd rrdd nn ii
POST /_fn/secret_renew                | id={secret}&path={handle}:{path} | m mmmm mmmm nn ii
POST /_fn/secret_version_destroy      | id={free}&path={handle}:{path}_FREE&version=1&confirm=1 | d rrrd rrrd nn ii
POST /_fn/secret_rotation             | id={secret}&path={handle}:{path}&after_days=30 | d rrdd rrdd nn ii
POST /_fn/secret_delete               | id={free}&path={handle}:{path}_FREE&confirm={path}_FREE | d rrrd rrrd nn ii
POST /_fn/secret_move_plan            | id={secret} | s rrrr rrrs nn ii
POST /_fn/secret_move                 | id={secret}&to={handle} | r rrrr rrrr nn ii
POST /_fn/import_open                 | | s oooo oooo oo ii
POST /_fn/import_apply                | id={import}&take[1]=on | d nnnn nnnn nn ii
POST /_fn/import_drop                 | id={import} | d nnnn nnnn nn ii
POST /_fn/reachers_open               | of=secret/{secret} | s rrrs rrrs nn ii
POST /_fn/share                       | of=secret/{secret}&with={other}&level=read | d rrrd rrrd nn ii
POST /_fn/share                       | of=folder/{handle}/{prefix}&with={other}&level=admin | d rrrd rrrd nn ii
POST /_fn/share                       | of=deployment/{name}&with={other}&level=write | d rrrd rrrd nn ii
POST /_fn/unshare                     | id={grant}&from=secret/{secret} | d nnnd nnnd nn ii
POST /_fn/holder_open                 | handle={handle} | s oooo oooo on ii
POST /_fn/teams_list                  | | s oooo ssss oo ii
POST /_fn/team_open                   | handle={team} | s nnnn ssss nn ii
POST /_fn/team_new                    | handle={fresh} | d mmmm mmmm mm ii
POST /_fn/team_member_set             | team={team}&with={other}&level=read | d nnnn rrrd nn ii
POST /_fn/team_member_remove          | team={team}&member={other} | d nnnn rrrd nn ii
POST /_fn/team_dissolve               | team={team}&typed={team} | d nnnn rrrr nn ii
POST /_fn/deployments                 | | s ssss ssss oo ii
POST /_fn/deployment                  | name={name} | s osss ssss nn ii
POST /_fn/deployment_act              | name={name}&act=stop | d rrdd rrdd nn ii
POST /_fn/deployment_run_again        | name={name}&release=9 | n rrrn rrrn nn ii
POST /_fn/deployment_drift            | name={name} | r nrrr nrrr nn ii
POST /_fn/deployment_follow           | name={name}&on=true | d rrrd rrrd nn ii
POST /_fn/deployment_destroy          | name={name}&typed={name} | d rrrd rrrd nn ii
POST /_fn/gateway_token_new           | name={name}&label=mine&days=7 | d dddd dddd nn ii
POST /_fn/connection_open             | name={own} | s ssss ssss nn ii
POST /_fn/connection_open             | name={name} | o oooo oooo nn ii
POST /_fn/connection_put              | name={own}&env={own_key}&terms=2&value=my+own+key | d dddd dddd nn ii
POST /_fn/connection_put              | name={own}&env={own_key}&terms=1&value=my+own+key | r rrrr rrrr nn ii
POST /_fn/connection_clear            | name={own}&env={own_key}&typed={own_key} | m mmmm mmmm nn ii
POST /_fn/token_shown_once            | id={token} | o oooo oooo oo ii
POST /_fn/tokens_list                 | | s ooos ooos oo ii
POST /_fn/token_revoke                | id={token} | d nnnd nnnd nn ii
POST /_fn/provider_open               | target=render | o oooo oooo oo ii
POST /_fn/provider_check              | target=render&key={handle}:{path} | r rrrr rrrr nn ii
POST /_fn/drafts                      | | s oooo oooo oo ii
POST /_fn/draft_new                   | | d mmmm mmmm mm ii
POST /_fn/draft_load                  | id={id} | s nnnn nnnn nn ii
POST /_fn/draft_source                | id={id}&source_kind=npm&source=left-pad | d nnnn nnnn nn ii
POST /_fn/draft_secrets               | id={id}&own_env[k0]=C&plain_env[k0]=A&plain_text[k0]=b&add_path[B]={path}_B&add_value[B]=v | d nnnn nnnn nn ii
POST /_fn/draft_target                | id={id}&target=local&name={name}-t&key[render]=meta/x&options[render][region]=ohio | d nnnn nnnn nn ii
POST /_fn/draft_deploy                | id={id} | d nnnn nnnn nn ii
POST /_fn/draft_delete                | id={id} | d nnnn nnnn nn ii

POST /secrets/import                  | under=&text={path}_SENT%3Da+new+value | d mmmm mmmm mm ii
POST /sign-in                         | email=no@example.org&password=wrong+wrong+wrong | i iiii iiii ii ii
POST /welcome/{link}                  | email=no@example.org&password=long+enough+password | r rrrr rrrr rr rr
POST /invitation/{link}               | password=long+enough+password | r rrrr rrrr rr rr
POST /reset/{link}                    | password=long+enough+password | r rrrr rrrr rr rr
POST /confirm                         | password=wrong+wrong+wrong | r rrrr rrrr rr ii
POST /settings/password               | current=wrong+wrong+wrong&new=long+enough+password | r rrrr rrrr rr ii
POST /sign-out                        | | m mmmm mmmm mm ii
GET  /deployments/{name}/events       | | s nsss nsss nn ii
GET  /runs/{id}/events                | | s ssss ssss nn ii
GET  /activity/export                 | | s oooo ooos oo ii
GET  /healthz                         | | o oooo oooo oo oo
GET  /readyz                          | | o oooo oooo oo oo
GET  /pkg                             | | n nnnn nnnn nn nn
ANY  /s/{name}/mcp                    | | i iiii iiii ii ii
ANY  /s/{name}/mcp/                   | | i iiii iiii ii ii
ANY  /mcp                             | | i iiii iiii ii ii
ANY  /mcp/                            | | i iiii iiii ii ii
ANY  /register                        | | n nnnn nnnn nn nn
";

/// Files and addresses that are no routes.
pub const BESIDE_ROUTES: &str = "
GET  /favicon.svg                     | | o oooo oooo oo oo
GET  /mark.svg                        | | o oooo oooo oo oo
GET  /nothing-here                    | | n nnnn nnnn nn ii
GET  /_fn/secrets_list                | | r rrrr rrrr rr ii
GET  /.well-known/openid-configuration | | n nnnn nnnn nn nn
ANY  /s/{name}/sse                    | | n nnnn nnnn nn nn
ANY  /s                               | | n nnnn nnnn nn nn
ANY  /mcp/sse                         | | n nnnn nnnn nn nn
";

/// Who calls, in the order of a row's letters.
pub const CALLERS: [&str; 13] = [
    "owner",
    "given use",
    "given read",
    "given write",
    "given admin",
    "team: use",
    "team: read",
    "team: write",
    "team: admin",
    "stranger",
    "guessing",
    "ended",
    "nobody",
];

pub struct Row {
    pub method: &'static str,
    pub route: &'static str,
    pub form: &'static str,
    /// A letter for each of [`CALLERS`].
    pub expected: String,
}

impl Row {
    /// As the router names it.
    pub fn name(&self) -> String {
        format!("{} {}", self.method, self.route)
    }

    /// What is expected for nobody.
    pub fn of_nobody(&self) -> &str {
        &self.expected[CALLERS.len() - 1..]
    }
}

pub fn rows(table: &'static str) -> Vec<Row> {
    table
        .lines()
        .filter(|line| !line.is_empty())
        .map(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let (method, route) = cells[0].split_once(' ').unwrap();
            let expected = cells[2].replace(' ', "");
            assert_eq!(
                expected.len(),
                CALLERS.len(),
                "a letter for each caller: {line}"
            );
            Row {
                method,
                route: route.trim(),
                form: cells[1],
                expected,
            }
        })
        .collect()
}
