package net

import (
	"math"

	"golang.org/x/sys/unix"
)

// Credentials say who a process is, as its kernel sees it: PID is its number, UID that of the user that it acts for, and GID that of his group.
type Credentials struct{ PID, UID, GID int }

// PeerCredentials returns who was at the other end of a Unix connection when it was made: the process that connected, that listened, or that
// made the pair. The process may have ended since, and its number be another's; it is 0 for one that is in no sight of this one's, outside of its
// container. SO_PEERCRED, unix(7).
func (c *Conn) PeerCredentials() (Credentials, error) {
	var peer Credentials
	err := c.control("get", "getsockopt", func(fd int) error {
		u, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err != nil {
			return err
		}
		if u.Uid == math.MaxUint32 { // what the kernel says of a socket without such a peer
			return unix.EOPNOTSUPP
		}
		peer = credentials(u)
		return nil
	})
	return peer, err
}

func credentials(u *unix.Ucred) Credentials { return Credentials{int(u.Pid), int(u.Uid), int(u.Gid)} }
