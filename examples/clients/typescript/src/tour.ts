/**
 * What a client does with a gossip-grpc cluster. Prints a line of JSON for each step.
 *
 *     node dist/tour.js PREFIX ADDRESS...
 */
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";

import { ClientError, Status } from "nice-grpc";
import { BadRequest, RichClientError } from "nice-grpc-error-details";

import { Cluster, infoOf, Node, rest, type Stream } from "./cluster.js";
import { type ClusterServiceGetStatusResponse, MemberStatus } from "./gen/gossip/v1/cluster.js";
import type { Value } from "./gen/gossip/v1/common.js";
import {
  type EventServiceSubscribeResponse,
  SubscriptionEventKind,
  subscriptionEventKindToJSON,
} from "./gen/gossip/v1/event.js";
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
const ATTEMPTS = 10;
const BEATS_BEFORE = 5; // writes before the tour is ready for the node's death
const BEATS_AFTER = 10; // writes after it
const PATIENCE = 60_000; // milliseconds that the tour waits for a node to die, and to come back
const BETWEEN_BEATS = 50;

class Tour {
  private readonly session = new Session(); // of all that the tour has written
  private readonly names = new Map<Node, string>();
  private visits = 0; // additions to the counter that were acknowledged

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
    await this.subscribe();
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
    for (const [key, value] of Object.entries(values)) await this.write(key, value);
    say("put", { count: Object.keys(values).length });
  }

  private async get(): Promise<void> {
    const values: Record<string, string> = {};
    for (const key of ["kv/blob", "kv/greeting", "kv/unicode"]) {
      const { entry } = await this.cluster.call((node) => this.getAt(node, key));
      values[key] = show(entry?.value);
    }
    say("get", { values });
  }

  private async list(): Promise<void> {
    say("list", await this.keys(this.cluster.current, "kv/", 2));
  }

  private async watch(): Promise<void> {
    await this.write("watched/a", text("0"));
    let events: string[] = [];
    let token = "";
    for await (const event of this.cluster.watch(`${this.prefix}watched/`, "", this.session)) {
      events.push(this.describe(event));
      if (event.kind === KeyValueEventKind.KEY_VALUE_EVENT_KIND_CURRENT) {
        await this.write("watched/a", text("1"));
        await this.write("watched/a", text("2"));
      }
      token = event.resumeToken;
      if (show(event.entry?.value) === "text:2") break;
    }
    say("watch", { events });

    // Nobody watches now; the token brings what was missed.
    await this.remove("watched/a");
    await this.write("watched/b", text("3"));
    events = [];
    for await (const event of this.cluster.watch(`${this.prefix}watched/`, token, this.session)) {
      if (event.kind !== KeyValueEventKind.KEY_VALUE_EVENT_KIND_CURRENT) events.push(this.describe(event));
      if (show(event.entry?.value) === "text:3") break;
    }
    say("watch resumed", { events });
  }

  private async count(): Promise<void> {
    await tasks(async (task) => {
      // At two nodes, as if the first answer had been lost: it counts once.
      const where = [this.cluster.startingAt(task), this.cluster.startingAt(task + 1)];
      for (let number = 0; number < ADDS_PER_TASK; number++) await this.add(...where);
    });
    const surplus = await this.surplus();
    say("counter", { tasks: TASKS, visits: this.visits, surplus });
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

  private async subscribe(): Promise<void> {
    const publisher = this.cluster.startingAt(1);
    const subscriber = this.cluster.startingAt(2);
    const topics = [`${this.prefix}news/*`];
    let events: string[] = [];
    let token = "";
    for await (const told of subscriber.subscribe(topics)) {
      events.push(this.describeTold(told));
      if (told.kind === SubscriptionEventKind.SUBSCRIPTION_EVENT_KIND_CURRENT) {
        await this.publish(publisher, "news/a", "1");
        // Twice, as if the first answer had been lost: it is one event.
        const requestId = randomUUID();
        await this.publish(publisher, "news/b", "2", requestId);
        await this.publish(publisher, "news/b", "2", requestId);
        await this.publish(publisher, "news/a", "3");
      }
      token = told.resumeToken;
      if (show(told.event?.payload) === "text:3") break;
    }
    say("subscribe", { events });

    // Nobody subscribes now; the token brings what was missed.
    await this.publish(publisher, "news/b", "4");
    await this.publish(publisher, "news/a", "5");
    events = [];
    for await (const told of subscriber.subscribe(topics, token)) {
      if (told.kind !== SubscriptionEventKind.SUBSCRIPTION_EVENT_KIND_CURRENT) events.push(this.describeTold(told));
      if (show(told.event?.payload) === "text:5") break;
    }
    say("subscribe resumed", { events });
  }

  private async failures(): Promise<void> {
    const nobody = { origin: { nodeId: "nobody", generation: 1n }, sequence: 1n };
    for (const ask of [
      (node: Node) => node.kv.get({ key: `${this.prefix}missing` }),
      (node: Node) => node.kv.get({ key: "" }),
      (node: Node) => node.kv.get({ key: "any", session: { dots: [nobody] } }, { deadline: 1_000 }),
    ]) {
      const error = await this.refusal(ask);
      const info = infoOf(error);
      const fields = error.extra
        .filter((detail): detail is BadRequest => detail.$type === BadRequest.$type)
        .flatMap((request) => request.fieldViolations.map((violation) => violation.field));
      say("error", { code: error.code, domain: info?.domain, reason: info?.reason, fields });
    }
  }

  private async handOver(): Promise<void> {
    const { nodes } = this.cluster;
    let stale = 0;
    for (let number = 0; number < HAND_OVERS; number++) {
      const put = await this.putAt(nodes[number % nodes.length]!, "handed", text(`${number}`), this.session);
      this.session.merge(put.session);
      try {
        const { entry } = await this.getAt(nodes[(number + 1) % nodes.length]!, "handed");
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

    let moved = false;
    const adding = tasks(async (task) => {
      const nodes = this.cluster.startingAt(task);
      for (; !moved; await sleep(BETWEEN_BEATS)) await this.add(nodes);
    });
    const beating = this.beats(from).finally(() => (moved = true));
    const [written] = await Promise.all([beating, adding]);
    say("failover", {
      from: this.name(from),
      to: this.name(this.cluster.current),
      info: { beats: written.length },
    });

    const events = await this.until(watch, "CURRENT");
    await this.beat("watched/c");
    events.push(...(await this.until(watch, "PUT watched/c=text:beat")));
    await watch.return();
    say("watch moved", { events });

    await awaitReady(from);
    const { keys: found } = await this.keys(from, "beats/");
    const missing = written.filter((key) => !found.includes(key)).length;
    const surplus = await this.surplus();
    say("return", { node: this.name(from), missing, surplus, info: { visits: this.visits } });
  }

  /**
   * Writes until some time after a node has failed; returns the keys written. Each is a key of its own: a write that is
   * retried elsewhere must not hide one that was acknowledged here.
   */
  private async beats(from: Node): Promise<string[]> {
    const written: string[] = [];
    const end = Date.now() + PATIENCE;
    for (let after = 0; after < BEATS_AFTER; ) {
      if (Date.now() > end) throw new Error(`no node has failed in ${PATIENCE / 1_000} s`);
      const key = `beats/${String(written.length).padStart(6, "0")}`;
      await this.beat(key);
      written.push(key);
      if (written.length === BEATS_BEFORE) say("ready for failover", { node: this.name(from) });
      if (this.cluster.current !== from) after += 1;
      await sleep(BETWEEN_BEATS);
    }
    return written;
  }

  /**
   * How much more each node has counted than was acknowledged. Waits until none has: what two nodes counted before they
   * heard of each other is taken back once they have.
   */
  private async surplus(): Promise<Record<string, number>> {
    for (const end = Date.now() + PATIENCE; ; await rest()) {
      const surplus: Record<string, number> = {};
      for (const node of this.cluster.nodes) surplus[this.name(node)] = (await this.visitsAt(node)) - this.visits;
      if (Object.values(surplus).every((value) => value === 0) || Date.now() > end) return surplus;
    }
  }

  private async until(watch: Stream<KeyValueServiceWatchResponse>, last: string): Promise<string[]> {
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

  private getAt(node: Node, key: string): Promise<KeyValueServiceGetResponse> {
    return node.kv.get({ key: this.prefix + key, session: this.session.token() });
  }

  private async write(key: string, value: Value): Promise<void> {
    this.session.merge((await this.cluster.call((node) => this.putAt(node, key, value, this.session))).session);
  }

  /**
   * Writes without sending the session along, so that it waits for nothing: what was written in the last moments of a
   * node that died may be on that node's disk alone until it is back.
   */
  private async beat(key: string): Promise<void> {
    this.session.merge((await this.cluster.call((node) => this.putAt(node, key, text("beat")))).session);
  }

  private async remove(key: string): Promise<void> {
    const answer = await this.cluster.call((node) =>
      node.kv.delete({ key: this.prefix + key, session: this.session.token() }),
    );
    this.session.merge(answer.session);
  }

  /** Counts one visit; once, however often and wherever it is tried. */
  private async add(...where: Cluster[]): Promise<void> {
    const request = { key: `${this.prefix}visits`, amount: 1n, requestId: randomUUID() };
    for (const nodes of where) this.session.merge((await nodes.call((node) => node.counter.add(request))).session);
    this.visits += 1;
  }

  private async visitsAt(node: Node): Promise<number> {
    const { counter } = await node.counter.get({ key: `${this.prefix}visits`, session: this.session.token() });
    return Number(counter?.value);
  }

  private async publish(nodes: Cluster, topic: string, payload: string, requestId = randomUUID()): Promise<void> {
    const request = { topic: this.prefix + topic, payload: text(payload), requestId };
    await nodes.call((node) => node.event.publish(request));
  }

  /** The error with which the node refuses a call. One without a reason is not the node's: ask again. */
  private async refusal(ask: (node: Node) => Promise<unknown>): Promise<RichClientError> {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      try {
        await ask(this.cluster.current);
      } catch (error) {
        if (error instanceof RichClientError && infoOf(error)) return error;
        if (!(error instanceof ClientError)) throw error;
      }
    }
    throw new Error("the node has refused nothing");
  }

  /** The keys below a prefix as one node knows them, and in how many pages they came. */
  private async keys(
    node: Node,
    below: string,
    pageSize = 0,
  ): Promise<{ keys: string[]; pages: number }> {
    const keys: string[] = [];
    let pages = 0;
    let pageToken = "";
    do {
      const answer = await node.kv.list({ prefix: this.prefix + below, pageSize, pageToken, session: this.session.token() });
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

  private describeTold({ kind, event }: EventServiceSubscribeResponse): string {
    const line = subscriptionEventKindToJSON(kind).slice("SUBSCRIPTION_EVENT_KIND_".length);
    return event ? `${line} ${event.topic.slice(this.prefix.length)}=${show(event.payload)}` : line;
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

/** Runs tasks at the same time. */
async function tasks(run: (task: number) => Promise<void>): Promise<void> {
  await Promise.all(Array.from({ length: TASKS }, (_, task) => run(task)));
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
const cluster = new Cluster(addresses.map((address) => new Node(address)));
try {
  await new Tour(prefix, cluster).run();
} finally {
  cluster.close();
}
