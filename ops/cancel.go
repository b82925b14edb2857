package ops

import "uringo/internal/ring"

var kindCancel = &Kind{Name: "async_cancel", Code: ring.OpAsyncCancel, Prepare: prepareCancel}

// CancelData cancels the request with the given user data. ENOENT means that there is none any more, EALREADY that it is running and
// may or may not be stopped. Only the request's own completion says what became of it. Kernel 5.5.
func CancelData(data uint64) Op[struct{}] {
	return Op[struct{}]{Spec: Spec{Kind: kindCancel, FD: -1, off: data}}
}

// CancelFD cancels all requests on fd, which must still be open: after close it is EBADF, and the requests go on. N is how many were
// found. Timeouts have no descriptor and are not among them, nor are operations on names below the directory fd. Kernel 5.19.
func CancelFD(fd int) Op[struct{}] {
	return Op[struct{}]{Spec: Spec{Kind: kindCancel, FD: int32(fd), opFlags: ring.CancelFD | ring.CancelAll}}
}

// CancelAny cancels all requests of the ring. N is how many were found. Kernel 5.19.
func CancelAny() Op[struct{}] {
	return Op[struct{}]{Spec: Spec{Kind: kindCancel, FD: -1, opFlags: ring.CancelAny | ring.CancelAll}}
}

func prepareCancel(s *Spec, e *ring.SQE) {
	e.Addr = s.off
	e.OpFlags = s.opFlags
}
