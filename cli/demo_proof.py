"""What the demo checks on disk: without any code of the flow, from what it documents of its files."""

from __future__ import annotations

import base64
import fnmatch
import hashlib
import json
import os
import stat
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_CHUNK: Final = 1024 * 1024


@dataclass(frozen=True)
class Check:
    """One statement about the result, whether it holds, and what was found if not."""

    statement: str
    holds: bool
    found: str = ""

    def as_dict(self) -> dict[str, Any]:
        return {"statement": self.statement, "holds": self.holds, "found": self.found}


Content = dict[str, str]
"""What a folder holds: relative path to "file <sha256>", "link <target>" or "folder"."""


@dataclass(frozen=True)
class Size:
    """`left_out`: entries without content to keep, such as FIFOs and sockets."""

    files: int
    entries: int
    bytes: int
    left_out: int


def measure(folder: Path, exclude: Sequence[str]) -> Size:
    """How much there is to process. Raises OSError for a folder that cannot be read."""
    states = [os.lstat(path) for _, path in walk(os.fspath(folder), exclude)]
    files = [state.st_size for state in states if stat.S_ISREG(state.st_mode)]
    left_out = sum(not _is_kept(state.st_mode) for state in states)
    return Size(len(files), len(states), sum(files), left_out)


def content(folder: Path, exclude: Sequence[str] = ()) -> Content:
    """Everything in `folder` but what `exclude` names. Nothing there: nothing in it."""
    if not folder.is_dir():
        return {}
    described = ((name, _described(path)) for name, path in walk(os.fspath(folder), exclude))
    return {name: words for name, words in described if words}


def walk(folder: str, exclude: Sequence[str], below: str = "") -> Iterator[tuple[str, str]]:
    """Relative and whole path of each entry, without following links."""
    with os.scandir(os.path.join(folder, below)) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        name = f"{below}/{entry.name}" if below else entry.name
        if any(fnmatch.fnmatch(text, pattern) for pattern in exclude for text in (entry.name, name)):
            continue
        yield name, entry.path
        if entry.is_dir(follow_symlinks=False):
            yield from walk(folder, exclude, name)


def differences(wanted: Content, found: Content) -> str:
    """The first few paths in which two folders differ, or ""."""
    names = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def check_publication(destination: Path, version: str, source: Content, left_out: int = 0) -> Check:
    """Whether the current version is `version`, and its manifest and its archives hold exactly the source."""
    files = sum(words.startswith("file") for words in source.values())
    but = f" but for what has no content: {left_out:,}" if left_out else ""
    statement = f"manifest and archives hold the source exactly{but} "
    statement += f"(entries: {len(source):,}, digests: {files:,})"
    try:
        folder = (destination / "current").resolve(strict=True)
        if folder.name != version:
            return Check(statement, False, f"the current version is {folder.name}")
        manifest = json.loads((folder / "manifest.json").read_bytes())
        listed = {_name(record, "path"): _listed(record) for record in manifest["entries"]}
        archived: Content = {}
        for archive in sorted(folder.glob("*.tar.gz")):
            archived.update(_archived(archive))
    except (OSError, EOFError, ValueError, KeyError, tarfile.TarError) as error:
        return Check(statement, False, str(error))
    for what, holds in (("manifest", listed), ("archives", archived)):
        if different := differences(source, holds):
            return Check(statement, False, f"{what} and source differ in {different}")
    return Check(statement, True)


def check_unchanged(before: Content, folder: Path, statement: str) -> Check:
    different = differences(before, content(folder))
    return Check(statement, not different, f"changed: {different}" if different else "")


def _described(path: str) -> str:
    """What lies at `path`, in words; "" for what has no content to keep, such as a socket."""
    mode = os.lstat(path).st_mode
    if stat.S_ISLNK(mode):
        return f"link {os.readlink(path)}"
    if stat.S_ISDIR(mode):
        return "folder"
    if not _is_kept(mode):
        return ""
    with open(path, "rb") as file:
        return f"file {hashlib.file_digest(file, 'sha256').hexdigest()}"


def _is_kept(mode: int) -> bool:
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)


def _listed(record: dict[str, Any]) -> str:
    if record["kind"] == "file":
        return f"file {record['sha256']}"
    return f"link {_name(record, 'target')}" if record["kind"] == "link" else str(record["kind"])


def _name(record: dict[str, Any], key: str) -> str:
    """A name of the manifest as `os` gives it; one that is no UTF-8 has its bytes beside it."""
    exact = record.get(f"{key}_base64")
    raw = str(record[key]).encode("utf-8") if exact is None else base64.b64decode(exact)
    return os.fsdecode(raw)


def _archived(archive: Path) -> Iterator[tuple[str, str]]:
    with tarfile.open(archive, mode="r|gz", encoding="utf-8", errors="surrogateescape") as members:
        for member in members:
            yield os.fsdecode(member.name.encode("utf-8", "surrogateescape")), _unpacked(members, member)


def _unpacked(members: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    if member.issym():
        return "link " + os.fsdecode(member.linkname.encode("utf-8", "surrogateescape"))
    if member.isdir():
        return "folder"
    file = members.extractfile(member)
    if file is None:
        return "other"
    digest = hashlib.sha256()
    while data := file.read(_CHUNK):
        digest.update(data)
    return f"file {digest.hexdigest()}"
