-- A fleet database of version 2, written by the released code of commit 25b6db9 (pg_dump --inserts, plain statements).
CREATE TABLE d3async_answer (
    run integer NOT NULL,
    id bigint NOT NULL,
    body text
);
CREATE SEQUENCE d3async_call
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
CREATE TABLE d3async_chunk (
    run integer NOT NULL,
    chunk integer NOT NULL,
    round integer NOT NULL,
    lo bigint NOT NULL,
    hi bigint NOT NULL,
    rows integer NOT NULL,
    epoch integer DEFAULT 0 NOT NULL,
    stopped boolean DEFAULT false NOT NULL,
    untouched boolean DEFAULT false NOT NULL,
    who text,
    since double precision,
    closed_at double precision
)
WITH (fillfactor='50');
CREATE TABLE d3async_event (
    run integer NOT NULL,
    round integer NOT NULL,
    at double precision,
    kind text,
    seconds double precision,
    note text
);
CREATE TABLE d3async_item (
    run integer NOT NULL,
    id bigint NOT NULL,
    job integer NOT NULL,
    pos integer NOT NULL,
    source bigint,
    name text NOT NULL,
    fold text NOT NULL,
    todo boolean DEFAULT false NOT NULL,
    state text DEFAULT 'pending'::text NOT NULL,
    prior text,
    code text,
    message text,
    maybe boolean DEFAULT false NOT NULL
)
WITH (fillfactor='70');
ALTER TABLE d3async_item ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME d3async_item_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE d3async_job (
    run integer NOT NULL,
    id integer NOT NULL,
    gone boolean DEFAULT false NOT NULL,
    lane bigint,
    todo boolean DEFAULT false NOT NULL,
    state text NOT NULL,
    prior text,
    attempts integer DEFAULT 0 NOT NULL,
    http integer,
    sent_at double precision,
    done_at double precision,
    round integer,
    epoch integer,
    answer bigint,
    maybe boolean DEFAULT false NOT NULL,
    code text,
    message text
)
WITH (fillfactor='70');
CREATE TABLE d3async_round (
    run integer NOT NULL,
    round integer NOT NULL,
    started_at double precision,
    finished_at double precision,
    exit_code integer,
    facts text DEFAULT '{}'::text NOT NULL,
    who text NOT NULL
);
CREATE TABLE d3async_row (
    run integer NOT NULL,
    id integer NOT NULL,
    "row" integer,
    line integer,
    identity bytea NOT NULL,
    occurrence integer DEFAULT 0 NOT NULL,
    content bytea,
    command text,
    username text,
    site text,
    source bigint,
    lane_key text,
    label text,
    params text,
    raw text NOT NULL
);
CREATE TABLE d3async_run (
    id integer NOT NULL,
    name text NOT NULL,
    tenant text NOT NULL,
    created_at double precision NOT NULL,
    cancelled_at double precision,
    round integer DEFAULT 0 NOT NULL,
    epoch integer DEFAULT 0 NOT NULL,
    serial boolean DEFAULT false NOT NULL,
    meta text DEFAULT '{}'::text NOT NULL
);
ALTER TABLE d3async_run ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME d3async_run_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE d3async_schema (
    version integer NOT NULL
);
CREATE TABLE d3async_source (
    run integer NOT NULL,
    id bigint NOT NULL,
    lane_key text NOT NULL,
    fold text NOT NULL,
    site text NOT NULL
);
CREATE TABLE d3async_writer (
    id bigint NOT NULL,
    written bigint NOT NULL,
    since double precision NOT NULL
);
INSERT INTO d3async_answer VALUES (1, 1, '{"error":""}');
INSERT INTO d3async_answer VALUES (1, 2, '{"error":""}');
INSERT INTO d3async_answer VALUES (1, 3, '{"error":""}');
INSERT INTO d3async_answer VALUES (1, 5, '{"error":""}');
INSERT INTO d3async_answer VALUES (1, 7, '{"error":""}');
INSERT INTO d3async_answer VALUES (2, 1, '{"error":""}');
INSERT INTO d3async_answer VALUES (2, 2, '{"error":""}');
INSERT INTO d3async_answer VALUES (3, 1, '{"error":""}');
INSERT INTO d3async_answer VALUES (3, 2, '{"error":""}');
INSERT INTO d3async_answer VALUES (4, 1, '{"error":""}');
INSERT INTO d3async_answer VALUES (6, -1, '{"error":""}');
INSERT INTO d3async_answer VALUES (6, -2, '{"error":""}');
INSERT INTO d3async_answer VALUES (6, -3, '{"error":""}');
INSERT INTO d3async_answer VALUES (7, 1, '{"error":""}');
INSERT INTO d3async_answer VALUES (7, 2, '{"error":""}');
INSERT INTO d3async_chunk VALUES (5, 0, 1, 1, 1, 1, 0, false, true, NULL, NULL, NULL);
INSERT INTO d3async_chunk VALUES (7, 1, 1, 3, 4, 2, 0, false, true, NULL, NULL, NULL);
INSERT INTO d3async_chunk VALUES (7, 2, 1, 5, 6, 2, 0, false, true, NULL, NULL, NULL);
INSERT INTO d3async_chunk VALUES (1, 0, 1, 1, 3, 3, 1, false, false, NULL, NULL, 1795982699.1714678);
INSERT INTO d3async_chunk VALUES (1, 1, 1, 5, 7, 3, 2, false, false, NULL, NULL, 1795982699.2003152);
INSERT INTO d3async_chunk VALUES (1, 2, 1, 8, 8, 1, 3, false, false, 'pid 2 on host', 1795982699.2135546, NULL);
INSERT INTO d3async_chunk VALUES (2, 0, 1, 1, 3, 3, 1, false, false, NULL, NULL, 1795982699.259237);
INSERT INTO d3async_chunk VALUES (3, 0, 1, 1, 3, 3, 1, false, false, NULL, NULL, 1795982699.2934651);
INSERT INTO d3async_chunk VALUES (4, 0, 1, 1, 2, 2, 1, false, false, NULL, NULL, 1795982699.318918);
INSERT INTO d3async_chunk VALUES (6, 0, 1, 1, 4, 4, 1, false, false, NULL, NULL, 1795982699.3774838);
INSERT INTO d3async_chunk VALUES (7, 0, 1, 1, 2, 2, 1, false, false, NULL, NULL, 1795982699.4153073);
INSERT INTO d3async_item OVERRIDING SYSTEM VALUE VALUES (6, 6, 4, 0, 569646925578274952, '20270201-6', '20270201-6', true, 'pending', NULL, NULL, NULL, false);
INSERT INTO d3async_item OVERRIDING SYSTEM VALUE VALUES (6, 1, 1, 0, 7793456576168243117, '20270201-1', '20270201-1', false, 'ok', 'pending', '', '', false);
INSERT INTO d3async_item OVERRIDING SYSTEM VALUE VALUES (6, 2, 1, 1, 7793456576168243117, '20270201-2', '20270201-2', false, 'ok', 'pending', '', '', false);
INSERT INTO d3async_item OVERRIDING SYSTEM VALUE VALUES (6, 3, 2, 0, 112837988495688526, '20270201-3', '20270201-3', false, 'ok', 'pending', '', '', false);
INSERT INTO d3async_item OVERRIDING SYSTEM VALUE VALUES (6, 4, 2, 1, 112837988495688526, '20270201-4', '20270201-4', false, 'failed', 'pending', 'item_error', 'refused', false);
INSERT INTO d3async_item OVERRIDING SYSTEM VALUE VALUES (6, 5, 3, 0, 4972130979291646790, '20270201-5', '20270201-5', false, 'unknown', 'pending', 'http_500', 'Unexpected Error.', true);
INSERT INTO d3async_job VALUES (1, 4, false, NULL, false, 'invalid', NULL, 0, NULL, NULL, NULL, NULL, NULL, NULL, false, 'invalid.due', 'due: is not a date like 2026-12-31 17:00:00');
INSERT INTO d3async_job VALUES (1, 6, false, 6, true, 'pending', NULL, 0, NULL, NULL, NULL, NULL, NULL, NULL, false, NULL, NULL);
INSERT INTO d3async_job VALUES (6, 4, false, 4, true, 'pending', NULL, 0, NULL, NULL, NULL, NULL, NULL, NULL, false, NULL, NULL);
INSERT INTO d3async_job VALUES (1, 1, false, 1, false, 'ok', 'pending', 1, 200, 1795982699.1581106, 1795982699.160372, 1, 1, 1, false, '', '');
INSERT INTO d3async_job VALUES (1, 2, false, 2, false, 'failed', 'pending', 1, 400, 1795982699.162776, 1795982699.165013, 1, 1, 2, false, 'http_400', 'no');
INSERT INTO d3async_job VALUES (1, 3, false, 3, false, 'unknown', 'pending', 1, 500, 1795982699.1669142, 1795982699.169243, 1, 1, 3, true, 'http_500', 'Unexpected Error.');
INSERT INTO d3async_job VALUES (1, 5, false, 5, false, 'ok', 'pending', 1, 200, 1795982699.19208, 1795982699.1939783, 1, 2, 5, false, '', '');
INSERT INTO d3async_job VALUES (1, 7, false, 7, false, 'ok', 'pending', 1, 200, 1795982699.1964297, 1795982699.1980956, 1, 2, 7, false, '', '');
INSERT INTO d3async_job VALUES (1, 8, false, 8, true, 'sent', 'pending', 1, NULL, 1795982699.221508, NULL, 1, 3, NULL, false, NULL, NULL);
INSERT INTO d3async_job VALUES (2, 3, false, 3, true, 'pending', NULL, 0, NULL, NULL, NULL, NULL, NULL, NULL, false, NULL, NULL);
INSERT INTO d3async_job VALUES (2, 1, false, 1, false, 'ok', 'pending', 1, 200, 1795982699.247623, 1795982699.2503023, 1, 1, 1, false, '', '');
INSERT INTO d3async_job VALUES (2, 2, false, 2, false, 'unknown', 'pending', 1, 500, 1795982699.2536106, 1795982699.2562547, 1, 1, 2, true, 'http_500', 'Unexpected Error.');
INSERT INTO d3async_job VALUES (3, 3, false, 3, true, 'pending', NULL, 0, NULL, NULL, NULL, NULL, NULL, NULL, false, NULL, NULL);
INSERT INTO d3async_job VALUES (3, 1, false, 1, false, 'ok', 'pending', 1, 200, 1795982699.2854252, 1795982699.2875822, 1, 1, 1, false, '', '');
INSERT INTO d3async_job VALUES (3, 2, false, 2, false, 'unknown', 'pending', 1, 500, 1795982699.2897255, 1795982699.2913635, 1, 1, 2, true, 'http_500', 'Unexpected Error.');
INSERT INTO d3async_job VALUES (4, 2, false, 2, true, 'pending', NULL, 0, NULL, NULL, NULL, NULL, NULL, NULL, false, NULL, NULL);
INSERT INTO d3async_job VALUES (4, 1, false, 1, false, 'ok', 'pending', 1, 200, 1795982699.3140187, 1795982699.316354, 1, 1, 1, false, '', '');
INSERT INTO d3async_job VALUES (6, 1, false, 1, false, 'ok', 'pending', 1, 200, 1795982699.3450687, 1795982699.3490639, 1, 1, -1, false, '', '');
INSERT INTO d3async_job VALUES (6, 2, false, 2, false, 'partial', 'pending', 1, 200, 1795982699.356554, 1795982699.3597713, 1, 1, -2, false, 'item_error', '20270201-4: refused');
INSERT INTO d3async_job VALUES (6, 3, false, 3, false, 'unknown', 'pending', 1, 500, 1795982699.3672018, 1795982699.3700645, 1, 1, -3, false, 'http_500', '20270201-5: Unexpected Error.');
INSERT INTO d3async_job VALUES (7, 1, false, 1, false, 'ok', 'pending', 1, 200, 1795982699.4050853, 1795982699.407575, 1, 1, 1, false, '', '');
INSERT INTO d3async_job VALUES (7, 2, false, 2, false, 'ok', 'pending', 1, 200, 1795982699.4103847, 1795982699.4126472, 1, 1, 2, false, '', '');
INSERT INTO d3async_round VALUES (1, 1, 1795982698.968917, NULL, NULL, '{"version": "0.1.0", "argv": ["submit"], "command_line": "d3async submit", "settings": {"profile": "a", "base_url": "http://127.0.0.1:9/x", "username": "svc", "site": "Operations", "rate": 50.0, "concurrency": 32, "timeout": 60.0, "max_attempts": 4, "max_wait": 300.0, "api_key_header": "d3key", "jwt_lifetime": null, "ca_bundle": null, "client_cert": null, "client_key": null, "limit_url": null, "share_limit": true}, "links_per_call": 50, "halts": []}', 'pid 1 on host');
INSERT INTO d3async_round VALUES (2, 1, 1795982699.0027423, NULL, NULL, '{"version": "0.1.0", "argv": ["submit"], "command_line": "d3async submit", "settings": {"profile": "a", "base_url": "http://127.0.0.1:9/x", "username": "svc", "site": "Operations", "rate": 50.0, "concurrency": 32, "timeout": 60.0, "max_attempts": 4, "max_wait": 300.0, "api_key_header": "d3key", "jwt_lifetime": null, "ca_bundle": null, "client_cert": null, "client_key": null, "limit_url": null, "share_limit": true}, "links_per_call": 50, "halts": []}', 'pid 1 on host');
INSERT INTO d3async_round VALUES (3, 1, 1795982699.028185, NULL, NULL, '{"version": "0.1.0", "argv": ["submit"], "command_line": "d3async submit", "settings": {"profile": "a", "base_url": "http://127.0.0.1:9/x", "username": "svc", "site": "Operations", "rate": 50.0, "concurrency": 32, "timeout": 60.0, "max_attempts": 4, "max_wait": 300.0, "api_key_header": "d3key", "jwt_lifetime": null, "ca_bundle": null, "client_cert": null, "client_key": null, "limit_url": null, "share_limit": true}, "links_per_call": 50, "halts": []}', 'pid 1 on host');
INSERT INTO d3async_round VALUES (4, 1, 1795982699.054241, NULL, NULL, '{"version": "0.1.0", "argv": ["submit"], "command_line": "d3async submit", "settings": {"profile": "a", "base_url": "http://127.0.0.1:9/x", "username": "svc", "site": "Operations", "rate": 50.0, "concurrency": 32, "timeout": 60.0, "max_attempts": 4, "max_wait": 300.0, "api_key_header": "d3key", "jwt_lifetime": null, "ca_bundle": null, "client_cert": null, "client_key": null, "limit_url": null, "share_limit": true}, "links_per_call": 50, "halts": []}', 'pid 1 on host');
INSERT INTO d3async_round VALUES (5, 1, 1795982699.0591943, NULL, NULL, '{"version": "0.1.0", "argv": ["submit"], "command_line": "d3async submit", "settings": {"profile": "b", "base_url": "http://127.0.0.1:9/x", "username": "svc", "site": "Operations", "rate": 50.0, "concurrency": 32, "timeout": 60.0, "max_attempts": 4, "max_wait": 300.0, "api_key_header": "d3key", "jwt_lifetime": null, "ca_bundle": null, "client_cert": null, "client_key": null, "limit_url": null, "share_limit": true}, "links_per_call": 50, "halts": []}', 'pid 1 on host');
INSERT INTO d3async_round VALUES (6, 1, 1795982699.085299, NULL, NULL, '{"version": "0.1.0", "argv": ["submit"], "command_line": "d3async submit", "settings": {"profile": "a", "base_url": "http://127.0.0.1:9/x", "username": "svc", "site": "Operations", "rate": 50.0, "concurrency": 32, "timeout": 60.0, "max_attempts": 4, "max_wait": 300.0, "api_key_header": "d3key", "jwt_lifetime": null, "ca_bundle": null, "client_cert": null, "client_key": null, "limit_url": null, "share_limit": true}, "links_per_call": 50, "halts": []}', 'pid 1 on host');
INSERT INTO d3async_round VALUES (7, 1, 1795982699.129019, NULL, NULL, '{"version": "0.1.0", "argv": ["submit"], "command_line": "d3async submit", "settings": {"profile": "b", "base_url": "http://127.0.0.1:9/x", "username": "svc", "site": "Operations", "rate": 50.0, "concurrency": 32, "timeout": 60.0, "max_attempts": 4, "max_wait": 300.0, "api_key_header": "d3key", "jwt_lifetime": null, "ca_bundle": null, "client_cert": null, "client_key": null, "limit_url": null, "share_limit": true}, "links_per_call": 50, "halts": []}', 'pid 1 on host');
INSERT INTO d3async_row VALUES (1, 1, 1, 2, '\x4ce39d3e5713ccfad08bcd19b8b5d37a', 0, NULL, 'CreateTask', NULL, 'Operations', NULL, 'Operations20270101-1', '20270101-1', '{"Incident Number":"20270101-1","Task Name":"Call","Task Type":"Default","Task Description":"Look","Assignee":"ann","Due Date":"2099-01-01 12:00:00","Required":"No"}', '20270101-1,Call,Look,ann,2099-01-01 12:00:00,1');
INSERT INTO d3async_row VALUES (1, 2, 2, 3, '\xda9f9b63337d834b7ac234d6f912b7fa', 0, NULL, 'CreateTask', NULL, 'Operations', NULL, 'Operations20270101-2', '20270101-2', '{"Incident Number":"20270101-2","Task Name":"Write","Task Type":"Default","Task Description":"Look","Assignee":"ann","Due Date":"2099-01-01 12:00:00","Required":"No"}', '20270101-2,Write,Look,ann,2099-01-01 12:00:00,2');
INSERT INTO d3async_row VALUES (1, 3, 3, 4, '\xf56c1577b5421d091179e1a56a02ee18', 0, NULL, 'CreateTask', NULL, 'Operations', NULL, 'Operations20270101-3', '20270101-3', '{"Incident Number":"20270101-3","Task Name":"Ask","Task Type":"Default","Task Description":"Look","Assignee":"bob","Due Date":"2099-01-01 12:00:00","Required":"No"}', '20270101-3,Ask,Look,bob,2099-01-01 12:00:00,3');
INSERT INTO d3async_row VALUES (1, 5, 5, 6, '\x85882075cd99d0e54f420970fac2bfd2', 0, NULL, 'CreateTask', NULL, 'Operations', NULL, 'Operations20270101-5', '20270101-5', '{"Incident Number":"20270101-5","Task Name":"Twice","Task Type":"Default","Task Description":"Look","Assignee":"bob","Due Date":"2099-01-01 12:00:00","Required":"No"}', '20270101-5,Twice,Look,bob,2099-01-01 12:00:00,5');
INSERT INTO d3async_row VALUES (1, 7, 7, 8, '\x162899555e8513df833b6994ee5bea3e', 0, NULL, 'CreateTask', NULL, 'Operations', NULL, 'Operations20270101-6', '20270101-6', '{"Incident Number":"20270101-6","Task Name":"Prüfen","Task Type":"Default","Task Description":"Look","Assignee":"zoe","Due Date":"2099-01-01 12:00:00","Required":"No"}', '20270101-6,Prüfen,Look,zoe,2099-01-01 12:00:00,6');
INSERT INTO d3async_row VALUES (1, 8, 8, 9, '\x6dcaf43aaf36eb1bc245ec994832b822', 0, NULL, 'CreateTask', NULL, 'Operations', NULL, 'Operations20270101-7', '20270101-7', '{"Incident Number":"20270101-7","Task Name":"Later","Task Type":"Default","Task Description":"Look","Assignee":"zoe","Due Date":"2099-01-01 12:00:00","Required":"No"}', '20270101-7,Later,Look,zoe,2099-01-01 12:00:00,7');
INSERT INTO d3async_row VALUES (1, 4, 4, 5, '\x77de5a7daefe7887aebf214ba55e1d9a', 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '20270101-4,Wait,Look,bob,soon,4');
INSERT INTO d3async_row VALUES (1, 6, 6, 7, '\x85882075cd99d0e54f420970fac2bfd2', 1, NULL, 'CreateTask', NULL, 'Operations', NULL, 'Operations20270101-5', '20270101-5', '{"Incident Number":"20270101-5","Task Name":"Twice","Task Type":"Default","Task Description":"Look","Assignee":"bob","Due Date":"2099-01-01 12:00:00","Required":"No"}', '20270101-5,Twice,Look,bob,2099-01-01 12:00:00,5');
INSERT INTO d3async_row VALUES (2, 1, 1, 2, '\x8a2880c763b63ef1adb910afc0a7f664', 0, '\xdd08ee4fc1bbe6b73e3e4ab418716e32', 'CreateTask', NULL, 'Operations', NULL, 'Operations20270101-1', '20270101-1', '{"Incident Number":"20270101-1","Task Name":"Mark","Task Type":"Default","Task Description":"Look","Assignee":"ann","Due Date":"2099-01-01 12:00:00","Required":"No"}', 'K1,20270101-1,Mark,Look,ann,2099-01-01 12:00:00');
INSERT INTO d3async_row VALUES (2, 2, 2, 3, '\x862b0a2fe25eeae1f46e9f835dbd9a25', 0, '\xb332df8e71e53cbd8ec9fe5bf907475f', 'CreateTask', NULL, 'Operations', NULL, 'Operations20270101-2', '20270101-2', '{"Incident Number":"20270101-2","Task Name":"Mark","Task Type":"Default","Task Description":"Look","Assignee":"ann","Due Date":"2099-01-01 12:00:00","Required":"No"}', 'K2,20270101-2,Mark,Look,ann,2099-01-01 12:00:00');
INSERT INTO d3async_row VALUES (2, 3, 3, 4, '\x19af993114c5df4d459f5faed9db995b', 0, '\x42abada9d52a63c9b119692c98852354', 'CreateTask', NULL, 'Operations', NULL, 'Operations20270101-3', '20270101-3', '{"Incident Number":"20270101-3","Task Name":"Mark","Task Type":"Default","Task Description":"Look","Assignee":"ann","Due Date":"2099-01-01 12:00:00","Required":"No"}', 'K3,20270101-3,Mark,Look,ann,2099-01-01 12:00:00');
INSERT INTO d3async_row VALUES (3, 1, 1, 2, '\x1f8075787f105728c1292880d88078ee', 0, NULL, 'CreateTask', NULL, 'Operations', NULL, 'Operations20270103-1', '20270103-1', '{"Incident Number":"20270103-1","Task Name":"Marked 1","Task Type":"Default","Task Description":"Look [d3async 3k7wvqvb]","Assignee":"ann","Due Date":"2099-01-01 12:00:00","Required":"No"}', '20270103-1,Marked 1,Look,ann,2099-01-01 12:00:00');
INSERT INTO d3async_row VALUES (3, 2, 2, 3, '\x7db939660208aaab5e23b4e4096862c4', 0, NULL, 'CreateTask', NULL, 'Operations', NULL, 'Operations20270103-2', '20270103-2', '{"Incident Number":"20270103-2","Task Name":"Marked 2","Task Type":"Default","Task Description":"Look [d3async 742c47ms]","Assignee":"ann","Due Date":"2099-01-01 12:00:00","Required":"No"}', '20270103-2,Marked 2,Look,ann,2099-01-01 12:00:00');
INSERT INTO d3async_row VALUES (3, 3, 3, 4, '\x52ddf3ebadd6ea128b86bd7ac18dd38a', 0, NULL, 'CreateTask', NULL, 'Operations', NULL, 'Operations20270103-3', '20270103-3', '{"Incident Number":"20270103-3","Task Name":"Marked 3","Task Type":"Default","Task Description":"Look [d3async gk9f9nmh]","Assignee":"ann","Due Date":"2099-01-01 12:00:00","Required":"No"}', '20270103-3,Marked 3,Look,ann,2099-01-01 12:00:00');
INSERT INTO d3async_row VALUES (4, 1, 1, 2, '\xf43e7f97f0ad11fecb9049a04cc68443', 0, NULL, 'CreateTask', NULL, 'Operations', NULL, 'Operations20270104-1', '20270104-1', '{"Incident Number":"20270104-1","Task Name":"Routed","Task Type":"Default","Task Description":"Look","Assignee":"ann","Due Date":"2099-01-01 12:00:00","Required":"No"}', 'a,20270104-1,Routed,Look,ann,2099-01-01 12:00:00');
INSERT INTO d3async_row VALUES (4, 2, 2, 4, '\xfc8e6592e78c8a6ca5871e0072b5cc1f', 0, NULL, 'CreateTask', NULL, 'Operations', NULL, 'Operations20270104-3', '20270104-3', '{"Incident Number":"20270104-3","Task Name":"Routed","Task Type":"Default","Task Description":"Look","Assignee":"ann","Due Date":"2099-01-01 12:00:00","Required":"No"}', 'a,20270104-3,Routed,Look,ann,2099-01-01 12:00:00');
INSERT INTO d3async_row VALUES (5, 1, 1, 3, '\xf5805a16b5672c25f289049cfd979f91', 0, NULL, 'CreateTask', NULL, 'Operations', NULL, 'Operations20270104-2', '20270104-2', '{"Incident Number":"20270104-2","Task Name":"Routed","Task Type":"Default","Task Description":"Look","Assignee":"ann","Due Date":"2099-01-01 12:00:00","Required":"No"}', 'b,20270104-2,Routed,Look,ann,2099-01-01 12:00:00');
INSERT INTO d3async_row VALUES (6, 1, 1, 2, '\xf4d70e517a6c8a96c8c48bbb6451d695', 0, NULL, 'RemoveLinkedIncidents', NULL, 'Operations', 7793456576168243117, 'Operations20270101-1', '20270101-1', '{"Source Incident Number":"20270101-1"}', '20270101-1,20270201-1;20270201-2');
INSERT INTO d3async_row VALUES (6, 2, 2, 3, '\x9106ca71b5c3459bb66cd7e937da66b1', 0, NULL, 'RemoveLinkedIncidents', NULL, 'Operations', 112837988495688526, 'Operations20270101-2', '20270101-2', '{"Source Incident Number":"20270101-2"}', '20270101-2,20270201-3;20270201-4');
INSERT INTO d3async_row VALUES (6, 3, 3, 4, '\x51162eb1de27cde64b1812aea18f5c72', 0, NULL, 'RemoveLinkedIncidents', NULL, 'Operations', 4972130979291646790, 'Operations20270101-3', '20270101-3', '{"Source Incident Number":"20270101-3"}', '20270101-3,20270201-5');
INSERT INTO d3async_row VALUES (6, 4, 4, 5, '\x02f4ccce0e338ff46f43b6b0842414dc', 0, NULL, 'RemoveLinkedIncidents', NULL, 'Operations', 569646925578274952, 'Operations20270101-4', '20270101-4', '{"Source Incident Number":"20270101-4"}', '20270101-4,20270201-6');
INSERT INTO d3async_row VALUES (7, 1, 1, 2, '\xf24eb06336af651389218130fa3d23d0', 0, NULL, 'CreateTask', NULL, 'Operations', NULL, 'Operations20270102-1', '20270102-1', '{"Incident Number":"20270102-1","Task Name":"Night 1","Task Type":"Default","Task Description":"Look","Assignee":"ann","Due Date":"2099-01-01 12:00:00","Required":"No"}', '20270102-1,Night 1,Look,ann,2099-01-01 12:00:00');
INSERT INTO d3async_row VALUES (7, 2, 2, 3, '\x4404dfc7622f85daa59649c4e0debe38', 0, NULL, 'CreateTask', NULL, 'Operations', NULL, 'Operations20270102-2', '20270102-2', '{"Incident Number":"20270102-2","Task Name":"Night 2","Task Type":"Default","Task Description":"Look","Assignee":"ann","Due Date":"2099-01-01 12:00:00","Required":"No"}', '20270102-2,Night 2,Look,ann,2099-01-01 12:00:00');
INSERT INTO d3async_row VALUES (7, 3, 3, 4, '\x37e1962490050dbcf0f2dded9962ee0e', 0, NULL, 'CreateTask', NULL, 'Operations', NULL, 'Operations20270102-3', '20270102-3', '{"Incident Number":"20270102-3","Task Name":"Night 3","Task Type":"Default","Task Description":"Look","Assignee":"ann","Due Date":"2099-01-01 12:00:00","Required":"No"}', '20270102-3,Night 3,Look,ann,2099-01-01 12:00:00');
INSERT INTO d3async_row VALUES (7, 4, 4, 5, '\x23ec7bd741b99f9f995a611621dfdf8a', 0, NULL, 'CreateTask', NULL, 'Operations', NULL, 'Operations20270102-4', '20270102-4', '{"Incident Number":"20270102-4","Task Name":"Night 4","Task Type":"Default","Task Description":"Look","Assignee":"ann","Due Date":"2099-01-01 12:00:00","Required":"No"}', '20270102-4,Night 4,Look,ann,2099-01-01 12:00:00');
INSERT INTO d3async_row VALUES (7, 5, 5, 6, '\xa42a4d360e2263bde58f95aeb70745a5', 0, NULL, 'CreateTask', NULL, 'Operations', NULL, 'Operations20270102-5', '20270102-5', '{"Incident Number":"20270102-5","Task Name":"Night 5","Task Type":"Default","Task Description":"Look","Assignee":"ann","Due Date":"2099-01-01 12:00:00","Required":"No"}', '20270102-5,Night 5,Look,ann,2099-01-01 12:00:00');
INSERT INTO d3async_row VALUES (7, 6, 6, 7, '\x29d6166504fb29d539f84de3ba558bb1', 0, NULL, 'CreateTask', NULL, 'Operations', NULL, 'Operations20270102-6', '20270102-6', '{"Incident Number":"20270102-6","Task Name":"Night 6","Task Type":"Default","Task Description":"Look","Assignee":"ann","Due Date":"2099-01-01 12:00:00","Required":"No"}', '20270102-6,Night 6,Look,ann,2099-01-01 12:00:00');
INSERT INTO d3async_run OVERRIDING SYSTEM VALUE VALUES (4, 'routed.a', 'a', 1795982699.0427663, NULL, 1, 1, false, '{"base_url": "http://127.0.0.1:9/x", "site": "Operations", "command": "CreateTask", "format": "{\"kind\": \"csv\", \"encoding\": \"utf-8\", \"bom\": false, \"delimiter\": \",\", \"line_ending\": \"\\n\", \"sheet\": null, \"header_raw\": \"profile,incident,name,description,assignee,due\", \"separator_line\": false, \"doubts\": []}", "header": "[\"profile\", \"incident\", \"name\", \"description\", \"assignee\", \"due\"]", "input": "routed.csv", "sha256": "2d5d0b3b2951c9b1a1288f1ab8d93675d2408145ff7207c5fe124979c0333874", "rows": "2", "mapping": ""}');
INSERT INTO d3async_run OVERRIDING SYSTEM VALUE VALUES (6, 'links', 'a', 1795982699.0712295, NULL, 1, 1, false, '{"base_url": "http://127.0.0.1:9/x", "site": "Operations", "command": "RemoveLinkedIncidents", "format": "{\"kind\": \"csv\", \"encoding\": \"utf-8\", \"bom\": false, \"delimiter\": \",\", \"line_ending\": \"\\n\", \"sheet\": null, \"header_raw\": \"source,linked\", \"separator_line\": false, \"doubts\": []}", "header": "[\"source\", \"linked\"]", "input": "links.csv", "sha256": "c31b5e74f27ee577311eb2d0e0811cedfbb86a5ae9040f3511bfdbe163087c41", "rows": "4", "mapping": ""}');
INSERT INTO d3async_run OVERRIDING SYSTEM VALUE VALUES (7, 'b', 'b', 1795982699.1152318, NULL, 1, 1, false, '{"base_url": "http://127.0.0.1:9/x", "site": "Operations", "command": "CreateTask", "format": "{\"kind\": \"csv\", \"encoding\": \"utf-8\", \"bom\": false, \"delimiter\": \",\", \"line_ending\": \"\\n\", \"sheet\": null, \"header_raw\": \"incident,name,description,assignee,due\", \"separator_line\": false, \"doubts\": []}", "header": "[\"incident\", \"name\", \"description\", \"assignee\", \"due\"]", "input": "b.csv", "sha256": "53cb41d6634198642050b190fca476d6b2a9c55ee37eaf8ff231127e31fec3c0", "rows": "6", "mapping": ""}');
INSERT INTO d3async_run OVERRIDING SYSTEM VALUE VALUES (5, 'routed.b', 'b', 1795982699.0563135, NULL, 1, 0, false, '{"base_url": "http://127.0.0.1:9/x", "site": "Operations", "command": "CreateTask", "format": "{\"kind\": \"csv\", \"encoding\": \"utf-8\", \"bom\": false, \"delimiter\": \",\", \"line_ending\": \"\\n\", \"sheet\": null, \"header_raw\": \"profile,incident,name,description,assignee,due\", \"separator_line\": false, \"doubts\": []}", "header": "[\"profile\", \"incident\", \"name\", \"description\", \"assignee\", \"due\"]", "input": "routed.csv", "sha256": "2d5d0b3b2951c9b1a1288f1ab8d93675d2408145ff7207c5fe124979c0333874", "rows": "1", "mapping": ""}');
INSERT INTO d3async_run OVERRIDING SYSTEM VALUE VALUES (1, 'a', 'a', 1795982698.952249, NULL, 1, 3, false, '{"base_url": "http://127.0.0.1:9/x", "site": "Operations", "command": "CreateTask", "format": "{\"kind\": \"csv\", \"encoding\": \"utf-8\", \"bom\": false, \"delimiter\": \",\", \"line_ending\": \"\\n\", \"sheet\": null, \"header_raw\": \"incident,name,description,assignee,due,room\", \"separator_line\": false, \"doubts\": []}", "header": "[\"incident\", \"name\", \"description\", \"assignee\", \"due\", \"room\"]", "input": "a.csv", "sha256": "63f088e0bcb399d0a4e90506d5ed88ee2628505c016f5ce4f558c1a7051a2ac4", "rows": "8", "mapping": ""}');
INSERT INTO d3async_run OVERRIDING SYSTEM VALUE VALUES (2, 'keyed', 'a', 1795982698.9889257, NULL, 1, 1, false, '{"base_url": "http://127.0.0.1:9/x", "site": "Operations", "command": "CreateTask", "format": "{\"kind\": \"csv\", \"encoding\": \"utf-8\", \"bom\": false, \"delimiter\": \",\", \"line_ending\": \"\\n\", \"sheet\": null, \"header_raw\": \"id,incident,name,description,assignee,due\", \"separator_line\": false, \"doubts\": []}", "header": "[\"id\", \"incident\", \"name\", \"description\", \"assignee\", \"due\"]", "input": "keyed.csv", "sha256": "82dce4292b85274d97e46b07c24752a61fcb1afece3ce99b5c98c49604448a7a", "rows": "3", "mapping": ""}');
INSERT INTO d3async_run OVERRIDING SYSTEM VALUE VALUES (3, 'marked', 'a', 1795982699.0161147, NULL, 1, 1, false, '{"base_url": "http://127.0.0.1:9/x", "site": "Operations", "command": "CreateTask", "format": "{\"kind\": \"csv\", \"encoding\": \"utf-8\", \"bom\": false, \"delimiter\": \",\", \"line_ending\": \"\\n\", \"sheet\": null, \"header_raw\": \"incident,name,description,assignee,due\", \"separator_line\": false, \"doubts\": []}", "header": "[\"incident\", \"name\", \"description\", \"assignee\", \"due\"]", "input": "marked.csv", "sha256": "ccf09230b4eaa2d5f6fd846688332c67b261fa2c40cd512e701fd4f560d34399", "rows": "3", "mapping": ""}');
INSERT INTO d3async_schema VALUES (2);
INSERT INTO d3async_source VALUES (6, 112837988495688526, 'Operations20270101-2', '20270101-2', 'Operations');
INSERT INTO d3async_source VALUES (6, 569646925578274952, 'Operations20270101-4', '20270101-4', 'Operations');
INSERT INTO d3async_source VALUES (6, 4972130979291646790, 'Operations20270101-3', '20270101-3', 'Operations');
INSERT INTO d3async_source VALUES (6, 7793456576168243117, 'Operations20270101-1', '20270101-1', 'Operations');
SELECT pg_catalog.setval('d3async_call', 3, true);
SELECT pg_catalog.setval('d3async_item_id_seq', 6, true);
SELECT pg_catalog.setval('d3async_run_id_seq', 7, true);
ALTER TABLE ONLY d3async_answer
    ADD CONSTRAINT d3async_answer_pkey PRIMARY KEY (run, id);
ALTER TABLE ONLY d3async_chunk
    ADD CONSTRAINT d3async_chunk_pkey PRIMARY KEY (run, chunk);
ALTER TABLE ONLY d3async_item
    ADD CONSTRAINT d3async_item_pkey PRIMARY KEY (run, job, id);
ALTER TABLE ONLY d3async_job
    ADD CONSTRAINT d3async_job_pkey PRIMARY KEY (run, id);
ALTER TABLE ONLY d3async_round
    ADD CONSTRAINT d3async_round_pkey PRIMARY KEY (run, round);
ALTER TABLE ONLY d3async_row
    ADD CONSTRAINT d3async_row_pkey PRIMARY KEY (run, id);
ALTER TABLE ONLY d3async_run
    ADD CONSTRAINT d3async_run_name_key UNIQUE (name);
ALTER TABLE ONLY d3async_run
    ADD CONSTRAINT d3async_run_pkey PRIMARY KEY (id);
ALTER TABLE ONLY d3async_source
    ADD CONSTRAINT d3async_source_pkey PRIMARY KEY (run, id);
ALTER TABLE ONLY d3async_writer
    ADD CONSTRAINT d3async_writer_pkey PRIMARY KEY (id);
CREATE INDEX d3async_event_run ON d3async_event USING btree (run, round);
CREATE INDEX d3async_item_source ON d3async_item USING btree (run, source, id);
CREATE INDEX d3async_item_twin ON d3async_item USING btree (run, source, fold);
CREATE INDEX d3async_job_lane ON d3async_job USING btree (run, lane, id) WHERE (lane IS NOT NULL);
CREATE INDEX d3async_source_fold ON d3async_source USING btree (run, fold, site);
CREATE UNIQUE INDEX d3async_source_key ON d3async_source USING btree (run, lane_key);
