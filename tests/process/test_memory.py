"""The memory limit of a process, and of those that it starts."""

import resource
import subprocess
import sys
import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of a module that TaskFlow's engines import
    from ebbtide.conductor.memory import too_little

_LIMITED = """
import subprocess, warnings
warnings.simplefilter("ignore")
from ebbtide.conductor.memory import limit_memory
limit_memory({mib})
try:
    bytearray(1 << 30)
    print("given")
except MemoryError:
    print("refused")
print(subprocess.run(["sh", "-c", "ulimit -d"], capture_output=True, text=True, check=True).stdout)
"""


def said(script: str) -> list[str]:
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()


def test_a_limit_holds_for_the_process_and_for_what_it_starts():
    assert said(_LIMITED.format(mib=512)) == ["refused", str(512 * 1024)]


def test_no_limit_changes_nothing():
    _, most = resource.getrlimit(resource.RLIMIT_DATA)

    assert said(_LIMITED.format(mib=0)) == [
        "given",
        "unlimited" if most == resource.RLIM_INFINITY else str(most // 1024),
    ]


def test_a_lower_limit_of_the_system_stays():
    script = "import resource\nresource.setrlimit(resource.RLIMIT_DATA, (400 << 20, 400 << 20))\n"

    assert said(script + _LIMITED.format(mib=512)) == ["refused", str(400 * 1024)]


def test_what_a_runner_needs_grows_with_its_threads_and_no_limit_is_always_enough():
    few, many = (int(too_little(1, threads).split("need ")[1].split()[0]) for threads in (1, 100))

    assert few < many
    assert (too_little(0, 1), too_little(few, 1)) == ("", "")
    assert too_little(few - 2, 1) != ""
