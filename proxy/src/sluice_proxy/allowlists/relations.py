"""How the relations of pg_catalog and information_schema may be read in a restricted session.

Pure data. A column that is not named here is shown as it is, but in statistics; a relation that is neither allowed
nor denied by a pattern is denied.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

NULL = "null"
"""Shown as NULL (a constant of the type where the column is NOT NULL)."""
DEFINITION = "definition"
"""Text of a definition: its string literals are blanked."""
ESTIMATE = "estimate"
"""-1 or 0 unless the row's relation is known to be ungoverned: it counts rows or pages."""
PARTITION_BOUND = "partition_bound"
"""NULL unless the row's relation is a partition that is known, by columns that nothing holds for."""
OF_RELATION = "of_relation"
"""NULL unless the row belongs to a relation that nothing holds for, which its ``owner`` column names."""
OF_COLUMNS = "of_columns"
"""NULL unless the row belongs to a column that is shown, by its ``owner`` and attribute number columns."""
DEFAULT = "default"
"""As it is for the columns that are shown, by the ``names`` of schema, table and column; else as ``DEFINITION``."""


@dataclass(frozen=True, slots=True)
class CatalogAccess:
    """How one catalog relation may be read."""

    denied: bool = False
    columns: Mapping[str, str] = field(default_factory=dict[str, str])
    """What replaces a column, by its name: one of the constants of this module."""
    owner: str | None = None
    """The column that holds the oid of the relation a row belongs to."""
    numbers: str | None = None
    """The column that holds the attribute number or numbers a row belongs to."""
    names: tuple[str, str, str] | None = None
    """The columns that hold the schema, table and column that a row belongs to."""
    shown: frozenset[str] | None = None
    """Where it is set, every column but these is NULL: the rows are known anyway, what they count is not."""

    rows: tuple[str | tuple[str], ...] = ()
    """Condition on the rows shown, each column as a tuple of its name; empty: all."""

    def replaced(self, column: str) -> str | None:
        """Return what takes the place of a column; None when it is shown as it is."""
        if self.shown is not None:
            return None if column in self.shown else NULL
        return self.columns.get(column)


_DENIED = re.compile(
    r"""
    pg_catalog\.(
        pg_stat(io|s)?(_.*)? | pg_statistic | pg_statistic_ext_data | pg_stats.* | pg_authid | pg_shadow
      | pg_user_mapping | pg_largeobject | pg_hba_file_rules | pg_ident_file_mappings | pg_file_settings
      | pg_backend_memory_contexts | pg_shmem_allocations.* | pg_replication_.* | pg_config | pg_aios
      | pg_dsm_registry_allocations | pg_toast.*
    )
    """,
    re.VERBOSE,
)
_ALLOWED = re.compile(
    r"""
    information_schema\..*
    | pg_catalog\.pg_(
        aggregate | am | amop | amproc | attrdef | attribute | auth_members | available_extension_versions
      | available_extensions | cast | class | collation | constraint | conversion | cursors | database
      | db_role_setting | default_acl | depend | description | enum | event_trigger | extension
      | foreign_data_wrapper | foreign_server | foreign_table | group | index | indexes | inherits | init_privs
      | language | largeobject_metadata | matviews | namespace | opclass | operator | opfamily | parameter_acl
      | partitioned_table | policies | policy | prepared_statements | prepared_xacts | proc | publication
      | publication_namespace | publication_rel | publication_tables | range | rewrite | roles | rules | seclabel
      | seclabels | sequence | sequences | settings | shdepend | shdescription | shseclabel | stat_activity
      | statistic_ext | subscription | subscription_rel | tables | tablespace | timezone_abbrevs
      | timezone_names | transform | trigger | ts_config | ts_config_map | ts_dict | ts_parser | ts_template
      | type | user | user_mappings | views | wait_events
    )
    """,
    re.VERBOSE,
)

_REPLACED: Mapping[str, CatalogAccess] = {
    # What a session itself holds, but for what tells which rows it has met (SQL.md §7).
    "pg_catalog.pg_locks": CatalogAccess(
        shown=frozenset(
            ["locktype", "database", "relation", "pid", "mode", "granted", "fastpath", "waitstart"]
        ),
        rows=(
            ("pid",),
            " OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid() AND ",
            ("locktype",),
            " OPERATOR(pg_catalog.=) ANY (ARRAY['advisory','relation','virtualxid']) AND ",
            ("mode",),
            " OPERATOR(pg_catalog.<>) 'SIReadLock'",
        ),
    ),
    "pg_catalog.pg_class": CatalogAccess(
        columns={
            "reltuples": ESTIMATE,
            "relpages": ESTIMATE,
            "relallvisible": ESTIMATE,
            "relallfrozen": ESTIMATE,
            "relpartbound": PARTITION_BOUND,
        },
        owner="oid",
    ),
    "pg_catalog.pg_attribute": CatalogAccess(columns={"attmissingval": NULL}),
    "pg_catalog.pg_attrdef": CatalogAccess(
        columns={"adbin": OF_COLUMNS}, owner="adrelid", numbers="adnum"
    ),
    "pg_catalog.pg_constraint": CatalogAccess(columns={"conbin": OF_RELATION}, owner="conrelid"),
    "pg_catalog.pg_index": CatalogAccess(
        columns={"indexprs": OF_RELATION, "indpred": OF_RELATION}, owner="indrelid"
    ),
    "pg_catalog.pg_policy": CatalogAccess(
        columns={"polqual": OF_RELATION, "polwithcheck": OF_RELATION}, owner="polrelid"
    ),
    "pg_catalog.pg_partitioned_table": CatalogAccess(
        columns={"partexprs": OF_RELATION}, owner="partrelid"
    ),
    "pg_catalog.pg_proc": CatalogAccess(
        columns={"prosrc": NULL, "prosqlbody": NULL, "proargdefaults": NULL}
    ),
    "pg_catalog.pg_rewrite": CatalogAccess(columns={"ev_qual": NULL, "ev_action": NULL}),
    "pg_catalog.pg_trigger": CatalogAccess(columns={"tgqual": NULL, "tgargs": NULL}),
    "pg_catalog.pg_statistic_ext": CatalogAccess(columns={"stxexprs": NULL}),
    "pg_catalog.pg_publication_rel": CatalogAccess(columns={"prqual": NULL}),
    "pg_catalog.pg_publication_tables": CatalogAccess(columns={"rowfilter": DEFINITION}),
    "pg_catalog.pg_db_role_setting": CatalogAccess(columns={"setconfig": NULL}),
    "pg_catalog.pg_roles": CatalogAccess(columns={"rolconfig": NULL}),
    "pg_catalog.pg_user": CatalogAccess(columns={"useconfig": NULL}),
    "pg_catalog.pg_user_mappings": CatalogAccess(columns={"umoptions": NULL}),
    "pg_catalog.pg_foreign_server": CatalogAccess(columns={"srvoptions": NULL}),
    "pg_catalog.pg_subscription": CatalogAccess(columns={"subconninfo": NULL}),
    "pg_catalog.pg_sequences": CatalogAccess(columns={"last_value": NULL}),
    "pg_catalog.pg_prepared_statements": CatalogAccess(columns={"statement": NULL}),
    "pg_catalog.pg_cursors": CatalogAccess(columns={"statement": NULL}),
    "pg_catalog.pg_stat_activity": CatalogAccess(
        columns={"query": NULL, "query_id": NULL, "backend_xid": NULL, "backend_xmin": NULL}
    ),
    "pg_catalog.pg_prepared_xacts": CatalogAccess(columns={"transaction": NULL}),
    "pg_catalog.pg_indexes": CatalogAccess(columns={"indexdef": DEFINITION}),
    "pg_catalog.pg_views": CatalogAccess(columns={"definition": DEFINITION}),
    "pg_catalog.pg_matviews": CatalogAccess(columns={"definition": DEFINITION}),
    "pg_catalog.pg_rules": CatalogAccess(columns={"definition": DEFINITION}),
    "pg_catalog.pg_policies": CatalogAccess(columns={"qual": DEFINITION, "with_check": DEFINITION}),
    "information_schema.check_constraints": CatalogAccess(columns={"check_clause": DEFINITION}),
    "information_schema.columns": CatalogAccess(
        columns={"column_default": DEFAULT, "generation_expression": DEFAULT},
        names=("table_schema", "table_name", "column_name"),
    ),
    "information_schema.attributes": CatalogAccess(columns={"attribute_default": DEFINITION}),
    "information_schema.domains": CatalogAccess(columns={"domain_default": DEFINITION}),
    "information_schema.parameters": CatalogAccess(columns={"parameter_default": DEFINITION}),
    "information_schema.routines": CatalogAccess(columns={"routine_definition": NULL}),
    "information_schema.triggers": CatalogAccess(
        columns={"action_condition": DEFINITION, "action_statement": DEFINITION}
    ),
    "information_schema.views": CatalogAccess(columns={"view_definition": DEFINITION}),
    "information_schema.user_mapping_options": CatalogAccess(columns={"option_value": NULL}),
    "information_schema._pg_user_mappings": CatalogAccess(columns={"umoptions": NULL}),
    "information_schema.foreign_server_options": CatalogAccess(columns={"option_value": NULL}),
    "information_schema._pg_foreign_servers": CatalogAccess(
        columns={"foreign_server_options": NULL}
    ),
}

_AS_IT_IS = CatalogAccess()

_TABLE = frozenset({"relid", "schemaname", "relname"})
_COUNTING: tuple[tuple[str, frozenset[str]], ...] = (
    (r"pg_stat(io)?_(xact_)?(all|sys|user)_tables | pg_statio_(all|sys|user)_sequences", _TABLE),
    (r"pg_stat(io)?_(all|sys|user)_indexes", _TABLE | {"indexrelid", "indexrelname"}),
    (r"pg_stat_database(_conflicts)?", frozenset({"datid", "datname"})),
    (r"pg_stat_io", frozenset({"backend_type", "object", "context"})),
    (r"pg_stat_slru", frozenset({"name"})),
    (r"pg_stat_(archiver | bgwriter | checkpointer | wal)", frozenset()),
    (r"pg_stat_(ssl | gssapi)", frozenset({"pid", "ssl", "gss_authenticated", "encrypted"})),
)
"""Statistics whose rows are there whatever was counted, and the columns that say what the row is about. Those of
functions, progress and planner statistics are no such: that they have a row tells something.
"""


def access_of(qualified: str) -> CatalogAccess:
    """Return how a relation that the server has may be read."""
    replaced = _REPLACED.get(qualified)
    if replaced is not None:
        return replaced
    if (counting := _counting(qualified)) is not None:
        return counting
    if _DENIED.fullmatch(qualified) or not _ALLOWED.fullmatch(qualified):
        return CatalogAccess(denied=True)
    return _AS_IT_IS


def _counting(qualified: str) -> CatalogAccess | None:
    schema, _, name = qualified.partition(".")
    for pattern, shown in _COUNTING:
        if schema == "pg_catalog" and re.fullmatch(pattern, name, re.VERBOSE):
            return CatalogAccess(shown=shown)
    return None
