package net

import (
	"encoding/binary"
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"

	"uringo/ops"
)

// Control is what comes beside the data of a message, taken apart: cmsg(3). Of a message to send, what is zero is left to the socket.
type Control struct {
	// FDs are the descriptors that a message on a Unix socket passes. Those received are close-on-exec and belong to the caller.
	// SCM_RIGHTS, unix(7).
	FDs []int

	// Credentials are those of the sender on a Unix socket, received after [Conn.SetPassCredentials]. SCM_CREDENTIALS, unix(7).
	Credentials *Credentials

	// SegmentSize is the length in bytes of the UDP datagrams that the data is cut into, the last of which may be shorter: so that
	// one call sends many (UDP_SEGMENT, kernel 4.18), or has received many (UDP_GRO, kernel 5.0, see [PacketConn.SetGRO]). They are
	// at most 64, and all data at most 65507 bytes. udp(7).
	SegmentSize int

	// Local is this machine's address: the one a UDP datagram was sent to, or is to come from. Interface is the number of the
	// network interface on the way. Received after [PacketConn.SetReceiveInfo]. From a socket for both families to IPv4 the kernel refuses
	// an Interface without a Local of that family (EINVAL): 0.0.0.0 leaves the address to it. IP_PKTINFO, ip(7); IPV6_PKTINFO, ipv6(7).
	Local     netip.Addr
	Interface int

	// HopLimit is how many routers a datagram may pass, or might still have passed. TrafficClass is that of IPv6, or the type of
	// service of IPv4; its lower two bits are the congestion notification (ECN). Received after [PacketConn.SetReceiveInfo].
	HopLimit     int
	TrafficClass int
}

// ControlSpace is how many bytes of Message.OOB receive everything in a [Control] but descriptors; for those, add [RightsSpace].
const ControlSpace = 256

// Append adds the control messages to b, which then serves as the Message.OOB of a message to send.
func (c *Control) Append(b []byte) []byte {
	if len(c.FDs) > 0 {
		b = append(b, unix.UnixRights(c.FDs...)...)
	}
	if c.Credentials != nil {
		u := unix.Ucred{Pid: int32(c.Credentials.PID), Uid: uint32(c.Credentials.UID), Gid: uint32(c.Credentials.GID)}
		b = append(b, unix.UnixCredentials(&u)...)
	}
	if c.SegmentSize > 0 {
		size := uint16(min(c.SegmentSize, 0xffff)) // no datagram is longer
		b = appendControl(b, unix.SOL_UDP, unix.UDP_SEGMENT, binary.NativeEndian.AppendUint16(nil, size))
	}
	switch local := c.Local.Unmap(); {
	case local.Is4():
		b = append(b, unix.PktInfo4(&unix.Inet4Pktinfo{Ifindex: int32(c.Interface), Spec_dst: local.As4()})...)
	case local.Is6():
		b = append(b, unix.PktInfo6(&unix.Inet6Pktinfo{Ifindex: uint32(c.Interface), Addr: local.As16()})...)
	case c.Interface != 0:
		b = append(b, unix.PktInfo4(&unix.Inet4Pktinfo{Ifindex: int32(c.Interface)})...)
		b = append(b, unix.PktInfo6(&unix.Inet6Pktinfo{Ifindex: uint32(c.Interface)})...)
	}
	// Each family takes its own and skips the other's, and which one it will be, only the destination tells.
	if c.HopLimit != 0 {
		b = appendControl(b, unix.SOL_IP, unix.IP_TTL, number(c.HopLimit))
		b = appendControl(b, unix.SOL_IPV6, unix.IPV6_HOPLIMIT, number(c.HopLimit))
	}
	if c.TrafficClass != 0 {
		b = appendControl(b, unix.SOL_IP, unix.IP_TOS, number(c.TrafficClass))
		b = appendControl(b, unix.SOL_IPV6, unix.IPV6_TCLASS, number(c.TrafficClass))
	}
	return b
}

func number(n int) []byte { return binary.NativeEndian.AppendUint32(nil, uint32(n)) }

// appendControl adds one control message, padded so that another may follow.
func appendControl(b []byte, level, typ int, data []byte) []byte {
	end := len(b) + unix.CmsgSpace(len(data))
	if n := unix.CmsgLen(len(data)); strconv.IntSize == 64 { // the length is a size_t
		b = binary.NativeEndian.AppendUint64(b, uint64(n))
	} else {
		b = binary.NativeEndian.AppendUint32(b, uint32(n))
	}
	b = binary.NativeEndian.AppendUint32(b, uint32(level))
	b = binary.NativeEndian.AppendUint32(b, uint32(typ))
	b = append(b, data...)
	return append(b, make([]byte, end-len(b))...)
}

// giveControl moves the control messages in from to room for them, as far as they fit, and returns how many bytes they take, and whether
// some did not fit: descriptors in those are closed. If they are to stay in from, too, the descriptors are duplicated.
func giveControl(room, from []byte, stay bool) (n int, cut bool) {
	msgs, err := unix.ParseSocketControlMessage(from)
	if err != nil {
		return 0, true
	}
	for i := range msgs {
		m := &msgs[i]
		fds := ops.Descriptors(m)
		fits := n+unix.CmsgLen(len(m.Data)) <= len(room)
		if fits && stay && len(fds) > 0 {
			fds, fits = duplicated(fds)
			m.Data = unix.UnixRights(fds...)[unix.CmsgLen(0):][:4*len(fds)] // one of SCM_PIDFD looks the same
		}
		switch {
		case fits:
			n += copy(room[n:], appendControl(nil, int(m.Header.Level), int(m.Header.Type), m.Data))
		default:
			cut = true
			if !stay {
				closeFiles(fds)
			}
		}
	}
	return n, cut
}

// duplicated returns descriptors of the same files, of all or none.
func duplicated(fds []int) ([]int, bool) {
	var dups []int
	for _, fd := range fds {
		dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			closeFiles(dups)
			return nil, false
		}
		dups = append(dups, dup)
	}
	return dups, true
}

func closeFiles(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd) // nobody wants them
	}
}

// Control takes the control messages of a received message apart. Those of other kinds are skipped; they are in Message.OOB.
func (m *Message) Control() (Control, error) { return parseControl(m.OOB[:m.OOBN]) }

func parseControl(oob []byte) (Control, error) {
	var c Control
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return c, sysError("cmsg", err)
	}
	for i := range msgs {
		if err := c.add(&msgs[i]); err != nil {
			return c, sysError("cmsg", err)
		}
	}
	return c, nil
}

func (c *Control) add(m *unix.SocketControlMessage) error {
	type kind struct{ level, typ int32 }
	switch (kind{m.Header.Level, m.Header.Type}) {
	case kind{unix.SOL_SOCKET, unix.SCM_RIGHTS}:
		fds, err := unix.ParseUnixRights(m)
		c.FDs = append(c.FDs, fds...)
		return err
	case kind{unix.SOL_SOCKET, unix.SCM_CREDENTIALS}:
		u, err := unix.ParseUnixCredentials(m)
		if err != nil {
			return err
		}
		from := credentials(u)
		c.Credentials = &from
	case kind{unix.SOL_UDP, unix.UDP_GRO}:
		return readNumber(m.Data, &c.SegmentSize)
	case kind{unix.SOL_IP, unix.IP_TTL}, kind{unix.SOL_IPV6, unix.IPV6_HOPLIMIT}:
		return readNumber(m.Data, &c.HopLimit)
	case kind{unix.SOL_IPV6, unix.IPV6_TCLASS}:
		return readNumber(m.Data, &c.TrafficClass)
	case kind{unix.SOL_IP, unix.IP_TOS}:
		if len(m.Data) == 0 {
			return unix.EINVAL
		}
		c.TrafficClass = int(m.Data[0])
	case kind{unix.SOL_IP, unix.IP_PKTINFO}: // struct in_pktinfo: interface, local address, destination
		if len(m.Data) < unix.SizeofInet4Pktinfo {
			return unix.EINVAL
		}
		c.Interface = int(binary.NativeEndian.Uint32(m.Data))
		c.Local = netip.AddrFrom4([4]byte(m.Data[8:12]))
	case kind{unix.SOL_IPV6, unix.IPV6_PKTINFO}: // struct in6_pktinfo: address, interface
		if len(m.Data) < unix.SizeofInet6Pktinfo {
			return unix.EINVAL
		}
		c.Local = netip.AddrFrom16([16]byte(m.Data)).Unmap()
		c.Interface = int(binary.NativeEndian.Uint32(m.Data[16:]))
	}
	return nil
}

// readNumber reads a number of 32 bits.
func readNumber(data []byte, n *int) error {
	if len(data) < 4 {
		return unix.EINVAL
	}
	*n = int(int32(binary.NativeEndian.Uint32(data)))
	return nil
}
