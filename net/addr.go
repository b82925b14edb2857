package net

import (
	"context"
	stdnet "net"
	"net/netip"
	"slices"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"uringo/executor"
	"uringo/ops"
)

// network is what the name of a network means. Each is in networks, and nowhere else.
type network struct {
	name  string
	proto string // "tcp", "udp" or "unix"
	typ   int    // SOCK_*
	only  byte   // '4' or '6': one family of IP; 0 for both
}

var networks = []network{
	{"tcp", "tcp", unix.SOCK_STREAM, 0},
	{"tcp4", "tcp", unix.SOCK_STREAM, '4'},
	{"tcp6", "tcp", unix.SOCK_STREAM, '6'},
	{"udp", "udp", unix.SOCK_DGRAM, 0},
	{"udp4", "udp", unix.SOCK_DGRAM, '4'},
	{"udp6", "udp", unix.SOCK_DGRAM, '6'},
	{"unix", "unix", unix.SOCK_STREAM, 0},
	{"unixpacket", "unix", unix.SOCK_SEQPACKET, 0},
	{"unixgram", "unix", unix.SOCK_DGRAM, 0},
}

func networkNamed(name string) (*network, error) {
	i := slices.IndexFunc(networks, func(n network) bool { return n.name == name })
	if i < 0 {
		return nil, stdnet.UnknownNetworkError(name)
	}
	return &networks[i], nil
}

// networkOf returns the network of a socket's domain and type.
func networkOf(domain, typ int) (*network, error) {
	proto := "unix"
	switch {
	case domain != unix.AF_UNIX && domain != unix.AF_INET && domain != unix.AF_INET6:
		return nil, unix.EAFNOSUPPORT
	case domain != unix.AF_UNIX && typ == unix.SOCK_STREAM:
		proto = "tcp"
	case domain != unix.AF_UNIX:
		proto = "udp"
	}
	i := slices.IndexFunc(networks, func(n network) bool { return n.proto == proto && n.typ == typ })
	if i < 0 {
		return nil, unix.ESOCKTNOSUPPORT
	}
	return &networks[i], nil
}

// has reports whether an address is of the network's kind.
func (n *network) has(a Addr) bool {
	switch a.(type) {
	case *TCPAddr:
		return n.proto == "tcp"
	case *UDPAddr:
		return n.proto == "udp"
	case *UnixAddr:
		return n.proto == "unix"
	}
	return false
}

// takes reports whether addresses like ip are of the network.
func (n *network) takes(ip netip.Addr) bool {
	return n.only == 0 || ip.Is4() == (n.only == '4')
}

// lookup is what to ask a resolver for: not for a family that nobody wants, whose servers may be slow.
func (n *network) lookup() string {
	if n.only == 0 {
		return "ip"
	}
	return "ip" + string(n.only)
}

// addr makes an address of the network, in one piece of memory.
func (n *network) addr(ip netip.Addr, port int) Addr {
	if n.proto == "udp" {
		a := &struct {
			UDPAddr
			ip [16]byte
		}{UDPAddr: UDPAddr{Port: port, Zone: ip.Zone()}}
		a.IP = put(&a.ip, ip)
		return &a.UDPAddr
	}
	a := &struct {
		TCPAddr
		ip [16]byte
	}{TCPAddr: TCPAddr{Port: port, Zone: ip.Zone()}}
	a.IP = put(&a.ip, ip)
	return &a.TCPAddr
}

// put returns an address in the form of package net, with its bytes in b. One that is not valid is nil.
func put(b *[16]byte, ip netip.Addr) stdnet.IP {
	switch {
	case ip.Is4():
		four := ip.As4()
		return b[:copy(b[:], four[:]):4]
	case ip.IsValid():
		*b = ip.As16()
		return b[:]
	}
	return nil
}

// resolve returns the addresses that a name stands for, the best first; for an empty host one without an IP. Names are looked up by r,
// on a goroutine of its own.
func (n *network) resolve(ctx context.Context, r *stdnet.Resolver, address string) ([]Addr, error) {
	if n.proto == "unix" {
		return []Addr{&UnixAddr{Name: address, Net: n.name}}, nil
	}
	if address == "" { // of a listener: nobody connects to that
		return []Addr{n.addr(netip.Addr{}, 0)}, nil
	}
	host, service, err := stdnet.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if r == nil {
		r = stdnet.DefaultResolver
	}
	port, err := r.LookupPort(ctx, n.name, service) // numbers and a table, no file server
	if err != nil {
		return nil, err
	}
	if host == "" {
		return []Addr{n.addr(netip.Addr{}, port)}, nil
	}
	ips := make([]netip.Addr, 1)
	if ips[0], err = netip.ParseAddr(host); err != nil {
		ips, err = executor.Block(ctx, func() ([]netip.Addr, error) { return r.LookupNetIP(ctx, n.lookup(), host) })
		if err != nil {
			return nil, err
		}
	}
	var addrs []Addr
	for _, ip := range ips {
		if ip = ip.Unmap(); n.takes(ip) {
			addrs = append(addrs, n.addr(ip, port))
		}
	}
	if len(addrs) == 0 {
		return nil, &stdnet.AddrError{Err: "no suitable address", Addr: host}
	}
	return addrs, nil
}

// none reports whether there is no address, said with a type or without.
func none(a Addr) bool {
	switch a := a.(type) {
	case nil:
		return true
	case *TCPAddr:
		return a == nil
	case *UDPAddr:
		return a == nil
	case *UnixAddr:
		return a == nil
	}
	return false
}

// ipOf takes an address apart. An invalid ip stands for any.
func ipOf(a Addr) (ip netip.Addr, zone string, port int) {
	switch a := a.(type) {
	case *TCPAddr:
		ip, _ = netip.AddrFromSlice(a.IP)
		return ip.Unmap(), a.Zone, a.Port
	case *UDPAddr:
		ip, _ = netip.AddrFromSlice(a.IP)
		return ip.Unmap(), a.Zone, a.Port
	}
	return netip.Addr{}, "", 0
}

// sockaddr returns a in the kernel's form, for sockets of a family.
func sockaddr(a Addr, family int) (unix.Sockaddr, error) {
	if u, ok := a.(*UnixAddr); ok {
		if ops.CutsPath(u.Name) {
			return nil, unix.EINVAL
		}
		return &unix.SockaddrUnix{Name: u.Name}, nil
	}
	ip, zone, port := ipOf(a)
	if !ip.IsValid() && hasIP(a) { // of a length that none has
		return nil, &stdnet.AddrError{Err: "invalid IP address", Addr: a.String()}
	}
	if family == unix.AF_INET {
		if !ip.IsValid() {
			ip = netip.IPv4Unspecified()
		}
		if !ip.Is4() {
			return nil, &stdnet.AddrError{Err: "non-IPv4 address", Addr: ip.String()}
		}
		return &unix.SockaddrInet4{Port: port, Addr: ip.As4()}, nil
	}
	if !ip.IsValid() {
		ip = netip.IPv6Unspecified()
	}
	index, err := zoneIndex(zone)
	return &unix.SockaddrInet6{Port: port, Addr: ip.As16(), ZoneId: index}, err
}

// bind gives a socket an address. Package unix does not know the longest of abstract names.
func bind(fd int, sa unix.Sockaddr) error {
	if u, ok := sa.(*unix.SockaddrUnix); ok {
		return sysError("bind", syscall.Bind(fd, &syscall.SockaddrUnix{Name: u.Name}))
	}
	return sysError("bind", unix.Bind(fd, sa))
}

// connect is bind for connecting, to who need not be waited for.
func connect(fd int, sa unix.Sockaddr) error {
	if u, ok := sa.(*unix.SockaddrUnix); ok {
		return syscall.Connect(fd, &syscall.SockaddrUnix{Name: u.Name})
	}
	return unix.Connect(fd, sa)
}

// hasIP reports whether an address says more than any.
func hasIP(a Addr) bool {
	switch a := a.(type) {
	case *TCPAddr:
		return len(a.IP) > 0
	case *UDPAddr:
		return len(a.IP) > 0
	}
	return false
}

// address returns what the kernel says in the form of the network.
func (n *network) address(sa unix.Sockaddr) Addr {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return n.addr(netip.AddrFrom4(sa.Addr), sa.Port)
	case *unix.SockaddrInet6:
		ip := netip.AddrFrom16(sa.Addr)
		if sa.ZoneId != 0 {
			ip = ip.WithZone(zoneName(sa.ZoneId))
		}
		return n.addr(ip, sa.Port)
	case *unix.SockaddrUnix:
		return &UnixAddr{Name: sa.Name, Net: n.name}
	}
	if n.proto == "unix" {
		return &UnixAddr{Net: n.name} // of somebody without a name
	}
	return n.addr(netip.Addr{}, 0)
}

func zoneIndex(zone string) (uint32, error) {
	if zone == "" {
		return 0, nil
	}
	if i, err := stdnet.InterfaceByName(zone); err == nil {
		return uint32(i.Index), nil
	}
	i, err := strconv.ParseUint(zone, 10, 32)
	if err != nil {
		return 0, &stdnet.AddrError{Err: "unknown zone", Addr: zone}
	}
	return uint32(i), nil
}

func zoneName(index uint32) string {
	if i, err := stdnet.InterfaceByIndex(int(index)); err == nil {
		return i.Name
	}
	return strconv.FormatUint(uint64(index), 10)
}
