"""Tables of the journal: SQLite is the embedded form; every file of a run folder can be written again from it."""

VERSION = 3

TABLES = """
create table meta(key text primary key, value text) without rowid;
create table run(
    epoch integer primary key, pid integer, host text, started_at real, finished_at real, exit_code integer,
    facts text
);
create table job(
    id integer primary key,
    row integer, line integer,
    identity blob not null, occurrence integer not null, content blob,
    command text, username text, site text, lane_key text, lane integer, label text,
    params text, raw text not null,
    todo integer not null default 0,
    state text not null, prior text,
    code text, message text, http integer, attempts integer not null default 0,
    sent_at real, done_at real, epoch integer, answer integer, maybe integer not null default 0,
    profile text, text blob, similar integer, alike integer, due integer, mark text,
    meant integer not null default 0
);
create unique index job_identity on job(identity, occurrence);
create index job_row on job(row);
create index job_todo on job(lane, id) where todo = 1;
create index job_routed on job(profile, lane, id) where todo = 1 and profile is not null;
create table source(id integer primary key, lane_key text not null unique, fold text not null, site text not null);
create index source_fold on source(fold, site);
create table item(
    id integer primary key,
    job integer not null references job(id), pos integer not null, source integer references source(id),
    name text not null, fold text not null,
    todo integer not null default 0,
    state text not null default 'pending', prior text, code text, message text, maybe integer not null default 0
);
create index item_job on item(job, pos);
create index item_twin on item(source, fold);
create index item_todo on item(source, id) where todo = 1;
create index item_open on item(job) where todo = 1;
create table answer(id integer primary key, body text);
create table event(epoch integer, at real, kind text, seconds real, note text);
create table mended(job integer primary key, before blob not null, text blob, place text);
"""
# job.row     data row in the current file, null once the row vanished from it
# job.state   pending | sent | ok | partial | failed | unknown | invalid
# item.state  pending | sent | ok | failed | unknown
# job.lane    rows of one lane are sent one after the other; see `journal.lanes`
# job.profile the profile whose D3 it goes to, null for the D3 of the run
# job.text    digest of the row's own text; of a row that was sent, as it was when it was sent
# job.similar, job.alike   digests of what makes rows of a command that must not be done twice look alike
# job.due     seconds of a calendar without zones; as the two before it null where the command has none
# job.mark    the reference of `--mark-tasks` in what the row sends
# job.meant   1 = the user wants it sent although it looks like a row sent before (`--allow-similar`)
# job.todo    1 = this run is to send it
# source      whoever asks about an incident: `lane_key` is profile, user, site, and the incident as it is compared
#             (`fold`); items of one source go together in calls; `site` is where a number means the same incident:
#             the site, and the profile before it if there is one
# job.prior, item.prior   the state before the latest attempt, restored when it provably changed nothing; `sent`
#             itself where an attempt before that one is in doubt
# job.maybe, item.maybe   1 = an earlier attempt of ours may have reached D3
# times       seconds since 1970, UTC
# meta        'schema' the version; 'uid' this journal among all; 'identity' the version of `sansio.identity`
# mended      rows that a feedback file changed: `before` is the content they had when its mark was made, `text` and
#             `place` are of the row in the file the run began with, which still says what it said (place null: invalid)
# event.kind  'throttled' (a 429; seconds = the wait it asked for), 'pause' (the gate stayed closed, seconds),
#             'outage' (no connection), 'rate' (seconds = the rate per second learnt), 'stop' (note = why)
