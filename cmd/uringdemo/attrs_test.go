package main

import (
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// TestAttributeDoesNotFit copies attributes for which the target has no room: file systems differ in what they hold. Everything else of
// the file is copied, and that something is missing is a failure. Where a file is replaced, it would lose what it has: it stays.
func TestAttributeDoesNotFit(t *testing.T) {
	y := yard{t, t.TempDir()}
	mount(t, "tmpfs", y.path("roomy"), "tmpfs", 0, "size=4m")
	mount(t, "tmpfs", y.path("tight"), "tmpfs", 0, "size=4m,nr_inodes=24") // which count the room for attributes, in KiB
	src, dst := yard{t, y.path("roomy")}, yard{t, y.path("tight")}
	src.file("d/a", 1000)
	src.file("d/sub/b", 10)
	src.xattr("d/a", "user.a", "short")
	for _, name := range []string{"d/a", "d/sub"} {
		src.xattr(name, "user.long", strings.Repeat("v", 40_000))
		src.chmod(name, 0751)
	}
	src.settle()
	want := snapshot(t, src.path("d"), true)
	for name, is := range want {
		want[name], _, _ = strings.Cut(is, " user.long") // the attributes are the last of it
	}
	src.file("old", 10)
	everyWay(t, func(t *testing.T, w way) {
		o := w.run(t, "-a", "--json", src.path("d"), dst.path("d"))
		o.want(t, exitFailed)
		o.says(t, dst.path("d/a")+": attribute user.long is not kept: no space left on device",
			dst.path("d/sub")+": attribute user.long is not kept: no space left on device")
		if s := o.summary(t); len(s.Failures) != 2 || s.Files != 2 || s.Directories != 2 {
			t.Errorf("%d failures, %d files, %d directories", len(s.Failures), s.Files, s.Directories)
		}
		sameTree(t, snapshot(t, dst.path("d"), true), want)
		must(t, os.RemoveAll(dst.path("d")))

		dst.file("old", 20)
		dst.xattr("old", "user.long", strings.Repeat("v", 12_000)) // twice is too much
		before := attributes(t, dst.path("old"))
		w.run(t, src.path("old"), dst.path("old")).want(t, exitFailed)
		if after := attributes(t, dst.path("old")); !slices.Equal(after, before) {
			t.Errorf("the old file has the attributes %.40q", after)
		}
		noTemps(t, dst.dir)
		must(t, os.Remove(dst.path("old")))
	})
}

// TestOwnerOutsideOfNamespace copies, as root of a user namespace, what belongs to somebody whom it does not have. As everywhere else
// where root cannot give a file away, that is said.
func TestOwnerOutsideOfNamespace(t *testing.T) {
	needRoot(t)
	y := yard{t, t.TempDir()}
	y.file("a", 10)
	y.chown("a", user, user)
	y.mkdir("out")
	only := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}}
	everyWay(t, func(t *testing.T, w way) {
		cmd := w.command(t.Context(), t, "-a", y.path("a"), y.path("out"))
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: only, GidMappings: only}
		var stderr strings.Builder
		cmd.Stderr = &stderr
		if err := cmd.Run(); cmd.ProcessState == nil {
			t.Skipf("cannot make a user namespace: %v", err)
		}
		o := outcome{code: cmd.ProcessState.ExitCode(), stderr: beside(stderr.String())}
		o.want(t, exitOK)
		o.says(t, "owners are not kept: ")
	})
}
