"""Jobs per second out of a short and a long queue, on each board; and on stock TaskFlow's.

A server is measured where it is named. Of each queue a bounded number of jobs is run, so that the long one
stays long: what is asked is whether its length costs anything.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import multiprocessing
import threading
import time
import uuid
import warnings
from multiprocessing.queues import Queue

import sqlalchemy as sa
from kazoo.client import KazooClient
from measuring import FLOWS, arguments, conductor, database, heading, scratch, table

from ebbtide.config import Settings
from ebbtide.flows import load_flows
from ebbtide.jobs import Poster, tables
from ebbtide.jobs.states import JobState
from ebbtide.jobs.store import Store

_LOOK_SECONDS = 0.02
_LONGEST_SECONDS = 300.0
_LATER_SECONDS = 86400.0


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--jobs", type=int, nargs="+", default=[1_000, 10_000], help="queued jobs")
    parser.add_argument("--measured", type=int, default=500, help="how many of them are run, and timed")
    parser.add_argument("--conductors", type=int, default=4)
    parser.add_argument(
        "--zookeeper-hosts", help="HOST:PORT of a server, for the board zookeeper and for stock"
    )
    parser.add_argument("--redis-url", help="redis://HOST:PORT/0, for the board redis")
    parser.add_argument(
        "--stock-seconds", type=float, default=60.0, help="stock TaskFlow is stopped after this"
    )
    options = parser.parse_args()

    heading(options.database)
    chosen: dict[str, dict[str, str]] = {"none": {}}
    if options.zookeeper_hosts:
        chosen["zookeeper"] = {"zookeeper_hosts": options.zookeeper_hosts}
    if options.redis_url:
        chosen["redis"] = {"redis_url": options.redis_url}
    rows = []
    for board, named in chosen.items():
        rates = [backlog(options, board, named, jobs) for jobs in options.jobs]
        rows.append([f"ebbtide, board {board}", *(f"{rate:.1f}" for rate in rates)])
    if options.zookeeper_hosts:
        rates = [stock_backlog(options, jobs) for jobs in options.jobs]
        rows.append(["stock TaskFlow's board zookeeper", *(f"{rate:.1f}" for rate in rates)])
    head = ["jobs per second with so many waiting", *(f"{jobs:,}" for jobs in options.jobs)]
    table(f"{options.conductors} conductors", head, rows)


def backlog(options: argparse.Namespace, board: str, named: dict[str, str], jobs: int) -> float:
    """Jobs of one step per second, out of a queue of `jobs`."""
    name = f"measured-{uuid.uuid4().hex[:8]}"
    given = {"board": board, "redis_channel": name, "zookeeper_path": f"/{name}", **named}
    with scratch(options.folder) as place, database(options.database, place) as url:
        settings = Settings(database=url, **given)
        with Poster(registry=load_flows([FLOWS]), settings=settings) as poster:
            for _ in range(jobs):
                poster.post("measured.linear", delay_seconds=_LATER_SECONDS)
        with contextlib.ExitStack() as conductors, Store(url) as store:
            for _ in range(options.conductors):
                conductors.enter_context(conductor(url, 1, **given))
            # All conductors are there, and idle, when all jobs become due.
            with store.write() as connection:
                connection.execute(sa.update(tables.jobs).values(due_at=time.time()))
            return _rate(store, jobs, min(options.measured, jobs // 2))


def _rate(store: Store, jobs: int, measured: int) -> float:
    """Of so many jobs after the first ones, since those are waited for; of all, if that is over before."""
    pause = threading.Event()
    give_up = time.monotonic() + _LONGEST_SECONDS
    first, began = 0, time.perf_counter()
    while time.monotonic() < give_up:
        done, now = _completed(store), time.perf_counter()
        if done - first >= measured or done == jobs:
            return (done - first) / (now - began)
        if first == 0:
            first, began = done, now
        pause.wait(_LOOK_SECONDS)
    raise SystemExit(f"fewer than {measured} jobs were run in {_LONGEST_SECONDS:g} s")


def _completed(store: Store) -> int:
    query = sa.select(sa.func.count()).where(tables.jobs.c.state == JobState.COMPLETED.value)
    with store.read() as connection:
        return int(connection.scalar(query) or 0)


def stock_backlog(options: argparse.Namespace, jobs: int) -> float:
    """Jobs claimed and consumed per second by clients of a stock board, which run nothing."""
    path = f"/measured-{uuid.uuid4().hex[:8]}"
    _fill(options.zookeeper_hosts, path, jobs)
    context = multiprocessing.get_context("spawn")
    told: Queue[tuple[int, float, float]] = context.Queue()
    share = min(options.measured, jobs // 2) // options.conductors + 1
    clients = [
        context.Process(
            target=_consume, args=(options.zookeeper_hosts, path, share, options.stock_seconds, told)
        )
        for _ in range(options.conductors)
    ]
    for client in clients:
        client.start()
    results = [told.get(timeout=options.stock_seconds + _LONGEST_SECONDS) for _ in clients]
    for client in clients:
        client.join()
    seconds = max(ended for _, _, ended in results) - min(began for _, began, _ in results)
    return sum(done for done, _, _ in results) / seconds


def _fill(hosts: str, path: str, jobs: int) -> None:
    """Post as TaskFlow does, but past it: by itself it would take hours for the last ones."""
    client = KazooClient(hosts=hosts)
    client.start()
    client.ensure_path(f"{path}/stock")
    for first in range(0, jobs, 200):
        posted = [
            client.create_async(
                f"{path}/stock/job",
                json.dumps({"uuid": str(uuid.uuid4()), "name": str(number), "details": {}}).encode(),
                sequence=True,
            )
            for number in range(first, min(jobs, first + 200))
        ]
        for answer in posted:
            answer.get(timeout=30)
    client.stop()
    client.close()


def _consume(
    hosts: str, path: str, share: int, seconds: float, told: Queue[tuple[int, float, float]]
) -> None:
    """One client: what a stock conductor does with the board, and no flow."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from taskflow import exceptions
        from taskflow.jobs.backends.impl_zookeeper import ZookeeperJobBoard
    logging.getLogger("taskflow").setLevel(logging.ERROR)  # it warns of each link that is closed
    who = uuid.uuid4().hex
    client = KazooClient(hosts=hosts)
    board = ZookeeperJobBoard(who, {"path": f"{path}/stock", "check_compatible": False}, client=client)
    board.connect()
    done, began = 0, time.time()
    give_up = began + seconds
    while done < share and time.time() < give_up:
        for job in board.iterjobs(only_unclaimed=True, ensure_fresh=True):
            if done >= share or time.time() >= give_up:
                break
            try:
                board.claim(job, who)
                board.consume(job, who)
            except (exceptions.UnclaimableJob, exceptions.NotFound):
                continue
            done += 1
    told.put((done, began, time.time()))
    client.stop()
    client.close()
    board.close()


if __name__ == "__main__":
    main()
