"""Ctrl-C while the command is still loading, where Python would print a traceback or carry on."""

import os
import signal
import socket
import subprocess
import sys
import textwrap

import pytest

from ebbtide.interrupts import Raised, guard

# Sends this process SIGINT as soon as a module is asked for: at each run in the same place.
STRUCK = """
import os, signal, sys

class Struck:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            sys.meta_path.remove(self)
            {strike}

sys.meta_path.insert(0, Finder())
sys.argv = ["ebbtide", {verb!r}]
from ebbtide.__main__ import main
main()
"""


def struck(name, verb="version", strike="os.kill(os.getpid(), signal.SIGINT)", **how):
    program = textwrap.dedent(STRUCK).format(name=name, verb=verb, strike=strike)
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=50, **how
    )


@pytest.mark.parametrize(
    ("name", "verb"),
    [
        ("ebbtide.cli", "version"),
        ("click", "version"),
        ("ebbtide.cli.demo", "version"),
        ("sqlalchemy", "ls"),
        ("oslo_config", "ls"),
        ("taskflow", "demo"),
        ("ebbtide.conductor", "conductor"),
    ],
)
def test_ctrl_c_ends_a_command_that_is_loading_in_silence(name, verb):
    ended = struck(name, verb)

    assert (ended.returncode, ended.stdout, ended.stderr) == (-signal.SIGINT, "", "")


def test_ctrl_c_in_a_finaliser_ends_the_command_too():
    ended = struck("sqlalchemy", "ls", strike="Struck()")

    assert (ended.returncode, ended.stdout, ended.stderr) == (-signal.SIGINT, "", "")


def test_ctrl_c_ends_a_command_that_waits_for_a_server_which_says_nothing():
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"postgresql://u@127.0.0.1:{server.getsockname()[1]}/d?connect_timeout=0"
        environment = {**os.environ, "EBBTIDE_DATABASE": url}
        with subprocess.Popen([sys.executable, "-m", "ebbtide", "ls"], env=environment) as command:
            try:
                connection, _ = server.accept()
                with connection:
                    assert connection.recv(8)  # it waits for the answer to that from now on
                    command.send_signal(signal.SIGINT)
                    assert command.wait(timeout=50) == -signal.SIGINT
            finally:
                command.kill()


def test_a_shell_tells_an_interrupted_command_as_130():
    program = "from ebbtide.interrupts import guard; guard(); import os; os.kill(os.getpid(), 2)"
    shell = subprocess.run(
        ["bash", "-c", f"{sys.executable} -c '{program}'; echo $?"], capture_output=True, text=True
    )

    assert shell.stdout == "130\n"


def test_who_has_ctrl_c_ignored_is_not_interrupted():
    ended = struck("click", preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))

    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("ebbtide ")


def test_before_it_is_guarded_the_command_loads_next_to_nothing():
    program = "import os, signal, sys; before = set(sys.modules); import ebbtide.__main__, ebbtide.interrupts"
    program += "; print(sorted(set(sys.modules) - before))"

    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert ran.stdout.strip() == "['ebbtide', 'ebbtide.__main__', 'ebbtide.interrupts']"


def test_ctrl_c_is_raised_where_somebody_waits_to_hear_of_it():
    handler = signal.getsignal(signal.SIGINT)
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        guard()
        with pytest.raises(KeyboardInterrupt), Raised():
            os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGINT, handler)
