//go:build race

package driver

import "uringo/ops"

// toucher stands for the kernel in builds with the race detector: between submission and completion a goroutine of its own
// reads or writes the operation's memory. It is ordered after the submission and before the completion and with nothing in
// between, so a caller that touches a buffer in flight races with it, whichever of the two comes first. It has to be a
// goroutine: coroutines of one thread are ordered with the driver and with each other by every switch.
type toucher struct{ done chan struct{} }

// handOver begins what the kernel does to the operation's memory: at once, or after what it does for the operation before it in a chain,
// which may be to the same memory.
func (t *toucher) handOver(spec *ops.Spec, behind *toucher) {
	if spec.Kind == nil {
		return
	}
	done := make(chan struct{})
	t.done = done
	s := *spec
	var before chan struct{}
	if behind != nil {
		before = behind.done
	}
	go func() {
		defer close(done)
		if before != nil {
			<-before
		}
		s.Touch()
	}()
}

// takeBack orders that before the completion.
func (t *toucher) takeBack() {
	if t.done != nil {
		<-t.done
		t.done = nil
	}
}

// touchArrived stands for the kernel that wrote to a provided buffer, which whoever released it must not use any more.
func touchArrived(b []byte) {
	if len(b) == 0 {
		return
	}
	recv := ops.Recv(-1, b, 0)
	var t toucher
	t.handOver(&recv.Spec, nil)
	t.takeBack()
}
