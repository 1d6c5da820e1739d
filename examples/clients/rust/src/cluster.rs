use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_types::StatusExt;

use crate::gossip::cluster_service_client::ClusterServiceClient;
use crate::gossip::counter_service_client::CounterServiceClient;
use crate::gossip::event_service_client::EventServiceClient;
use crate::gossip::key_value_service_client::KeyValueServiceClient;
use crate::gossip::set_service_client::SetServiceClient;
use crate::gossip::{
    EventServiceSubscribeRequest, EventServiceSubscribeResponse, KeyValueServiceWatchRequest,
    KeyValueServiceWatchResponse,
};
use crate::session::Session;

/// What one node gets to answer in.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);
/// What all nodes together get.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);
/// How long to wait when all nodes have failed; twice as long each time that they fail again ...
const PAUSE: Duration = Duration::from_millis(200);
/// ... but no longer than this.
const MAX_PAUSE: Duration = Duration::from_secs(2);

/// Another node may do what a node has refused for one of these reasons. For any other, it would refuse it as well.
const ASK_ANOTHER: [&str; 6] = [
    "NOT_READY",
    "STOPPING",
    "DISK_FAILED",
    "SESSION_BEHIND",
    "SESSION_LIMIT",
    "WATCH_LIMIT",
];

/// One node, with the clients of its services; all share one connection, and a copy is cheap.
#[derive(Clone)]
pub struct Node {
    pub index: usize,
    pub kv: KeyValueServiceClient<Channel>,
    pub counter: CounterServiceClient<Channel>,
    pub set: SetServiceClient<Channel>,
    pub event: EventServiceClient<Channel>,
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
            event: EventServiceClient::new(channel.clone()),
            cluster: ClusterServiceClient::new(channel),
        })
    }
}

/// A request with the deadline of one attempt.
pub fn timed<T>(message: T) -> Request<T> {
    within(ATTEMPT_TIMEOUT, message)
}

/// A request with a deadline.
pub fn within<T>(timeout: Duration, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(timeout);
    request
}

/// A client of several nodes: it asks one of them, and moves on to the next when that one fails.
pub struct Cluster {
    pub nodes: Arc<[Node]>,
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

    /// The same nodes and connections, for one that asks another node first.
    pub fn starting_at(&self, index: usize) -> Arc<Self> {
        Arc::new(Self {
            nodes: self.nodes.clone(),
            position: AtomicUsize::new(index % self.nodes.len()),
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

    /// Asks the current node, and the others while it makes sense. For reads, and for writes that do no harm if they are
    /// done twice: Put, Delete, Add and Remove of a set; and Add of a counter and Publish, if they have a request_id that
    /// stays the same.
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
                rest(attempt / self.nodes.len()).await;
            }
        }
        unreachable!()
    }

    /// What there is below a prefix and every change of it, for ever.
    pub fn watch(
        self: &Arc<Self>,
        prefix: String,
        resume_token: String,
        session: Option<Arc<Session>>,
    ) -> Stream<KeyValueServiceWatchRequest> {
        let session = session.map(|session| session.token());
        self.follow(KeyValueServiceWatchRequest {
            prefix,
            resume_token,
            session,
        })
    }

    /// The events of some topics that come from now on, or after a token, for ever.
    pub fn subscribe(
        self: &Arc<Self>,
        topics: Vec<String>,
        resume_token: String,
    ) -> Stream<EventServiceSubscribeRequest> {
        self.follow(EventServiceSubscribeRequest {
            topics,
            resume_token,
            ..Default::default()
        })
    }

    fn follow<R: Resumable>(self: &Arc<Self>, request: R) -> Stream<R> {
        Stream {
            cluster: self.clone(),
            request,
            node: 0,
            messages: None,
            failures: 0,
        }
    }
}

/// A request for a stream that can go on where it was.
pub trait Resumable: Clone {
    type Message;

    async fn begin(self, node: Node) -> Result<Response<Streaming<Self::Message>>, Status>;
    fn token_of(message: &Self::Message) -> &str;
    fn resume_at(&mut self, token: &str);
}

impl Resumable for KeyValueServiceWatchRequest {
    type Message = KeyValueServiceWatchResponse;

    async fn begin(self, mut node: Node) -> Result<Response<Streaming<Self::Message>>, Status> {
        node.kv.watch(self).await
    }

    fn token_of(message: &Self::Message) -> &str {
        &message.resume_token
    }

    fn resume_at(&mut self, token: &str) {
        self.resume_token = token.to_owned();
    }
}

impl Resumable for EventServiceSubscribeRequest {
    type Message = EventServiceSubscribeResponse;

    async fn begin(self, mut node: Node) -> Result<Response<Streaming<Self::Message>>, Status> {
        node.event.subscribe(self).await
    }

    fn token_of(message: &Self::Message) -> &str {
        &message.resume_token
    }

    fn resume_at(&mut self, token: &str) {
        self.resume_token = token.to_owned();
    }
}

/// A stream that goes on where it was when a node fails or cuts a slow reader off: at that node without loss or repeat;
/// another one sends RESET and what it has. Dropping it ends it; the resume_token of what was received resumes it later.
pub struct Stream<R: Resumable> {
    cluster: Arc<Cluster>,
    request: R,
    node: usize,
    messages: Option<Streaming<R::Message>>,
    failures: usize,
}

impl<R: Resumable> Stream<R> {
    /// Waits for the next message.
    pub async fn next(&mut self) -> Result<R::Message, Status> {
        loop {
            let error = match self.receive().await {
                Ok(message) => {
                    self.failures = 0;
                    let token = R::token_of(&message);
                    if !token.is_empty() {
                        self.request.resume_at(token);
                    }
                    return Ok(message);
                }
                Err(error) => error,
            };
            self.messages = None;
            let info = error.get_details_error_info();
            if let Some(info) = info.filter(|info| info.reason == "SLOW_WATCHER") {
                self.request
                    .resume_at(info.metadata.get("resume_token").map_or("", String::as_str));
                continue;
            }
            if !moves_on(&error) {
                return Err(error);
            }
            self.cluster.leave(self.node);
            self.failures += 1;
            if self.failures.is_multiple_of(self.cluster.nodes.len()) {
                rest(self.failures / self.cluster.nodes.len()).await;
            }
        }
    }

    async fn receive(&mut self) -> Result<R::Message, Status> {
        let messages = match &mut self.messages {
            Some(messages) => messages,
            none => {
                let node = self.cluster.current().clone();
                self.node = node.index;
                none.insert(self.request.clone().begin(node).await?.into_inner())
            }
        };
        let message = messages.message().await?;
        message.ok_or_else(|| Status::unavailable("the node has ended the stream"))
    }
}

fn moves_on(error: &Status) -> bool {
    if let Some(info) = error.get_details_error_info() {
        // The node has answered, and done nothing. So SESSION_BEHIND is no unknown outcome, though its code is
        // DeadlineExceeded, too.
        return ASK_ANOTHER.contains(&info.reason.as_str());
    }
    // No node says so: nobody knows whether the call took effect. With tonic a connection that breaks under a call is `Unknown`, and a deadline
    // that passes here is `Cancelled`.
    matches!(
        error.code(),
        Code::Unavailable | Code::DeadlineExceeded | Code::Unknown | Code::Cancelled
    )
}

/// Waits, not equally long for all clients, so that they do not all come at once to a node that is back.
pub async fn rest(failures: usize) {
    let wait = MAX_PAUSE.min(PAUSE * (1 << (failures.min(10) - 1)));
    sleep(wait.mul_f64(0.5 + fastrand::f64())).await;
}
