-- Statements that users write, one a line. With masks that show everything each gives what it gives without Sluice, and with real
-- masks the same in two worlds that differ in what is hidden. A server below the version of a heading does not know what follows.
-- since 15
SELECT a.attname, pg_get_expr(d.adbin, d.adrelid) FROM pg_attrdef d JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum WHERE a.attrelid = 'orders'::regclass ORDER BY 1
SELECT column_name, column_default, is_generated FROM information_schema.columns WHERE table_name = 'orders' ORDER BY ordinal_position
SELECT st.relname, d.description FROM pg_catalog.pg_statio_all_tables st JOIN pg_catalog.pg_description d ON d.objoid = st.relid WHERE st.schemaname = 'public'
SELECT transactionid FROM pg_catalog.pg_locks l WHERE l.transactionid IS NOT NULL ORDER BY age(l.transactionid) DESC LIMIT 1
SELECT mode, granted FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()
SET SESSION AUTHORIZATION DEFAULT
RESET ROLE
SET ROLE NONE
SET default_text_search_config = 'pg_catalog.simple'
SELECT x.* FROM people p, XMLTABLE('/r' PASSING xmlelement(name r, p.email) COLUMNS v text PATH '.') x
SELECT x.v FROM users u, XMLTABLE('/r/i' PASSING xmlparse(content '<r><i>' || u.id || '</i></r>') COLUMNS n FOR ORDINALITY, v int PATH '.' DEFAULT 0 NOT NULL) x WHERE u.id < 3
SELECT * FROM ROWS FROM (generate_series(1, 3), unnest(ARRAY['a', 'b'])) WITH ORDINALITY AS t(a, b, o)
SELECT u.id, t.* FROM users u, ROWS FROM (unnest(ARRAY[u.id]), regexp_split_to_table(u.note, ' ')) t(a, b) WHERE u.id < 3
SELECT u.id, j.value FROM users u, json_each_text(u.doc) j WHERE u.id < 3
SELECT * FROM json_to_recordset('[{"a": 1, "b": "x"}]') AS t(a int, b text)
SELECT jsonb_to_record.* FROM jsonb_to_record('{"a": 1}') AS jsonb_to_record(a int)
SELECT (u).* FROM users u WHERE u.id = 1
SELECT (p).*, (p).email FROM people p
SELECT (x.r).email FROM (SELECT p AS r FROM people p) x
SELECT (x.r).* FROM (SELECT p AS r FROM people p) x
SELECT (ROW(p.*)).f2 FROM people p
SELECT p = p, p IS NOT DISTINCT FROM p, p < ROW(3, 'x')::people FROM people p
SELECT ROW(p.id, p.email) = ROW(1, 'c***@one.example') FROM people p
SELECT row_to_json(p), to_json(p), jsonb_agg(p) OVER () FROM people p
SELECT json_agg(u) FROM users u WHERE id < 3
SELECT array_agg(p) FROM people p
SELECT count(p), count(p.*), count(DISTINCT p) FROM people p
SELECT p::text, md5(p::text), concat(p), format('%s', p) FROM people p
SELECT coalesce(p, NULL) FROM people p
SELECT p IS NULL, p IS NOT NULL FROM people p
SELECT jsonb_populate_record(p, '{"id": 9}') FROM people p
SELECT jsonb_populate_record(NULL::people, '{"id": 9, "email": "z"}')
SELECT NULL::people
SELECT * FROM people NATURAL JOIN orders
SELECT id, memo, name FROM orders JOIN users USING (id) WHERE id < 4
SELECT j.id, j FROM (people p JOIN orders o USING (id)) j WHERE j.id = 1
SELECT x.id FROM orders o JOIN people p USING (id) AS x
SELECT * FROM events WHERE id = 3
SELECT * FROM events_low
SELECT who FROM ONLY events
SELECT tableoid::regclass, id, who FROM events WHERE id IN (1, 12)
INSERT INTO events (id, who) VALUES (20, 'new@x') RETURNING *
UPDATE events SET tags[1] = 'z', at = '2021-01-01' WHERE id = 1 RETURNING id, tags
UPDATE events SET id = 30 WHERE id = 1 RETURNING id, who
DELETE FROM events WHERE id > 12 RETURNING id, who
DELETE FROM events_low WHERE id = 1 RETURNING *
SELECT * FROM digest
UPDATE named SET mail = 'x@y' WHERE id = 1 RETURNING mail
UPDATE contacts SET email = 'x@y' WHERE id = 1 RETURNING id, email
DELETE FROM contacts WHERE id = 3 RETURNING id
WITH RECURSIVE t AS (SELECT id, parent, label FROM tree WHERE id = 1 UNION ALL SELECT c.id, c.parent, c.label FROM tree c JOIN t ON c.parent = t.id) SEARCH DEPTH FIRST BY id SET o SELECT id, label FROM t ORDER BY o
WITH RECURSIVE t(n, e) AS (SELECT 1, email FROM people WHERE id = 1 UNION SELECT n + 1, p.email FROM t JOIN people p ON p.id = n + 1) CYCLE n SET c USING path SELECT n, e FROM t
WITH d AS (DELETE FROM orders WHERE id = 1 RETURNING *), i AS (INSERT INTO orders SELECT id + 500, user_id, amount, memo FROM d RETURNING id) SELECT d.id, i.id FROM d, i
WITH u AS (UPDATE users SET note = 'q' WHERE id = 1 RETURNING id, email) SELECT * FROM u
WITH u AS (UPDATE users SET note = 'q' WHERE id < 4 RETURNING users.*) SELECT u.email, u.id FROM u
SELECT email INTO TEMP made FROM people
CREATE TEMP TABLE made AS SELECT * FROM users WITH NO DATA
CREATE TEMP TABLE made ON COMMIT DROP AS SELECT id, email FROM people; SELECT * FROM made
CREATE TEMP TABLE made AS TABLE people; SELECT * FROM made
DECLARE c CURSOR FOR SELECT id, email FROM people ORDER BY id; FETCH 2 FROM c
DECLARE c SCROLL CURSOR FOR SELECT id, email FROM users WHERE note ~ '^n' ORDER BY id; FETCH LAST FROM c
DECLARE c CURSOR FOR SELECT id FROM users WHERE id < 3 FOR UPDATE; FETCH c; UPDATE users SET note = 'x' WHERE CURRENT OF c
SELECT id FROM (SELECT id, note FROM users WHERE bonus > 3) x WHERE note LIKE 'n%' FOR UPDATE
SELECT id FROM users WHERE note ~ '^n' ORDER BY id LIMIT 2 FOR UPDATE SKIP LOCKED
SELECT u.id FROM users u JOIN orders o ON o.user_id = u.id WHERE o.id < 3 FOR UPDATE OF u NOWAIT
SELECT id FROM public.users FOR NO KEY UPDATE OF users
SELECT id, upper(note) FROM (SELECT id, note FROM users WHERE note ~ 'n') x FOR SHARE
COPY people TO STDOUT
COPY (SELECT email FROM people) TO STDOUT
EXPLAIN SELECT 1
EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT id FROM tree WHERE id = 1
VALUES (1, 'a'), (2, 'b') ORDER BY 1 LIMIT 1
TABLE people
SELECT kind, tenant, count(*), grouping(kind) FROM users GROUP BY ROLLUP (kind, tenant)
SELECT DISTINCT ON (email) email, id FROM people ORDER BY email, id
SELECT email, count(*) FROM people GROUP BY email HAVING count(*) > 0 ORDER BY count(email) DESC
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY bonus), mode() WITHIN GROUP (ORDER BY kind) FROM users
SELECT id, lag(email) OVER w, rank() OVER (w RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) FROM people WINDOW w AS (ORDER BY id)
SELECT id, sum(bonus) FILTER (WHERE note ~ 'n') OVER (PARTITION BY kind ORDER BY id ROWS 2 PRECEDING EXCLUDE CURRENT ROW) FROM users
SELECT * FROM people ORDER BY id FETCH FIRST 2 ROWS WITH TIES
SELECT email FROM people UNION ALL SELECT memo FROM orders EXCEPT SELECT 'x' ORDER BY 1 LIMIT 3
(SELECT id FROM users) INTERSECT (SELECT id FROM people ORDER BY id)
SELECT EXISTS (SELECT FROM users WHERE id = 101), ARRAY(SELECT email FROM people ORDER BY id), (SELECT count(*) FROM users)
SELECT u.id IN (SELECT id FROM people), u.id = ANY (ARRAY[1,2]), u.id <> ALL (SELECT id FROM people) FROM users u WHERE id < 3
SELECT CASE WHEN u.email LIKE 'c%' THEN 'y' ELSE 'n' END, nullif(u.kind, 'calm'), greatest(u.id, 3) FROM users u WHERE id < 3
SELECT extract(year FROM born), born::text, to_char(born, 'YYYY'), age(born, born), date_trunc('month', born) FROM users WHERE id = 1
SELECT email COLLATE "C" < 'd', email ILIKE 'C%', email SIMILAR TO 'c%', email ~* 'C', overlay(email placing 'x' from 1) FROM people
SELECT pay + 1, round(pay), pay::int, pay BETWEEN 1 AND 2, pay BETWEEN SYMMETRIC 2 AND 1 FROM users WHERE id = 1
SELECT doc -> 'a', doc ->> 'a', doc #>> '{a}', json_typeof(doc), doc::jsonb ? 'a', doc::jsonb @> '{}' FROM users WHERE id = 1
SELECT tags[1], tags[1:2], array_length(tags, 1), cardinality(tags), 'a' = ANY (tags) FROM events WHERE id = 1
SELECT current_user, session_user, current_date IS NOT NULL, localtimestamp IS NOT NULL, current_schema, current_catalog IS NOT NULL
SELECT users.* FROM users, people WHERE users.id = people.id
SELECT upper(e.who) FROM events AS e (i, who) WHERE i = 1
SELECT a.email, b.email FROM people a CROSS JOIN LATERAL (SELECT email FROM people b WHERE b.id = a.id + 1) b
SELECT count(*) FROM people p LEFT JOIN LATERAL (SELECT * FROM orders o WHERE o.user_id = p.id LIMIT 1) l ON true
INSERT INTO people SELECT * FROM people ON CONFLICT DO NOTHING
INSERT INTO people AS t VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET email = excluded.email WHERE t.id > 0 RETURNING t.*
DELETE FROM people p USING orders o WHERE o.id = p.id RETURNING p.*, o.memo
UPDATE people SET id = id + 100 RETURNING people.id, to_jsonb(people)
INSERT INTO people (id, email) VALUES (70, 'a@b.c') RETURNING people
INSERT INTO people (id, email) VALUES (70, 'a@b.c') RETURNING id, email AS e, lower(email), (SELECT count(*) FROM orders)
DELETE FROM people RETURNING *, email || 'x' AS z
SELECT json_build_object('e', email, 'all', p) FROM people p WHERE id = 1
SELECT email FROM people WHERE (id, email) IN (SELECT id, memo FROM orders)
SELECT xmlelement(name x, xmlattributes(email AS e), email), xmlforest(email, id) FROM people WHERE id = 1
SELECT string_to_table(email, '*') FROM people WHERE id = 1
SELECT generate_series(1, id) FROM people WHERE id < 3
SELECT GREATEST(email, 'a'), LEAST(id, 2) FROM people
SELECT (SELECT p.email), (SELECT max(email) FROM people WHERE id > p.id) FROM people p
SELECT * FROM (SELECT * FROM people) AS x (a, b) WHERE b LIKE 'c%'
SELECT * FROM (people JOIN orders USING (id)) WHERE id < 3
SELECT * FROM people p(a, b) JOIN orders o(c) ON a = c WHERE a < 3
SELECT people.*, people.id + 1 AS n FROM people WHERE id = 1
SELECT email "Email", p.id AS "select" FROM people p WHERE id = 1
SELECT ALL id FROM people WHERE id = 1
SELECT FROM people
SELECT 1 WHERE EXISTS (TABLE people)
SELECT x.* FROM people p, XMLTABLE('/r' PASSING xmlelement(name r, p.email) COLUMNS v text PATH '.') x
SELECT x.v FROM users u, XMLTABLE('/r/i' PASSING xmlparse(content '<r><i>' || u.id || '</i></r>') COLUMNS n FOR ORDINALITY, v int PATH '.' DEFAULT 0 NOT NULL) x WHERE u.id < 3
SELECT x FROM people p, XMLTABLE('/r' PASSING xmlelement(name r, p.email) COLUMNS v text PATH '.') AS x(w) WHERE w LIKE 'c%'
UPDATE people SET id = id + 100 RETURNING people.id, to_jsonb(people)
UPDATE people AS p SET id = id + 100 RETURNING p, (p).email, to_jsonb(p.*), p.*
INSERT INTO people (id, email) VALUES (70, 'a@b.c') RETURNING people
DELETE FROM people RETURNING people AS x, row_to_json(people)->>'email', people IS NULL
WITH x AS (DELETE FROM people WHERE id = 1 RETURNING people AS p) SELECT (p).email, p FROM x
SELECT xmlconcat FROM (SELECT xmlconcat(email::xml) FROM people WHERE id > 1) x
UPDATE people AS p SET id = id + 100 RETURNING p, (p).email, to_jsonb(p.*), p.*
DELETE FROM people p RETURNING (p).*
-- since 16
SELECT json_object('a': email, 'c' VALUE id NULL ON NULL RETURNING text) FROM people
SELECT json_array(id, email NULL ON NULL), json_array(SELECT email FROM people ORDER BY id) FROM people
SELECT json_objectagg(id: email ABSENT ON NULL), json_arrayagg(email ORDER BY id) FROM people
SELECT email IS JSON, email IS NOT JSON OBJECT FROM people
SELECT count(*) FROM users WHERE note IS JSON
SELECT any_value(email), array_agg(email ORDER BY id) FROM people
SELECT system_user IS NULL, 0x1F, 1_000
-- since 17
SELECT json(doc::text WITH UNIQUE KEYS), json_scalar(id), json_serialize(doc RETURNING text) FROM users WHERE id < 3
SELECT json_value(doc::jsonb, '$.a' RETURNING int DEFAULT 3 ON EMPTY), json_query(doc::jsonb, '$'), json_exists(doc::jsonb, '$.a') FROM users WHERE id < 3
SELECT u.id, t.* FROM users u, JSON_TABLE(u.doc::jsonb, '$' PASSING u.id AS i COLUMNS (n FOR ORDINALITY, v int PATH '$.a' DEFAULT '7' ON EMPTY, e int EXISTS PATH '$.y', NESTED PATH '$.z[*]' COLUMNS (w int PATH '$'))) t WHERE t.v < 5 AND u.id < 4
MERGE INTO people p USING orders o ON p.id = o.id WHEN MATCHED THEN UPDATE SET email = o.memo WHEN NOT MATCHED THEN DO NOTHING RETURNING merge_action(), p.id, p.email, o.memo
MERGE INTO people p USING (SELECT id FROM orders WHERE id = 1) o ON p.id = o.id WHEN NOT MATCHED BY SOURCE THEN DELETE RETURNING p.*
MERGE INTO users p USING (SELECT id FROM orders WHERE id = 1) o ON p.id = o.id WHEN NOT MATCHED BY SOURCE THEN DELETE
MERGE INTO users p USING (SELECT id FROM orders WHERE id = 1) o ON p.id = o.id WHEN MATCHED AND CASE WHEN o.id > 1 THEN true END THEN DO NOTHING WHEN NOT MATCHED BY SOURCE AND p.note ~ '1' OR CASE WHEN p.id = 101 THEN true END THEN DELETE WHEN NOT MATCHED BY SOURCE THEN UPDATE SET note = 'gone'
-- since 18
UPDATE people SET email = 'x' WHERE id = 1 RETURNING old.email, new.email
UPDATE people SET email = 'x' WHERE id = 1 RETURNING WITH (OLD AS o, NEW AS n) o.email, n.email
UPDATE people SET email = 'x' WHERE id = 1 RETURNING old.*, new.*, people.*, *
UPDATE people p SET email = 'x' WHERE id = 1 RETURNING old, to_jsonb(new), lower(new.email), old.id + new.id, p
INSERT INTO people VALUES (1, 'q') ON CONFLICT (id) DO UPDATE SET email = excluded.email RETURNING old.email, new.email, email
DELETE FROM people WHERE id = 1 RETURNING old.email, new.email IS NULL
UPDATE people AS old SET email = 'x' WHERE id = 1 RETURNING old.email, new.email
UPDATE people SET email = 'x' FROM orders new WHERE people.id = 1 AND new.id = 1 RETURNING old.email, new.memo
UPDATE tree SET label = 'x' WHERE id = 1 RETURNING old.label, new.*
