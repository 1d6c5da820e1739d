// Tour shows what a client does with a gossip-grpc cluster. It prints a line of JSON for each step.
//
//	tour PREFIX ADDRESS...
package main

// The first time takes as long as the plugins take to build, which may be more than the two minutes that are usual.
//go:generate buf generate --timeout 20m

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	gossipv1 "gossip.example/tour/gen/gossip/v1"
)

const (
	tasks        = 8
	addsPerTask  = 25
	handOvers    = 20
	attempts     = 10
	beatsBefore  = 5                // writes before the tour is ready for the node's death
	beatsAfter   = 10               // writes after it
	patience     = 60 * time.Second // how long the tour waits for a node to die, and to come back
	betweenBeats = 50 * time.Millisecond
)

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: tour PREFIX ADDRESS...")
		os.Exit(2)
	}
	cluster, err := Dial(os.Args[2:])
	if err == nil {
		defer cluster.Close()
		t := &tour{cluster: cluster, prefix: os.Args[1], session: &Session{}}
		err = t.run(context.Background())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "tour:", err)
		os.Exit(1)
	}
}

type tour struct {
	cluster *Cluster
	prefix  string
	session *Session // of all that the tour has written
	names   map[*Node]string
	order   []string     // the nodes' names in the order of the addresses
	visits  atomic.Int64 // additions to the counter that were acknowledged
}

type fields map[string]any

func (t *tour) run(ctx context.Context) error {
	for _, step := range []func(context.Context) error{
		t.connect, t.put, t.get, t.list, t.watch, t.count, t.collect, t.members, t.subscribe, t.failures, t.handOver, t.failover,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	say("done", fields{})
	return nil
}

// --- the steps ---

func (t *tour) connect(ctx context.Context) error {
	t.names = map[*Node]string{}
	for _, node := range t.cluster.Nodes {
		answer, err := awaitReady(ctx, node)
		if err != nil {
			return err
		}
		t.names[node] = answer.NodeId
		t.order = append(t.order, answer.NodeId)
	}
	say("connect", fields{"node": t.names[t.cluster.Current()], "nodes": t.order})
	return nil
}

func (t *tour) put(ctx context.Context) error {
	values := map[string]*gossipv1.Value{
		"kv/blob":     data([]byte{0x00, 0xff, 0x10}),
		"kv/greeting": text("hello"),
		"kv/unicode":  text("Grüße, 世界 🐌"),
	}
	for key, value := range values {
		if err := t.write(ctx, key, value); err != nil {
			return err
		}
	}
	say("put", fields{"count": len(values)})
	return nil
}

func (t *tour) get(ctx context.Context) error {
	values := fields{}
	for _, key := range []string{"kv/blob", "kv/greeting", "kv/unicode"} {
		value, err := t.read(ctx, key)
		if err != nil {
			return err
		}
		values[key] = show(value)
	}
	say("get", fields{"values": values})
	return nil
}

func (t *tour) list(ctx context.Context) error {
	keys, pages, err := t.keys(ctx, t.cluster.Current(), "kv/", 2)
	if err != nil {
		return err
	}
	say("list", fields{"keys": keys, "pages": pages})
	return nil
}

func (t *tour) watch(ctx context.Context) error {
	if err := t.write(ctx, "watched/a", text("0")); err != nil {
		return err
	}
	var seen []string
	var token string
	for event, err := range t.cluster.Watch(ctx, t.prefix+"watched/", "", t.session) {
		if err != nil {
			return err
		}
		seen = append(seen, t.describe(event))
		if event.Kind == gossipv1.KeyValueEventKind_KEY_VALUE_EVENT_KIND_CURRENT {
			err = errors.Join(
				t.write(ctx, "watched/a", text("1")),
				t.write(ctx, "watched/a", text("2")),
			)
			if err != nil {
				return err
			}
		}
		if event.Entry.GetValue().GetText() == "2" {
			token = event.ResumeToken
			break
		}
	}
	say("watch", fields{"events": seen})

	// Nobody watches now; the token brings what was missed.
	if err := t.remove(ctx, "watched/a"); err != nil {
		return err
	}
	if err := t.write(ctx, "watched/b", text("3")); err != nil {
		return err
	}
	seen = nil
	for event, err := range t.cluster.Watch(ctx, t.prefix+"watched/", token, t.session) {
		if err != nil {
			return err
		}
		if event.Kind != gossipv1.KeyValueEventKind_KEY_VALUE_EVENT_KIND_CURRENT {
			seen = append(seen, t.describe(event))
		}
		if event.Entry.GetValue().GetText() == "3" {
			break
		}
	}
	say("watch resumed", fields{"events": seen})
	return nil
}

func (t *tour) count(ctx context.Context) error {
	group, groupCtx := errgroup.WithContext(ctx)
	for task := range tasks {
		here, there := t.cluster.StartingAt(task), t.cluster.StartingAt(task+1)
		group.Go(func() error {
			for range addsPerTask {
				// At two nodes, as if the first answer had been lost: it counts once.
				if err := t.add(groupCtx, here, there); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	surplus, err := t.surplus(ctx)
	say("counter", fields{"tasks": tasks, "visits": t.visits.Load(), "surplus": surplus})
	return err
}

func (t *tour) collect(ctx context.Context) error {
	key := t.prefix + "colours"
	added, err := Call(ctx, t.cluster, func(ctx context.Context, node *Node) (*gossipv1.SetServiceAddResponse, error) {
		return node.Set.Add(ctx, &gossipv1.SetServiceAddRequest{
			Key: key, Elements: []*gossipv1.Value{text("red"), text("green"), text("blue")}, Session: t.session.Token(),
		})
	})
	if err != nil {
		return err
	}
	t.session.Merge(added.Session)
	removed, err := Call(ctx, t.cluster, func(ctx context.Context, node *Node) (*gossipv1.SetServiceRemoveResponse, error) {
		return node.Set.Remove(ctx, &gossipv1.SetServiceRemoveRequest{
			Key: key, Elements: []*gossipv1.Value{text("green"), text("mauve")}, Session: t.session.Token(),
		})
	})
	if err != nil {
		return err
	}
	t.session.Merge(removed.Session)
	got, err := Call(ctx, t.cluster, func(ctx context.Context, node *Node) (*gossipv1.SetServiceGetResponse, error) {
		return node.Set.Get(ctx, &gossipv1.SetServiceGetRequest{Key: key, Session: t.session.Token()})
	})
	if err != nil {
		return err
	}
	var elements []string
	for _, element := range got.Elements {
		elements = append(elements, show(element))
	}
	say("set", fields{"added": added.Added, "removed": removed.Removed, "size": got.Size, "elements": elements})
	return nil
}

func (t *tour) members(ctx context.Context) error {
	answer, err := Call(ctx, t.cluster, func(ctx context.Context, node *Node) (*gossipv1.ClusterServiceListMembersResponse, error) {
		return node.Cluster.ListMembers(ctx, &gossipv1.ClusterServiceListMembersRequest{
			Statuses: []gossipv1.MemberStatus{gossipv1.MemberStatus_MEMBER_STATUS_ALIVE},
		})
	})
	if err != nil {
		return err
	}
	var alive []string
	for _, member := range answer.Members {
		alive = append(alive, member.NodeId)
	}
	say("members", fields{"alive": alive})
	return nil
}

func (t *tour) subscribe(ctx context.Context) error {
	publisher, subscriber := t.cluster.StartingAt(1), t.cluster.StartingAt(2)
	topics := []string{t.prefix + "news/*"}
	again := uuid.NewString()
	var seen []string
	var token string
	for told, err := range subscriber.Subscribe(ctx, topics, "") {
		if err != nil {
			return err
		}
		seen = append(seen, t.describeTold(told))
		if told.Kind == gossipv1.SubscriptionEventKind_SUBSCRIPTION_EVENT_KIND_CURRENT {
			err = errors.Join(
				t.publish(ctx, publisher, "news/a", "1", uuid.NewString()),
				// Twice, as if the first answer had been lost: it is one event.
				t.publish(ctx, publisher, "news/b", "2", again),
				t.publish(ctx, publisher, "news/b", "2", again),
				t.publish(ctx, publisher, "news/a", "3", uuid.NewString()),
			)
			if err != nil {
				return err
			}
		}
		if told.Event.GetPayload().GetText() == "3" {
			token = told.ResumeToken
			break
		}
	}
	say("subscribe", fields{"events": seen})

	// Nobody subscribes now; the token brings what was missed.
	err := errors.Join(
		t.publish(ctx, publisher, "news/b", "4", uuid.NewString()),
		t.publish(ctx, publisher, "news/a", "5", uuid.NewString()),
	)
	if err != nil {
		return err
	}
	seen = nil
	for told, err := range subscriber.Subscribe(ctx, topics, token) {
		if err != nil {
			return err
		}
		if told.Kind != gossipv1.SubscriptionEventKind_SUBSCRIPTION_EVENT_KIND_CURRENT {
			seen = append(seen, t.describeTold(told))
		}
		if told.Event.GetPayload().GetText() == "5" {
			break
		}
	}
	say("subscribe resumed", fields{"events": seen})
	return nil
}

func (t *tour) failures(ctx context.Context) error {
	nobody := &gossipv1.Dot{Origin: &gossipv1.Origin{NodeId: "nobody", Generation: 1}, Sequence: 1}
	for _, call := range []struct {
		timeout time.Duration
		request *gossipv1.KeyValueServiceGetRequest
	}{
		{attemptTimeout, &gossipv1.KeyValueServiceGetRequest{Key: t.prefix + "missing"}},
		{attemptTimeout, &gossipv1.KeyValueServiceGetRequest{Key: ""}},
		{time.Second, &gossipv1.KeyValueServiceGetRequest{Key: "any", Session: &gossipv1.Session{Dots: []*gossipv1.Dot{nobody}}}},
	} {
		err := t.refusal(ctx, call.timeout, call.request)
		info := Info(err)
		if info == nil {
			return fmt.Errorf("an error with a reason was expected, not %w", err)
		}
		wrong := []string{}
		for _, detail := range status.Convert(err).Details() {
			if request, ok := detail.(*errdetails.BadRequest); ok {
				for _, violation := range request.FieldViolations {
					wrong = append(wrong, violation.Field)
				}
			}
		}
		say("error", fields{"code": int(status.Code(err)), "domain": info.Domain, "reason": info.Reason, "fields": wrong})
	}
	return nil
}

func (t *tour) handOver(ctx context.Context) error {
	nodes := t.cluster.Nodes
	stale := 0
	for round := range handOvers {
		want := fmt.Sprint(round)
		put, err := ask(ctx, nodes[round%len(nodes)], t.putAt("handed", text(want), t.session))
		if err != nil {
			return err
		}
		t.session.Merge(put.Session)
		got, err := ask(ctx, nodes[(round+1)%len(nodes)], t.getAt("handed"))
		if err != nil && status.Code(err) != codes.NotFound {
			return err
		}
		if got.GetEntry().GetValue().GetText() != want {
			stale++
		}
	}
	say("session", fields{"reads": handOvers, "stale": stale})
	return nil
}

func (t *tour) failover(ctx context.Context) error {
	from := t.cluster.Current()
	watched := make(chan string)
	watching, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		defer close(watched)
		for event, err := range t.cluster.Watch(watching, t.prefix+"watched/", "", nil) {
			if err != nil {
				return
			}
			watched <- t.describe(event)
		}
	}()
	// What the watch shows here is known; what matters is how it goes on elsewhere.
	for event := range watched {
		if event == "CURRENT" {
			break
		}
	}

	moved := make(chan struct{})
	group, groupCtx := errgroup.WithContext(ctx)
	for task := range tasks {
		group.Go(func() error { return t.addUntil(groupCtx, t.cluster.StartingAt(task), moved) })
	}
	var written []string
	group.Go(func() (err error) {
		defer close(moved)
		written, err = t.beats(groupCtx, from)
		return err
	})
	if err := group.Wait(); err != nil {
		return err
	}
	say("failover", fields{"from": t.names[from], "to": t.names[t.cluster.Current()], "info": fields{"beats": len(written)}})

	var seen []string
	for event := range watched {
		seen = append(seen, event)
		if event == "CURRENT" {
			if err := t.beat(ctx, "watched/c"); err != nil {
				return err
			}
		}
		if event == "PUT watched/c=text:beat" {
			break
		}
	}
	say("watch moved", fields{"events": seen})

	if _, err := awaitReady(ctx, from); err != nil {
		return err
	}
	found, _, err := t.keys(ctx, from, "beats/", 0)
	if err != nil {
		return err
	}
	missing := slices.DeleteFunc(written, func(key string) bool { return slices.Contains(found, key) })
	surplus, err := t.surplus(ctx)
	if err != nil {
		return err
	}
	say("return", fields{
		"node": t.names[from], "missing": len(missing), "surplus": surplus, "info": fields{"visits": t.visits.Load()},
	})
	return nil
}

func (t *tour) addUntil(ctx context.Context, nodes *Cluster, done <-chan struct{}) error {
	for {
		select {
		case <-done:
			return nil
		case <-time.After(betweenBeats):
			if err := t.add(ctx, nodes); err != nil {
				return err
			}
		}
	}
}

// beats writes until some time after a node has failed, and returns the keys written. Each is a key of its own: a write
// that is retried elsewhere must not hide one that was acknowledged here.
func (t *tour) beats(ctx context.Context, from *Node) ([]string, error) {
	var written []string
	begun := time.Now()
	for after := 0; after < beatsAfter; {
		if time.Since(begun) > patience {
			return nil, fmt.Errorf("no node has failed in %v", patience)
		}
		key := fmt.Sprintf("beats/%06d", len(written))
		if err := t.beat(ctx, key); err != nil {
			return nil, err
		}
		written = append(written, key)
		if len(written) == beatsBefore {
			say("ready for failover", fields{"node": t.names[from]})
		}
		if t.cluster.Current() != from {
			after++
		}
		time.Sleep(betweenBeats)
	}
	return written, nil
}

// surplus tells how much more each node has counted than was acknowledged. It waits until none has: what two nodes
// counted before they heard of each other is taken back once they have.
func (t *tour) surplus(ctx context.Context) (map[string]int64, error) {
	for begun := time.Now(); ; rest(ctx, 1) {
		surplus := map[string]int64{}
		exact := true
		for _, node := range t.cluster.Nodes {
			value, err := t.visitsAt(ctx, node)
			if err != nil {
				return nil, err
			}
			surplus[t.names[node]] = value - t.visits.Load()
			exact = exact && value == t.visits.Load()
		}
		if exact || time.Since(begun) > patience {
			return surplus, nil
		}
	}
}

// awaitReady waits until a node takes calls, again or for the first time.
func awaitReady(ctx context.Context, node *Node) (*gossipv1.ClusterServiceGetStatusResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		answer, err := ask(ctx, node, getStatus)
		if err == nil && answer.Ready {
			return answer, nil
		}
		if !rest(ctx, 1) {
			return nil, fmt.Errorf("%s is not ready: %w", node.Address, err)
		}
	}
}

// --- calls ---

func getStatus(ctx context.Context, node *Node) (*gossipv1.ClusterServiceGetStatusResponse, error) {
	return node.Cluster.GetStatus(ctx, &gossipv1.ClusterServiceGetStatusRequest{})
}

func (t *tour) putAt(key string, value *gossipv1.Value, session *Session) func(context.Context, *Node) (*gossipv1.KeyValueServicePutResponse, error) {
	return func(ctx context.Context, node *Node) (*gossipv1.KeyValueServicePutResponse, error) {
		return node.KV.Put(ctx, &gossipv1.KeyValueServicePutRequest{Key: t.prefix + key, Value: value, Session: session.Token()})
	}
}

func (t *tour) getAt(key string) func(context.Context, *Node) (*gossipv1.KeyValueServiceGetResponse, error) {
	return func(ctx context.Context, node *Node) (*gossipv1.KeyValueServiceGetResponse, error) {
		return node.KV.Get(ctx, &gossipv1.KeyValueServiceGetRequest{Key: t.prefix + key, Session: t.session.Token()})
	}
}

func (t *tour) write(ctx context.Context, key string, value *gossipv1.Value) error {
	answer, err := Call(ctx, t.cluster, t.putAt(key, value, t.session))
	t.session.Merge(answer.GetSession())
	return err
}

func (t *tour) read(ctx context.Context, key string) (*gossipv1.Value, error) {
	answer, err := Call(ctx, t.cluster, t.getAt(key))
	return answer.GetEntry().GetValue(), err
}

// beat writes without sending the session along, so that it waits for nothing: what was written in the last moments of
// a node that died may be on that node's disk alone until it is back.
func (t *tour) beat(ctx context.Context, key string) error {
	answer, err := Call(ctx, t.cluster, t.putAt(key, text("beat"), nil))
	t.session.Merge(answer.GetSession())
	return err
}

func (t *tour) remove(ctx context.Context, key string) error {
	answer, err := Call(ctx, t.cluster, func(ctx context.Context, node *Node) (*gossipv1.KeyValueServiceDeleteResponse, error) {
		return node.KV.Delete(ctx, &gossipv1.KeyValueServiceDeleteRequest{Key: t.prefix + key, Session: t.session.Token()})
	})
	t.session.Merge(answer.GetSession())
	return err
}

// add counts one visit; once, however often and wherever it is tried.
func (t *tour) add(ctx context.Context, where ...*Cluster) error {
	request := &gossipv1.CounterServiceAddRequest{Key: t.prefix + "visits", Amount: 1, RequestId: uuid.NewString()}
	for _, nodes := range where {
		answer, err := Call(ctx, nodes, func(ctx context.Context, node *Node) (*gossipv1.CounterServiceAddResponse, error) {
			return node.Counter.Add(ctx, request)
		})
		if err != nil {
			return err
		}
		t.session.Merge(answer.Session)
	}
	t.visits.Add(1)
	return nil
}

func (t *tour) visitsAt(ctx context.Context, node *Node) (int64, error) {
	answer, err := ask(ctx, node, func(ctx context.Context, node *Node) (*gossipv1.CounterServiceGetResponse, error) {
		return node.Counter.Get(ctx, &gossipv1.CounterServiceGetRequest{Key: t.prefix + "visits", Session: t.session.Token()})
	})
	return answer.GetCounter().GetValue(), err
}

func (t *tour) publish(ctx context.Context, nodes *Cluster, topic, payload, requestID string) error {
	request := &gossipv1.EventServicePublishRequest{Topic: t.prefix + topic, Payload: text(payload), RequestId: requestID}
	_, err := Call(ctx, nodes, func(ctx context.Context, node *Node) (*gossipv1.EventServicePublishResponse, error) {
		return node.Event.Publish(ctx, request)
	})
	return err
}

// refusal is the error with which the node refuses a call. One without a reason is not the node's: ask again.
func (t *tour) refusal(ctx context.Context, timeout time.Duration, request *gossipv1.KeyValueServiceGetRequest) (err error) {
	for attempt := 0; attempt < attempts && Info(err) == nil; attempt++ {
		attemptCtx, cancel := context.WithTimeout(ctx, timeout)
		_, err = t.cluster.Current().KV.Get(attemptCtx, request)
		cancel()
	}
	return err
}

// keys lists the keys below a prefix as one node knows them, and tells in how many pages they came.
func (t *tour) keys(ctx context.Context, node *Node, below string, pageSize int32) (keys []string, pages int, err error) {
	for token := ""; pages == 0 || token != ""; pages++ {
		answer, err := ask(ctx, node, func(ctx context.Context, node *Node) (*gossipv1.KeyValueServiceListResponse, error) {
			return node.KV.List(ctx, &gossipv1.KeyValueServiceListRequest{
				Prefix: t.prefix + below, PageSize: pageSize, PageToken: token, Session: t.session.Token(),
			})
		})
		if err != nil {
			return nil, 0, err
		}
		for _, entry := range answer.Entries {
			keys = append(keys, strings.TrimPrefix(entry.Key, t.prefix))
		}
		token = answer.NextPageToken
	}
	return keys, pages, nil
}

// --- values and lines ---

func text(s string) *gossipv1.Value {
	return &gossipv1.Value{Kind: &gossipv1.Value_Text{Text: s}}
}

func data(b []byte) *gossipv1.Value {
	return &gossipv1.Value{Kind: &gossipv1.Value_Data{Data: b}}
}

func show(value *gossipv1.Value) string {
	switch kind := value.GetKind().(type) {
	case *gossipv1.Value_Text:
		return "text:" + kind.Text
	case *gossipv1.Value_Data:
		return "data:" + base64.StdEncoding.EncodeToString(kind.Data)
	default:
		return "nothing"
	}
}

func (t *tour) describe(event *gossipv1.KeyValueServiceWatchResponse) string {
	line := strings.TrimPrefix(event.Kind.String(), "KEY_VALUE_EVENT_KIND_")
	if event.Key != "" {
		line += " " + strings.TrimPrefix(event.Key, t.prefix)
	}
	if event.Entry != nil {
		line += "=" + show(event.Entry.Value)
	}
	return line
}

func (t *tour) describeTold(told *gossipv1.EventServiceSubscribeResponse) string {
	line := strings.TrimPrefix(told.Kind.String(), "SUBSCRIPTION_EVENT_KIND_")
	if event := told.Event; event != nil {
		line += " " + strings.TrimPrefix(event.Topic, t.prefix) + "=" + show(event.Payload)
	}
	return line
}

func say(step string, what fields) {
	what["step"] = step
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(what); err != nil {
		panic(err)
	}
}
