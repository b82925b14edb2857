package ops

import "uringo/internal/ring"

var kindNop = &Kind{Name: "nop", Code: ring.OpNop, Breaks: true}

// Nop does nothing, by way of the kernel. It measures a round trip.
func Nop() Op[struct{}] { return Op[struct{}]{Spec: Spec{Kind: kindNop, FD: -1}} }

// NopResult does nothing and has the given raw result: any answer that the kernel could give, from the kernel itself.
// Kernel 6.10; older ones answer 0.
func NopResult(res int32) Op[struct{}] {
	return Op[struct{}]{Spec: Spec{Kind: kindNop, FD: -1, len: uint32(res), opFlags: ring.NopInjectResult}}
}
