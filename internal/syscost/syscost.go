// Package syscost knows what a system call costs on this machine, for those who choose between making many and having a ring make
// them all at once. It is 50 to 100 ns on most hardware of the last years, and a microsecond where a hypervisor or a sandbox takes part in
// each: what pays on the one loses on the other.
package syscost

import (
	"sync"
	"syscall"
	"time"
)

// cheap is the cost below which a plain call for what does not wait is ahead of the ring, which has to have the operation described,
// handed over and answered. Measured with reads from the page cache in company: level at about 270 ns.
const cheap = 250 * time.Nanosecond

// Cheap reports whether system calls are cheap. The first call measures, which takes from 50 to 500 microseconds.
var Cheap = sync.OnceValue(func() bool { return measure() < cheap })

// measure returns what a call costs that does nothing: of several batches the fastest, as others may want the processor.
func measure() time.Duration {
	const batches, calls = 8, 64
	best := time.Duration(1<<63 - 1)
	for range batches {
		start := time.Now()
		for range calls {
			_, _, _ = syscall.RawSyscall(syscall.SYS_GETPPID, 0, 0, 0) // cannot fail
		}
		best = min(best, time.Since(start)/calls)
	}
	return best
}
