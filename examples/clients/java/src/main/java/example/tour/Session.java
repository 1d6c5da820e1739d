package example.tour;

import gossip.v1.Common;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * What one user of the cluster has written so far. Hand its token on with a call to any node: a read then reflects all
 * of it, and a write wins over it. Threads may share one.
 */
final class Session {
  private final Map<Common.Origin, Long> seen = new HashMap<>();
  private long clock;

  /**
   * Takes in the token of a write. Dots become "all up to here of that origin", which asks for a little more than what
   * was written, and keeps the token as short as the cluster has nodes.
   *
   * <p>Clocks and sequences are uint64, which Java takes for signed; both stay below 2^63.
   */
  synchronized void merge(Common.Session token) {
    clock = Math.max(clock, token.getClock());
    List<Common.Dot> dots = new ArrayList<>(token.getDotsList());
    dots.addAll(token.getCompleteList());
    for (Common.Dot dot : dots) {
      seen.merge(dot.getOrigin(), dot.getSequence(), Math::max);
    }
  }

  synchronized Common.Session token() {
    Common.Session.Builder token = Common.Session.newBuilder().setClock(clock);
    seen.forEach((origin, sequence) -> token.addCompleteBuilder().setOrigin(origin).setSequence(sequence));
    return token.build();
  }
}
