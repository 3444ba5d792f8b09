"""data-collection against servers that break and stall; the database is looked at from outside."""

import contextlib
import sqlite3
import threading
from datetime import date

import pytest

from ebbtide.errors import FlowRefused, ParameterError
from ebbtide.flows import data_collection as _registers  # noqa: F401
from ebbtide.flows.exclusive import Exclusive
from ebbtide.flows.registry import registered
from ebbtide.tasks.bars import BarsUnreadable, CollectionFailed, Database, DatabaseUnusable, PrepareTables
from ebbtide.tasks.bars.bar import Bar, read_bars
from ebbtide.tasks.bars.batch import Batch
from ebbtide.tasks.bars.errors import BatchTaken
from ebbtide.tasks.bars.pace import Pace
from ebbtide.testing import at_checkpoint, at_message, at_return
from tests.services.flowrun import FlowRun
from tests.services.site import breaks_after, says, stalls, stalls_after

NAMES = ("daily_bars", "daily_bars_batches", "daily_bars_replaced")
SYMBOLS = ["600000", "000001", "300750"]
HEAD = "date,open,high,low,close,volume\n"
ROWS = "2024-01-02,1,2,0.5,1.5,100\n2024-01-03,1.5,2.1,1.4,2,200\n"


class Sqlite:
    def __init__(self, file):
        self.file = file
        self.url = f"sqlite:///{file}"

    def ask(self, statement):
        with contextlib.closing(sqlite3.connect(self.file)) as connection:
            rows = connection.execute(statement).fetchall()
            connection.commit()
        return [tuple(map(str, row)) for row in rows]

    def names(self):
        return [name for (name,) in self.ask("SELECT name FROM sqlite_master WHERE type = 'table'")]


class PostgreSql:
    def __init__(self, server, url):
        self.server, self.url = server, url

    def ask(self, statement):
        return [tuple(map(str, row)) for row in self.server.query(self.url, statement) or []]

    def names(self):
        return [name for (name,) in self.ask("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]


@pytest.fixture(params=["sqlite", "postgresql"])
def bars(request, tmp_path):
    """Where bars go: `ask` asks it past all our code."""
    if request.param == "sqlite":
        yield Sqlite(tmp_path / "bars.db")
        return
    server = request.getfixturevalue("postgresql")
    with server.database() as url:
        yield PostgreSql(server, url)


on_sqlite_alone = pytest.mark.parametrize("bars", ["sqlite"], indirect=True)


@pytest.fixture
def start(site, bars):
    def call(symbols=SYMBOLS, job="job", epoch=1, **params):
        given = {"source": site.url + "/{symbol}.csv", "symbols": list(symbols), "database": bars.url}
        return FlowRun("data-collection", given | {"per_second": 1000} | params, job=job, epoch=epoch)

    return call


def pages(site, *, rows=ROWS, symbols=SYMBOLS):
    for symbol in symbols:
        site.page(f"/{symbol}.csv", (HEAD + rows).encode(), content_type="text/csv")


def everything(bars):
    """All that our tables hold; None where one is missing."""
    known = bars.names() if not isinstance(bars, Sqlite) or bars.file.exists() else None
    if known is None:
        return "no file"
    return {name: sorted(bars.ask(f"SELECT * FROM {name}")) if name in known else None for name in NAMES}


def bar_rows(bars):
    return sorted(bars.ask("SELECT symbol, day, close, volume, batch FROM daily_bars"))


def test_bars_are_collected_and_taken_back(site, bars, start):
    pages(site)
    before = everything(bars)

    run = start().forward()

    assert bar_rows(bars) == sorted(
        (symbol, day, close, volume, "job-1")
        for symbol in SYMBOLS
        for day, close, volume in (("2024-01-02", "1.5", "100"), ("2024-01-03", "2.0", "200"))
    )
    assert run.result == {
        "batch": "job-1",
        "total_stocks": 3,
        "processed_stocks": 3,
        "failed_stocks": 0,
        "rows_added": 6,
        "rows_changed": 0,
        "failed": [],
    }
    told = [message for _, message in run.runs["collect"].reports]
    assert told == ["0 / 3 600000", "1 / 3 000001", "2 / 3 300750", "3 / 3"]
    run.back()
    assert everything(bars) == before


def test_only_what_is_new_or_other_is_written_and_restored(site, bars, start):
    pages(site)
    start(job="earlier").forward()
    bars.ask("UPDATE daily_bars SET batch = NULL WHERE symbol = '000001'")  # of somebody's own program
    before = everything(bars)
    pages(site, rows="2024-01-03,1.5,2.1,1.4,2.05,200\n2024-01-04,2,3,2,3,300\n" + ROWS.partition("\n")[0])

    run = start().forward()

    assert run.result["rows_added"] == 3
    assert run.result["rows_changed"] == 3
    days = [row for row in bar_rows(bars) if row[0] == "600000"]
    assert days == [
        ("600000", "2024-01-02", "1.5", "100", "earlier-1"),
        ("600000", "2024-01-03", "2.05", "200", "job-1"),
        ("600000", "2024-01-04", "3.0", "300", "job-1"),
    ]
    run.back()
    assert everything(bars) == before


@on_sqlite_alone
def test_days_outside_the_wanted_ones_are_left_out(site, bars, start):
    pages(site)

    start(start="2024-01-03", end="2024-01-31").forward()

    assert {row[1] for row in bar_rows(bars)} == {"2024-01-03"}


@on_sqlite_alone
def test_files_are_a_source_too(bars, start, tmp_path):
    (tmp_path / "600000.csv").write_text(HEAD + ROWS)

    run = start(symbols=["600000", "000001"], source=f"file://{tmp_path}/{{symbol}}.csv").forward()

    assert run.result["processed_stocks"] == 1
    assert "no such file or directory" in run.result["failed"][0]["error"]


# Sources that fail


def test_symbols_that_fail_are_listed_and_the_others_go_on(site, bars, start):
    pages(site)
    site.page("/bad.csv", (HEAD + "2024-01-02,1,2,0.5,,100\n").encode())
    site.next("/000001.csv", says(503), breaks_after(20))

    run = start(symbols=["gone", *SYMBOLS, "bad"]).forward()

    result = run.result
    assert (result["total_stocks"], result["processed_stocks"], result["failed_stocks"]) == (5, 3, 2)
    errors = {each["symbol"]: each["error"] for each in result["failed"]}
    assert errors["gone"].endswith(
        "answered 404 Not Found (no such page): mend the address or the token, then retry"
    )
    assert errors["bad"].endswith("line 2 has '' for its close: mend it, then post its symbol again")
    assert {row[0] for row in bar_rows(bars)} == set(SYMBOLS)


@on_sqlite_alone
def test_a_symbol_is_asked_for_three_times_more_a_minute_apart(site, start):
    pages(site)
    site.next("/000001.csv", *[says(503)] * 9)

    run = start().forward()

    assert [each["symbol"] for each in run.result["failed"]] == ["000001"]
    assert len(site.asked("/000001.csv")) == 4
    assert 180 <= run.clock.elapsed < 181


@on_sqlite_alone
def test_a_server_is_waited_for_as_long_as_it_asks_within_the_limit(site, start):
    pages(site)
    site.next("/000001.csv", says(429, retry_after="120"), says(429, retry_after="86400"))

    run = start().forward()

    assert run.result["failed"] == []
    assert 420 <= run.clock.elapsed < 421


@on_sqlite_alone
def test_silence_is_a_failure_in_passing(site, start):
    pages(site)
    site.next("/000001.csv", stalls)

    run = start(timeout_seconds=0.2).forward()

    assert run.result["failed"] == []


def test_when_nothing_can_be_collected_the_job_fails_and_leaves_nothing(site, bars, start):
    before = everything(bars)
    run = start()

    with pytest.raises(
        CollectionFailed, match="none of the 3 symbols could be collected; of the first: http"
    ):
        run.forward()
    run.back()

    assert everything(bars) == before


def test_requests_are_spaced_as_the_rate_says():
    now = 10.0
    pace = Pace(4, lambda: now)

    assert [pace.wait(), pace.wait(), pace.wait()] == [0.0, 0.25, 0.5]
    now = 20.0
    assert [pace.wait(), pace.wait()] == [0.0, 0.25]


@on_sqlite_alone
def test_a_collection_keeps_to_its_rate(site, start):
    pages(site)

    run = start(symbols=SYMBOLS[:2], per_second=0.01).forward()

    assert 99 < run.clock.elapsed <= 100


# Cut anywhere


def collected_before(site, start):
    pages(site)
    start(symbols=SYMBOLS[:2], job="earlier").forward()
    pages(site, rows=ROWS.replace("1.5,100", "1.6,100") + "2024-01-04,2,3,2,3,300\n")


@pytest.fixture(params=["without tables", "with rows"])
def place(request, site, bars, start):
    """The database as it is before."""
    if request.param == "with rows":
        collected_before(site, start)
    else:
        pages(site)
    return bars


@pytest.mark.parametrize("how", ["cancel", "kill"])
def test_cut_at_any_checkpoint_the_database_is_as_it_was(place, start, how):
    before = everything(place)
    whole = start(job="whole").forward()
    looks = {name: run.checkpoints for name, run in whole.runs.items()}
    whole.back()
    assert everything(place) == before

    for name, count in looks.items():
        numbers = range(1, count + 1, 1 if name == "prepare" else 4)
        for cue in (*map(at_checkpoint, numbers), at_return()):
            run = start()
            if name == "collect":
                run.forward(until="prepare")
            run.begin(name, **{how: cue})
            run.back()
            assert everything(place) == before, f"{how} at {cue} of {name}"


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9])
def test_cancelled_at_a_part_of_its_way_the_database_is_as_it_was(site, place, start, fraction):
    before = everything(place)
    symbols = [*SYMBOLS, *(f"{number:06}" for number in range(100, 107))]
    pages(site, symbols=symbols[3:])
    run = start(symbols=symbols).forward(until="prepare")

    collect = run.begin("collect", cancel=lambda moment: (moment.fraction or 0) >= fraction)
    run.back()

    assert collect.cancelled
    assert len(site.asked("/000106.csv")) == 0
    assert everything(place) == before


def test_killed_half_way_the_next_run_goes_on_behind_what_is_written(site, place, start):
    before = everything(place)
    run = start().forward(until="prepare")
    first = run.begin("collect", kill=at_message("2 / 3 300750"))
    asked = len(site.asked("/600000.csv"))

    first.execute()
    run.keep("collect")

    assert len(site.asked("/600000.csv")) == asked
    assert run.result["rows_added"] + run.result["rows_changed"] > 0
    assert run.result["failed"] == []
    run.back()
    assert everything(place) == before


def test_killed_within_the_undo_the_next_one_finishes_it(place, start):
    before = everything(place)
    for cue in (at_message("taking back 1 / 3 300750"), at_return()):
        run = start().forward()
        run.runs["collect"].revert(kill=cue)
        run.back()
        assert everything(place) == before


@on_sqlite_alone
def test_cancelled_while_the_source_is_silent_it_ends_at_once(site, bars, start):
    before = everything(bars)
    pages(site)
    site.next("/000001.csv", stalls_after(10))
    run = start(timeout_seconds=3600).forward(until="prepare")
    begun = threading.Thread(target=run.begin, args=("collect",))
    begun.start()
    assert site.stalled.wait(10)

    run.runs["collect"].cancel()
    begun.join()

    assert run.runs["collect"].cancelled
    run.back()
    assert everything(bars) == before


# Others that write


@pytest.mark.parametrize("first_back", ["earlier first", "later first"])
def test_two_collections_of_the_same_days_are_undone_in_either_order(site, place, start, first_back):
    before = everything(place)
    earlier = start(job="one").forward()
    pages(site, rows="2024-01-03,9,9,9,9,9\n2024-01-05,5,5,5,5,5\n")
    later = start(job="two").forward()
    written = [row for row in bar_rows(place) if row[4] == "two-1"]
    assert len(written) == 6

    for run in (earlier, later) if first_back == "earlier first" else (later, earlier):
        run.runs["collect"].revert()
        if run is earlier and first_back == "earlier first":
            assert [row for row in bar_rows(place) if row[4] == "two-1"] == written
    later.runs["prepare"].revert()
    earlier.runs["prepare"].revert()

    assert everything(place) == before


def test_a_run_that_was_taken_over_writes_nothing_more(bars, start):
    stale = start(epoch=1).forward(until="prepare")
    day = Bar(date(2024, 1, 2), 1.0, 1.0, 1.0, 1.0, 1)
    with Database(stale.tasks[1], bars.url, "daily_bars") as store:
        old, new = Batch(store.tables, "job-1", 1), Batch(store.tables, "job-1", 2)
        store.transaction(old.begin)
        store.transaction(new.begin)
        with pytest.raises(BatchTaken, match="batch job-1 belongs to a later run of its job"):
            store.transaction(lambda connection: old.store(connection, "600000", [day]))

    assert bar_rows(bars) == []


def test_a_table_of_somebody_else_is_refused_and_stays(site, bars, start):
    pages(site)
    with Database(PrepareTables(), bars.url, "daily_bars") as store:
        store.create(["daily_bars"])
    bars.ask("ALTER TABLE daily_bars RENAME COLUMN volume TO traded")
    run = start()

    with pytest.raises(DatabaseUnusable, match="table daily_bars has no column volume: name another"):
        run.forward()
    run.back()

    assert bars.names() == ["daily_bars"]


@on_sqlite_alone
def test_a_database_that_is_not_there_is_told_in_one_line_without_its_password(start):
    run = start(database="postgresql://127.0.0.1:1/nothing")
    run.store["database"], run.store["database_secret"] = None, "postgresql://me:hushhush@127.0.0.1:1/nothing"

    with pytest.raises(DatabaseUnusable) as caught:
        run.forward()

    assert str(caught.value).startswith(
        "database postgresql+psycopg2://me:***@127.0.0.1:1/nothing cannot be used, "
    )
    assert "\n" not in str(caught.value)
    assert "hushhush" not in str(caught.value)
    assert run.clock.elapsed == 15


# What is read, and what may be asked for


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "line 1 names no column day"),
        ("date,open,high,low,close\n", "line 1 names no column volume"),
        (HEAD + "2024-01-02,1,2,0.5,1.5\n", "line 2 has 5 columns"),
        (HEAD + "02.01.2024,1,2,0.5,1.5,1\n", "line 2 has '02.01.2024' for its day"),
        (HEAD + "2024-01-02,1,2,0.5,nan,1\n", "line 2 has 'nan' for its close"),
        (HEAD + "2024-01-02,1,0.4,0.5,1,1\n", "line 2 has a low above its high"),
        (HEAD + "2024-01-02,1,2,0.5,1,1.5\n", "line 2 has the volume '1.5'"),
        (HEAD + "2024-01-02,1,2,0.5,1,-1\n", "line 2 has the volume '-1'"),
        (HEAD + ROWS + "20240103,1,2,0.5,1,1\n", "line 4 has the day 2024-01-03 twice"),
        (HEAD + '"2024-01-02,1\n', "line 2 "),
    ],
)
def test_what_is_no_table_of_bars_is_refused_with_its_line(text, words):
    with pytest.raises(BarsUnreadable, match=words) as caught:
        read_bars(text.encode(), "here", None, None)

    assert str(caught.value).startswith("here cannot be read, ")


def test_columns_may_come_in_any_order_and_by_other_names():
    text = "\ufeff收盘,日期,最高,开盘,最低,成交量,换手率\n1.5,20240102,2,1,0.5,100.0,7\n"

    bars = read_bars(text.encode(), "here", None, None)

    assert bars == [Bar(date(2024, 1, 2), 1.0, 2.0, 0.5, 1.5, 100)]


def test_what_is_no_text_is_refused():
    with pytest.raises(BarsUnreadable, match="is no UTF-8 text"):
        read_bars("日期".encode("gbk"), "here", None, None)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"source": "/data/bars.csv"}, "should have {symbol} in it"),
        ({"source": "/data/{symbol}{other}.csv"}, "it may have {start}, {end}, {token}"),
        ({"source": "/data/{symbol!r}.csv"}, "should have {symbol} in it"),
        ({"source": "/data/{token}/{symbol}.csv"}, "should be a URL where it has {token}"),
        ({"source": "data/{symbol}.csv"}, "begins with http:// or https://"),
        ({"source": "file://host/{symbol}.csv"}, "file:///ABSOLUTE/PATH"),
        ({"source": "https://me:hushhush@host/{symbol}"}, "without a user in it"),
        ({"symbols": ["../a"]}, "should be a symbol"),
        ({"symbols": ["A", "A"]}, "each symbol once"),
        ({"symbols": []}, "at least 1"),
        ({"database": "bars.db"}, "should be an SQLAlchemy URL"),
        ({"database": "sqlite://"}, "should name a file"),
        ({"database": "postgresql://me:hushhush@host/bars"}, "URL without a password"),
        ({"database_secret": "postgresql://me:hushhush@host/bars"}, "should be a reference"),
        ({"table": "bars; drop"}, "should be a name of a table"),
    ],
)
def test_what_cannot_be_collected_is_refused_when_it_is_posted(changed, words):
    given = {"source": "/data/{symbol}.csv", "symbols": ["A"], "database": "sqlite:////x.db"}

    with pytest.raises(ParameterError) as caught:
        registered.get("data-collection").validate(given | changed)

    assert words in str(caught.value)
    assert "hushhush" not in str(caught.value)


@on_sqlite_alone
@pytest.mark.parametrize("where", ["in the address", "as a bearer token"])
def test_a_token_goes_where_the_source_says_and_into_no_error(site, start, where):
    path = "/A?key=hush%2Fhush%26" if where == "in the address" else "/A?"
    site.next(path, says(404))
    source = site.url + ("/{symbol}?key={token}" if where == "in the address" else "/{symbol}?")
    run = start(symbols=["A"], source=source, token="env:TOKEN")
    run.store["token"] = "hush/hush&"  # as a runner does

    with pytest.raises(CollectionFailed) as caught:
        run.forward()

    (request,) = site.requests
    assert request.path == path
    assert request.headers.get("authorization") == (None if "key" in path else "Bearer hush/hush&")
    assert "hush" not in str(caught.value)


def test_a_token_that_the_source_wants_has_to_be_given():
    with pytest.raises(FlowRefused, match="give token, which the source has in it"):
        registered.get("data-collection").build(
            {"source": "http://host/{symbol}?{token}", "symbols": ["A"], "database": "sqlite:////x.db"}
        )


def test_one_collection_runs_at_a_time_and_the_others_wait():
    assert registered.get("data-collection").exclusive == Exclusive("data-collection", 1, "wait")


def test_one_database_has_to_be_named():
    with pytest.raises(FlowRefused, match="give either database or database_secret"):
        registered.get("data-collection").build({"source": "/{symbol}", "symbols": ["A"]})


def test_the_path_of_a_file_is_taken_from_who_posts(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    given = {"source": "/{symbol}", "symbols": ["A"], "database": "sqlite:///bars.db"}

    assert registered.get("data-collection").validate(given)["database"] == f"sqlite:///{tmp_path}/bars.db"
