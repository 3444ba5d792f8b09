"""One verb for several jobs: each is answered on its own line, the worst answer is the exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from ebbtide.cli.exits import Exit, answer_word, worst
from ebbtide.cli.output import brief, emit_line, plain, say
from ebbtide.errors import EbbtideError

if TYPE_CHECKING:
    from ebbtide.jobs import Job

STDIN = "-"


@dataclass(frozen=True)
class Answer:
    """What one job was answered. `job` is the job as it is now, or None if it is gone."""

    job_id: str
    word: str
    words: str
    job: Job | None = None
    code: int = Exit.DONE

    def as_dict(self) -> dict[str, Any]:
        job = {"id": self.job_id} if self.job is None else self.job.as_dict()
        return {**job, "answer": self.word}


def each(given: Iterable[str], ask: Callable[[str], Answer], *, as_json: bool) -> int:
    """Ask for each job and print what it is answered, at once: a refusal does not stop the others."""
    return worst([_answer(job_id, ask, as_json) for job_id in given])


def ids(given: tuple[str, ...]) -> Iterator[str]:
    """The ids of the command line; `-` stands for those on stdin, one a line, each taken up as it comes."""
    for job_id in dict.fromkeys(given):
        if job_id != STDIN:
            yield job_id
            continue
        for line in sys.stdin:
            if line.strip():
                yield line.strip()


def _answer(job_id: str, ask: Callable[[str], Answer], as_json: bool) -> int:
    try:
        answer = ask(job_id)
    except EbbtideError as error:
        if as_json:
            emit_line({"id": job_id, "answer": answer_word(error), "message": str(error)})
        say(str(error))
        return error.exit_code
    if as_json:
        emit_line(answer.as_dict())
    else:
        click.echo(f"{plain(answer.job_id)}  {answer.word}  {brief(answer.words, 400)}".rstrip())
    return answer.code
