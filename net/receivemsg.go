package net

import (
	"context"
	"io"
	"iter"
	"net/netip"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/executor"
	"uringo/ops"
)

// Received is a message that arrived in a buffer of a [driver.BufferRing], with its address and control messages. It is its reader's until
// Release. Copies of it are the same message.
type Received struct {
	chunk driver.Chunk
	room  ops.Room // zero: there is nothing beside the data
	net   *network
}

// plain is data without anything beside it.
func plain(b []byte) Received { return Received{chunk: driver.ChunkOf(b)} }

// parts takes the message apart. Without anything beside the data it has none.
func (m Received) parts() (a ops.Arrival) {
	if m.room != (ops.Room{}) {
		a = m.room.Parse(m.chunk.Bytes())
	}
	return a
}

// Bytes returns the data. It must not be used after Release.
func (m Received) Bytes() []byte {
	if m.room == (ops.Room{}) {
		return m.chunk.Bytes()
	}
	return m.parts().Data()
}

// Release gives the buffer back, see [driver.Chunk.Release]. It closes no descriptors: those are the reader's.
func (m Received) Release() { m.chunk.Release() }

// Addr returns where the message came from: nil with TCP, and if the sender has no address.
func (m Received) Addr() Addr {
	if sa := m.parts().From(); sa != nil {
		return m.net.address(sa)
	}
	return nil
}

// AddrPort is Addr for UDP, and allocates nothing. An IPv4 address on a socket for both families is IPv4. For others it is not valid.
func (m Received) AddrPort() netip.AddrPort { return withZone(m.parts().FromAddrPort()) }

// Flags returns what recvmsg(2) says of the message, see [Received.Truncated].
func (m Received) Flags() int { return m.parts().Flags() }

// Truncated reports whether the message was longer than the room for its data, so that its end is lost.
func (m Received) Truncated() bool { return m.Flags()&unix.MSG_TRUNC != 0 }

// ControlTruncated reports whether there were more control messages than there was room for.
func (m Received) ControlTruncated() bool { return m.Flags()&unix.MSG_CTRUNC != 0 }

// OOB returns the control messages (cmsg(3)). It must not be used after Release.
func (m Received) OOB() []byte { return m.parts().OOB() }

// Control takes the control messages apart. Those of other kinds are skipped; they are in OOB. Descriptors among them are close-on-exec
// and belong to the reader, whether or not this is called.
func (m Received) Control() (Control, error) { return parseControl(m.OOB()) }

// discard closes the descriptors of a message that nobody wants.
func (m Received) discard() { m.parts().Discard() }

// Receives returns an iterator over the datagrams that arrive, for range. The socket has no buffer while nothing arrives: the kernel takes one
// from the ring of buffers, which any number of sockets share; nil means the driver's own, see [driver.Driver.Buffers]. Every message
// belongs to the loop's body, which releases it, at once or later and from wherever it likes:
//
//	for m, err := range c.Receives(ctx, nil) {
//		if err != nil {
//			return err
//		}
//		handle(m.Bytes(), m.AddrPort())
//		m.Release()
//	}
//
// A buffer holds the datagram, its address and its control messages: of its bytes 304 are not for the data with UDP, and 1416 with
// Unix sockets, where all descriptors that one message may bring find room. A datagram that is longer than the rest loses its end, and says
// so ([Received.Truncated]); after [PacketConn.SetGRO] that may be several, of up to 64 KiB together. Incremental buffers are refused, as
// their ends might cut datagrams.
//
// The iteration ends with an error, which is the last thing that it brings: that of ctx when that ends, [ErrClosed] when the socket is
// closed, and what else there may be. However it ends, no datagram that was received is lost: what was not given to the body comes next, from RecvFrom
// and its like, or from another Receives. While an iteration is on, receiving in other ways fails. A body that is slow leaves datagrams in
// the socket, see [Conn.Receives]; those for which the socket has no room the kernel drops, as always.
//
// One request of the ring receives until the iteration ends (multishot). Allocates nothing for each datagram. Kernel 6.0; before it, and
// on the portable engine, it does the same with one request after the other. recvmsg(2).
func (c *PacketConn) Receives(ctx context.Context, from *driver.BufferRing) iter.Seq2[Received, error] {
	return c.messages(ctx, from)
}

// ReceivesMsg is [Conn.Receives] with what comes beside the data: descriptors and credentials on Unix sockets, control messages and
// truncation of datagrams; see [PacketConn.Receives]. The iteration ends without an error at the end of the stream.
func (c *Conn) ReceivesMsg(ctx context.Context, from *driver.BufferRing) iter.Seq2[Received, error] {
	return c.messages(ctx, from)
}

func (s *endpoint) messages(ctx context.Context, from *driver.BufferRing) iter.Seq2[Received, error] {
	return func(yield func(Received, error) bool) {
		in := s.mailbox()
		if err := in.begin(); err != nil {
			yield(Received{}, s.fail("read", "recvmsg", err))
			return
		}
		defer in.end()
		for m, ok := in.next(ctx); ok; m, ok = in.next(ctx) {
			if !yield(m, nil) {
				return
			}
		}
		room := s.room()
		str, err := s.incoming(ctx, from, in, room)
		if err != nil {
			yield(Received{}, s.fail("read", "recvmsg", err))
			return
		}
		defer s.stopReceiving(ctx, str, in, room)
		s.follow(in, str)
		for {
			chunk, err := executor.Next(ctx, str)
			m := Received{chunk, room, s.net}
			if s.hastened(err) {
				m, err = s.rest(ctx, room)
			}
			if err == io.EOF {
				return
			}
			in.told = err
			if !yield(m, s.fail("read", "recvmsg", s.reason(err))) || err != nil {
				return
			}
		}
	}
}

// room is for all that may come beside the data.
func (s *socket) room() ops.Room {
	const maxRights = 253 // SCM_MAX_FD
	if s.net.proto != "unix" {
		return ops.Room{Name: 32, OOB: ControlSpace}
	}
	return ops.Room{Name: 112, OOB: ControlSpace + uint32(RightsSpace(maxRights))}
}
