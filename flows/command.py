"""command: run any program, with declared outputs.

It is not among the flows that are there by themselves: whoever may post it may run any program as the
conductor's user. Name this module as a flow module where that is wanted.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field
from taskflow import flow as taskflow_flow
from taskflow.patterns import linear_flow

from ebbtide.flows.folder import Folder
from ebbtide.flows.registry import flow
from ebbtide.flows.secret import Secret
from ebbtide.tasks.programs import RunProgram

__all__ = ["command"]

_VARIABLE = re.compile(r"(?!_?EBBTIDE_)[A-Za-z_][A-Za-z0-9_]*")


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("should hold no NUL character")
    return text


def _variable(name: str) -> str:
    if not _VARIABLE.fullmatch(name):
        raise ValueError("should be the name of a variable, of letters, digits and _, and none of EBBTIDE_")
    return name


Text = Annotated[str, AfterValidator(_without_nul)]
Variable = Annotated[str, AfterValidator(_variable)]
Output = Annotated[Text, Field(min_length=1)]
Code = Annotated[int, Field(ge=0, le=255)]


@flow("command", version=1, returns="ended")
def command(
    program: Annotated[list[Text], Field(min_length=1)],
    folder: Folder,
    outputs: Annotated[tuple[Output, ...], Field(max_length=1000)] = (),
    environment: dict[Variable, Text] | None = None,
    secret: Secret | None = None,
    secret_variable: Variable = "SECRET",
    good_codes: Annotated[tuple[Code, ...], Field(min_length=1)] = (0,),
    keeps: Annotated[int, Field(ge=0, le=100_000)] = 2000,
) -> taskflow_flow.Flow:
    """Run a program; a cancel ends it with all that it has started, and removes its outputs.

    Args:
        program: the program and its arguments, as a list; no shell reads them.
        folder: the folder in which it starts.
        outputs: the files and folders that it makes, relative to the folder; none may be there already.
        environment: variables for it, besides PATH, HOME and the like.
        secret: where a secret is kept that it gets in a variable.
        secret_variable: the name of that variable.
        good_codes: the exit codes that mean success.
        keeps: how many characters of what it printed last are kept in the result.
    """
    return linear_flow.Flow("command").add(RunProgram(good_codes, keeps, name="run"))
