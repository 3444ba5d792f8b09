"""What is to be the same is copied aside, compared, and put back as it was."""

import contextlib
import os
import socket
import stat
import warnings

import pytest

from ebbtide.errors import UsageError

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of a module that TaskFlow's engines import
    from ebbtide.testing.proving.world import Folders, World


@pytest.fixture
def place(tmp_path):
    """A tree with something of each kind, and an empty folder for copies."""
    tree, aside = tmp_path / "tree", tmp_path / "aside"
    (tree / "folder" / "below").mkdir(parents=True)
    (tree / "folder" / "file").write_text("old")
    (tree / "folder" / "file").chmod(0o640)
    (tree / "link").symlink_to("folder/file")
    aside.mkdir()
    return tree, aside


def change_content(tree):
    (tree / "folder" / "file").write_text("new")


def change_mode(tree):
    (tree / "folder" / "file").chmod(0o600)


def change_folder_mode(tree):
    (tree / "folder").chmod(0o700)


def change_link(tree):
    (tree / "link").unlink()
    (tree / "link").symlink_to("elsewhere")


def remove_tree(tree):
    for path in sorted(tree.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    tree.rmdir()


def add(tree):
    (tree / "new" / "deep").mkdir(parents=True)
    (tree / "new" / "deep" / "file").touch()


def change_kinds(tree):
    (tree / "folder" / "below").rmdir()
    (tree / "folder" / "below").write_text("a file now")
    (tree / "link").unlink()
    (tree / "link").mkdir()


def leave_a_pipe(tree):
    (tree / "folder" / "file").unlink()
    os.mkfifo(tree / "folder" / "file")
    os.mkfifo(tree / "folder" / "below" / "pipe")


def leave_a_socket(tree):
    (tree / "link").unlink()
    with contextlib.chdir(tree), socket.socket(socket.AF_UNIX) as listener:
        listener.bind("link")


CHANGES = (
    change_content,
    change_mode,
    change_folder_mode,
    change_link,
    remove_tree,
    add,
    change_kinds,
    leave_a_pipe,
    leave_a_socket,
)


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_seen_and_put_back(change, place):
    tree, aside = place
    folders = Folders([tree], aside)
    inode = os.stat(tree / "folder" / "file").st_ino

    change(tree)
    assert folders.picture() != folders.before
    folders.put_back()

    assert folders.picture() == folders.before
    assert (tree / "folder" / "file").read_text() == "old"
    assert stat.S_IMODE((tree / "folder" / "file").stat().st_mode) == 0o640
    if change in (add, change_link, change_folder_mode):
        assert os.stat(tree / "folder" / "file").st_ino == inode  # what is as it was is not touched


def test_what_was_not_there_is_gone_again(tmp_path, place):
    _, aside = place
    folders = Folders([tmp_path / "absent", tmp_path / "file"], aside)

    (tmp_path / "absent" / "below").mkdir(parents=True)
    (tmp_path / "file").touch()
    folders.put_back()

    assert not (tmp_path / "absent").exists()
    assert not (tmp_path / "file").exists()


def test_a_difference_is_told_without_the_id_of_the_job(place):
    tree, aside = place
    world = World(Folders([tree], aside), None, {}, 60)

    (tree / "made-by-7f3a").touch()
    (tree / "link").unlink()

    assert world.differences("7f3a") == [f"{tree}/link is gone", f"{tree}/made-by-JOB is new"]


def test_after_settling_all_is_as_before(place):
    tree, aside = place
    world = World(Folders([tree], aside), None, {}, 60)
    add(tree)

    world.settle("7f3a")

    assert world.differences("7f3a") == []


def test_what_cannot_be_copied_is_refused(place):
    tree, aside = place
    os.mkfifo(tree / "pipe")

    with pytest.raises(UsageError, match="is neither file, folder nor link: it cannot be put back"):
        Folders([tree], aside)


def test_a_link_is_refused_which_would_be_the_same_whatever_happens_where_it_leads(place):
    tree, aside = place

    with pytest.raises(UsageError, match="link is a link: name the file or folder that it leads to"):
        Folders([tree / "link"], aside)


def test_a_file_that_vanishes_while_it_is_looked_at_is_not_there(place, monkeypatch):
    tree, aside = place
    folders = Folders([tree], aside)

    def looked(path):
        status = os.lstat(path)
        if path.name == "file":
            path.unlink()
        return status

    monkeypatch.setattr(type(tree), "lstat", looked)

    assert folders.before.keys() - folders.picture().keys() == {str(tree / "folder" / "file")}


def test_a_tree_that_holds_the_copies_is_refused(tmp_path, place):
    _, aside = place

    with pytest.raises(UsageError, match="holds the folder for temporary files"):
        Folders([tmp_path], aside)
