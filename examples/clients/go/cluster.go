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
	attemptTimeout = 5 * time.Second  // what one node gets to answer in
	callTimeout    = 20 * time.Second // what all nodes together get
	pause          = 200 * time.Millisecond
)

// Node is one node of the cluster, with the stubs of its services.
type Node struct {
	Address string
	KV      gossipv1.KeyValueServiceClient
	Counter gossipv1.CounterServiceClient
	Set     gossipv1.SetServiceClient
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
			Cluster: gossipv1.NewClusterServiceClient(conn),
			conn:    conn,
		})
	}
	return cluster, nil
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

// Call asks the current node, and the others while it makes sense. It is for reads, and for writes that say what is to
// be: Put, Delete, Add and Remove of a set. It is not for adding to a counter, which counts twice if it is done twice.
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
		if attempt%len(c.Nodes) == 0 && !rest(ctx) {
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
		// The node has answered, and did nothing. With any other reason the next one would answer the same.
		return slices.Contains([]string{"NOT_READY", "STOPPING", "SESSION_BEHIND"}, info.Reason)
	}
	// Nobody knows whether it took effect.
	code := status.Code(err)
	return code == codes.Unavailable || code == codes.DeadlineExceeded
}

// rest waits a moment, not the same for all clients; false if there is no time left.
func rest(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(pause/2 + rand.N(pause)):
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

// Watch yields what there is below a prefix and every change of it, for ever. When a node fails or cuts a slow watcher
// off, it goes on where it was: at that node without loss or repeat; at another one with RESET and a snapshot.
// Breaking out of the loop ends it; an event's token resumes it.
func (c *Cluster) Watch(ctx context.Context, prefix, token string, session *Session) iter.Seq2[*gossipv1.KeyValueServiceWatchResponse, error] {
	return func(yield func(*gossipv1.KeyValueServiceWatchResponse, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		for failures := 0; ; {
			node := c.Current()
			stream, err := node.KV.Watch(ctx, &gossipv1.KeyValueServiceWatchRequest{
				Prefix: prefix, ResumeToken: token, Session: session.Token(),
			})
			for err == nil {
				var event *gossipv1.KeyValueServiceWatchResponse
				if event, err = stream.Recv(); err == nil {
					failures = 0
					if event.ResumeToken != "" {
						token = event.ResumeToken
					}
					if !yield(event, nil) {
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
			if failures++; failures%len(c.Nodes) == 0 && !rest(ctx) {
				yield(nil, err)
				return
			}
		}
	}
}
