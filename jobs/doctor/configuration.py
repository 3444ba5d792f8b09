"""Who may read and write the configuration file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ebbtide.config import OPTIONS, Settings
from ebbtide.jobs.doctor.finding import Finding, fine, wrong

__all__ = ["look"]

_SUBJECT = "configuration"


def look(settings: Settings, config_file: str | None) -> Iterator[Finding]:
    """The file's permissions, by what is in it."""
    if config_file is None:
        yield fine(_SUBJECT, "no file; what is not in the environment has its default")
        return
    mode = os.stat(config_file).st_mode
    if mode & 0o022:
        told = f"others may write to {config_file}, and so choose what conductors import"
        yield wrong(_SUBJECT, told, f"chmod go-w {config_file}")
    elif mode & 0o044 and _holds_password(settings, config_file):
        told = f"others may read {config_file}, and a password is in it"
        yield wrong(_SUBJECT, told, f"chmod 600 {config_file}")
    else:
        yield fine(_SUBJECT, config_file)


def _holds_password(settings: Settings, config_file: str) -> bool:
    text = Path(config_file).read_text(encoding="utf-8")
    urls = [str(getattr(settings, option.name)) for option in OPTIONS if option.secret]
    passwords = [urlsplit(url).password for url in urls if "://" in url]
    return any(word in text for password in passwords if password for word in (password, unquote(password)))
