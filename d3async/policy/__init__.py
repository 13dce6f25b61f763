"""Pure: what is sent again, outcomes, batching, halt, exit codes, next steps."""
