"""python post.py FOLDER PIECES: posts a download, and prints the uuids of its job and of its flow."""

import contextlib
import sys
from uuid import uuid4

from downloads import download
from places import open_board, open_persistence
from taskflow import engines
from taskflow.persistence import models

persistence = open_persistence()
book = models.LogBook("download")
flow = models.FlowDetail("download", uuid=str(uuid4()))
book.add(flow)
with contextlib.closing(persistence.get_connection()) as connection:
    connection.save_logbook(book)
engines.save_factory_details(flow, download, [], {}, backend=persistence)

store = {"folder": sys.argv[1], "pieces": int(sys.argv[2])}
with contextlib.closing(open_board(persistence)) as board:
    job = board.post("download", book, details={"flow_uuid": flow.uuid, "store": store})
    print(f"job {job.uuid} flow {flow.uuid}")
