"""download against a server that breaks off, stalls, lies and asks for patience; cut and undone anywhere."""

import contextlib
import hashlib
import os
import random
import threading

import pytest

from ebbtide.errors import ParameterError
from ebbtide.flows import download as _registers  # noqa: F401
from ebbtide.flows.registry import registered
from ebbtide.tasks.downloads import DownloadRefused, part
from ebbtide.tasks.files import FolderUnusable, NoSpace, locking
from ebbtide.tasks.http import RequestFailed
from ebbtide.tasks.wrapping import TaskExited
from ebbtide.testing import at_checkpoint, at_return
from tests.services.deaths import Deaths, Died
from tests.services.flowrun import FlowRun
from tests.services.site import (
    Page,
    breaks_after,
    says,
    stalls,
    stalls_after,
    with_page,
    without_length,
)

CONTENT = random.Random(1).randbytes(300_000)
OTHER = random.Random(2).randbytes(250_000)


def digest(content):
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def folder(tmp_path):
    """A destination in which something stands already."""
    here = tmp_path / "destination"
    here.mkdir()
    (here / "note").write_text("mine")
    return here


@pytest.fixture
def start(folder):
    def call(*files, destination=folder, job="job", **params):
        given = {"files": list(files), "destination": str(destination), **params}
        return FlowRun("download", given, job=job)

    return call


def test_files_are_fetched_and_put_in_their_places(site, start, folder, contents):
    files = [
        site.page("/a.bin", CONTENT),
        {"url": site.page("/x?key=1", OTHER), "name": "b.bin", "sha256": digest(OTHER).upper()},
        {"url": site.page("/empty%20one", b"")},
        {"url": site.page("/piped", CONTENT, chunked=True)},
    ]

    run = start(*files).forward()

    wanted = {"note": b"mine", "a.bin": CONTENT, "b.bin": OTHER, "empty one": b"", "piped": CONTENT}
    assert contents(folder) == wanted
    assert run.result[0] == {
        "path": str(folder / "a.bin"),
        "bytes": 300_000,
        "sha256": digest(CONTENT),
        "replaced": None,
    }
    assert run.runs["fetch-1"].reports[-1] == (1.0, "0.3 of 0.3 MB")
    run.back()
    assert contents(folder) == {"note": b"mine"}


def test_a_folder_that_was_missing_is_gone_after_the_undo(site, start, tmp_path, contents):
    before = contents(tmp_path)
    run = start(site.page("/a", CONTENT), destination=tmp_path / "new" / "deep").forward()
    assert (tmp_path / "new/deep/a").read_bytes() == CONTENT

    run.back()

    assert contents(tmp_path) == before


def test_a_part_of_a_file_is_fetched(site, start, folder):
    url = site.page("/a", CONTENT)
    site.next("/a", breaks_after(300))

    start({"url": url, "first_byte": 1000, "last_byte": 1999, "sha256": digest(CONTENT[1000:2000])}).forward()

    assert (folder / "a").read_bytes() == CONTENT[1000:2000]
    assert [each.headers["range"] for each in site.asked("/a")] == ["bytes=1000-1999", "bytes=1300-1999"]


# What a server does in the middle


def test_a_break_is_gone_on_from_where_it_was(site, start, folder):
    site.next("/a", breaks_after(100_000), breaks_after(50_000), says(503))

    run = start(site.page("/a", CONTENT)).forward()

    assert (folder / "a").read_bytes() == CONTENT
    asked = [(each.headers.get("range"), each.headers.get("if-range")) for each in site.asked("/a")]
    assert asked == [
        (None, None),
        ("bytes=100000-", '"1"'),
        ("bytes=150000-", '"1"'),
        ("bytes=150000-", '"1"'),
    ]
    assert run.clock.elapsed == 1 + 1 + 2  # bytes that come make it patient again


@pytest.mark.parametrize(
    "validators", [{"etag": None}, {"etag": 'W/"1"'}], ids=["only a time", "a weak ETag and a time"]
)
def test_without_a_strong_etag_the_time_says_that_it_is_the_same(site, start, folder, validators):
    site.next("/a", breaks_after(1000))
    page = site.page("/a", CONTENT, **validators)

    start(page).forward()

    assert (folder / "a").read_bytes() == CONTENT
    assert site.asked("/a")[1].headers["if-range"] == site.pages["/a"].modified


def test_without_anything_that_says_so_it_begins_anew(site, start, folder):
    site.next("/a", breaks_after(1000))

    start(site.page("/a", CONTENT, etag=None, modified=None)).forward()

    assert (folder / "a").read_bytes() == CONTENT
    assert "range" not in site.asked("/a")[1].headers


def test_a_file_that_has_changed_meanwhile_is_fetched_whole(site, start, folder):
    site.next("/a", breaks_after(100_000), with_page(Page(OTHER, etag='"2"')))

    start(site.page("/a", CONTENT)).forward()

    assert (folder / "a").read_bytes() == OTHER


def test_a_server_that_mixes_two_files_is_found_out(site, start, folder):
    def other_etag_in_the_rest(answering, page):
        rest = page.content[100_000:]
        answering.answer(206, rest, {"ETag": '"2"', "Content-Range": "bytes 100000-299999/300000"})

    site.next("/a", breaks_after(100_000), other_etag_in_the_rest)

    start(site.page("/a", CONTENT)).forward()

    assert (folder / "a").read_bytes() == CONTENT
    assert "range" not in site.asked("/a")[2].headers


@pytest.mark.parametrize("told", ["bytes 5-299999/300000", "bytes 100000-5/300000", "nonsense"])
def test_other_bytes_than_were_asked_for_are_not_taken(site, start, folder, told):
    site.next(
        "/a",
        breaks_after(100_000),
        lambda answering, page: answering.answer(206, OTHER, {"Content-Range": told}),
    )

    start(site.page("/a", CONTENT)).forward()

    assert (folder / "a").read_bytes() == CONTENT


def test_one_that_sends_less_than_it_says_is_given_up(site, start, folder, contents):
    def lies(answering, page):
        answering.head(200, {"Content-Length": "300001", "ETag": '"1"'})
        answering.wfile.write(page.content)
        answering.cut()

    site.next("/a", lies, *[says(416)] * 9, *[lies] * 9)
    run = start(site.page("/a", CONTENT), retries=2)

    with pytest.raises(RequestFailed, match=r"^http://[\d.:]+/a (broke off|does not have|answered)[^\n]*$"):
        run.forward()
    run.back()

    assert contents(folder) == {"note": b"mine"}


def test_silence_is_not_waited_for_longer_than_allowed(site, start):
    site.next("/a", stalls, stalls)

    with pytest.raises(RequestFailed, match="/a was silent for too long: try again later"):
        start(site.page("/a", CONTENT), timeout_seconds=0.2, retries=1).forward()

    assert len(site.asked("/a")) == 2


def test_a_server_that_asks_for_patience_is_given_it_within_bounds(site, start, folder):
    site.next("/a", says(429, retry_after="7"), says(429, retry_after="86400"))

    run = start(site.page("/a", CONTENT)).forward()

    assert (folder / "a").read_bytes() == CONTENT
    assert run.clock.elapsed == 7 + 60


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (says(404, b"no such\nthing"), r"answered 404 Not Found \(no such thing\): mend the address"),
        (says(403), "answered 403 Forbidden: mend the address or the token"),
        (says(204), "answered 204, which is no file"),
        (says(200, b"x", content_encoding="gzip"), "sends it packed"),
        (without_length, "does not say how long it is"),
        (says(302, location="ftp://elsewhere/a"), "redirects to what is no http or https address"),
        (says(302, location="/a"), "redirects more than 0 times"),
    ],
)
def test_what_waiting_does_not_mend_is_told_at_once(site, start, fault, words):
    site.next("/a", fault)

    with pytest.raises(RequestFailed, match=words) as caught:
        start(site.page("/a", CONTENT), redirects=0).forward()

    assert "\n" not in str(caught.value)
    assert len(site.asked("/a")) == 1


def test_an_end_that_nobody_announced_is_believed_if_the_digest_agrees(site, start, folder):
    site.next("/a", without_length)

    start({"url": site.page("/a", CONTENT), "sha256": digest(CONTENT)}).forward()

    assert (folder / "a").read_bytes() == CONTENT


def test_nobody_listens(start):
    with pytest.raises(RequestFailed, match=r"//127\.0\.0\.1:1/a could not be reached, .*: try again later"):
        start("http://127.0.0.1:1/a", retries=0).forward()


def test_another_content_than_the_digest_says_is_refused(site, start, folder, contents):
    run = start({"url": site.page("/a", CONTENT), "sha256": digest(OTHER)})

    with pytest.raises(DownloadRefused, match=f"file a has the sha256 {digest(CONTENT)}, not the one given"):
        run.forward()
    run.back()

    assert contents(folder) == {"note": b"mine"}


@pytest.mark.parametrize("chunked", [False, True])
def test_a_larger_file_than_allowed_is_refused(site, start, chunked):
    with pytest.raises(DownloadRefused, match="file a has more than the 299,999 bytes allowed: allow more"):
        start(site.page("/a", CONTENT, chunked=chunked), max_bytes=299_999).forward()


# Redirects and tokens


def test_a_token_goes_to_the_server_that_was_named_and_to_no_other(site, start, folder, monkeypatch):
    elsewhere = site.page("/b", CONTENT).replace("127.0.0.1", "localhost")
    monkeypatch.setenv("TOKEN_OF_A_TEST", "not-for-others")
    site.next("/a", says(302, location="/again"))
    site.next("/again", says(307, location=elsewhere))
    run = start({"url": site.page("/a", b""), "name": "a"}, token="env:TOKEN_OF_A_TEST")
    run.store["token"] = "not-for-others"  # as a runner does

    run.forward()

    assert (folder / "a").read_bytes() == CONTENT
    sent = {each.path: each.headers.get("authorization") for each in site.requests}
    assert sent == {"/a": "Bearer not-for-others", "/again": "Bearer not-for-others", "/b": None}


# Cut anywhere


def test_cancelled_while_a_server_is_silent_it_ends_at_once(site, start, folder, contents):
    site.next("/a", stalls_after(5000))
    run = start(site.page("/a", CONTENT), timeout_seconds=3600)
    run.forward(until="prepare")
    begun = threading.Thread(target=run.begin, args=("fetch-1",))
    begun.start()
    assert site.stalled.wait(10)

    run.runs["fetch-1"].cancel()
    begun.join()

    assert run.runs["fetch-1"].cancelled
    run.back()
    assert contents(folder) == {"note": b"mine"}


def test_killed_half_way_the_next_runner_goes_on_from_what_is_on_disk(site, start, folder, monkeypatch):
    monkeypatch.setattr(part, "SYNC_EVERY", 100_000)
    run = start(site.page("/a", CONTENT))
    run.forward(until="prepare")
    site.next("/a", stalls_after(250_000))
    began = threading.Thread(target=run.begin, args=("fetch-1",), kwargs={"kill": at_message_of(0.8)})
    began.start()
    began.join()

    run.runs["fetch-1"].execute()
    run.keep("fetch-1")
    run.forward()

    assert (folder / "a").read_bytes() == CONTENT
    first = int(site.asked("/a")[1].headers["range"].removeprefix("bytes=").removesuffix("-"))
    assert 100_000 <= first <= 250_000


def at_message_of(fraction):
    return lambda moment: (moment.fraction or 0) >= fraction


def test_what_a_loss_of_power_has_left_is_not_gone_on_with(site, start, folder):
    run = start(site.page("/a", CONTENT))
    run.forward(until="prepare")
    staging = next(folder.glob(".download-*"))
    (staging / "1.part").write_bytes(bytes(1000))  # its length came to the disk, and nothing else
    (staging / "1.json").write_bytes(b"")

    run.forward()

    assert (folder / "a").read_bytes() == CONTENT


@pytest.fixture(params=["new names", "a name that is taken", "a link"])
def place(request, folder):
    """What stands in the destination under the name of the first file."""
    if request.param == "a name that is taken":
        (folder / "a").write_bytes(b"before")
    elif request.param == "a link":
        (folder / "a").symlink_to("note")
    return folder


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9])
def test_cancelled_at_a_part_of_its_way_the_folder_is_as_it_was(site, start, place, contents, fraction):
    before = contents(place)
    run = start(site.page("/a", CONTENT), replace=True).forward(until="prepare")

    fetch = run.begin("fetch-1", cancel=at_message_of(fraction))
    run.back()

    assert fetch.cancelled
    assert contents(place) == before


@pytest.fixture
def _locks_of_the_dead_are_gone(monkeypatch):
    """Those of a killed process are; here the thread that stands for it would keep its own for ever."""
    monkeypatch.setattr(locking, "_try_lock", lambda folder: True)


@pytest.mark.usefixtures("_locks_of_the_dead_are_gone")
@pytest.mark.parametrize("how", ["cancel", "kill"])
def test_cut_at_any_checkpoint_the_folder_is_as_it_was(site, start, place, contents, how):
    before = contents(place)
    files = [site.page("/a", CONTENT[:90_000]), site.page("/b", OTHER[:90_000])]
    whole = start(*files, replace=True).forward()
    looks = {name: run.checkpoints for name, run in whole.runs.items()}
    whole.back()
    assert contents(place) == before

    for name, count in looks.items():
        for cue in (*(at_checkpoint(number) for number in range(1, count + 1, 1 + count // 6)), at_return()):
            run = start(*files, replace=True)
            for task in run.tasks:
                if task.name == name:
                    break
                run.forward(until=task.name)
            run.begin(name, **{how: cue})
            run.back()
            assert contents(place) == before, f"{how} at {cue} of {name}"


@pytest.mark.parametrize("after", [False, True], ids=["before a change", "after a change"])
@pytest.mark.parametrize("going", ["forwards", "backwards"])
def test_dead_at_any_change_of_a_name_the_undo_takes_back_all(
    site, start, place, contents, monkeypatch, after, going
):
    before = contents(place)
    files = [site.page("/a", b"new"), site.page("/b", b"other")]
    for fatal in range(1, 40):
        run = start(*files, replace=True).forward(until="fetch-2")
        if going == "backwards":
            run.forward()
        deaths = Deaths(fatal, after=after)
        with deaths.armed(monkeypatch), contextlib.suppress(TaskExited, Died):
            run.forward() if going == "forwards" else run.back()
        run.back()
        assert contents(place) == before, f"after death at change {fatal}"
        if deaths.made < fatal:
            break
    assert fatal > 4


@pytest.mark.usefixtures("_locks_of_the_dead_are_gone")
def test_dead_within_the_placing_the_next_runner_finishes_it(site, start, place, contents):
    before = contents(place)
    files = [site.page("/a", b"new"), site.page("/b", b"other")]
    for number in (2, 3, 4):
        run = start(*files, replace=True).forward(until="fetch-2")
        run.begin("place", kill=at_checkpoint(number) if number < 4 else at_return())
        run.runs["place"].execute()
        run.keep("place")
        assert (place / "a").read_bytes() == b"new"
        assert (place / "b").read_bytes() == b"other"
        assert [name for name in contents(place) if name.startswith(".download")] == []
        run.back()
        assert contents(place) == before


# Names that are taken


def test_a_name_that_is_taken_is_an_error_before_anything_is_fetched(site, start, folder):
    (folder / "a").write_text("before")

    with pytest.raises(DownloadRefused, match=r"/a is there already: give another name, move it away"):
        start(site.page("/a", CONTENT)).forward()

    assert site.requests == []


def test_a_name_that_somebody_takes_meanwhile_stays_theirs(site, start, folder, contents):
    run = start(site.page("/a", CONTENT)).forward(until="fetch-1")
    (folder / "a").write_text("theirs")

    with pytest.raises(DownloadRefused, match="is there already"):
        run.forward()
    run.back()

    assert contents(folder) == {"note": b"mine", "a": b"theirs"}


def test_what_was_replaced_is_kept_beside_it(site, start, folder):
    (folder / "a").write_text("before")

    run = start(site.page("/a", CONTENT), replace=True).forward()

    assert run.result[0]["replaced"] == str(folder / ".a.before-job")
    assert (folder / ".a.before-job").read_text() == "before"


def test_a_folder_of_that_name_is_never_replaced(site, start, folder):
    (folder / "a").mkdir()

    with pytest.raises(DownloadRefused, match="is there already and no file"):
        start(site.page("/a", CONTENT), replace=True).forward()


@pytest.mark.parametrize("stood", [True, False], ids=["over a file", "over nothing"])
def test_a_later_job_on_the_same_name_is_not_undone_with_it(site, start, folder, contents, stood):
    if stood:
        (folder / "a").write_text("before")
    before = contents(folder)
    first = start(site.page("/a", b"first"), replace=True, job="one").forward()
    second = start(site.page("/a", b"second"), replace=True, job="two").forward()

    first.back()
    assert (folder / "a").read_bytes() == b"second"
    second.back()

    assert contents(folder) == before


def test_a_file_that_somebody_has_put_there_since_stays(site, start, folder, contents):
    run = start(site.page("/a", CONTENT)).forward()
    (folder / "new").write_text("theirs")
    (folder / "new").rename(folder / "a")

    run.back()

    assert contents(folder) == {"note": b"mine", "a": b"theirs"}


def test_a_destination_that_is_a_file_is_refused(start, folder):
    with pytest.raises(FolderUnusable, match="is no folder: name a folder, or a new path"):
        start("http://127.0.0.1:1/a", destination=folder / "note").forward()


# What may be asked for


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ([], "at least 1"),
        (["ftp://host/a"], "begins with http:// or https://"),
        (["http://me:secret@host/a"], "without a user in it"),
        (["http://host/"], "plain file name"),
        (["http://host/..%2Fa"], "plain file name"),
        ([{"url": "http://host/a", "name": "b/c"}], "plain file name"),
        ([{"url": "http://host/a", "sha256": "12"}], "64 hexadecimal digits"),
        ([{"url": "http://host/a", "first_byte": 5, "last_byte": 4}], "not below it"),
        ([{"url": "http://host/a", "digest": "x"}], "digest"),
        (["http://host/a", "http://other/a"], "two are called 'a'"),
    ],
)
def test_what_cannot_be_downloaded_is_refused_when_it_is_posted(files, words):
    with pytest.raises(ParameterError, match=words) as caught:
        registered.get("download").validate({"files": files, "destination": "x"})

    assert "secret" not in str(caught.value)


def test_one_address_is_enough_on_a_command_line():
    parsed = registered.get("download").parse({"files": "http://host/a", "destination": "/x"})

    assert parsed["files"] == [
        {"url": "http://host/a", "name": None, "sha256": None, "first_byte": 0, "last_byte": None}
    ]
    _, store = registered.get("download").build(parsed)
    assert store["files"][0].file_name == "a"


def test_the_disk_is_left_some_room(site, start, monkeypatch, folder, contents):
    real = os.fstatvfs

    def nearly_full(file):
        found = real(file)
        return os.statvfs_result((found.f_bsize, found.f_frsize, found.f_blocks, 1, 1, *found[5:]))

    run = start(site.page("/a", CONTENT)).forward(until="prepare")
    monkeypatch.setattr(os, "fstatvfs", nearly_full)

    with pytest.raises(NoSpace, match="no space left on device, but for the last 4 megabytes"):
        run.forward()
    run.back()

    assert contents(folder) == {"note": b"mine"}
