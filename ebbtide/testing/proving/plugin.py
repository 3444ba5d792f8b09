"""The pytest plug-in: a fixture `prove_flow`. Whoever does not use it loads nothing of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ebbtide.testing.proving.proof import Proof

__all__ = ["prove_flow"]


@pytest.fixture
def prove_flow() -> Callable[..., Proof]:
    """Proves a flow, and fails the test with its report when something is found; else returns the proof.

    def test_the_undo_of_my_flow(prove_flow, tmp_path):
        prove_flow("my-flow", {"folder": str(tmp_path)}, flow_modules=["myflows"], same=[tmp_path])

    All arguments are those of `ebbtide.testing.proving.prove_flow`.
    """
    from ebbtide.testing.proving import prove_flow as prove

    def proven(flow: str, *args: Any, **options: Any) -> Proof:
        proof = prove(flow, *args, **options)
        if not proof.holds:
            pytest.fail(proof.report(), pytrace=False)
        return proof

    return proven
