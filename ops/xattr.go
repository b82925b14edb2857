package ops

import (
	"uringo/internal/ring"
)

var (
	kindFsetxattr = &Kind{Name: "fsetxattr", Code: ring.OpFsetxattr, Prepare: prepareXattr}
	kindSetxattr  = &Kind{Name: "setxattr", Code: ring.OpSetxattr, Prepare: prepareXattr}
	kindFgetxattr = &Kind{Name: "fgetxattr", Code: ring.OpFgetxattr, Prepare: prepareXattr, Writes: true, Bounded: true}
	kindGetxattr  = &Kind{Name: "getxattr", Code: ring.OpGetxattr, Prepare: prepareXattr, Writes: true, Bounded: true}

	// Asked with an empty buffer, the kernel tells the size of the value.
	kindFgetxattrSize = &Kind{Name: "fgetxattr", Code: ring.OpFgetxattr, Prepare: prepareXattr}
	kindGetxattrSize  = &Kind{Name: "getxattr", Code: ring.OpGetxattr, Prepare: prepareXattr}
)

// Fsetxattr gives fd the extended attribute name with the given value. flags are 0, unix.XATTR_CREATE or XATTR_REPLACE. The kernel
// reads value until the result is in; the name is copied. Kernel 5.19, fsetxattr(2).
func Fsetxattr(fd int, name string, value []byte, flags uint32) Op[[]byte] {
	return xattr(kindFsetxattr, fd, "", name, value, flags)
}

// Setxattr is [Fsetxattr] for the file path, symbolic links followed. Kernel 5.19, setxattr(2).
func Setxattr(path, name string, value []byte, flags uint32) Op[[]byte] {
	return xattr(kindSetxattr, -1, path, name, value, flags)
}

// Fgetxattr reads the value of the extended attribute name of fd into value. N is its size; with an empty buffer nothing is read and N
// tells what it would take; a buffer too small is ERANGE. The kernel writes to value until the result is in; the name is
// copied. Kernel 5.19, fgetxattr(2).
func Fgetxattr(fd int, name string, value []byte) Op[[]byte] {
	k := kindFgetxattr
	if len(value) == 0 {
		k = kindFgetxattrSize
	}
	return xattr(k, fd, "", name, value, 0)
}

// Getxattr is [Fgetxattr] for the file path, symbolic links followed. Kernel 5.19, getxattr(2).
func Getxattr(path, name string, value []byte) Op[[]byte] {
	k := kindGetxattr
	if len(value) == 0 {
		k = kindGetxattrSize
	}
	return xattr(k, -1, path, name, value, 0)
}

func xattr(k *Kind, fd int, path, name string, value []byte, flags uint32) Op[[]byte] {
	s := Spec{Kind: k, FD: int32(fd), mem: bytes(value), len: uint32(min(len(value), MaxTransfer)), opFlags: flags}
	s.setPaths(name, path)
	return Op[[]byte]{Spec: s, Buf: value}
}

func prepareXattr(s *Spec, e *ring.SQE) {
	e.Addr = s.path()
	e.Off = uint64(uintptr(s.mem))
	e.Len = s.len
	e.OpFlags = s.opFlags
	if s.Kind.Code == ring.OpSetxattr || s.Kind.Code == ring.OpGetxattr {
		e.Addr3 = s.path2()
	}
}
