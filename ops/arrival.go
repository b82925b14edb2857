package ops

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"

	"uringo/internal/ring"
)

// Room says how much of a buffer that receives a message is for what comes beside the data: its address, and ancillary data. A buffer
// then holds, one after the other, a header, the address, the ancillary data, and the data: as the kernel lays messages out that it
// receives by multishot (struct io_uring_recvmsg_out).
type Room struct {
	Name, OOB uint32 // bytes; multiples of 8 keep the parts aligned
}

// arrivalHeader is struct io_uring_recvmsg_out: the lengths of address, ancillary data and data, and the flags, 32 bits each. Lengths may
// exceed the room: then the end is lost.
const arrivalHeader = 16

// Head is how many bytes of a buffer precede the data. It must not be larger than the buffer.
func (r Room) Head() int { return arrivalHeader + int(r.Name) + int(r.OOB) }

// Parse takes apart what was received into b, whose length is what the result of the operation says.
func (r Room) Parse(b []byte) Arrival { return Arrival{b, r} }

// Arrival is a received message with what came beside it, in one piece of memory. Without that memory it is an empty message.
type Arrival struct {
	mem  []byte
	room Room
}

func (a Arrival) field(i int) uint32 {
	if len(a.mem) < arrivalHeader {
		return 0
	}
	return binary.NativeEndian.Uint32(a.mem[4*i:])
}

// part returns the first n bytes, at most, of what lies in a room.
func (a Arrival) part(from int, room, n uint32) []byte {
	from = min(from, len(a.mem))
	to := min(from+int(min(room, n)), len(a.mem))
	return a.mem[from:to:to]
}

// Data returns the data of the message.
func (a Arrival) Data() []byte {
	return a.mem[min(a.room.Head(), len(a.mem)):]
}

// OOB returns the ancillary data, see cmsg(3). Descriptors in it are the reader's.
func (a Arrival) OOB() []byte {
	return a.part(arrivalHeader+int(a.room.Name), a.room.OOB, a.field(1))
}

// Flags returns what recvmsg(2) says of the message: unix.MSG_TRUNC, MSG_CTRUNC and others.
func (a Arrival) Flags() int { return int(a.field(3)) &^ unix.MSG_CMSG_CLOEXEC }

// From returns where the message came from: nil where sockets do not say, as with connected streams.
func (a Arrival) From() unix.Sockaddr {
	s := a.sockaddr()
	return s.sockaddr()
}

// FromAddrPort is From for internet addresses, and allocates nothing; see [Msg.FromAddrPort].
func (a Arrival) FromAddrPort() (addr netip.AddrPort, zone uint32) {
	s := a.sockaddr()
	return s.addrPort()
}

func (a Arrival) sockaddr() (s sockaddr) {
	name := a.part(arrivalHeader, a.room.Name, a.field(0))
	raw := (*[unsafe.Sizeof(s.raw)]byte)(unsafe.Pointer(&s.raw))
	s.len = uint32(copy(raw[:], name))
	return s
}

// Discard closes the descriptors that came with a message nobody wants.
func (a Arrival) Discard() { closeRights(a.OOB()) }

var (
	kindRecvMsgGroup = &Kind{Name: "recvmsg_multi", Code: ring.OpRecvmsg, Prepare: prepareRecvMsgGroup, Waits: true,
		NoWait: unix.MSG_DONTWAIT, Ready: readyRecv}
)

// Arrivals is the memory of operations that receive messages from a socket into buffers with room, one after the other. It is for the
// driver, which knows the buffers: see driver.RecvMsgMulti.
type Arrivals struct {
	Room
	fd, flags int
	hdr       unix.Msghdr
	name      sockaddr
	iov       unix.Iovec
	oob       []byte
	msg       Msg
	bufs      [1][]byte
	into      bool // Into, not Once, was last
}

// NewArrivals returns memory for receiving messages from the socket fd. flags are as with [Recv].
func NewArrivals(fd int, r Room, flags int) *Arrivals {
	return &Arrivals{Room: r, fd: fd, flags: flags | unix.MSG_CMSG_CLOEXEC}
}

// Many receives again and again (multishot) into buffers of a group of provided ones. The kernel lays the messages out. Kernel 6.0.
func (a *Arrivals) Many(group uint16) Spec {
	a.hdr = unix.Msghdr{Namelen: a.Name}
	a.hdr.SetControllen(int(a.OOB))
	s := a.spec(group)
	s.len = multishot
	return s
}

// Once receives once into a buffer of a group of provided ones, which have size bytes each. [Arrivals.Arrange] lays the message out.
// Kernel 5.19.
func (a *Arrivals) Once(group uint16, size int) Spec {
	if a.oob == nil {
		a.oob = make([]byte, a.OOB)
	}
	a.into = false
	a.iov.SetLen(max(0, size-a.Head()))
	a.hdr = unix.Msghdr{Name: (*byte)(unsafe.Pointer(&a.name.raw)), Namelen: uint32(unsafe.Sizeof(a.name.raw)), Iov: &a.iov,
		Control: unsafe.SliceData(a.oob)}
	a.hdr.SetIovlen(1)
	a.hdr.SetControllen(len(a.oob))
	return a.spec(group)
}

func (a *Arrivals) spec(group uint16) Spec {
	return Spec{Kind: kindRecvMsgGroup, FD: int32(a.fd), off: uint64(group), opFlags: uint32(a.flags), Flags: ring.SQEBufferSelect, aux: a}
}

func prepareRecvMsgGroup(s *Spec, e *ring.SQE) {
	if s.len&multishot != 0 {
		e.IoPrio |= ring.RecvMultishot
	}
	e.Addr = uint64(uintptr(unsafe.Pointer(&s.aux.(*Arrivals).hdr)))
	e.Len = 1
	e.BufIndex = uint16(s.off)
	e.OpFlags = s.opFlags
}

// Into receives once into b, or says EAGAIN when there is nothing. [Arrivals.Arrange] lays the message out.
func (a *Arrivals) Into(b []byte) Spec {
	a.into = true
	from, to := min(arrivalHeader+int(a.Name), len(b)), min(a.Head(), len(b))
	a.bufs[0] = b[to:]
	return a.msg.Recv(a.fd, a.bufs[:], b[from:to], a.flags|unix.MSG_DONTWAIT).Spec
}

// Arrange lays out what Into received into b, or Once into the provided buffer b: n bytes of data. It returns the part of b that holds
// the message.
func (a *Arrivals) Arrange(b []byte, n int) []byte {
	head := a.Head()
	n = max(0, min(n, len(b)-head))
	hdr, name := &a.hdr, &a.name
	if a.into {
		hdr, name = &a.msg.hdr, &a.msg.name
	} else {
		copy(b[head:head+n], b[:n])
		copy(b[arrivalHeader+a.Name:head], a.oob[:min(int(hdr.Controllen), len(a.oob))])
	}
	raw := (*[unsafe.Sizeof(name.raw)]byte)(unsafe.Pointer(&name.raw))
	copy(b[arrivalHeader:arrivalHeader+a.Name], raw[:min(int(hdr.Namelen), len(raw))])
	for i, v := range [...]uint32{hdr.Namelen, uint32(hdr.Controllen), uint32(n), uint32(hdr.Flags)} {
		binary.NativeEndian.PutUint32(b[4*i:], v)
	}
	return b[:head+n]
}
