import { setTimeout as sleep } from "node:timers/promises";

import {
  type Channel,
  type Client,
  ClientError,
  type ClientMiddleware,
  createChannel,
  createClientFactory,
  Metadata,
  Status,
} from "nice-grpc";
import { deadlineMiddleware, type DeadlineOptions } from "nice-grpc-client-middleware-deadline";
import { ErrorInfo, errorDetailsClientMiddleware, RichClientError } from "nice-grpc-error-details";

import { ClusterServiceDefinition } from "./gen/gossip/v1/cluster.js";
import { CounterServiceDefinition } from "./gen/gossip/v1/counter.js";
import { EventServiceDefinition, type EventServiceSubscribeResponse } from "./gen/gossip/v1/event.js";
import { KeyValueServiceDefinition, type KeyValueServiceWatchResponse } from "./gen/gossip/v1/kv.js";
import { SetServiceDefinition } from "./gen/gossip/v1/set.js";
import type { Session } from "./session.js";

/** Milliseconds that one node gets to answer in. */
const ATTEMPT_TIMEOUT = 5_000;

/** Milliseconds that all nodes together get. */
const CALL_TIMEOUT = 20_000;

/** Milliseconds to wait when all nodes have failed; twice as long each time that they fail again ... */
const PAUSE = 200;

/** ... but no longer than this. */
const MAX_PAUSE = 2_000;

/** Another node may do what a node has refused for one of these reasons. For any other, it would refuse it as well. */
const ASK_ANOTHER = new Set([
  "NOT_READY",
  "STOPPING",
  "DISK_FAILED",
  "SESSION_BEHIND",
  "SESSION_LIMIT",
  "WATCH_LIMIT",
]);

const OPTIONS = {
  // gRPC's own default waits for up to two minutes after a node is back.
  "grpc.initial_reconnect_backoff_ms": 100,
  "grpc.max_reconnect_backoff_ms": 1_000,
  // A watcher may hear nothing for hours; this is how it learns that the node's host is gone.
  "grpc.keepalive_time_ms": 10_000,
  "grpc.keepalive_timeout_ms": 5_000,
};

/**
 * Tells the node the deadline, which the other middleware keeps on this side only. So a node that cannot serve a session
 * says what it lacks just before; a call that ends without a word might be one that took effect.
 */
const announceDeadline: ClientMiddleware<DeadlineOptions> = (call, options) => {
  const metadata = new Metadata(options.metadata);
  if (typeof options.deadline === "number") metadata.set("grpc-timeout", `${options.deadline}m`);
  return call.next(call.request, { ...options, metadata });
};

const factory = createClientFactory()
  .use(errorDetailsClientMiddleware)
  .use(deadlineMiddleware)
  .use(announceDeadline); // the last one is called first

/** One node, with the clients of its services. Calls have a deadline; streams have none. */
export class Node {
  readonly channel: Channel;
  readonly kv: Client<typeof KeyValueServiceDefinition, DeadlineOptions>;
  readonly counter: Client<typeof CounterServiceDefinition, DeadlineOptions>;
  readonly set: Client<typeof SetServiceDefinition, DeadlineOptions>;
  readonly event: Client<typeof EventServiceDefinition, DeadlineOptions>;
  readonly cluster: Client<typeof ClusterServiceDefinition, DeadlineOptions>;

  constructor(readonly address: string) {
    this.channel = createChannel(address, undefined, OPTIONS);
    const defaults = { "*": { deadline: ATTEMPT_TIMEOUT } };
    this.kv = factory.create(KeyValueServiceDefinition, this.channel, { ...defaults, watch: {} });
    this.counter = factory.create(CounterServiceDefinition, this.channel, defaults);
    this.set = factory.create(SetServiceDefinition, this.channel, defaults);
    this.event = factory.create(EventServiceDefinition, this.channel, { ...defaults, subscribe: {} });
    this.cluster = factory.create(ClusterServiceDefinition, this.channel, defaults);
  }
}

export type Stream<T> = AsyncGenerator<T, void>;

/** A client of several nodes: it asks one of them, and moves on to the next when that one fails. */
export class Cluster {
  private position: number;

  constructor(
    readonly nodes: readonly Node[],
    first = 0,
  ) {
    this.position = first % nodes.length;
  }

  /** The same nodes and connections, for one that asks another node first. */
  startingAt(index: number): Cluster {
    return new Cluster(this.nodes, index);
  }

  close(): void {
    for (const node of this.nodes) node.channel.close();
  }

  /** The node that is asked now. */
  get current(): Node {
    return this.nodes[this.position]!;
  }

  /**
   * Asks the current node, and the others while it makes sense. For reads, and for writes that do no harm if they are
   * done twice: Put, Delete, Add and Remove of a set; and Add of a counter and Publish, if they have a requestId that
   * stays the same.
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
      if (attempt % this.nodes.length === 0) await rest(attempt / this.nodes.length);
    }
  }

  /** What there is below a prefix and every change of it, for ever. */
  watch(prefix: string, token = "", session?: Session): Stream<KeyValueServiceWatchResponse> {
    return this.follow(token, (node, resumeToken, signal) =>
      node.kv.watch({ prefix, resumeToken, session: session?.token() }, { signal }),
    );
  }

  /** The events of some topics that come from now on, or after a token, for ever. */
  subscribe(topics: string[], token = ""): Stream<EventServiceSubscribeResponse> {
    return this.follow(token, (node, resumeToken, signal) => node.event.subscribe({ topics, resumeToken }, { signal }));
  }

  /**
   * A stream that goes on where it was when a node fails or cuts a slow reader off: at that node without loss or repeat;
   * another one sends RESET and what it has. The resumeToken of what was received resumes it later; leaving the loop, or
   * `return()`, ends it.
   */
  private async *follow<T extends { resumeToken: string }>(
    token: string,
    begin: (node: Node, token: string, signal: AbortSignal) => AsyncIterable<T>,
  ): Stream<T> {
    for (let failures = 0; ; ) {
      const node = this.current;
      const end = new AbortController();
      try {
        for await (const told of begin(node, token, end.signal)) {
          failures = 0;
          token = told.resumeToken || token;
          yield told;
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
      if (failures % this.nodes.length === 0) await rest(failures / this.nodes.length);
    }
  }

  /** Moves on from a node that failed, unless another caller has done so already. */
  private leave(failed: Node): void {
    if (this.current === failed) this.position = (this.position + 1) % this.nodes.length;
  }
}

function movesOn(error: unknown): boolean {
  const info = infoOf(error);
  // The node has answered, and done nothing. So SESSION_BEHIND is no unknown outcome, though its code is
  // DEADLINE_EXCEEDED, too.
  if (info) return ASK_ANOTHER.has(info.reason);
  // No node says so: nobody knows whether the call took effect.
  return error instanceof ClientError && [Status.UNAVAILABLE, Status.DEADLINE_EXCEEDED].includes(error.code);
}

/** What the node says of an error to programs; undefined if the error is not a node's. */
export function infoOf(error: unknown): ErrorInfo | undefined {
  if (!(error instanceof RichClientError)) return undefined;
  return error.extra.find((detail): detail is ErrorInfo => detail.$type === ErrorInfo.$type);
}

/** Waits, not equally long for all clients, so that they do not all come at once to a node that is back. */
export async function rest(failures = 1): Promise<void> {
  await sleep(Math.min(PAUSE * 2 ** (failures - 1), MAX_PAUSE) * (0.5 + Math.random()));
}
