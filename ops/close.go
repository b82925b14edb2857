package ops

import "uringo/internal/ring"

var kindClose = &Kind{Name: "close", Code: ring.OpClose, Breaks: true, Once: true}

// Close closes fd. Whatever it answers, also EINTR, the descriptor is gone and its number may belong to somebody else: it must not
// be repeated. Operations in flight on fd are not ended by it; cancel them before. Kernel 5.6, close(2).
func Close(fd int) Op[struct{}] { return Op[struct{}]{Spec: Spec{Kind: kindClose, FD: int32(fd)}} }
