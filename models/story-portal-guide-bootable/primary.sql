-- The primary runs this on its first start (docker-entrypoint-initdb.d); the settings need a restart (PG-9).
ALTER SYSTEM SET wal_level = replica;
ALTER SYSTEM SET max_wal_senders = 3;
ALTER SYSTEM SET max_replication_slots = 3;
ALTER SYSTEM SET hot_standby = on;

CREATE USER replicator WITH REPLICATION ENCRYPTED PASSWORD 'repl_password';
