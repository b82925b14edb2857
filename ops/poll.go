package ops

import (
	"golang.org/x/sys/unix"

	"uringo/internal/ring"
)

var kindPollAdd = &Kind{Name: "poll_add", Code: ring.OpPollAdd, Waits: true, Result: resultPoll, InVain: inVainPoll}

// PollAdd waits until fd is ready for one of the events (unix.POLLIN, POLLOUT, …), once. N holds the events that were found, with
// POLLERR and POLLHUP among them unasked. Kernel 5.1, poll(2).
func PollAdd(fd int, events uint32) Op[struct{}] {
	return Op[struct{}]{Spec: Spec{Kind: kindPollAdd, FD: int32(fd), opFlags: events}}
}

// seen returns those of the events found that were asked for, or need not be. The ring's poll tells, and ends for, POLLRDHUP, too: that a peer
// sends no more, who for that long may not take anything either.
func (s *Spec) seen(res int32) uint32 {
	return uint32(res) & (s.opFlags | unix.POLLERR | unix.POLLHUP | unix.POLLNVAL)
}

func resultPoll(s *Spec, res int32) int { return int(s.seen(res)) }

func inVainPoll(s *Spec, res int32) bool { return s.seen(res) == 0 }
