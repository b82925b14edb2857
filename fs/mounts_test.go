package fs

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMountTable(t *testing.T) {
	m := parseMounts(`21 28 0:19 / /sys rw,nosuid - sysfs sysfs rw
28 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
40 28 0:40 / /home rw,relatime - nfs4 server:/home rw
41 40 254:1 / /home/local\040disk rw shared:5 master:1 - xfs /dev/vdb rw
42 28 0:42 / /mnt/user rw - fuse.sshfs host: rw
43 28 0:43 / /unheard/of rw - newfs none rw
44 43 0:44 / /unheard/of rw - tmpfs none rw
nonsense
45 28 0:45
`)
	for id, local := range map[uint64]bool{21: true, 28: true, 40: false, 41: true, 42: false, 43: false, 44: true, 99: false} {
		if m.local[id] != local {
			t.Errorf("mount %d is local: %t", id, m.local[id])
		}
	}
	for path, remote := range map[string]bool{
		"/": false, "/etc/passwd": false, "/sys/kernel": false, "/home": true, "/home/x": true, "/homeless": false,
		"/home/local disk": false, "/home/local disk/x": false, "/home/local diskette": true, "/mnt/user/x": true, "/mnt": false,
		"/unheard/of/it": false,
	} {
		p := m.find(path)
		if got := p != nil && !p.local; got != remote {
			t.Errorf("%s is remote: %t", path, got)
		}
	}
}

// TestMountsHere asks about this machine: what is in temporary directories and in proc is local.
func TestMountsHere(t *testing.T) {
	for _, name := range []string{t.TempDir(), "/proc/self/mountinfo", "/dev/null"} {
		var st unix.Statx_t
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := statFD(int(f.Fd()), &st); err != nil || remoteFile(&st) || remotePath(name) {
			t.Errorf("%s: remote file %t, remote path %t, %v", name, remoteFile(&st), remotePath(name), err)
		}
	}
	t.Chdir(t.TempDir())
	if remotePath(filepath.Join("some", "name")) {
		t.Error("the working directory is remote")
	}
}
