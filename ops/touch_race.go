//go:build race

package ops

import (
	"runtime"
	"unsafe"
)

// Touch tells the race detector that the operation's memory is read or written, as the kernel will do, on the calling
// goroutine. A very long buffer is sampled, a page in sixteen, to keep the cost in bounds. Builds with -race only.
func (s *Spec) Touch() {
	s.regions(func(p unsafe.Pointer, n int) {
		const whole, page = 1 << 20, 4096
		access := runtime.RaceReadRange
		if s.Kind.Writes {
			access = runtime.RaceWriteRange
		}
		if n <= whole {
			access(p, n)
			return
		}
		for off := 0; off < n; off += 16 * page {
			access(unsafe.Add(p, off), min(page, n-off))
		}
		access(unsafe.Add(p, n-page), page)
	})
}

// regions calls f for every piece of caller memory that the kernel touches.
func (s *Spec) regions(f func(p unsafe.Pointer, n int)) {
	switch v := s.aux.(type) {
	case *vec:
		v.regions(f)
	case *Msg:
		v.vec.regions(f)
		if len(v.OOB) > 0 {
			f(bytes(v.OOB), len(v.OOB))
		}
	default:
		if s.mem != nil && s.len > 0 {
			f(s.mem, int(s.len))
		}
	}
}

func (v *vec) regions(f func(p unsafe.Pointer, n int)) {
	for i := range v.iov {
		if v.iov[i].Len > 0 {
			f(unsafe.Pointer(v.iov[i].Base), int(v.iov[i].Len))
		}
	}
}
