package driver_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
	"time"

	"uringo/driver"
	"uringo/internal/ring"
	"uringo/ops"
)

// exit is a Waiter with another mistake.
type exit struct{}

func (exit) Complete(*driver.Request) { runtime.Goexit() }

// Somebody who is told of an end makes a mistake while other completions wait to be looked at: nobody waits for them for ever. In particular
// that is so where a task of the guest has the driver make a pass, and whoever runs tasks takes the mistake for the task's.
func TestMishapAmongCompletions(t *testing.T) {
	mistakes := map[string]driver.Waiter{"panic": bomb{}, "Goexit": exit{}}
	ways := map[string]func(d *driver.Driver, g *crew, reqs []*driver.Request){
		"pass": func(d *driver.Driver, _ *crew, reqs []*driver.Request) {
			reqs[0].Next, reqs[1].Next = reqs[1], reqs[2]
			d.Send(reqs[0])
		},
		"Rush": func(d *driver.Driver, g *crew, reqs []*driver.Request) {
			g.run(func() {
				defer func() { recover() }()
				d.Issue(reqs[0])
				d.Issue(reqs[1])
				d.Rush(reqs[2])
			})
		},
		"Pump": func(d *driver.Driver, g *crew, reqs []*driver.Request) {
			g.run(func() {
				defer func() { recover() }()
				for _, r := range reqs {
					d.Issue(r)
				}
				d.Pump(func() bool { return false })
			})
		},
	}
	for mistake, waiter := range mistakes {
		for name, do := range ways {
			on(t, []way{{mistake + " in " + name, driver.Auto, nil}}, func(e *rig) {
				g := new(crew)
				d, err := driver.OpenGuest(driver.OnKernel(driver.Config{Engine: driver.Uring}, ring.NewSim(ring.SimConfig{Calls: ops.Calls()})), g)
				if err != nil {
					e.Fatal(err)
				}
				g.d = d
				others := &tally{d: d, ended: make(chan struct{}), all: 2}
				nop := ops.Nop()
				var reqs []*driver.Request
				for _, w := range []driver.Waiter{waiter, others, others} {
					r := new(driver.Request)
					r.Reset(&nop.Spec, w)
					reqs = append(reqs, r)
				}
				for range 200 {
					must(e, d, nop) // until Rush promises something
				}
				do(d, g, reqs)
				e.soon("an operation beside the one with the mistake", func() { <-others.ended })
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				defer cancel()
				if err := d.Close(ctx); !errors.Is(err, driver.ErrBroken) {
					e.Errorf("close: %v", err)
				}
			})
		}
	}
}

// What spilled over behind it is told of the end, too.
func TestMishapAmongSpilled(t *testing.T) {
	on(t, []way{{"panic", driver.Auto, nil}}, func(e *rig) {
		d, err := driver.Open(driver.OnKernel(driver.Config{Engine: driver.Uring}, ring.NewSim(ring.SimConfig{Calls: ops.Calls()})))
		if err != nil {
			e.Fatal(err)
		}
		last := make(chan *driver.Pending[struct{}], 1)
		r, w := e.pipe()
		driver.Submit(d, ops.ReadAt(r, make([]byte, 1), -1)).OnEnd(func(ops.Result[[]byte]) {
			for !driver.IntakeFull(d) {
				driver.Submit(d, ops.Nop())
			}
			bad := driver.Submit(d, ops.InstallDirect(0)) // for want of a table it ends where it is taken in
			bad.OnEnd(func(ops.Result[struct{}]) { panic("a mistake") })
			last <- driver.Submit(d, ops.Nop())
		})
		e.write(w, []byte{1}) // now it ends, on the driver's goroutine
		if r := result(e, <-last); !errors.Is(r.Err, driver.ErrBroken) {
			e.Errorf("%+v", r)
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := d.Close(ctx); !errors.Is(err, driver.ErrBroken) {
			e.Errorf("close: %v", err)
		}
	})
}

// Who is told of the mistake of another makes the same one: that is no reason to forget the others.
func TestMishapsOfMany(t *testing.T) {
	for what, mistake := range map[string]func(){"panic": func() { panic("a mistake") }, "Goexit": runtime.Goexit} {
		on(t, []way{{what, driver.Auto, nil}}, func(e *rig) {
			d, err := driver.Open(driver.OnKernel(driver.Config{Engine: driver.Uring}, ring.NewSim(ring.SimConfig{Calls: ops.Calls()})))
			if err != nil {
				e.Fatal(err)
			}
			r, w := e.pipe()
			for range 3 {
				driver.Submit(d, ops.ReadAt(r, make([]byte, 1), -1)).OnEnd(func(ops.Result[[]byte]) { mistake() })
			}
			idle, _ := e.pipe()
			last := driver.Submit(d, ops.ReadAt(idle, make([]byte, 1), -1))
			pending(e, last)
			e.write(w, []byte{1})
			if res := result(e, last); !errors.Is(res.Err, driver.ErrAbandoned) {
				e.Errorf("%+v", res)
			}
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			if err := d.Close(ctx); !errors.Is(err, driver.ErrBroken) {
				e.Errorf("close: %v", err)
			}
		})
	}
}

// Somebody who is told of an end makes a mistake where a task of the guest has the driver take something in: that is none of the task's, whose
// own request gets its end, too.
func TestMishapOnTheStackOfATask(t *testing.T) {
	mistakes := map[string]func(){"panic": func() { panic("a mistake") }, "Goexit": runtime.Goexit}
	type give func(d *driver.Driver, fd int, w driver.Waiter, mistake func())
	ways := map[string]give{
		"Issue": func(d *driver.Driver, fd int, w driver.Waiter, _ func()) {
			r, op := new(driver.Request), ops.CancelFD(fd)
			r.Reset(&op.Spec, w)
			d.Issue(r)
		},
		"Send": func(d *driver.Driver, _ int, w driver.Waiter, mistake func()) {
			bad := driver.Submit(d, ops.InstallDirect(0)) // for want of a table it ends where it is taken in
			bad.OnEnd(func(ops.Result[struct{}]) { mistake() })
			for !driver.IntakeFull(d) {
				driver.Submit(d, ops.Nop())
			}
			r, op := new(driver.Request), ops.Nop()
			r.Reset(&op.Spec, w)
			d.Send(r)
		},
	}
	for what, mistake := range mistakes {
		for name, give := range ways {
			on(t, []way{{what + " in " + name, driver.Auto, nil}}, func(e *rig) {
				g := new(crew)
				cfg := driver.OnKernel(driver.Config{Entries: 4, InFlight: 16, Engine: driver.Uring}, ring.NewSim(ring.SimConfig{Calls: ops.Calls()}))
				d, err := driver.OpenGuest(cfg, g)
				if err != nil {
					e.Fatal(err)
				}
				g.d = d
				fd, _ := e.pipe()
				var once sync.Once
				for range 30 { // some of them wait in a queue
					driver.Submit(d, ops.ReadAt(fd, make([]byte, 1), -1)).OnEnd(func(ops.Result[[]byte]) { once.Do(mistake) })
				}
				d.Stats() // asked for behind them
				w := &tally{d: d, ended: make(chan struct{}), all: 1}
				g.run(func() {
					defer func() {
						if p := recover(); p != nil {
							e.Errorf("the task is told of %v", p)
						}
					}()
					give(d, fd, w, func() { once.Do(mistake) })
				})
				e.soon("the request of the task", func() { <-w.ended })
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				defer cancel()
				if err := d.Close(ctx); !errors.Is(err, driver.ErrBroken) {
					e.Errorf("close: %v", err)
				}
			})
		}
	}
}

// What had spilled over when somebody made a mistake behind whom it was to be taken in is refused, too.
func TestMishapAheadOfSpilled(t *testing.T) {
	for what, mistake := range map[string]func(){"panic": func() { panic("a mistake") }, "Goexit": runtime.Goexit} {
		on(t, []way{{what, driver.Auto, nil}}, func(e *rig) {
			d, err := driver.Open(driver.OnKernel(driver.Config{Engine: driver.Uring}, ring.NewSim(ring.SimConfig{Calls: ops.Calls()})))
			if err != nil {
				e.Fatal(err)
			}
			last := make(chan *driver.Pending[struct{}], 1)
			r, w := e.pipe()
			driver.Submit(d, ops.ReadAt(r, make([]byte, 1), -1)).OnEnd(func(ops.Result[[]byte]) {
				bad := driver.Submit(d, ops.InstallDirect(0)) // for want of a table it ends where it is taken in
				bad.OnEnd(func(ops.Result[struct{}]) { mistake() })
				for !driver.IntakeFull(d) {
					driver.Submit(d, ops.Nop())
				}
				last <- driver.Submit(d, ops.Nop())
			})
			e.write(w, []byte{1}) // now it ends, on the driver's goroutine
			if r := result(e, <-last); !errors.Is(r.Err, driver.ErrBroken) {
				e.Errorf("%+v", r)
			}
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			if err := d.Close(ctx); !errors.Is(err, driver.ErrBroken) {
				e.Errorf("close: %v", err)
			}
		})
	}
}

// Who is told of the end by Close, when its context has ended, makes a mistake: nobody waits for ever on that account.
func TestMishapWhileGivingUp(t *testing.T) {
	on(t, []way{{"panic", driver.Auto, nil}}, func(e *rig) {
		cfg := driver.WithPatience(driver.Config{Engine: driver.Uring}, time.Hour)
		d, err := driver.Open(driver.OnKernel(cfg, ring.NewSim(ring.SimConfig{Calls: ops.Calls()})))
		if err != nil {
			e.Fatal(err)
		}
		r, _ := e.pipe()
		driver.Submit(d, ops.ReadAt(r, make([]byte, 1), -1)).OnEnd(func(ops.Result[[]byte]) { panic("a mistake") })
		e.eventually("it waits", func() bool { return d.Stats().InFlight == 1 })
		holds := make(chan struct{})
		d.CancelDescriptor(r, false, func() bool {
			close(holds)
			for driver.Waiting(d) < 2 { // until Close gives up, behind what it began with
				time.Sleep(time.Millisecond)
			}
			return false
		})
		<-holds
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		e.soon("Close", func() { err = d.Close(ctx) })
		if !errors.Is(err, driver.ErrBroken) {
			e.Errorf("close: %v", err)
		}
	})
}

// Many send to a driver that has ended, and who is told of that makes a mistake: what others sent meanwhile is refused all the same.
func TestMishapsAfterTheEnd(t *testing.T) {
	on(t, []way{onPortable}, func(e *rig) {
		d := e.open(driver.Config{})
		e.shut(d)
		nop := ops.Nop()
		for range size(5000, 500000) {
			w := &tally{d: d, ended: make(chan struct{}), all: 2}
			var both sync.WaitGroup
			for range 2 {
				both.Go(func() {
					defer func() { recover() }()
					r := new(driver.Request)
					r.Reset(&nop.Spec, completes(func() {
						w.Complete(r)
						panic("a mistake")
					}))
					d.Send(r)
				})
			}
			both.Wait()
			e.soon("a request", func() { <-w.ended })
		}
	})
}

// Who collects what was told before the mistake hears of it all the same.
func TestMishapAfterTheEndAmongMany(t *testing.T) {
	on(t, []way{onPortable}, func(e *rig) {
		d := e.open(driver.Config{})
		e.shut(d)
		w := &tally{d: d, ended: make(chan struct{}), all: 1}
		nop := ops.Nop()
		first, second := new(driver.Request), new(driver.Request)
		first.Reset(&nop.Spec, w)
		second.Reset(&nop.Spec, bomb{})
		first.Next = second
		func() {
			defer func() { recover() }()
			d.Send(first)
		}()
		if n := w.flushed.Load(); n != 1 {
			e.Errorf("flushed %d times", n)
		}
	})
}

// Who is told that a chain comes too late makes a mistake: the other members are told, too, whether the driver has ended or is about to.
func TestMishapInALateChain(t *testing.T) {
	mistakes := map[string]func(){"panic": func() { panic("a mistake") }, "Goexit": runtime.Goexit}
	ways := map[string]func(e *rig, d *driver.Driver, c *driver.Chain){
		"after the end": func(e *rig, d *driver.Driver, c *driver.Chain) {
			e.shut(d)
			submitted := make(chan struct{})
			go func() {
				defer close(submitted)
				defer func() { recover() }()
				e.submit(d, c)
			}()
			<-submitted
		},
		"at the end": func(e *rig, d *driver.Driver, c *driver.Chain) {
			r, _ := e.pipe()
			pending(e, driver.Submit(d, ops.ReadAt(r, make([]byte, 1), -1))) // which the driver waits for
			go func() { _ = d.Close(context.Background()) }()
			e.eventually("it closes", func() bool { return do(e, d, ops.Nop()).Err == driver.ErrClosed })
			e.submit(d, c)
		},
	}
	for what, mistake := range mistakes {
		for when, late := range ways {
			on(t, []way{{what + " " + when, driver.Auto, nil}}, func(e *rig) {
				d, err := e.behind(ring.NewSim(ring.SimConfig{Calls: ops.Calls()}), deafness, driver.Config{})
				if err != nil {
					e.Fatal(err)
				}
				var c driver.Chain
				driver.Link(&c, ops.Nop()).OnEnd(func(ops.Result[struct{}]) { mistake() })
				others := []*driver.Pending[struct{}]{driver.Link(&c, ops.Nop()), driver.Link(&c, ops.Nop())}
				late(e, d, &c)
				for _, p := range others {
					if r := result(e, p); !errors.Is(r.Err, driver.ErrClosed) && !errors.Is(r.Err, driver.ErrBroken) {
						e.Errorf("%+v", r)
					}
				}
				_ = d.Close(context.Background())
			})
		}
	}
}
