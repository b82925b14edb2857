package ops

import "uringo/internal/ring"

var kindNop = &Kind{Name: "nop", Code: ring.OpNop}

// Nop does nothing, by way of the kernel. It measures a round trip.
func Nop() Op[struct{}] { return Op[struct{}]{Spec: Spec{Kind: kindNop, FD: -1}} }
