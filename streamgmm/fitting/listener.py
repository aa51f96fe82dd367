"""Who hears how a fit comes along: a progress bar, a user's callback."""

from __future__ import annotations

from typing import Protocol

from streamgmm.em.state import State


class Listener(Protocol):
    """Hears how a fit comes along. What it raises ends the fit."""

    def begin(self, phase: str) -> None:
        """Hear what the fit does from now on."""

    def update(self, state: State) -> object:
        """Hear where it stands after an iteration, once that is in the checkpoint; True ends the fit there."""


class Silence:
    """Says nothing."""

    def begin(self, phase: str) -> None:
        """Hear it."""

    def update(self, state: State) -> None:
        """Hear it."""
