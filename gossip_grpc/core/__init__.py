"""The protocol as a pure state machine: no IO, no clock, no global randomness.

Everything here takes `now` (seconds on any steady clock) and a seeded `random.Random`, and says what is to be sent.
The gRPC node and the simulator drive the same code. May import nothing but itself, `gossip_grpc.errors`, xxhash and
the pure parts of the standard library; `tests/test_core_imports.py` enforces it.
"""
