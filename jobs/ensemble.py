"""How ZooKeeper is reached: its servers, TLS, who we are there, and sessions that end rather than wait."""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from kazoo.client import KazooClient, KazooState
from kazoo.exceptions import KazooException, NodeExistsError
from kazoo.handlers.threading import AsyncResult, KazooTimeoutError, SequentialThreadingHandler
from kazoo.protocol.states import KeeperState
from kazoo.security import CREATOR_ALL_ACL

from ebbtide.config import Settings
from ebbtide.errors import ConfigError
from ebbtide.flows.keptsecrets import SecretUnusable, kept_text
from ebbtide.flows.secret import Secret
from ebbtide.jobs.linkhealth import LinkBroken

__all__ = ["BOARD_NODE", "KAZOO_ERRORS", "SIGNAL_NODE", "Ensemble", "Session", "translated"]

#: What we have below the path of an ensemble.
BOARD_NODE, SIGNAL_NODE = "board", "signal"

#: Whatever kazoo raises when the servers do not do what they were asked.
KAZOO_ERRORS = (KazooException, KazooTimeoutError, OSError)

# Our locks on the board end with a session, and nothing else of ours: a short one finds out sooner that a
# link is dead.
_SESSION_SECONDS = 6.0
_ANSWER_SECONDS = 4.0
_STEP_SECONDS = 0.01

# Kazoo logs each try of each link; what becomes of a link is logged by whoever has it, once.
_kazoo_log = logging.getLogger(f"{__name__}.kazoo")
_kazoo_log.setLevel(logging.CRITICAL)


@dataclass(frozen=True)
class Ensemble:
    """The servers, and what they want to know of us. The one place where clients of theirs are made.

    Attributes:
        hosts: ``HOST:PORT`` separated by commas.
        path: below which everything of ours is.
        auth: where the credential is kept, ``env:NAME`` or ``file:/PATH``, as for the secrets of jobs;
            empty: there is none. What is kept is ``SCHEME:CREDENTIAL``, such as ``digest:USER:PASSWORD``.
        ca_file: of whoever has signed the servers' certificates. With it, TLS is spoken and each server's
            certificate has to be of the name that it is reached by; empty: no TLS.
        cert_file, key_file: our own certificate, where the servers ask for one.
    """

    hosts: str
    path: str
    auth: str = ""
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""

    @classmethod
    def of(cls, settings: Settings) -> Ensemble:
        """The one that the options name.

        Raises:
            ConfigError: a file of theirs cannot be read, or there is no such credential.
        """
        names = ("hosts", "path", "auth", "ca_file", "cert_file", "key_file")
        ensemble = cls(**{name: getattr(settings, f"zookeeper_{name}") for name in names})
        for name in ("ca_file", "cert_file", "key_file"):
            _require_readable(f"zookeeper_{name}", getattr(ensemble, name))
        if bool(ensemble.cert_file) != bool(ensemble.key_file):
            raise ConfigError("zookeeper_cert_file and zookeeper_key_file go together: set both, or none")
        if ensemble.cert_file and not ensemble.ca_file:
            raise ConfigError("zookeeper_cert_file wants TLS: set zookeeper_ca_file as well")
        ensemble._credential()
        ensemble._context()
        return ensemble

    def node(self, *names: str) -> str:
        """The path of a node of ours."""
        return "/".join([self.path.rstrip("/"), *names])

    def make_client(self, **options: Any) -> KazooClient:
        """A client that has not begun to connect. Further options are kazoo's.

        With a credential, what it makes is open to the bearer of that alone; else to everybody.
        """
        credential = self._credential()
        return KazooClient(
            hosts=self.hosts,
            handler=_Handler(self._context()),
            logger=_kazoo_log,
            auth_data=[credential] if credential else None,
            default_acl=CREATOR_ALL_ACL if credential else None,
            **options,
        )

    def _context(self) -> ssl.SSLContext | None:
        if not self.ca_file:
            return None
        # Whoever else the system trusts is not asked.
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
            if self.cert_file:
                context.load_cert_chain(self.cert_file, self.key_file, password="")
        except (OSError, ValueError) as error:
            files = ", ".join(filter(None, (self.ca_file, self.cert_file, self.key_file)))
            raise ConfigError(f"TLS for ZooKeeper cannot be used with {files}: {error}") from error
        return context

    def _credential(self) -> tuple[str, str] | None:
        # Looked up each time: it may be changed while a conductor runs.
        if not self.auth:
            return None
        try:
            text = kept_text(Secret(self.auth))
        except SecretUnusable as error:
            raise ConfigError(f"zookeeper_auth {self.auth} cannot be used: {error.why}") from None
        scheme, _, credential = text.strip().partition(":")
        if not scheme.isidentifier() or not credential:
            # What is kept there is not repeated: it may be the password alone.
            raise ConfigError(
                f"zookeeper_auth {self.auth} cannot be used: what is kept there should read "
                "digest:USER:PASSWORD"
            )
        return scheme, credential


def _require_readable(option: str, path: str) -> None:
    if not path:
        return
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise ConfigError(f"{option} {path} cannot be read: {(error.strerror or '').lower()}") from None


class Session:
    """A session with the servers, connected. It is broken as soon as it is suspended: kazoo says much later
    that it is lost. A broken one is closed, and another one made by whoever needs it.

    Args:
        on_broken: called by a thread of kazoo.

    Raises:
        LinkBroken: no server answers, within seconds.
    """

    def __init__(self, ensemble: Ensemble, *, on_broken: Callable[[], None] = lambda: None) -> None:
        self._on_broken = on_broken
        self.broken = False  # written by a thread of kazoo, and never taken back
        try:
            self.client = ensemble.make_client(
                timeout=_SESSION_SECONDS,
                # Each host once: what waits and tries again is whoever makes sessions.
                connection_retry={"max_tries": 1},
            )
        except ConfigError as error:
            raise LinkBroken(str(error)) from None
        self.client.add_listener(self._note_state)
        try:
            with translated():
                self._connect(self.client.handler)
        except BaseException:
            self.close()
            raise

    def require_whole(self) -> None:
        """Raises LinkBroken once it is broken."""
        if self.broken:
            raise LinkBroken("the session is suspended")

    def answer(self, asked: Any) -> Any:
        """The answer to a question that was asked of `client`, as soon as it is there.

        Raises:
            LinkBroken: none comes.
            KazooException: it is a refusal.
        """
        return asked.get(timeout=_ANSWER_SECONDS)

    def ensure_path(self, path: str) -> None:
        """Make the node, and what is above it, unless it is there."""
        if self.answer(self.client.exists_async(path)) is None:
            with contextlib.suppress(NodeExistsError):  # somebody else was quicker
                self.answer(self.client.create_async(path, makepath=True))

    def close(self) -> None:
        """Let go of everything; raises nothing."""
        with contextlib.suppress(*KAZOO_ERRORS):
            self.client.stop()
        with contextlib.suppress(*KAZOO_ERRORS):
            self.client.close()

    def _connect(self, handler: _Handler) -> None:
        # Not by its own start(): that waits to the end when every host has refused at once.
        give_up = time.monotonic() + _ANSWER_SECONDS
        connected = self.client.start_async()
        while not connected.wait(_STEP_SECONDS):
            if handler.tried and self.client.client_state == KeeperState.CLOSED:
                raise LinkBroken(handler.refusal or "no server can be reached")
            if time.monotonic() >= give_up:
                raise LinkBroken(handler.refusal or "no server answers")

    def _note_state(self, state: str) -> None:
        if state != KazooState.CONNECTED:
            self.broken = True
            self._on_broken()


class _Handler(SequentialThreadingHandler):  # type: ignore[misc]  # kazoo is untyped
    """Speaks TLS as we want it, knows how the last try to connect went, and lets nobody wait for ever.

    Kazoo's own TLS trusts all whom the system trusts, and leaves a socket open when it is refused.
    A server that holds the connection and says nothing is found out by kazoo itself only when two thirds of
    the session are over; who asks without a limit, as TaskFlow does, would wait that long.
    """

    def __init__(self, context: ssl.SSLContext | None) -> None:
        super().__init__()
        self._context = context
        self.tried = False  # whether kazoo has begun to connect to a host
        self.refusal = ""  # why it could not, where that is worth telling

    def create_connection(self, address: Any, hostname: str, timeout: float, **options: Any) -> Any:
        self.tried = True
        connected = socket.create_connection(address, timeout)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._context is None:
            return connected
        try:
            return self._context.wrap_socket(connected, server_hostname=hostname)
        except OSError as error:  # the certificate, most likely: "no server" would mislead
            connected.close()
            self.refusal = f"TLS: {error.strerror or error}"
            raise

    def async_result(self) -> Any:
        return _Answer(self)


class _Answer(AsyncResult):  # type: ignore[misc]  # kazoo is untyped
    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        return super().get(block, _ANSWER_SECONDS if timeout is None else timeout)


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """What kazoo raises in here is a LinkBroken."""
    try:
        yield
    except KAZOO_ERRORS as error:
        raise LinkBroken(str(error) or type(error).__name__) from error
