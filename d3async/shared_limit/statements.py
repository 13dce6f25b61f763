"""What is said to PostgreSQL. Times are seconds since 1970 by its clock, and by no other."""

THERE = "select to_regclass('d3async_limit') is not null and to_regclass('d3async_limit_member') is not null"

# many processes may meet an empty database at once, and "if not exists" alone fails then
SCHEMA = (
    "select pg_advisory_lock(6033128874902217)",
    """
    create table if not exists d3async_limit (
        key text primary key, free float8 not null, at float8 not null, gate float8 not null,
        epoch bigint not null default 0, rate float8 not null default 0, lesson text not null default '',
        members int not null default 1, silent int not null default 0
    ) with (fillfactor = 50)
    """,
    """
    create table if not exists d3async_limit_member (
        key text not null, name text not null, pid int not null, due float8 not null, accepted int not null,
        primary key (key, name)
    ) with (fillfactor = 50)
    """,
    "select pg_advisory_unlock(6033128874902217)",
)

# a limit that is a few moments old is good enough after a crash, and nobody has to wait for the disk
SESSION = "set synchronous_commit = off"

NEW = """
insert into d3async_limit (key, free, at, gate)
select %(key)s, now, now, now from (select extract(epoch from clock_timestamp())::float8 as now) clock
on conflict do nothing
"""

# the limit, ours until the statement ends, by a clock that may have been set back
_KEPT = """with limits as materialized (
    select free, at, gate from d3async_limit where key = %(key)s for update
), clock as materialized (
    select limits.*, extract(epoch from clock_timestamp())::float8 as now from limits
), kept as materialized (
    select now,
        case when now < at - %(set_back)s::float8 then now + %(window)s::float8 else free end as free,
        case when now < at - %(set_back)s::float8 then now else greatest(at, now) end as at,
        case when now < at - %(set_back)s::float8 then now + greatest(gate - at, 0) else gate end as gate
    from clock
)"""

# as `sansio.reservation.reserve`, in one statement; the clock is read once the row is ours
RESERVE = f"""
{_KEPT}, got as materialized (
    select *, greatest(free, gate, now - %(late)s::float8) as first,
        greatest(free, gate, now - %(late)s::float8) - now <= %(within)s::float8 as granted
    from kept
)
update d3async_limit as b set
    free = case when got.granted then got.first + %(slots)s::int * %(every)s::float8 else got.free end,
    at = got.at,
    gate = got.gate,
    rate = case when b.epoch = %(epoch)s::bigint then greatest(b.rate, %(rate)s::float8) else b.rate end
from got where b.key = %(key)s
returning got.now, got.first, got.granted, b.gate, b.epoch, b.rate, b.lesson, b.members, b.silent
"""

# as `sansio.reservation.closed`, and the lesson where nobody was quicker
BEAT = f"""
{_KEPT}, mine as (
    insert into d3async_limit_member (key, name, pid, due, accepted)
    select %(key)s, %(name)s, pg_backend_pid(), now + %(promise)s::float8, %(accepted)s::int from clock
    on conflict (key, name) do update set pid = excluded.pid, due = excluded.due, accepted = excluded.accepted
), alive as materialized (
    select array_agg(pid) as pids from pg_stat_activity
), others as (
    select coalesce(json_agg(json_build_array(name, due, accepted, pid = any(pids))), '[]')::text as members
    from d3async_limit_member, alive where key = %(key)s and name <> %(name)s
)
update d3async_limit as b set
    free = kept.free,
    at = kept.at,
    gate = case when %(pause)s::float8 > 0 then greatest(kept.gate, now + %(pause)s::float8) else kept.gate end,
    epoch = case when %(news)s and b.epoch = %(known)s::bigint then %(epoch)s::bigint else b.epoch end,
    rate = case when %(news)s and b.epoch = %(known)s::bigint then %(rate)s::float8 else b.rate end,
    lesson = case when %(news)s and b.epoch = %(known)s::bigint then %(lesson)s else b.lesson end
from kept, others where b.key = %(key)s
returning now, b.gate, b.epoch, b.rate, b.lesson, others.members,
    extract(epoch from pg_postmaster_start_time())::float8, b.members, b.silent
"""

COUNT = "update d3async_limit set members = %(members)s, silent = %(silent)s where key = %(key)s"

LEAVE = "delete from d3async_limit_member where key = %(key)s and name = %(name)s"

LONG_GONE = """
delete from d3async_limit_member
where due not between extract(epoch from clock_timestamp()) - 3600 and extract(epoch from clock_timestamp()) + 3600
"""
