package driver_test

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"uringo/driver"
	"uringo/internal/testenv"
	"uringo/ops"
)

// flood sends more than the channel of a driver takes, which somebody holds, and returns what counts their ends.
func (e *rig) flood(d *driver.Driver, senders *sync.WaitGroup) *tally {
	const each, n = 100, 20
	all := &tally{d: d, ended: make(chan struct{}), all: each * n}
	nop := ops.Nop()
	for range n {
		senders.Go(func() {
			for range each {
				r := new(driver.Request)
				r.Reset(&nop.Spec, all)
				d.Send(r)
			}
		})
	}
	e.eventually("the channel is full", func() bool { return driver.IntakeFull(d) })
	return all
}

// soon fails the test if f does not return.
func (e *rig) soon(what string, f func()) {
	e.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(patience):
		panic(what + " waits for ever")
	}
}

// Who cancels may hold a lock that a task of the driver is waiting for, so it must not wait for room in the channel.
func TestCancelNeverWaits(t *testing.T) {
	withCrew(t, driver.Config{Entries: 16}, func(e *rig, d *driver.Driver, g *crew) {
		r, _ := e.pipe()
		read := ops.ReadAt(r, make([]byte, 8), -1)
		req := new(driver.Request)
		last := &tally{d: d, ended: make(chan struct{}), all: 1}
		seq := req.Reset(&read.Spec, last)
		d.Send(req)
		d.Stats() // by now it is taken in

		var lock sync.Mutex
		held := make(chan struct{})
		lock.Lock()
		g.run(func() {
			close(held)
			lock.Lock()
			defer lock.Unlock()
		})
		<-held
		var senders sync.WaitGroup
		all := e.flood(d, &senders)
		e.soon("Cancel", func() {
			d.Cancel(req, seq)
			lock.Unlock()
		})
		e.soon("the operation that was cancelled", func() { <-last.ended })
		e.soon("somebody", func() { senders.Wait(); <-all.ended })
		if all.failed.Load() != 0 {
			e.Errorf("%d operations of others failed", all.failed.Load())
		}
		if _, err := req.Outcome(); !driver.IsCanceled(err) {
			e.Errorf("the operation ended with %v", err)
		}
	})
}

// The guests of two drivers send to each other while neither has room.
func TestGuestsSendToEachOther(t *testing.T) {
	withCrew(t, driver.Config{Entries: 16}, func(e *rig, d *driver.Driver, g *crew) {
		other := new(crew)
		other.d = e.opened(driver.OpenGuest(driver.Config{Engine: d.Engine()}, other))
		var held, senders sync.WaitGroup
		var ends [2]*tally
		letGo := make(chan struct{})
		nop := ops.Nop()
		held.Add(2)
		for i, c := range []struct {
			from *crew
			to   *driver.Driver
		}{{g, other.d}, {other, d}} {
			ends[i] = &tally{d: c.to, ended: make(chan struct{}), all: 3}
			c.from.run(func() {
				held.Done()
				<-letGo
				for range 3 {
					r := new(driver.Request)
					r.Reset(&nop.Spec, ends[i])
					c.to.Send(r)
				}
			})
		}
		held.Wait()
		all := []*tally{e.flood(d, &senders), e.flood(other.d, &senders)}
		close(letGo)
		for _, w := range append(all, ends[:]...) {
			e.soon("a request", func() { <-w.ended })
			if w.failed.Load() != 0 {
				e.Errorf("%d of %d failed", w.failed.Load(), w.all)
			}
		}
		e.soon("a sender", senders.Wait)
	})
}

// What spilled over when the driver ended is refused like all the rest.
func TestSpillAtTheEnd(t *testing.T) {
	withCrew(t, driver.Config{Entries: 16}, func(e *rig, d *driver.Driver, g *crew) {
		other := new(crew)
		other.d = e.opened(driver.OpenGuest(driver.Config{Engine: d.Engine()}, other))
		var senders, held sync.WaitGroup
		letGo := make(chan struct{})
		held.Add(1)
		g.run(func() { held.Done(); <-letGo })
		held.Wait()
		all := e.flood(d, &senders)
		spilled := &tally{d: d, ended: make(chan struct{}), all: 200}
		nop := ops.Nop()
		other.wait(e, func() {
			for range 200 {
				r := new(driver.Request)
				r.Reset(&nop.Spec, spilled)
				d.Send(r)
			}
		})
		senders.Go(func() { e.shut(d) })
		close(letGo)
		e.soon("a sender", senders.Wait)
		e.soon("a request", func() { <-all.ended; <-spilled.ended })
	})
}

// What one guest sends to another's driver arrives in order, whether there is room in the channel or not.
func TestSpillKeepsOrder(t *testing.T) {
	testenv.SkipShort(t)
	on(t, []way{onUring, onLocked}, func(e *rig) {
		d := e.open(driver.Config{})
		other := new(crew)
		other.d = e.opened(driver.OpenGuest(driver.Config{Engine: d.Engine()}, other))
		var stop atomic.Bool
		var flood sync.WaitGroup
		for range 4 {
			flood.Go(func() {
				for !stop.Load() {
					var all []*driver.Pending[struct{}]
					for range 1000 {
						all = append(all, driver.Submit(d, ops.Nop()))
					}
					for _, p := range all {
						<-p.Done()
					}
				}
			})
		}
		for range size(20, 500) {
			const n = 5000
			last, ended := -1, make(chan struct{})
			nop := ops.Nop()
			other.wait(e, func() {
				for i := range n {
					r := new(driver.Request)
					r.Reset(&nop.Spec, completes(func() {
						if i < last {
							e.Errorf("%d after %d", i, last)
						}
						if last = i; i == n-1 {
							close(ended)
						}
					}))
					d.Send(r)
				}
			})
			e.soon("the last", func() { <-ended })
		}
		stop.Store(true)
		flood.Wait()
	})
}

// completes is a Waiter.
type completes func()

func (c completes) Complete(*driver.Request) { c() }

// Who pokes or cancels may hold a lock that those need who are told of an end, also on a driver that was closed: they are told elsewhere.
func TestPokeUnderALockAfterClose(t *testing.T) {
	on(t, engines, func(e *rig) {
		d := e.open(driver.Config{})
		e.shut(d)
		var mu sync.Mutex
		var submitting atomic.Int32
		submitting.Store(3)
		submit := func() {
			defer submitting.Add(-1)
			for range size(1000, 100_000) {
				told := make(chan struct{})
				driver.Submit(d, ops.Nop()).OnEnd(func(ops.Result[struct{}]) {
					mu.Lock()
					defer mu.Unlock()
					close(told)
				})
				<-told
			}
		}
		e.soon("somebody", func() {
			e.together(4, func(i int) {
				if i < 3 {
					submit()
					return
				}
				for submitting.Load() > 0 {
					mu.Lock()
					for range 100 {
						d.Poke()
					}
					mu.Unlock()
					runtime.Gosched() // on one processor the others would wait 10 ms for each turn
				}
			})
		})
	})
}
