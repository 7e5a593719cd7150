"""``dyncdc init``: a configuration for one table, proposed from what is there. Changes nothing."""

from __future__ import annotations

from .document import comment_lines
from .propose import Asked, Proposal, propose

__all__ = ["Asked", "Proposal", "comment_lines", "propose"]
