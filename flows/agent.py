"""agent: ask a language model, and stream its answer."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field
from taskflow import flow as taskflow_flow
from taskflow.patterns import linear_flow

from ebbtide.flows.registry import flow
from ebbtide.flows.secret import Secret
from ebbtide.tasks.agents import AskModel, TellAnswer
from ebbtide.tasks.http import plain_url

__all__ = ["agent"]


@flow("agent", version=1, returns="answer")
def agent(
    prompt: Annotated[str, Field(min_length=1)],
    endpoint: Annotated[str, AfterValidator(plain_url)],
    model: Annotated[str, Field(min_length=1, max_length=200)],
    key: Secret | None = None,
    instructions: str | None = None,
    max_tokens: Annotated[int, Field(ge=1)] | None = None,
    temperature: Annotated[float, Field(ge=0, le=10)] | None = None,
    timeout_seconds: Annotated[float, Field(gt=0, le=86_400)] = 60.0,
    retries: Annotated[int, Field(ge=0, le=100)] = 3,
) -> taskflow_flow.Flow:
    """Ask a language model behind an OpenAI-compatible endpoint; its answer is streamed.

    Args:
        prompt: what is asked.
        endpoint: the address below which /chat/completions is, such as http://localhost:8000/v1.
        model: which one is asked.
        key: where the endpoint's key is kept.
        instructions: what the model is told before the prompt.
        max_tokens: how long the answer may be.
        temperature: how much chance there is in it.
        timeout_seconds: how long the endpoint may be silent.
        retries: how often it is asked again, as long as nothing has come.
    """
    return linear_flow.Flow("agent").add(AskModel(name="ask"), TellAnswer(name="tell"))
