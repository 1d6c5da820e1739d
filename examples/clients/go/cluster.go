package main

import (
	"context"
	"iter"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	gossipv1 "gossip.example/tour/gen/gossip/v1"
)

const (
	attemptTimeout = 5 * time.Second        // what one node gets to answer in
	callTimeout    = 20 * time.Second       // what all nodes together get
	pause          = 200 * time.Millisecond // when all nodes have failed; twice as long each time that they fail again
	maxPause       = 2 * time.Second        // but no longer than this
)

// Another node may do what a node has refused for one of these reasons. For any other, it would refuse it as well.
var askAnother = []string{"NOT_READY", "STOPPING", "DISK_FAILED", "SESSION_BEHIND", "SESSION_LIMIT", "WATCH_LIMIT"}

// Node is one node of the cluster, with the stubs of its services.
type Node struct {
	Address string
	KV      gossipv1.KeyValueServiceClient
	Counter gossipv1.CounterServiceClient
	Set     gossipv1.SetServiceClient
	Event   gossipv1.EventServiceClient
	Cluster gossipv1.ClusterServiceClient
	conn    *grpc.ClientConn
}

// Cluster knows several nodes. It asks one of them, and moves on to the next when that one fails.
type Cluster struct {
	Nodes   []*Node
	mu      sync.Mutex
	current int
}

// Dial makes a client of the nodes at these addresses. It connects when it is first used.
func Dial(addresses []string) (*Cluster, error) {
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		// gRPC's own default waits for up to two minutes after a node is back.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: 2 * time.Second,
		}),
		// A watcher may hear nothing for hours; this is how it learns that the node's host is gone.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
	}
	cluster := &Cluster{}
	for _, address := range addresses {
		conn, err := grpc.NewClient("passthrough:///"+address, options...)
		if err != nil {
			return nil, err
		}
		cluster.Nodes = append(cluster.Nodes, &Node{
			Address: address,
			KV:      gossipv1.NewKeyValueServiceClient(conn),
			Counter: gossipv1.NewCounterServiceClient(conn),
			Set:     gossipv1.NewSetServiceClient(conn),
			Event:   gossipv1.NewEventServiceClient(conn),
			Cluster: gossipv1.NewClusterServiceClient(conn),
			conn:    conn,
		})
	}
	return cluster, nil
}

// StartingAt is the same nodes and connections, for one that asks another node first.
func (c *Cluster) StartingAt(index int) *Cluster {
	return &Cluster{Nodes: c.Nodes, current: index % len(c.Nodes)}
}

// Close closes all connections.
func (c *Cluster) Close() {
	for _, node := range c.Nodes {
		_ = node.conn.Close()
	}
}

// Current is the node that is asked now.
func (c *Cluster) Current() *Node {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.Nodes[c.current]
}

// leave moves on from a node that failed, unless another caller has done so already.
func (c *Cluster) leave(failed *Node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.Nodes[c.current] == failed {
		c.current = (c.current + 1) % len(c.Nodes)
	}
}

// Call asks the current node, and the others while it makes sense. It is for reads, and for writes that do no harm if
// they are done twice: Put, Delete, Add and Remove of a set; and Add of a counter and Publish, if they have a request_id
// that stays the same.
func Call[T any](ctx context.Context, c *Cluster, call func(context.Context, *Node) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	for attempt := 1; ; attempt++ {
		node := c.Current()
		answer, err := ask(ctx, node, call)
		if err == nil || !movesOn(err) {
			return answer, err
		}
		c.leave(node)
		if attempt%len(c.Nodes) == 0 && !rest(ctx, attempt/len(c.Nodes)) {
			return answer, err
		}
	}
}

func ask[T any](ctx context.Context, node *Node, call func(context.Context, *Node) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	return call(ctx, node)
}

// movesOn tells whether another node is worth asking.
func movesOn(err error) bool {
	if info := Info(err); info != nil {
		// The node has answered, and done nothing. So SESSION_BEHIND is no unknown outcome, though its code is
		// DeadlineExceeded, too.
		return slices.Contains(askAnother, info.Reason)
	}
	// No node says so: nobody knows whether the call took effect.
	code := status.Code(err)
	return code == codes.Unavailable || code == codes.DeadlineExceeded
}

// rest waits, not equally long for all clients, so that they do not all come at once to a node that is back. It is false
// if there is no time left.
func rest(ctx context.Context, failures int) bool {
	wait := min(pause<<(min(failures, 10)-1), maxPause)
	select {
	case <-ctx.Done():
		return false
	case <-time.After(wait/2 + rand.N(wait)):
		return true
	}
}

// Info is what the node says of an error to programs; nil if the error is not a node's.
func Info(err error) *errdetails.ErrorInfo {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info
		}
	}
	return nil
}

// Watch yields what there is below a prefix and every change of it, for ever.
func (c *Cluster) Watch(ctx context.Context, prefix, token string, session *Session) iter.Seq2[*gossipv1.KeyValueServiceWatchResponse, error] {
	return follow(ctx, c, token, func(ctx context.Context, node *Node, token string) (grpc.ServerStreamingClient[gossipv1.KeyValueServiceWatchResponse], error) {
		return node.KV.Watch(ctx, &gossipv1.KeyValueServiceWatchRequest{
			Prefix: prefix, ResumeToken: token, Session: session.Token(),
		})
	})
}

// Subscribe yields the events of some topics that come from now on, or after a token, for ever.
func (c *Cluster) Subscribe(ctx context.Context, topics []string, token string) iter.Seq2[*gossipv1.EventServiceSubscribeResponse, error] {
	return follow(ctx, c, token, func(ctx context.Context, node *Node, token string) (grpc.ServerStreamingClient[gossipv1.EventServiceSubscribeResponse], error) {
		return node.Event.Subscribe(ctx, &gossipv1.EventServiceSubscribeRequest{Topics: topics, ResumeToken: token})
	})
}

// follow is a stream that goes on where it was when a node fails or cuts a slow reader off: at that node without loss or
// repeat; another one sends RESET and what it has. Breaking out of the loop ends it; the ResumeToken of what was received
// resumes it later.
func follow[T any, P interface {
	*T
	GetResumeToken() string
}](
	ctx context.Context, c *Cluster, token string,
	begin func(context.Context, *Node, string) (grpc.ServerStreamingClient[T], error),
) iter.Seq2[*T, error] {
	return func(yield func(*T, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		for failures := 0; ; {
			node := c.Current()
			stream, err := begin(ctx, node, token)
			for err == nil {
				var told *T
				if told, err = stream.Recv(); err == nil {
					failures = 0
					if next := P(told).GetResumeToken(); next != "" {
						token = next
					}
					if !yield(told, nil) {
						return
					}
				}
			}
			if info := Info(err); info != nil && info.Reason == "SLOW_WATCHER" {
				token = info.Metadata["resume_token"]
				continue
			}
			if !movesOn(err) {
				yield(nil, err)
				return
			}
			c.leave(node)
			if failures++; failures%len(c.Nodes) == 0 && !rest(ctx, failures/len(c.Nodes)) {
				yield(nil, err)
				return
			}
		}
	}
}
