"""Whether ZooKeeper serves, and who may change what is ours there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kazoo.exceptions import NoAuthError, NoNodeError
from kazoo.security import Permissions

from ebbtide.config import Settings
from ebbtide.errors import ConfigError
from ebbtide.jobs.doctor.finding import Finding, fine, note, wrong
from ebbtide.jobs.ensemble import Ensemble, Session, translated
from ebbtide.jobs.linkhealth import LinkBroken

__all__ = ["look"]

_SUBJECT = "zookeeper"
_ADVICE = "set zookeeper_auth: what is made from then on is open to the bearer of that credential alone"
_AND_REMOVE = "; remove what is there, with no conductor at work (`deleteall` in zkCli.sh)"


def look(settings: Settings) -> Iterator[Finding]:
    """The servers and the access list of our path, where signal or board are there."""
    if "zookeeper" not in (settings.signal, settings.board):
        return
    try:
        ensemble = Ensemble.of(settings)
        session = Session(ensemble)
    except (ConfigError, LinkBroken) as error:
        yield wrong(_SUBJECT, f"{settings.zookeeper_hosts}: {error}", "see that most of its servers run")
        return
    try:
        with translated():
            yield _access(session, ensemble, settings)
    except LinkBroken as error:
        yield wrong(_SUBJECT, f"{settings.zookeeper_hosts}: {error}", "see that most of its servers run")
    finally:
        session.close()


def _access(session: Session, ensemble: Ensemble, settings: Settings) -> Finding:
    path = ensemble.node()
    try:
        acls, _ = session.answer(session.client.get_acls_async(path))
    except NoNodeError:
        acls = None
    except NoAuthError:
        told = f"{path} is closed to us"
        return wrong(_SUBJECT, told, "see that zookeeper_auth is the credential that it was made with")
    if acls is None and ensemble.auth:
        return fine(_SUBJECT, f"{path} is made when it is first used")
    if acls is not None and not any(map(_is_open, acls)):
        return fine(_SUBJECT, f"{path} is open to nobody else")
    advice = _ADVICE if acls is None else _ADVICE + _AND_REMOVE
    if settings.board == "zookeeper":
        return wrong(_SUBJECT, f"whoever reaches the servers may take jobs off the board in {path}", advice)
    told = f"whoever reaches the servers may ring in {path}: conductors look at the store then, no more"
    return note(_SUBJECT, told, advice)


def _is_open(acl: Any) -> bool:
    return bool(acl.id.scheme == "world" and acl.perms & ~Permissions.READ)
