import { setTimeout as sleep } from "node:timers/promises";

import { type Channel, ClientError, type Client, createChannel, createClientFactory, Status } from "nice-grpc";
import { deadlineMiddleware, type DeadlineOptions } from "nice-grpc-client-middleware-deadline";
import { ErrorInfo, errorDetailsClientMiddleware, RichClientError } from "nice-grpc-error-details";

import { ClusterServiceDefinition } from "./gen/gossip/v1/cluster.js";
import { CounterServiceDefinition } from "./gen/gossip/v1/counter.js";
import { KeyValueServiceDefinition, type KeyValueServiceWatchResponse } from "./gen/gossip/v1/kv.js";
import { SetServiceDefinition } from "./gen/gossip/v1/set.js";
import type { Session } from "./session.js";

/** Milliseconds that one node gets to answer in. */
const ATTEMPT_TIMEOUT = 5_000;

/** Milliseconds that all nodes together get. */
const CALL_TIMEOUT = 20_000;

const PAUSE = 200;

/**
 * The node has answered with one of these, and did nothing: another node may do it. With any other reason the next one
 * would answer the same.
 */
const ASK_ANOTHER = new Set(["NOT_READY", "STOPPING", "SESSION_BEHIND"]);

const OPTIONS = {
  // gRPC's own default waits for up to two minutes after a node is back.
  "grpc.initial_reconnect_backoff_ms": 100,
  "grpc.max_reconnect_backoff_ms": 1_000,
  // A watcher may hear nothing for hours; this is how it learns that the node's host is gone.
  "grpc.keepalive_time_ms": 10_000,
  "grpc.keepalive_timeout_ms": 5_000,
};

const factory = createClientFactory().use(errorDetailsClientMiddleware).use(deadlineMiddleware);

/** One node, with the clients of its services. Calls have a deadline; a watch has none. */
export class Node {
  readonly channel: Channel;
  readonly kv: Client<typeof KeyValueServiceDefinition, DeadlineOptions>;
  readonly counter: Client<typeof CounterServiceDefinition, DeadlineOptions>;
  readonly set: Client<typeof SetServiceDefinition, DeadlineOptions>;
  readonly cluster: Client<typeof ClusterServiceDefinition, DeadlineOptions>;

  constructor(readonly address: string) {
    this.channel = createChannel(address, undefined, OPTIONS);
    const defaults = { "*": { deadline: ATTEMPT_TIMEOUT } };
    this.kv = factory.create(KeyValueServiceDefinition, this.channel, { ...defaults, watch: {} });
    this.counter = factory.create(CounterServiceDefinition, this.channel, defaults);
    this.set = factory.create(SetServiceDefinition, this.channel, defaults);
    this.cluster = factory.create(ClusterServiceDefinition, this.channel, defaults);
  }
}

/** A client of several nodes: it asks one of them, and moves on to the next when that one fails. */
export class Cluster {
  readonly nodes: readonly Node[];
  private position = 0;

  constructor(addresses: readonly string[]) {
    this.nodes = addresses.map((address) => new Node(address));
  }

  close(): void {
    for (const node of this.nodes) node.channel.close();
  }

  /** The node that is asked now. */
  get current(): Node {
    return this.nodes[this.position]!;
  }

  /**
   * Asks the current node, and the others while it makes sense. For reads, and for writes that say what is to be: Put,
   * Delete, Add and Remove of a set. Not for adding to a counter, which counts twice if it is done twice.
   */
  async call<T>(ask: (node: Node) => Promise<T>): Promise<T> {
    const end = Date.now() + CALL_TIMEOUT;
    for (let attempt = 1; ; attempt++) {
      const node = this.current;
      try {
        return await ask(node);
      } catch (error) {
        if (!movesOn(error) || Date.now() > end) throw error;
      }
      this.leave(node);
      if (attempt % this.nodes.length === 0) await rest();
    }
  }

  /**
   * What there is below a prefix and every change of it, for ever. When a node fails or cuts a slow watcher off, it
   * goes on where it was: at that node without loss or repeat; at another one with RESET and a snapshot. An event's
   * token resumes it later; leaving the loop, or `return()`, ends it.
   */
  async *watch(prefix: string, token = "", session?: Session): AsyncGenerator<KeyValueServiceWatchResponse, void> {
    for (let failures = 0; ; ) {
      const node = this.current;
      const end = new AbortController();
      try {
        const request = { prefix, resumeToken: token, session: session?.token() };
        for await (const event of node.kv.watch(request, { signal: end.signal })) {
          failures = 0;
          token = event.resumeToken || token;
          yield event;
        }
      } catch (error) {
        const info = infoOf(error);
        if (info?.reason === "SLOW_WATCHER") {
          token = info.metadata["resume_token"] ?? "";
          continue;
        }
        if (!movesOn(error)) throw error;
      } finally {
        end.abort();
      }
      this.leave(node);
      failures += 1;
      if (failures % this.nodes.length === 0) await rest();
    }
  }

  /** Moves on from a node that failed, unless another caller has done so already. */
  private leave(failed: Node): void {
    if (this.current === failed) this.position = (this.position + 1) % this.nodes.length;
  }
}

function movesOn(error: unknown): boolean {
  const info = infoOf(error);
  if (info) return ASK_ANOTHER.has(info.reason);
  // Nobody knows whether it took effect.
  return error instanceof ClientError && [Status.UNAVAILABLE, Status.DEADLINE_EXCEEDED].includes(error.code);
}

/** What the node says of an error to programs; undefined if the error is not a node's. */
export function infoOf(error: unknown): ErrorInfo | undefined {
  if (!(error instanceof RichClientError)) return undefined;
  return error.extra.find((detail): detail is ErrorInfo => detail.$type === ErrorInfo.$type);
}

/** A moment, not the same for all clients. */
export async function rest(): Promise<void> {
  await sleep(PAUSE * (0.5 + Math.random()));
}
