-- Backups: a job that reads what is backed up and nothing else. And the word that the master key's own backup was made.

-- A policy `<table>_backup` on every table that a backup holds. What it leaves out (store/backup/catalogue.rs) gets none, so
-- that the database refuses it too. A table that comes later brings its own: without one a backup fails rather than miss it.
do $$
declare found text;
begin
    for found in
        select relname from pg_class
        where relnamespace = current_schema()::regnamespace and relkind in ('r', 'p') and not relispartition
          and relname not in ('_sqlx_migrations', 'sessions', 'one_time_links', 'known_addresses', 'attempts', 'drafts',
                              'log_lines', 'leases', 'servers')
    loop
        execute format('create policy %I on %I for select using (current_job() = %L)', found || '_backup', found, 'backup');
    end loop;
    -- Where numbering stands, so that a number once given is not given again after a restore.
    for found in
        select relname from pg_class where relnamespace = current_schema()::regnamespace and relkind = 'S'
    loop
        execute format('grant select on sequence %I to sealport_server', found);
    end loop;
    -- Which step the tables are of. Not there where queries are only described.
    if to_regclass('_sqlx_migrations') is not null then
        grant select on _sqlx_migrations to sealport_server;
    end if;
end $$;

-- An administrator says that the master key is backed up; of all settings, this one.
create policy settings_key_backup_made on settings for insert with check (
    key = 'master_key_backup_confirmed'
    and exists (select 1 from users where users.id = current_actor() and users.is_admin and users.ended_at is null)
);
create policy settings_key_backup_changed on settings for update
    using (
        key = 'master_key_backup_confirmed'
        and exists (select 1 from users where users.id = current_actor() and users.is_admin and users.ended_at is null)
    )
    with check (key = 'master_key_backup_confirmed');
