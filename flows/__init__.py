"""What a job is made of: the registry of flows, and the flows that come with Ebbtide, one module each.

Names are loaded when they are first asked for: a program that only looks at jobs never loads pydantic
or TaskFlow for them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ebbtide.flows.definition import FlowDefinition
    from ebbtide.flows.policies import Limits, RetryPolicy
    from ebbtide.flows.registry import Registry, flow, load_flows
    from ebbtide.flows.savepoint import savepoint
    from ebbtide.flows.secret import Secret

__all__ = ["FlowDefinition", "Limits", "Registry", "RetryPolicy", "Secret", "flow", "load_flows", "savepoint"]

_HOMES = {
    "FlowDefinition": "ebbtide.flows.definition",
    "Limits": "ebbtide.flows.policies",
    "Registry": "ebbtide.flows.registry",
    "RetryPolicy": "ebbtide.flows.policies",
    "Secret": "ebbtide.flows.secret",
    "flow": "ebbtide.flows.registry",
    "load_flows": "ebbtide.flows.registry",
    "savepoint": "ebbtide.flows.savepoint",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ebbtide.flows' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value  # the next access does not come here
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
