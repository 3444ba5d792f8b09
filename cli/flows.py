"""`ebbtide flows`: what can be posted, and with which parameters."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from ebbtide.cli.exits import Exit
from ebbtide.cli.invocation import FlowName, Invocation, pass_invocation, shared_options
from ebbtide.cli.output import brief, columns, emit, plain, say, show, styled

if TYPE_CHECKING:
    from rich.text import Text

    from ebbtide.flows import FlowDefinition


@click.command()
@click.argument("flow", required=False, type=FlowName())
@shared_options
@pass_invocation
def flows(invocation: Invocation, flow: str | None) -> Exit:
    """List the flows that can be posted, with their parameters.

    With FLOW that one alone."""
    registry = invocation.registry()
    found = registry.definitions() if flow is None else [registry.get(flow)]
    if invocation.json:
        emit([_as_dict(definition) for definition in found])
        return Exit.DONE
    if not found:
        say("no flow is known; name modules of yours with --flow-module")
    for number, definition in enumerate(found):
        if number:
            click.echo()
        click.echo(f"{definition.key}  {plain(definition.doc)}".rstrip())
        rows = list(_parameter_rows(definition.schema()))
        if rows:
            show(columns(("  parameter", "type", "default", "meaning"), rows))
    return Exit.DONE


def _as_dict(definition: FlowDefinition) -> dict[str, Any]:
    return {
        "name": definition.name,
        "version": definition.version,
        "doc": definition.doc,
        "returns": definition.returns,
        "parameters": definition.schema(),
    }


def _parameter_rows(schema: Mapping[str, Any]) -> Iterator[list[Text | str]]:
    shared = schema.get("$defs", {})
    required = set(schema.get("required", ()))
    for name, about in schema.get("properties", {}).items():
        default = "(required)" if name in required else brief(json.dumps(about.get("default")), 40)
        meaning = brief(about.get("description", ""), 200)
        yield [styled(f"  {name}", "bold"), type_words(about, shared), default, meaning]


def type_words(schema: Any, shared: Mapping[str, Any]) -> str:
    """A JSON schema in a few words: "path", "list of string", "integer or null"."""
    if not isinstance(schema, dict):
        return "any"
    if "$ref" in schema:
        return type_words(shared.get(str(schema["$ref"]).rpartition("/")[2]), shared)
    for choice in ("anyOf", "oneOf"):
        if choice in schema:
            return " or ".join(dict.fromkeys(type_words(each, shared) for each in schema[choice]))
    if "enum" in schema:
        return " | ".join(json.dumps(value) for value in schema["enum"])
    kind = schema.get("format") or schema.get("type") or "any"
    if isinstance(kind, list):
        return " or ".join(kind)
    if kind == "array":
        items = type_words(schema["items"], shared) if "items" in schema else "any"
        return "list" if items == "any" else f"list of {items}"
    return str(kind)
