// Tour shows what a client does with a gossip-grpc cluster. It prints a line of JSON for each step.
//
//	tour PREFIX ADDRESS...
package main

//go:generate buf generate

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

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
	session *Session // of all steps before the failover
	names   map[*Node]string
	order   []string // the nodes' names in the order of the addresses
}

type fields map[string]any

func (t *tour) run(ctx context.Context) error {
	for _, step := range []func(context.Context) error{
		t.connect, t.put, t.get, t.list, t.watch, t.count, t.collect, t.members,
		// Here: publish and subscribe, once the nodes have an EventService.
		t.failures, t.handOver, t.failover,
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
		if err := t.write(ctx, key, value, t.session); err != nil {
			return err
		}
	}
	say("put", fields{"count": len(values)})
	return nil
}

func (t *tour) get(ctx context.Context) error {
	values := fields{}
	for _, key := range []string{"kv/blob", "kv/greeting", "kv/unicode"} {
		value, err := t.read(ctx, key, t.session)
		if err != nil {
			return err
		}
		values[key] = show(value)
	}
	say("get", fields{"values": values})
	return nil
}

func (t *tour) list(ctx context.Context) error {
	keys, pages, err := t.keys(ctx, t.cluster.Current(), "kv/", 2, t.session)
	if err != nil {
		return err
	}
	say("list", fields{"keys": keys, "pages": pages})
	return nil
}

func (t *tour) watch(ctx context.Context) error {
	if err := t.write(ctx, "watched/a", text("0"), t.session); err != nil {
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
				t.write(ctx, "watched/a", text("1"), t.session),
				t.write(ctx, "watched/a", text("2"), t.session),
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
	if err := t.remove(ctx, "watched/a", t.session); err != nil {
		return err
	}
	if err := t.write(ctx, "watched/b", text("3"), t.session); err != nil {
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
		node := t.cluster.Nodes[task%len(t.cluster.Nodes)]
		group.Go(func() error {
			for range addsPerTask {
				answer, err := ask(groupCtx, node, func(ctx context.Context, node *Node) (*gossipv1.CounterServiceAddResponse, error) {
					return node.Counter.Add(ctx, &gossipv1.CounterServiceAddRequest{Key: t.prefix + "visits", Amount: 1})
				})
				if err != nil {
					return err
				}
				t.session.Merge(answer.Session)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	values := fields{}
	for _, node := range t.cluster.Nodes {
		value, err := t.visits(ctx, node)
		if err != nil {
			return err
		}
		values[t.names[node]] = value
	}
	say("counter", fields{"tasks": tasks, "values": values})
	return nil
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

func (t *tour) failures(ctx context.Context) error {
	for _, key := range []string{t.prefix + "missing", ""} {
		_, err := Call(ctx, t.cluster, func(ctx context.Context, node *Node) (*gossipv1.KeyValueServiceGetResponse, error) {
			return node.KV.Get(ctx, &gossipv1.KeyValueServiceGetRequest{Key: key})
		})
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
		got, err := ask(ctx, nodes[(round+1)%len(nodes)], t.getAt("handed", t.session))
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
	// Each beat is a key of its own: a write that is retried elsewhere must not hide one that was acknowledged here.
	beats := &Session{}
	var written []string
	begun := time.Now()
	for after := 0; after < beatsAfter; {
		if time.Since(begun) > patience {
			return fmt.Errorf("no node has failed in %v", patience)
		}
		key := fmt.Sprintf("beats/%06d", len(written))
		if err := t.beat(ctx, key, beats); err != nil {
			return err
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
	say("failover", fields{"from": t.names[from], "to": t.names[t.cluster.Current()], "info": fields{"beats": len(written)}})

	var seen []string
	for event := range watched {
		seen = append(seen, event)
		if event == "CURRENT" {
			if err := t.beat(ctx, "watched/c", beats); err != nil {
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
	found, _, err := t.keys(ctx, from, "beats/", 0, beats)
	if err != nil {
		return err
	}
	missing := slices.DeleteFunc(written, func(key string) bool { return slices.Contains(found, key) })
	visits, err := t.visits(ctx, from)
	if err != nil {
		return err
	}
	say("return", fields{"node": t.names[from], "missing": len(missing), "visits": visits})
	return nil
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
		if !rest(ctx) {
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

func (t *tour) getAt(key string, session *Session) func(context.Context, *Node) (*gossipv1.KeyValueServiceGetResponse, error) {
	return func(ctx context.Context, node *Node) (*gossipv1.KeyValueServiceGetResponse, error) {
		return node.KV.Get(ctx, &gossipv1.KeyValueServiceGetRequest{Key: t.prefix + key, Session: session.Token()})
	}
}

func (t *tour) write(ctx context.Context, key string, value *gossipv1.Value, session *Session) error {
	answer, err := Call(ctx, t.cluster, t.putAt(key, value, session))
	session.Merge(answer.GetSession())
	return err
}

func (t *tour) read(ctx context.Context, key string, session *Session) (*gossipv1.Value, error) {
	answer, err := Call(ctx, t.cluster, t.getAt(key, session))
	return answer.GetEntry().GetValue(), err
}

// beat writes without sending the session along, so that it waits for nothing: what was written in the last moments of
// a node that died may be on that node's disk alone until it is back.
func (t *tour) beat(ctx context.Context, key string, session *Session) error {
	answer, err := Call(ctx, t.cluster, t.putAt(key, text("beat"), nil))
	session.Merge(answer.GetSession())
	return err
}

func (t *tour) remove(ctx context.Context, key string, session *Session) error {
	answer, err := Call(ctx, t.cluster, func(ctx context.Context, node *Node) (*gossipv1.KeyValueServiceDeleteResponse, error) {
		return node.KV.Delete(ctx, &gossipv1.KeyValueServiceDeleteRequest{Key: t.prefix + key, Session: session.Token()})
	})
	session.Merge(answer.GetSession())
	return err
}

func (t *tour) visits(ctx context.Context, node *Node) (int64, error) {
	answer, err := ask(ctx, node, func(ctx context.Context, node *Node) (*gossipv1.CounterServiceGetResponse, error) {
		return node.Counter.Get(ctx, &gossipv1.CounterServiceGetRequest{Key: t.prefix + "visits", Session: t.session.Token()})
	})
	return answer.GetCounter().GetValue(), err
}

// keys lists the keys below a prefix as one node knows them, and tells in how many pages they came.
func (t *tour) keys(ctx context.Context, node *Node, below string, pageSize int32, session *Session) (keys []string, pages int, err error) {
	for token := ""; pages == 0 || token != ""; pages++ {
		answer, err := ask(ctx, node, func(ctx context.Context, node *Node) (*gossipv1.KeyValueServiceListResponse, error) {
			return node.KV.List(ctx, &gossipv1.KeyValueServiceListRequest{
				Prefix: t.prefix + below, PageSize: pageSize, PageToken: token, Session: session.Token(),
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

func say(step string, what fields) {
	what["step"] = step
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(what); err != nil {
		panic(err)
	}
}
