"""Reading a configuration file: INI, one section, each key once or the last one."""

from collections.abc import Collection

from oslo_config import cfg

from ebbtide.errors import ConfigError
from ebbtide.wording import unknown

__all__ = ["read_file"]


def read_file(path: str, options: Collection[str]) -> dict[str, str]:
    """The keys of section [DEFAULT], all of them among `options`. A key given twice has its last value.

    Raises:
        ConfigError: it cannot be read, or holds what is unknown.
    """
    sections: dict[str, dict[str, list[str]]] = {}
    try:
        cfg.ConfigParser(path, sections).parse()
    except OSError as error:
        raise ConfigError(f"configuration file {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"configuration file {path} is not text: {error.reason}") from error
    except cfg.ParseError as error:
        # Neither the line nor the error that quotes it is shown: a password may stand in it.
        raise ConfigError(f"configuration file {path}, line {error.lineno}: {error.msg.lower()}") from None
    for section in sections:
        if section != "DEFAULT":
            raise ConfigError(unknown("section", section, ("DEFAULT",), f" in {path}"))
    known = sections.get("DEFAULT", {})
    for name in known:
        if name not in options:
            raise ConfigError(unknown("option", name, options, f" in {path}"))
    return {name: texts[-1] for name, texts in known.items()}
