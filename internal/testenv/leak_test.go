package testenv

import (
	"testing"
	"time"

	"go.uber.org/goleak"
)

// A goroutine that takes a while to end is not left over.
func TestNoGoroutines(t *testing.T) {
	before := goleak.IgnoreCurrent()
	leave := make(chan struct{})
	time.AfterFunc(time.Second, func() { close(leave) }) // goleak alone gives up before
	go func() { <-leave }()
	NoGoroutines(t, before)
}
