package driver_test

import (
	"context"
	"errors"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/ops"
)

func TestDone(t *testing.T) {
	on(t, everywhere, func(e *rig) {
		d := e.open(driver.Config{})
		op, n := e.nop(7)
		p := driver.Submit(d, op)
		c := p.Done()
		if r := <-c; r.N != n || r.Err != nil {
			e.Errorf("nop: %+v", r)
		}
		if _, ok := <-c; ok {
			e.Error("a second value")
		}
		if again := p.Done(); again != c {
			e.Error("a second Done is another channel")
		}
		if r := p.Wait(context.Background()); r.N != n || r.Err != nil {
			e.Errorf("wait after done: %+v", r)
		}
	})
}

// Whoever wants to be told is told once, before the end and after it.
func TestOnEnd(t *testing.T) {
	on(t, everywhere, func(e *rig) {
		d := e.open(driver.Config{})
		op, n := e.nop(7)
		for range 20 {
			p := driver.Submit(d, op)
			told := make(chan int, 4)
			for range 3 {
				p.OnEnd(func(r ops.Result[struct{}]) { told <- r.N })
			}
			for range 3 {
				if got := <-told; got != n {
					e.Errorf("told %d, want %d", got, n)
				}
			}
			p.OnEnd(func(r ops.Result[struct{}]) { told <- r.N })
			if len(told) != 1 || <-told != n {
				e.Error("not told at once")
			}
		}
	})
}

// An operation that has ended before anybody asks.
func TestEndsUnasked(t *testing.T) {
	on(t, everywhere, func(e *rig) {
		d := e.open(driver.Config{})
		op, n := e.nop(3)
		p := driver.Submit(d, op)
		e.eventually("the operation ends", func() bool { return d.Stats().InFlight == 0 && d.Stats().Completed > 0 })
		if r := result(e, p); r.N != n || r.Err != nil {
			e.Errorf("done: %+v", r)
		}
		if r, ok := <-p.Done(); ok {
			e.Errorf("a second value: %+v", r)
		}
		q := driver.Submit(d, op)
		e.eventually("the operation ends", func() bool { return d.Stats().InFlight == 0 && d.Stats().Completed > 1 })
		if r := q.Wait(context.Background()); r.N != n || r.Err != nil {
			e.Errorf("wait: %+v", r)
		}
	})
}

// However many wait, and however, all hear the same.
func TestAllHearTheSame(t *testing.T) {
	on(t, everywhere, func(e *rig) {
		d := e.open(driver.Config{})
		r, w := e.pipe()
		for range size(20, 1000) {
			buf := make([]byte, 8)
			p := driver.Submit(d, ops.ReadAt(r, buf, -1))
			var fromDone atomic.Int32
			var wg sync.WaitGroup
			for i := range 8 {
				wg.Go(func() {
					var got ops.Result[[]byte]
					if i%2 == 0 {
						got = p.Wait(context.Background())
					} else {
						var ok bool
						if got, ok = <-p.Done(); !ok {
							return
						}
						fromDone.Add(1)
					}
					if got.N != 5 || got.Err != nil || &got.Buf[0] != &buf[0] || string(got.Buf[:5]) != "hello" {
						e.Errorf("waiter %d: %+v", i, got)
					}
				})
			}
			e.write(w, []byte("hello"))
			wg.Wait()
			if fromDone.Load() != 1 {
				e.Fatalf("%d values from Done", fromDone.Load())
			}
		}
	})
}

// One goroutine waits for a while and gives up waiting, though not the operation; another takes over.
func TestWaitingMoves(t *testing.T) {
	on(t, everywhere, func(e *rig) {
		d := e.open(driver.Config{})
		r, w := e.pipe()
		p := driver.Submit(d, ops.ReadAt(r, make([]byte, 8), -1))
		c := p.Done()
		gaveUp := make(chan bool)
		go func() {
			select {
			case <-c:
				gaveUp <- false
			case <-time.After(time.Millisecond):
				gaveUp <- true
			}
		}()
		if !<-gaveUp {
			e.Fatal("ended early")
		}
		e.write(w, []byte("x"))
		if r := result(e, p); r.N != 1 || r.Err != nil {
			e.Errorf("read: %+v", r)
		}
	})
}

func TestWaitEndsWithContext(t *testing.T) {
	on(t, everywhere, func(e *rig) {
		d := e.open(driver.Config{})
		r, w := e.pipe()
		ended, cancel := context.WithCancelCause(context.Background())
		reason := errors.New("enough")
		cancel(reason)
		buf := make([]byte, 8)

		got := driver.Submit(d, ops.ReadAt(r, buf, -1)).Wait(ended)
		if !errors.Is(got.Err, context.Canceled) || !errors.Is(got.Err, reason) || errors.Is(got.Err, os.ErrDeadlineExceeded) {
			e.Errorf("cancelled: %v", got.Err)
		}
		if got.N != 0 || &got.Buf[0] != &buf[0] {
			e.Errorf("cancelled: %d, and another buffer", got.N)
		}

		start := time.Now()
		soon, cancel2 := context.WithTimeout(context.Background(), 20*time.Millisecond)
		defer cancel2()
		got = driver.Submit(d, ops.ReadAt(r, buf, -1)).Wait(soon)
		var timeout interface{ Timeout() bool }
		if !errors.Is(got.Err, context.DeadlineExceeded) || !errors.Is(got.Err, os.ErrDeadlineExceeded) ||
			!errors.As(got.Err, &timeout) || !timeout.Timeout() {
			e.Errorf("timed out: %v", got.Err)
		}
		if waited := time.Since(start); waited < 15*time.Millisecond {
			e.Errorf("timed out after %v", waited) // processors of a virtual machine may disagree on the time by a little
		}

		// What is there already is delivered, whatever the context says.
		e.write(w, []byte("x"))
		p := driver.Submit(d, ops.ReadAt(r, buf, -1))
		e.eventually("the operation ends", func() bool { return d.Stats().InFlight == 0 })
		if got = p.Wait(ended); got.N != 1 || got.Err != nil {
			e.Errorf("ended before: %+v", got)
		}
	})
}

func TestCancelTwice(t *testing.T) {
	on(t, everywhere, func(e *rig) {
		d := e.open(driver.Config{})
		r, _ := e.pipe()
		p := driver.Submit(d, ops.ReadAt(r, make([]byte, 8), -1))
		p.Cancel()
		p.Cancel()
		if r := result(e, p); r.Err != syscall.ECANCELED || !driver.IsCanceled(r.Err) || r.N != 0 || len(r.Buf) != 8 {
			e.Errorf("cancelled: %+v", r)
		}
		if s := d.Stats(); s.Cancelled != 1 {
			e.Errorf("%d operations cancelled, of one", s.Cancelled)
		}

		// Afterwards it changes nothing.
		op, n := e.nop(5)
		q := driver.Submit(d, op)
		result(e, q)
		q.Cancel()
		p.Cancel()
		if r := q.Wait(context.Background()); r.N != n || r.Err != nil {
			e.Errorf("cancelled after its end: %+v", r)
		}
		if s := d.Stats(); s.Cancelled != 1 {
			e.Errorf("%d operations cancelled, of one", s.Cancelled)
		}
	})
}

func TestInvalidOperation(t *testing.T) {
	on(t, engines, func(e *rig) {
		d := e.open(driver.Config{})
		op := ops.Openat(unix.AT_FDCWD, "a\x00b", 0, 0)
		p := driver.Submit(d, op)
		p.Cancel()
		if r := result(e, p); r.Err == nil {
			e.Error("a name with a zero byte is a name")
		}
		if s := d.Stats(); s.Submitted != 0 {
			e.Errorf("%d submitted", s.Submitted)
		}
	})
}

func TestAfterClose(t *testing.T) {
	on(t, everywhere, func(e *rig) {
		d := e.open(driver.Config{})
		must(e, d, ops.Nop())
		e.shut(d)
		e.shut(d)
		buf := make([]byte, 8)
		p := driver.Submit(d, ops.ReadAt(0, buf, 0))
		p.Cancel()
		for _, r := range []ops.Result[[]byte]{p.Wait(context.Background()), result(e, p)} {
			if r.Err != driver.ErrClosed || r.N != 0 || &r.Buf[0] != &buf[0] {
				e.Errorf("on a closed driver: %+v", r)
			}
		}
		if s := d.Stats(); s.Submitted != 1 || s.Completed != 1 || s.Routes["ring"]+s.Routes["call"] != 1 {
			e.Errorf("stats of a closed driver: %+v", s)
		}
		d.Poke()
		if d.OnDriver() {
			e.Error("this goroutine is not the driver's")
		}
	})
}

func TestStats(t *testing.T) {
	on(t, everywhere, func(e *rig) {
		d := e.open(driver.Config{})
		r, w := e.pipe()
		const n = 5
		var reads []*driver.Pending[[]byte]
		for range n {
			reads = append(reads, driver.Submit(d, ops.ReadAt(r, make([]byte, 1), -1)))
		}
		e.eventually("all are in flight", func() bool { return d.Stats().InFlight == n })
		if s := d.Stats(); s.InFlightBy["read"] != n || len(s.InFlightBy) != 1 || s.Queued != 0 || s.Completed > s.Submitted-n {
			e.Errorf("in flight: %+v", s)
		}
		e.write(w, make([]byte, n))
		for _, p := range reads {
			if r := result(e, p); r.N != 1 || r.Err != nil {
				e.Errorf("read: %+v", r)
			}
		}
		s := d.Stats()
		if s.InFlight != 0 || s.Submitted != n+s.Repeated || s.Completed != s.Submitted || s.Cancelled != 0 || s.Abandoned != 0 {
			e.Errorf("afterwards: %+v", s)
		}
		if s.Messages[0] != n {
			e.Errorf("messages: %v", s.Messages)
		}
		if got := s.Routes["ring"] + s.Routes["call"]; got != s.Submitted || s.Routes["call"] != s.Calls {
			e.Errorf("routes: %v of %d", s.Routes, s.Submitted)
		}
		d.CountRoute(driver.RouteInline, 1)
		d.CountRoute(driver.RouteDirect, 0)
		if s := d.Stats(); s.Routes["inline"] != 1 || s.Routes["direct"] != 1 {
			e.Errorf("routes: %v", s.Routes)
		}
	})
}

// tally is a Waiter that counts, and a Batcher.
type tally struct {
	d                 *driver.Driver
	completed, failed atomic.Int32
	flushed           atomic.Int32
	ended             chan struct{} // closed after all
	all               int32
	asked             bool // the driver goroutine's
}

func (w *tally) Complete(r *driver.Request) {
	if _, err := r.Outcome(); err != nil {
		w.failed.Add(1)
	}
	if !w.asked {
		w.asked = true
		w.d.FlushLater(w)
	}
	if w.completed.Add(1) == w.all {
		close(w.ended)
	}
}

func (w *tally) Flush() {
	w.asked = false
	w.flushed.Add(1)
}

// Several requests in one message.
func TestMessages(t *testing.T) {
	on(t, everywhere, func(e *rig) {
		d := e.open(driver.Config{})
		for i, n := range []int{1, 2, 3, 4, 5, 8, 9, 1024, 1025, 5000} {
			before := d.Stats()
			w := &tally{d: d, ended: make(chan struct{}), all: int32(n)}
			nop := ops.Nop()
			var first, last *driver.Request
			for range n {
				r := new(driver.Request)
				r.Reset(&nop.Spec, w)
				if last == nil {
					first = r
				} else {
					last.Next = r
				}
				last = r
			}
			d.Send(first)
			select {
			case <-w.ended:
			case <-time.After(patience):
				e.Fatalf("%d of %d completed", w.completed.Load(), n)
			}
			after := d.Stats() // also waits for the end of the pass
			if w.failed.Load() != 0 {
				e.Errorf("%d: %d failed", n, w.failed.Load())
			}
			if f := w.flushed.Load(); f < 1 || f > int32(n) {
				e.Errorf("%d: flushed %d times", n, f)
			}
			bucket := []int{0, 1, 2, 2, 3, 3, 4, 10, 11, 11}[i]
			for b := range after.Messages {
				want := before.Messages[b]
				if b == bucket {
					want++
				}
				if after.Messages[b] != want {
					e.Errorf("%d requests: bucket %d went from %d to %d", n, b, before.Messages[b], after.Messages[b])
				}
			}
		}
	})
}

// A request that is used again is told from its former uses.
func TestRequestUsedAgain(t *testing.T) {
	on(t, everywhere, func(e *rig) {
		d := e.open(driver.Config{})
		p, q := e.pipe()
		r := new(driver.Request)
		var former driver.Seq
		for i := range size(500, 20_000) {
			w := &tally{d: d, ended: make(chan struct{}), all: 1}
			nop, read := ops.Nop(), ops.ReadAt(p, make([]byte, 1), -1)
			spec := &nop.Spec
			if i%3 == 0 {
				spec = &read.Spec
			}
			seq := r.Reset(spec, w)
			if seq == former {
				e.Fatalf("use %d is named %d, the one before %d", i, seq, former)
			}
			if i%7 == 0 {
				d.Cancel(r, former) // must not hit
			}
			d.Send(r)
			d.Cancel(r, former)
			if i%3 == 0 {
				e.write(q, []byte{1})
			}
			<-w.ended
			if n, err := r.Outcome(); err != nil || i%3 == 0 && n != 1 {
				e.Fatalf("use %d: %d, %v", i, n, err)
			}
			former = seq
		}
	})
}

// A cancellation may come before the request that it means.
func TestCancelledBeforeSent(t *testing.T) {
	on(t, everywhere, func(e *rig) {
		d := e.open(driver.Config{})
		p, _ := e.pipe()
		for range size(100, 10_000) {
			r := new(driver.Request)
			w := &tally{d: d, ended: make(chan struct{}), all: 1}
			read := ops.ReadAt(p, make([]byte, 1), -1)
			d.Cancel(r, r.Reset(&read.Spec, w))
			if e.rng.IntN(2) == 0 {
				runtime.Gosched()
			}
			d.Send(r)
			<-w.ended
			if _, err := r.Outcome(); err != syscall.ECANCELED {
				e.Fatal(err)
			}
		}
	})
}

func TestContext(t *testing.T) {
	on(t, []way{onPortable}, func(e *rig) {
		d := e.open(driver.Config{})
		ctx := driver.NewContext(context.Background(), d)
		for _, c := range []context.Context{ctx, context.WithValue(ctx, struct{ int }{}, "b"), context.WithoutCancel(ctx)} {
			if got, err := driver.FromContext(c); got != d || err != nil {
				e.Errorf("from %v: %v", c, err)
			}
		}
		if got, err := driver.FromContext(context.Background()); got != nil || err != driver.ErrNoDriver {
			e.Errorf("from nothing: %v", err)
		}
		if got, err := driver.FromContext(driver.NewContext(ctx, nil)); got != nil || err != driver.ErrNoDriver {
			e.Errorf("from a nil driver: %v", err)
		}
		if ctx.Value(driver.ContextKey) != d {
			e.Error("the context does not answer to the key")
		}
	})
}

func TestCanceledError(t *testing.T) {
	if err := driver.Canceled(context.Background()); err != syscall.ECANCELED {
		t.Errorf("of a live context: %v", err)
	}
	reason := errors.New("enough")
	cancelled, cancel := context.WithCancelCause(context.Background())
	cancel(nil)
	if err := driver.Canceled(cancelled); err != context.Canceled {
		t.Errorf("plain: %v", err)
	}
	for _, cause := range []error{reason, context.DeadlineExceeded} {
		ctx, cancel := context.WithCancelCause(context.Background())
		cancel(cause)
		if err := driver.Canceled(ctx); !errors.Is(err, cause) || errors.Is(err, os.ErrDeadlineExceeded) != (cause != reason) {
			t.Errorf("cause %v: %v", cause, err)
		}
	}
	late, stop := context.WithTimeoutCause(context.Background(), 0, reason)
	defer stop()
	if err := driver.Canceled(late); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, os.ErrDeadlineExceeded) || !errors.Is(err, reason) {
		t.Errorf("deadline with a cause: %v", err)
	}
	// errgroup makes what became of one operation the cause of the others' end.
	of := &os.PathError{Op: "read", Path: "another", Err: driver.ErrAbandoned}
	group, cancel := context.WithCancelCause(context.Background())
	cancel(of)
	err := driver.Canceled(group)
	var at *os.PathError
	if errors.Is(err, driver.ErrAbandoned) || !errors.Is(err, context.Canceled) || !errors.Is(err, of) || !errors.As(err, &at) || at != of {
		t.Errorf("because of an operation that was abandoned: %v", err)
	}
	if !strings.Contains(err.Error(), of.Error()) {
		t.Errorf("the text does not name the cause: %v", err)
	}
	// A nil pointer that has become an error panics when it is asked what it wraps.
	group, cancel = context.WithCancelCause(context.Background())
	cancel((*os.PathError)(nil))
	if err := driver.Canceled(group); !errors.Is(err, context.Canceled) {
		t.Error("because of a nil pointer: not cancelled")
	}
	if driver.IsCanceled(nil) || driver.IsCanceled(context.Canceled) || !driver.IsCanceled(syscall.ECANCELED) {
		t.Error("IsCanceled")
	}
}
