package main

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// mount mounts something until the test ends.
func mount(t *testing.T, source, target, kind string, flags uintptr, data string) {
	t.Helper()
	needRoot(t)
	must(t, os.MkdirAll(target, 0755))
	if err := unix.Mount(source, target, kind, flags, data); err != nil {
		t.Skipf("cannot mount: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(target, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// TestRefusesItself copies files and trees onto and into themselves by all the ways that names can hide it. The source must not
// change, and the program must say that it did nothing.
func TestRefusesItself(t *testing.T) {
	cases := []struct {
		name  string
		mount bool
		make  func(y yard)
		args  []string
	}{
		{"name", false, func(y yard) {}, []string{"f", "f"}},
		{"dots", false, func(y yard) {}, []string{"f", "t/../f"}},
		{"hard link", false, func(y yard) { y.hardlink("f", "g") }, []string{"f", "g"}},
		{"hard link in directory", false, func(y yard) { y.mkdir("d"); y.hardlink("f", "d/f") }, []string{"f", "d"}},
		{"hard link in tree", false, func(y yard) { y.mkdir("d"); y.hardlink("t/x", "d/x") }, []string{"-a", "t/.", "d"}},
		{"link to source", false, func(y yard) { y.symlink("f", "g") }, []string{"-f", "f", "g"}},
		{"link to target", false, func(y yard) { y.symlink("f", "g") }, []string{"-f", "g", "f"}},
		{"absolute link by links", false, func(y yard) { y.symlink(y.path("h"), "g"); y.symlink("f", "h") }, []string{"f", "g"}},
		{"bind mount of directory", true, func(y yard) { mount(y.TB.(*testing.T), y.path("t"), y.path("d"), "", unix.MS_BIND, "") }, []string{"t/x", "d/x"}},
		{"bind mount of tree", true, func(y yard) { mount(y.TB.(*testing.T), y.path("t"), y.path("d/t"), "", unix.MS_BIND, "") }, []string{"-a", "t", "d"}},
		{"directory into itself", false, func(y yard) {}, []string{"-r", "t", "t"}},
		{"directory into its child", false, func(y yard) {}, []string{"-r", "t", "t/s/new"}},
		{"directory into itself by a link", false, func(y yard) { y.symlink("t/s", "d") }, []string{"-r", "t", "d"}},
		{"content into its child", false, func(y yard) {}, []string{"-r", "t/.", "t/s"}},
		{"directory into a bind mount of its child", true, func(y yard) { mount(y.TB.(*testing.T), y.path("t/s"), y.path("d"), "", unix.MS_BIND, "") }, []string{"-r", "t", "d/new"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if c.mount {
				needRoot(t)
			}
			for i, w := range ways() {
				if raceEnabled && i%3 != 0 {
					continue
				}
				t.Run(w.String(), func(t *testing.T) {
					y := yard{t, t.TempDir()}
					y.file("f", 4321)
					y.file("t/x", 1234)
					y.file("t/s/y", 10)
					c.make(y)
					before := snapshot(t, y.dir, true)
					t.Chdir(y.dir)
					w.run(t, append([]string{"--fsync=false"}, c.args...)...).want(t, exitFailed)
					after := snapshot(t, y.dir, true)
					// Only the walk can find out about the bind mount. It copies what there was, and ends. And one file that is the
					// same does not keep others from being copied.
					maps.DeleteFunc(after, func(name, _ string) bool {
						return before[name] == "" && (strings.Contains(name, "new") || strings.HasPrefix(name, "d/s"))
					})
					sameTree(t, after, before)
				})
			}
		})
	}
}

// TestFull fills a small file system at many points of a copy.
func TestFull(t *testing.T) {
	dir := t.TempDir()
	full := filepath.Join(dir, "full")
	mount(t, "tmpfs", full, "tmpfs", 0, "size=4m,nr_inodes=64")
	y := yard{t, dir}
	y.file("big", 6<<20)
	y.file("tree/a", 3<<20)
	y.file("tree/b", 3<<20)
	y.file("tree/c", 3<<20)
	everyWay(t, func(t *testing.T, w way) {
		for _, method := range []string{"auto", "blocks"} {
			for used := 0; used < 4<<20; used += 1300 << 10 {
				filler := filepath.Join(full, "filler")
				must(t, os.WriteFile(filler, make([]byte, used), 0644))
				must(t, os.WriteFile(filepath.Join(full, "big"), []byte("old"), 0600))

				o := w.run(t, "--method="+method, y.path("big"), full)
				o.want(t, exitFailed)
				o.says(t, filepath.Join(full, "big")+": ", "no space left on device")
				if old, err := os.ReadFile(filepath.Join(full, "big")); err != nil || string(old) != "old" {
					t.Fatalf("the old file is %d bytes, %v", len(old), err)
				}

				o = w.run(t, "--method="+method, "-r", "--json", y.path("tree"), full)
				o.want(t, exitFailed)
				s := o.summary(t)
				for _, p := range s.Failures {
					if _, err := os.Lstat(p.Path); err == nil {
						t.Errorf("%s failed and exists", p.Path)
					}
				}
				if left, _ := os.ReadDir(filepath.Join(full, "tree")); len(left)+len(s.Failures) != 3 {
					t.Errorf("%d copied and %d failed of 3", len(left), len(s.Failures))
				}
				noTemps(t, full)
				must(t, os.RemoveAll(filepath.Join(full, "tree")))
			}
		}
	})
}

// TestSyncFindsNoSpace copies to a file system that takes the data and learns only at fsync that there is no room for it.
func TestSyncFindsNoSpace(t *testing.T) {
	needRoot(t)
	mkfs, err := exec.LookPath("mkfs.ext4")
	if err != nil {
		t.Skip("needs mkfs.ext4: not installed")
	}
	dir := t.TempDir()
	y := yard{t, dir}
	mount(t, "tmpfs", y.path("small"), "tmpfs", 0, "size=20m")
	image := y.path("small/image")
	must(t, os.WriteFile(image, nil, 0600))
	must(t, os.Truncate(image, 100<<20))
	must(t, exec.Command(mkfs, "-q", "-O", "^has_journal", image).Run())
	y.mkdir("disk")
	if out, err := exec.Command("mount", "-o", "loop", image, y.path("disk")).CombinedOutput(); err != nil {
		t.Skipf("cannot mount an image: %s", out)
	}
	t.Cleanup(func() { must(t, unix.Unmount(y.path("disk"), 0)) })
	y.file("a", 40<<20)
	everyWay(t, func(t *testing.T, w way) {
		for _, method := range []string{"auto", "blocks"} {
			o := w.run(t, "--method="+method, y.path("a"), y.path("disk/a"))
			o.want(t, exitFailed)
			o.says(t, y.path("disk/a")+": sync: ")
			if left, err := os.ReadDir(y.path("disk")); err != nil || len(left) != 1 { // lost+found
				t.Errorf("left: %v, %v", left, err)
			}
		}
	})
}

// TestDevFull writes to the device that is always full, which must still be a device afterwards.
func TestDevFull(t *testing.T) {
	y := yard{t, t.TempDir()}
	y.file("a", 100)
	needRoot(t)
	y.mknod("full", unix.S_IFCHR|0666, 1, 7)
	y.mknod("null", unix.S_IFCHR|0666, 1, 3)
	y.mknod("fifo", unix.S_IFIFO|0666, 0, 0)
	everyWay(t, func(t *testing.T, w way) {
		for _, target := range []string{"/dev/full", y.path("full")} {
			o := w.run(t, y.path("a"), target)
			o.want(t, exitFailed)
			o.says(t, target+": ", "no space left on device")
		}
		w.run(t, y.path("a"), y.path("null")).want(t, exitOK)
		w.run(t, y.path("a"), y.path("fifo")).want(t, exitFailed)
		for _, name := range []string{"full", "null", "fifo"} {
			if fi, err := os.Lstat(y.path(name)); err != nil || fi.Mode().IsRegular() {
				t.Fatalf("%s is %v, %v", name, fi, err)
			}
		}
		noTemps(t, y.dir)
	})
}

// TestTerminal writes to a device that has no positions.
func TestTerminal(t *testing.T) {
	y := yard{t, t.TempDir()}
	y.file("a", 0)
	text := strings.Repeat("0123456789", 6) + "\n"
	must(t, os.WriteFile(y.path("a"), []byte(strings.Repeat(text, 5000)), 0644)) // more than a terminal takes at once
	everyWay(t, func(t *testing.T, w way) {
		master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
		if err != nil {
			t.Skip("needs a pseudo terminal: ", err)
		}
		defer master.Close()
		must(t, unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0))
		n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
		must(t, err)
		name := "/dev/pts/" + itoa(n)
		keep, err := os.OpenFile(name, os.O_RDWR|unix.O_NOCTTY, 0) // without anybody the master's reads fail
		must(t, err)
		defer keep.Close()
		got := make(chan string)
		go func() {
			var all []byte
			buf := make([]byte, 4096)
			for !bytes.HasSuffix(all, []byte("end")) {
				n, err := master.Read(buf)
				if all = append(all, buf[:n]...); err != nil {
					break
				}
			}
			got <- string(all)
		}()
		w.run(t, y.path("a"), name).want(t, exitOK)
		_, err = keep.WriteString("end")
		must(t, err)
		if want := strings.Repeat(text[:60]+"\r\n", 5000) + "end"; <-got != want {
			t.Error("something else came out of the terminal")
		}
	})
}

// TestFileSizeLimit goes beyond RLIMIT_FSIZE, where a signal would end a program that does not look out.
func TestFileSizeLimit(t *testing.T) {
	y := yard{t, t.TempDir()}
	y.file("a", 3<<20)
	everyWay(t, func(t *testing.T, w way) {
		for _, method := range []string{"auto", "blocks"} {
			cmd := w.command(t.Context(), t, "--method="+method, y.path("a"), y.path("b"))
			cmd.Path, cmd.Args = "/bin/sh", append([]string{"sh", "-c", `ulimit -f 2048; exec "$@"`, "sh", cmd.Path}, cmd.Args[1:]...)
			o := await(t, cmd)
			o.want(t, exitFailed)
			o.says(t, y.path("b")+": ", "file too large")
			if _, err := os.Lstat(y.path("b")); err == nil {
				t.Fatal("half a file under the final name")
			}
			noTemps(t, y.dir)
		}
	})
}

// TestFIFO tries to read what never ends, or never begins. If the program did, neither would the test.
func TestFIFO(t *testing.T) {
	y := yard{t, t.TempDir()}
	y.mknod("fifo", unix.S_IFIFO|0644, 0, 0)
	y.mkdir("d")
	y.mknod("d/fifo", unix.S_IFIFO|0644, 0, 0)
	everyWay(t, func(t *testing.T, w way) {
		out := t.TempDir()
		o := w.run(t, y.path("fifo"), filepath.Join(out, "x"))
		o.want(t, exitFailed)
		o.says(t, y.path("fifo")+": is a FIFO")
		w.run(t, "/dev/zero", filepath.Join(out, "x")).want(t, exitFailed)
		w.run(t, "-r", y.path("fifo"), filepath.Join(out, "r")).want(t, exitOK)
		w.run(t, "-a", y.path("d"), filepath.Join(out, "a")).want(t, exitOK)
		for _, name := range []string{"r", "a/fifo"} {
			if fi, err := os.Lstat(filepath.Join(out, name)); err != nil || fi.Mode().Type() != os.ModeNamedPipe {
				t.Errorf("%s: %v, %v", name, fi, err)
			}
		}
	})
}

// TestSwap lets another process exchange directories and links under the copy. Nothing outside may be read, written or changed.
func TestSwap(t *testing.T) {
	for _, side := range []string{"source", "target"} {
		t.Run(side, func(t *testing.T) {
			y := yard{t, t.TempDir()}
			y.file("outside/secret", 100)
			y.file("outside/sub/file", 100)
			y.settle()
			canary := snapshot(t, y.path("outside"), true)

			for i := range 20 {
				y.file(fmt.Sprintf("src/d%d/sub/file", i), 50)
				y.file(fmt.Sprintf("src/d%d/secret", i), 60)
			}
			y.mkdir("dst/src")
			top := "src"
			if side == "target" {
				top = "dst/src"
				must(t, exec.Command("cp", "-r", y.path("src"), y.path("dst")).Run())
			}
			y.symlink("../outside", "link")
			y.symlink(y.path("outside"), "absolute")

			end := time.Now().Add(2 * time.Second)
			swapped := make(chan int)
			go func() {
				n := 0
				for ; time.Now().Before(end); n++ {
					victim := y.path(fmt.Sprintf("%s/d%d", top, n%20))
					with := y.path([]string{"link", "absolute"}[n%2])
					if unix.Renameat2(unix.AT_FDCWD, victim, unix.AT_FDCWD, with, unix.RENAME_EXCHANGE) == nil {
						_ = unix.Renameat2(unix.AT_FDCWD, victim, unix.AT_FDCWD, with, unix.RENAME_EXCHANGE)
					}
				}
				swapped <- n
			}()
			all, runs := ways(), 0
			for ; time.Now().Before(end); runs++ {
				w := all[runs%len(all)]
				w.run(t, "-a", "--fsync=false", y.path("src"), y.path("dst")) // it may well fail
			}
			t.Logf("%d swaps during %d copies", <-swapped, runs)
			sameTree(t, snapshot(t, y.path("outside"), true), canary)

			secret := string(content("outside/secret", 100))
			must(t, filepath.WalkDir(y.path("dst"), func(path string, d os.DirEntry, err error) error {
				if err == nil && d.Type().IsRegular() {
					if b, _ := os.ReadFile(path); string(b) == secret {
						t.Errorf("%s came from outside", path)
					}
				}
				return err
			}))
			noTemps(t, y.dir)
		})
	}
}

// TestUnreadable copies as a user who may not read some of it.
func TestUnreadable(t *testing.T) {
	needRoot(t)
	y := outside(t)
	y.chmod(".", 0777)
	for i := range 1000 {
		y.file(fmt.Sprintf("src/%d/%d", i%10, i), 10)
	}
	y.chmod("src/3/503", 0)
	y.chmod("src/4/704", 0200)
	y.mkdir("src/5/closed")
	y.chmod("src/5/closed", 0)
	for _, w := range ways() {
		t.Run(w.String(), func(t *testing.T) {
			dst := y.path("dst-" + strings.ReplaceAll(w.String(), "/", "-"))
			cmd := asNobody(t, w.command(t.Context(), t, "-a", "--fsync=false", "--json", y.path("src"), dst))
			o := await(t, cmd)
			o.want(t, exitFailed)
			s := o.summary(t)
			var failed []string
			for _, p := range s.Failures {
				failed = append(failed, strings.TrimPrefix(p.Path, y.dir))
				o.says(t, "uringdemo: "+p.Path+": ", "permission denied")
			}
			slices.Sort(failed)
			if want := []string{"/src/3/503", "/src/4/704", "/src/5/closed"}; !slices.Equal(failed, want) {
				t.Errorf("failed: %q, want %q", failed, want)
			}
			if s.Files != 998 {
				t.Errorf("%d files copied, want 998", s.Files)
			}
			noTemps(t, dst)
		})
	}
}

// asNobody runs a command as a user without rights. The binary is copied to where that user can reach it.
func asNobody(t *testing.T, cmd *exec.Cmd) *exec.Cmd { return as(t, 65534, cmd) }

// user is somebody who owns files of a test.
const user = 64999

func as(t *testing.T, id uint32, cmd *exec.Cmd) *exec.Cmd {
	t.Helper()
	dir := outside(t).dir
	must(t, os.Chmod(dir, 0755))
	bin := filepath.Join(dir, "uringdemo")
	if err := os.Link(cmd.Path, bin); err != nil {
		b, err := os.ReadFile(cmd.Path)
		must(t, err)
		must(t, os.WriteFile(bin, b, 0755))
	}
	cmd.Path = bin
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: id, Gid: id}}
	return cmd
}

// TestReadOnlyTarget keeps a user from replacing a file that he made read-only, unless he insists.
func TestReadOnlyTarget(t *testing.T) {
	needRoot(t)
	dir, err := os.MkdirTemp("", "uringdemo")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	y := yard{t, dir}
	y.chown(".", 65534, 65534)
	y.chmod(".", 0755)
	y.file("a", 10)
	everyWay(t, func(t *testing.T, w way) {
		y.file("b", 20)
		y.chown("b", 65534, 65534)
		y.chmod("b", 0444)
		o := await(t, asNobody(t, w.command(t.Context(), t, y.path("a"), y.path("b"))))
		o.want(t, exitFailed)
		o.says(t, y.path("b")+": permission denied")
		await(t, asNobody(t, w.command(t.Context(), t, "-f", y.path("a"), y.path("b")))).want(t, exitOK)
		if b, _ := os.ReadFile(y.path("b")); len(b) != 10 {
			t.Errorf("%d bytes", len(b))
		}
	})
}

// outside returns an empty yard that may be opened to other users, as t.TempDir is not.
func outside(t *testing.T) yard {
	t.Helper()
	dir, err := os.MkdirTemp("", "uringdemo")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return yard{t, dir}
}

// TestForeignDirectory copies into a directory of somebody else that anybody may write to. Its times are not the user's to set, and that is
// what the message says: it has no ACL that would have to go.
func TestForeignDirectory(t *testing.T) {
	needRoot(t)
	everyWay(t, func(t *testing.T, w way) {
		y := outside(t)
		y.chmod(".", 0755)
		y.file("src/a", 10)
		y.mkdir("open/src")
		y.chmod("open/src", 0777)
		o := await(t, as(t, user, w.command(t.Context(), t, "-a", y.path("src"), y.path("open"))))
		o.want(t, exitFailed)
		if want := "uringdemo: " + y.path("open/src") + ": chtimes: operation not permitted\n"; o.stderr != want {
			t.Errorf("said %q, want %q", o.stderr, want)
		}
		sameContent(t, y.path("open/src/a"), y.path("src/a"))

		// What was copied into it is complete, and to be made durable all the same, as far as the user may.
		y.chmod("open/src", 0773)
		o = await(t, as(t, user, w.command(t.Context(), t, "-a", y.path("src"), y.path("open"))))
		o.want(t, exitFailed)
		o.says(t, y.path("open/src")+": chtimes: operation not permitted\n",
			y.path("open/src")+": note: without the right to read this directory, it is not synced\n")
	})
}

// TestNameless has links lead to a pipe, as standard input and output often are. Neither is missing, but no name leads there.
func TestNameless(t *testing.T) {
	y := yard{t, t.TempDir()}
	y.file("a", 10)
	r, p, err := os.Pipe()
	must(t, err)
	defer r.Close()
	defer p.Close()
	for _, args := range [][]string{{"/proc/self/fd/0", y.path("b")}, {"-f", y.path("a"), "/proc/self/fd/0"}} {
		cmd := ways()[0].command(t.Context(), t, args...)
		cmd.Stdin = r
		o := await(t, cmd)
		o.want(t, exitFailed)
		o.says(t, "uringdemo: /proc/self/fd/0: leads to a FIFO that has no name\n")
	}
}

// TestUnprivileged compares with what cp does for a user who is not root.
func TestUnprivileged(t *testing.T) {
	needRoot(t)
	cases := []struct {
		name, args string
		make       func(y yard)
	}{
		{"attributes of a read-only file", "-a d e", func(y yard) {
			y.file("d/a", 10)
			y.xattr("d/a", "user.x", "y")
			y.xattr("d/a", "system.posix_acl_access", acl(77, 4, 4))
			y.chmod("d/a", 0444)
		}},
		{"ACL of a read-only file, and then its attributes", "-a d e", func(y yard) {
			y.file("d/a", 10)
			y.xattr("d/a", "system.posix_acl_access", acl(77, 4, 4))
			y.xattr("d/a", "user.x", "y")
			y.chmod("d/a", 0444)
			y.file("d/s/b", 10)
			y.xattr("d/s", "system.posix_acl_access", acl(77, 4, 4))
			y.xattr("d/s", "user.x", "y")
			y.chmod("d/s", 0555)
		}},
		{"attributes of a read-only directory", "-a d e", func(y yard) {
			y.file("d/s/a", 10)
			y.xattr("d/s", "user.x", "y")
			y.xattr("d/s", "system.posix_acl_default", acl(77, 4, 4))
			y.chmod("d/s", 0555)
		}},
		{"over the copy of a read-only directory", "-a d e", func(y yard) {
			for _, top := range []string{"d", "e/d"} {
				y.file(top+"/s/u/a", 10+len(top))
				y.file(top+"/s/b", 10+len(top))
				y.chmod(top+"/s/u", 0500)
				y.chmod(top+"/s", 0555)
			}
		}},
		{"default ACL that leaves the owner nothing", "-r d e", ownerless},
		{"default ACL that leaves the owner nothing, archive", "-a d e", ownerless},
		{"directory that may not be searched", "-a d e", func(y yard) { y.mkdir("d/s"); y.chmod("d/s", 0444) }},
		{"set-user-ID over set-user-ID", "a b", func(y yard) { y.file("a", 10); y.file("b", 20); y.chmod("b", 06755) }},
		{"set-group-ID without execution", "a b", func(y yard) { y.file("a", 10); y.file("b", 20); y.chmod("b", 02744) }},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			args := strings.Fields(c.args)
			layOut := func(t *testing.T) yard {
				y := outside(t)
				c.make(y)
				y.settle()
				must(t, filepath.WalkDir(y.dir, func(path string, d os.DirEntry, err error) error {
					must(t, err)
					fi, err := os.Lstat(path)
					must(t, err)
					must(t, os.Lchown(path, user, user))
					return os.Chmod(path, fi.Mode()) // which chown has changed
				}))
				return y
			}
			y := layOut(t)
			cp := exec.Command("cp", args...)
			cp.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}}
			cp.Dir = y.dir
			await(t, cp).want(t, exitOK)
			want := snapshot(t, y.dir, c.args[0] == '-')
			everyWay(t, func(t *testing.T, w way) {
				y := layOut(t)
				cmd := as(t, user, w.command(t.Context(), t, args...))
				cmd.Dir = y.dir
				o := await(t, cmd)
				o.want(t, exitOK)
				if o.stderr != "" {
					t.Errorf("said %s", o.stderr)
				}
				sameTree(t, snapshot(t, y.dir, c.args[0] == '-'), want)
			})
		})
	}
}

// ownerless makes a target whose default ACL grants nothing to owners, and a tree to copy to it.
func ownerless(y yard) {
	smallTree(y)
	y.chmod("d", 0711)
	y.mkdir("e")
	own := []byte(acl(77, 7, 5))
	own[6] = 0 // user::---
	y.xattr("e", "system.posix_acl_default", string(own))
}

// TestUmask copies where the umask takes rights from the owner of what is created: as cp does.
func TestUmask(t *testing.T) {
	needRoot(t)
	under := func(umask string, cmd *exec.Cmd) *exec.Cmd {
		cmd.Args = append([]string{"sh", "-c", `umask "$0" && exec "$@"`, umask, cmd.Path}, cmd.Args[1:]...)
		cmd.Path = "/bin/sh"
		return cmd
	}
	for _, umask := range []string{"0777", "0277", "0500"} {
		for _, flag := range []string{"-r", "-a"} {
			t.Run(umask+flag, func(t *testing.T) {
				layOut := func(t *testing.T) yard {
					y := outside(t)
					smallTree(y)
					y.settle()
					for _, name := range []string{".", "d", "d/a", "d/sub", "d/sub/b", "d/sub/c", "d/sub/none"} {
						y.chown(name, user, user)
					}
					return y
				}
				y := layOut(t)
				cp := exec.Command("cp", flag, y.path("d"), y.path("e"))
				cp.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}}
				await(t, under(umask, cp)).want(t, exitOK)
				want := snapshot(t, y.dir, flag == "-a")
				want["d/a"] += " user.x=79"
				if flag == "-a" {
					want["e/a"] += " user.x=79" // which cp loses here, and says nothing
				}
				everyWay(t, func(t *testing.T, w way) {
					y := layOut(t)
					y.xattr("d/a", "user.x", "y")
					o := await(t, under(umask, as(t, user, w.command(t.Context(), t, flag, y.path("d"), y.path("e")))))
					o.want(t, exitOK)
					if o.stderr != "" {
						t.Errorf("said %s", o.stderr)
					}
					sameTree(t, snapshot(t, y.dir, flag == "-a"), want)
				})
			})
		}
	}
}

// TestReadOnlyDirectory copies again over the copy of a directory that its owner may not write to. Whatever comes between, it is so in the
// end, with nothing half done in it.
func TestReadOnlyDirectory(t *testing.T) {
	needRoot(t)
	everyWay(t, func(t *testing.T, w way) {
		y := outside(t)
		y.file("src/d/a", 10)
		y.file("src/d/new", 10)
		y.file("src/d/big", 32<<20)
		y.file("dst/src/d/a", 20)
		y.file("dst/src/d/kept", 20)
		for _, name := range []string{"dst/src", "dst/src/d", "dst/src/d/a", "dst/src/d/kept"} {
			y.chown(name, user, user)
		}
		y.chmod("dst/src/d/a", 0444) // which cp does not replace either
		y.chmod("dst/src/d", 0511)
		y.chmod("src/d", 0555)
		y.chmod(".", 0755)
		readOnly := func(perm os.FileMode) {
			t.Helper()
			fi, err := os.Stat(y.path("dst/src/d"))
			must(t, err)
			if fi.Mode().Perm() != perm {
				t.Errorf("mode %v, want %v", fi.Mode(), perm)
			}
			noTemps(t, y.path("dst"))
		}

		// Without -a it is as read-only as its owner wants it.
		o := await(t, as(t, user, w.command(t.Context(), t, "-r", y.path("src"), y.path("dst"))))
		o.want(t, exitFailed)
		o.says(t, "/dst/src/d/new: open: permission denied")
		readOnly(0511)

		cmd := as(t, user, w.command(t.Context(), t, "-a", "--method=blocks", y.path("src"), y.path("dst")))
		must(t, cmd.Start())
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		for at := time.Tick(time.Millisecond); ; {
			if fi, err := os.Stat(y.path("dst/src/d")); err != nil || fi.Mode().Perm() != 0511 {
				_ = cmd.Process.Signal(os.Interrupt) // it may have ended
				<-ended
				break
			}
			select {
			case err := <-ended:
				t.Fatalf("it made nothing of it: %v", err)
			case <-at:
			}
		}
		if cmd.ProcessState.ExitCode() == exitInterrupted {
			readOnly(0511)
		}

		o = await(t, as(t, user, w.command(t.Context(), t, "-a", y.path("src"), y.path("dst"))))
		o.want(t, exitFailed)
		o.says(t, "/dst/src/d/a: permission denied")
		readOnly(0555)
		if b, err := os.ReadFile(y.path("dst/src/d/new")); len(b) != 10 || err != nil {
			t.Errorf("%d bytes, %v", len(b), err)
		}
	})
}

// TestUnreadableDirectories copies out of and into directories that the user may search and not read, as homes and drop boxes are. The
// default ACL of one is heeded all the same.
func TestUnreadableDirectories(t *testing.T) {
	needRoot(t)
	y := outside(t)
	y.chmod(".", 0755)
	y.file("home/a", 10)
	smallTree(yard{t, y.path("home")})
	y.chmod("home", 0711)
	everyWay(t, func(t *testing.T, w way) {
		y.mkdir("drop/d")
		y.xattr("drop", "system.posix_acl_default", acl(77, 7, 0))
		y.chown("drop/d", user, user)
		y.chmod("drop", 0733)
		y.chmod("drop/d", 0300)
		for _, args := range [][]string{{"a"}, {"a"}, {"-r", "d"}, {"-a", "d"}} {
			last := len(args) - 1
			args[last] = y.path("home/" + args[last])
			o := await(t, as(t, user, w.command(t.Context(), t, append(args, y.path("drop"))...)))
			o.want(t, exitOK)
			o.says(t, "not synced")
		}
		got := snapshot(t, y.path("drop"), false)
		if want := snapshot(t, y.path("home"), false); !maps.EqualFunc(got, want, func(_, _ string) bool { return true }) {
			t.Errorf("copied %q, want the names of %q", got, want)
		}
		if got := got["a"]; !strings.Contains(got, "mode 100640 ") || !strings.Contains(got, "system.posix_acl_access") {
			t.Errorf("a file is %s, and not what the default ACL makes of it", got)
		}
		noTemps(t, y.path("drop"))
		must(t, os.RemoveAll(y.path("drop")))
	})
}

// TestACLIsNotKept copies between file systems of which one has no ACLs. Nobody may have more rights to the copy than to the source.
func TestACLIsNotKept(t *testing.T) {
	y := yard{t, t.TempDir()}
	mount(t, "none", y.path("without"), "ramfs", 0, "")
	y.file("a", 10)
	y.xattr("a", "system.posix_acl_access", acl(77, 7, 4)) // group::r-x, mask::rwx
	y.mkdir("d")
	y.xattr("d", "system.posix_acl_access", acl(77, 7, 4))
	y.file("without/b", 10)
	y.chmod("without/b", 0664)
	y.mkdir("inherits")
	y.xattr("inherits", "system.posix_acl_default", acl(77, 7, 4))
	everyWay(t, func(t *testing.T, w way) {
		o := w.run(t, "-a", y.path("a"), y.path("d"), y.path("without"))
		o.want(t, exitOK)
		o.says(t, "this file system does not keep attribute system.posix_acl_access")
		for _, name := range []string{"a", "d"} {
			fi, err := os.Stat(y.path("without/" + name))
			must(t, err)
			if fi.Mode().Perm() != 0754 {
				t.Errorf("%s has mode %v", name, fi.Mode())
			}
		}
		must(t, os.RemoveAll(y.path("without/d")))

		w.run(t, "-a", y.path("without/b"), y.path("inherits")).want(t, exitOK)
		fi, err := os.Stat(y.path("inherits/b"))
		must(t, err)
		if got := attributes(t, y.path("inherits/b")); fi.Mode().Perm() != 0664 || len(got) > 0 {
			t.Errorf("mode %v, attributes %q", fi.Mode(), got)
		}
		must(t, os.Remove(y.path("inherits/b")))
	})
}

// TestModeWindow watches for a moment at which others could open what is not complete.
func TestModeWindow(t *testing.T) {
	y := yard{t, t.TempDir()}
	for i := range 50 {
		y.file(fmt.Sprintf("src/%d", i), 100<<10)
		y.chmod(fmt.Sprintf("src/%d", i), 0666)
	}
	everyWay(t, func(t *testing.T, w way) {
		dst := filepath.Join(t.TempDir(), "dst")
		must(t, os.Mkdir(dst, 0755))
		ctx, stop := context.WithCancel(t.Context())
		seen := make(chan int)
		go func() {
			n := 0
			for ctx.Err() == nil {
				entries, _ := os.ReadDir(dst)
				for _, e := range entries {
					var st unix.Stat_t
					if !strings.HasPrefix(e.Name(), ".uringdemo-") || unix.Lstat(filepath.Join(dst, e.Name()), &st) != nil {
						continue
					}
					n++
					if st.Mode&077 != 0 && st.Size != 100<<10 {
						t.Errorf("mode %o at %d bytes", st.Mode, st.Size)
					}
				}
			}
			seen <- n
		}()
		w.run(t, "-a", y.path("src")+"/.", dst).want(t, exitOK)
		stop()
		t.Logf("looked at unfinished files %d times", <-seen)
	})
}

// TestSecurityAttributes keeps capabilities on request only.
func TestSecurityAttributes(t *testing.T) {
	needRoot(t)
	y := yard{t, t.TempDir()}
	y.file("a", 10)
	capability := "\x01\x00\x00\x02" + strings.Repeat("\x00\x04\x00\x00", 1) + strings.Repeat("\x00", 12) // cap_net_bind_service
	if err := unix.Setxattr(y.path("a"), "security.capability", []byte(capability), 0); err != nil {
		t.Skipf("cannot set a capability: %v", err)
	}
	everyWay(t, func(t *testing.T, w way) {
		out := yard{t, t.TempDir()}
		w.run(t, "-a", y.path("a"), out.path("without")).want(t, exitOK)
		w.run(t, "-a", "--security-xattrs", y.path("a"), out.path("with")).want(t, exitOK)
		if got := attributes(t, out.path("without")); len(got) != 0 {
			t.Errorf("without: %q", got)
		}
		if got, want := attributes(t, out.path("with")), attributes(t, y.path("a")); !slices.Equal(got, want) {
			t.Errorf("with: %q, want %q", got, want)
		}
	})
}
