"""Everything breaks at random while clients post, cancel, retry, unpark and watch; then a checker decides.

EBBTIDE_TEST_CHAOS_SECONDS says for how long, a minute for each store as a rule; EBBTIDE_TEST_SEED repeats a
schedule: the same events and the same calls in the same orders. When each happens is never quite the same.

Promises: P1, P2, P3, P4, P5, P6, P7, P8, P9, P10, P13.
"""

import os
from pathlib import Path

import pytest

from tests.chaos import schedule
from tests.chaos.conftest import REST_SECONDS, SECONDS
from tests.chaos.endurance import endure
from tests.chaos.nemesis import BEYOND_LEASE, Nemesis
from tests.chaos.report import network_report, write_part

# With partitions alone it is short as a rule; a file for the report may be named as in test_cancels.
PARTITION_SECONDS = float(os.environ.get("EBBTIDE_TEST_CHAOS_SECONDS", "20"))
REPORT = os.environ.get("EBBTIDE_TEST_CHAOS_REPORT")


@pytest.mark.timeout(SECONDS + REST_SECONDS + 240)
def test_whatever_breaks_no_promise_does(chaos, disk, server, wires, store_kind, seed, again):
    nemesis = Nemesis(chaos, chaos.recorder, disk, server, wires)
    url = wires[-1].url(chaos.database) if wires else chaos.database
    faults = schedule.faults(store_kind, BEYOND_LEASE)

    endured = endure(chaos, nemesis, faults, SECONDS, url=url, seed=seed, again=again)

    assert chaos.left() == []
    print(endured)


@pytest.mark.postgresql_only("nothing lies between a program and its file")
@pytest.mark.timeout(PARTITION_SECONDS + REST_SECONDS + 240)
def test_whichever_wire_is_pulled_no_promise_breaks(
    chaos, disk, server, network, network_zookeeper, zookeeper_path, seed, again
):
    options = {"signal": "zookeeper", "board": "zookeeper"}
    options |= {"zookeeper_hosts": network_zookeeper.hosts, "zookeeper_path": zookeeper_path}
    nemesis = Nemesis(
        chaos, chaos.recorder, disk, server, network=network, zookeeper=network_zookeeper, **options
    )
    chaos.options |= options
    faults = schedule.faults_of_network(BEYOND_LEASE)

    endured = endure(chaos, nemesis, faults, PARTITION_SECONDS, seed=seed, again=again)

    assert chaos.left() == []
    print(endured)
    if REPORT is not None:
        write_part(Path(REPORT), "network", network_report(endured, seed=seed))
