package net

import (
	"context"
	"errors"
	stdnet "net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/executor"
	"uringo/internal/handle"
	"uringo/ops"
)

// Dialer has options for connecting. The zero value means those of [Dial].
type Dialer struct {
	// Driver performs the operations. Nil means the driver of the context. Libraries that keep connections in a pool dial with
	// contexts of their own, and need it.
	Driver *driver.Driver

	// Timeout and Deadline limit a call, beside its context. Zero means no limit of their own, and a negative Timeout is over at
	// once, as in the standard library. The time is divided among the addresses of a name.
	Timeout  time.Duration
	Deadline time.Time

	// LocalAddr is the address to connect from: a *[TCPAddr], *[UDPAddr] or *[UnixAddr]. Nil means one that suits.
	LocalAddr Addr

	// FallbackDelay is how long to wait for the first family of addresses before the other is tried at the same time (RFC 6555).
	// Zero means 300 ms; with a negative value, all addresses are tried one after the other.
	FallbackDelay time.Duration

	// KeepAlive is the time between keep-alive probes of TCP connections. Zero means 15 seconds, a negative value none. It does
	// not count if KeepAliveConfig.Enable is set.
	KeepAlive time.Duration

	// KeepAliveConfig is about the probes in detail, see the standard library.
	KeepAliveConfig stdnet.KeepAliveConfig

	// FastOpen has a TCP connection be made by the first write to it, whose data goes with the first packet if this machine knows the
	// peer from before (tcp(7), TCP_FASTOPEN_CONNECT, kernel 4.11). Dial then may not notice that nobody is there: the write
	// will. The peer may receive such data twice. Not for peers that are to speak first.
	FastOpen bool

	// Resolver looks up names. Nil means that of the standard library.
	Resolver *stdnet.Resolver

	// Control, if not nil, is called with every socket before it is connected.
	Control func(network, address string, c syscall.RawConn) error

	// ControlContext is Control with the context of the call, and precedes it.
	ControlContext func(ctx context.Context, network, address string, c syscall.RawConn) error
}

// Dial connects to an address. Networks are tcp, tcp4, tcp6, udp, udp4 and udp6 with addresses like "localhost:80", "[::1]:80" or
// ":http", where no host is this one; unix, unixpacket and unixgram with a path, or an abstract name that begins with @. The
// addresses of a name are tried one after the other, and the two families side by side if the first one is slow; the error is that
// of the first address. A cancelled call leaves no socket behind. Kernel 5.5, connect(2).
func Dial(ctx context.Context, network, address string) (*Conn, error) {
	return new(Dialer).Dial(ctx, network, address)
}

// DialContext is [Dialer.Dial] in the shape that libraries want for their hooks, and returns a connection of the standard library's kind.
func (dl *Dialer) DialContext(ctx context.Context, network, address string) (stdnet.Conn, error) {
	c, err := dl.Dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return c.NetConn(), nil
}

// Dial is [Dial] with options.
func (dl *Dialer) Dial(ctx context.Context, network, address string) (*Conn, error) {
	ctx = dl.on(ctx)
	if none(dl.LocalAddr) && dl.LocalAddr != nil {
		own := *dl
		own.LocalAddr = nil
		dl = &own
	}
	d, err := driver.FromContext(ctx)
	if err != nil {
		return nil, noDriver("dial", network)
	}
	if end := dl.end(time.Now()); !end.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, end)
		defer cancel()
	}
	n, err := networkNamed(network)
	if err == nil && address == "" {
		err = errMissingAddress
	}
	var addrs []Addr
	if err == nil {
		addrs, err = n.resolve(ctx, dl.Resolver, address)
	}
	if err == nil {
		addrs, err = dl.suitable(n, addrs)
	}
	if err != nil {
		if ctx.Err() != nil {
			err = driver.Canceled(ctx)
		}
		return nil, opError("dial", "", network, dl.LocalAddr, nil, err)
	}
	try := attempt{dl, d, n}
	first, second := byFamily(addrs)
	if n.proto == "tcp" && len(second) > 0 && dl.FallbackDelay >= 0 {
		return try.race(ctx, first, second)
	}
	return try.each(ctx, addrs)
}

// on returns a context that carries the Dialer's driver.
func (dl *Dialer) on(ctx context.Context) context.Context {
	if dl.Driver == nil {
		return ctx
	}
	switch d, err := driver.FromContext(ctx); {
	case err != nil:
		return driver.NewContext(ctx, dl.Driver)
	case d == dl.Driver:
		return ctx
	}
	return onDriver{ctx, dl.Driver} // not one that leads to a task of the other
}

// onDriver is a context without its values, for the use of another driver.
type onDriver struct {
	context.Context
	d *driver.Driver
}

// Value implements context.Context.
func (c onDriver) Value(key any) any {
	if key == driver.ContextKey {
		return c.d
	}
	return nil
}

func (dl *Dialer) end(now time.Time) time.Time {
	end := dl.Deadline
	if dl.Timeout != 0 && (end.IsZero() || now.Add(dl.Timeout).Before(end)) {
		end = now.Add(dl.Timeout)
	}
	return end
}

// suitable leaves out the addresses that cannot be reached from the local one, and makes of those without an IP this machine's.
func (dl *Dialer) suitable(n *network, addrs []Addr) ([]Addr, error) {
	local := netip.Addr{}
	if dl.LocalAddr != nil {
		if !n.has(dl.LocalAddr) {
			return nil, &stdnet.AddrError{Err: "mismatched local address type", Addr: dl.LocalAddr.String()}
		}
		local, _, _ = ipOf(dl.LocalAddr)
	}
	if n.proto == "unix" {
		return addrs, nil
	}
	var fit []Addr
	for _, a := range addrs {
		ip, zone, port := ipOf(a)
		if !ip.IsValid() || ip.IsUnspecified() {
			six := n.only == '6' || ip.IsValid() && ip.Is6() || local.IsValid() && local.Is6()
			if ip = netip.AddrFrom4([4]byte{127, 0, 0, 1}); six {
				ip = netip.IPv6Loopback()
			}
			a = n.addr(ip.WithZone(zone), port)
		}
		if !local.IsValid() || local.IsUnspecified() || local.Is4() == ip.Is4() {
			fit = append(fit, a)
		}
	}
	if len(fit) == 0 {
		return nil, &stdnet.AddrError{Err: "no suitable address", Addr: addrs[0].String()}
	}
	return fit, nil
}

// byFamily divides addresses into those of the first one's family and the others.
func byFamily(addrs []Addr) (first, second []Addr) {
	lead, _, _ := ipOf(addrs[0])
	for _, a := range addrs {
		if ip, _, _ := ipOf(a); ip.Is4() == lead.Is4() {
			first = append(first, a)
		} else {
			second = append(second, a)
		}
	}
	return first, second
}

// attempt is one call of Dial.
type attempt struct {
	*Dialer
	d *driver.Driver
	n *network
}

// race tries two lists of addresses at the same time, the second one a little later. The error is that of the first.
func (t attempt) race(ctx context.Context, first, second []Addr) (*Conn, error) {
	delay := t.FallbackDelay
	if delay == 0 {
		delay = 300 * time.Millisecond
	}
	return executor.Block(ctx, func() (*Conn, error) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		type result struct {
			c     *Conn
			err   error
			first bool
		}
		results := make(chan result, 2)
		start := func(addrs []Addr, first bool) {
			c, err := t.each(ctx, addrs)
			results <- result{c, err, first}
		}
		go start(first, true)
		running, waiting := 1, true
		timer := time.NewTimer(delay)
		defer timer.Stop()
		var failed error
		for {
			select {
			case <-timer.C:
				if waiting {
					waiting = false
					running++
					go start(second, false)
				}
			case r := <-results:
				running--
				if r.err == nil {
					cancel()
					for ; running > 0; running-- {
						if late := <-results; late.c != nil {
							_ = late.c.Close(context.WithoutCancel(ctx))
						}
					}
					return r.c, nil
				}
				if r.first {
					failed = r.err
				}
				if running == 0 && !waiting {
					return nil, failed
				}
				timer.Reset(0)
			}
		}
	})
}

// each tries addresses one after the other. The error is that of the first.
func (t attempt) each(ctx context.Context, addrs []Addr) (*Conn, error) {
	var failed error
	for i, a := range addrs {
		c, err := t.within(ctx, a, len(addrs)-i)
		if err == nil {
			return c, nil
		}
		if failed == nil {
			failed = err
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, failed
}

// within tries one address, the first of n that share the time that is left.
func (t attempt) within(ctx context.Context, a Addr, n int) (*Conn, error) {
	const enough = 2 * time.Second // less helps nobody, so take it from the others
	if end, ok := ctx.Deadline(); ok && n > 1 {
		left := time.Until(end)
		if share := max(left/time.Duration(n), min(left, enough)); share < left {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, share)
			defer cancel()
		}
	}
	for try := 0; ; try++ {
		c, err := t.connect(ctx, a)
		if t.n.proto == "tcp" && t.anyPort() && try < 2 {
			// The kernel may choose the very port that we want to reach, and have the socket connect to itself, or one
			// that is in use.
			if errors.Is(err, syscall.EADDRNOTAVAIL) {
				continue
			}
			if err == nil && c.local.String() == c.remote.String() {
				_ = c.Close(ctx)
				continue
			}
		}
		return c, err
	}
}

// anyPort reports whether the kernel chooses the port to connect from.
func (t attempt) anyPort() bool {
	_, _, port := ipOf(t.LocalAddr)
	return port == 0
}

func (t attempt) connect(ctx context.Context, a Addr) (*Conn, error) {
	fd, family, err := t.socket(ctx, a)
	if err != nil {
		return nil, opError("dial", "socket", t.n.name, t.LocalAddr, a, err)
	}
	sa, err := sockaddr(a, family)
	if err == nil {
		err = t.reach(ctx, fd, sa)
	}
	if err != nil {
		if !handle.Abandoned(err) {
			_ = unix.Close(fd) // the error that counts is err
		}
		return nil, opError("dial", "connect", t.n.name, t.LocalAddr, a, err)
	}
	c := newConn(t.d, t.n, fd, nil, a)
	c.slow.Store(t.Control != nil || t.ControlContext != nil)
	return c, nil
}

// reach connects a socket. If the caller is let go, the socket is closed when the kernel has let go of it.
func (t attempt) reach(ctx context.Context, fd int, sa unix.Sockaddr) error {
	_, err := onRing(ctx, ops.Connect(fd, sa), func() { go unix.Close(fd) })
	return err
}

// socket makes a socket that can be connected to a.
func (t attempt) socket(ctx context.Context, a Addr) (fd, family int, err error) {
	family = unix.AF_UNIX
	if t.n.proto != "unix" {
		family = unix.AF_INET6
		if ip, _, _ := ipOf(a); ip.Is4() {
			family = unix.AF_INET
		}
	}
	if fd, err = t.n.create(family); err != nil {
		return -1, family, err
	}
	if err = t.prepare(ctx, fd, family, a); err != nil {
		_ = unix.Close(fd) // the error that counts is err
		return -1, family, err
	}
	return fd, family, nil
}

func (t attempt) prepare(ctx context.Context, fd, family int, a Addr) error {
	switch t.n.proto {
	case "tcp":
		if err := tune(fd, t.KeepAlive, t.KeepAliveConfig); err != nil {
			return err
		}
		if t.FastOpen {
			if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_FASTOPEN_CONNECT, 1); err != nil {
				return sysError("setsockopt", err)
			}
		}
	case "udp":
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BROADCAST, 1); err != nil {
			return sysError("setsockopt", err)
		}
	}
	control := t.ControlContext
	if control == nil && t.Control != nil {
		control = func(_ context.Context, network, address string, c syscall.RawConn) error {
			return t.Control(network, address, c)
		}
	}
	if control != nil {
		err := rawFD(fd).given(func(c syscall.RawConn) error { return control(ctx, t.n.exact(family), a.String(), c) })
		if err != nil {
			return err
		}
	}
	if t.LocalAddr == nil {
		return nil
	}
	local := t.LocalAddr
	if ip, _, port := ipOf(local); ip.IsUnspecified() {
		local = t.n.addr(netip.Addr{}, port) // the other family's word for any is as good
	}
	sa, err := sockaddr(local, family)
	if err != nil {
		return err
	}
	return bind(fd, sa)
}
