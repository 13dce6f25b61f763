"""The journal of a run folder, in SQLite."""
