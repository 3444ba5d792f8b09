"""The crash prover: runs a flow of yours for real, kills it at every point, cancels it at every point.

    proof = prove_flow("copy-folder", {"source": "/tmp/a", "destination": "/tmp/b"}, same=["/tmp/b"])
    assert proof.holds, proof.report()

Names are loaded when they are first asked for.
"""

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ebbtide.testing.proving.proof import Covered, Proof
    from ebbtide.testing.proving.prove import ProofFailed, prove_flow
    from ebbtide.testing.proving.verdicts import TaskVerdict, Verdict

__all__ = ["Covered", "Proof", "ProofFailed", "TaskVerdict", "Verdict", "prove_flow"]

_HOMES = {
    "Covered": "proof",
    "Proof": "proof",
    "ProofFailed": "prove",
    "TaskVerdict": "verdicts",
    "Verdict": "verdicts",
    "prove_flow": "prove",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ebbtide.testing.proving' has no attribute {name!r}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a module that TaskFlow's engines import
        value = getattr(import_module(f"ebbtide.testing.proving.{_HOMES[name]}"), name)
    globals()[name] = value  # the next access does not come here
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
