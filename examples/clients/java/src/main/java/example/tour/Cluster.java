package example.tour;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import com.google.rpc.ErrorInfo;
import gossip.v1.ClusterServiceGrpc;
import gossip.v1.ClusterServiceGrpc.ClusterServiceBlockingStub;
import gossip.v1.CounterServiceGrpc;
import gossip.v1.CounterServiceGrpc.CounterServiceBlockingStub;
import gossip.v1.KeyValueServiceGrpc;
import gossip.v1.KeyValueServiceGrpc.KeyValueServiceBlockingStub;
import gossip.v1.Kv.KeyValueServiceWatchRequest;
import gossip.v1.Kv.KeyValueServiceWatchResponse;
import gossip.v1.SetServiceGrpc;
import gossip.v1.SetServiceGrpc.SetServiceBlockingStub;
import io.grpc.Context;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.time.Duration;
import java.util.Iterator;
import java.util.List;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;

/** A client of several nodes: it asks one of them, and moves on to the next when that one fails. Threads may share it. */
final class Cluster implements AutoCloseable {
  /** What one node gets to answer in. */
  private static final Duration ATTEMPT_TIMEOUT = Duration.ofSeconds(5);

  /** What all nodes together get. */
  private static final Duration CALL_TIMEOUT = Duration.ofSeconds(20);

  private static final long PAUSE_MILLIS = 200;

  /**
   * The node has answered with one of these, and did nothing: another node may do it. With any other reason the next
   * one would answer the same.
   */
  private static final Set<String> ASK_ANOTHER = Set.of("NOT_READY", "STOPPING", "SESSION_BEHIND");

  /** One node. Its stubs have a deadline, from the moment that they are asked for; that of a watch has none. */
  static final class Node {
    final String address;
    private final ManagedChannel channel;

    Node(String address) {
      this.address = address;
      this.channel =
          Grpc.newChannelBuilder(address, InsecureChannelCredentials.create())
              // A watcher may hear nothing for hours; this is how it learns that the node's host is gone.
              .keepAliveTime(10, TimeUnit.SECONDS)
              .keepAliveTimeout(5, TimeUnit.SECONDS)
              .build();
    }

    KeyValueServiceBlockingStub kv() {
      return KeyValueServiceGrpc.newBlockingStub(channel).withDeadlineAfter(ATTEMPT_TIMEOUT);
    }

    CounterServiceBlockingStub counter() {
      return CounterServiceGrpc.newBlockingStub(channel).withDeadlineAfter(ATTEMPT_TIMEOUT);
    }

    SetServiceBlockingStub set() {
      return SetServiceGrpc.newBlockingStub(channel).withDeadlineAfter(ATTEMPT_TIMEOUT);
    }

    ClusterServiceBlockingStub cluster() {
      return ClusterServiceGrpc.newBlockingStub(channel).withDeadlineAfter(ATTEMPT_TIMEOUT);
    }

    /** gRPC waits ever longer between attempts to connect, up to two minutes; the next call is to try at once. */
    void forgetBackoff() {
      channel.resetConnectBackoff();
    }
  }

  private final List<Node> nodes;
  private int position;

  Cluster(List<String> addresses) {
    nodes = addresses.stream().map(Node::new).toList();
  }

  List<Node> nodes() {
    return nodes;
  }

  /** The node that is asked now. */
  synchronized Node current() {
    return nodes.get(position);
  }

  /** Moves on from a node that failed, unless another thread has done so already. */
  private synchronized void leave(Node failed) {
    if (current() == failed) {
      position = (position + 1) % nodes.size();
      current().forgetBackoff();
    }
  }

  /**
   * Asks the current node, and the others while it makes sense. For reads, and for writes that say what is to be: Put,
   * Delete, Add and Remove of a set. Not for adding to a counter, which counts twice if it is done twice.
   */
  <T> T call(Function<Node, T> ask) {
    long end = System.nanoTime() + CALL_TIMEOUT.toNanos();
    for (int attempt = 1; ; attempt++) {
      Node node = current();
      try {
        return ask.apply(node);
      } catch (StatusRuntimeException error) {
        if (!movesOn(error) || System.nanoTime() - end > 0) {
          throw error;
        }
      }
      leave(node);
      if (attempt % nodes.size() == 0) {
        rest();
      }
    }
  }

  /** What there is below a prefix and every change of it, for ever. */
  Watch watch(String prefix, String token, Session session) {
    return new Watch(prefix, token, session);
  }

  @Override
  public void close() {
    nodes.forEach(node -> node.channel.shutdownNow());
  }

  /**
   * A stream of events. When a node fails or cuts a slow watcher off, it goes on where it was: at that node without loss
   * or repeat; at another one with RESET and a snapshot. An event's token resumes it later.
   */
  final class Watch implements AutoCloseable {
    private final String prefix;
    private final Session session;
    private String token;
    private Node node;
    private Context.CancellableContext context;
    private Iterator<KeyValueServiceWatchResponse> events;
    private int failures;

    private Watch(String prefix, String token, Session session) {
      this.prefix = prefix;
      this.token = token;
      this.session = session;
      open();
    }

    /** Waits for the next event. */
    KeyValueServiceWatchResponse next() {
      while (true) {
        try {
          KeyValueServiceWatchResponse event = events.next();
          failures = 0;
          if (!event.getResumeToken().isEmpty()) {
            token = event.getResumeToken();
          }
          return event;
        } catch (StatusRuntimeException error) {
          Optional<ErrorInfo> info = detail(error, ErrorInfo.class);
          if (info.isPresent() && info.get().getReason().equals("SLOW_WATCHER")) {
            token = info.get().getMetadataOrThrow("resume_token");
          } else if (movesOn(error)) {
            leave(node);
            failures++;
            if (failures % nodes.size() == 0) {
              rest();
            }
          } else {
            throw error;
          }
        }
        close();
        open();
      }
    }

    /** Ends the call, which would go on for ever otherwise. */
    @Override
    public void close() {
      context.cancel(null);
    }

    private void open() {
      node = current();
      KeyValueServiceWatchRequest.Builder request =
          KeyValueServiceWatchRequest.newBuilder().setPrefix(prefix).setResumeToken(token);
      if (session != null) {
        request.setSession(session.token());
      }
      context = Context.current().withCancellation();
      KeyValueServiceBlockingStub stub = KeyValueServiceGrpc.newBlockingStub(node.channel);
      context.run(() -> events = stub.watch(request.build()));
    }
  }

  private static boolean movesOn(StatusRuntimeException error) {
    Optional<ErrorInfo> info = detail(error, ErrorInfo.class);
    if (info.isPresent()) {
      return ASK_ANOTHER.contains(info.get().getReason());
    }
    // Nobody knows whether it took effect.
    Status.Code code = error.getStatus().getCode();
    return code == Status.Code.UNAVAILABLE || code == Status.Code.DEADLINE_EXCEEDED;
  }

  /** What the node says of an error to programs, if it says anything of that kind. */
  static <T extends Message> Optional<T> detail(StatusRuntimeException error, Class<T> kind) {
    com.google.rpc.Status status = StatusProto.fromThrowable(error);
    for (Any packed : status == null ? List.<Any>of() : status.getDetailsList()) {
      if (packed.is(kind)) {
        try {
          return Optional.of(packed.unpack(kind));
        } catch (InvalidProtocolBufferException broken) {
          throw new IllegalStateException(broken);
        }
      }
    }
    return Optional.empty();
  }

  /** A moment, not the same for all clients. */
  static void rest() {
    try {
      Thread.sleep(PAUSE_MILLIS / 2 + ThreadLocalRandom.current().nextLong(PAUSE_MILLIS));
    } catch (InterruptedException interrupted) {
      Thread.currentThread().interrupt();
      throw new IllegalStateException(interrupted);
    }
  }
}
