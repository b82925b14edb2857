package driver_test

import (
	"context"
	"errors"
	"runtime"
	"testing"

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
