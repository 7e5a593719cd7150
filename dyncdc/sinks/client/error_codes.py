"""What to do about each ClickHouse error code: one table. No message text decides, and none with values is repeated."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Collection, Mapping
from typing import Final

from asynch.errors import (
    ErrorCode,
    ServerException,
    UnexpectedPacketFromServerError,
    UnknownPacketFromServerError,
)

from dyncdc.errors import (
    AccessDeniedError,
    ConfigError,
    DyncdcError,
    FatalError,
    RefusedError,
    RejectedRowsError,
    RetryableError,
    TooLargeError,
)


class LoginRefused(AccessDeniedError):
    """ClickHouse does not accept the user, the password, the certificate or the database."""


class SchemaChangedError(RetryableError):
    """The table no longer has the columns of the mapping: read ``system.columns`` again and retry, reject nothing."""


class TableGoneError(FatalError):
    """The table does not exist."""


class RefusedStatementError(ConfigError):
    """ClickHouse refuses what a statement about tables says, and would again."""


class SettingRefusedError(AccessDeniedError):
    """The user may not set what a statement depends on. ``setting``: its name, "" when the server does not say."""

    def __init__(self, message: str, *, hint: str = "", setting: str = "") -> None:
        super().__init__(message, hint=hint)
        self.setting = setting


class UnknownCodeError(RefusedError):
    """A code that is not in the table below: counted under this class's name."""


NOT_ENOUGH_SPACE: Final = 243

_LOGIN: Final = {
    81: "UNKNOWN_DATABASE",
    192: "UNKNOWN_USER",
    193: "WRONG_PASSWORD",
    194: "REQUIRED_PASSWORD",
    195: "IP_ADDRESS_NOT_ALLOWED",
    516: "AUTHENTICATION_FAILED",
}

_DENIED: Final = {
    164: "READONLY",
    291: "DATABASE_ACCESS_DENIED",
    392: "QUERY_IS_PROHIBITED",
    497: "ACCESS_DENIED",
}

_FATAL: Final = {
    48: "NOT_IMPLEMENTED",
    50: "UNKNOWN_TYPE",
    62: "SYNTAX_ERROR",
    73: "UNKNOWN_FORMAT",
    115: "UNKNOWN_SETTING",
    344: "SUPPORT_IS_DISABLED",
    701: "CLUSTER_DOESNT_EXIST",
    774: "TABLE_IS_PERMANENTLY_READ_ONLY",
}

_SETTING: Final = {
    452: "SETTING_CONSTRAINT_VIOLATION",
    472: "READONLY_SETTING",
}

READONLY: Final = 164
UNKNOWN_SETTING: Final = 115
_OF_A_SETTING: Final = {READONLY, UNKNOWN_SETTING}
"""They may be about a setting, and then say which."""

_GONE: Final = {60: "UNKNOWN_TABLE"}

_SCHEMA: Final = {
    7: "INCORRECT_NUMBER_OF_COLUMNS",
    8: "THERE_IS_NO_COLUMN",
    10: "NOT_FOUND_COLUMN_IN_BLOCK",
    16: "NO_SUCH_COLUMN_IN_TABLE",
    20: "NUMBER_OF_COLUMNS_DOESNT_MATCH",
    47: "UNKNOWN_IDENTIFIER",
    122: "INCOMPATIBLE_COLUMNS",
}

_REJECTED: Final = {
    6: "CANNOT_PARSE_TEXT",
    19: "SIZE_OF_FIXED_STRING_DOESNT_MATCH",
    25: "CANNOT_PARSE_ESCAPE_SEQUENCE",
    26: "CANNOT_PARSE_QUOTED_STRING",
    27: "CANNOT_PARSE_INPUT_ASSERTION_FAILED",
    33: "CANNOT_READ_ALL_DATA",
    38: "CANNOT_PARSE_DATE",
    41: "CANNOT_PARSE_DATETIME",
    53: "TYPE_MISMATCH",
    69: "ARGUMENT_OUT_OF_BOUND",
    70: "CANNOT_CONVERT_TYPE",
    72: "CANNOT_PARSE_NUMBER",
    117: "INCORRECT_DATA",
    130: "CANNOT_READ_ARRAY_FROM_TEXT",
    131: "TOO_LARGE_STRING_SIZE",
    190: "SIZES_OF_ARRAYS_DONT_MATCH",
    321: "VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE",
    349: "CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN",
    376: "CANNOT_PARSE_UUID",
    407: "DECIMAL_OVERFLOW",
    441: "CANNOT_PARSE_DOMAIN_VALUE_FROM_STRING",
    467: "CANNOT_PARSE_BOOL",
    469: "VIOLATED_CONSTRAINT",
    563: "CANNOT_READ_MAP_FROM_TEXT",
    632: "UNEXPECTED_DATA_AFTER_PARSED_VALUE",
    675: "CANNOT_PARSE_IPV4",
    676: "CANNOT_PARSE_IPV6",
    691: "UNKNOWN_ELEMENT_OF_ENUM",
}

_DOUBTFUL: Final = {  # a function that chokes on a value answers these, and so does a failing server
    3: "UNEXPECTED_END_OF_FILE",
    32: "ATTEMPT_TO_READ_AFTER_EOF",
    49: "LOGICAL_ERROR",
    1001: "STD_EXCEPTION",
    1002: "UNKNOWN_EXCEPTION",
}

_LARGE: Final = {
    158: "TOO_MANY_ROWS",
    159: "TIMEOUT_EXCEEDED",
    160: "TOO_SLOW",
    241: "MEMORY_LIMIT_EXCEEDED",
    307: "TOO_MANY_BYTES",
    396: "TOO_MANY_ROWS_OR_BYTES",
}

_RETRYABLE: Final = {
    23: "CANNOT_READ_FROM_ISTREAM",
    24: "CANNOT_WRITE_TO_OSTREAM",
    40: "CHECKSUM_DOESNT_MATCH",
    74: "CANNOT_READ_FROM_FILE_DESCRIPTOR",
    75: "CANNOT_WRITE_TO_FILE_DESCRIPTOR",
    76: "CANNOT_OPEN_FILE",
    95: "CANNOT_READ_FROM_SOCKET",
    96: "CANNOT_WRITE_TO_SOCKET",
    173: "CANNOT_ALLOCATE_MEMORY",
    201: "QUOTA_EXCEEDED",
    202: "TOO_MANY_SIMULTANEOUS_QUERIES",
    203: "NO_FREE_CONNECTION",
    209: "SOCKET_TIMEOUT",
    210: "NETWORK_ERROR",
    218: "TABLE_IS_DROPPED",
    225: "NO_ZOOKEEPER",
    236: "ABORTED",
    242: "TABLE_IS_READ_ONLY",
    243: "NOT_ENOUGH_SPACE",
    244: "UNEXPECTED_ZOOKEEPER_ERROR",
    252: "TOO_MANY_PARTS",
    254: "NO_ACTIVE_REPLICAS",
    279: "ALL_CONNECTION_TRIES_FAILED",
    285: "TOO_FEW_LIVE_REPLICAS",
    286: "UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE",
    289: "REPLICA_IS_NOT_IN_QUORUM",
    319: "UNKNOWN_STATUS_OF_INSERT",
    341: "UNFINISHED",
    369: "ALL_REPLICAS_ARE_STALE",
    394: "QUERY_WAS_CANCELLED",
    416: "REPLICA_STATUS_CHANGED",
    425: "SYSTEM_ERROR",
    439: "CANNOT_SCHEDULE_TASK",
    473: "DEADLOCK_AVOIDED",
    499: "S3_ERROR",
    517: "CANNOT_ASSIGN_ALTER",
    677: "THREAD_WAS_CANCELED",
    700: "USER_SESSION_LIMIT_EXCEEDED",
    718: "TOO_SLOW_PARSING",
    733: "TABLE_IS_BEING_RESTARTED",
    735: "QUERY_WAS_CANCELLED_BY_CLIENT",
    745: "SERVER_OVERLOADED",
    749: "TCP_CONNECTION_LIMIT_REACHED",
    776: "RESOURCE_LIMIT_EXCEEDED",
    999: "KEEPER_EXCEPTION",
    1000: "POCO_EXCEPTION",
}

_REFUSED: Final = {
    15: "DUPLICATE_COLUMN",
    36: "BAD_ARGUMENTS",
    42: "NUMBER_OF_ARGUMENTS_DOESNT_MATCH",
    43: "ILLEGAL_TYPE_OF_ARGUMENT",
    50: "UNKNOWN_TYPE",
    62: "SYNTAX_ERROR",
    44: "ILLEGAL_COLUMN",
    46: "UNKNOWN_FUNCTION",
    80: "INCORRECT_QUERY",
    455: "SUSPICIOUS_TYPE_FOR_LOW_CARDINALITY",
}
"""Of a statement that makes or alters a table; anywhere else these tell nothing."""

NAMES: Final[Mapping[int, str]] = (
    _LOGIN | _DENIED | _FATAL | _SETTING | _GONE | _SCHEMA | _REJECTED | _DOUBTFUL | _LARGE | _RETRYABLE
)

ACTIONS: Final[Mapping[int, type[DyncdcError]]] = {
    **dict.fromkeys(_LOGIN, LoginRefused),
    **dict.fromkeys(_DENIED, AccessDeniedError),
    **dict.fromkeys(_FATAL, FatalError),
    **dict.fromkeys(_SETTING, SettingRefusedError),
    **dict.fromkeys(_GONE, TableGoneError),
    **dict.fromkeys(_SCHEMA, SchemaChangedError),
    **dict.fromkeys(_REJECTED, RejectedRowsError),
    **dict.fromkeys(_DOUBTFUL, RefusedError),
    **dict.fromkeys(_LARGE, TooLargeError),
    **dict.fromkeys(_RETRYABLE, RetryableError),
}
"""Code to the class that says what to do. A code that is missing here becomes UnknownCodeError."""

_HINTS: Final[Mapping[int, str]] = {
    **dict.fromkeys(
        _LOGIN,
        "check the user in clickhouse.url and the password: password_file is read at each connect, all else at a start",
    ),
    **dict.fromkeys(_SCHEMA, "give the table its columns back, or restart dyncdc to read the present ones"),
    60: "run `dyncdc ddl --apply`, or restart: run creates what is missing",
    81: "create the database, or name another in clickhouse.url",
    241: "ClickHouse is short of memory; dyncdc goes on as soon as it has some",
    242: "the table is read-only on this replica: look at system.replicas",
    243: "free disk space on the server",
    252: "too many parts: let merges catch up, or raise batch.max_age_seconds; of too many partitions, allow dyncdc"
    " max_partitions_per_insert_block = 0",
    **dict.fromkeys(
        (285, 286, 289, 319),
        "a replica is down or behind, and this waits for it: bring it back, or set clickhouse.insert_quorum to what"
        ' must have an insert (a number, or "off") and send SIGHUP',
    ),
    277: "the user's profile forces an index (force_data_skipping_indices): give it another",
    341: "the server goes on with it; dyncdc asks again",
    392: "the user's profile has allow_ddl = 0: give it another, or run `dyncdc ddl --apply` as an administrator",
    1001: "the server's log has more: it answers so where its disk is read-only or gone",
    497: "`dyncdc ddl` prints the grants that the user needs",
}

_CLIENT_CERTIFICATE: Final = re.compile(r"ALERT_(?:\w*CERTIFICATE\w*|UNKNOWN_CA|ACCESS_DENIED)$")
"""What a server's alert says about the certificate of the client. Source: RFC 8446, 6.2, in OpenSSL's spelling."""

_SHOW: Final = "set clickhouse.cert_file and key_file to a certificate in force, of a CA that the server trusts"
_REACH: Final = "check clickhouse.url, the network, and that the server runs"
_GRANT: Final = re.compile(r"have the grant (.{1,300}?)(?:\. |\.?$)", re.MULTILINE)
_SETTING_NAME: Final = re.compile(
    r"[Ss]etting '?(\w{1,100})'? (?:should|is neither)"
    r"|Cannot modify '(\w{1,100})' setting|Unknown setting '(\w{1,100})'"
)
_MISSING: Final = re.compile(r"[Tt]able '?([\w.`]{1,300}?)'? (?:does|of view '[^']{1,300}' does)")
_VIEW: Final = re.compile(r": while pushing to view ([\w.`]{1,300})\.?\s*$")
"""Both are names, never values: what follows the second is the end of the server's text."""
_COLUMN: Final = re.compile(r"\(while reading the value of key (.{1,200}?)\): While executing", re.DOTALL)
# The expression is the table's own; what follows it are values.
_CONSTRAINT: Final = re.compile(
    r"^.{0,60}Constraint (`[^`]{1,200}`) for table .{1,2000}? Expression: (.{1,2000}?)\. Column v", re.S
)
_BEHIND: Final = re.compile(r"Stack trace|: ?(?:In scope|While |while )|\(version |\. \([A-Z_]+\)")
SENTENCE_CHARS: Final = 300
_LITERAL: Final = re.compile(r"'(?:[^'\\]|\\.)*'")
_IDENTIFIER: Final = re.compile(r"`([^`]+)`|([A-Za-z_]\w*)")
_OTHER_NAMES: Final = {code: name for name, code in vars(ErrorCode).items() if isinstance(code, int)}


def translate(
    error: BaseException, doing: str, *, columns: Collection[str] = (), definition: bool = False
) -> DyncdcError:
    """Return our error for what asynch or the network raised. ``doing``: gerund, object, identity.

    Only the code, its name, the missing grant and a name among ``columns`` are taken from the server's text: the rest
    may hold values. ``definition``: the statement is about tables and types and holds none, so its sentence is shown.
    """
    if isinstance(error, ServerException) and isinstance(error.code, int):
        if definition:
            return _of_definition(error.code, str(error.message or ""), doing)
        return _by_code(error.code, str(error.message or ""), doing, columns)
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            hint = "set clickhouse.ca_file to the CA's certificate, and use the host name that the certificate names"
            return LoginRefused(f"{doing}: the server's certificate is not trusted ({cause.verify_message})", hint=hint)
        if isinstance(cause, ssl.SSLError) and _CLIENT_CERTIFICATE.search(cause.reason or ""):
            return LoginRefused(f"{doing}: the server refuses our certificate ({cause.reason})", hint=_SHOW)
        if isinstance(cause, ssl.SSLError):
            hint = "is this the TLS port, 9440? clickhouse:// is without TLS, clickhouses:// with it"
            return RetryableError(f"{doing}: TLS failed ({cause.reason})", hint=hint)
        if isinstance(cause, TimeoutError):  # the driver puts an error of its own around it
            return RetryableError(f"{doing}: no answer in time", hint=_REACH)
        cause = cause.__cause__
    if isinstance(error, UnexpectedPacketFromServerError | UnknownPacketFromServerError):
        hint = "is this the native port (9000, with TLS 9440) and not that of HTTP?"
        return RetryableError(f"{doing}: the answer is not ClickHouse's native protocol", hint=hint)
    return RetryableError(f"{doing}: the connection failed ({_root(error)})", hint=_REACH)


def _of_definition(code: int, text: str, doing: str) -> DyncdcError:
    found = _by_code(code, text, doing, ())
    said = _sentence(text)
    message = f"{found}: {said}" if said else str(found)
    refused = code in _REFUSED or isinstance(found, RejectedRowsError)
    error = (RefusedStatementError if refused else type(found))(message, hint=found.hint)
    error.code = code
    return error


def _sentence(text: str) -> str:
    """What the server says in words, on one line, without where it was and what stands behind it."""
    first = _BEHIND.split(text.strip().removeprefix("DB::Exception: "), maxsplit=1)[0]
    words = " ".join(first.split()).rstrip(".:, ")
    return words if len(words) <= SENTENCE_CHARS else f"{words[:SENTENCE_CHARS]}..."


def _by_code(code: int, text: str, doing: str, columns: Collection[str]) -> DyncdcError:
    error = _of_code(code, text, doing, columns)
    error.code = code
    return error


def _of_code(code: int, text: str, doing: str, columns: Collection[str]) -> DyncdcError:
    name = NAMES.get(code) or _OTHER_NAMES.get(code, "(an error of a newer version)")
    message = f"{doing}: ClickHouse answered {code} {name}"
    grant = _GRANT.search(text) if code == 497 else None
    if grant is not None:
        message += f", missing grant: {grant[1]}"
    missing = _MISSING.search(text) if code == 60 else None
    if missing is not None:
        message += f" {missing[1]}"
    view = _VIEW.search(text)
    if view is not None:
        message += f" while pushing to view {view[1]}"
    action, hint = ACTIONS.get(code, UnknownCodeError), _HINTS.get(code, "")
    if code in _SETTING or (code in _OF_A_SETTING and _SETTING_NAME.search(text)):
        return _setting_refused(code, message, text)
    if action is not RejectedRowsError:
        return action(message, hint=hint)
    constraint = _CONSTRAINT.search(text) if code == 469 else None
    if constraint is not None:
        message += f" {constraint[1]}"
        found = [quoted or plain for quoted, plain in _IDENTIFIER.findall(_LITERAL.sub("", constraint[2]))]
        column = ", ".join(dict.fromkeys(name for name in found if name in columns))
    else:
        column = next((name for name in _COLUMN.findall(text) if name in columns), "")
    return RejectedRowsError(f"{message} in column {column}" if column else message, hint=hint, column=column)


def _setting_refused(code: int, message: str, text: str) -> DyncdcError:
    found = _SETTING_NAME.search(text)
    if found is None:
        return SettingRefusedError(message)
    name = next(filter(None, found.groups()))
    hint = f"take {name} out of the constraints of the user's profile: dyncdc's statements depend on it"
    if code == READONLY:
        hint = f"the user's profile has readonly = 1, and dyncdc's statements depend on {name}: give it one without"
    if code == UNKNOWN_SETTING:
        return FatalError(f"{message} {name}", hint="this ClickHouse is too old for it")
    return SettingRefusedError(f"{message} of {name}", hint=hint, setting=name)


def _root(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno) if error.errno > 0 else str(error.strerror)
    return type(error).__name__
