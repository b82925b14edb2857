package fs

import (
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// localTypes are the file systems that answer from this machine's memory and disks. On any other one, a plain call may take as long as
// somebody else likes.
var localTypes = map[string]bool{}

func init() {
	for t := range strings.FieldsSeq(`
		ext2 ext3 ext4 xfs btrfs f2fs bcachefs zfs jfs reiserfs nilfs2 minix udf iso9660 vfat msdos exfat ntfs3 hfsplus
		tmpfs ramfs rootfs hugetlbfs overlay squashfs erofs cramfs romfs
		proc sysfs devtmpfs devpts mqueue cgroup cgroup2 securityfs debugfs tracefs configfs bpf pstore efivarfs nsfs`) {
		localTypes[t] = true
	}
}

// tellingTypes are those of them on which the kernel tells about itself. They have regular files that are like pipes: kmsg of proc, and trace_pipe of
// tracefs.
var tellingTypes = map[string]bool{"proc": true, "debugfs": true, "tracefs": true}

// mountTable is what /proc/self/mountinfo said at some moment.
type mountTable struct {
	old     atomic.Bool // it is to be read again
	local   map[uint64]bool
	telling map[uint64]bool
	points  []mountPoint // those that are not local, and the local ones beneath them
}

type mountPoint struct {
	path  string
	local bool
}

// The table is read again when somebody wants it and it is this old. Until then, a new mount counts as remote. A timer tells, not a look at the
// clock, which would cost every operation on a name as much as all the rest here.
const mountTableAge = time.Second

var (
	mounts  atomic.Pointer[mountTable]
	reading atomic.Bool
	epoch   = time.Now()
)

// currentMounts returns the table. Reading it asks no file system, so it cannot block on one that does not answer.
func currentMounts() *mountTable {
	t := mounts.Load()
	if t != nil && !t.old.Load() {
		return t
	}
	if t != nil && !reading.CompareAndSwap(false, true) {
		return t // somebody else is at it
	}
	defer reading.Store(false)
	t = readMounts()
	mounts.Store(t)
	time.AfterFunc(mountTableAge, func() { t.old.Store(true) })
	return t
}

func readMounts() *mountTable {
	text, err := os.ReadFile("/proc/self/mountinfo")
	t := parseMounts(string(text))
	if err != nil {
		t.points = []mountPoint{{path: "/"}} // unknown is as bad as remote
	}
	return t
}

func parseMounts(mountinfo string) *mountTable {
	t := &mountTable{local: make(map[uint64]bool), telling: make(map[uint64]bool)}
	for line := range strings.Lines(mountinfo) {
		// 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
		before, after, ok := strings.Cut(line, " - ")
		fields, types := strings.Fields(before), strings.Fields(after)
		if !ok || len(fields) < 5 || len(types) < 1 {
			continue
		}
		id, err := strconv.ParseUint(fields[0], 10, 64)
		if err != nil {
			continue
		}
		p := mountPoint{unescape(fields[4]), localTypes[types[0]]}
		t.local[id], t.telling[id] = p.local, tellingTypes[types[0]]
		if !p.local || t.find(p.path) != nil {
			t.points = append(t.points, p)
		}
	}
	return t
}

// find returns the mount point that path, as written, is under: the deepest one, and of several at one place the last. It is nil if
// that is a local one.
func (t *mountTable) find(path string) *mountPoint {
	var best *mountPoint
	for i := range t.points {
		p := &t.points[i]
		rest, ok := strings.CutPrefix(path, p.path)
		if ok && (rest == "" || rest[0] == '/' || p.path == "/") && (best == nil || len(p.path) >= len(best.path)) {
			best = p
		}
	}
	return best
}

// unescape decodes the octal escapes of mountinfo.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// remotePath reports whether path lies, as written, on a file system that is not local. Symbolic links can hide that.
func remotePath(path string) bool {
	t := currentMounts()
	if len(t.points) == 0 {
		return false
	}
	if !strings.HasPrefix(path, "/") {
		dir, err := unix.Getwd()
		if err != nil {
			return true
		}
		path = dir + "/" + path
	}
	p := t.find(path)
	return p != nil && !p.local
}

// remoteFile reports whether a statx that asked for STATX_MNT_ID describes a file that is not local.
func remoteFile(st *unix.Statx_t) bool {
	t := currentMounts()
	if st.Mask&unix.STATX_MNT_ID == 0 {
		return len(t.points) > 0 // before kernel 5.8
	}
	return !t.local[st.Mnt_id]
}

// tells reports whether a statx that asked for STATX_MNT_ID describes a file of tellingTypes.
func tells(st *unix.Statx_t) bool {
	return st.Mask&unix.STATX_MNT_ID != 0 && currentMounts().telling[st.Mnt_id]
}
