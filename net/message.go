package net

import (
	"context"
	"io"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"uringo/internal/handle"
	"uringo/ops"
)

// Message is a datagram, or a piece of a stream, with what comes beside the data: its address and control messages.
type Message struct {
	// Bufs is the data, or room for it, one after the other. OOB is the control messages (cmsg(3)), or room for them: [Control]
	// makes them, and [Message.Control] takes them apart.
	Bufs [][]byte
	OOB  []byte

	// Addr is where the message came from or is to go. A connected socket needs none, and one that is not for datagrams takes none
	// (EISCONN). Of received messages TCP tells none; others name the peer, if that has an address.
	Addr Addr

	// N and OOBN say how many bytes of data and of control messages were received.
	N, OOBN int

	// Flags is what recvmsg(2) says of a received message, see [Message.Truncated].
	Flags int
}

// Truncated reports whether the message was longer than the room for its data, so that its end is lost.
func (m *Message) Truncated() bool { return m.Flags&unix.MSG_TRUNC != 0 }

// ControlTruncated reports whether there were more control messages than there was room for.
func (m *Message) ControlTruncated() bool { return m.Flags&unix.MSG_CTRUNC != 0 }

// Rights returns the control message that passes descriptors over a Unix socket: for Message.OOB. The receiver gets descriptors of its
// own for the same files. unix(7).
func Rights(fds ...int) []byte { return unix.UnixRights(fds...) }

// RightsSpace is how many bytes of Message.OOB receive n descriptors.
func RightsSpace(n int) int { return unix.CmsgSpace(4 * n) }

// FDs returns the descriptors that came with a received message. They are close-on-exec and belong to the caller.
func (m *Message) FDs() ([]int, error) {
	c, err := m.Control()
	return c.FDs, err
}

// endpoint is a socket that sends and receives, as connections and sockets for packets do.
type endpoint struct{ socket }

// RecvMsg receives a message into m, once, waiting until there is one. The end of a stream is io.EOF, from which an empty packet differs only
// if it brings control messages. With an error that wraps driver.ErrAbandoned, m has lost its buffers: they stay with the kernel.
// Kernel 5.3, recvmsg(2).
func (s *endpoint) RecvMsg(ctx context.Context, m *Message) error { return s.recvMsg(ctx, m, 0) }

// PeekMsg is RecvMsg, but leaves the message to be received again. Descriptors in it are received each time. Kernel 5.3, recvmsg(2) with
// MSG_PEEK.
func (s *endpoint) PeekMsg(ctx context.Context, m *Message) error {
	return s.recvMsg(ctx, m, unix.MSG_PEEK)
}

func (s *endpoint) recvMsg(ctx context.Context, m *Message, flags int) error {
	peek, given, cut := flags&unix.MSG_PEEK != 0, 0, false
	give := func(left Received) { given, cut = giveControl(m.OOB, left.OOB(), peek) }
	if n, left, err, ok := s.leftoverMessage(ctx, flags, give, m.Bufs...); ok {
		if !peek {
			give(left)
		}
		m.N, m.OOBN, m.Flags, m.Addr = n, given, left.Flags(), left.Addr()
		if n < len(left.Bytes()) && s.net.typ != unix.SOCK_STREAM {
			m.Flags |= unix.MSG_TRUNC
		}
		if cut {
			m.Flags |= unix.MSG_CTRUNC
		}
		return s.fail("read", "recvmsg", err)
	}
	p := messages.Get().(*ops.Msg)
	n, err := s.receiveMessage(ctx, p, m.Bufs, m.OOB, flags, s.h.Free)
	m.N, m.OOBN, m.Flags, m.Addr = n, 0, 0, nil
	m.Bufs, m.OOB = handle.Back(m.Bufs, err), handle.Back(m.OOB, err)
	if err == nil {
		m.OOBN, m.Flags = p.OOBLen(), p.Flags()
		if from := p.From(); from != nil {
			m.Addr = s.net.address(from)
		}
	}
	recycle(&messages, p, err)
	return s.fail("read", "recvmsg", err)
}

// SendMsg sends m, once, waiting until there is room, and returns how many bytes of data were sent: on a stream it may be short. A packet
// is sent whole, and not from more than 1024 buffers: EMSGSIZE. On a Unix stream, control messages need data to go with: EINVAL. With an
// error that wraps driver.ErrAbandoned, m has lost its buffers: they stay with the kernel. Kernel 5.3, sendmsg(2).
func (s *endpoint) SendMsg(ctx context.Context, m *Message) (int, error) {
	p := messages.Get().(*ops.Msg)
	n, err := s.sendMessage(ctx, p, m.Bufs, m.OOB, m.Addr, s.h.Free)
	m.Bufs, m.OOB = handle.Back(m.Bufs, err), handle.Back(m.OOB, err)
	recycle(&messages, p, err)
	return n, s.fail("write", "sendmsg", err)
}

// Readv receives what there is into bufs, one after the other, once, and hands bufs back; see [Conn.Read]. Kernel 5.3, recvmsg(2).
func (c *Conn) Readv(ctx context.Context, bufs [][]byte) (int, [][]byte, error) {
	if lengthOf(bufs) == 0 {
		var err error
		if c.h.Closing() {
			err = ErrClosed
		}
		return 0, bufs, c.fail("read", "recvmsg", err)
	}
	if n, err, ok := c.leftover(ctx, 0, bufs...); ok {
		return n, bufs, c.fail("read", "recvmsg", c.endOfPackets(n, err))
	}
	p := messages.Get().(*ops.Msg)
	n, err := c.receiveMessage(ctx, p, bufs, nil, 0, c.h.Free)
	recycle(&messages, p, err)
	return n, handle.Back(bufs, err), c.fail("read", "recvmsg", err)
}

// Writev sends bufs, one after the other, once, and hands bufs back; see [Conn.Write]. It may be short. Kernel 5.3, sendmsg(2).
func (c *Conn) Writev(ctx context.Context, bufs [][]byte) (int, [][]byte, error) {
	p := messages.Get().(*ops.Msg)
	n, err := c.sendMessage(ctx, p, bufs, nil, nil, c.h.Free)
	recycle(&messages, p, err)
	return n, handle.Back(bufs, err), c.fail("write", "sendmsg", err)
}

// messages are for operations to come.
var messages = sync.Pool{New: func() any { return new(ops.Msg) }}

// recycle keeps the memory of an operation for one to come, unless the kernel has it still.
func recycle(pool *sync.Pool, memory any, err error) {
	if !handle.Abandoned(err) {
		pool.Put(memory)
	}
}

// receiveMessage receives once into bufs and oob, with the memory of p; see receive.
func (s *socket) receiveMessage(ctx context.Context, p *ops.Msg, bufs [][]byte, oob []byte, flags int, free func()) (int, error) {
	if err := s.whole(bufs); err != nil {
		return 0, err
	}
	if !s.h.Acquire() {
		return 0, ErrClosed
	}
	o := p.Recv(s.h.FD, bufs, oob, flags)
	n, err := s.try(ctx, OpRead, func() (int, error) { return ops.TryRecvMsg(&o) })
	if err == syscall.EAGAIN {
		n, err = onRing(ctx, o, free)
	}
	if err != nil {
		return n, s.h.Settle(err, ErrClosed)
	}
	s.h.Release()
	if n == 0 && s.nothingIsEnd() && lengthOf(bufs) > 0 && !(s.net.typ == unix.SOCK_SEQPACKET && p.OOBLen() > 0) {
		return 0, io.EOF // a packet may be empty and bring descriptors; the end brings nothing
	}
	return n, nil
}

// sendMessage sends bufs and oob once, to an address if there is one, with the memory of p; see send.
func (s *socket) sendMessage(ctx context.Context, p *ops.Msg, bufs [][]byte, oob []byte, to Addr, free func()) (int, error) {
	sa, err := s.destination(to)
	if err != nil {
		return 0, err
	}
	if err := s.whole(bufs); err != nil {
		return 0, err
	}
	if len(oob) > 0 && s.net.proto == "unix" && s.net.typ == unix.SOCK_STREAM && lengthOf(bufs) == 0 {
		return 0, syscall.EINVAL // the kernel would send nothing, and say that it did
	}
	if !s.h.Acquire() {
		return 0, ErrClosed
	}
	o := p.Send(s.h.FD, bufs, oob, sa, 0)
	if s.queuesAtPeer() {
		n, err := s.sendPatiently(ctx, func() (int, error) { return ops.TrySendMsg(&o) })
		return n, s.h.Settle(err, ErrClosed)
	}
	o.NotUnixgram()
	if s.much(lengthOf(bufs)) {
		if Route(pins[OpWrite].Load()) != Ring {
			p.Limit(portionInPlace(ctx))
			s.h.Release()
			return s.attemptMuch(ctx, func() (int, error) { return ops.TrySendMsg(&o) })
		}
		p.Limit(portionInRing(ctx))
	}
	n, err := s.try(ctx, OpWrite, func() (int, error) { return ops.TrySendMsg(&o) })
	if err == syscall.EAGAIN {
		n, err = onRing(ctx, o, free)
	}
	return n, s.h.Settle(err, ErrClosed)
}

// whole refuses a message in more pieces than one call takes, as the kernel does: what it would take of a packet is another packet.
func (s *socket) whole(bufs [][]byte) error {
	if s.net.typ != unix.SOCK_STREAM && len(bufs) > ops.MaxVec {
		return syscall.EMSGSIZE
	}
	return nil
}

func lengthOf(bufs [][]byte) (n int) {
	for _, b := range bufs {
		n += len(b)
	}
	return n
}
