"""A download: makes a folder, fetches the pieces into it, and says that it is complete."""

import os
import shutil
from pathlib import Path

from taskflow.patterns import linear_flow

from ebbtide.tasks import CancelableTask

PIECE_SECONDS = float(os.environ.get("PIECE_SECONDS", "1"))


class MakeFolder(CancelableTask):
    def execute(self, folder):
        Path(folder).mkdir(exist_ok=True)

    def revert(self, folder, **_):
        shutil.rmtree(folder, ignore_errors=True)


class Fetch(CancelableTask):
    def execute(self, folder, pieces):
        for number in range(pieces):
            self.sleep(PIECE_SECONDS)  # a cancel ends it: any checkpoint of the loop will do
            Path(folder, f"piece-{number}").write_text("fetched")

    def revert(self, folder, pieces, **_):
        for number in range(pieces):
            Path(folder, f"piece-{number}").unlink(missing_ok=True)


class Complete(CancelableTask):
    def execute(self, folder):
        Path(folder, "complete").touch()

    def revert(self, folder, **_):
        Path(folder, "complete").unlink(missing_ok=True)


def download():
    return linear_flow.Flow("download").add(MakeFolder(), Fetch(), Complete())
