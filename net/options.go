package net

import (
	stdnet "net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The times of keep-alive probes that nobody chose: those of the standard library.
const (
	keepAliveIdle     = 15 * time.Second
	keepAliveInterval = 15 * time.Second
	keepAliveCount    = 9
)

// tune sets what TCP connections have by default: no delay, and keep-alive probes.
func tune(fd int, keepAlive time.Duration, cfg stdnet.KeepAliveConfig) error {
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return sysError("setsockopt", err)
	}
	if !cfg.Enable {
		if keepAlive < 0 {
			return nil
		}
		cfg = stdnet.KeepAliveConfig{Enable: true, Idle: keepAlive}
	}
	return sysError("setsockopt", setKeepAlive(fd, cfg))
}

func setKeepAlive(fd int, cfg stdnet.KeepAliveConfig) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, boolint(cfg.Enable)); err != nil || !cfg.Enable {
		return err
	}
	return setKeepAliveTimes(fd, cfg.Idle, cfg.Interval, cfg.Count)
}

// setKeepAliveTimes sets when and how often there are probes. Zero means the standard library's value, and what is negative stays as it is.
func setKeepAliveTimes(fd int, idle, interval time.Duration, count int) error {
	for _, o := range [...]struct{ name, value, standard int }{
		{unix.TCP_KEEPIDLE, seconds(idle), seconds(keepAliveIdle)},
		{unix.TCP_KEEPINTVL, seconds(interval), seconds(keepAliveInterval)},
		{unix.TCP_KEEPCNT, count, keepAliveCount},
	} {
		if o.value == 0 {
			o.value = o.standard
		}
		if o.value < 0 {
			continue
		}
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, o.name, o.value); err != nil {
			return err
		}
	}
	return nil
}

// seconds rounds up: the kernel takes whole ones.
func seconds(d time.Duration) int {
	if d < 0 {
		return -1
	}
	return int((d + time.Second - 1) / time.Second)
}

func boolint(b bool) int {
	if b {
		return 1
	}
	return 0
}

// set sets a socket option that is a number.
func (s *socket) set(level, option, value int) error {
	return s.control("set", "setsockopt", func(fd int) error { return unix.SetsockoptInt(fd, level, option, value) })
}

// SetNoDelay sets whether small writes are sent at once rather than collected (TCP_NODELAY, tcp(7)). They are, by default.
func (c *Conn) SetNoDelay(on bool) error {
	return c.set(unix.IPPROTO_TCP, unix.TCP_NODELAY, boolint(on))
}

// SetKeepAlive sets whether probes find out that the peer of an idle TCP connection is gone (SO_KEEPALIVE, socket(7)). They do, by default.
func (c *Conn) SetKeepAlive(on bool) error {
	return c.set(unix.SOL_SOCKET, unix.SO_KEEPALIVE, boolint(on))
}

// SetKeepAlivePeriod sets the time before the first probe and between probes. Zero means 15 seconds, and a negative value changes nothing.
func (c *Conn) SetKeepAlivePeriod(d time.Duration) error {
	return c.control("set", "setsockopt", func(fd int) error { return setKeepAliveTimes(fd, d, d, -1) })
}

// SetKeepAliveConfig sets the probes in detail; see the standard library.
func (c *Conn) SetKeepAliveConfig(cfg stdnet.KeepAliveConfig) error {
	return c.control("set", "setsockopt", func(fd int) error { return setKeepAlive(fd, cfg) })
}

// SetLinger sets what Close does with data that was not sent yet (SO_LINGER, socket(7)): with a negative sec, the default, it is sent in
// the background; with 0 it is discarded and the connection reset; otherwise Close waits for at most sec seconds.
func (c *Conn) SetLinger(sec int) error {
	c.slow.Store(true)
	return c.control("set", "setsockopt", func(fd int) error {
		l := unix.Linger{Onoff: 1, Linger: int32(sec)}
		if sec < 0 {
			l = unix.Linger{}
		}
		return unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &l)
	})
}

// SetReadBuffer sets the size in bytes of the kernel's buffer for what was received (SO_RCVBUF, socket(7)), which doubles it.
func (s *socket) SetReadBuffer(bytes int) error { return s.set(unix.SOL_SOCKET, unix.SO_RCVBUF, bytes) }

// SetWriteBuffer sets the size in bytes of the kernel's buffer for what is to be sent (SO_SNDBUF, socket(7)), which doubles it.
func (s *socket) SetWriteBuffer(bytes int) error {
	return s.set(unix.SOL_SOCKET, unix.SO_SNDBUF, bytes)
}

// SyscallConn gives raw access to the descriptor, which is non-blocking. Its Read and Write wait for readiness, without a deadline. It
// never fails.
func (s *socket) SyscallConn() (syscall.RawConn, error) { return newRawConn(s, nil, nil), nil }

// SetBroadcast sets whether UDP datagrams may be sent to broadcast addresses (SO_BROADCAST, socket(7)). They may, by default.
func (s *endpoint) SetBroadcast(on bool) error {
	return s.set(unix.SOL_SOCKET, unix.SO_BROADCAST, boolint(on))
}

// SetGRO sets whether UDP datagrams of one length from one sender may be received together, as one message (UDP_GRO, udp(7)). Then the room
// for a message has to be 64 KiB, and [Control] tells where to cut it. Not by default. Kernel 5.0.
func (s *endpoint) SetGRO(on bool) error { return s.set(unix.SOL_UDP, unix.UDP_GRO, boolint(on)) }

// SetPassCredentials sets whether [Control] of messages received on a Unix socket tells who sent them (SO_PASSCRED, unix(7)). Not by
// default.
func (s *endpoint) SetPassCredentials(on bool) error {
	return s.set(unix.SOL_SOCKET, unix.SO_PASSCRED, boolint(on))
}
