package syscost

import (
	"testing"
	"time"
)

func TestMeasure(t *testing.T) {
	cost := measure()
	if cost < 10*time.Nanosecond || cost > 100*time.Microsecond {
		t.Errorf("a system call is said to cost %v", cost)
	}
	t.Logf("a system call costs %v: cheap is %t", cost, Cheap())
}
