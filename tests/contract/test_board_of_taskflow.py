"""TaskFlow's own tests of a jobboard, on the board `sql`. None of them is left out or changed."""

import unittest

import pytest
from taskflow import test as taskflow_test
from taskflow.jobs import backends
from taskflow.tests.unit.jobs.base import BoardTestMixin

TESTS = sorted(name for name in dir(BoardTestMixin) if name.startswith("test_"))


def test_there_are_as_many_as_this_version_of_taskflow_has():
    assert len(TESTS) == 13


@pytest.mark.filterwarnings("default::DeprecationWarning")  # of what TaskFlow's tests import
@pytest.mark.parametrize("name", TESTS)
def test_taskflows_own(name, database):
    class Case(taskflow_test.TestCase, BoardTestMixin):
        def create_board(self, persistence=None):
            conf = {"board": "sql", "connection": database, "poll": 0.05}
            board = backends.fetch("test", conf, persistence=persistence)
            return board, board

        def setUp(self):
            super().setUp()
            self.client, self.board = self.create_board()
            self.addCleanup(self.board.close)

    result = unittest.TestResult()
    Case(name).run(result)

    assert [trace for _, trace in [*result.errors, *result.failures]] == []
    assert (result.testsRun, result.skipped) == (1, [])
