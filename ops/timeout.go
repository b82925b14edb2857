package ops

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"uringo/internal/ring"
)

var kindTimeout = &Kind{Name: "timeout", Code: ring.OpTimeout, Prepare: prepareTimeout, Waits: true, Success: -int32(unix.ETIME)}

// Timeout completes after d, with no error. Time does not pass while the system is suspended. Kernel 5.4.
func Timeout(d time.Duration) Op[struct{}] {
	d = max(d, 0)
	ts := &ring.Timespec{Sec: int64(d / time.Second), Nsec: int64(d % time.Second)}
	return Op[struct{}]{Spec: Spec{Kind: kindTimeout, FD: -1, aux: ts}}
}

func prepareTimeout(s *Spec, e *ring.SQE) {
	ts, _ := s.aux.(*ring.Timespec)
	e.Addr = uint64(uintptr(unsafe.Pointer(ts)))
	e.Len = 1
}
