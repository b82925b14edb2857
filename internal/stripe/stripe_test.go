package stripe

import (
	"sync"
	"sync/atomic"
	"testing"
)

func TestCounter(t *testing.T) {
	const goroutines, each = 64, 1000
	var c Counter
	var all sync.WaitGroup
	for lane := range uint(goroutines) {
		all.Go(func() {
			for range each {
				c.Add(lane, 2)
				c.Add(lane+1, -1)
			}
		})
	}
	all.Wait()
	if n := c.Load(); n != goroutines*each {
		t.Errorf("counted %d of %d", n, goroutines*each)
	}
	if n := c.Add(3, 1); n != goroutines*each/lanes+1 {
		t.Errorf("counted %d on a lane that had its share of %d", n, goroutines*each)
	}
}

func TestLimit(t *testing.T) {
	const most, goroutines = 64, 1000
	l := NewLimit(most)
	var in atomic.Int32
	var all sync.WaitGroup
	for lane := range uint(goroutines) {
		all.Go(func() {
			if l.Enter(lane) {
				in.Add(1)
			}
		})
	}
	all.Wait()
	if n := in.Load(); n != most {
		t.Errorf("%d are in, of %d", n, most)
	}
	for lane := range uint(most) {
		l.Leave(lane)
	}
	for lane := range uint(most) {
		if !l.Enter(lane) {
			t.Fatalf("no place for number %d after all have left", lane)
		}
	}
	if l.Enter(0) {
		t.Error("one too many")
	}
}
