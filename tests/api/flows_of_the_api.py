"""Flows that are posted by their published schema."""

from taskflow.patterns import linear_flow

from ebbtide.flows import Secret
from ebbtide.tasks import task


@task(provides="total")
def add(a, b):
    return a + b


@task
def publish(token): ...


def add_two(a: int, b: int = 2, names: list[str] = [], note: str = ""):  # noqa: B006  # a flow's default is copied
    """Add two numbers."""
    return linear_flow.Flow("add").add(add())


def publish_it(token: Secret):
    """Publish something."""
    return linear_flow.Flow("publish").add(publish())
