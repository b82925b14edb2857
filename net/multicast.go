package net

import (
	stdnet "net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// JoinGroup has the socket receive the datagrams to a multicast group that arrive at an interface, nil for one that the kernel chooses. The
// socket has to be bound to the port they are sent to. IP_ADD_MEMBERSHIP, ip(7); IPV6_ADD_MEMBERSHIP, ipv6(7).
func (c *PacketConn) JoinGroup(ifi *stdnet.Interface, group netip.Addr) error {
	return c.group(ifi, group, unix.IP_ADD_MEMBERSHIP, unix.IPV6_ADD_MEMBERSHIP)
}

// LeaveGroup undoes JoinGroup. IP_DROP_MEMBERSHIP, ip(7); IPV6_DROP_MEMBERSHIP, ipv6(7).
func (c *PacketConn) LeaveGroup(ifi *stdnet.Interface, group netip.Addr) error {
	return c.group(ifi, group, unix.IP_DROP_MEMBERSHIP, unix.IPV6_DROP_MEMBERSHIP)
}

func (c *PacketConn) group(ifi *stdnet.Interface, group netip.Addr, option4, option6 int) error {
	return c.control("set", "setsockopt", func(fd int) error {
		if group = group.Unmap(); !group.IsMulticast() {
			return &stdnet.AddrError{Err: "not a multicast address", Addr: group.String()}
		}
		if group.Is4() {
			return unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, option4,
				&unix.IPMreqn{Multiaddr: group.As4(), Ifindex: int32(indexOf(ifi))})
		}
		return unix.SetsockoptIPv6Mreq(fd, unix.IPPROTO_IPV6, option6,
			&unix.IPv6Mreq{Multiaddr: group.As16(), Interface: uint32(indexOf(ifi))})
	})
}

func indexOf(ifi *stdnet.Interface) int {
	if ifi == nil {
		return 0
	}
	return ifi.Index
}

// SetMulticastInterface sets the interface that datagrams to multicast groups leave by, nil for one that the kernel chooses.
// IP_MULTICAST_IF, ip(7); IPV6_MULTICAST_IF, ipv6(7).
func (s *endpoint) SetMulticastInterface(ifi *stdnet.Interface) error {
	return s.control("set", "setsockopt", func(fd int) error {
		return perFamily(fd, func() error {
			return unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_IF, &unix.IPMreqn{Ifindex: int32(indexOf(ifi))})
		}, func() error {
			return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_IF, indexOf(ifi))
		})
	})
}

// SetMulticastHopLimit sets how many routers datagrams to multicast groups may pass, 0 to 255: 1, by default, keeps them in the local
// network. IP_MULTICAST_TTL, ip(7); IPV6_MULTICAST_HOPS, ipv6(7).
func (s *endpoint) SetMulticastHopLimit(n int) error {
	return s.setIP(unix.IP_MULTICAST_TTL, unix.IPV6_MULTICAST_HOPS, n)
}

// SetMulticastLoopback sets whether this machine also receives what the socket sends to multicast groups. It does, by default.
// IP_MULTICAST_LOOP, ip(7); IPV6_MULTICAST_LOOP, ipv6(7).
func (s *endpoint) SetMulticastLoopback(on bool) error {
	return s.setIP(unix.IP_MULTICAST_LOOP, unix.IPV6_MULTICAST_LOOP, boolint(on))
}

// SetHopLimit sets how many routers may be passed on the way to the peer, 1 to 255. IP_TTL, ip(7); IPV6_UNICAST_HOPS, ipv6(7).
func (s *endpoint) SetHopLimit(n int) error { return s.setIP(unix.IP_TTL, unix.IPV6_UNICAST_HOPS, n) }

// SetTrafficClass sets the traffic class of IPv6, or the type of service of IPv4. IP_TOS, ip(7); IPV6_TCLASS, ipv6(7).
func (s *endpoint) SetTrafficClass(n int) error { return s.setIP(unix.IP_TOS, unix.IPV6_TCLASS, n) }

// SetReceiveInfo sets whether [Control] of received datagrams tells of the address they were sent to, the interface, the hop limit and the
// traffic class. Not by default. IP_PKTINFO, IP_RECVTTL, IP_RECVTOS, ip(7); IPV6_RECVPKTINFO and others, ipv6(7).
func (s *endpoint) SetReceiveInfo(on bool) error {
	for _, o := range [...]struct{ four, six int }{
		{unix.IP_PKTINFO, unix.IPV6_RECVPKTINFO},
		{unix.IP_RECVTTL, unix.IPV6_RECVHOPLIMIT},
		{unix.IP_RECVTOS, unix.IPV6_RECVTCLASS},
	} {
		if err := s.setIP(o.four, o.six, boolint(on)); err != nil {
			return err
		}
	}
	return nil
}

// setIP sets a number for IPv4 and, on sockets that speak it, for IPv6.
func (s *endpoint) setIP(option4, option6, value int) error {
	return s.control("set", "setsockopt", func(fd int) error {
		return perFamily(fd, func() error {
			return unix.SetsockoptInt(fd, unix.IPPROTO_IP, option4, value)
		}, func() error {
			return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, option6, value)
		})
	})
}

// perFamily calls four for an IPv4 socket. An IPv6 socket may speak IPv4 as well, and has the options of both.
func perFamily(fd int, four, six func() error) error {
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return err
	}
	if domain == unix.AF_INET6 {
		if err := six(); err != nil {
			return err
		}
	}
	return four()
}
