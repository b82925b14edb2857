package main

import (
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
