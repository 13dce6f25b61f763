"""The journal of a fleet in PostgreSQL: many runs, many machines, the same states and the same promises."""
