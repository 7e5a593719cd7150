"""``dyncdc init``: a configuration for one table, proposed from what is there. Changes nothing."""

from __future__ import annotations

from .document import comment_lines
from .propose import InitRequest, Proposal, propose

__all__ = ["InitRequest", "Proposal", "comment_lines", "propose"]
