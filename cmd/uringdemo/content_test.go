package main

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"uringo/internal/testenv"

	"github.com/cespare/xxhash/v2"
	"golang.org/x/sys/unix"
)

var methods = []string{"auto", "range", "blocks"}

// TestSparse copies a hole of a terabyte with some islands in it.
func TestSparse(t *testing.T) {
	y := yard{t, t.TempDir()}
	const size = 1<<40 + 12345
	f, err := os.Create(y.path("a"))
	must(t, err)
	islands := map[int64][]byte{
		0:             content("first", 10_000),
		1 << 30:       content("second", 70_000),
		1<<39 + 4096:  content("third", 3<<20),
		size - 20_000: content("last", 4_096),
	}
	for off, b := range islands {
		_, err := f.WriteAt(b, off)
		must(t, err)
	}
	must(t, f.Truncate(size))
	must(t, f.Close())
	everyWay(t, func(t *testing.T, w way) {
		for _, method := range methods {
			b := y.path("b")
			w.run(t, "-a", "--method="+method, y.path("a"), b).want(t, exitOK)
			f, err := os.Open(b)
			must(t, err)
			fi, err := f.Stat()
			must(t, err)
			if fi.Size() != size {
				t.Fatalf("size %d, want %d", fi.Size(), int64(size))
			}
			for off, want := range islands {
				got := make([]byte, len(want))
				if _, err := f.ReadAt(got, off); err != nil || !bytes.Equal(got, want) {
					t.Errorf("island at %d differs, %v", off, err)
				}
			}
			must(t, f.Close())
			if extra := blocks(t, b) - blocks(t, y.path("a")); extra > 1<<20 {
				t.Errorf("%d bytes more than the source", extra)
			}
			must(t, os.Remove(b))
		}
	})
}

// TestSparseShapes compares content and room of small files with holes in odd places.
func TestSparseShapes(t *testing.T) {
	y := yard{t, t.TempDir()}
	shapes := map[string][]int64{ // data at these offsets, and the size
		"all hole":   {1 << 20},
		"hole first": {1 << 20, 1<<20 + 100},
		"hole last":  {0, 1 << 20},
		"comb":       {0, 64 << 10, 128 << 10, 192 << 10, 256 << 10},
		"odd":        {4095, 70001, 999999},
	}
	for name, offs := range shapes {
		f, err := os.Create(y.path(name))
		must(t, err)
		size := offs[len(offs)-1]
		for _, off := range offs[:len(offs)-1] {
			_, err := f.WriteAt(content(name, int(min(10, size-off))), off)
			must(t, err)
		}
		must(t, f.Truncate(size))
		must(t, f.Sync())
		must(t, f.Close())
	}
	everyWay(t, func(t *testing.T, w way) {
		for _, method := range methods {
			for _, sparse := range []string{"auto", "never"} {
				for name := range shapes {
					b := filepath.Join(t.TempDir(), "b")
					w.run(t, "--method="+method, "--sparse="+sparse, y.path(name), b).want(t, exitOK)
					sameContent(t, b, y.path(name))
					got, want := blocks(t, b), blocks(t, y.path(name))
					if sparse == "never" {
						fi, err := os.Stat(b)
						must(t, err)
						if method != "auto" && got < fi.Size() {
							t.Errorf("%s: %d bytes of %d are on disk", name, got, fi.Size())
						}
					} else if got > want {
						t.Errorf("%s, %s: takes %d bytes, want %d", name, method, got, want)
					}
				}
			}
		}
	})
}

// TestDenseWithReflinks writes holes out where the kernel's way to copy is to share them.
func TestDenseWithReflinks(t *testing.T) {
	needRoot(t)
	mkfs, err := exec.LookPath("mkfs.xfs")
	if err != nil {
		t.Skip("needs mkfs.xfs: not installed")
	}
	y := yard{t, t.TempDir()}
	image := y.path("image")
	must(t, os.WriteFile(image, nil, 0600))
	must(t, os.Truncate(image, 320<<20))
	if out, err := exec.Command(mkfs, "-q", "-m", "reflink=1", image).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	y.mkdir("disk")
	if out, err := exec.Command("mount", "-o", "loop", image, y.path("disk")).CombinedOutput(); err != nil {
		t.Skipf("cannot mount an image: %s", out)
	}
	t.Cleanup(func() { must(t, unix.Unmount(y.path("disk"), 0)) })
	a, b := y.path("disk/a"), y.path("disk/b")
	must(t, os.WriteFile(a, content("a", 100_000), 0644))
	must(t, os.Truncate(a, 4<<20))
	everyWay(t, func(t *testing.T, w way) {
		for _, method := range methods {
			w.run(t, "--sparse=never", "--method="+method, a, b).want(t, exitOK)
			sameContent(t, b, a)
			if got := blocks(t, b); got < 4<<20 {
				t.Errorf("%s: %d bytes of %d are on disk", method, got, 4<<20)
			}
			must(t, os.Remove(b))
		}
	})
}

func sameContent(t *testing.T, got, want string) {
	t.Helper()
	a, err := os.Open(got)
	must(t, err)
	defer a.Close()
	b, err := os.Open(want)
	must(t, err)
	defer b.Close()
	if at := differsAt(t, a, b); at >= 0 {
		t.Errorf("%s and %s differ after %d bytes, or only one ends", got, want, at)
	}
}

// differsAt returns after how many bytes that are the same, in whole pieces, two contents differ, or -1. It goes by pieces: under the race detector, memory that
// is used for the first time costs far more than what is done with it.
func differsAt(t *testing.T, a, b io.Reader) int {
	t.Helper()
	read := func(r io.Reader, piece []byte) (_ []byte, end bool) {
		n, err := io.ReadFull(r, piece)
		if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
			t.Fatal(err)
		}
		return piece[:n], err != nil
	}
	var pieces [2][64 << 10]byte
	for at := 0; ; {
		x, end := read(a, pieces[0][:])
		y, _ := read(b, pieces[1][:])
		if !bytes.Equal(x, y) {
			return at
		}
		if end { // and so did the other, or it would be longer
			return -1
		}
		at += len(x)
	}
}

// TestPseudoFiles copies files that have no size, or not the one that they say.
func TestPseudoFiles(t *testing.T) {
	files := []string{"/proc/version", "/proc/filesystems", "/proc/self/limits", "/sys/kernel/mm/transparent_hugepage/enabled", "/sys/devices/system/cpu/online"}
	everyWay(t, func(t *testing.T, w way) {
		for _, method := range methods {
			for _, name := range files {
				want, err := os.ReadFile(name)
				if err != nil {
					continue
				}
				b := filepath.Join(t.TempDir(), "b")
				w.run(t, "--method="+method, name, b).want(t, exitOK)
				got, err := os.ReadFile(b)
				must(t, err)
				if !bytes.Equal(got, want) {
					t.Errorf("%s, %s: %q, want %q", name, method, got, want)
				}
			}
		}
	})
}

// TestLarge copies a file of many blocks.
func TestLarge(t *testing.T) {
	y := yard{t, t.TempDir()}
	y.file("a", 9<<20+77)
	everyWay(t, func(t *testing.T, w way) {
		for _, method := range methods {
			for _, jobs := range []string{"1", "64"} {
				b := filepath.Join(t.TempDir(), "b")
				w.run(t, "--fsync=false", "--method="+method, "--jobs="+jobs, y.path("a"), b).want(t, exitOK)
				sameContent(t, b, y.path("a"))
			}
		}
	})
}

// TestVerify compares what the program says of a copy with what it is.
func TestVerify(t *testing.T) {
	y := yard{t, t.TempDir()}
	y.file("a", 3<<20+5)
	sum := xxhash.Sum64(content("a", 3<<20+5))
	everyWay(t, func(t *testing.T, w way) {
		b := filepath.Join(t.TempDir(), "b")
		o := w.run(t, "-v", "--verify", y.path("a"), b)
		o.want(t, exitOK)
		if want := fmt.Sprintf("%s -> %s  %016x\n", y.path("a"), b, sum); o.stdout != want {
			t.Errorf("said %q, want %q", o.stdout, want)
		}
		o = w.run(t, "-v", "--verify=sha256", "/dev/null", b)
		o.want(t, exitFailed) // a device
		must(t, os.WriteFile(y.path("empty"), nil, 0644))
		o = w.run(t, "-v", "--verify=sha256", y.path("empty"), b)
		o.want(t, exitOK)
		if !strings.Contains(o.stdout, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855") {
			t.Errorf("said %q", o.stdout)
		}
		if _, err := hex.DecodeString(strings.Fields(o.stdout)[3]); err != nil {
			t.Error(err)
		}
	})
}

// TestChanging copies a file while somebody appends to it, or cuts it. The copy is made, with a warning and an exit code of its own.
func TestChanging(t *testing.T) {
	const size = 12 << 20
	original := content("a", size)
	for _, how := range []string{"growing", "shrinking"} {
		t.Run(how, func(t *testing.T) {
			everyWay(t, func(t *testing.T, w way) {
				for _, method := range []string{"range", "blocks"} {
					for try := 0; ; try++ {
						y := yard{t, t.TempDir()}
						must(t, os.WriteFile(y.path("a"), original, 0644))
						stop := change(t, y.path("a"), how)
						o := w.run(t, "--fsync=false", "--jobs=4", "--method="+method, "--json", y.path("a"), y.path("b"))
						kept := min(stop(), size)
						got, err := os.ReadFile(y.path("b"))
						must(t, err)
						// Of what was cut during the copy, a read may have seen anything.
						if n := min(kept, len(got)); !bytes.Equal(got[:n], original[:n]) || len(got) < kept {
							t.Fatalf("the copy, %d bytes, is not what was there, %d bytes", len(got), kept)
						}
						noTemps(t, y.dir)
						if o.code == exitOK && try < 50 {
							continue // the change missed the copy
						}
						o.want(t, exitChanged)
						o.says(t, y.path("a")+": warning: changed while it was copied")
						if s := o.summary(t); len(s.Warnings) != 1 || s.Exit != exitChanged {
							t.Errorf("summary: %+v", s)
						}
						break
					}
				}
			})
		})
	}
}

// change makes a file grow or shrink until the returned function is called, which returns its size at the end.
func change(t *testing.T, name, how string) (stop func() int) {
	quit, size := make(chan struct{}), make(chan int)
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	must(t, err)
	fi, err := f.Stat()
	must(t, err)
	go func() {
		defer f.Close()
		for at := fi.Size(); ; {
			select {
			case <-quit:
				size <- int(at)
				return
			case <-time.After(100 * time.Microsecond):
			}
			if how == "growing" {
				_, err = f.WriteAt([]byte("more"), at)
				at += 4
			} else if at > 64<<10 {
				at -= 64 << 10
				err = f.Truncate(at)
			}
			if err != nil {
				t.Error(err)
			}
		}
	}()
	return func() int {
		close(quit)
		return <-size
	}
}

// TestFewDescriptors copies a tree that is deeper than descriptors are many.
func TestFewDescriptors(t *testing.T) {
	y := yard{t, t.TempDir()}
	y.file("src"+strings.Repeat("/d", 100)+"/leaf", 10)
	for i := range 300 {
		y.file(fmt.Sprintf("src/%d/%d/%d", i%10, i%3, i), 20)
	}
	y.settle()
	want := snapshot(t, y.path("src"), true)
	everyWay(t, func(t *testing.T, w way) {
		dst := filepath.Join(t.TempDir(), "dst")
		cmd := w.command(t.Context(), t, "-a", "--fsync=false", y.path("src"), dst)
		cmd.Path, cmd.Args = "/bin/sh", append([]string{"sh", "-c", `ulimit -n 64; exec "$@"`, "sh", cmd.Path}, cmd.Args[1:]...)
		o := await(t, cmd)
		o.want(t, exitOK)
		sameTree(t, snapshot(t, dst, true), want)
	})
}

// TestVeryDeepTree copies a tree that is deeper than a path can say, and than descriptors are many: without a way from the top for each of
// its directories, which would take minutes.
func TestVeryDeepTree(t *testing.T) {
	const depth = 3000
	y := yard{t, t.TempDir()}
	name := "a name of some length"
	y.mkdir("src")
	fd, err := unix.Open(y.path("src"), unix.O_PATH|unix.O_CLOEXEC, 0)
	must(t, err)
	for range depth {
		must(t, unix.Mkdirat(fd, name, 0755))
		next, err := unix.Openat(fd, name, unix.O_PATH|unix.O_CLOEXEC, 0)
		must(t, err)
		must(t, unix.Close(fd))
		fd = next
	}
	must(t, unix.Close(fd))
	t.Cleanup(func() { must(t, exec.Command("rm", "-rf", y.path("src"), y.path("dst")).Run()) })
	ways := []way{{"workers:2", "uring"}, {"local", "portable"}}
	if !testenv.Nightly() {
		ways = ways[:1]
	}
	for _, w := range ways {
		begin, delays := time.Now(), testenv.Delays()
		o := w.run(t, "-a", "--fsync=false", "--json", y.path("src"), y.path("dst"))
		o.want(t, exitOK)
		if took, late := time.Since(begin), delays(); took-late > 2*time.Minute {
			t.Errorf("took %v, %v of which the machine was busy", took, late)
		}
		if s := o.summary(t); s.Directories != depth+1 {
			t.Errorf("%d directories, want %d", s.Directories, depth+1)
		}
		must(t, exec.Command("rm", "-rf", y.path("dst")).Run())
	}
}

// TestDescriptorsComeBack runs the program many times and counts.
func TestDescriptorsComeBack(t *testing.T) {
	y := yard{t, t.TempDir()}
	smallTree(y)
	y.chmod("d/a", 0)
	count := func() int {
		open, err := os.ReadDir("/proc/self/fd")
		must(t, err)
		return len(open)
	}
	everyWay(t, func(t *testing.T, w way) {
		before := 0
		for i := range 10 {
			dst := filepath.Join(t.TempDir(), "dst")
			w.run(t, "-a", "--fsync=false", y.path("d"), y.path("missing"), dst)
			w.run(t, "-a", "--fsync=false", y.path("d"), dst)
			if i == 1 {
				before = count()
			}
		}
		for range 2000 { // io_uring gives its own back a little later
			if count() <= before {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Errorf("%d descriptors are open, %d were", count(), before)
	})
}

// TestAccessTime keeps the time of the last access, which copying the file changes.
func TestAccessTime(t *testing.T) {
	y := yard{t, t.TempDir()}
	y.file("a", 10)
	everyWay(t, func(t *testing.T, w way) {
		ts := []unix.Timespec{{Sec: 1_000_000, Nsec: 1}, {Sec: 2_000_000, Nsec: 2}}
		must(t, unix.UtimesNano(y.path("a"), ts))
		b := filepath.Join(t.TempDir(), "b")
		w.run(t, "-a", y.path("a"), b).want(t, exitOK)
		var st unix.Stat_t
		must(t, unix.Stat(b, &st))
		if st.Atim.Sec != 1_000_000 || st.Atim.Nsec != 1 || st.Mtim.Sec != 2_000_000 || st.Mtim.Nsec != 2 {
			t.Errorf("times are %v and %v", st.Atim, st.Mtim)
		}
	})
}
