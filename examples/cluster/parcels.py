"""A flow whose effects one can look at: parcels put into a folder, and taken out again by the undo."""

from pathlib import Path

from taskflow.patterns.linear_flow import Flow

from ebbtide import CancelableTask, flow


class Deliver(CancelableTask):
    """Puts a parcel into the folder, which takes a moment; its undo takes the parcel away."""

    def execute(self, folder):
        self.sleep(0.2)
        self._parcel(folder).touch()

    def revert(self, folder, **_):
        self._parcel(folder).unlink(missing_ok=True)

    def _parcel(self, folder):
        return Path(folder, f"{self.job.id}-{self.name}")


@flow("parcels")
def parcels(folder: str, count: int = 3):
    """Deliver some parcels, one after the other."""
    return Flow("parcels").add(*[Deliver(name=f"parcel-{number}") for number in range(1, count + 1)])
