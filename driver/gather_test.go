package driver_test

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/internal/testenv"
	"uringo/ops"
)

// TestMinWait has completions come one after the other to a driver that lets them gather, and to one that does not.
func TestMinWait(t *testing.T) {
	const reads, gap = 40, 2 * time.Millisecond
	waits := func(e *rig, d *driver.Driver) uint64 {
		pending := make([]*driver.Pending[[]byte], reads)
		writers := make([]int, reads)
		for i := range pending {
			r, w := e.pipe()
			writers[i] = w
			pending[i] = driver.Submit(d, ops.ReadAt(r, make([]byte, 1), -1))
		}
		before := d.Stats().Waits
		for _, w := range writers {
			if _, err := unix.Write(w, []byte{1}); err != nil {
				e.Fatal(err)
			}
			time.Sleep(gap)
		}
		for i, p := range pending {
			if r := <-p.Done(); r.N != 1 || r.Err != nil || r.Buf[0] != 1 {
				e.Errorf("read %d: %+v", i, r)
			}
		}
		return d.Stats().Waits - before
	}
	on(t, []way{onUring, onLocked}, func(e *rig) {
		at, later := e.open(driver.Config{}), e.open(driver.Config{MinWait: 300 * time.Millisecond})
		var apart, gathered uint64
		for range 3 { // on a busy machine what is written apart may arrive together, and the other way round
			delays := testenv.Delays()
			apart, gathered = waits(e, at), waits(e, later)
			late := delays()
			e.Logf("waits for %d completions: %d, gathering %d, on a machine that was %v late", reads, apart, gathered, late)
			if late < reads*gap/4 {
				break
			}
		}
		if apart < reads/2 {
			e.Errorf("%d waits for %d completions that come one after the other", apart, reads)
		}
		if release(e) >= 612 && gathered > reads/4 {
			e.Errorf("%d waits for %d completions that should gather", gathered, reads)
		}
	})
}

// TestMinWaitIsShort sees that what comes after the time for gathering ends the wait by itself, with other operations still in flight.
func TestMinWaitIsShort(t *testing.T) {
	on(t, []way{onUring, onPortable, onLocked, onSim}, func(e *rig) {
		d := e.open(driver.Config{MinWait: time.Millisecond})
		never, _ := e.pipe()
		held := driver.Submit(d, ops.ReadAt(never, make([]byte, 1), -1))
		for range size(20, 1000) {
			r, w := e.pipe()
			p := driver.Submit(d, ops.ReadAt(r, make([]byte, 1), -1))
			time.Sleep(3 * time.Millisecond)
			if _, err := unix.Write(w, []byte{1}); err != nil {
				e.Fatal(err)
			}
			select {
			case r := <-p.Done():
				if r.N != 1 || r.Err != nil {
					e.Fatalf("%+v", r)
				}
			case <-time.After(10 * time.Second):
				e.Fatal("not told of a completion")
			}
		}
		held.Cancel()
		<-held.Done()
	})
}

func TestMinWaitRange(t *testing.T) {
	for _, wait := range []time.Duration{-1, time.Second + 1} {
		d, err := driver.Open(driver.Config{MinWait: wait})
		if err == nil {
			t.Errorf("MinWait %v is taken", wait)
			_ = d.Close(t.Context())
		} else if !strings.Contains(err.Error(), "MinWait") {
			t.Errorf("MinWait %v: %v", wait, err)
		}
	}
}
