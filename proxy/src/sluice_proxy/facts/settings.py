"""Settings that a session under a policy may change. Everything else is refused."""

from __future__ import annotations

from sluice_proxy.facts.refusals import refused
from sluice_proxy.reports import ClientError

_HARMLESS = frozenset(
    [
        "application_name",
        "statement_timeout",
        "lock_timeout",
        "idle_in_transaction_session_timeout",
        "idle_session_timeout",
        "transaction_timeout",
        "timezone",
        "datestyle",
        "intervalstyle",
        "extra_float_digits",
        "bytea_output",
        "client_min_messages",
        "default_transaction_isolation",
        "default_transaction_read_only",
        "default_transaction_deferrable",
        "transaction_isolation",
        "transaction_read_only",
        "transaction_deferrable",
        "synchronous_commit",
        "work_mem",
        "maintenance_work_mem",
        "temp_buffers",
        "hash_mem_multiplier",
        "enable_seqscan",
        "enable_indexscan",
        "enable_indexonlyscan",
        "enable_bitmapscan",
        "enable_tidscan",
        "enable_sort",
        "enable_hashagg",
        "enable_hashjoin",
        "enable_mergejoin",
        "enable_nestloop",
        "enable_material",
        "enable_memoize",
        "enable_incremental_sort",
        "enable_async_append",
        "enable_distinct_reordering",
        "enable_group_by_reordering",
        "enable_parallel_append",
        "enable_presorted_aggregate",
        "enable_self_join_elimination",
        "enable_gathermerge",
        "enable_parallel_hash",
        "enable_partition_pruning",
        "enable_partitionwise_join",
        "enable_partitionwise_aggregate",
        "random_page_cost",
        "seq_page_cost",
        "cpu_tuple_cost",
        "cpu_index_tuple_cost",
        "cpu_operator_cost",
        "effective_cache_size",
        "effective_io_concurrency",
        "from_collapse_limit",
        "join_collapse_limit",
        "geqo",
        "geqo_effort",
        "geqo_generations",
        "geqo_pool_size",
        "geqo_seed",
        "geqo_selection_bias",
        "geqo_threshold",
        "jit",
        "jit_above_cost",
        "jit_inline_above_cost",
        "jit_optimize_above_cost",
        "max_parallel_workers_per_gather",
        "max_parallel_workers",
        "parallel_setup_cost",
        "parallel_tuple_cost",
        "min_parallel_table_scan_size",
        "min_parallel_index_scan_size",
        "plan_cache_mode",
        "constraint_exclusion",
        "default_statistics_target",
        "default_toast_compression",
        "maintenance_io_concurrency",
        "max_parallel_maintenance_workers",
        "parallel_leader_participation",
        "pg_trgm.similarity_threshold",
        "pg_trgm.strict_word_similarity_threshold",
        "pg_trgm.word_similarity_threshold",
        "cursor_tuple_fraction",
        "default_text_search_config",
        "recursive_worktable_factor",
        "lc_messages",
        "lc_monetary",
        "lc_numeric",
        "lc_time",
        "tcp_keepalives_idle",
        "tcp_keepalives_interval",
        "tcp_keepalives_count",
        "tcp_user_timeout",
        "client_connection_check_interval",
        "xmlbinary",
        "xmloption",
        "escape_string_warning",
        "seed",
        "vacuum_cost_delay",
        "quote_all_identifiers",
        "array_nulls",
        "restrict_nonsystem_relation_kind",
        "row_security",
        "check_function_bodies",
    ]
)
_ONLY: dict[str, frozenset[str]] = {
    "client_encoding": frozenset({"utf8", "utf-8", "unicode"}),
    "standard_conforming_strings": frozenset({"on", "true", "yes", "1"}),
    "client_min_messages": frozenset({"notice", "warning", "error"}),
    "synchronize_seqscans": frozenset({"on", "off", "true", "false", "yes", "no", "1", "0"}),
    "default_table_access_method": frozenset({"heap"}),
    "default_tablespace": frozenset({""}),
    "default_with_oids": frozenset({"off", "false", "no", "0"}),
    "temp_tablespaces": frozenset({""}),
    "xmlbinary": frozenset({"base64", "hex"}),
    # What an index finds is cut before a row filter is applied: how much is left tells of hidden rows.
    "gin_fuzzy_search_limit": frozenset({"0"}),
}
_BACK_ONLY = frozenset({"role", "session_authorization"})
"""May be given back, as DISCARD ALL does anyway: whoever has logged in is asked for in every statement's policy."""


def free_valued_names() -> list[str]:
    """Return the settings that may have any value, sorted."""
    return sorted(_HARMLESS - _ONLY.keys())


def free_valued(name: str) -> bool:
    """Say whether a session may give this setting any value at all."""
    return name.lower() in _HARMLESS and name.lower() not in _ONLY


def refused_to_tell(named: str) -> ClientError:
    """Return the error for a setting whose value a session may not be told."""
    return refused(
        f'permission denied to examine "{named}"',
        detail="Settings with a dot in their names may hold keys; those of files and commands tell of the server.",
        hint="Ask the database's owner for the value; current_setting with true as its second argument gives NULL.",
    )


def settings_allowed(name: str, value: str | None) -> str | None:
    """Say why a session may not set this; None when it may.

    Args:
        name: The setting, in any case.
        value: The value as text; None for RESET or TO DEFAULT.
    """
    folded = name.lower()
    if folded == "search_path":
        return None
    if folded in _ONLY:
        if value is None or value.strip("'\" ").lower() in _ONLY[folded]:
            return None
        return f'setting "{folded}" may only be {" or ".join(sorted(_ONLY[folded]))!s}'
    if folded in _HARMLESS:
        return None
    if folded in _BACK_ONLY and (value is None or (folded, value.lower()) == ("role", "none")):
        return None
    return f'setting "{folded}" is not one that a session under a policy may change'
