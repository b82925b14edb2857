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
	for _, lanes := range []uint{1, 3, goroutines} { // those who enter have so many different ones
		l := NewLimit(most)
		var in atomic.Int32
		var all sync.WaitGroup
		places := make(chan uint, most+1)
		for i := range uint(goroutines) {
			all.Go(func() {
				if place, ok := l.Enter(i % lanes); ok {
					in.Add(1)
					places <- place
				}
			})
		}
		all.Wait()
		if n := in.Load(); n != most {
			t.Fatalf("%d are in, of %d", n, most)
		}
		for range 5 {
			l.Leave(<-places)
			place, ok := l.Enter(0)
			if !ok {
				t.Fatal("no place after somebody has left")
			}
			places <- place
			if _, ok := l.Enter(0); ok {
				t.Fatal("one too many")
			}
		}
	}
}
