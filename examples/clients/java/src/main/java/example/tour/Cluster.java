package example.tour;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import com.google.rpc.ErrorInfo;
import io.gossip.v1.ClusterServiceGrpc;
import io.gossip.v1.ClusterServiceGrpc.ClusterServiceBlockingStub;
import io.gossip.v1.CounterServiceGrpc;
import io.gossip.v1.CounterServiceGrpc.CounterServiceBlockingStub;
import io.gossip.v1.EventServiceGrpc;
import io.gossip.v1.EventServiceGrpc.EventServiceBlockingStub;
import io.gossip.v1.EventServiceSubscribeRequest;
import io.gossip.v1.EventServiceSubscribeResponse;
import io.gossip.v1.KeyValueServiceGrpc;
import io.gossip.v1.KeyValueServiceGrpc.KeyValueServiceBlockingStub;
import io.gossip.v1.KeyValueServiceWatchRequest;
import io.gossip.v1.KeyValueServiceWatchResponse;
import io.gossip.v1.SetServiceGrpc;
import io.gossip.v1.SetServiceGrpc.SetServiceBlockingStub;
import io.grpc.Context;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.time.Duration;
import java.util.EnumSet;
import java.util.Iterator;
import java.util.List;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.function.BiFunction;
import java.util.function.Function;

/** A client of several nodes: it asks one of them, and moves on to the next when that one fails. Threads may share it. */
final class Cluster implements AutoCloseable {
  /** What one node gets to answer in. */
  private static final Duration ATTEMPT_TIMEOUT = Duration.ofSeconds(5);

  /** What all nodes together get. */
  private static final Duration CALL_TIMEOUT = Duration.ofSeconds(20);

  /** How long to wait when all nodes have failed; twice as long each time that they fail again ... */
  private static final long PAUSE_MILLIS = 200;

  /** ... but no longer than this. */
  private static final long MAX_PAUSE_MILLIS = 2_000;

  /**
   * Another node may do what a node has refused for one of these reasons. For any other, it would refuse it as well.
   */
  private static final Set<String> ASK_ANOTHER =
      Set.of("NOT_READY", "STOPPING", "DISK_FAILED", "SESSION_BEHIND", "SESSION_LIMIT", "WATCH_LIMIT");

  private static final Set<Status.Code> NO_ANSWER =
      EnumSet.of(Status.Code.UNAVAILABLE, Status.Code.DEADLINE_EXCEEDED, Status.Code.UNKNOWN);

  /** One node. Its stubs have a deadline, from the moment that they are asked for; those of streams have none. */
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

    EventServiceBlockingStub event() {
      return EventServiceGrpc.newBlockingStub(channel).withDeadlineAfter(ATTEMPT_TIMEOUT);
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

  Cluster(List<Node> nodes) {
    this.nodes = nodes;
  }

  /** The same nodes and connections, for one that asks another node first. */
  Cluster startingAt(int index) {
    Cluster other = new Cluster(nodes);
    other.position = index % nodes.size();
    return other;
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
   * Asks the current node, and the others while it makes sense. For reads, and for writes that do no harm if they are
   * done twice: Put, Delete, Add and Remove of a set; and Add of a counter and Publish, if they have a request_id that
   * stays the same.
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
        rest(attempt / nodes.size());
      }
    }
  }

  /** What there is below a prefix and every change of it, for ever; all that there is first if the token is empty. */
  Stream<KeyValueServiceWatchResponse> watch(String prefix, String token, Session session) {
    KeyValueServiceWatchRequest.Builder request = KeyValueServiceWatchRequest.newBuilder().setPrefix(prefix);
    if (session != null) {
      request.setSession(session.token());
    }
    return new Stream<>(
        token,
        KeyValueServiceWatchResponse::getResumeToken,
        (node, last) -> KeyValueServiceGrpc.newBlockingStub(node.channel).watch(request.setResumeToken(last).build()));
  }

  /** The events of some topics that come from now on, or after a token, for ever. */
  Stream<EventServiceSubscribeResponse> subscribe(List<String> topics, String token) {
    EventServiceSubscribeRequest.Builder request = EventServiceSubscribeRequest.newBuilder().addAllTopics(topics);
    return new Stream<>(
        token,
        EventServiceSubscribeResponse::getResumeToken,
        (node, last) -> EventServiceGrpc.newBlockingStub(node.channel).subscribe(request.setResumeToken(last).build()));
  }

  @Override
  public void close() {
    nodes.forEach(node -> node.channel.shutdownNow());
  }

  /**
   * A stream that goes on where it was when a node fails or cuts a slow reader off: at that node without loss or repeat;
   * another one sends RESET and what it has. The resume_token of what was received resumes it later.
   */
  final class Stream<T> implements AutoCloseable {
    private final Function<T, String> tokenOf;
    private final BiFunction<Node, String, Iterator<T>> begin;
    private String token;
    private Node node;
    private Context.CancellableContext context;
    private Iterator<T> messages;
    private int failures;

    private Stream(String token, Function<T, String> tokenOf, BiFunction<Node, String, Iterator<T>> begin) {
      this.token = token;
      this.tokenOf = tokenOf;
      this.begin = begin;
      open();
    }

    /** Waits for the next message. */
    T next() {
      while (true) {
        try {
          T message = messages.next();
          failures = 0;
          if (!tokenOf.apply(message).isEmpty()) {
            token = tokenOf.apply(message);
          }
          return message;
        } catch (StatusRuntimeException error) {
          Optional<ErrorInfo> info = detail(error, ErrorInfo.class);
          if (info.isPresent() && info.get().getReason().equals("SLOW_WATCHER")) {
            token = info.get().getMetadataOrThrow("resume_token");
          } else if (movesOn(error)) {
            leave(node);
            failures++;
            if (failures % nodes.size() == 0) {
              rest(failures / nodes.size());
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
      context = Context.current().withCancellation();
      context.run(() -> messages = begin.apply(node, token));
    }
  }

  private static boolean movesOn(StatusRuntimeException error) {
    Optional<ErrorInfo> info = detail(error, ErrorInfo.class);
    if (info.isPresent()) {
      // The node has answered, and done nothing. So SESSION_BEHIND is no unknown outcome, though its code is
      // DEADLINE_EXCEEDED, too.
      return ASK_ANOTHER.contains(info.get().getReason());
    }
    // No node says so: nobody knows whether the call took effect. A connection that breaks right under a call is UNKNOWN.
    return NO_ANSWER.contains(error.getStatus().getCode());
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

  /** Waits, not equally long for all clients, so that they do not all come at once to a node that is back. */
  static void rest(int failures) {
    long wait = Math.min(PAUSE_MILLIS << Math.min(failures - 1, 10), MAX_PAUSE_MILLIS);
    try {
      Thread.sleep(wait / 2 + ThreadLocalRandom.current().nextLong(wait));
    } catch (InterruptedException interrupted) {
      Thread.currentThread().interrupt();
      throw new IllegalStateException(interrupted);
    }
  }
}
