package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// snapshot describes everything below dir, one line for each name: what cp -a keeps, and the content.
func snapshot(t *testing.T, dir string, times bool) map[string]string {
	t.Helper()
	all := make(map[string]string)
	links := make(map[uint64]string) // the first name of each file with several
	now := time.Now().Add(-time.Hour)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		line := fmt.Sprintf("mode %o uid %d gid %d", st.Mode, st.Uid, st.Gid)
		if times && name != "." {
			mtime := time.Unix(st.Mtim.Unix())
			if mtime.After(now) && mtime.Before(now.Add(2*time.Hour)) {
				line += " mtime now"
			} else {
				line += fmt.Sprintf(" mtime %d.%09d", st.Mtim.Sec, st.Mtim.Nsec)
			}
		}
		if st.Mode&unix.S_IFMT != unix.S_IFDIR && st.Nlink > 1 {
			first := links[st.Ino]
			if first == "" {
				first = name
				links[st.Ino] = first
			}
			line += fmt.Sprintf(" links %d, the first %q", st.Nlink, first)
		}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			sum := sha256.Sum256(content)
			line += fmt.Sprintf(" size %d content %s", st.Size, hex.EncodeToString(sum[:8]))
		case unix.S_IFLNK:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" to %q", target)
		case unix.S_IFCHR, unix.S_IFBLK:
			line += fmt.Sprintf(" device %d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
		}
		for _, x := range attributes(t, path) {
			line += " " + x
		}
		all[name] = line
		return nil
	})
	must(t, err)
	return all
}

// attributes lists the extended attributes of a name, sorted.
func attributes(t *testing.T, path string) []string {
	t.Helper()
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, buf)
	if err == unix.ENOTSUP {
		return nil
	}
	must(t, err)
	var all []string
	for _, name := range strings.Split(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00") {
		if name == "" {
			continue
		}
		value := make([]byte, 64<<10)
		m, err := unix.Lgetxattr(path, name, value)
		must(t, err)
		all = append(all, fmt.Sprintf("%s=%x", name, value[:m]))
	}
	slices.Sort(all)
	return all
}

// sameTree compares two snapshots.
func sameTree(t *testing.T, got, want map[string]string) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if got[name] != want[name] {
			t.Errorf("%q is\n     %s,\nwant %s", name, orNothing(got[name]), orNothing(want[name]))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(got)) {
		if want[name] == "" {
			t.Errorf("%q is %s, want nothing", name, got[name])
		}
	}
}

func orNothing(s string) string {
	if s == "" {
		return "nothing"
	}
	return s
}

// A yard is a directory in which a test lays out its files.
type yard struct {
	testing.TB
	dir string
}

func (y yard) path(name string) string { return filepath.Join(y.dir, name) }

// file writes a file. Its content depends on its name and size only.
func (y yard) file(name string, size int) {
	y.Helper()
	must(y, os.MkdirAll(filepath.Dir(y.path(name)), 0755))
	f, err := os.OpenFile(y.path(name), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0644)
	must(y, err)
	defer f.Close()
	piece, source := make([]byte, min(size, 256<<10)), contentSource(name)
	for ; size > 0; size -= len(piece) {
		piece = piece[:min(size, len(piece))]
		_, _ = source.Read(piece) // never fails
		_, err := f.Write(piece)
		must(y, err)
	}
}

func content(seed string, size int) []byte {
	out := make([]byte, size)
	_, _ = contentSource(seed).Read(out) // never fails
	return out
}

func contentSource(seed string) *rand.ChaCha8 { return rand.NewChaCha8(sha256.Sum256([]byte(seed))) }

func (y yard) mkdir(name string) {
	y.Helper()
	must(y, os.MkdirAll(y.path(name), 0755))
}

func (y yard) symlink(target, name string) {
	y.Helper()
	must(y, os.Symlink(target, y.path(name)))
}

func (y yard) hardlink(old, name string) {
	y.Helper()
	must(y, os.Link(y.path(old), y.path(name)))
}

func (y yard) chmod(name string, mode uint32) {
	y.Helper()
	must(y, unix.Chmod(y.path(name), mode))
}

func (y yard) chown(name string, uid, gid int) {
	y.Helper()
	must(y, os.Lchown(y.path(name), uid, gid))
}

func (y yard) mknod(name string, mode uint32, major, minor uint32) {
	y.Helper()
	must(y, unix.Mknod(y.path(name), mode, int(unix.Mkdev(major, minor))))
}

func (y yard) xattr(name, attr, value string) {
	y.Helper()
	must(y, unix.Lsetxattr(y.path(name), attr, []byte(value), 0))
}

func (y yard) mtime(name string, sec, nsec int64) {
	y.Helper()
	ts, err := unix.TimeToTimespec(time.Unix(sec, nsec))
	must(y, err)
	must(y, unix.UtimesNanoAt(unix.AT_FDCWD, y.path(name), []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW))
}

// settle gives all names below dir a time of their own, in the past.
func (y yard) settle() {
	y.Helper()
	var names []string
	must(y, filepath.WalkDir(y.dir, func(path string, d fs.DirEntry, err error) error {
		if path != y.dir {
			name, _ := filepath.Rel(y.dir, path)
			names = append(names, name)
		}
		return err
	}))
	for _, name := range slices.Backward(names) {
		sum := sha256.Sum256([]byte(name))
		y.mtime(name, 1_000_000_000+int64(sum[0])<<16, int64(sum[1])<<20+int64(sum[2]))
	}
}

// acl is the binary form of a POSIX ACL: user::rwx, user:uid:perm, group::r-x, mask::rwx, other::other.
func acl(uid, perm, other byte) string {
	entry := func(tag uint16, perm byte, id int32) string {
		return string([]byte{byte(tag), byte(tag >> 8), perm, 0, byte(id), byte(id >> 8), byte(id >> 16), byte(id >> 24)})
	}
	return "\x02\x00\x00\x00" + entry(1, 7, -1) + entry(2, perm, int32(uid)) + entry(4, 5, -1) + entry(0x10, 7, -1) + entry(0x20, other, -1)
}

// blocks is the room that a file takes, in bytes.
func blocks(t *testing.T, path string) int64 {
	t.Helper()
	var st unix.Stat_t
	must(t, unix.Stat(path, &st))
	return st.Blocks * 512
}

func itoa(n int) string { return strconv.Itoa(n) }
