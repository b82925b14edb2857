package ops

import "uringo/internal/ring"

var kindPollAdd = &Kind{Name: "poll_add", Code: ring.OpPollAdd, Waits: true}

// PollAdd waits until fd is ready for one of the events (unix.POLLIN, POLLOUT, …), once. N holds the events that were found, with
// POLLERR and POLLHUP among them unasked. Kernel 5.1, poll(2).
func PollAdd(fd int, events uint32) Op[struct{}] {
	return Op[struct{}]{Spec: Spec{Kind: kindPollAdd, FD: int32(fd), opFlags: events}}
}
