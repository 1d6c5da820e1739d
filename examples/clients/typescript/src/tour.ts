/**
 * What a client does with a gossip-grpc cluster. Prints a line of JSON for each step.
 *
 *     node dist/tour.js PREFIX ADDRESS...
 */
import { setTimeout as sleep } from "node:timers/promises";

import { ClientError, Status } from "nice-grpc";
import { BadRequest, RichClientError } from "nice-grpc-error-details";

import { Cluster, infoOf, type Node, rest } from "./cluster.js";
import { type ClusterServiceGetStatusResponse, MemberStatus } from "./gen/gossip/v1/cluster.js";
import type { Value } from "./gen/gossip/v1/common.js";
import {
  KeyValueEventKind,
  keyValueEventKindToJSON,
  type KeyValueServiceGetResponse,
  type KeyValueServicePutResponse,
  type KeyValueServiceWatchResponse,
} from "./gen/gossip/v1/kv.js";
import { Session } from "./session.js";

const TASKS = 8;
const ADDS_PER_TASK = 25;
const HAND_OVERS = 20;
const BEATS_BEFORE = 5; // writes before the tour is ready for the node's death
const BEATS_AFTER = 10; // writes after it
const PATIENCE = 60_000; // milliseconds that the tour waits for a node to die, and to come back
const BETWEEN_BEATS = 50;

class Tour {
  private readonly session = new Session(); // of all steps before the failover
  private readonly names = new Map<Node, string>();

  constructor(
    private readonly prefix: string,
    private readonly cluster: Cluster,
  ) {}

  async run(): Promise<void> {
    await this.connect();
    await this.put();
    await this.get();
    await this.list();
    await this.watch();
    await this.count();
    await this.collect();
    await this.members();
    // Here: publish and subscribe, once the nodes have an EventService.
    await this.failures();
    await this.handOver();
    await this.failover();
    say("done");
  }

  // --- the steps ---

  private async connect(): Promise<void> {
    for (const node of this.cluster.nodes) this.names.set(node, (await awaitReady(node)).nodeId);
    say("connect", { node: this.name(this.cluster.current), nodes: [...this.names.values()] });
  }

  private async put(): Promise<void> {
    const values: Record<string, Value> = {
      "kv/blob": { kind: { $case: "data", data: Uint8Array.of(0x00, 0xff, 0x10) } },
      "kv/greeting": text("hello"),
      "kv/unicode": text("Grüße, 世界 🐌"),
    };
    for (const [key, value] of Object.entries(values)) await this.write(key, value, this.session);
    say("put", { count: Object.keys(values).length });
  }

  private async get(): Promise<void> {
    const values: Record<string, string> = {};
    for (const key of ["kv/blob", "kv/greeting", "kv/unicode"]) {
      const { entry } = await this.cluster.call((node) => this.getAt(node, key, this.session));
      values[key] = show(entry?.value);
    }
    say("get", { values });
  }

  private async list(): Promise<void> {
    say("list", await this.keys(this.cluster.current, "kv/", this.session, 2));
  }

  private async watch(): Promise<void> {
    await this.write("watched/a", text("0"), this.session);
    let events: string[] = [];
    let token = "";
    for await (const event of this.cluster.watch(`${this.prefix}watched/`, "", this.session)) {
      events.push(this.describe(event));
      if (event.kind === KeyValueEventKind.KEY_VALUE_EVENT_KIND_CURRENT) {
        await this.write("watched/a", text("1"), this.session);
        await this.write("watched/a", text("2"), this.session);
      }
      token = event.resumeToken;
      if (show(event.entry?.value) === "text:2") break;
    }
    say("watch", { events });

    // Nobody watches now; the token brings what was missed.
    await this.remove("watched/a", this.session);
    await this.write("watched/b", text("3"), this.session);
    events = [];
    for await (const event of this.cluster.watch(`${this.prefix}watched/`, token, this.session)) {
      if (event.kind !== KeyValueEventKind.KEY_VALUE_EVENT_KIND_CURRENT) events.push(this.describe(event));
      if (show(event.entry?.value) === "text:3") break;
    }
    say("watch resumed", { events });
  }

  private async count(): Promise<void> {
    const { nodes } = this.cluster;
    const add = async (node: Node): Promise<void> => {
      for (let number = 0; number < ADDS_PER_TASK; number++) {
        this.session.merge((await node.counter.add({ key: `${this.prefix}visits`, amount: 1n })).session);
      }
    };
    await Promise.all(Array.from({ length: TASKS }, (_, task) => add(nodes[task % nodes.length]!)));
    const values: Record<string, number> = {};
    for (const node of nodes) values[this.name(node)] = await this.visits(node);
    say("counter", { tasks: TASKS, values });
  }

  private async collect(): Promise<void> {
    const key = `${this.prefix}colours`;
    const { added, session: afterAdd } = await this.cluster.call((node) =>
      node.set.add({ key, elements: ["red", "green", "blue"].map(text), session: this.session.token() }),
    );
    this.session.merge(afterAdd);
    const { removed, session: afterRemove } = await this.cluster.call((node) =>
      node.set.remove({ key, elements: ["green", "mauve"].map(text), session: this.session.token() }),
    );
    this.session.merge(afterRemove);
    const { size, elements } = await this.cluster.call((node) =>
      node.set.get({ key, session: this.session.token() }),
    );
    say("set", { added, removed, size: Number(size), elements: elements.map(show) });
  }

  private async members(): Promise<void> {
    const { members } = await this.cluster.call((node) =>
      node.cluster.listMembers({ statuses: [MemberStatus.MEMBER_STATUS_ALIVE] }),
    );
    say("members", { alive: members.map((member) => member.nodeId) });
  }

  private async failures(): Promise<void> {
    for (const key of [`${this.prefix}missing`, ""]) {
      try {
        await this.cluster.call((node) => node.kv.get({ key }));
      } catch (error) {
        if (!(error instanceof RichClientError)) throw error;
        const fields = error.extra
          .filter((detail): detail is BadRequest => detail.$type === BadRequest.$type)
          .flatMap((request) => request.fieldViolations.map((violation) => violation.field));
        const info = infoOf(error);
        say("error", { code: error.code, domain: info?.domain, reason: info?.reason, fields });
      }
    }
  }

  private async handOver(): Promise<void> {
    const { nodes } = this.cluster;
    let stale = 0;
    for (let number = 0; number < HAND_OVERS; number++) {
      const put = await this.putAt(nodes[number % nodes.length]!, "handed", text(`${number}`), this.session);
      this.session.merge(put.session);
      try {
        const { entry } = await this.getAt(nodes[(number + 1) % nodes.length]!, "handed", this.session);
        if (show(entry?.value) !== `text:${number}`) stale += 1;
      } catch (error) {
        if (!(error instanceof ClientError && error.code === Status.NOT_FOUND)) throw error;
        stale += 1;
      }
    }
    say("session", { reads: HAND_OVERS, stale });
  }

  private async failover(): Promise<void> {
    const from = this.cluster.current;
    const watch = this.cluster.watch(`${this.prefix}watched/`);
    await this.until(watch, "CURRENT");

    // Each beat is a key of its own: a write that is retried elsewhere must not hide one that was acknowledged here.
    const beats = new Session();
    const written: string[] = [];
    const end = Date.now() + PATIENCE;
    for (let after = 0; after < BEATS_AFTER; ) {
      if (Date.now() > end) throw new Error(`no node has failed in ${PATIENCE / 1_000} s`);
      const key = `beats/${String(written.length).padStart(6, "0")}`;
      await this.beat(key, beats);
      written.push(key);
      if (written.length === BEATS_BEFORE) say("ready for failover", { node: this.name(from) });
      if (this.cluster.current !== from) after += 1;
      await sleep(BETWEEN_BEATS);
    }
    say("failover", {
      from: this.name(from),
      to: this.name(this.cluster.current),
      info: { beats: written.length },
    });

    const events = await this.until(watch, "CURRENT");
    await this.beat("watched/c", beats);
    events.push(...(await this.until(watch, "PUT watched/c=text:beat")));
    await watch.return();
    say("watch moved", { events });

    await awaitReady(from);
    const { keys: found } = await this.keys(from, "beats/", beats);
    const missing = written.filter((key) => !found.includes(key)).length;
    say("return", { node: this.name(from), missing, visits: await this.visits(from) });
  }

  private async until(watch: AsyncGenerator<KeyValueServiceWatchResponse, void>, last: string): Promise<string[]> {
    const events: string[] = [];
    while (events.at(-1) !== last) {
      const { done, value } = await watch.next();
      if (done) break;
      events.push(this.describe(value));
    }
    return events;
  }

  // --- calls ---

  private putAt(node: Node, key: string, value: Value, session?: Session): Promise<KeyValueServicePutResponse> {
    return node.kv.put({ key: this.prefix + key, value, session: session?.token() });
  }

  private getAt(node: Node, key: string, session: Session): Promise<KeyValueServiceGetResponse> {
    return node.kv.get({ key: this.prefix + key, session: session.token() });
  }

  private async write(key: string, value: Value, session: Session): Promise<void> {
    session.merge((await this.cluster.call((node) => this.putAt(node, key, value, session))).session);
  }

  /**
   * Writes without sending the session along, so that it waits for nothing: what was written in the last moments of a
   * node that died may be on that node's disk alone until it is back.
   */
  private async beat(key: string, session: Session): Promise<void> {
    session.merge((await this.cluster.call((node) => this.putAt(node, key, text("beat")))).session);
  }

  private async remove(key: string, session: Session): Promise<void> {
    const answer = await this.cluster.call((node) =>
      node.kv.delete({ key: this.prefix + key, session: session.token() }),
    );
    session.merge(answer.session);
  }

  private async visits(node: Node): Promise<number> {
    const { counter } = await node.counter.get({ key: `${this.prefix}visits`, session: this.session.token() });
    return Number(counter?.value);
  }

  /** The keys below a prefix as one node knows them, and in how many pages they came. */
  private async keys(
    node: Node,
    below: string,
    session: Session,
    pageSize = 0,
  ): Promise<{ keys: string[]; pages: number }> {
    const keys: string[] = [];
    let pages = 0;
    let pageToken = "";
    do {
      const answer = await node.kv.list({ prefix: this.prefix + below, pageSize, pageToken, session: session.token() });
      keys.push(...answer.entries.map((entry) => entry.key.slice(this.prefix.length)));
      pageToken = answer.nextPageToken;
      pages += 1;
    } while (pageToken);
    return { keys, pages };
  }

  private name(node: Node): string {
    return this.names.get(node) ?? node.address;
  }

  private describe(event: KeyValueServiceWatchResponse): string {
    const kind = keyValueEventKindToJSON(event.kind).slice("KEY_VALUE_EVENT_KIND_".length);
    const key = event.key ? ` ${event.key.slice(this.prefix.length)}` : "";
    const value = event.entry ? `=${show(event.entry.value)}` : "";
    return kind + key + value;
  }
}

/** Waits until a node takes calls, again or for the first time. */
async function awaitReady(node: Node): Promise<ClusterServiceGetStatusResponse> {
  const end = Date.now() + PATIENCE;
  for (;;) {
    try {
      const answer = await node.cluster.getStatus({});
      if (answer.ready) return answer;
    } catch (error) {
      if (!(error instanceof ClientError) || Date.now() > end) throw error;
    }
    await rest();
  }
}

// --- values and lines ---

function text(content: string): Value {
  return { kind: { $case: "text", text: content } };
}

function show(value: Value | undefined): string {
  switch (value?.kind?.$case) {
    case "text":
      return `text:${value.kind.text}`;
    case "data":
      return `data:${Buffer.from(value.kind.data).toString("base64")}`;
    case undefined:
      return "nothing";
  }
}

function say(step: string, fields: Record<string, unknown> = {}): void {
  console.log(JSON.stringify({ step, ...fields }));
}

const [prefix, ...addresses] = process.argv.slice(2);
if (prefix === undefined || addresses.length === 0) {
  console.error("usage: node dist/tour.js PREFIX ADDRESS...");
  process.exit(2);
}
const cluster = new Cluster(addresses);
try {
  await new Tour(prefix, cluster).run();
} finally {
  cluster.close();
}
