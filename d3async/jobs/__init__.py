"""Pure: a row of a job file becomes a job or problems."""
