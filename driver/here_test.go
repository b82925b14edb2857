package driver_test

import (
	"sync"
	"testing"

	"uringo/driver"
)

// TestHereIsNowhereElse asks goroutines on whose driver's thread they run while threads become and cease to be a driver's: on none, as none of
// them is a guest.
func TestHereIsNowhereElse(t *testing.T) {
	stop := make(chan struct{})
	var asking, opening sync.WaitGroup
	for range 4 {
		asking.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if d := driver.Here(); d != nil {
					t.Errorf("a goroutine is told that it runs on the thread of %p", d)
					return
				}
			}
		})
	}
	for range 4 {
		opening.Go(func() {
			for range 15 {
				d, err := driver.OpenGuest(driver.Config{Engine: driver.Portable}, idle{})
				if err != nil {
					t.Error(err)
					return
				}
				if err := d.Close(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	opening.Wait()
	close(stop)
	asking.Wait()
}
