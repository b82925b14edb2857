package ops

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"

	"uringo/internal/ring"
)

var (
	kindRecvmsg = &Kind{Name: "recvmsg", Code: ring.OpRecvmsg, Prepare: prepareMsg, Writes: true, Bounded: true, Waits: true,
		NoWait: unix.MSG_DONTWAIT, Discard: discardMsg, Ready: readyRecv, PollFirst: ring.RecvSendPollFirst}
	kindSendmsg = &Kind{Name: "sendmsg", Code: ring.OpSendmsg, Prepare: prepareMsg, Gives: true, Bounded: true, NoWait: unix.MSG_DONTWAIT,
		Ready: readySend, PollFirst: ring.RecvSendPollFirst, Asks: true}
	kindSendmsgKnown = unasked(kindSendmsg)

	// With MSG_TRUNC the result is the size of the datagram, also where that exceeds the buffers.
	kindRecvmsgSize = &Kind{Name: "recvmsg", Code: ring.OpRecvmsg, Prepare: prepareMsg, Writes: true, Waits: true,
		NoWait: unix.MSG_DONTWAIT, Discard: discardMsg, Ready: readyRecv, PollFirst: ring.RecvSendPollFirst}
)

// Msg is a message to receive or to send: what it borrows from the caller, and what came with it. Its own memory can serve for one
// operation after the other, by its methods Recv and Send.
type Msg struct {
	Bufs [][]byte // the data, one after the other
	OOB  []byte   // ancillary data, see cmsg(3)

	vec  vec
	name sockaddr
	hdr  unix.Msghdr
	lent *ZeroCopy // of SendZC
}

// RecvMsg receives a message from the socket fd, once, into bufs, one after the other, and its ancillary data into oob; see [Recv]. Where
// it came from and what became of the rest, the [Msg] in the result tells. Descriptors that come with it are close-on-exec. The kernel
// writes to bufs and oob until the result is in. Kernel 5.3, recvmsg(2).
func RecvMsg(fd int, bufs [][]byte, oob []byte, flags int) Op[*Msg] {
	return new(Msg).Recv(fd, bufs, oob, flags)
}

// SendMsg sends bufs, one after the other, as one message with the ancillary data in oob on the socket fd, once; see [Send]. to is the
// destination, nil on a connected socket; its kinds are those of [Connect]. The kernel reads bufs and oob until the result is in.
// Kernel 5.3, sendmsg(2).
func SendMsg(fd int, bufs [][]byte, oob []byte, to unix.Sockaddr, flags int) Op[*Msg] {
	return new(Msg).Send(fd, bufs, oob, to, flags)
}

// Recv is [RecvMsg] with the memory of m, which no other operation may be using.
func (m *Msg) Recv(fd int, bufs [][]byte, oob []byte, flags int) Op[*Msg] {
	k := kindRecvmsg
	if flags&unix.MSG_TRUNC != 0 {
		k = kindRecvmsgSize
	}
	m.set(bufs, oob)
	m.name.len = uint32(unsafe.Sizeof(m.name.raw))
	return m.op(k, fd, flags|unix.MSG_CMSG_CLOEXEC, nil)
}

// Send is [SendMsg] with the memory of m, which no other operation may be using.
func (m *Msg) Send(fd int, bufs [][]byte, oob []byte, to unix.Sockaddr, flags int) Op[*Msg] {
	m.set(bufs, oob)
	m.name.len, m.lent = 0, nil
	var err error
	if to != nil {
		err = m.name.set(to)
	}
	return m.op(kindSendmsg, fd, flags|unix.MSG_NOSIGNAL, err)
}

// Limit has no more than n bytes of data be sent, of a message for a stream that [Msg.Send] has made and that is not on its way. n is positive.
func (m *Msg) Limit(n int) {
	if uint64(n) >= m.vec.total {
		return
	}
	m.vec.total, m.vec.asked = uint64(n), uint64(n)
	for i := range m.vec.iov {
		v := &m.vec.iov[i]
		if have := int(v.Len); have < n {
			n -= have
			continue
		}
		v.SetLen(n)
		m.vec.iov = m.vec.iov[:i+1]
		m.hdr.SetIovlen(i + 1)
		return
	}
}

func (m *Msg) set(bufs [][]byte, oob []byte) {
	m.Bufs, m.OOB = bufs, oob
	m.vec.set(bufs)
	m.hdr = unix.Msghdr{Iov: unsafe.SliceData(m.vec.iov), Control: unsafe.SliceData(oob)}
	m.hdr.SetIovlen(len(m.vec.iov))
	m.hdr.SetControllen(len(oob))
}

func (m *Msg) op(k *Kind, fd, flags int, err error) Op[*Msg] {
	m.hdr.Namelen = m.name.len
	if m.name.len > 0 {
		m.hdr.Name = (*byte)(unsafe.Pointer(&m.name.raw))
	}
	o := Op[*Msg]{Spec: Spec{Kind: k, FD: int32(fd), aux: m, opFlags: uint32(flags)}, Buf: m}
	if err != nil {
		o.aux = &invalid{err}
	} else if flags&unix.MSG_WAITALL != 0 {
		o.aux = badFlags
	}
	return o
}

func prepareMsg(s *Spec, e *ring.SQE) {
	m, ok := s.aux.(*Msg)
	if !ok {
		return
	}
	e.Addr = uint64(uintptr(unsafe.Pointer(&m.hdr)))
	e.Len = 1
	e.OpFlags = s.opFlags
}

// From returns where a received message came from: nil where sockets do not say, as with connected streams.
func (m *Msg) From() unix.Sockaddr {
	m.name.len = min(m.hdr.Namelen, uint32(unsafe.Sizeof(m.name.raw)))
	return m.name.sockaddr()
}

// FromAddrPort is From for internet addresses, and allocates nothing. The address has no zone; zone is the number of the interface, 0 if
// there is none. If the message came from no internet address, addr is not valid.
func (m *Msg) FromAddrPort() (addr netip.AddrPort, zone uint32) {
	m.name.len = min(m.hdr.Namelen, uint32(unsafe.Sizeof(m.name.raw)))
	return m.name.addrPort()
}

// OOBLen returns how many bytes of OOB were received.
func (m *Msg) OOBLen() int { return int(m.hdr.Controllen) }

// Flags returns what recvmsg(2) says of a received message: unix.MSG_TRUNC, MSG_CTRUNC and others.
func (m *Msg) Flags() int { return int(m.hdr.Flags) &^ unix.MSG_CMSG_CLOEXEC }

// discardMsg closes the descriptors that came with a message nobody will see.
func discardMsg(s *Spec, _ int32) {
	if m, ok := s.aux.(*Msg); ok {
		closeRights(m.OOB[:min(len(m.OOB), m.OOBLen())])
	}
}

// closeRights closes the descriptors in ancillary data.
func closeRights(oob []byte) {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return
	}
	for i := range msgs {
		for _, fd := range Descriptors(&msgs[i]) {
			_ = unix.Close(fd)
		}
	}
}

// Descriptors returns the descriptors that are in a received control message, and belong to who has it: those that were passed (SCM_RIGHTS),
// or one of the sender's process, on sockets that ask for it (SCM_PIDFD, kernel 6.5, unix(7)). Others have none.
func Descriptors(m *unix.SocketControlMessage) []int {
	if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SCM_PIDFD {
		if len(m.Data) < 4 {
			return nil
		}
		if fd := int32(binary.NativeEndian.Uint32(m.Data)); fd >= 0 { // else the number of an error
			return []int{int(fd)}
		}
		return nil
	}
	fds, _ := unix.ParseUnixRights(m) // of other kinds there are none
	return fds
}
