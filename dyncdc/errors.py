"""The error tree: the class says what to do about an error, never its text. One line each; ``hint`` is the remedy."""

from __future__ import annotations


class DyncdcError(Exception):
    """Base of every error raised on purpose. ``code``: the number that a service answered, 0 where there is none."""

    code = 0

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class ConfigError(DyncdcError):
    """The user's configuration or usage is wrong: exit 2, a supervisor must not restart."""


class UnusableTableError(ConfigError):
    """One table can not be used as things stand in ClickHouse or AWS; the configuration itself may be right.

    The daemon goes on with its other tables and looks again. With no other table it is a ConfigError like any.
    """


class RetryableError(DyncdcError):
    """Transient: the same call may succeed later. Retried forever with full jitter; reading stops by itself."""


class AccessDeniedError(RetryableError):
    """A service outside refuses who we are, what we may do or what we ask it to trust, until someone fixes that there.

    The daemon retries without limit, as for any transient fault; a command fails at once.
    """


class RefusedError(RetryableError):
    """ClickHouse refuses a statement, and its code does not say whether for its rows or for something else.

    The same call again. Where an insert stays refused, some of its rows are sent alone: if others of the same table
    are taken meanwhile, the rows are to blame; if none is, nothing is known, and all of them wait.
    """


class TooLargeError(RefusedError):
    """ClickHouse refuses a statement for what it takes as a whole: a smaller one may pass. No row alone is to blame."""


class RejectedRowsError(DyncdcError):
    """ClickHouse refuses rows of this block and would again: split until the bad are alone, then dead-letter them.

    ``column``: the one that ClickHouse names, "" when it names none.
    """

    def __init__(self, message: str, *, hint: str = "", column: str = "") -> None:
        super().__init__(message, hint=hint)
        self.column = column


class PositionLostError(DyncdcError):
    """The position of a shard can never be read again (trimmed, shard gone, stream re-created): report the gap."""


class CorruptSnapshotError(DyncdcError):
    """A snapshot file or manifest is not what was exported: that file stops and is named, the rest goes on."""


class FatalError(DyncdcError):
    """Needs a person: stop with exit 1, the checkpoint stays where it is."""
