"""``sluice sql``: SQL that a database's owner runs."""

from __future__ import annotations

import argparse

from sluice_cli.commands import Commands
from sluice_cli.exits import Exit

HASH_SQL = """\
-- Keyed hash for the mask `hash`. Run it as the owner of the database, in that database, once:
--   sluice sql hash | psql -d DATABASE
-- Running it again keeps the key. A new key (DELETE FROM sluice.hash_key, then run this again)
-- changes every hash; indexes on sluice.hash(...) must then be rebuilt.
BEGIN;
SET LOCAL search_path = pg_catalog, pg_temp;

CREATE SCHEMA IF NOT EXISTS sluice;
GRANT USAGE ON SCHEMA sluice TO PUBLIC;

-- The key is made here, and readable by the owner alone (and by superusers). Kept as the two blocks of HMAC.
CREATE TABLE IF NOT EXISTS sluice.hash_key (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    inner_block bytea NOT NULL CHECK (length(inner_block) = 64),
    outer_block bytea NOT NULL CHECK (length(outer_block) = 64)
);
REVOKE ALL ON TABLE sluice.hash_key FROM PUBLIC;
WITH k AS MATERIALIZED (
    SELECT sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()))
           || decode(repeat('00', 32), 'hex') AS block
), made AS (
    SELECT string_agg(set_byte('\\x00'::bytea, 0, get_byte(k.block, i) # 54), ''::bytea ORDER BY i) AS inner_block,
           string_agg(set_byte('\\x00'::bytea, 0, get_byte(k.block, i) # 92), ''::bytea ORDER BY i) AS outer_block
    FROM k, generate_series(0, 63) AS i
)
INSERT INTO sluice.hash_key (inner_block, outer_block)
SELECT made.inner_block, made.outer_block FROM made
WHERE NOT EXISTS (SELECT FROM sluice.hash_key);

-- HMAC-SHA-256 as 64 hexadecimal digits. IMMUTABLE, so that an index can hold it:
--   CREATE INDEX ON some_table (sluice.hash(some_column));
CREATE OR REPLACE FUNCTION sluice.hash(value text) RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    RETURN (SELECT encode(sha256(k.outer_block || sha256(k.inner_block || convert_to(value, 'UTF8'))), 'hex')
            FROM sluice.hash_key k);
END
$function$;
REVOKE ALL ON FUNCTION sluice.hash(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION sluice.hash(text) TO PUBLIC;
COMMIT;
"""


def add_parser(commands: Commands) -> None:
    """Add ``sql``."""
    sql = commands.add_parser("sql", help="print SQL for the database's owner")
    kinds = sql.add_subparsers(metavar="KIND", required=True)
    keyed = kinds.add_parser(
        "hash",
        help="the keyed hash function that the mask `hash` needs",
        description="Print the SQL that installs sluice.hash(text), the keyed hash that the mask `hash` uses. "
        "The key is made in the database and never leaves it.",
    )
    keyed.set_defaults(handler=_hash)


def _hash(_arguments: argparse.Namespace) -> int:
    print(HASH_SQL, end="")
    return Exit.OK
