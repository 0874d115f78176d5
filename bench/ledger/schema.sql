-- A million invented accounts with what an application keeps beside them. No row belongs to anybody.
CREATE ROLE desk LOGIN PASSWORD 'desk-pw';

CREATE TABLE users (
  id int PRIMARY KEY, tenant int NOT NULL, name text NOT NULL, email varchar(255) NOT NULL UNIQUE, phone text,
  region text NOT NULL, score int NOT NULL, note text, created_at timestamptz NOT NULL
);
CREATE TABLE orders (
  id int PRIMARY KEY, user_id int NOT NULL, state text NOT NULL, amount numeric(10,2) NOT NULL, ship_to text NOT NULL,
  created_at timestamptz NOT NULL
);
CREATE TABLE events (id bigint NOT NULL, at date NOT NULL, user_id int NOT NULL, kind text NOT NULL, ip text)
  PARTITION BY RANGE (at);
SELECT format('CREATE TABLE events_%s PARTITION OF events FOR VALUES FROM (%L) TO (%L)', m,
              date '2025-01-01' + make_interval(months => m - 1), date '2025-01-01' + make_interval(months => m))
FROM generate_series(1, 12) m \gexec
CREATE TABLE documents (id int PRIMARY KEY, tenant int NOT NULL, title text NOT NULL, body text NOT NULL);
CREATE TABLE jobs (id int PRIMARY KEY, state text NOT NULL, run_at timestamptz NOT NULL, secret text NOT NULL);

INSERT INTO users
SELECT n, 1 + n % 20, 'name' || (n * 7919::bigint % 1000003), 'user' || n || '@example.com', '+49 30 ' || 100000 + n % 900000,
       (ARRAY['eu', 'us', 'asia', 'africa'])[1 + n % 4], n * 31 % 1000, 'note ' || n % 1000,
       timestamptz '2020-01-01 00:00:00+00' + n * interval '2 minutes'
FROM generate_series(1, 1000000) n;
INSERT INTO orders
SELECT n, 1 + n * 17 % 1000000, (ARRAY['open', 'paid', 'sent', 'back'])[1 + n % 4], n * 13 % 100000 / 100.0,
       n % 300 || ' Invented Street', timestamptz '2024-01-01 00:00:00+00' + n * interval '3 minutes'
FROM generate_series(1, 300000) n;
INSERT INTO events
SELECT n, date '2025-01-01' + n % 365, 1 + n * 3 % 1000000, (ARRAY['in', 'out', 'fail'])[1 + n % 3], '10.0.0.' || n % 250
FROM generate_series(1, 365000) n;
INSERT INTO documents
SELECT n, 1 + n % 2, 'title ' || n, 'body ' || n FROM generate_series(1, 200000) n;
INSERT INTO jobs
SELECT n, (ARRAY['wait', 'done'])[1 + (n % 10 > 0)::int], timestamptz '2025-01-01 00:00:00+00' + n * interval '1 second', 's' || n
FROM generate_series(1, 50000) n;

CREATE INDEX users_name ON users (name text_pattern_ops);
CREATE INDEX users_score ON users (score, id);
CREATE INDEX users_created ON users (created_at, id);
CREATE INDEX orders_user ON orders (user_id);
CREATE INDEX events_at ON events (at);
CREATE INDEX documents_title ON documents (title text_pattern_ops);
CREATE INDEX jobs_waiting ON jobs (run_at) WHERE state = 'wait';
CREATE VIEW best_users AS SELECT id, name, email, region FROM users WHERE score > 500;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO desk;
VACUUM ANALYZE;
