"""`python -m gossip_grpc` is the command `gossip-grpc`."""

from gossip_grpc.cli import main

main()
