"""What one user of the cluster has written so far, as a token to hand on."""

from __future__ import annotations

from gossip.v1 import common_pb2


class Session:
    """Hand its token on with a call to any node: a read then reflects all of it, and a write wins over it."""

    def __init__(self) -> None:
        self._clock = 0
        self._seen: dict[tuple[str, int], int] = {}

    def merge(self, token: common_pb2.Session) -> None:
        """Take in the token of a write.

        Dots become "all up to here of that origin", which asks for a little more than what was written, and keeps the
        token as short as the cluster has nodes.
        """
        self._clock = max(self._clock, token.clock)
        for dot in (*token.dots, *token.complete):
            origin = (dot.origin.node_id, dot.origin.generation)
            self._seen[origin] = max(self._seen.get(origin, 0), dot.sequence)

    def token(self) -> common_pb2.Session:
        return common_pb2.Session(
            clock=self._clock,
            complete=[
                common_pb2.Dot(origin=common_pb2.Origin(node_id=node_id, generation=generation), sequence=sequence)
                for (node_id, generation), sequence in self._seen.items()
            ],
        )
