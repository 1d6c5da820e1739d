package example.tour;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.protobuf.ByteString;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import example.tour.Cluster.Node;
import gossip.v1.Cluster.ClusterServiceGetStatusRequest;
import gossip.v1.Cluster.ClusterServiceGetStatusResponse;
import gossip.v1.Cluster.ClusterServiceListMembersRequest;
import gossip.v1.Cluster.Member;
import gossip.v1.Cluster.MemberStatus;
import gossip.v1.Common.Value;
import gossip.v1.CounterOuterClass.CounterServiceAddRequest;
import gossip.v1.CounterOuterClass.CounterServiceGetRequest;
import gossip.v1.Kv.Entry;
import gossip.v1.Kv.KeyValueEventKind;
import gossip.v1.Kv.KeyValueServiceDeleteRequest;
import gossip.v1.Kv.KeyValueServiceGetRequest;
import gossip.v1.Kv.KeyValueServiceGetResponse;
import gossip.v1.Kv.KeyValueServiceListRequest;
import gossip.v1.Kv.KeyValueServiceListResponse;
import gossip.v1.Kv.KeyValueServicePutRequest;
import gossip.v1.Kv.KeyValueServicePutResponse;
import gossip.v1.Kv.KeyValueServiceWatchResponse;
import gossip.v1.Set.SetServiceAddRequest;
import gossip.v1.Set.SetServiceGetRequest;
import gossip.v1.Set.SetServiceRemoveRequest;
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
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
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
  private static final int BEATS_BEFORE = 5; // writes before the tour is ready for the node's death
  private static final int BEATS_AFTER = 10; // writes after it
  private static final Duration PATIENCE = Duration.ofSeconds(60); // for a node to die, and to come back
  private static final Duration BETWEEN_BEATS = Duration.ofMillis(50);

  private static final Gson JSON = new GsonBuilder().disableHtmlEscaping().create();
  private static final PrintStream OUT = new PrintStream(System.out, true, StandardCharsets.UTF_8);

  private final String prefix;
  private final Cluster cluster;
  private final Session session = new Session(); // of all steps before the failover
  private final Map<Node, String> names = new LinkedHashMap<>();

  private Tour(String prefix, Cluster cluster) {
    this.prefix = prefix;
    this.cluster = cluster;
  }

  public static void main(String[] arguments) throws Exception {
    if (arguments.length < 2) {
      System.err.println("usage: java -jar tour.jar PREFIX ADDRESS...");
      System.exit(2);
    }
    List<String> addresses = List.of(arguments).subList(1, arguments.length);
    try (Cluster cluster = new Cluster(addresses)) {
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
    // Here: publish and subscribe, once the nodes have an EventService.
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
    write("kv/blob", Value.newBuilder().setData(blob).build(), session);
    write("kv/greeting", text("hello"), session);
    write("kv/unicode", text("Grüße, 世界 🐌"), session);
    say("put", Map.of("count", 3));
  }

  private void get() {
    Map<String, String> values = new LinkedHashMap<>();
    for (String key : List.of("kv/blob", "kv/greeting", "kv/unicode")) {
      Entry entry = cluster.call(node -> getAt(node, key, session)).getEntry();
      values.put(key, show(entry.getValue()));
    }
    say("get", Map.of("values", values));
  }

  private void list() {
    Keys found = keys(cluster.current(), "kv/", 2, session);
    say("list", Map.of("keys", found.keys, "pages", found.pages));
  }

  private void watch() {
    write("watched/a", text("0"), session);
    List<String> seen = new ArrayList<>();
    String token = "";
    try (Cluster.Watch watch = cluster.watch(prefix + "watched/", "", session)) {
      boolean more = true;
      while (more) {
        KeyValueServiceWatchResponse event = watch.next();
        seen.add(describe(event));
        if (event.getKind() == KeyValueEventKind.KEY_VALUE_EVENT_KIND_CURRENT) {
          write("watched/a", text("1"), session);
          write("watched/a", text("2"), session);
        }
        token = event.getResumeToken();
        more = !event.getEntry().getValue().getText().equals("2");
      }
    }
    say("watch", Map.of("events", seen));

    // Nobody watches now; the token brings what was missed.
    remove("watched/a", session);
    write("watched/b", text("3"), session);
    seen = new ArrayList<>();
    try (Cluster.Watch watch = cluster.watch(prefix + "watched/", token, session)) {
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
    CounterServiceAddRequest one =
        CounterServiceAddRequest.newBuilder().setKey(prefix + "visits").setAmount(1).build();
    ExecutorService pool = Executors.newFixedThreadPool(TASKS);
    try {
      List<Future<?>> tasks = new ArrayList<>();
      for (int task = 0; task < TASKS; task++) {
        Node node = cluster.nodes().get(task % cluster.nodes().size());
        tasks.add(
            pool.submit(
                () -> {
                  for (int number = 0; number < ADDS_PER_TASK; number++) {
                    session.merge(node.counter().add(one).getSession());
                  }
                }));
      }
      for (Future<?> task : tasks) {
        task.get();
      }
    } finally {
      pool.shutdownNow();
    }
    Map<String, Long> values = new LinkedHashMap<>();
    names.forEach((node, name) -> values.put(name, visits(node)));
    say("counter", Map.of("tasks", TASKS, "values", values));
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

  private void failures() {
    for (String key : List.of(prefix + "missing", "")) {
      KeyValueServiceGetRequest request = KeyValueServiceGetRequest.newBuilder().setKey(key).build();
      try {
        cluster.call(node -> node.kv().get(request));
      } catch (StatusRuntimeException error) {
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
    }
  }

  private void handOver() {
    List<Node> nodes = cluster.nodes();
    int stale = 0;
    for (int number = 0; number < HAND_OVERS; number++) {
      Value value = text(Integer.toString(number));
      session.merge(putAt(nodes.get(number % nodes.size()), "handed", value, session).getSession());
      try {
        Node other = nodes.get((number + 1) % nodes.size());
        stale += getAt(other, "handed", session).getEntry().getValue().equals(value) ? 0 : 1;
      } catch (StatusRuntimeException error) {
        if (error.getStatus().getCode() != Status.Code.NOT_FOUND) {
          throw error;
        }
        stale++;
      }
    }
    say("session", Map.of("reads", HAND_OVERS, "stale", stale));
  }

  private void failover() throws InterruptedException {
    Node from = cluster.current();
    try (Cluster.Watch watch = cluster.watch(prefix + "watched/", "", null)) {
      until(watch, "CURRENT");

      // Each beat is a key of its own: a write that is retried elsewhere must not hide one that was acknowledged here.
      Session beats = new Session();
      List<String> written = new ArrayList<>();
      long end = System.nanoTime() + PATIENCE.toNanos();
      for (int after = 0; after < BEATS_AFTER; ) {
        if (System.nanoTime() - end > 0) {
          throw new IllegalStateException("no node has failed in " + PATIENCE.toSeconds() + " s");
        }
        String key = "beats/%06d".formatted(written.size());
        beat(key, beats);
        written.add(key);
        if (written.size() == BEATS_BEFORE) {
          say("ready for failover", Map.of("node", names.get(from)));
        }
        if (cluster.current() != from) {
          after++;
        }
        Thread.sleep(BETWEEN_BEATS.toMillis());
      }
      say(
          "failover",
          Map.of(
              "from", names.get(from),
              "to", names.get(cluster.current()),
              "info", Map.of("beats", written.size())));

      List<String> seen = until(watch, "CURRENT");
      beat("watched/c", beats);
      seen.addAll(until(watch, "PUT watched/c=text:beat"));
      say("watch moved", Map.of("events", seen));

      awaitReady(from);
      written.removeAll(keys(from, "beats/", 0, beats).keys);
      say("return", Map.of("node", names.get(from), "missing", written.size(), "visits", visits(from)));
    }
  }

  private List<String> until(Cluster.Watch watch, String last) {
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
      Cluster.rest();
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

  private KeyValueServiceGetResponse getAt(Node node, String key, Session sent) {
    return node.kv()
        .get(KeyValueServiceGetRequest.newBuilder().setKey(prefix + key).setSession(sent.token()).build());
  }

  private void write(String key, Value value, Session into) {
    into.merge(cluster.call(node -> putAt(node, key, value, into)).getSession());
  }

  /**
   * Writes without sending the session along, so that it waits for nothing: what was written in the last moments of a
   * node that died may be on that node's disk alone until it is back.
   */
  private void beat(String key, Session into) {
    into.merge(cluster.call(node -> putAt(node, key, text("beat"), null)).getSession());
  }

  private void remove(String key, Session into) {
    var answer =
        cluster.call(
            node ->
                node.kv()
                    .delete(
                        KeyValueServiceDeleteRequest.newBuilder()
                            .setKey(prefix + key)
                            .setSession(into.token())
                            .build()));
    into.merge(answer.getSession());
  }

  private long visits(Node node) {
    CounterServiceGetRequest request =
        CounterServiceGetRequest.newBuilder().setKey(prefix + "visits").setSession(session.token()).build();
    return node.counter().get(request).getCounter().getValue();
  }

  private record Keys(List<String> keys, int pages) {}

  /** The keys below a prefix as one node knows them, and in how many pages they came. */
  private Keys keys(Node node, String below, int pageSize, Session sent) {
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
                      .setSession(sent.token())
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

  private static void say(String step, Map<String, ?> fields) {
    Map<String, Object> line = new LinkedHashMap<>();
    line.put("step", step);
    line.putAll(fields);
    OUT.println(JSON.toJson(line));
  }
}
