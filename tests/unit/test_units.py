"""The units of systemd in etc/: what systemd says of them, and that they fit what they start."""

import configparser
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from ebbtide.cli import command
from ebbtide.cli.exits import Exit
from ebbtide.config import FILE_VARIABLE, Settings, variable
from tests.services.absence import missing

ETC = Path(__file__).parents[2] / "etc"
UNITS = sorted(ETC.glob("*.service"))
LONGEST_ENDING = Settings.grace_seconds + Settings.kill_after_seconds


class Unit(configparser.ConfigParser):
    """Names are told apart by case, and nothing is put in for a `%`."""

    def __init__(self, path: Path) -> None:
        super().__init__(interpolation=None, strict=False)
        self.optionxform = str  # type: ignore[assignment, method-assign]
        self.read(path)


@pytest.fixture
def service():
    return Unit(ETC / "ebbtide-conductor.service")["Service"]


def test_there_is_a_unit_for_whoever_serves():
    assert [path.stem for path in UNITS] == ["ebbtide-api", "ebbtide-conductor"]


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_systemd_finds_no_fault_in_a_unit(path, tmp_path):
    if shutil.which("systemd-analyze") is None:
        missing("no systemd-analyze here")
    text = path.read_text()
    # It looks whether the program is there.
    copy = tmp_path / path.name
    copy.write_text(re.sub(r"(?m)^ExecStart=\S+", "ExecStart=/bin/true", text))

    # Of other units that the machine may have it finds other faults.
    told = subprocess.run(
        ["systemd-analyze", "verify", "--recursive-errors=no", copy],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
    )

    assert [line for line in told.stderr.splitlines() if path.name in line] == []
    assert told.returncode == 0, told.stderr


def test_a_fault_in_a_unit_would_be_found(tmp_path):
    if shutil.which("systemd-analyze") is None:
        missing("no systemd-analyze here")
    unit = tmp_path / "wrong.service"
    unit.write_text("[Service]\nType=exec\nExecStart=/bin/true\nKillMode=gently\n")

    told = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)

    assert "wrong.service:4" in told.stderr


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_what_is_started_is_a_verb_with_options_that_it_has(path):
    service = Unit(path)["Service"]
    program, verb, *options = service["ExecStart"].split()

    assert (program.rpartition("/")[2], f"ebbtide-{verb}") == ("ebbtide", path.stem)
    known = {name for option in command.commands[verb].params for name in option.opts}
    assert set(options) <= known
    assert service["Environment"].startswith(f"{FILE_VARIABLE}=")


def test_only_the_conductor_is_told_to_stop_and_it_has_the_time_to_drain(service):
    """Runners that got the signal as well would be taken for dead ones."""
    assert service["KillMode"] == "mixed"
    assert "KillSignal" not in service  # SIGTERM, as systemd has it
    assert service["TimeoutStopSec"] == "2min"
    assert LONGEST_ENDING < 120


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_it_is_started_again_unless_an_option_is_wrong(path):
    unit = Unit(path)
    assert unit["Service"]["Restart"] == "always"
    assert unit["Service"]["RestartPreventExitStatus"] == str(int(Exit.USAGE))
    assert unit["Unit"]["StartLimitIntervalSec"] == "0"


def test_the_environment_file_names_options_that_there_are():
    assert {Unit(path)["Service"]["EnvironmentFile"] for path in UNITS} == {"-/etc/ebbtide/environment"}
    named = set(re.findall(r"EBBTIDE_[A-Z_]+", (ETC / "environment.sample").read_text()))

    assert named <= {variable(name) for name in Settings.__dataclass_fields__}
