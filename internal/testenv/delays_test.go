package testenv

import (
	"runtime"
	"testing"
	"time"
)

// TestDelays holds the only processor for a while.
func TestDelays(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for _, sleep := range []time.Duration{0, 2 * time.Millisecond} { // it has not begun, or sleeps, too
		end := delays(time.Millisecond)
		time.Sleep(sleep)
		for begin := time.Now(); time.Since(begin) < 5*time.Millisecond; {
		}
		if late := end(); late < 2*time.Millisecond {
			t.Errorf("after %v: who wanted to run was %v late", sleep, late)
		}
	}
}
