package net

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"uringo/ops"
)

// association is the peer of a socket for datagrams, for as long as it has one.
type association struct {
	mu  sync.Mutex // of who changes it
	now atomic.Pointer[addresses]
}

// addresses are those of the two ends.
type addresses struct{ local, remote Addr }

// Connect gives the socket a peer, a *[UDPAddr] or *[UnixAddr], in the place of one that it has: it receives from nobody else, and
// [PacketConn.SendTo] and [PacketConn.SendMsg] send there when they are told no address. What others sent before is still received, from UDP
// sockets; Unix sockets lose it when the peer changes. That nobody is there is an error of receiving and sending with UDP
// (ECONNREFUSED), and of Connect with Unix sockets. Operations that wait go on. With an error, the socket has the peer that it had. connect(2).
func (c *PacketConn) Connect(to Addr) error {
	err := c.change(func(fd int) error {
		if none(to) {
			return errMissingAddress
		}
		sa, err := c.destination(to)
		if err == nil {
			err = connect(fd, sa)
		}
		if err == nil {
			c.peer.now.Store(&addresses{c.net.localAddr(fd), to})
		}
		return err
	})
	return opError("dial", "connect", c.net.name, c.local, to, err)
}

// Disconnect takes the peer of [PacketConn.Connect] from the socket, if it has one: it receives from everybody again, at the address that it had
// before, and an error of the peer that nobody was told is forgotten. Operations that wait go on.
//
// The kernel takes more than that away. A UDP socket whose port it had chosen has none for a moment, in which datagrams are lost and somebody
// else may take the port: then the error is EADDRINUSE, and the socket is to be closed. SO_BINDTODEVICE is undone. A Unix socket loses what it
// had received, and a peer that is connected to it learns of that (ECONNRESET). connect(2) with AF_UNSPEC.
func (c *PacketConn) Disconnect() error {
	err := c.change(func(fd int) error {
		if err := ops.Disconnect(fd); err != nil {
			return err
		}
		_, _ = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR) // which clears it
		c.peer.now.Store(nil)
		return c.bindAgain(fd)
	})
	return c.fail("close", "connect", err)
}

// change has f change the peer.
func (c *PacketConn) change(f func(fd int) error) error {
	if !c.h.Acquire() {
		return ErrClosed
	}
	defer c.h.Release()
	c.peer.mu.Lock()
	defer c.peer.mu.Unlock()
	return f(c.h.FD)
}

// bindAgain gives a socket the port again that the kernel had chosen for it, and took away.
func (c *PacketConn) bindAgain(fd int) error {
	_, _, had := ipOf(c.local)
	if _, _, has := ipOf(c.net.localAddr(fd)); had == has {
		return nil
	}
	sa, err := c.destination(c.local)
	if err != nil {
		return err
	}
	return bind(fd, sa)
}

// LocalAddr returns the address of this end: of a socket that has a peer the one that it has for that. It must not be modified.
func (c *PacketConn) LocalAddr() Addr {
	if a := c.peer.now.Load(); a != nil {
		return a.local
	}
	return c.local
}

// RemoteAddr returns the address of the peer, or nil if the socket has none. It must not be modified.
func (c *PacketConn) RemoteAddr() Addr {
	if a := c.peer.now.Load(); a != nil {
		return a.remote
	}
	return nil
}
