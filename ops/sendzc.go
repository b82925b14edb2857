package ops

import (
	"golang.org/x/sys/unix"

	"uringo/internal/ring"
)

var (
	kindSendZC = &Kind{Name: "send_zc", Code: ring.OpSendZC, Prepare: prepareSendZC, Gives: true, Bounded: true, NoWait: unix.MSG_DONTWAIT,
		Ready: readySend, Performed: performedZC, Notify: notifyZC}
	kindSendmsgZC = &Kind{Name: "sendmsg_zc", Code: ring.OpSendmsgZC, Prepare: prepareSendmsgZC, Gives: true, Bounded: true, NoWait: unix.MSG_DONTWAIT,
		Ready: readySend, Performed: performedZC, Notify: notifyZC}
)

// ZeroCopy is about the memory of a [SendZC] or a [Msg.SendZC]. It is the operation's until the result is in.
type ZeroCopy struct {
	// Copied says whether the kernel made a copy all the same, as it does on the way to its own machine.
	Copied bool

	// Performed, if not nil, is called when the bytes are sent and only the memory is still in use, if that is before the result: the
	// descriptor may be closed from then on. It runs on the driver goroutine and must not block.
	Performed func()
}

// SendZC is [Send], but the kernel sends from b itself, without a copy, if the way to the peer allows it. The result is in when the kernel has
// let go of b: for TCP, when the peer has acknowledged the bytes, which no cancellation brings about. Then z tells more.
//
// Where zero copy is not to be had, errors say so: EOPNOTSUPP for the kind of socket (Unix), EINVAL for kernel 6.0 and 6.1, which cannot
// report, ENOMEM or ENOBUFS for the memory that may be pinned. Without the operation (before 6.0, the portable engine) it is Send.
// Kernel 6.2, io_uring_enter(2).
func SendZC(fd int, b []byte, flags int, z *ZeroCopy) Op[[]byte] {
	z.Copied = true
	var s Spec
	s.stream(kindSendZC, fd, b, flags|unix.MSG_NOSIGNAL)
	if s.aux == nil {
		s.aux = z
	}
	return Op[[]byte]{Spec: s, Buf: b}
}

func prepareSendZC(s *Spec, e *ring.SQE) {
	e.Addr = uint64(uintptr(s.mem))
	e.Len = s.len
	e.OpFlags = s.opFlags
	e.IoPrio = ring.SendZCReportUsage
}

// SendZC is [Msg.Send] without a copy of the data; see [SendZC]. The ancillary data is copied at once. Kernel 6.2, sendmsg(2),
// io_uring_enter(2).
func (m *Msg) SendZC(fd int, bufs [][]byte, oob []byte, to unix.Sockaddr, flags int, z *ZeroCopy) Op[*Msg] {
	z.Copied = true
	o := m.Send(fd, bufs, oob, to, flags)
	o.Kind = kindSendmsgZC
	m.lent = z
	return o
}

func prepareSendmsgZC(s *Spec, e *ring.SQE) {
	prepareMsg(s, e)
	e.IoPrio = ring.SendZCReportUsage
}

// lent returns what is known of the memory of a zero-copy send.
func (s *Spec) lent() *ZeroCopy {
	if m, ok := s.aux.(*Msg); ok {
		return m.lent
	}
	return s.aux.(*ZeroCopy)
}

func performedZC(s *Spec) {
	if z := s.lent(); z.Performed != nil {
		z.Performed()
	}
}

func notifyZC(s *Spec, res int32) { s.lent().Copied = uint32(res)&ring.NotifCopied != 0 }
