#!/bin/sh
# PG-4: `host all all all` does not match replication connections.
echo "host replication replicator all scram-sha-256" >> "$PGDATA/pg_hba.conf"
