package driver_test

import (
	"context"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/internal/ring"
	"uringo/ops"
)

// Random chains are cancelled and abandoned at random, and their driver is closed: every member has one result.
func TestRandomChains(t *testing.T) { // HAZARDS T26
	on(t, append([]way{
		{"sim that splits and races", driver.Auto, func(e *rig, cfg driver.Config) (*driver.Driver, error) {
			e.stale = true
			return e.model(ring.SimConfig{Calls: ops.Calls(), Delay: 5, Partial: 0.5, SplitLinks: true, EnterFails: 0.3, Early: 0.1, Races: 0.3}, cfg)
		}},
	}, chaining...), func(e *rig) {
		for range size(30, 1500) {
			e.randomChains()
			if e.Failed() {
				return
			}
		}
	})
}

// member is one of a random chain.
type member struct {
	cancel   func()
	told     chan error // when OnEnd is
	followed bool       // by a hard link: what interrupted it is its result
}

func (e *rig) randomChains() {
	cfg := driver.Config{Entries: 8 << e.rng.IntN(3), InFlight: 64}
	if e.rng.IntN(2) == 0 {
		cfg.CancelGrace = time.Duration(1 + e.rng.IntN(100_000))
	}
	d, err := e.make(e, cfg)
	if err != nil {
		e.opened(d, err)
	}
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		e.Fatal(err)
	}
	r, w := p[0], p[1]
	defer unix.Close(r)
	defer unix.Close(w)
	var all []*member
	for range 1 + e.rng.IntN(8) {
		all = append(all, e.randomChain(d, r, w)...)
		for range e.rng.IntN(4) {
			switch e.rng.IntN(6) {
			case 0, 1, 2:
				all[e.rng.IntN(len(all))].cancel()
			case 3:
				e.write(w, make([]byte, 1+e.rng.IntN(6)))
			case 4:
				driver.Submit(d, ops.CancelFD(r))
			case 5:
				d.CancelDescriptor(r, false, func() bool { return true })
			}
		}
		if e.rng.IntN(3) == 0 {
			time.Sleep(time.Duration(e.rng.IntN(200)) * time.Microsecond)
		}
	}
	switch e.rng.IntN(3) {
	case 0: // from the end, so that some are before their turn
		for _, m := range slices.Backward(all) {
			m.cancel()
		}
	case 1:
		for _, m := range all {
			m.cancel()
		}
	case 2:
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(e.rng.IntN(1000))*time.Microsecond)
		if err := d.Close(ctx); err != nil && ctx.Err() == nil {
			e.Errorf("close: %v", err)
		}
		cancel()
	}
	for i, m := range all {
		e.soon("a member", func() {
			switch err := <-m.told; err {
			case nil, syscall.ECANCELED, driver.ErrClosed, driver.ErrAbandoned, syscall.EINVAL: // what a pipe says to fsync
			case syscall.EINTR:
				if !m.followed {
					e.Errorf("member %d: %v", i, err)
				}
			default:
				e.Errorf("member %d: %v", i, err)
			}
		})
	}
	e.shut(d)
}

func (e *rig) randomChain(d *driver.Driver, r, w int) []*member {
	var c driver.Chain
	var all []*member
	for range 1 + e.rng.IntN(5) {
		hard := e.rng.IntN(3) == 0
		if hard && len(all) > 0 {
			all[len(all)-1].followed = true
		}
		switch e.rng.IntN(7) {
		case 0, 1, 2:
			all = append(all, newMember(&c, ops.ReadAt(r, make([]byte, 1+e.rng.IntN(8)), -1), hard))
		case 3:
			all = append(all, newMember(&c, ops.WriteAt(w, make([]byte, 1+e.rng.IntN(8)), -1), hard))
		case 4:
			all = append(all, newMember(&c, ops.Nop(), hard))
		case 5:
			all = append(all, newMember(&c, ops.Fsync(w), hard)) // fails
		case 6:
			op := ops.Nop()
			op.Route = ops.RouteCall
			all = append(all, newMember(&c, op, hard))
		}
	}
	e.submit(d, &c)
	return all
}

func newMember[T any](c *driver.Chain, op ops.Op[T], hard bool) *member {
	link := driver.Link[T]
	if hard {
		link = driver.HardLink[T]
	}
	p := link(c, op)
	m := &member{cancel: p.Cancel, told: make(chan error, 1)}
	p.OnEnd(func(r ops.Result[T]) { m.told <- r.Err })
	return m
}
