"""A report in the background, as FastAPI does it: gone with the process, and nobody can call it off."""

import os
import time
from pathlib import Path

from fastapi import BackgroundTasks, FastAPI

app = FastAPI()
FOLDER = Path(os.environ.get("REPORTS", "."))


def write_report(name: str, pages: int) -> None:
    with (FOLDER / f"{name}.txt").open("w") as report:
        for page in range(pages):
            report.write(f"page {page}\n")
            report.flush()
            time.sleep(0.2)  # noqa: TID251  # stands for work


@app.post("/reports/{name}", status_code=202)
def order(name: str, background: BackgroundTasks, pages: int = 10) -> dict[str, str]:
    background.add_task(write_report, name, pages)
    return {"report": name}
