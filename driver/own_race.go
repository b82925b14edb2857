//go:build race

package driver

// toucher stands for the kernel in builds with the race detector: between submission and completion a goroutine of its own
// reads or writes the operation's memory. It is ordered after the submission and before the completion and with nothing in
// between, so a caller that touches a buffer in flight races with it, whichever of the two comes first. It has to be a
// goroutine: coroutines of one thread are ordered with the driver and with each other by every switch.
type toucher struct{ done chan struct{} }

func (r *Request) handOver() {
	if r.spec.Kind == nil {
		return
	}
	done := make(chan struct{})
	r.touch.done = done
	spec := r.spec
	go func() {
		defer close(done)
		spec.Touch()
	}()
}

// takeBack orders what the kernel did before the completion.
func (r *Request) takeBack() {
	if r.touch.done != nil {
		<-r.touch.done
		r.touch.done = nil
	}
}
