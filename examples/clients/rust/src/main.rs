//! What a client does with a gossip-grpc cluster. Prints a line of JSON for each step.
//!
//! tour PREFIX ADDRESS...

mod cluster;
mod session;

mod gossip {
    tonic::include_proto!("gossip.v1");
}

use std::collections::HashSet;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use futures_util::future::try_join_all;
use serde_json::{Map, Value as Json, json};
use tokio::time::{Instant, sleep};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};
use uuid::Uuid;

use cluster::{ATTEMPT_TIMEOUT, Cluster, Node, Stream, rest, timed, within};
use gossip::value::Kind;
use gossip::*;
use session::Session as Seen;

const TASKS: usize = 8;
const ADDS_PER_TASK: usize = 25;
const HAND_OVERS: usize = 20;
const ATTEMPTS: usize = 10;
/// Writes before the tour is ready for the node's death.
const BEATS_BEFORE: usize = 5;
/// Writes after it.
const BEATS_AFTER: usize = 10;
/// How long the tour waits for a node to die, and to come back.
const PATIENCE: Duration = Duration::from_secs(60);
const BETWEEN_BEATS: Duration = Duration::from_millis(50);

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome {
    let mut arguments = std::env::args().skip(1);
    let prefix = arguments.next();
    let addresses: Vec<String> = arguments.collect();
    let Some(prefix) = prefix.filter(|_| !addresses.is_empty()) else {
        eprintln!("usage: tour PREFIX ADDRESS...");
        std::process::exit(2);
    };
    let mut tour = Tour {
        prefix,
        cluster: Arc::new(Cluster::new(&addresses)?),
        session: Arc::default(),
        names: Vec::new(),
        visits: AtomicI64::new(0),
    };
    tour.run().await
}

struct Tour {
    prefix: String,
    cluster: Arc<Cluster>,
    /// Of all that the tour has written.
    session: Arc<Seen>,
    /// The nodes' names in the order of their addresses.
    names: Vec<String>,
    /// Additions to the counter that were acknowledged.
    visits: AtomicI64,
}

impl Tour {
    async fn run(&mut self) -> Outcome {
        self.connect().await?;
        self.put().await?;
        self.get().await?;
        self.list().await?;
        self.watch().await?;
        self.count().await?;
        self.collect().await?;
        self.members().await?;
        self.subscribe().await?;
        self.failures().await?;
        self.hand_over().await?;
        self.failover().await?;
        say("done", json!({}));
        Ok(())
    }

    // --- the steps ---

    async fn connect(&mut self) -> Outcome {
        for node in self.cluster.nodes.iter() {
            self.names.push(await_ready(node).await?.node_id);
        }
        let node = self.name(self.cluster.current());
        say("connect", json!({"node": node, "nodes": self.names}));
        Ok(())
    }

    async fn put(&self) -> Outcome {
        let blob = Value {
            kind: Some(Kind::Data(vec![0x00, 0xff, 0x10])),
        };
        self.write("kv/blob", blob).await?;
        self.write("kv/greeting", text("hello")).await?;
        self.write("kv/unicode", text("Grüße, 世界 🐌")).await?;
        say("put", json!({"count": 3}));
        Ok(())
    }

    async fn get(&self) -> Outcome {
        let mut values = Map::new();
        for key in ["kv/blob", "kv/greeting", "kv/unicode"] {
            let value = self.cluster.call(async |node| self.get_at(node, key).await).await?;
            values.insert(key.into(), show(value.as_ref()).into());
        }
        say("get", json!({"values": values}));
        Ok(())
    }

    async fn list(&self) -> Outcome {
        let node = self.cluster.current().clone();
        let (keys, pages) = self.keys(node, "kv/", 2).await?;
        say("list", json!({"keys": keys, "pages": pages}));
        Ok(())
    }

    async fn watch(&self) -> Outcome {
        self.write("watched/a", text("0")).await?;
        let watched = format!("{}watched/", self.prefix);
        let session = Some(self.session.clone());
        let mut seen = Vec::new();
        let mut watch = self.cluster.watch(watched.clone(), String::new(), session.clone());
        let token = loop {
            let event = watch.next().await?;
            seen.push(self.describe(&event));
            if event.kind() == KeyValueEventKind::Current {
                self.write("watched/a", text("1")).await?;
                self.write("watched/a", text("2")).await?;
            }
            if value_of(&event) == "text:2" {
                break event.resume_token;
            }
        };
        drop(watch);
        say("watch", json!({"events": seen}));

        // Nobody watches now; the token brings what was missed.
        self.remove("watched/a").await?;
        self.write("watched/b", text("3")).await?;
        let mut seen = Vec::new();
        let mut watch = self.cluster.watch(watched, token, session);
        loop {
            let event = watch.next().await?;
            if event.kind() != KeyValueEventKind::Current {
                seen.push(self.describe(&event));
            }
            if value_of(&event) == "text:3" {
                break;
            }
        }
        say("watch resumed", json!({"events": seen}));
        Ok(())
    }

    async fn count(&self) -> Outcome {
        tasks(async |task| {
            // At two nodes, as if the first answer had been lost: it counts once.
            let places = [self.cluster.starting_at(task), self.cluster.starting_at(task + 1)];
            for _ in 0..ADDS_PER_TASK {
                self.add(&places).await?;
            }
            Ok(())
        })
        .await?;
        let surplus = self.surplus().await?;
        let visits = self.visits.load(Ordering::SeqCst);
        say("counter", json!({"tasks": TASKS, "visits": visits, "surplus": surplus}));
        Ok(())
    }

    async fn collect(&self) -> Outcome {
        let key = format!("{}colours", self.prefix);
        let added = self
            .cluster
            .call(async |mut node| {
                let request = SetServiceAddRequest {
                    key: key.clone(),
                    elements: ["red", "green", "blue"].map(text).into(),
                    session: Some(self.session.token()),
                    ..Default::default()
                };
                Ok(node.set.add(timed(request)).await?.into_inner())
            })
            .await?;
        self.session.merge(added.session);
        let removed = self
            .cluster
            .call(async |mut node| {
                let request = SetServiceRemoveRequest {
                    key: key.clone(),
                    elements: ["green", "mauve"].map(text).into(),
                    session: Some(self.session.token()),
                    ..Default::default()
                };
                Ok(node.set.remove(timed(request)).await?.into_inner())
            })
            .await?;
        self.session.merge(removed.session);
        let got = self
            .cluster
            .call(async |mut node| {
                let request = SetServiceGetRequest {
                    key: key.clone(),
                    session: Some(self.session.token()),
                    ..Default::default()
                };
                Ok(node.set.get(timed(request)).await?.into_inner())
            })
            .await?;
        let elements: Vec<_> = got.elements.iter().map(|element| show(Some(element))).collect();
        say(
            "set",
            json!({"added": added.added, "removed": removed.removed, "size": got.size, "elements": elements}),
        );
        Ok(())
    }

    async fn members(&self) -> Outcome {
        let answer = self
            .cluster
            .call(async |mut node| {
                let request = ClusterServiceListMembersRequest {
                    statuses: vec![MemberStatus::Alive.into()],
                    ..Default::default()
                };
                Ok(node.cluster.list_members(timed(request)).await?.into_inner())
            })
            .await?;
        let alive: Vec<_> = answer.members.iter().map(|member| &member.node_id).collect();
        say("members", json!({"alive": alive}));
        Ok(())
    }

    async fn subscribe(&self) -> Outcome {
        let publisher = self.cluster.starting_at(1);
        let subscriber = self.cluster.starting_at(2);
        let topics = vec![format!("{}news/*", self.prefix)];
        let mut seen = Vec::new();
        let mut events = subscriber.subscribe(topics.clone(), String::new());
        let token = loop {
            let told = events.next().await?;
            seen.push(self.describe_told(&told));
            if told.kind() == SubscriptionEventKind::Current {
                self.publish(&publisher, "news/a", "1", Uuid::new_v4()).await?;
                // Twice, as if the first answer had been lost: it is one event.
                let request_id = Uuid::new_v4();
                self.publish(&publisher, "news/b", "2", request_id).await?;
                self.publish(&publisher, "news/b", "2", request_id).await?;
                self.publish(&publisher, "news/a", "3", Uuid::new_v4()).await?;
            }
            if payload_of(&told) == "text:3" {
                break told.resume_token;
            }
        };
        drop(events);
        say("subscribe", json!({"events": seen}));

        // Nobody subscribes now; the token brings what was missed.
        self.publish(&publisher, "news/b", "4", Uuid::new_v4()).await?;
        self.publish(&publisher, "news/a", "5", Uuid::new_v4()).await?;
        let mut seen = Vec::new();
        let mut events = subscriber.subscribe(topics, token);
        loop {
            let told = events.next().await?;
            if told.kind() != SubscriptionEventKind::Current {
                seen.push(self.describe_told(&told));
            }
            if payload_of(&told) == "text:5" {
                break;
            }
        }
        say("subscribe resumed", json!({"events": seen}));
        Ok(())
    }

    async fn failures(&self) -> Outcome {
        let nobody = Dot {
            origin: Some(Origin {
                node_id: "nobody".to_owned(),
                generation: 1,
            }),
            sequence: 1,
        };
        let unborn = Session {
            dots: vec![nobody],
            ..Default::default()
        };
        for (timeout, key, session) in [
            (ATTEMPT_TIMEOUT, format!("{}missing", self.prefix), None),
            (ATTEMPT_TIMEOUT, String::new(), None),
            (Duration::from_secs(1), "any".to_owned(), Some(unborn)),
        ] {
            let (code, details) = self
                .refusal(timeout, KeyValueServiceGetRequest { key, session })
                .await?;
            let info = details.error_info();
            let wrong = details.bad_request().map(|request| &request.field_violations);
            let fields: Vec<_> = wrong.into_iter().flatten().map(|violation| &violation.field).collect();
            say(
                "error",
                json!({"code": code as i32, "domain": info.map(|info| &info.domain), "reason": info.map(|info| &info.reason), "fields": fields}),
            );
        }
        Ok(())
    }

    async fn hand_over(&self) -> Outcome {
        let nodes = &self.cluster.nodes;
        let mut stale = 0;
        for number in 0..HAND_OVERS {
            let value = text(&number.to_string());
            let node = nodes[number % nodes.len()].clone();
            let token = self.put_at(node, "handed", value.clone(), Some(&self.session)).await?;
            self.session.merge(token);
            let other = nodes[(number + 1) % nodes.len()].clone();
            match self.get_at(other, "handed").await {
                Ok(found) if found.as_ref() == Some(&value) => {}
                Err(error) if error.code() != Code::NotFound => return Err(error.into()),
                _ => stale += 1,
            }
        }
        say("session", json!({"reads": HAND_OVERS, "stale": stale}));
        Ok(())
    }

    async fn failover(&self) -> Outcome {
        let from = self.cluster.current().clone();
        let mut watch = self
            .cluster
            .watch(format!("{}watched/", self.prefix), String::new(), None);
        self.until(&mut watch, "CURRENT").await?;

        let moved = AtomicBool::new(false);
        let adding = tasks(async |task| {
            let nodes = [self.cluster.starting_at(task)];
            while !moved.load(Ordering::SeqCst) {
                self.add(&nodes).await?;
                sleep(BETWEEN_BEATS).await;
            }
            Ok(())
        });
        let beating = async {
            let written = self.beats(&from).await;
            moved.store(true, Ordering::SeqCst);
            written
        };
        let (mut written, ()) = tokio::try_join!(beating, adding)?;
        let to = self.name(self.cluster.current());
        say(
            "failover",
            json!({"from": self.name(&from), "to": to, "info": {"beats": written.len()}}),
        );

        let mut seen = self.until(&mut watch, "CURRENT").await?;
        self.beat("watched/c").await?;
        seen.extend(self.until(&mut watch, "PUT watched/c=text:beat").await?);
        drop(watch);
        say("watch moved", json!({"events": seen}));

        await_ready(&from).await?;
        let (found, _) = self.keys(from.clone(), "beats/", 0).await?;
        for key in &found {
            written.remove(key);
        }
        let surplus = self.surplus().await?;
        say(
            "return",
            json!({
                "node": self.name(&from),
                "missing": written.len(),
                "surplus": surplus,
                "info": {"visits": self.visits.load(Ordering::SeqCst)},
            }),
        );
        Ok(())
    }

    /// Writes until some time after a node has failed; returns the keys written. Each is a key of its own: a write that
    /// is retried elsewhere must not hide one that was acknowledged here.
    async fn beats(&self, from: &Node) -> Outcome<HashSet<String>> {
        let mut written = HashSet::new();
        let begun = Instant::now();
        let mut after = 0;
        while after < BEATS_AFTER {
            if begun.elapsed() > PATIENCE {
                return Err(format!("no node has failed in {PATIENCE:?}").into());
            }
            let key = format!("beats/{:06}", written.len());
            self.beat(&key).await?;
            written.insert(key);
            if written.len() == BEATS_BEFORE {
                say("ready for failover", json!({"node": self.name(from)}));
            }
            if self.cluster.current().index != from.index {
                after += 1;
            }
            sleep(BETWEEN_BEATS).await;
        }
        Ok(written)
    }

    /// How much more each node has counted than was acknowledged. Waits until none has: what two nodes counted before
    /// they heard of each other is taken back once they have.
    async fn surplus(&self) -> Result<Map<String, Json>, Status> {
        let begun = Instant::now();
        loop {
            let mut surplus = Map::new();
            for node in self.cluster.nodes.iter() {
                let value = self.visits_at(node.clone()).await? - self.visits.load(Ordering::SeqCst);
                surplus.insert(self.name(node).into(), value.into());
            }
            if surplus.values().all(|value| value == 0) || begun.elapsed() > PATIENCE {
                return Ok(surplus);
            }
            rest(1).await;
        }
    }

    async fn until(&self, watch: &mut Stream<KeyValueServiceWatchRequest>, last: &str) -> Result<Vec<String>, Status> {
        let mut seen = Vec::new();
        while seen.last().is_none_or(|event| event != last) {
            seen.push(self.describe(&watch.next().await?));
        }
        Ok(seen)
    }

    // --- calls ---

    async fn put_at(
        &self,
        mut node: Node,
        key: &str,
        value: Value,
        session: Option<&Seen>,
    ) -> Result<Option<Session>, Status> {
        let request = KeyValueServicePutRequest {
            key: format!("{}{key}", self.prefix),
            value: Some(value),
            session: session.map(Seen::token),
            ..Default::default()
        };
        Ok(node.kv.put(timed(request)).await?.into_inner().session)
    }

    async fn get_at(&self, mut node: Node, key: &str) -> Result<Option<Value>, Status> {
        let request = KeyValueServiceGetRequest {
            key: format!("{}{key}", self.prefix),
            session: Some(self.session.token()),
        };
        let answer = node.kv.get(timed(request)).await?.into_inner();
        Ok(answer.entry.and_then(|entry| entry.value))
    }

    async fn write(&self, key: &str, value: Value) -> Result<(), Status> {
        let ask = async |node| self.put_at(node, key, value.clone(), Some(&self.session)).await;
        self.session.merge(self.cluster.call(ask).await?);
        Ok(())
    }

    /// Writes without sending the session along, so that it waits for nothing: what was written in the last moments of a
    /// node that died may be on that node's disk alone until it is back.
    async fn beat(&self, key: &str) -> Result<(), Status> {
        let ask = async |node| self.put_at(node, key, text("beat"), None).await;
        self.session.merge(self.cluster.call(ask).await?);
        Ok(())
    }

    async fn remove(&self, key: &str) -> Result<(), Status> {
        let answer = self
            .cluster
            .call(async |mut node| {
                let request = KeyValueServiceDeleteRequest {
                    key: format!("{}{key}", self.prefix),
                    session: Some(self.session.token()),
                    ..Default::default()
                };
                Ok(node.kv.delete(timed(request)).await?.into_inner())
            })
            .await?;
        self.session.merge(answer.session);
        Ok(())
    }

    /// Counts one visit; once, however often and wherever it is tried.
    async fn add(&self, places: &[Arc<Cluster>]) -> Result<(), Status> {
        let request = CounterServiceAddRequest {
            key: format!("{}visits", self.prefix),
            amount: 1,
            request_id: Uuid::new_v4().to_string(),
            ..Default::default()
        };
        for nodes in places {
            let answer = nodes
                .call(async |mut node| Ok(node.counter.add(timed(request.clone())).await?.into_inner()))
                .await?;
            self.session.merge(answer.session);
        }
        self.visits.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    async fn visits_at(&self, mut node: Node) -> Result<i64, Status> {
        let request = CounterServiceGetRequest {
            key: format!("{}visits", self.prefix),
            session: Some(self.session.token()),
        };
        let answer = node.counter.get(timed(request)).await?.into_inner();
        Ok(answer.counter.unwrap_or_default().value)
    }

    async fn publish(&self, nodes: &Cluster, topic: &str, payload: &str, request_id: Uuid) -> Result<(), Status> {
        let request = EventServicePublishRequest {
            topic: format!("{}{topic}", self.prefix),
            payload: Some(text(payload)),
            request_id: request_id.to_string(),
            ..Default::default()
        };
        nodes
            .call(async |mut node| node.event.publish(timed(request.clone())).await)
            .await?;
        Ok(())
    }

    /// How the node refuses a call. An error without a reason is not the node's: ask again.
    async fn refusal(&self, timeout: Duration, request: KeyValueServiceGetRequest) -> Outcome<(Code, ErrorDetails)> {
        for _ in 0..ATTEMPTS {
            let mut node = self.cluster.current().clone();
            if let Err(error) = node.kv.get(within(timeout, request.clone())).await {
                let details = error.get_error_details();
                if details.error_info().is_some() {
                    return Ok((error.code(), details));
                }
            }
        }
        Err("the node has refused nothing".into())
    }

    /// The keys below a prefix as one node knows them, and in how many pages they came.
    async fn keys(&self, mut node: Node, below: &str, page_size: i32) -> Result<(Vec<String>, usize), Status> {
        let mut keys = Vec::new();
        let mut page_token = String::new();
        for pages in 1.. {
            let request = KeyValueServiceListRequest {
                prefix: format!("{}{below}", self.prefix),
                page_size,
                page_token,
                session: Some(self.session.token()),
            };
            let answer = node.kv.list(timed(request)).await?.into_inner();
            keys.extend(answer.entries.iter().map(|entry| self.short(&entry.key)));
            page_token = answer.next_page_token;
            if page_token.is_empty() {
                return Ok((keys, pages));
            }
        }
        unreachable!()
    }

    // --- values and lines ---

    fn name(&self, node: &Node) -> &str {
        &self.names[node.index]
    }

    fn short(&self, key: &str) -> String {
        key.strip_prefix(&self.prefix).unwrap_or(key).to_owned()
    }

    fn describe(&self, event: &KeyValueServiceWatchResponse) -> String {
        let mut line = event
            .kind()
            .as_str_name()
            .trim_start_matches("KEY_VALUE_EVENT_KIND_")
            .to_owned();
        if !event.key.is_empty() {
            line += &format!(" {}", self.short(&event.key));
        }
        if event.entry.is_some() {
            line += &format!("={}", value_of(event));
        }
        line
    }

    fn describe_told(&self, told: &EventServiceSubscribeResponse) -> String {
        let kind = told.kind().as_str_name().trim_start_matches("SUBSCRIPTION_EVENT_KIND_");
        match &told.event {
            Some(event) => format!("{kind} {}={}", self.short(&event.topic), payload_of(told)),
            None => kind.to_owned(),
        }
    }
}

/// Waits until a node takes calls, again or for the first time.
async fn await_ready(node: &Node) -> Result<ClusterServiceGetStatusResponse, Status> {
    let mut cluster = node.cluster.clone();
    let begun = Instant::now();
    loop {
        match cluster.get_status(timed(ClusterServiceGetStatusRequest {})).await {
            Ok(answer) if answer.get_ref().ready => return Ok(answer.into_inner()),
            Err(error) if begun.elapsed() > PATIENCE => return Err(error),
            _ => rest(1).await,
        }
    }
}

/// Runs tasks at the same time.
async fn tasks(run: impl AsyncFn(usize) -> Result<(), Status>) -> Outcome {
    try_join_all((0..TASKS).map(|task| run(task))).await?;
    Ok(())
}

fn text(content: &str) -> Value {
    Value {
        kind: Some(Kind::Text(content.to_owned())),
    }
}

fn value_of(event: &KeyValueServiceWatchResponse) -> String {
    show(event.entry.as_ref().and_then(|entry| entry.value.as_ref()))
}

fn payload_of(told: &EventServiceSubscribeResponse) -> String {
    show(told.event.as_ref().and_then(|event| event.payload.as_ref()))
}

fn show(value: Option<&Value>) -> String {
    match value.and_then(|value| value.kind.as_ref()) {
        Some(Kind::Text(text)) => format!("text:{text}"),
        Some(Kind::Data(data)) => format!("data:{}", BASE64_STANDARD.encode(data)),
        None => "nothing".to_owned(),
    }
}

fn say(step: &str, fields: Json) {
    let mut line = Map::new();
    line.insert("step".to_owned(), step.into());
    if let Json::Object(fields) = fields {
        line.extend(fields);
    }
    println!("{}", Json::Object(line));
}
