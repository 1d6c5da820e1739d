"""What a client carries from call to call: the token of all that it has written and seen, kept short."""

from __future__ import annotations

from threading import Lock
from typing import Any

from google.protobuf.message import Message

from gossip_grpc.client.results import Session
from gossip_grpc.errors import InvalidArgumentError, Reason


class Carrier:
    """A client's session; threads may share it.

    Args:
        session: what it begins with.
        on: whether anything is carried; without, the client asks each node for what it has, and never waits.
    """

    def __init__(self, session: Session | None, *, on: bool) -> None:
        self._on = on
        self._lock = Lock()
        self._session = Session()
        self._raw = b""
        self.replace(session or Session())

    @property
    def session(self) -> Session:
        """The token as of now."""
        return self._session

    def replace(self, session: object) -> None:
        """Begin with this token anew."""
        if not isinstance(session, Session):
            problem = f"must be a Session, not {type(session).__name__}; `Session.parse` reads its text"
            raise InvalidArgumentError(
                f"session {problem}", reason=Reason.INVALID_ARGUMENT, fields={"session": problem}
            )
        with self._lock:
            self._keep(session)

    def learn(self, token: Session) -> None:
        """Take what a call has written or seen into the session."""
        if self._on:
            with self._lock:
                self._keep(self._session.merge(token))

    def attach(self, request: Message) -> None:
        """Send the session with a request, or the first of several, if there is one and the request takes one."""
        raw = self._raw
        message: Any = request
        if self._on and raw and "session" in message.DESCRIPTOR.fields_by_name:
            message.session.MergeFromString(raw)

    def _keep(self, session: Session) -> None:
        self._session, self._raw = session, session.to_bytes()
