package executor

import (
	"bytes"
	"runtime"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// pulse shows from outside whether a home is running tasks, and for how long the same round of them.
type pulse struct{ beat atomic.Uint64 }

func (p *pulse) begin() { p.beat.Store(p.beat.Load() | 1) }
func (p *pulse) end()   { p.beat.Store(p.beat.Load() + 1) }

// watched is a runtime whose homes have a pulse.
type watched interface{ pulses() []*pulse }

// watch reports rounds that last longer than limit, once each.
func watch(w watched, limit time.Duration, log *zap.Logger) (stop func()) {
	quit, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		tick := time.NewTicker(max(limit/2, time.Millisecond))
		defer tick.Stop()
		pulses := w.pulses()
		last := make([]uint64, len(pulses))
		since := make([]time.Time, len(pulses))
		for {
			select {
			case <-quit:
				return
			case now := <-tick.C:
				for i, p := range pulses {
					beat := p.beat.Load()
					switch {
					case beat != last[i]:
						last[i], since[i] = beat, now
					case beat&1 == 1 && !since[i].IsZero() && now.Sub(since[i]) >= limit:
						log.Warn("a task holds its worker", zap.Int("worker", i), zap.Duration("for", now.Sub(since[i])),
							zap.ByteString("stack", runningCoroutines()))
						since[i] = time.Time{}
					}
				}
			}
		}
	}()
	return func() { close(quit); <-gone }
}

// runningCoroutines returns the stacks of the coroutines that run tasks and are not parked: the culprit is among them, mostly alone.
func runningCoroutines() []byte {
	buf := make([]byte, 1<<20)
	buf = buf[:runtime.Stack(buf, true)]
	var out [][]byte
	for g := range bytes.SplitSeq(buf, []byte("\n\n")) {
		head, _, _ := bytes.Cut(g, []byte("\n"))
		if bytes.Contains(g, []byte("executor.(*coroutine).loop(")) && !bytes.Contains(head, []byte("[coroutine")) {
			out = append(out, g)
		}
	}
	return bytes.Join(out, []byte("\n\n"))
}
