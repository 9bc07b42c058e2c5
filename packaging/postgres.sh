#!/usr/bin/env bash
# Makes Sealport's database and its two logins, as docs/guide.md has them. PostgreSQL's image runs this once, as its superuser.
set -euo pipefail

# Read by psql itself: as an argument a password would be seen by all processes.
psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --username="${POSTGRES_USER:-postgres}" --dbname=postgres <<'SQL'
\getenv owner_password SEALPORT_OWNER_PASSWORD
\getenv app_password SEALPORT_APP_PASSWORD
create role sealport_server nologin noinherit;
create role sealport_owner login password :'owner_password';
create role sealport_app login password :'app_password';
grant sealport_server to sealport_app;
create database sealport owner sealport_owner;
revoke connect on database sealport from public;
grant connect on database sealport to sealport_app;
SQL
