"""The same report as a job: it outlives the process, and whoever has ordered it can call it off."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from taskflow.patterns.linear_flow import Flow

from ebbtide import Service, flow, task

FOLDER = Path(os.environ.get("REPORTS", "."))


@task
def write_report(self, name, pages):
    """Write a report, from where an earlier run was cut off. Undo: delete it."""
    with (FOLDER / f"{name}.txt").open("a" if self.saved else "w") as report:
        for page in range(self.saved or 0, pages):
            report.write(f"page {page}\n")
            report.flush()
            self.checkpoint(page + 1)  # a cancel is delivered here; a run after a crash begins here
            self.sleep(0.2)


@write_report.undo
def delete_report(self, name, pages):
    (FOLDER / f"{name}.txt").unlink(missing_ok=True)


@flow("report")
def report(name: str, pages: int = 10):
    """Write a report."""
    return Flow("report").add(write_report())


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with Service(
        os.environ.get("DATABASE", "sqlite:///reports.db"), flows=[report]
    ) as app.state.service:
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/reports/{name}", status_code=202)
async def order(name: str, pages: int = 10) -> dict[str, str]:
    job = await app.state.service.post("report", {"name": name, "pages": pages})
    return {"report": name, "job": job.id}


@app.post("/reports/{name}/cancel/{job}", status_code=202)
async def call_off(name: str, job: str) -> dict[str, str]:
    answered = await app.state.service.cancel(job)
    return {"report": name, "state": answered.job.phase}
