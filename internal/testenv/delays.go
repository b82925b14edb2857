package testenv

import "time"

// Delays measures how late the machine runs who wants to run. The function that it returns ends that, and returns the sum: a bound on how
// long something may take holds on a machine that does nothing else, and on another after so much longer.
func Delays() (end func() time.Duration) {
	return delays(10 * time.Millisecond) // so that what other goroutines of a busy test take in their turn is little of it
}

func delays(nap time.Duration) (end func() time.Duration) {
	stop, sum := make(chan struct{}), make(chan time.Duration)
	begin := time.Now() // who is stopped before the goroutine has begun is late, too
	go func() {
		var late time.Duration
		alarm := time.NewTimer(nap) // one for all, as who counts allocations may be measured, too
		defer alarm.Stop()
		for over := false; ; {
			alarm.Reset(nap)
			select {
			case <-stop:
				over = true
			case <-alarm.C:
			}
			now := time.Now()
			if late += max(0, now.Sub(begin)-nap); over {
				sum <- late
				return
			}
			begin = now
		}
	}()
	return func() time.Duration {
		close(stop)
		return <-sum
	}
}
