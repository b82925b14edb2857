package driver_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"uringo/driver"
	"uringo/ops"
)

// The guests of two drivers close each other's.
func TestGuestsCloseEachOther(t *testing.T) {
	withCrew(t, driver.Config{}, func(e *rig, d *driver.Driver, g *crew) {
		other := new(crew)
		other.d = e.opened(driver.OpenGuest(driver.Config{Engine: d.Engine()}, other))
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
				if err := c.to.Close(context.Background()); err != nil {
					e.Error(err)
				}
			})
		}
		e.soon("a guest", ended.Wait)
	})
}

// A guest that waits for a driver whose guest closes the first one's gets its answer.
func TestGuestClosesWhoAsks(t *testing.T) {
	withCrew(t, driver.Config{}, func(e *rig, d *driver.Driver, g *crew) {
		other := new(crew)
		other.d = e.opened(driver.OpenGuest(driver.Config{Engine: d.Engine()}, other))
		asking, closing := make(chan struct{}), make(chan struct{})
		var ended sync.WaitGroup
		ended.Add(2)
		other.run(func() {
			defer ended.Done()
			close(asking)
			<-closing
			if s := d.Stats(); s.InFlight != 0 {
				e.Errorf("%+v", s)
			}
		})
		<-asking
		g.run(func() {
			defer ended.Done()
			close(closing)
			if err := other.d.Close(context.Background()); err != nil {
				e.Error(err)
			}
		})
		e.soon("a guest", ended.Wait)
	})
}

// The guests of two drivers wait for each other's drivers while both are being closed by somebody else.
func TestGuestsWaitForEachOtherAtTheEnd(t *testing.T) {
	waits := map[string]func(*driver.Driver){
		"Stats":        func(d *driver.Driver) { d.Stats() },
		"Wait":         func(d *driver.Driver) { driver.Submit(d, ops.Nop()).Wait(context.Background()) },
		"Wait for all": func(d *driver.Driver) { d.Stats(); driver.Submit(d, ops.Nop()).Wait(context.Background()) },
	}
	for what, wait := range waits {
		t.Run(what, func(t *testing.T) {
			withCrew(t, driver.Config{}, func(e *rig, d *driver.Driver, g *crew) {
				other := new(crew)
				other.d = e.opened(driver.OpenGuest(driver.Config{Engine: d.Engine()}, other))
				pairs := []struct {
					from *crew
					to   *driver.Driver
				}{{g, other.d}, {other, d}}
				var here, closed, ended sync.WaitGroup
				here.Add(2)
				closed.Add(2)
				for _, c := range pairs {
					ended.Add(1)
					c.from.run(func() {
						defer ended.Done()
						here.Done()
						closing := driver.Submit(c.from.d, ops.Timeout(time.Hour)).Wait(context.Background())
						if closing.Err != driver.ErrClosed {
							e.Error(closing.Err)
						}
						closed.Done()
						closed.Wait() // by now neither driver has anything to do
						wait(c.to)
						wait(c.from.d)
					})
				}
				here.Wait()
				for _, c := range pairs {
					ended.Go(func() { e.shut(c.from.d) })
				}
				e.soon("a guest", ended.Wait)
			})
		})
	}
}
