package main

import (
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// appendFlag is FS_APPEND_FL of <linux/fs.h>.
const appendFlag = 0x20

// appendOnly makes a directory one to which names can only be added (chattr +a), until the test ends.
func (y yard) appendOnly(name string) {
	y.Helper()
	y.inodeFlag(name, true)
	y.Cleanup(func() { y.inodeFlag(name, false) })
}

func (y yard) inodeFlag(name string, on bool) {
	y.Helper()
	f, err := os.Open(y.path(name))
	must(y, err)
	defer f.Close()
	flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err == nil {
		flags &^= appendFlag
		if on {
			flags |= appendFlag
		}
		err = unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags)
	}
	if err != nil {
		y.TB.Skipf("needs a file system with append-only directories: %v", err)
	}
}

// TestAppendOnlyDirectory copies to where nothing can be renamed or removed: not what is unfinished either.
func TestAppendOnlyDirectory(t *testing.T) {
	needRoot(t)
	layOut := func(t *testing.T) yard {
		y := yard{t, t.TempDir()}
		hardLinks(y)
		y.xattr("d/a", "user.x", "y")
		y.file("old", 20)
		y.settle()
		y.file("e/old", 10)
		y.appendOnly("e")
		return y
	}
	for _, c := range []struct {
		name string
		args []string
		code int
	}{
		{"file", []string{"d/a", "e"}, exitOK},
		{"file to name", []string{"-n", "d/a", "e/b"}, exitOK},
		{"tree", []string{"-a", "d", "e"}, exitOK},
		{"link", []string{"-a", "d/l", "e"}, exitOK},
		{"FIFO", []string{"-r", "d/p", "e"}, exitOK},
		{"content", []string{"-r", "d/.", "e"}, exitOK},
		{"hard links", []string{"-a", "d/a", "d/b", "d/sub/c", "d/l", "d/sub/l2", "e"}, exitOK},
		{"existing file is left alone", []string{"-an", "old", "e"}, exitOK},
	} {
		t.Run(c.name, func(t *testing.T) {
			y := layOut(t)
			cp := exec.Command("cp", c.args...)
			cp.Dir = y.dir
			await(t, cp).want(t, exitOK)
			want := snapshot(t, y.path("e"), c.args[0] == "-a")
			everyWay(t, func(t *testing.T, w way) {
				y := layOut(t)
				t.Chdir(y.dir)
				w.run(t, c.args...).want(t, c.code)
				sameTree(t, snapshot(t, y.path("e"), c.args[0] == "-a"), want)
				t.Chdir("/")
			})
		})
	}
	everyWay(t, func(t *testing.T, w way) {
		y := layOut(t)
		before := snapshot(t, y.path("e"), false)
		for _, args := range [][]string{{"old", "e"}, {"-af", "old", "e"}, {"-a", "d/l", "e/old"}, {"-r", "d/p", "e/old"}} {
			t.Chdir(y.dir)
			o := w.run(t, args...)
			o.want(t, exitFailed)
			o.says(t, "e/old: ", "append-only")
			sameTree(t, snapshot(t, y.path("e"), false), before)
			t.Chdir("/")
		}
		// What fails is not left behind under its final name.
		y.file("large", 3<<20)
		cmd := w.command(t.Context(), t, y.path("large"), y.path("e"))
		cmd.Path, cmd.Args = "/bin/sh", append([]string{"sh", "-c", `ulimit -f 2048; exec "$@"`, "sh", cmd.Path}, cmd.Args[1:]...)
		o := await(t, cmd)
		o.want(t, exitFailed)
		o.says(t, "file too large")
		sameTree(t, snapshot(t, y.path("e"), false), before)
	})
}
