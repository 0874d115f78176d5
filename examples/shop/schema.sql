-- An invented shop: 20,000 customers, their cards, 100,000 orders in three regions. No row belongs to anybody.
CREATE ROLE shop_app LOGIN PASSWORD 'app-pw';
CREATE ROLE support_ro LOGIN PASSWORD 'support-pw';

CREATE TABLE public.users (
  id         int PRIMARY KEY,
  name       text NOT NULL,
  email      varchar(255) NOT NULL UNIQUE,
  ssn        char(11) NOT NULL,
  region     text NOT NULL,
  created_at timestamptz NOT NULL
);
CREATE TABLE public.cards (
  id      int PRIMARY KEY,
  user_id int NOT NULL REFERENCES public.users (id),
  pan     text NOT NULL,
  expires date NOT NULL
);
CREATE TABLE public.orders (
  id         int PRIMARY KEY,
  user_id    int NOT NULL REFERENCES public.users (id),
  region     text NOT NULL,
  amount     numeric(10,2) NOT NULL,
  ship_to    text NOT NULL,
  created_at timestamptz NOT NULL
);

INSERT INTO public.users
SELECT n,
       (ARRAY['Ada','Ben','Cleo','Dov','Edda','Finn','Gita','Hugo'])[1 + n % 8] || ' '
         || (ARRAY['Larch','Moss','Reed','Sand','Thorn'])[1 + n / 8 % 5],
       'customer' || n || '@' || (ARRAY['example.com','example.org','example.net'])[1 + n % 3],
       '9' || lpad((n * 37 % 100)::text, 2, '0') || '-' || lpad((n * 7 % 90 + 10)::text, 2, '0')
         || '-' || lpad((n * 7919 % 10000)::text, 4, '0'),
       (ARRAY['eu','us','asia'])[1 + n % 3],
       timestamptz '2024-01-01 00:00:00+00' + n * interval '11 minutes'
FROM generate_series(1, 20000) AS n;

INSERT INTO public.cards
SELECT n, n, '4000' || lpad((n * 104729::bigint % 1000000000000)::text, 12, '0'), date '2027-01-31' + n % 900
FROM generate_series(1, 20000) AS n;

INSERT INTO public.orders
SELECT n, u.id, u.region, (n * 31 % 50000) / 100.0, n % 300 || ' Invented Street',
       timestamptz '2025-01-01 00:00:00+00' + n * interval '4 minutes'
FROM generate_series(1, 100000) AS n JOIN public.users AS u ON u.id = 1 + n % 20000;

CREATE INDEX orders_user_id ON public.orders (user_id);
ALTER TABLE public.users OWNER TO shop_app;
ALTER TABLE public.cards OWNER TO shop_app;
ALTER TABLE public.orders OWNER TO shop_app;
GRANT SELECT ON public.users, public.cards, public.orders TO support_ro;
GRANT UPDATE ON public.users TO support_ro;
ANALYZE;
