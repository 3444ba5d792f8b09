"""Where this program keeps its jobs and what its flows have done: the same for poster and conductors."""

import contextlib
import os

from taskflow.jobs import backends as boards
from taskflow.persistence import backends as stores

DATABASE = os.environ.get("DATABASE", "postgresql+psycopg2://localhost/downloads")
ZOOKEEPER = os.environ.get("ZOOKEEPER", "127.0.0.1:2181")
# BOARD=sql: no ZooKeeper is needed, the jobs are in a table of the database (Ebbtide brings that board).
BOARD = os.environ.get("BOARD", "zookeeper")


def open_persistence():
    persistence = stores.fetch({"connection": DATABASE})
    with contextlib.closing(persistence.get_connection()) as connection:
        connection.upgrade()
    return persistence


def open_board(persistence):
    conf = {"board": "zookeeper", "hosts": ZOOKEEPER, "path": "/downloads", "check_compatible": False}
    if BOARD == "sql":
        conf = {"board": "sql", "connection": DATABASE, "expiry": os.environ.get("EXPIRY", "30")}
    board = boards.fetch("downloads", conf, persistence=persistence)
    board.connect()
    return board
