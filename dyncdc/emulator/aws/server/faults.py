"""Scripted and random faults by operation, and the count of calls. Knows operations by name, not what they do.

A fault is one of

* ``null``: let the call through (a place holder in a script)
* ``"drop"``: cut the connection without an answer, same as ``{"drop": true}``
* ``{"sleep": 2.0}``: wait, then go on; combines with all others
* ``{"error": "ProvisionedThroughputExceededException", "message": "...", "status": 400}``
* ``{"cut": 1000}``: do it, send that many bytes of the answer's body, cut the connection
* ``{"hold": 2.0}``: do it, and answer only then: the answer is old when it comes; combines with all others but ``cut``
* ``{"empty": true}``: GetRecords: no record, same place. Scan: no item, and a key that is no item's to go on from

``"apply": true`` beside ``error`` or ``drop`` does the operation first: it has happened, and the client is not told.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

Spec = dict[str, Any]
_KEYS = {"sleep", "hold", "error", "message", "status", "drop", "cut", "empty", "apply"}


class BadFaultError(Exception):
    """The control API was given a fault that does not exist."""


@dataclass(slots=True)
class _Script:
    """Faults for the calls of one operation whose body contains ``contains``."""

    operation: str
    contains: bytes
    queue: deque[Spec | None] = field(default_factory=deque)
    probability: float = 0.0
    choices: list[Spec | None] = field(default_factory=list)
    random: random.Random = field(default_factory=random.Random)

    def matches(self, operation: str, body: bytes) -> bool:
        return self.operation in (operation, "*") and self.contains in body

    def take(self) -> Spec | None:
        if self.queue:
            return self.queue.popleft()
        if self.choices and self.random.random() < self.probability:
            return self.random.choice(self.choices)
        return None

    @property
    def spent(self) -> bool:
        return not self.queue and not self.choices


class Faults:
    """All scripts, oldest first; the first that matches a call decides about it."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.injected: Counter[str] = Counter()
        self._scripts: list[_Script] = []

    def add(self, request: Spec) -> None:
        """Add a script as the control API gives it.

        ``{"operation": "GetRecords", "faults": [...]}`` is a script for the next calls, in order;
        ``{"operation": ..., "faults": [...], "probability": 0.1, "seed": 7}`` draws one of them with that
        probability, for every call until cleared. ``"contains": "text"`` limits it to calls whose request has the text:
        a table, a shard id (iterators name their shard) or, for S3, the path. ``"operation": "*"`` is all operations.

        Raises:
            BadFaultError: a fault or key that does not exist.
        """
        unknown = set(request) - {"operation", "faults", "probability", "seed", "contains"}
        if unknown or "operation" not in request or not request.get("faults"):
            raise BadFaultError("a script takes operation, faults, and optionally probability, seed, contains")
        faults = [_checked(fault) for fault in request["faults"]]
        script = _Script(request["operation"], str(request.get("contains", "")).encode())
        if "probability" in request:
            script.probability = float(request["probability"])
            script.choices = faults
            script.random.seed(request.get("seed", 0))
        else:
            script.queue.extend(faults)
        self._scripts.append(script)

    def clear(self, operation: str | None = None) -> None:
        """Drop all scripts, or those of one operation."""
        self._scripts = [one for one in self._scripts if operation is not None and one.operation != operation]

    def pending(self) -> Spec:
        """Return how many scripted faults are left, by operation."""
        left: Counter[str] = Counter()
        for script in self._scripts:
            left[script.operation] += len(script.queue)
        return dict(left)

    def next(self, operation: str, body: bytes) -> Spec:
        """Count a call and return the fault for it, empty for none."""
        self.calls[operation] += 1
        for script in self._scripts:
            if script.matches(operation, body):
                fault = script.take()
                if script.spent:
                    self._scripts.remove(script)
                if fault:
                    self.injected[operation] += 1
                return fault or {}
        return {}


def _checked(fault: Any) -> Spec | None:
    if fault is None:
        return None
    if fault == "drop":
        return {"drop": True}
    if not isinstance(fault, dict) or not fault or set(fault) - _KEYS:
        raise BadFaultError(f"a fault is null, 'drop', or an object of: {', '.join(sorted(_KEYS))}")
    return fault
