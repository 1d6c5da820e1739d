use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};
use tonic_types::StatusExt;

use crate::gossip::cluster_service_client::ClusterServiceClient;
use crate::gossip::counter_service_client::CounterServiceClient;
use crate::gossip::key_value_service_client::KeyValueServiceClient;
use crate::gossip::set_service_client::SetServiceClient;
use crate::gossip::{KeyValueServiceWatchRequest, KeyValueServiceWatchResponse};
use crate::session::Session;

/// What one node gets to answer in.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);
/// What all nodes together get.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(200);

/// The node has answered with one of these, and did nothing: another node may do it. With any other reason the next one
/// would answer the same.
const ASK_ANOTHER: [&str; 3] = ["NOT_READY", "STOPPING", "SESSION_BEHIND"];

/// One node, with the clients of its services; all share one connection, and a copy is cheap.
#[derive(Clone)]
pub struct Node {
    pub index: usize,
    pub kv: KeyValueServiceClient<Channel>,
    pub counter: CounterServiceClient<Channel>,
    pub set: SetServiceClient<Channel>,
    pub cluster: ClusterServiceClient<Channel>,
}

impl Node {
    fn new(index: usize, address: &str) -> Result<Self, tonic::transport::Error> {
        let channel = Endpoint::from_shared(format!("http://{address}"))?
            .connect_timeout(Duration::from_secs(2))
            // A watcher may hear nothing for hours; this is how it learns that the node's host is gone.
            .http2_keep_alive_interval(Duration::from_secs(10))
            .keep_alive_timeout(Duration::from_secs(5))
            .connect_lazy();
        Ok(Self {
            index,
            kv: KeyValueServiceClient::new(channel.clone()),
            counter: CounterServiceClient::new(channel.clone()),
            set: SetServiceClient::new(channel.clone()),
            cluster: ClusterServiceClient::new(channel),
        })
    }
}

/// A request with the deadline of one attempt.
pub fn timed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(ATTEMPT_TIMEOUT);
    request
}

/// A client of several nodes: it asks one of them, and moves on to the next when that one fails.
pub struct Cluster {
    pub nodes: Vec<Node>,
    position: AtomicUsize,
}

impl Cluster {
    pub fn new(addresses: &[String]) -> Result<Self, tonic::transport::Error> {
        let nodes = addresses
            .iter()
            .enumerate()
            .map(|(index, address)| Node::new(index, address))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            nodes,
            position: AtomicUsize::new(0),
        })
    }

    /// The node that is asked now.
    pub fn current(&self) -> &Node {
        &self.nodes[self.position.load(Ordering::SeqCst)]
    }

    /// Moves on from a node that failed, unless another task has done so already.
    fn leave(&self, failed: usize) {
        let next = (failed + 1) % self.nodes.len();
        let _ = self
            .position
            .compare_exchange(failed, next, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// Asks the current node, and the others while it makes sense. For reads, and for writes that say what is to be:
    /// Put, Delete, Add and Remove of a set. Not for adding to a counter, which would count twice if it is done twice.
    pub async fn call<T>(&self, ask: impl AsyncFn(Node) -> Result<T, Status>) -> Result<T, Status> {
        let end = Instant::now() + CALL_TIMEOUT;
        for attempt in 1.. {
            let node = self.current().clone();
            let index = node.index;
            match ask(node).await {
                Err(error) if moves_on(&error) && Instant::now() < end => self.leave(index),
                outcome => return outcome,
            }
            if attempt % self.nodes.len() == 0 {
                rest().await;
            }
        }
        unreachable!()
    }

    /// What there is below a prefix and every change of it, for ever. An event's token resumes it later.
    pub fn watch(self: &Arc<Self>, prefix: String, token: String, session: Option<Arc<Session>>) -> Watch {
        Watch {
            cluster: self.clone(),
            prefix,
            token,
            session,
            node: 0,
            events: None,
            failures: 0,
        }
    }
}

/// A stream of events; dropping it ends the call. When a node fails or cuts a slow watcher off, it goes on where it was:
/// at that node without loss or repeat; at another one with RESET and a snapshot.
pub struct Watch {
    cluster: Arc<Cluster>,
    prefix: String,
    token: String,
    session: Option<Arc<Session>>,
    node: usize,
    events: Option<Streaming<KeyValueServiceWatchResponse>>,
    failures: usize,
}

impl Watch {
    /// Waits for the next event.
    pub async fn next(&mut self) -> Result<KeyValueServiceWatchResponse, Status> {
        loop {
            let error = match self.receive().await {
                Ok(event) => {
                    self.failures = 0;
                    if !event.resume_token.is_empty() {
                        self.token.clone_from(&event.resume_token);
                    }
                    return Ok(event);
                }
                Err(error) => error,
            };
            self.events = None;
            let info = error.get_details_error_info();
            if let Some(info) = info.filter(|info| info.reason == "SLOW_WATCHER") {
                self.token = info.metadata.get("resume_token").cloned().unwrap_or_default();
                continue;
            }
            if !moves_on(&error) {
                return Err(error);
            }
            self.cluster.leave(self.node);
            self.failures += 1;
            if self.failures.is_multiple_of(self.cluster.nodes.len()) {
                rest().await;
            }
        }
    }

    async fn receive(&mut self) -> Result<KeyValueServiceWatchResponse, Status> {
        let events = match &mut self.events {
            Some(events) => events,
            none => {
                let mut node = self.cluster.current().clone();
                self.node = node.index;
                let request = KeyValueServiceWatchRequest {
                    prefix: self.prefix.clone(),
                    resume_token: self.token.clone(),
                    session: self.session.as_ref().map(|session| session.token()),
                };
                none.insert(node.kv.watch(request).await?.into_inner())
            }
        };
        let event = events.message().await?;
        event.ok_or_else(|| Status::unavailable("the node has ended the watch"))
    }
}

fn moves_on(error: &Status) -> bool {
    if let Some(info) = error.get_details_error_info() {
        return ASK_ANOTHER.contains(&info.reason.as_str());
    }
    // Nobody knows whether it took effect. With tonic a connection that breaks under a call is `Unknown`, and a deadline
    // that passes here is `Cancelled`.
    matches!(
        error.code(),
        Code::Unavailable | Code::DeadlineExceeded | Code::Unknown | Code::Cancelled
    )
}

/// A moment, not the same for all clients.
pub async fn rest() {
    sleep(PAUSE.mul_f64(rand::random_range(0.5..1.5))).await;
}
