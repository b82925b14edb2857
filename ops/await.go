package ops

import "uringo/internal/ring"

// KindAwait is the kind of the operations of [Await].
var KindAwait = &Kind{Name: "await", Code: ring.OpNop}

// Await is an operation that no kernel performs: it ends when what has something for whoever waits. It is the driver's own, for its
// streams; that it is an operation makes waiting for them the same as waiting for any other, with every executor.
func Await(what any) Op[struct{}] {
	return Op[struct{}]{Spec: Spec{Kind: KindAwait, FD: -1, aux: what}}
}

// Awaited returns what an operation of [Await] waits for.
func (s *Spec) Awaited() any { return s.aux }
