package example.tour;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.protobuf.ByteString;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import example.tour.Cluster.Node;
import io.gossip.v1.ClusterServiceGetStatusRequest;
import io.gossip.v1.ClusterServiceGetStatusResponse;
import io.gossip.v1.ClusterServiceListMembersRequest;
import io.gossip.v1.CounterServiceAddRequest;
import io.gossip.v1.CounterServiceGetRequest;
import io.gossip.v1.Dot;
import io.gossip.v1.Entry;
import io.gossip.v1.EventServicePublishRequest;
import io.gossip.v1.EventServiceSubscribeResponse;
import io.gossip.v1.KeyValueEventKind;
import io.gossip.v1.KeyValueServiceDeleteRequest;
import io.gossip.v1.KeyValueServiceGetRequest;
import io.gossip.v1.KeyValueServiceGetResponse;
import io.gossip.v1.KeyValueServiceListRequest;
import io.gossip.v1.KeyValueServiceListResponse;
import io.gossip.v1.KeyValueServicePutRequest;
import io.gossip.v1.KeyValueServicePutResponse;
import io.gossip.v1.KeyValueServiceWatchResponse;
import io.gossip.v1.Member;
import io.gossip.v1.MemberStatus;
import io.gossip.v1.Origin;
import io.gossip.v1.SetServiceAddRequest;
import io.gossip.v1.SetServiceGetRequest;
import io.gossip.v1.SetServiceRemoveRequest;
import io.gossip.v1.SubscriptionEventKind;
import io.gossip.v1.Value;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Base64;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.Consumer;
import java.util.function.IntConsumer;
import java.util.stream.Stream;

/**
 * What a client does with a gossip-grpc cluster. Prints a line of JSON for each step.
 *
 * <p>java -jar target/tour.jar PREFIX ADDRESS...
 */
final class Tour {
  private static final int TASKS = 8;
  private static final int ADDS_PER_TASK = 25;
  private static final int HAND_OVERS = 20;
  private static final int ATTEMPTS = 10;
  private static final int BEATS_BEFORE = 5; // writes before the tour is ready for the node's death
  private static final int BEATS_AFTER = 10; // writes after it
  private static final Duration PATIENCE = Duration.ofSeconds(60); // for a node to die, and to come back
  private static final Duration BETWEEN_BEATS = Duration.ofMillis(50);

  private static final Gson JSON = new GsonBuilder().disableHtmlEscaping().create();
  private static final PrintStream OUT = new PrintStream(System.out, true, StandardCharsets.UTF_8);

  private final String prefix;
  private final Cluster cluster;
  private final Session session = new Session(); // of all that the tour has written
  private final Map<Node, String> names = new LinkedHashMap<>();
  private final AtomicLong visits = new AtomicLong(); // additions to the counter that were acknowledged

  private Tour(String prefix, Cluster cluster) {
    this.prefix = prefix;
    this.cluster = cluster;
  }

  public static void main(String[] arguments) throws Exception {
    if (arguments.length < 2) {
      System.err.println("usage: java -jar tour.jar PREFIX ADDRESS...");
      System.exit(2);
    }
    List<Node> nodes = Stream.of(arguments).skip(1).map(Node::new).toList();
    try (Cluster cluster = new Cluster(nodes)) {
      new Tour(arguments[0], cluster).run();
    }
  }

  private void run() throws Exception {
    connect();
    put();
    get();
    list();
    watch();
    count();
    collect();
    members();
    subscribe();
    failures();
    handOver();
    failover();
    say("done", Map.of());
  }

  // --- the steps ---

  private void connect() {
    for (Node node : cluster.nodes()) {
      names.put(node, awaitReady(node).getNodeId());
    }
    say("connect", Map.of("node", names.get(cluster.current()), "nodes", names.values()));
  }

  private void put() {
    ByteString blob = ByteString.copyFrom(new byte[] {0x00, (byte) 0xff, 0x10});
    write("kv/blob", Value.newBuilder().setData(blob).build());
    write("kv/greeting", text("hello"));
    write("kv/unicode", text("Grüße, 世界 🐌"));
    say("put", Map.of("count", 3));
  }

  private void get() {
    Map<String, String> values = new LinkedHashMap<>();
    for (String key : List.of("kv/blob", "kv/greeting", "kv/unicode")) {
      Entry entry = cluster.call(node -> getAt(node, key)).getEntry();
      values.put(key, show(entry.getValue()));
    }
    say("get", Map.of("values", values));
  }

  private void list() {
    Keys found = keys(cluster.current(), "kv/", 2);
    say("list", Map.of("keys", found.keys, "pages", found.pages));
  }

  private void watch() {
    write("watched/a", text("0"));
    List<String> seen = new ArrayList<>();
    String token = "";
    try (Cluster.Stream<KeyValueServiceWatchResponse> watch = cluster.watch(prefix + "watched/", "", session)) {
      boolean more = true;
      while (more) {
        KeyValueServiceWatchResponse event = watch.next();
        seen.add(describe(event));
        if (event.getKind() == KeyValueEventKind.KEY_VALUE_EVENT_KIND_CURRENT) {
          write("watched/a", text("1"));
          write("watched/a", text("2"));
        }
        token = event.getResumeToken();
        more = !event.getEntry().getValue().getText().equals("2");
      }
    }
    say("watch", Map.of("events", seen));

    // Nobody watches now; the token brings what was missed.
    remove("watched/a");
    write("watched/b", text("3"));
    seen = new ArrayList<>();
    try (Cluster.Stream<KeyValueServiceWatchResponse> watch = cluster.watch(prefix + "watched/", token, session)) {
      boolean more = true;
      while (more) {
        KeyValueServiceWatchResponse event = watch.next();
        if (event.getKind() != KeyValueEventKind.KEY_VALUE_EVENT_KIND_CURRENT) {
          seen.add(describe(event));
        }
        more = !event.getEntry().getValue().getText().equals("3");
      }
    }
    say("watch resumed", Map.of("events", seen));
  }

  private void count() throws Exception {
    Runnable join =
        tasks(
            task -> {
              // At two nodes, as if the first answer had been lost: it counts once.
              Cluster here = cluster.startingAt(task);
              Cluster there = cluster.startingAt(task + 1);
              for (int number = 0; number < ADDS_PER_TASK; number++) {
                add(here, there);
              }
            });
    join.run();
    say("counter", Map.of("tasks", TASKS, "visits", visits.get(), "surplus", surplus()));
  }

  private void collect() {
    String key = prefix + "colours";
    var added =
        cluster.call(
            node ->
                node.set()
                    .add(
                        SetServiceAddRequest.newBuilder()
                            .setKey(key)
                            .addAllElements(Stream.of("red", "green", "blue").map(Tour::text).toList())
                            .setSession(session.token())
                            .build()));
    session.merge(added.getSession());
    var removed =
        cluster.call(
            node ->
                node.set()
                    .remove(
                        SetServiceRemoveRequest.newBuilder()
                            .setKey(key)
                            .addAllElements(Stream.of("green", "mauve").map(Tour::text).toList())
                            .setSession(session.token())
                            .build()));
    session.merge(removed.getSession());
    var got =
        cluster.call(
            node -> node.set().get(SetServiceGetRequest.newBuilder().setKey(key).setSession(session.token()).build()));
    say(
        "set",
        Map.of(
            "added", added.getAdded(),
            "removed", removed.getRemoved(),
            "size", got.getSize(),
            "elements", got.getElementsList().stream().map(Tour::show).toList()));
  }

  private void members() {
    ClusterServiceListMembersRequest request =
        ClusterServiceListMembersRequest.newBuilder().addStatuses(MemberStatus.MEMBER_STATUS_ALIVE).build();
    var answer = cluster.call(node -> node.cluster().listMembers(request));
    say("members", Map.of("alive", answer.getMembersList().stream().map(Member::getNodeId).toList()));
  }

  private void subscribe() {
    Cluster publisher = cluster.startingAt(1);
    Cluster subscriber = cluster.startingAt(2);
    List<String> topics = List.of(prefix + "news/*");
    List<String> seen = new ArrayList<>();
    String token = "";
    try (Cluster.Stream<EventServiceSubscribeResponse> events = subscriber.subscribe(topics, "")) {
      boolean more = true;
      while (more) {
        EventServiceSubscribeResponse told = events.next();
        seen.add(describe(told));
        if (told.getKind() == SubscriptionEventKind.SUBSCRIPTION_EVENT_KIND_CURRENT) {
          publish(publisher, "news/a", "1", UUID.randomUUID());
          // Twice, as if the first answer had been lost: it is one event.
          UUID requestId = UUID.randomUUID();
          publish(publisher, "news/b", "2", requestId);
          publish(publisher, "news/b", "2", requestId);
          publish(publisher, "news/a", "3", UUID.randomUUID());
        }
        token = told.getResumeToken();
        more = !told.getEvent().getPayload().getText().equals("3");
      }
    }
    say("subscribe", Map.of("events", seen));

    // Nobody subscribes now; the token brings what was missed.
    publish(publisher, "news/b", "4", UUID.randomUUID());
    publish(publisher, "news/a", "5", UUID.randomUUID());
    seen = new ArrayList<>();
    try (Cluster.Stream<EventServiceSubscribeResponse> events = subscriber.subscribe(topics, token)) {
      boolean more = true;
      while (more) {
        EventServiceSubscribeResponse told = events.next();
        if (told.getKind() != SubscriptionEventKind.SUBSCRIPTION_EVENT_KIND_CURRENT) {
          seen.add(describe(told));
        }
        more = !told.getEvent().getPayload().getText().equals("5");
      }
    }
    say("subscribe resumed", Map.of("events", seen));
  }

  private void failures() {
    refused(node -> node.kv().get(KeyValueServiceGetRequest.newBuilder().setKey(prefix + "missing").build()));
    refused(node -> node.kv().get(KeyValueServiceGetRequest.getDefaultInstance()));
    Dot nobody = Dot.newBuilder().setOrigin(Origin.newBuilder().setNodeId("nobody").setGeneration(1)).setSequence(1).build();
    var unborn = io.gossip.v1.Session.newBuilder().addDots(nobody);
    KeyValueServiceGetRequest request = KeyValueServiceGetRequest.newBuilder().setKey("any").setSession(unborn).build();
    refused(node -> node.kv().withDeadlineAfter(Duration.ofSeconds(1)).get(request));
  }

  private void refused(Consumer<Node> call) {
    StatusRuntimeException error = refusal(call);
    ErrorInfo info = Cluster.detail(error, ErrorInfo.class).orElseThrow(() -> error);
    BadRequest wrong = Cluster.detail(error, BadRequest.class).orElse(BadRequest.getDefaultInstance());
    say(
        "error",
        Map.of(
            "code", error.getStatus().getCode().value(),
            "domain", info.getDomain(),
            "reason", info.getReason(),
            "fields", wrong.getFieldViolationsList().stream().map(BadRequest.FieldViolation::getField).toList()));
  }

  private void handOver() {
    List<Node> nodes = cluster.nodes();
    int stale = 0;
    for (int number = 0; number < HAND_OVERS; number++) {
      Value value = text(Integer.toString(number));
      session.merge(putAt(nodes.get(number % nodes.size()), "handed", value, session).getSession());
      try {
        Node other = nodes.get((number + 1) % nodes.size());
        stale += getAt(other, "handed").getEntry().getValue().equals(value) ? 0 : 1;
      } catch (StatusRuntimeException error) {
        if (error.getStatus().getCode() != Status.Code.NOT_FOUND) {
          throw error;
        }
        stale++;
      }
    }
    say("session", Map.of("reads", HAND_OVERS, "stale", stale));
  }

  private void failover() throws Exception {
    Node from = cluster.current();
    try (Cluster.Stream<KeyValueServiceWatchResponse> watch = cluster.watch(prefix + "watched/", "", null)) {
      until(watch, "CURRENT");

      AtomicBoolean moved = new AtomicBoolean();
      Runnable join =
          tasks(
              task -> {
                Cluster nodes = cluster.startingAt(task);
                while (!moved.get()) {
                  add(nodes);
                  pause();
                }
              });
      List<String> written;
      try {
        written = beats(from);
      } finally {
        moved.set(true);
      }
      join.run();
      say(
          "failover",
          Map.of(
              "from", names.get(from),
              "to", names.get(cluster.current()),
              "info", Map.of("beats", written.size())));

      List<String> seen = until(watch, "CURRENT");
      beat("watched/c");
      seen.addAll(until(watch, "PUT watched/c=text:beat"));
      say("watch moved", Map.of("events", seen));

      awaitReady(from);
      written.removeAll(keys(from, "beats/", 0).keys);
      say(
          "return",
          Map.of(
              "node", names.get(from),
              "missing", written.size(),
              "surplus", surplus(),
              "info", Map.of("visits", visits.get())));
    }
  }

  /**
   * Writes until some time after a node has failed; returns the keys written. Each is a key of its own: a write that is
   * retried elsewhere must not hide one that was acknowledged here.
   */
  private List<String> beats(Node from) {
    List<String> written = new ArrayList<>();
    long end = System.nanoTime() + PATIENCE.toNanos();
    for (int after = 0; after < BEATS_AFTER; ) {
      if (System.nanoTime() - end > 0) {
        throw new IllegalStateException("no node has failed in " + PATIENCE.toSeconds() + " s");
      }
      String key = "beats/%06d".formatted(written.size());
      beat(key);
      written.add(key);
      if (written.size() == BEATS_BEFORE) {
        say("ready for failover", Map.of("node", names.get(from)));
      }
      if (cluster.current() != from) {
        after++;
      }
      pause();
    }
    return written;
  }

  /**
   * How much more each node has counted than was acknowledged. Waits until none has: what two nodes counted before they
   * heard of each other is taken back once they have.
   */
  private Map<String, Long> surplus() {
    long end = System.nanoTime() + PATIENCE.toNanos();
    while (true) {
      Map<String, Long> surplus = new LinkedHashMap<>();
      names.forEach((node, name) -> surplus.put(name, visitsAt(node) - visits.get()));
      if (surplus.values().stream().allMatch(value -> value == 0) || System.nanoTime() - end > 0) {
        return surplus;
      }
      Cluster.rest(1);
    }
  }

  /** Starts tasks. What it returns waits for all, and fails if one has failed. */
  private static Runnable tasks(IntConsumer task) {
    List<CompletableFuture<Void>> running = new ArrayList<>();
    ExecutorService pool = Executors.newFixedThreadPool(TASKS);
    for (int number = 0; number < TASKS; number++) {
      int name = number;
      running.add(CompletableFuture.runAsync(() -> task.accept(name), pool));
    }
    pool.shutdown();
    return () -> running.forEach(CompletableFuture::join);
  }

  private static void pause() {
    try {
      Thread.sleep(BETWEEN_BEATS.toMillis());
    } catch (InterruptedException interrupted) {
      Thread.currentThread().interrupt();
      throw new IllegalStateException(interrupted);
    }
  }

  private List<String> until(Cluster.Stream<KeyValueServiceWatchResponse> watch, String last) {
    List<String> seen = new ArrayList<>();
    do {
      seen.add(describe(watch.next()));
    } while (!seen.get(seen.size() - 1).equals(last));
    return seen;
  }

  /** Waits until a node takes calls, again or for the first time. */
  private ClusterServiceGetStatusResponse awaitReady(Node node) {
    long end = System.nanoTime() + PATIENCE.toNanos();
    while (true) {
      try {
        var answer = node.cluster().getStatus(ClusterServiceGetStatusRequest.getDefaultInstance());
        if (answer.getReady()) {
          return answer;
        }
      } catch (StatusRuntimeException error) {
        if (System.nanoTime() - end > 0) {
          throw error;
        }
        node.forgetBackoff();
      }
      Cluster.rest(1);
    }
  }

  // --- calls ---

  private KeyValueServicePutResponse putAt(Node node, String key, Value value, Session sent) {
    KeyValueServicePutRequest.Builder request = KeyValueServicePutRequest.newBuilder();
    if (sent != null) {
      request.setSession(sent.token());
    }
    return node.kv().put(request.setKey(prefix + key).setValue(value).build());
  }

  private KeyValueServiceGetResponse getAt(Node node, String key) {
    return node.kv()
        .get(KeyValueServiceGetRequest.newBuilder().setKey(prefix + key).setSession(session.token()).build());
  }

  private void write(String key, Value value) {
    session.merge(cluster.call(node -> putAt(node, key, value, session)).getSession());
  }

  /**
   * Writes without sending the session along, so that it waits for nothing: what was written in the last moments of a
   * node that died may be on that node's disk alone until it is back.
   */
  private void beat(String key) {
    session.merge(cluster.call(node -> putAt(node, key, text("beat"), null)).getSession());
  }

  private void remove(String key) {
    var answer =
        cluster.call(
            node ->
                node.kv()
                    .delete(
                        KeyValueServiceDeleteRequest.newBuilder()
                            .setKey(prefix + key)
                            .setSession(session.token())
                            .build()));
    session.merge(answer.getSession());
  }

  /** Counts one visit; once, however often and wherever it is tried. */
  private void add(Cluster... where) {
    CounterServiceAddRequest request =
        CounterServiceAddRequest.newBuilder()
            .setKey(prefix + "visits")
            .setAmount(1)
            .setRequestId(UUID.randomUUID().toString())
            .build();
    for (Cluster nodes : where) {
      session.merge(nodes.call(node -> node.counter().add(request)).getSession());
    }
    visits.incrementAndGet();
  }

  private long visitsAt(Node node) {
    CounterServiceGetRequest request =
        CounterServiceGetRequest.newBuilder().setKey(prefix + "visits").setSession(session.token()).build();
    return node.counter().get(request).getCounter().getValue();
  }

  private void publish(Cluster nodes, String topic, String payload, UUID requestId) {
    EventServicePublishRequest request =
        EventServicePublishRequest.newBuilder()
            .setTopic(prefix + topic)
            .setPayload(text(payload))
            .setRequestId(requestId.toString())
            .build();
    nodes.call(node -> node.event().publish(request));
  }

  /** The error with which the node refuses a call. One without a reason is not the node's: ask again. */
  private StatusRuntimeException refusal(Consumer<Node> call) {
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
      try {
        call.accept(cluster.current());
      } catch (StatusRuntimeException error) {
        if (Cluster.detail(error, ErrorInfo.class).isPresent()) {
          return error;
        }
      }
    }
    throw new IllegalStateException("the node has refused nothing");
  }

  private record Keys(List<String> keys, int pages) {}

  /** The keys below a prefix as one node knows them, and in how many pages they came. */
  private Keys keys(Node node, String below, int pageSize) {
    List<String> keys = new ArrayList<>();
    String token = "";
    int pages = 0;
    do {
      KeyValueServiceListResponse answer =
          node.kv()
              .list(
                  KeyValueServiceListRequest.newBuilder()
                      .setPrefix(prefix + below)
                      .setPageSize(pageSize)
                      .setPageToken(token)
                      .setSession(session.token())
                      .build());
      answer.getEntriesList().forEach(entry -> keys.add(entry.getKey().substring(prefix.length())));
      token = answer.getNextPageToken();
      pages++;
    } while (!token.isEmpty());
    return new Keys(keys, pages);
  }

  // --- values and lines ---

  private static Value text(String content) {
    return Value.newBuilder().setText(content).build();
  }

  private static String show(Value value) {
    return switch (value.getKindCase()) {
      case TEXT -> "text:" + value.getText();
      case DATA -> "data:" + Base64.getEncoder().encodeToString(value.getData().toByteArray());
      case KIND_NOT_SET -> "nothing";
    };
  }

  private String describe(KeyValueServiceWatchResponse event) {
    String line = event.getKind().name().substring("KEY_VALUE_EVENT_KIND_".length());
    if (!event.getKey().isEmpty()) {
      line += " " + event.getKey().substring(prefix.length());
    }
    if (event.hasEntry()) {
      line += "=" + show(event.getEntry().getValue());
    }
    return line;
  }

  private String describe(EventServiceSubscribeResponse told) {
    String line = told.getKind().name().substring("SUBSCRIPTION_EVENT_KIND_".length());
    if (told.hasEvent()) {
      line += " " + told.getEvent().getTopic().substring(prefix.length()) + "=" + show(told.getEvent().getPayload());
    }
    return line;
  }

  private static void say(String step, Map<String, ?> fields) {
    Map<String, Object> line = new LinkedHashMap<>();
    line.put("step", step);
    line.putAll(fields);
    OUT.println(JSON.toJson(line));
  }
}
