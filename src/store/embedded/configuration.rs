//! What our PostgreSQL is told: no TCP, nobody but us, and a log without anybody's values.

use std::fmt::Write;
use std::path::Path;

use super::Settings;

/// Pools of a server and of commands beside it, with some to spare.
const MAX_CONNECTIONS: u32 = 80;

/// The roles that our own user may connect as.
const LOGIN_ROLES: [&str; 3] = ["postgres", "sealport_owner", "sealport_app"];

pub(super) fn server(cluster: &Path, socket_dir: &Path, port: u16, settings: &Settings) -> String {
    let mut text = format!(
        "# Written by Sealport at every start.\n\
         # What initdb found out about this machine comes first.\n\
         include = {initdb}\n\
         listen_addresses = ''\n\
         port = {port}\n\
         unix_socket_directories = {socket_dir}\n\
         unix_socket_permissions = 0700\n\
         max_connections = {MAX_CONNECTIONS}\n\
         ssl = off\n\
         timezone = 'UTC'\n\
         log_timezone = 'UTC'\n\
         # Compiling a plan costs more than our small statements.\n\
         jit = off\n\
         # Standard error is a file that Sealport keeps bounded.\n\
         log_destination = 'stderr'\n\
         logging_collector = off\n\
         log_line_prefix = '%m [%p] '\n\
         lc_messages = 'C'\n\
         # Nothing that somebody stored gets into the log: no statements, parameters or rows.\n\
         log_statement = 'none'\n\
         log_min_duration_statement = -1\n\
         log_min_error_statement = 'panic'\n\
         log_error_verbosity = 'terse'\n\
         log_parameter_max_length = 0\n\
         log_parameter_max_length_on_error = 0\n",
        initdb = quoted(&cluster.join("postgresql.conf").to_string_lossy()),
        // The value is a list: a name in double quotes may hold commas.
        socket_dir = quoted(&format!(
            "\"{}\"",
            socket_dir.to_string_lossy().replace('"', "\"\"")
        )),
    );
    if !settings.durable {
        text.push_str("fsync = off\nsynchronous_commit = off\nfull_page_writes = off\n");
    }
    text
}

/// The kernel tells PostgreSQL who is at the other end of a socket, so there is no password that
/// could leak, and other users are refused even where they can reach the socket.
pub(super) fn access() -> String {
    "# Written by Sealport at every start.\nlocal all all peer map=sealport\n".to_owned()
}

pub(super) fn identities(own_name: &str, settings: &Settings) -> String {
    let mut text = "# Written by Sealport at every start.\n".to_owned();
    let more = settings.login_roles.iter().map(String::as_str);
    for role in LOGIN_ROLES.into_iter().chain(more) {
        let _ = writeln!(text, "sealport \"{own_name}\" \"{role}\"");
    }
    text
}

fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
}
