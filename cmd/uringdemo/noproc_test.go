package main

import (
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// TestWithoutProc copies where /proc is not mounted, as in a bare chroot.
func TestWithoutProc(t *testing.T) {
	needRoot(t)
	layOut := func(t *testing.T) yard {
		y := yard{t, t.TempDir()}
		y.file("new", 10)
		y.file("old", 20)
		y.xattr("old", "user.x", "y")
		y.chown("old", 7, 8)
		y.file("d/a", 10)
		y.symlink("a", "d/l")
		y.hardlink("d/l", "d/m")
		y.settle()
		return y
	}
	everyWay(t, func(t *testing.T, w way) {
		for _, args := range [][]string{{"new", "old"}, {"-a", "d", "e"}, {"-a", "d/l", "old"}} {
			y := layOut(t)
			cp := exec.Command("cp", args...)
			cp.Dir = y.dir
			await(t, cp).want(t, exitOK)
			want := snapshot(t, y.dir, args[0] == "-a")

			y = layOut(t)
			cmd := w.command(t.Context(), t, args...)
			cmd.Dir = y.dir
			withoutProc(t, "", cmd).want(t, exitOK)
			sameTree(t, snapshot(t, y.dir, args[0] == "-a"), want)
		}
	})
}

// withoutProc runs the program where /proc is not mounted, after some lines of shell.
func withoutProc(t *testing.T, first string, cmd *exec.Cmd) outcome {
	t.Helper()
	script := "mount -t tmpfs none /proc || exit 77\n" + first + "\nexec \"$@\""
	cmd.Path, cmd.Args = "/bin/sh", append([]string{"sh", "-c", script, "sh", cmd.Path}, cmd.Args[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	o := await(t, cmd)
	if o.code == 77 {
		t.Skip("cannot mount over /proc: ", o.stderr)
	}
	return o
}

// TestUmaskWithoutProc heeds the umask also where /proc does not tell it.
func TestUmaskWithoutProc(t *testing.T) {
	needRoot(t)
	y := yard{t, t.TempDir()}
	y.file("a", 10)
	everyWay(t, func(t *testing.T, w way) {
		withoutProc(t, "umask 027", w.command(t.Context(), t, y.path("a"), y.path("b"))).want(t, exitOK)
		fi, err := os.Stat(y.path("b"))
		must(t, err)
		if fi.Mode() != 0640 {
			t.Errorf("mode %v", fi.Mode())
		}
		must(t, os.Remove(y.path("b")))
	})
}
