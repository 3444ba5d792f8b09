"""What would be published: built from a copy of this tree, looked into, installed afresh, run."""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from configparser import ConfigParser
from email.parser import Parser
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

pytestmark = [pytest.mark.packaging, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
ROOMS = ("tasks", "flows", "jobs", "conductor", "api", "cli")
NOT_SOURCES = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "*.pyc")


def run(*command: str | Path, **environ: str) -> str:
    """Run outside the checkout, with nothing of it on the path unless `environ` puts it there."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "EBBTIDE_"))}
    done = subprocess.run(
        list(map(str, command)),
        cwd=Path(sys.executable).parent,
        env={**clean, **environ},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with sdist and wheel; the wheel is built from the sdist, hence without the links."""
    copy = tmp_path_factory.mktemp("source") / "ebbtide"
    shutil.copytree(ROOT, copy, symlinks=True, ignore=NOT_SOURCES)
    run(sys.executable, "-m", "build", "--outdir", copy / "dist", copy)
    return copy / "dist"


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (found,) = built.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def bin_folder(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The commands of a fresh environment with the wheel and what it asks for."""
    home = tmp_path_factory.mktemp("fresh")
    venv.create(home, with_pip=True)
    run(home / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", wheel)
    return home / "bin"


def described(wheel: Path, name: str) -> str:
    """The text of one file of the wheel's metadata."""
    archive = zipfile.ZipFile(wheel)
    (found,) = [member for member in archive.namelist() if member.endswith(f".dist-info/{name}")]
    return archive.read(found).decode()


def sources() -> set[str]:
    """Every file of the rooms and of the front door, by its path in the wheel."""
    found = {f"ebbtide/{path.name}" for path in (ROOT / "ebbtide").iterdir() if path.is_file()}
    for path in (ROOT / "ebbtide" / "testing").rglob("*.py"):
        found.add(path.relative_to(ROOT).as_posix())
    for room in ROOMS:
        paths = [path.relative_to(ROOT) for path in (ROOT / room).rglob("*") if path.is_file()]
        found |= {f"ebbtide/{path.as_posix()}" for path in paths if "__pycache__" not in path.parts}
    return found


def test_the_wheel_has_one_top_level_name_and_every_file_of_the_rooms(wheel):
    names = [name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name]

    assert {name.split("/")[0] for name in names} == {"ebbtide"}
    assert set(names) == sources()


def test_the_sdist_has_the_rooms_once_and_what_its_checks_need(built):
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}

    assert {"tox.ini", "pyproject.toml", "LICENSE", "etc/ebbtide.conf.sample", "tests/conftest.py"} <= names
    assert "examples/plain_taskflow/after/conduct.py" in names
    assert "tasks/__init__.py" in names
    assert "ebbtide/tasks/__init__.py" not in names


def test_the_metadata_says_what_a_user_must_know(wheel):
    metadata = Parser().parsestr(described(wheel, "METADATA"))
    entries = ConfigParser()
    entries.read_string(described(wheel, "entry_points.txt"))

    assert metadata["Name"] == "ebbtide"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert set(metadata.get_all("Provides-Extra", [])) == {"redis", "http", "api", "test", "all"}
    assert dict(entries["console_scripts"]) == {"ebbtide": "ebbtide.__main__:main"}
    assert dict(entries["ebbtide.flows"]) == {
        "agent": "ebbtide.flows.agent",
        "data-collection": "ebbtide.flows.data_collection",
        "download": "ebbtide.flows.download",
        "file-processing": "ebbtide.flows.file_processing",
    }
    assert dict(entries["taskflow.jobboards"]) == {"sql": "ebbtide.jobs.board.sql:SqlJobBoard"}
    assert dict(entries["taskflow.engines"]) == {
        "cancelable": "ebbtide.conductor.plain.engine:CancelableEngine"
    }


def test_the_extra_all_is_the_other_extras_together(wheel):
    asked = Parser().parsestr(described(wheel, "METADATA")).get_all("Requires-Dist", [])
    by_extra = {
        extra: {line.partition(";")[0] for line in asked if f'extra == "{extra}"' in line}
        for extra in ("redis", "http", "api", "test", "all")
    }

    assert by_extra["all"] == by_extra["redis"] | by_extra["http"] | by_extra["api"] | by_extra["test"]
    assert len(by_extra["all"]) > 5


def test_installed_afresh_the_command_runs_and_nothing_is_missing(bin_folder, wheel):
    number = wheel.name.split("-")[1]

    assert number in run(bin_folder / "ebbtide", "version")
    assert number in run(bin_folder / "python", "-m", "ebbtide", "version")
    assert "file-processing" in run(bin_folder / "ebbtide", "flows")
    run(bin_folder / "pip", "check")


# What is there for those who have installed an extra, or pytest, whose plug-in it is.
OF_EXTRAS = {
    "ebbtide.jobs.redisclient",
    *(f"ebbtide.jobs.{part}.redis" for part in ("boards", "plain", "signals")),
    "ebbtide.testing.proving.plugin",
}
# Of these a module may want the extra `api`.
OF_THE_API = ("ebbtide.api.",)


def test_installed_afresh_every_module_can_be_imported(bin_folder):
    modules = {
        name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for name in sources()
        # What alembic runs is no module to import, and __main__ would run the command.
        if name.endswith(".py") and "/migrations/" not in name and not name.endswith("__main__.py")
    }
    assert modules > OF_EXTRAS

    bare = sorted(name for name in modules - OF_EXTRAS if not name.startswith(OF_THE_API))
    imports = f"import {', '.join(bare)}"
    run(bin_folder / "python", "-W", "error::SyntaxWarning", "-c", imports)


def test_installed_afresh_a_signal_of_an_extra_says_what_to_install(bin_folder, tmp_path):
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "EBBTIDE_"))}
    options = {"EBBTIDE_SIGNAL": "redis", "EBBTIDE_DATABASE": f"sqlite:///{tmp_path / 'ebbtide.db'}"}

    ended = subprocess.run(
        [bin_folder / "ebbtide", "conductor"],
        cwd=tmp_path,
        env=clean | options,
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 2
    assert 'pip install "ebbtide[redis]"' in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_bare_checkout_works_through_its_links(bin_folder):
    code = "import ebbtide.cli, ebbtide.tasks; print(ebbtide.tasks.__file__)"

    shown = run(bin_folder / "python", "-c", code, PYTHONPATH=str(ROOT), PYTHONDONTWRITEBYTECODE="1")

    assert shown.strip() == str(ROOT / "ebbtide" / "tasks" / "__init__.py")


def test_installed_with_the_extra_the_page_is_served_with_its_styles(wheel, tmp_path):
    venv.create(tmp_path / "home", with_pip=True)
    bin_folder = tmp_path / "home" / "bin"
    run(bin_folder / "pip", "install", "--quiet", "--disable-pip-version-check", f"{wheel}[api]")
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "EBBTIDE_"))}
    serving = subprocess.Popen(
        [bin_folder / "ebbtide", "up", "--port", "0", "--json"],
        cwd=tmp_path,
        env=clean | {"EBBTIDE_DATABASE": f"sqlite:///{tmp_path / 'ebbtide.db'}"},
        stdout=subprocess.PIPE,
        text=True,
    )
    with serving:
        assert serving.stdout is not None
        try:
            url = json.loads(serving.stdout.readline())["api"]
            asked = Request(f"{url}/login", headers={"Accept": "text/html"})
            door = urlopen(asked, timeout=60).read().decode()
            (style,) = re.findall(r'rel="stylesheet" href="([^"]*)"', door)
            served = urlopen(f"{url}{style}", timeout=60).read()
        finally:
            serving.terminate()

    assert served == (ROOT / "api" / "page" / "static" / "ebbtide.css").read_bytes()
