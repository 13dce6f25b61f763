"""Many machines, many tenants: runs in PostgreSQL, taken chunk by chunk by any number of workers (extra `fleet`)."""
