"""Whether ZooKeeper serves, and who may change what is ours there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from kazoo.exceptions import NoAuthError, NoNodeError
from kazoo.security import Permissions

from ebbtide.config import Settings
from ebbtide.errors import ConfigError
from ebbtide.jobs.doctor.finding import Finding, fine, note, wrong
from ebbtide.jobs.ensemble import BOARD_NODE, SIGNAL_NODE, Ensemble, Session, translated
from ebbtide.jobs.linkhealth import LinkBroken

__all__ = ["look"]

_SUBJECT = "zookeeper"
_ADVICE = "set zookeeper_auth: what is made from then on is open to the bearer of that credential alone"
_SERVERS = "see that most of its servers run, and that zookeeper_hosts names them"
_SERVERS_WITH_TLS = (
    "see that most of its servers run, that zookeeper_hosts names their TLS ports and the names in their "
    "certificates, and that zookeeper_ca_file is of who has signed these"
)
_AND_REMOVE = "; remove what is there, with no conductor at work (`deleteall` in zkCli.sh)"


def look(settings: Settings) -> Iterator[Finding]:
    """The servers and the access list of our path, where signal or board are there."""
    if "zookeeper" not in (settings.signal, settings.board):
        return
    try:
        ensemble = Ensemble.of(settings)
    except ConfigError as error:
        yield wrong(_SUBJECT, str(error), "mend that option")
        return
    try:
        session = Session(ensemble)
        try:
            with translated():
                yield _access(session, ensemble, settings)
        finally:
            session.close()
    except LinkBroken as error:
        advice = _SERVERS_WITH_TLS if ensemble.ca_file else _SERVERS
        yield wrong(_SUBJECT, f"{settings.zookeeper_hosts}: {error}", advice)


def _access(session: Session, ensemble: Ensemble, settings: Settings) -> Finding:
    path = ensemble.node()
    try:
        found = _access_lists(session, ensemble)
    except NoAuthError:
        told = f"{path} is closed to us"
        return wrong(_SUBJECT, told, "see that zookeeper_auth is the credential that it was made with")
    if not found and ensemble.auth:
        return fine(_SUBJECT, f"{path} is made when it is first used")
    opened = [node for node, acls in found.items() if any(map(_is_open, acls))]
    if found and not opened:
        return fine(_SUBJECT, f"{path} is open to nobody else")
    advice = _ADVICE + _AND_REMOVE if found else _ADVICE
    where = opened[0] if opened else path
    if settings.board == "zookeeper":
        return wrong(_SUBJECT, f"whoever reaches the servers may take jobs off the board in {where}", advice)
    told = f"whoever reaches the servers may ring in {where}: conductors look at the store then, no more"
    return note(_SUBJECT, told, advice)


def _access_lists(session: Session, ensemble: Ensemble) -> Mapping[str, list[Any]]:
    """Of each node of ours that is there: none has that of the one above it."""
    found = {}
    for node in (ensemble.node(), ensemble.node(BOARD_NODE), ensemble.node(SIGNAL_NODE)):
        with contextlib.suppress(NoNodeError):
            found[node], _ = session.answer(session.client.get_acls_async(node))
    return found


def _is_open(acl: Any) -> bool:
    return bool(acl.id.scheme == "world" and acl.perms & ~Permissions.READ)
