"""Renews what is generated in the documentation: `python docs/generate.py`, or with --check only tells.

Each block stands between ``<!-- generated: NAME -->`` and ``<!-- end -->`` and comes from the code: states
and edges from their table, options from ebbtide.config, commands from what click knows of them.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from ebbtide.cli import command
from ebbtide.cli.exits import EXIT_CODES_HELP
from ebbtide.config import OPTIONS, Settings, variable
from ebbtide.faults import POINTS
from ebbtide.jobs import picture

ROOT = Path(__file__).resolve().parents[1]
PAGES = (ROOT / "README.md", *sorted(Path(__file__).parent.glob("*.md")))


def blocks() -> dict[str, str]:
    """Every generated block by name."""
    return {
        **picture.BLOCKS,
        "options": options(),
        "verbs": verbs(),
        "commands": "\n\n".join(commands()),
        "shared-options": option_table(command, own_options(command)),
        "exit-codes": exit_codes(),
        "citations": citations(),
        "fault-points": fault_points(),
    }


def table(*rows: tuple[str, ...]) -> str:
    """A Markdown table; the first row is its head."""
    ruled = [rows[0], ("---",) * len(rows[0]), *rows[1:]]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in ruled)


def options() -> str:
    """The options of ebbtide.config, a section each."""
    parts = []
    for option in OPTIONS:
        default = getattr(Settings, option.name, None)
        shown = f"Default: {_written(default)}. " if default is not None else ""
        facts = f"{shown}Environment: `{variable(option.name)}`. {_limits(option.type)}".strip()
        parts.append(f"### {option.name}\n\n{option.help}\n\n{facts}")
    return "\n\n".join(parts)


def verbs() -> str:
    """One row for each verb, in the order of the help."""
    rows = [(f"`ebbtide {usage(name, verb)}`", _first_sentence(verb)) for name, verb in _verbs(command)]
    return table(("command", "does"), *rows)


def commands() -> Iterator[str]:
    """A section for each verb: what it does, its arguments and its own options."""
    shared = option_names(command) - own_options(command)
    for name, verb in _verbs(command):
        parts = (f"### ebbtide {usage(name, verb)}", _folded(verb.help or ""), option_table(verb, shared))
        yield "\n\n".join(part for part in parts if part)


def option_names(verb: click.Command) -> frozenset[str]:
    return frozenset(name for option in verb.params for name in option.opts)


def own_options(group: click.Group) -> frozenset[str]:
    """The options of the group that its verbs do not take."""
    return option_names(group).difference(*(option_names(verb) for _, verb in _verbs(group)))


def option_table(verb: click.Command, leave_out: frozenset[str] = frozenset()) -> str:
    """The options of a verb; empty when it has none but those left out."""
    rows = [
        (" ".join(f"`{name}`" for name in option.opts) + _value(option), _meaning(option))
        for option in verb.params
        if isinstance(option, click.Option) and not leave_out & set(option.opts)
    ]
    return table(("option", "means"), *rows) if rows else ""


def exit_codes() -> str:
    """The list of the help as a table."""
    lines = EXIT_CODES_HELP.partition("Exit codes:\n")[2].splitlines()
    cut = [line.strip().partition(" ") for line in lines]
    codes: list[tuple[str, str]] = []
    for first, _, words in cut:
        if first.isdigit():
            codes.append((f"`{first}`", words.strip()))
        else:  # the line before goes on
            codes[-1] = (codes[-1][0], f"{codes[-1][1]} {first} {words}")
    return table(("exit code", "means"), *codes)


def fault_points() -> str:
    rows = ((f"`{name}`", when) for name, when in POINTS.items())
    return table(("point", "a process is there when"), *rows)


# These test what names promises, and not what the promises are of.
_NAMES_PROMISES = {"test_docs.py", "test_checker.py", "test_planted.py", "test_schedule.py"}


def citations() -> str:
    """For each promise the test files that cite its number; "P5 to P7" in one cites three."""
    tests = ROOT / "tests"
    citing: dict[int, list[str]] = {number: [] for number in range(1, 15)}
    for path in sorted(tests.rglob("test_*.py")):
        for number in cited(path.read_text(encoding="utf-8")) & citing.keys():
            if path.name not in _NAMES_PROMISES:
                citing[number].append(f"`{path.relative_to(tests).as_posix()}`")
    rows = [(f"P{number}", ", ".join(paths) or "none yet") for number, paths in citing.items()]
    return table(("promise", "tests, in `tests/`"), *rows)


def cited(text: str) -> set[int]:
    """The numbers of the promises that a text cites."""
    found = {int(number) for number in re.findall(r"\bP(\d{1,2})\b", text)}
    for first, last in re.findall(r"\bP(\d{1,2}) to P(\d{1,2})\b", text):
        found |= set(range(int(first), int(last) + 1))
    return found


def usage(name: str, verb: click.Command) -> str:
    """The verb with its arguments, as the help writes them."""
    words = [name]
    for argument in verb.params:
        if isinstance(argument, click.Argument):
            shown = argument.metavar or (argument.name or "").upper()
            words.append(shown if argument.required or shown.startswith("[") else f"[{shown}]")
    return " ".join(words)


def _verbs(group: click.Group, before: str = "") -> Iterator[tuple[str, click.Command]]:
    for name in group.list_commands(click.Context(group)):
        verb = group.commands[name]
        if isinstance(verb, click.Group):
            yield from _verbs(verb, f"{name} ")
        else:
            yield before + name, verb


def _folded(text: str) -> str:
    """The help's paragraphs, each on one line, as click folds them anew."""
    found = [" ".join(part.split()) for part in text.replace("\b", "").split("\n\n")]
    return "\n\n".join(part for part in found if part)


def _first_sentence(verb: click.Command) -> str:
    return _folded(verb.help or "").partition("\n")[0].partition(". ")[0].rstrip(".")


def _value(option: click.Option) -> str:
    if option.is_flag:
        return ""
    if isinstance(option.type, click.Choice):
        return " " + ", ".join(f"`{choice}`" for choice in option.type.choices)
    number = isinstance(option.type, (click.types.IntParamType, click.types.FloatParamType))
    return f" `{option.metavar or ('N' if number else option.type.name.upper())}`"


def _meaning(option: click.Option) -> str:
    words = " ".join((option.help or "").split())
    return f"{words} Default: {option.default}." if option.show_default else words


def _written(default: object) -> str:
    if isinstance(default, tuple):
        return f"`{','.join(default)}`" if default else "none"
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def _limits(kind: object) -> str:
    choices = getattr(kind, "choices", None)
    if choices:
        return f"One of {', '.join(f'`{choice}`' for choice in choices)}."
    least, most = getattr(kind, "min", None), getattr(kind, "max", None)
    return "" if least is None or most is None else f"From {least:,} to {most:,}."


def main(arguments: list[str]) -> int:
    """Renew the pages; with --check change none and return 1 when one is stale."""
    stale = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        renewed = picture.fill(text, blocks())
        if renewed != text:
            stale.append(page.name)
            if "--check" not in arguments:
                page.write_text(renewed, encoding="utf-8")
    for name in stale:
        print(f"{name}: {'stale' if '--check' in arguments else 'renewed'}")
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
