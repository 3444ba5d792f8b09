"""A ready-made task that asks a language model and streams its answer."""

from ebbtide.tasks.agents.ask import AskModel, TellAnswer
from ebbtide.tasks.agents.events import AnswerUnusable

__all__ = ["AnswerUnusable", "AskModel", "TellAnswer"]
