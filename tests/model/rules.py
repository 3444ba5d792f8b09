"""All that may happen next."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from tests.model.clients import client_moves
from tests.model.conductors import conductor_moves
from tests.model.runs import run_moves
from tests.model.state import Action, Shape, State
from tests.model.variants import Variant

__all__ = ["moves"]


def moves(state: State, shape: Shape, variant: Variant = Variant.RIGHT) -> Iterator[tuple[Action, State]]:
    """Every step from here, with the state after it."""
    return chain(
        client_moves(state, shape, variant),
        conductor_moves(state, shape, variant),
        run_moves(state, shape, variant),
    )
