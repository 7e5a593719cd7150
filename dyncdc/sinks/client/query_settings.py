"""Settings that our statements depend on, sent with each of them: what a user's profile says must not change an answer.

A profile may hold anything, and most settings only make a query slower. Listed here is what is known to change the
answer of a statement of ours, or its error: found by going through ``system.settings`` of 26.9 by name, and by trying
some 400 of them one at a time. ``test_no_setting_of_a_profile_changes_what_is_read_or_written`` gives a user a profile
with all of these set otherwise at once, but for ``network_compression_method`` and ``additional_table_filters``, and
compares what tables of ours and a destination hold with what they hold for a usual user.

They are sent always, not looked up and compared first: a server never refuses a value that the session has already, and
a list that is sent cannot be out of date. What the server does not know it passes by.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

Settings = Mapping[str, object]

MAX_QUERY_BYTES: Final = 64 * 2**20
"""Of a statement without its data. A table's columns name their attributes in full: 64 KB each, at the worst."""

ALWAYS: Final[Settings] = {
    # Synchronous always, whatever the table says (before 26 its own async_insert outranks ours, and only what exceeds a
    # size is written at once); and no zstd, which is the server's default choice, from a client that reads lz4 only.
    "async_insert": 0,
    "async_insert_max_data_size": 1,
    "wait_for_async_insert": 1,
    "implicit_transaction": 0,
    "run_query_in_background": 0,
    # The statement is what it says, and its answer comes.
    "dialect": "clickhouse",
    "format": "",
    "input_format": "",
    "discard_query_data": 0,
    "use_query_cache": 0,
    # What is sent again under its token is dropped; a history has no other protection. A token
    # of the profile's would make one repeat of all that is inserted without one.
    "insert_deduplication_token": "",
    "insert_deduplicate": 1,
    "deduplicate_insert": "enable",
    "network_compression_method": "LZ4",
    # The driver reads neither logs nor types in binary.
    "send_logs_level": "none",
    "output_format_native_encode_types_in_binary_format": 0,
    # Rows that cannot be read are refused, not left out; a null is the default of a column that cannot hold it.
    "input_format_allow_errors_num": 0,
    "input_format_allow_errors_ratio": 0,
    "input_format_null_as_default": 1,
    "input_format_column_name_matching_mode": "match_case",
    "input_format_json_try_infer_numbers_from_strings": 0,
    "input_format_defaults_for_omitted_fields": 1,
    "input_format_force_null_for_omitted_fields": 0,
    "input_format_json_map_as_array_of_tuples": 0,
    "input_format_max_block_wait_ms": 0,  # an insert of the native protocol is refused with any other
    "type_json_skip_duplicated_paths": 0,
    "type_json_skip_invalid_typed_paths": 0,
}
"""With every statement, inserts of rows included."""

READING: Final[Settings] = {
    "extremes": 0,
    "limit": 0,
    "offset": 0,
    "page": 0,
    "select": "",
    "sort": "",
    "order": "",
    "filter": "",
    "implicit_table_at_top_level": "",
    "additional_result_filter": "",
    "additional_table_filters": "{}",
    # Deleted rows are gone, those of one key are one row, and an answer is made from what is there now.
    "final": 0,
    "apply_deleted_mask": 1,
    "apply_patch_parts": 1,
    # An index over versions or marks hides the row that wins; and only so can no index be forced.
    "use_skip_indexes": 0,
    "do_not_merge_across_partitions_select_final": 0,
    "optimize_move_to_prewhere_if_final": 0,
    "optimize_trivial_approximate_count_query": 0,
    "enable_parallel_replicas": 0,
    "skip_unavailable_shards": 0,
    "ignore_cold_parts_seconds": 0,
    "asterisk_include_alias_columns": 0,
    "asterisk_include_materialized_columns": 0,
    "asterisk_include_virtual_columns": 0,
    "aggregate_functions_null_for_empty": 0,
    "empty_result_for_aggregation_by_empty_set": 0,
    "group_by_use_nulls": 0,
    "join_default_strictness": "ALL",
    "join_use_nulls": 0,
    "transform_null_in": 0,
    "cast_keep_nullable": 0,
    "data_type_default_nullable": 0,
    "prefer_column_name_to_alias": 0,
    "enable_positional_arguments": 1,
    "force_primary_key": 0,
    "force_index_by_date": 0,
    "force_optimize_projection": 0,
    "force_optimize_projection_name": "",
    "enable_lightweight_delete": 1,
    "lightweight_delete_mode": "alter_update",
    "deduplicate_insert_select": "disable",
    "enforce_strict_identifier_format": 0,
    "fsync_metadata": 1,
    "session_timezone": "",
    # How the server prints definitions and documents.
    "show_create_query_identifier_quoting_rule": "when_necessary",
    "show_create_query_identifier_quoting_style": "Backticks",
    "show_table_uuid_in_table_create_query_if_not_nil": 0,
    "bool_true_representation": "true",
    "bool_false_representation": "false",
    "output_format_json_quote_64bit_integers": 0,
    "output_format_json_quote_64bit_floats": 0,
    "output_format_json_quote_decimals": 0,
    "output_format_json_map_as_array_of_tuples": 0,
    "output_format_json_named_tuples_as_objects": 1,
    # An answer that is cut short looks like a whole one.
    "result_overflow_mode": "throw",
    "read_overflow_mode": "throw",
    "read_overflow_mode_leaf": "throw",
    "group_by_overflow_mode": "throw",
    "sort_overflow_mode": "throw",
    "distinct_overflow_mode": "throw",
    "set_overflow_mode": "throw",
    "join_overflow_mode": "throw",
    "transfer_overflow_mode": "throw",
    "timeout_overflow_mode": "throw",
    "timeout_overflow_mode_leaf": "throw",
}
"""With every statement but an insert of rows: that goes through the user's materialized views, which see them too."""

LIMITS: Final[Settings] = {
    "max_query_size": MAX_QUERY_BYTES,
    # The server's own defaults: 0 is not "none" here.
    "max_parser_depth": 1000,
    "max_parser_backtracks": 1_000_000,
    "max_ast_depth": 1000,
    "max_ast_elements": 50_000,
    "max_expanded_ast_elements": 500_000,
    "max_subquery_depth": 100,
    "input_format_json_max_object_size": 512 * 2**20,
    # The client gives up a statement itself, and the server then ends it.
    "max_execution_time": 0,
    "max_execution_time_leaf": 0,
    "max_estimated_execution_time": 0,
    "min_execution_speed": 0,
    "min_execution_speed_bytes": 0,
    "max_columns_to_read": 0,
    "max_temporary_columns": 0,
    "max_temporary_non_const_columns": 0,
    "max_rows_to_read": 0,
    "max_bytes_to_read": 0,
    "max_rows_to_read_leaf": 0,
    "max_bytes_to_read_leaf": 0,
    "max_result_rows": 0,
    "max_result_bytes": 0,
    "max_rows_to_group_by": 0,
    "max_rows_to_sort": 0,
    "max_bytes_to_sort": 0,
    "max_rows_in_distinct": 0,
    "max_bytes_in_distinct": 0,
    "max_rows_in_set": 0,
    "max_bytes_in_set": 0,
    "max_rows_in_join": 0,
    "max_bytes_in_join": 0,
    "max_partitions_to_read": -1,
}
"""As ``READING``, where the user may change them: with a limit left as it is a statement fails and says why, and no
answer is wrong, so one that a constraint holds is not insisted on."""

WAIT_FOR_DELETES: Final[Settings] = {"lightweight_deletes_sync": 2, "mutations_sync": 2}
"""On all replicas: of two deletes the second must not come before the first."""

WAITING_FOR_CLUSTER: Final[Sequence[Settings]] = (
    {"distributed_ddl_task_timeout": 5, "distributed_ddl_output_mode": "null_status_on_timeout_only_active"},
    {"distributed_ddl_task_timeout": 5, "distributed_ddl_output_mode": "null_status_on_timeout"},
    {},
)
"""How long a statement about tables waits for the servers of a cluster, or of a Replicated database, best first.

Older servers do not know the first, and a profile may hold both. By default a server that is down is waited for for
three minutes, then the statement is an error, and said again it is one more task for that server.
"""

SETTING_NOT_TAKEN: Final = frozenset({36, 164, 452, 472})
"""BAD_ARGUMENTS, as an unknown value is answered; READONLY, SETTING_CONSTRAINT_VIOLATION, READONLY_SETTING."""

_LIMITS_OF_ROWS: Final = (
    "max_query_size",
    "max_parser_depth",
    "max_parser_backtracks",
    "max_ast_depth",
    "max_ast_elements",
    "max_expanded_ast_elements",
    "max_subquery_depth",
    "input_format_json_max_object_size",
    "max_columns_to_read",
    "max_temporary_columns",
    "max_temporary_non_const_columns",
)
"""Those that an insert runs into as well: each DEFAULT of a column that it leaves out is a temporary column."""

_ROWS: Final = {**ALWAYS, **{name: LIMITS[name] for name in _LIMITS_OF_ROWS}}


def with_required_settings(settings: Settings, *, rows: bool, refused: set[str]) -> dict[str, object]:
    """Return a statement's settings. ``rows``: it inserts rows that it carries; ``refused``: limits not ours to set."""
    ours = _ROWS if rows else {**ALWAYS, **READING, **LIMITS}
    return {**{name: value for name, value in ours.items() if name not in refused}, **settings}
