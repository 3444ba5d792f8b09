"""Which kinds of options there are, and how each says what it takes."""

import re

from oslo_config import cfg, types

__all__ = [
    "HostName",
    "ModuleName",
    "Reference",
    "SecretPlace",
    "Text",
    "ZookeeperHosts",
    "ZookeeperPath",
    "byte_count",
    "expected",
    "seconds",
]


class ModuleName(types.ConfigType):
    """An absolute dotted name that could be imported; whether it can be is found out later."""

    plural = "module names such as package.module"

    def __init__(self) -> None:
        super().__init__(type_name="module name")

    def __call__(self, value: object) -> str:
        name = str(value)
        if not all(part.isidentifier() for part in name.split(".")):
            raise ValueError(name)
        return name

    def _formatter(self, value: object) -> str:
        return str(value)


class Text(types.ConfigType):
    """Any text but an empty one. What it means is for others to say, the same for each way in."""

    def __init__(self, expected: str, *, may_be_empty: bool = False) -> None:
        super().__init__(type_name="text")
        self.expected = expected
        self._may_be_empty = may_be_empty

    def __call__(self, value: object) -> str:
        if not str(value).strip() and not self._may_be_empty:
            raise ValueError("empty")
        return str(value)

    def _formatter(self, value: object) -> str:
        return str(value)


class Reference(Text):
    """Where a secret is kept, or nothing. The secret itself is refused, and not repeated."""

    def __init__(self) -> None:
        super().__init__(
            "env:NAME (no EBBTIDE_ name) or file:/PATH, where the secret is kept", may_be_empty=True
        )

    def __call__(self, value: object) -> str:
        text = super().__call__(value)
        if text and not re.fullmatch(r"env:(?!EBBTIDE_)[A-Za-z_][A-Za-z0-9_]*|file:/.+", text):
            raise ValueError("no reference")
        return text


class HostName(Text):
    """The name of a host, or its address, without a port."""

    plural = "names of hosts such as jobs.example.org, without ports"

    def __init__(self) -> None:
        super().__init__("a name such as jobs.example.org")

    def __call__(self, value: object) -> str:
        text = super().__call__(value).lower()
        if not re.fullmatch(r"[a-z0-9_.-]+|\[[0-9a-f:.]+\]", text):
            raise ValueError(value)
        return text


class SecretPlace(Text):
    """A reference to a secret, or to all that begin alike."""

    plural = "references such as env:NAME, env:BEGINNING*, file:/PATH or file:/FOLDER/"

    def __init__(self) -> None:
        super().__init__("a reference such as env:NAME")

    def __call__(self, value: object) -> str:
        text = super().__call__(value)
        if not re.fullmatch(r"env:[A-Za-z_][A-Za-z0-9_]*\*?|file:(/[^/]+)+/?", text) or "/../" in f"{text}/":
            raise ValueError(value)
        return text


class ZookeeperPath(Text):
    """A path as ZooKeeper has it: absolute, and nothing but names between its slashes."""

    def __init__(self) -> None:
        super().__init__("a path such as /ebbtide")

    def __call__(self, value: object) -> str:
        first, *names = super().__call__(value).split("/")
        if first or not all(name.isprintable() and name not in ("", ".", "..") for name in names):
            raise ValueError(value)
        return str(value)


class ZookeeperHosts(Text):
    """Where the servers are; a path after them, which kazoo would take, is an option of its own."""

    def __init__(self) -> None:
        super().__init__("hosts such as zk1:2181,zk2:2181,zk3:2181")

    def __call__(self, value: object) -> str:
        hosts = super().__call__(value).split(",")
        if not all(re.fullmatch(r"\s*([\w.-]+|\[[0-9a-fA-F:.]+\])(:\d{1,5})?\s*", host) for host in hosts):
            raise ValueError(value)
        return str(value)


def byte_count(name: str, default: int, sentence: str) -> cfg.Opt:
    """An option that is a size in bytes."""
    return cfg.IntOpt(name, default=default, min=1024, max=64 * 1024 * 1024, help=sentence)


def seconds(name: str, default: float, least: float, most: float, sentence: str) -> cfg.Opt:
    """An option that is a number of seconds."""
    return cfg.FloatOpt(name, default=default, min=least, max=most, help=sentence)


def expected(option: cfg.Opt) -> str:
    """What an option takes, in words that follow "is not"."""
    wanted = option.type
    if isinstance(wanted, types.Integer):
        return f"a whole number from {wanted.min} to {wanted.max}"
    if isinstance(wanted, types.Float):
        unit = "days" if str(option.name).endswith("_days") else "seconds"
        return f"a number of {unit} from {wanted.min:g} to {wanted.max:g}"
    if isinstance(wanted, types.String) and wanted.choices:
        return f"one of {', '.join(wanted.choices)}"
    if isinstance(wanted, types.List):
        assert isinstance(wanted.item_type, (ModuleName, HostName, SecretPlace))
        return f"a list of {wanted.item_type.plural}"
    assert isinstance(wanted, Text)
    return wanted.expected
