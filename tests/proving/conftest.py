"""Proofs as users make them: by the command, in a folder with a module of flows and a world to change."""

import ctypes
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROVABLE = Path(__file__).with_name("provable.py")
PLANTED = Path(__file__).parents[1] / "planted.py"


_PR_CAPBSET_DROP = 24
_CAP_DAC_OVERRIDE = 1

_libc = ctypes.CDLL(None)


def _obey_modes():
    """Have the program that is started next obey modes of files, as all but root have to."""
    _libc.prctl(_PR_CAPBSET_DROP, _CAP_DAC_OVERRIDE, 0, 0, 0)


class Workshop:
    """A folder with the flows, the bugs to plant, a folder `world`, and one for temporary files."""

    def __init__(self, folder):
        self.folder = folder
        self.world = folder / "world"
        self.world.mkdir()
        self.temporary = folder / "temporary"
        self.temporary.mkdir()
        (self.world / "text").write_text("old")
        shutil.copy(PROVABLE, folder)
        shutil.copy(PLANTED, folder)

    def started(self, *words, planted=""):
        """`ebbtide prove`; returns the process."""
        return subprocess.Popen(
            [sys.executable, "-m", "ebbtide", "prove", "--flow-module", "provable", *map(str, words)],
            cwd=self.folder,
            env=os.environ | {"TMPDIR": str(self.temporary), "EBBTIDE_TEST_PLANTED": planted},
            preexec_fn=_obey_modes,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def prove(self, *words, planted=""):
        """The same; returns it when it has ended."""
        with self.started(*words, planted=planted) as process:
            out, words = process.communicate()
        return subprocess.CompletedProcess(process.args, process.returncode, out, words)

    def held_below(self, folder, pids):
        """The folders there in which these processes have files open."""
        found = set()
        for pid in pids:
            for entry in Path("/proc", str(pid), "fd").iterdir():
                path = Path(os.readlink(entry))
                if path.is_relative_to(folder):
                    found.add(Path(folder, path.relative_to(folder).parts[0]))
        assert found
        return found

    def proof(self, flow, *words, code, planted=""):
        """What a proof has found, as JSON, that keeps the world the same and ends with that code."""
        given = ("-p", f"folder={self.world}", "--same", self.world, "--yes", "--json", "--seed", 1)
        ended = self.prove(flow, *given, *words, planted=planted)
        assert ended.returncode == code, (ended.stdout, ended.stderr)
        return json.loads(ended.stdout)

    @property
    def there(self):
        """Everything in the world, with the content of files."""
        paths = sorted(self.world.rglob("*"))
        return {str(path.relative_to(self.world)): path.is_file() and path.read_text() for path in paths}


@pytest.fixture
def workshop(tmp_path):
    return Workshop(tmp_path)
