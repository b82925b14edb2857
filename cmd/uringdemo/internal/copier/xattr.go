package copier

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"uringo/fs"
)

// POSIX ACLs are extended attributes, in the same form on all file systems.
const (
	aclAccess  = "system.posix_acl_access"
	aclDefault = "system.posix_acl_default"
)

// wanted says which attributes are part of a file. Users' own and ACLs are; security.* and trusted.* belong to the system on which
// the file is, and in the wrong place grant rights or make an overlay file system believe things, so they are copied on request.
func (c *Copier) wanted(name string) bool {
	return name == aclAccess || name == aclDefault || strings.HasPrefix(name, "user.") || c.opts.Security && privileged(name)
}

// survives says which attributes a file keeps when it gets other content: not those that vouch for the content, or let it run with
// rights of its own, which the kernel takes away as well.
func survives(name string) bool {
	switch name {
	case "security.capability", "security.ima", "security.evm":
		return false
	}
	return name == aclAccess || strings.HasPrefix(name, "user.") || privileged(name)
}

// aclLast moves the ACL behind the other attributes: like the mode, it can forbid the owner to write, which those take.
func aclLast(names []string) {
	if i := slices.Index(names, aclAccess); i >= 0 {
		last := len(names) - 1
		names[i], names[last] = names[last], names[i]
	}
}

// groupPerm is what an ACL grants to the file's group: where there is an ACL, the mode's group bits are only a limit for all that it
// names.
func groupPerm(acl []byte) uint32 {
	const header, size, groupObj = 4, 8, 4
	for ; len(acl) >= header+size; acl = acl[size:] {
		if e := acl[header:]; binary.LittleEndian.Uint16(e) == groupObj {
			return uint32(e[2]) & 7
		}
	}
	return 0
}

func privileged(name string) bool {
	return strings.HasPrefix(name, "security.") || strings.HasPrefix(name, "trusted.")
}

// xattrs are the extended attributes of one file. The methods make plain system calls: they belong into executor.Block.
type xattrs struct {
	fd   int    // of the file
	path string // instead of fd, never through a link as the last component
}

func fdXattrs(fd uintptr) xattrs { return xattrs{fd: int(fd)} }

// dirXattrs are those of a directory. Of one that may be searched and not read, the descriptor (O_PATH) does not give them.
func dirXattrs(dir *fs.Dir) xattrs {
	if flags, err := unix.FcntlInt(dir.Fd(), unix.F_GETFL, 0); err == nil && flags&unix.O_PATH != 0 {
		return nameXattrs(dir, ".")
	}
	return fdXattrs(dir.Fd())
}

// nameXattrs are those of something that cannot be opened. The path leads through the open directory, so it cannot be diverted.
func nameXattrs(dir *fs.Dir, name string) xattrs {
	return xattrs{path: fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), name)}
}

// haveProc reports whether /proc is mounted, which a bare chroot may lack.
var haveProc = sync.OnceValue(func() bool {
	var st unix.Stat_t
	return unix.Lstat("/proc/self/fd", &st) == nil
})

func (x xattrs) list() ([]string, error) {
	if x.path != "" && !haveProc() {
		return nil, errors.New("/proc is not mounted")
	}
	raw, err := growing(func(b []byte) (int, error) {
		if x.path != "" {
			return unix.Llistxattr(x.path, b)
		}
		return unix.Flistxattr(x.fd, b)
	})
	if err != nil || len(raw) == 0 {
		return nil, err
	}
	return strings.Split(strings.TrimSuffix(string(raw), "\x00"), "\x00"), nil
}

func (x xattrs) get(name string) ([]byte, error) {
	return growing(func(b []byte) (int, error) {
		if x.path != "" {
			return unix.Lgetxattr(x.path, name, b)
		}
		return unix.Fgetxattr(x.fd, name, b)
	})
}

func (x xattrs) set(name string, value []byte) error {
	if x.path != "" {
		return unix.Lsetxattr(x.path, name, value, 0)
	}
	return unix.Fsetxattr(x.fd, name, value, 0)
}

func (x xattrs) remove(name string) error {
	if x.path != "" {
		return unix.Lremovexattr(x.path, name)
	}
	return unix.Fremovexattr(x.fd, name)
}

// growing calls read with larger and larger buffers until the answer fits: somebody may add to it between asking for its size and
// for itself.
func growing(read func([]byte) (int, error)) ([]byte, error) {
	buf := make([]byte, 256)
	for {
		n, err := read(buf)
		if err == nil {
			return buf[:n], nil
		}
		if err != unix.ERANGE || len(buf) >= 1<<20 {
			return nil, err
		}
		buf = make([]byte, 4*len(buf))
	}
}
