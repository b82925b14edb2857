package testenv

import (
	"runtime"
	"testing"
	"time"
)

// TestDelays holds the only processor for a while.
func TestDelays(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	end := delays(time.Millisecond)
	time.Sleep(2 * time.Millisecond) // it sleeps, too
	for begin := time.Now(); time.Since(begin) < 5*time.Millisecond; {
	}
	if late := end(); late < 2*time.Millisecond {
		t.Errorf("who wanted to run was %v late", late)
	}
}
