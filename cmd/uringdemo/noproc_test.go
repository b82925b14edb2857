package main

import (
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
			cmd.Path, cmd.Args = "/bin/sh", append([]string{"sh", "-c", `mount -t tmpfs none /proc || exit 77; exec "$@"`, "sh", cmd.Path}, cmd.Args[1:]...)
			cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
			o := await(t, cmd)
			if o.code == 77 {
				t.Skip("cannot mount over /proc: ", o.stderr)
			}
			o.want(t, exitOK)
			sameTree(t, snapshot(t, y.dir, args[0] == "-a"), want)
		}
	})
}
