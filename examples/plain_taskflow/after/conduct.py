"""python conduct.py NAME: runs downloads until it is told to end (SIGTERM or Ctrl-C)."""

import logging
import signal
import sys

from places import REQUESTS, open_board, open_persistence
from taskflow.conductors import backends as conductors

from ebbtide.conductor.plain.engine import tell_jobs

logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
persistence = open_persistence()
board = open_board(persistence)
conductor = conductors.fetch(
    "nonblocking",
    sys.argv[1],
    board,
    persistence=persistence,
    max_simultaneous_jobs=2,
    engine="cancelable",
    engine_options={"requests": REQUESTS},
)
tell_jobs(conductor)
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda *_: conductor.stop())
conductor.run()
board.close()
