import type { Session as Token } from "./gen/gossip/v1/common.js";

/**
 * What one user of the cluster has written so far. Hand its token on with a call to any node: a read then reflects all
 * of it, and a write wins over it.
 */
export class Session {
  private clock = 0n;
  private readonly seen = new Map<string, { nodeId: string; generation: bigint; sequence: bigint }>();

  /**
   * Takes in the token of a write. Dots become "all up to here of that origin", which asks for a little more than what
   * was written, and keeps the token as short as the cluster has nodes.
   */
  merge(token: Token | undefined): void {
    if (!token) return;
    if (token.clock > this.clock) this.clock = token.clock;
    for (const { origin, sequence } of [...token.dots, ...token.complete]) {
      if (!origin) continue;
      const name = `${origin.nodeId} ${origin.generation}`;
      const known = this.seen.get(name);
      if (!known || known.sequence < sequence) this.seen.set(name, { ...origin, sequence });
    }
  }

  token(): Token {
    const complete = [...this.seen.values()].map(({ nodeId, generation, sequence }) => ({
      origin: { nodeId, generation },
      sequence,
    }));
    return { clock: this.clock, dots: [], complete };
  }
}
