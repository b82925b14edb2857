package ops

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sockaddr is an address as the kernel reads and writes it, with room for any.
type sockaddr struct {
	raw unix.RawSockaddrAny
	len uint32
}

// sunPath is where the name begins in the address of a Unix socket.
const sunPath = unsafe.Offsetof(unix.RawSockaddrUnix{}.Path)

// newSockaddr returns the kernel's form of an address.
func newSockaddr(addr unix.Sockaddr) (*sockaddr, error) {
	a := new(sockaddr)
	return a, a.set(addr)
}

func (a *sockaddr) set(addr unix.Sockaddr) error {
	a.raw = unix.RawSockaddrAny{}
	switch sa := addr.(type) {
	case *unix.SockaddrInet4:
		in := (*unix.RawSockaddrInet4)(unsafe.Pointer(&a.raw))
		in.Family = unix.AF_INET
		in.Addr = sa.Addr
		a.len = uint32(unsafe.Sizeof(*in))
		return setPort(&in.Port, sa.Port)
	case *unix.SockaddrInet6:
		in := (*unix.RawSockaddrInet6)(unsafe.Pointer(&a.raw))
		in.Family = unix.AF_INET6
		in.Addr = sa.Addr
		in.Scope_id = sa.ZoneId
		a.len = uint32(unsafe.Sizeof(*in))
		return setPort(&in.Port, sa.Port)
	case *unix.SockaddrUnix:
		return a.setUnix(sa.Name)
	}
	return syscall.EAFNOSUPPORT
}

// setPort writes a port in the order of the network.
func setPort(field *uint16, port int) error {
	if port < 0 || port > 0xffff {
		return syscall.EINVAL
	}
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(field))[:], uint16(port))
	return nil
}

func port(field *uint16) uint16 { return binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(field))[:]) }

// setUnix writes the name of a Unix socket. One that begins with @ or NUL is abstract, and has no NUL at its end; an empty one is no
// name at all.
func (a *sockaddr) setUnix(name string) error {
	un := (*unix.RawSockaddrUnix)(unsafe.Pointer(&a.raw))
	un.Family = unix.AF_UNIX
	a.len = uint32(sunPath)
	if name == "" {
		return nil
	}
	if len(name) > len(un.Path) {
		return syscall.EINVAL
	}
	if CutsPath(name) {
		return syscall.EINVAL
	}
	for i := range len(name) {
		un.Path[i] = int8(name[i])
	}
	a.len += uint32(len(name))
	if name[0] == '@' || name[0] == 0 {
		un.Path[0] = 0
		return nil
	}
	if len(name) == len(un.Path) {
		return syscall.EINVAL
	}
	a.len++
	return nil
}

// sockaddr returns the address, nil if there is none or it is of a family that is not ours.
func (a *sockaddr) sockaddr() unix.Sockaddr {
	if a.len < uint32(unsafe.Sizeof(a.raw.Addr.Family)) {
		return nil
	}
	switch a.raw.Addr.Family {
	case unix.AF_INET:
		in := (*unix.RawSockaddrInet4)(unsafe.Pointer(&a.raw))
		return &unix.SockaddrInet4{Port: int(port(&in.Port)), Addr: in.Addr}
	case unix.AF_INET6:
		in := (*unix.RawSockaddrInet6)(unsafe.Pointer(&a.raw))
		return &unix.SockaddrInet6{Port: int(port(&in.Port)), ZoneId: in.Scope_id, Addr: in.Addr}
	case unix.AF_UNIX:
		return &unix.SockaddrUnix{Name: a.unixName()}
	}
	return nil
}

// unixName returns the name of a Unix socket, with @ for the NUL that begins an abstract one.
func (a *sockaddr) unixName() string {
	un := (*unix.RawSockaddrUnix)(unsafe.Pointer(&a.raw))
	n := int(a.len) - int(sunPath)
	if n <= 0 {
		return ""
	}
	name := make([]byte, min(n, len(un.Path)))
	for i := range name {
		name[i] = byte(un.Path[i])
	}
	if name[0] == 0 {
		name[0] = '@'
		return string(name)
	}
	return unix.ByteSliceToString(name)
}

// addrPort returns an internet address and its zone without allocating. The address is invalid if it is not one.
func (a *sockaddr) addrPort() (addr netip.AddrPort, zone uint32) {
	if a.len < uint32(unsafe.Sizeof(a.raw.Addr.Family)) {
		return addr, 0
	}
	switch a.raw.Addr.Family {
	case unix.AF_INET:
		in := (*unix.RawSockaddrInet4)(unsafe.Pointer(&a.raw))
		return netip.AddrPortFrom(netip.AddrFrom4(in.Addr), port(&in.Port)), 0
	case unix.AF_INET6:
		in := (*unix.RawSockaddrInet6)(unsafe.Pointer(&a.raw))
		return netip.AddrPortFrom(netip.AddrFrom16(in.Addr), port(&in.Port)), in.Scope_id
	}
	return addr, 0
}

// CutsPath reports whether name is the path of a Unix socket with a NUL inside: the kernel would see another path than the caller. Abstract
// names may have any bytes, unix(7).
func CutsPath(name string) bool {
	return strings.IndexByte(name, 0) > 0 && name[0] != '@' && name[0] != 0
}
