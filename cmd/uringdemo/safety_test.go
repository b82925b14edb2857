package main

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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
