"""Statements with one text for both databases: tables and conditions are names in braces, values are `:name`.

`{rows}` are the rows, r what the file says and j what became of it, up to a `where` that `and` may follow. `{row}` is
the table of what the file says, `{job}` of what became of it; `{item}`, `{event}` and `{round}` (one run over the
folder, or one submission) are tables; `{number}` is the number of a run in `{round}`. `{mark}` is the mark of a row.
Conditions: `{here}`, a table's row is of this journal; `{at_profile}`, a row is for the D3 of `:profile`; `{present}`,
a row of `{job}` is of the current file; `{to_send}`, j says that it is to be sent, or there is no j yet. `{owner}` and
`{owned}` are columns and values that an event begins with.
"""

from __future__ import annotations

NAMES = {
    "rows": "job r join job j on j.id = r.id where 1 = 1",
    "job": "job",
    "item": "item",
    "event": "event",
    "round": "run",
    "here": "1 = 1",
    "owner": "epoch",
    "owned": ":epoch",
    "mark": "r.mark",
    "at_profile": "r.profile is :profile",
    "row": "job",
    "present": "row is not null",
    "to_send": "j.todo = 1",
    "number": "epoch",
}
"""SQLite keeps what the file says (r) and what became of it (j) in one table."""
