package main

import (
	"sync"

	gossipv1 "gossip.example/tour/gen/gossip/v1"
)

// Session is what one user of the cluster has written so far. Hand its token on with a call to any node: a read then
// reflects all of it, and a write wins over it. Goroutines may share one.
type Session struct {
	mu    sync.Mutex
	clock uint64
	seen  map[origin]uint64
}

type origin struct {
	nodeID     string
	generation uint64
}

// Merge takes in the token of a write. Dots become "all up to here of that origin", which asks for a little more than
// what was written, and keeps the token as short as the cluster has nodes.
func (s *Session) Merge(token *gossipv1.Session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen == nil {
		s.seen = map[origin]uint64{}
	}
	s.clock = max(s.clock, token.GetClock())
	for _, dots := range [][]*gossipv1.Dot{token.GetDots(), token.GetComplete()} {
		for _, dot := range dots {
			from := origin{dot.GetOrigin().GetNodeId(), dot.GetOrigin().GetGeneration()}
			s.seen[from] = max(s.seen[from], dot.GetSequence())
		}
	}
}

// Token is what to send along; nil, which asks for nothing, of a nil session.
func (s *Session) Token() *gossipv1.Session {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	token := &gossipv1.Session{Clock: s.clock}
	for from, sequence := range s.seen {
		token.Complete = append(token.Complete, &gossipv1.Dot{
			Origin:   &gossipv1.Origin{NodeId: from.nodeID, Generation: from.generation},
			Sequence: sequence,
		})
	}
	return token
}
