package ops

import "uringo/internal/ring"

var (
	kindMkdirat   = &Kind{Name: "mkdirat", Code: ring.OpMkdirat, Prepare: prepareName}
	kindUnlinkat  = &Kind{Name: "unlinkat", Code: ring.OpUnlinkat, Prepare: prepareName}
	kindRenameat  = &Kind{Name: "renameat", Code: ring.OpRenameat, Prepare: prepareNames}
	kindSymlinkat = &Kind{Name: "symlinkat", Code: ring.OpSymlinkat, Prepare: prepareNames}
	kindLinkat    = &Kind{Name: "linkat", Code: ring.OpLinkat, Prepare: prepareNames}
)

// Mkdirat makes the directory path, relative to dirfd unless absolute, with the permissions in perm before umask. The path is
// copied. Kernel 5.15, mkdirat(2).
func Mkdirat(dirfd int, path string, perm uint32) Op[struct{}] {
	s := Spec{Kind: kindMkdirat, FD: int32(dirfd), len: perm}
	s.setPath(path)
	return Op[struct{}]{Spec: s}
}

// Unlinkat removes the name path, relative to dirfd unless absolute; with unix.AT_REMOVEDIR an empty directory. The path is
// copied. Kernel 5.11, unlinkat(2).
func Unlinkat(dirfd int, path string, flags int) Op[struct{}] {
	s := Spec{Kind: kindUnlinkat, FD: int32(dirfd), opFlags: uint32(flags)}
	s.setPath(path)
	return Op[struct{}]{Spec: s}
}

// Renameat2 gives the file oldPath, relative to olddirfd, the name newPath, relative to newdirfd. flags are unix.RENAME_*: without
// RENAME_NOREPLACE an existing newPath is replaced. The paths are copied. Kernel 5.11, renameat2(2).
func Renameat2(olddirfd int, oldPath string, newdirfd int, newPath string, flags uint32) Op[struct{}] {
	s := Spec{Kind: kindRenameat, FD: int32(olddirfd), len: uint32(int32(newdirfd)), opFlags: flags}
	s.setPaths(oldPath, newPath)
	return Op[struct{}]{Spec: s}
}

// Symlinkat makes path, relative to dirfd unless absolute, a symbolic link that says target. The strings are copied.
// Kernel 5.15, symlinkat(2).
func Symlinkat(target string, dirfd int, path string) Op[struct{}] {
	s := Spec{Kind: kindSymlinkat, FD: int32(dirfd)}
	s.setPaths(target, path)
	return Op[struct{}]{Spec: s}
}

// Linkat gives the file oldPath, relative to olddirfd, the further name newPath, relative to newdirfd. flags are unix.AT_*:
// AT_SYMLINK_FOLLOW, AT_EMPTY_PATH. The paths are copied. Kernel 5.15, linkat(2).
func Linkat(olddirfd int, oldPath string, newdirfd int, newPath string, flags int) Op[struct{}] {
	s := Spec{Kind: kindLinkat, FD: int32(olddirfd), len: uint32(int32(newdirfd)), opFlags: uint32(flags)}
	s.setPaths(oldPath, newPath)
	return Op[struct{}]{Spec: s}
}

func prepareName(s *Spec, e *ring.SQE) {
	e.Addr = s.path()
	e.Len = s.len
	e.OpFlags = s.opFlags
}

func prepareNames(s *Spec, e *ring.SQE) {
	prepareName(s, e)
	e.Off = s.path2()
}
