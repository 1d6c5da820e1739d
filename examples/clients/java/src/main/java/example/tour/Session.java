package example.tour;

import io.gossip.v1.Dot;
import io.gossip.v1.Origin;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * What one user of the cluster has written so far. Hand its token on with a call to any node: a read then reflects all
 * of it, and a write wins over it. Threads may share one.
 */
final class Session {
  private final Map<Origin, Long> seen = new HashMap<>();
  private long clock;

  /**
   * Takes in the token of a write. Dots become "all up to here of that origin", which asks for a little more than what
   * was written, and keeps the token as short as the cluster has nodes.
   *
   * <p>Clocks and sequences are uint64, which Java takes for signed; both stay below 2^63.
   */
  synchronized void merge(io.gossip.v1.Session token) {
    clock = Math.max(clock, token.getClock());
    List<Dot> dots = new ArrayList<>(token.getDotsList());
    dots.addAll(token.getCompleteList());
    for (Dot dot : dots) {
      seen.merge(dot.getOrigin(), dot.getSequence(), Math::max);
    }
  }

  synchronized io.gossip.v1.Session token() {
    io.gossip.v1.Session.Builder token = io.gossip.v1.Session.newBuilder().setClock(clock);
    seen.forEach((origin, sequence) -> token.addCompleteBuilder().setOrigin(origin).setSequence(sequence));
    return token.build();
  }
}
