package driver_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"uringo/driver"
	"uringo/internal/ring"
	"uringo/ops"
)

// crew is a guest that runs what it is given.
type crew struct {
	d    *driver.Driver
	mu   sync.Mutex
	jobs []func()
	runs atomic.Int32
}

func (g *crew) Run() {
	g.runs.Add(1)
	for {
		g.mu.Lock()
		if len(g.jobs) == 0 {
			g.mu.Unlock()
			return
		}
		job := g.jobs[0]
		g.jobs = g.jobs[1:]
		g.mu.Unlock()
		job()
	}
}

func (g *crew) Ready() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.jobs) > 0
}

// run has a job run on the driver goroutine.
func (g *crew) run(job func()) {
	g.mu.Lock()
	g.jobs = append(g.jobs, job)
	g.mu.Unlock()
	g.d.Poke()
}

// wait runs a job and waits for its end.
func (g *crew) wait(e *rig, job func()) {
	e.Helper()
	done := make(chan struct{})
	g.run(func() {
		defer close(done)
		job()
	})
	select {
	case <-done:
	case <-time.After(patience):
		panic("a guest does not come to its end")
	}
}

// withCrew runs a test on drivers with a guest.
func withCrew(t *testing.T, cfg driver.Config, test func(e *rig, d *driver.Driver, g *crew)) {
	t.Helper()
	faults := ring.FaultConfig{EnterFails: 0.3, Limit: 0.2}
	kernel := map[string]func(e *rig) ring.Kernel{
		"uring":           func(*rig) ring.Kernel { return ring.Linux() },
		"portable":        func(*rig) ring.Kernel { return kernels()["portable"]() },
		"faults":          func(e *rig) ring.Kernel { return ring.NewFaults(ring.Linux(), e.seed, faults) },
		"portable faults": func(e *rig) ring.Kernel { return ring.NewFaults(kernels()["portable"](), e.seed, faults) },
		"sim": func(e *rig) ring.Kernel {
			e.sim = ring.NewSim(ring.SimConfig{Seed: e.seed, Calls: ops.Calls(), Delay: 5, Partial: 0.2, EnterFails: 0.2, Early: 0.1})
			return e.sim
		},
	}
	engine := map[string]driver.Engine{"uring": driver.Uring, "faults": driver.Uring, "portable": driver.Portable,
		"portable faults": driver.Portable, "sim": driver.Auto}
	for name, k := range kernel {
		on(t, []way{{name, engine[name], nil}}, func(e *rig) {
			g := new(crew)
			cfg.Engine = driver.Uring
			g.d = e.opened(driver.OpenGuest(driver.OnKernel(cfg, k(e)), g))
			test(e, g.d, g)
		})
	}
}

// A guest issues more than there is room for, together with others who send.
func TestGuestIssues(t *testing.T) {
	withCrew(t, driver.Config{Entries: 4, InFlight: 16}, func(e *rig, d *driver.Driver, g *crew) {
		var outside sync.WaitGroup
		outside.Go(func() { newMix(e, d).play(4, size(30, 1000)) })
		for range size(10, 500) {
			const n = 100
			w := &tally{d: d, ended: make(chan struct{}), all: n}
			g.run(func() {
				nop := ops.Nop()
				for range n {
					r := new(driver.Request)
					r.Reset(&nop.Spec, w)
					d.Issue(r)
				}
			})
			select {
			case <-w.ended:
			case <-time.After(patience):
				e.Fatalf("%d of %d", w.completed.Load(), n)
			}
			if w.failed.Load() != 0 {
				e.Errorf("%d failed", w.failed.Load())
			}
		}
		outside.Wait()
	})
}

// A guest that pumps waits for something without running itself, and holds up nobody else.
func TestGuestPumps(t *testing.T) {
	withCrew(t, driver.Config{Entries: 4, InFlight: 16}, func(e *rig, d *driver.Driver, g *crew) {
		r, w := e.pipe()
		for round := range size(30, 2000) {
			held := &tally{d: d, ended: make(chan struct{}), all: 1}
			inside := make(chan driver.Seq)
			req := new(driver.Request)
			read := ops.ReadAt(r, make([]byte, 1), -1)
			var fillers []*driver.Pending[[]byte]
			if round%3 == 2 { // so that it will have to wait for a place
				for range 20 {
					fillers = append(fillers, driver.Submit(d, ops.ReadAt(r, make([]byte, 1), -1)))
				}
			}
			ended := make(chan struct{})
			g.run(func() {
				defer close(ended)
				runs := g.runs.Load()
				seq := req.Reset(&read.Spec, held)
				d.Issue(req)
				go func() { inside <- seq }()
				d.Pump(func() bool {
					select {
					case <-held.ended:
						return true
					default:
						return false
					}
				})
				if g.runs.Load() != runs {
					e.Error("the guest was run meanwhile")
				}
			})
			seq := <-inside
			must(e, d, ops.Nop()) // others are served
			d.Stats()
			switch {
			case round%3 == 0:
				e.write(w, []byte{1})
			default:
				d.Cancel(req, seq)
			}
			select {
			case <-ended:
			case <-time.After(patience):
				panic("a guest pumps for ever")
			}
			if n, err := req.Outcome(); round%3 == 0 && (n != 1 || err != nil) || round%3 != 0 && err != syscall.ECANCELED {
				e.Errorf("round %d: %d, %v", round, n, err)
			}
			for _, p := range fillers {
				p.Cancel()
				result(e, p)
			}
		}
	})
}

// A guest cancels what it issued, on the spot.
func TestGuestCancels(t *testing.T) {
	withCrew(t, driver.Config{Entries: 4, InFlight: 16}, func(e *rig, d *driver.Driver, g *crew) {
		r, _ := e.pipe()
		for range size(20, 1000) {
			const n = 30
			w := &tally{d: d, ended: make(chan struct{}), all: n}
			g.wait(e, func() {
				var all []*driver.Request
				var seqs []driver.Seq
				for range n {
					read := ops.ReadAt(r, make([]byte, 1), -1)
					q := new(driver.Request)
					seqs = append(seqs, q.Reset(&read.Spec, w))
					d.Issue(q)
					all = append(all, q)
				}
				for i, q := range all {
					d.CancelNow(q, seqs[i])
				}
			})
			select {
			case <-w.ended:
			case <-time.After(patience):
				e.Fatalf("%d of %d", w.completed.Load(), n)
			}
			if w.failed.Load() != n {
				e.Errorf("%d of %d failed", w.failed.Load(), n)
			}
		}
	})
}

// A guest that ends its goroutine, as t.Fatal does, ends neither the driver nor the thread.
func TestGuestExits(t *testing.T) {
	withCrew(t, driver.Config{}, func(e *rig, d *driver.Driver, g *crew) {
		r, w := e.pipe()
		p := driver.Submit(d, ops.ReadAt(r, make([]byte, 1), -1))
		for range 10 { // their frames all stay, and who looks for leaks reads no more than a hundred
			g.run(runtime.Goexit)
			must(e, d, ops.Nop())
			g.wait(e, func() {
				if !d.OnDriver() {
					e.Error("another thread")
				}
			})
		}
		e.write(w, []byte{1})
		if r := result(e, p); r.N != 1 {
			e.Errorf("%+v", r)
		}
	})
}

// A guest that panics takes its driver down in order.
func TestGuestPanics(t *testing.T) {
	on(t, []way{{"sim", driver.Auto, nil}}, func(e *rig) {
		g := new(crew)
		d, err := driver.OpenGuest(driver.OnKernel(driver.Config{Engine: driver.Uring}, ring.NewSim(ring.SimConfig{Calls: ops.Calls()})), g)
		if err != nil {
			e.Fatal(err)
		}
		g.d = d
		r, _ := e.pipe()
		p := driver.Submit(d, ops.ReadAt(r, make([]byte, 1), -1))
		pending(e, p)
		g.run(func() { panic("boom") })
		if r := result(e, p); r.Err != driver.ErrAbandoned {
			e.Errorf("%+v", r)
		}
		g.wait(e, func() {}) // it may have to come to an end
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := d.Close(ctx); !errors.Is(err, driver.ErrBroken) {
			e.Errorf("close: %v", err)
		}
	})
}

// The buffers that everybody shares are made by the first who asks. A task does not wait there for somebody who waits for its driver.
func TestBuffersForTwo(t *testing.T) {
	withCrew(t, driver.Config{}, func(e *rig, d *driver.Driver, g *crew) {
		got := make(chan *driver.BufferRing, 2)
		ask := func() {
			b, err := d.Buffers()
			if err != nil {
				e.Error(err)
			}
			got <- b
		}
		g.run(func() {
			go ask()
			time.Sleep(20 * time.Millisecond) // by now it waits for this goroutine
			ask()
		})
		e.soon("one of two who ask", func() {
			if a, b := <-got, <-got; a != b {
				e.Errorf("%p and %p", a, b)
			}
		})
	})
}

// The guests of two drivers wait for each other's drivers at the same time, in every way that there is.
func TestGuestsWaitForEachOther(t *testing.T) {
	waits := map[string]func(*rig, *driver.Driver){
		"Stats": func(_ *rig, d *driver.Driver) { d.Stats() },
		"Wait": func(e *rig, d *driver.Driver) {
			if r := driver.Submit(d, ops.Nop()).Wait(context.Background()); r.Err != nil {
				e.Error(r.Err)
			}
		},
		"Wait until the context ends": func(e *rig, d *driver.Driver) {
			ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
			defer cancel()
			if r := driver.Submit(d, ops.Timeout(time.Hour)).Wait(ctx); !errors.Is(r.Err, context.DeadlineExceeded) {
				e.Error(r.Err)
			}
		},
		"buffers": func(e *rig, d *driver.Driver) {
			b, err := driver.NewBufferRing(d, 2, 64)
			if err == nil {
				err = b.Close()
			}
			if err != nil {
				e.Error(err)
			}
		},
	}
	for what, wait := range waits {
		t.Run(what, func(t *testing.T) {
			withCrew(t, driver.Config{}, func(e *rig, d *driver.Driver, g *crew) {
				other := new(crew)
				other.d = e.opened(driver.OpenGuest(driver.Config{Engine: d.Engine()}, other))
				for range size(20, 1000) {
					var here, ended sync.WaitGroup
					here.Add(2)
					for _, c := range []struct {
						from *crew
						to   *driver.Driver
					}{{g, other.d}, {other, d}} {
						ended.Add(1)
						c.from.run(func() {
							defer ended.Done()
							here.Done()
							here.Wait()
							wait(e, c.to)
						})
					}
					e.soon("a guest", ended.Wait)
				}
			})
		})
	}
}
