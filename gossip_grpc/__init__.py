"""gossip-grpc: membership, failure detection and replicated state over gRPC."""

__version__ = "0.1.0"
