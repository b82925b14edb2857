package executor

import (
	"bytes"
	"runtime"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// pulse shows from outside whether a home is running tasks, and for how long the same one.
type pulse struct {
	beat  atomic.Uint64 // odd while a round of tasks runs
	asked atomic.Bool   // somebody wants to know whether the next task of the round has its turn
}

func (p *pulse) begin() { p.beat.Store(p.beat.Load() | 1) }
func (p *pulse) end()   { p.beat.Store(p.beat.Load() + 1) }

// turn is for the moment when a task gives way to the next. To note every one of them would cost something at each switch; to see that nobody asks
// costs next to nothing.
func (p *pulse) turn() {
	if p.asked.Load() {
		p.asked.Store(false)
		p.beat.Store(p.beat.Load() + 2)
	}
}

// watched is a runtime whose homes have a pulse.
type watched interface{ pulses() []*pulse }

// watch reports tasks that hold their home for longer than limit, once for every time that they do.
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
					if beat&1 == 1 {
						p.asked.Store(true)
					}
				}
			}
		}
	}()
	return func() { close(quit); <-gone }
}

// runningCoroutines returns the stacks of the coroutines that run tasks and are not parked, and of those that tasks made with
// iter.Pull: the culprit is among them, mostly alone.
func runningCoroutines() []byte {
	var all [][]byte
	for g := range bytes.SplitSeq(allStacks(), []byte("\n\n")) {
		all = append(all, g)
	}
	ours := make(map[string]bool) // by number
	for grown := true; grown; {
		grown = false
		for _, g := range all {
			if id := number(g, "goroutine "); !ours[id] && (bytes.Contains(g, []byte("executor.(*coroutine).serve(")) ||
				bytes.Contains(g, []byte("created by iter.Pull")) && ours[number(g, " in goroutine ")]) {
				ours[id], grown = true, true
			}
		}
	}
	var out [][]byte
	for _, g := range all {
		head, _, _ := bytes.Cut(g, []byte("\n"))
		if ours[number(g, "goroutine ")] && !bytes.Contains(head, []byte("[coroutine")) {
			out = append(out, g)
		}
	}
	return bytes.Join(out, []byte("\n\n"))
}

// number returns what follows a phrase in the stack of a goroutine.
func number(stack []byte, after string) string {
	_, rest, _ := bytes.Cut(stack, []byte(after))
	end := bytes.IndexAny(rest, " \n")
	if end < 0 {
		end = len(rest)
	}
	return string(rest[:end])
}

// allStacks returns the stacks of all goroutines, or of very many.
func allStacks() []byte {
	for size := 1 << 20; ; size *= 4 {
		buf := make([]byte, size)
		if n := runtime.Stack(buf, true); n < size || size >= 64<<20 {
			return buf[:n]
		}
	}
}
