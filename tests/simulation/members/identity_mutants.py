"""Bugs of epochs, tokens and processes that meet, planted one at a time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dyncdc.model.members import Member, Session
from dyncdc.pipeline.members.liveness import Sightings
from dyncdc.pipeline.members.sessions import SessionClaim
from dyncdc.pipeline.members.succession import Predecessor
from dyncdc.pipeline.session.session import _Session
from dyncdc.pipeline.writing.writer import Writer
from simulation.mutants.pipeline import Plant

from .fake_sessions import KeptClient


def epoch_kept_in_mind(patch: pytest.MonkeyPatch) -> None:
    """An epoch is known to others only once its session has saved a position."""

    async def take(self: SessionClaim, epoch: int) -> int:
        self.session = replace(self.session, epoch=epoch)
        return epoch

    patch.setattr(SessionClaim, "take", take)


def equal_epochs_go_on(patch: pytest.MonkeyPatch) -> None:
    """Only a greater epoch is a later process."""

    async def take(self: SessionClaim, epoch: int) -> int:
        seen: list[Session | Member] = [*await self._store.newest_sessions(), *await self._members.members()]
        self.session = replace(self.session, epoch=max([epoch, *(one.epoch + 1 for one in seen)]))
        await self._store.save_session(self.session)
        return self.session.epoch

    async def later_session(self: KeptClient, session: Session) -> Session | None:
        await self._call()
        newest = max(self._kept.sessions, key=lambda one: one.rank, default=session)
        return newest if newest.epoch > session.epoch else None

    patch.setattr(SessionClaim, "take", take)
    patch.setattr(KeptClient, "later_session", later_session)


def tokens_of_an_epoch(patch: pytest.MonkeyPatch) -> None:
    """A deduplication token is made of the epoch alone: rows of two sessions of one epoch look like repeats."""
    make = _Session._writer

    def writer(self: _Session) -> Writer:
        session, self._claim.session = self._claim.session, replace(self._claim.session, id="")
        try:
            return make(self)
        finally:
            self._claim.session = session

    patch.setattr(_Session, "_writer", writer)


def nobody_waited_for(patch: pytest.MonkeyPatch) -> None:
    """A process that starts takes the place of one that is at work."""

    async def wait(self: Predecessor, after: int, task: Any) -> bool:
        return False

    patch.setattr(Predecessor, "wait", wait)


def dates_believed(patch: pytest.MonkeyPatch) -> None:
    """A row that a clock has dated in the future is young until then."""

    def age(self: Sightings, one: Member, now: Any) -> float:
        return one.age_seconds

    patch.setattr(Sightings, "_age", age)


def frozen_at_a_start(patch: pytest.MonkeyPatch) -> None:
    """A process that was frozen between its look at the others and its epoch takes the place of who came meanwhile."""

    async def look(self: SessionClaim) -> None:
        self._begun = 2**63

    patch.setattr(SessionClaim, "look", look)


ALL: tuple[Plant, ...] = (
    epoch_kept_in_mind,
    equal_epochs_go_on,
    tokens_of_an_epoch,
    nobody_waited_for,
    dates_believed,
    frozen_at_a_start,
)
