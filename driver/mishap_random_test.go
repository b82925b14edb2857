package driver_test

import (
	"context"
	"errors"
	"os"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/internal/ring"
	"uringo/ops"
)

// Somebody who is told something, whatever and whenever that is, makes a mistake: everybody else is told of an end, too.
func TestMishapAnywhere(t *testing.T) {
	on(t, []way{{"sim", driver.Auto, nil}}, func(e *rig) {
		for round := range size(300, 20_000) {
			e.mishap(round)
		}
	})
}

// waiting is a Waiter that holds up the driver.
type waiting chan struct{}

func (w waiting) Complete(*driver.Request) { <-w }

func (e *rig) mishap(round int) {
	versions := []ring.Version{0, ring.V(5, 15), ring.V(6, 0)}
	e.sim = ring.NewSim(ring.SimConfig{Seed: e.rng.Uint64(), Version: versions[round%len(versions)], Calls: ops.Calls(), Delay: 5,
		Partial: 0.2, EnterFails: 0.5, EnterErrnos: []syscall.Errno{unix.EBUSY, unix.EAGAIN}, Early: 0.1, Races: 0.3})
	cfg := driver.OnKernel(driver.Config{Entries: 4, InFlight: 16, Engine: driver.Uring}, e.sim)
	g := new(crew)
	var err error
	if round%2 == 0 {
		g.d, err = driver.Open(cfg)
	} else {
		g.d, err = driver.OpenGuest(cfg, g)
	}
	if err != nil {
		e.Fatal(err)
	}
	d := g.d

	// Of all that are told something, one makes the mistake.
	var told atomic.Int32
	wrong := int32(e.rng.IntN(60))
	goexit := e.rng.IntN(2) == 0
	mistake := func() {
		if told.Add(1)-1 != wrong {
			return
		}
		if goexit {
			runtime.Goexit()
		}
		panic("a mistake")
	}

	buffers, err := driver.NewBufferRing(d, 4, 16)
	if err != nil {
		e.Fatal(err)
	}
	// Meanwhile the driver waits.
	release := make(chan struct{})
	held := new(driver.Request)
	nop := ops.Nop()
	held.Reset(&nop.Spec, waiting(release))
	d.Send(held)

	var waits []func()
	add := func(p *driver.Pending[struct{}]) {
		p.OnEnd(func(ops.Result[struct{}]) { mistake() })
		ended := make(chan struct{})
		p.OnEnd(func(ops.Result[struct{}]) { close(ended) })
		waits = append(waits, func() {
			e.soon("an operation", func() { <-p.Done() })
			e.soon("whoever else is told of it", func() { <-ended })
		})
	}
	r, w, err := os.Pipe()
	if err != nil {
		e.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	fd := int(r.Fd())
	for range 40 {
		switch e.rng.IntN(6) {
		case 0:
			add(driver.Submit(d, ops.Nop()))
		case 1:
			add(driver.Submit(d, plugging()))
		case 2, 3:
			var c driver.Chain
			for range 1 + e.rng.IntN(3) {
				op := ops.Nop()
				switch e.rng.IntN(4) {
				case 0:
					op = ops.Fdatasync(fd) // fails
				case 1:
					op = plugging()
				}
				if e.rng.IntN(2) == 0 {
					add(driver.Link(&c, op))
				} else {
					add(driver.HardLink(&c, op))
				}
			}
			if err := c.Submit(d); err != nil {
				e.Fatal(err)
			}
		case 4:
			add(driver.Submit(d, ops.CancelFD(fd)))
		case 5:
			pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				e.Fatal(err)
			}
			r, w := pair[0], pair[1]
			s := driver.RecvMulti(d, r, buffers, 0, mistake)
			s.OnReady(mistake)
			for i := range byte(e.rng.IntN(3)) {
				e.write(w, []byte{i})
			}
			waits = append(waits, func() {
				e.soon("a stream", func() { s.Close(context.Background()) })
				unix.Close(r)
				unix.Close(w)
			})
		}
	}
	close(release)
	for _, wait := range waits {
		wait()
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := d.Close(ctx); err != nil && !errors.Is(err, driver.ErrBroken) {
		e.Errorf("close: %v", err)
	}
}
