"""A flow with a parameter of each kind."""

import datetime
import enum
from typing import Annotated

from pydantic import BaseModel, Field
from taskflow.patterns import linear_flow

from ebbtide.flows import Secret
from ebbtide.tasks import task


class Region(enum.Enum):
    NORTH = "north"
    SOUTH = "south"


class Size(BaseModel):
    width: int
    height: int = 1


@task
def work(title): ...


def every_kind(
    title: str,
    count: Annotated[int, Field(ge=1)],
    day: datetime.date = datetime.date(2026, 1, 31),
    ratio: float | None = None,
    dry: bool = False,
    region: Region = Region.NORTH,
    hosts: list[str] = ["a", "b"],  # noqa: B006  # a flow's default is copied
    sizes: list[int] = [],  # noqa: B006
    size: Size | None = None,
    password: Secret | None = None,
    greeting: str = "hello",
    note: str | None = None,
):
    """Do everything.

    Args:
        title: what it is called, <b>in short</b>.
    """
    return linear_flow.Flow("every-kind").add(work())
