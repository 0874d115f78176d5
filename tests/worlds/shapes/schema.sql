-- A small TPC-H-like warehouse and pgbench's four tables, a hundred times smaller than the smallest of both.
CREATE SCHEMA seed;
CREATE TABLE region (r_regionkey int PRIMARY KEY, r_name char(25) NOT NULL, r_comment varchar(152));
CREATE TABLE nation (n_nationkey int PRIMARY KEY, n_name char(25) NOT NULL, n_regionkey int NOT NULL REFERENCES region, n_comment varchar(152));
CREATE TABLE supplier (s_suppkey int PRIMARY KEY, s_name char(25) NOT NULL, s_address varchar(40) NOT NULL, s_nationkey int NOT NULL REFERENCES nation, s_phone char(15) NOT NULL, s_acctbal numeric(15,2) NOT NULL, s_comment varchar(101) NOT NULL);
CREATE TABLE part (p_partkey int PRIMARY KEY, p_name varchar(55) NOT NULL, p_mfgr char(25) NOT NULL, p_brand char(10) NOT NULL, p_type varchar(25) NOT NULL, p_size int NOT NULL, p_container char(10) NOT NULL, p_retailprice numeric(15,2) NOT NULL, p_comment varchar(23) NOT NULL);
CREATE TABLE partsupp (ps_partkey int NOT NULL REFERENCES part, ps_suppkey int NOT NULL REFERENCES supplier, ps_availqty int NOT NULL, ps_supplycost numeric(15,2) NOT NULL, ps_comment varchar(199) NOT NULL, PRIMARY KEY (ps_partkey, ps_suppkey));
CREATE TABLE customer (c_custkey int PRIMARY KEY, c_name varchar(25) NOT NULL, c_address varchar(40) NOT NULL, c_nationkey int NOT NULL REFERENCES nation, c_phone char(15) NOT NULL, c_acctbal numeric(15,2) NOT NULL, c_mktsegment char(10) NOT NULL, c_comment varchar(117) NOT NULL);
CREATE TABLE orders (o_orderkey int PRIMARY KEY, o_custkey int NOT NULL REFERENCES customer, o_orderstatus char(1) NOT NULL, o_totalprice numeric(15,2) NOT NULL, o_orderdate date NOT NULL, o_orderpriority char(15) NOT NULL, o_clerk char(15) NOT NULL, o_shippriority int NOT NULL, o_comment varchar(79) NOT NULL);
CREATE TABLE lineitem (l_orderkey int NOT NULL REFERENCES orders, l_partkey int NOT NULL, l_suppkey int NOT NULL, l_linenumber int NOT NULL, l_quantity numeric(15,2) NOT NULL, l_extendedprice numeric(15,2) NOT NULL, l_discount numeric(15,2) NOT NULL, l_tax numeric(15,2) NOT NULL, l_returnflag char(1) NOT NULL, l_linestatus char(1) NOT NULL, l_shipdate date NOT NULL, l_commitdate date NOT NULL, l_receiptdate date NOT NULL, l_shipinstruct char(25) NOT NULL, l_shipmode char(10) NOT NULL, l_comment varchar(44) NOT NULL, PRIMARY KEY (l_orderkey, l_linenumber));
CREATE TABLE pgbench_branches (bid int PRIMARY KEY, bbalance int, filler char(88));
CREATE TABLE pgbench_tellers (tid int PRIMARY KEY, bid int, tbalance int, filler char(84));
CREATE TABLE pgbench_accounts (aid int PRIMARY KEY, bid int, abalance int, filler char(84));
CREATE TABLE pgbench_history (tid int, bid int, aid int, delta int, mtime timestamp, filler char(22));
CREATE VIEW revenue AS
  SELECT l_suppkey AS supplier_no, sum(l_extendedprice * (1 - l_discount)) AS total_revenue
  FROM lineitem WHERE l_shipdate >= date '1996-01-01' AND l_shipdate < date '1996-01-01' + interval '3 months' GROUP BY l_suppkey;
DO $do$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'shapes_reader') THEN CREATE ROLE shapes_reader LOGIN; END IF;
END $do$;
CREATE PROCEDURE seed.reset(world text) LANGUAGE plpgsql AS $p$
BEGIN
  TRUNCATE region, nation, supplier, part, partsupp, customer, orders, lineitem, pgbench_branches, pgbench_tellers,
           pgbench_accounts, pgbench_history;
  INSERT INTO region SELECT i, (ARRAY['AFRICA','AMERICA','ASIA','EUROPE','MIDDLE EAST'])[i + 1], 'region ' || i FROM generate_series(0, 4) i;
  INSERT INTO nation SELECT i, (ARRAY['ALGERIA','ARGENTINA','BRAZIL','CANADA','EGYPT','ETHIOPIA','FRANCE','GERMANY','INDIA','INDONESIA','IRAN','IRAQ','JAPAN','JORDAN','KENYA','MOROCCO','MOZAMBIQUE','PERU','CHINA','ROMANIA','SAUDI ARABIA','VIETNAM','RUSSIA','UNITED KINGDOM','UNITED STATES'])[i + 1], i % 5, 'nation ' || i FROM generate_series(0, 24) i;
  INSERT INTO supplier SELECT i, 'Supplier#' || lpad(i::text, 9, '0'), 'street ' || i, i % 25, (10 + i % 25) || '-' || 100 + i || '-555', i * 37.5 - 400, CASE WHEN i % 7 = 0 THEN 'Customer x Complaints' ELSE 'fine ' || i END FROM generate_series(1, 50) i;
  INSERT INTO part SELECT i, (ARRAY['green','forest','blue','ivory'])[1 + i % 4] || ' part ' || i, 'Manufacturer#' || 1 + i % 5, 'Brand#' || 1 + i % 5 || 1 + i % 3, (ARRAY['STANDARD','SMALL','MEDIUM','PROMO','ECONOMY'])[1 + i % 5] || (ARRAY[' ANODIZED',' BURNISHED',' POLISHED'])[1 + i % 3] || (ARRAY[' BRASS',' STEEL',' COPPER'])[1 + i % 3], 1 + i % 50, (ARRAY['SM CASE','MED BOX','LG JAR','WRAP PACK'])[1 + i % 4], 900 + i, 'p ' || i FROM generate_series(1, 200) i;
  INSERT INTO partsupp SELECT p, 1 + (p + s * 13) % 50, 10 * s + p, 1.5 * s + p, 'ps ' || p FROM generate_series(1, 200) p, generate_series(0, 3) s ON CONFLICT DO NOTHING;
  INSERT INTO customer SELECT i, 'Customer#' || lpad(i::text, 9, '0'), 'avenue ' || i, i % 25, (10 + i % 25) || '-' || 200 + i || '-777', i * 11.25 - 300, (ARRAY['AUTOMOBILE','BUILDING','FURNITURE','MACHINERY'])[1 + i % 4], 'c ' || i FROM generate_series(1, 150) i;
  INSERT INTO orders SELECT i, 1 + (i * 7) % 150, (ARRAY['O','F','P'])[1 + i % 3], i * 100.5, date '1992-01-01' + (i * 5) % 2400, (ARRAY['1-URGENT','2-HIGH','3-MEDIUM','5-LOW'])[1 + i % 4], 'Clerk#' || i % 10, 0, CASE WHEN i % 9 = 0 THEN 'special packages requests' ELSE 'o ' || i END FROM generate_series(1, 500) i;
  INSERT INTO lineitem SELECT o, 1 + (o * 3 + l) % 200, 1 + (o + l) % 50, l, 1 + (o + l * 11) % 50, (o % 90 + 1) * 10.25 * l, (l % 10) / 100.0, (o % 8) / 100.0, (ARRAY['R','A','N'])[1 + o % 3], (ARRAY['O','F'])[1 + l % 2], date '1992-01-05' + (o * 5) % 2400 + l * 3, date '1992-02-01' + (o * 5) % 2400, date '1992-01-20' + (o * 5) % 2400 + l * 4, (ARRAY['DELIVER IN PERSON','NONE','COLLECT COD'])[1 + l % 3], (ARRAY['AIR','AIR REG','MAIL','SHIP','TRUCK'])[1 + (o + l) % 5], 'l ' || o FROM generate_series(1, 500) o, generate_series(1, 4) l;
  INSERT INTO pgbench_branches SELECT 1, 0, NULL;
  INSERT INTO pgbench_tellers SELECT i, 1, 0, NULL FROM generate_series(1, 10) i;
  INSERT INTO pgbench_accounts SELECT i, 1, i, '' FROM generate_series(1, 1000) i;
  ANALYZE region, nation, supplier, part, partsupp, customer, orders, lineitem, pgbench_accounts;
END $p$;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO shapes_reader;
CALL seed.reset('A');
