package fs_test

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	iofs "io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uringo/fs"
	"uringo/internal/ring"
	"uringo/internal/testenv"
)

// TestMirror performs random sequences of calls twice: by this package in one tree, by package os in another. Every result and every error
// has to be the same, and so has what is left in the trees.
//
// A failure prints the seed and the last calls; URINGO_SEED=n repeats it. URINGO_NIGHTLY=1 performs 10 million calls from a random seed
// instead of 100 000, always the same; URINGO_MIRROR_CALLS=n performs n from a random seed.
//
// The known differences, which the test allows for:
//   - Rename onto an empty directory works, as rename(2) does; os.Rename refuses it;
//   - RemoveAll of a name below a socket is ENOTDIR, or EINVAL if no name can be so; os.RemoveAll opens the socket, which is ENXIO;
//   - RemoveAll that may not open a directory says openat; os.RemoveAll says openfdat;
//   - WriteAt on a file opened to append is an error of its own text;
//   - Write on such a file leaves the file position alone;
//   - a removed directory has no entries, and reading them is no error;
//   - ReadAt and WriteAt, which are one operation, may be short without an error;
//   - io.EOF of os.File.ReadAt after a part is io.ErrUnexpectedEOF of ReadExactAt.
func TestMirror(t *testing.T) {
	seed, total := uint64(1), 100_000
	if testing.Short() {
		total = 10_000
	}
	if os.Getenv("URINGO_NIGHTLY") != "" {
		seed, total = rand.Uint64(), 10_000_000
	}
	if s := os.Getenv("URINGO_MIRROR_CALLS"); s != "" {
		seed = rand.Uint64()
		var err error
		if total, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	seed = testenv.Seed(t, seed)

	ways := len(executors()) * (len(testenv.Engines(t)) + 1)
	share := total/ways + 1
	var made atomic.Int64
	var all atomic.Int32 // ways that were not left out
	t.Run("plain", func(t *testing.T) {
		each(t, func(t *testing.T, ctx context.Context) {
			all.Add(1)
			made.Add(runMirror(t, ctx, seed, share, nil))
		})
	})
	t.Run("faults", func(t *testing.T) {
		cfg := ring.FaultConfig{Shorten: 0.3, Inject: 0.05, Results: []int32{-int32(syscall.EINTR), -int32(syscall.EAGAIN), -512}}
		faulty(t, cfg, func(t *testing.T, ctx context.Context, faults *ring.Faults) {
			all.Add(1)
			made.Add(runMirror(t, ctx, seed, share, faults))
			if faults.Stats().Injected == 0 || faults.Stats().Shortened == 0 {
				t.Errorf("nothing was made difficult: %+v", faults.Stats())
			}
		})
	})
	t.Logf("%d calls", made.Load())
	if made.Load() < int64(total) && all.Load() == int32(ways) {
		t.Errorf("%d calls, want %d", made.Load(), total)
	}
}

// runMirror makes n calls in several tasks, each with trees of its own, and returns how many were made. Now and then the routes change.
func runMirror(t *testing.T, ctx context.Context, seed uint64, n int, faults *ring.Faults) int64 {
	const tasks = 4
	round := 2500
	if testing.Short() {
		round = 250 // so that routes change all the same
	}
	var made atomic.Int64
	for i := 0; n > 0 && !t.Failed(); i++ {
		now := min(n, round)
		n -= now
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		undo := pinAtRandom(rng, faults != nil)
		err := goAll(ctx, tasks, func(ctx context.Context, task int) error {
			base := t.TempDir()
			w := &mirror{T: t, ctx: ctx, rng: rand.New(rand.NewPCG(seed, uint64(i*tasks+task)<<8|1)), faults: faults != nil,
				here: base + "/1", there: base + "/2"}
			for _, top := range []string{w.here, w.there} {
				if err := os.MkdirAll(top+"/root", 0o755); err != nil {
					return err
				}
			}
			w.run((now + tasks - 1) / tasks)
			made.Add(int64(w.made))
			return clearAway(base)
		})
		undo()
		if err != nil {
			t.Error(err)
		}
	}
	return made.Load()
}

// clearAway removes a tree in which there may be directories that their owner has no permission to read.
func clearAway(base string) error {
	err := filepath.WalkDir(base, func(name string, e iofs.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			err = os.Chmod(name, 0o700)
		}
		return err
	})
	return errors.Join(err, os.RemoveAll(base))
}

// pinAtRandom pins some kinds of operations to some routes. What has to meet faults takes the ring.
func pinAtRandom(rng *rand.Rand, all bool) (undo func()) {
	var undos []func()
	for _, op := range operations {
		route := fs.Route(max(0, rng.IntN(8)-4))
		if all {
			route = fs.Ring
		}
		was := fs.Pin(op, route)
		undos = append(undos, func() { fs.Pin(op, was) })
	}
	return func() {
		for _, undo := range undos {
			undo()
		}
	}
}

// mirror is two trees, here and there, and what is open in them.
type mirror struct {
	*testing.T
	ctx         context.Context
	rng         *rand.Rand
	faults      bool
	here, there string

	files [5]*mirrorFile
	dirs  [2]*mirrorDir
	made  int
	trace []string
	wrong bool
}

// move is a kind of call, and how often it comes up.
type move struct {
	weight int
	make   func(w *mirror)
}

// run makes n calls, and compares the trees from time to time.
func (w *mirror) run(n int) {
	const often = 250
	sum := 0
	for _, m := range moves {
		sum += m.weight
	}
	for ; w.made < n && !w.wrong; w.made++ {
		k := w.rng.IntN(sum)
		for _, m := range moves {
			if k -= m.weight; k < 0 {
				m.make(w)
				break
			}
		}
		if w.made%often == often-1 {
			w.compareTrees()
		}
	}
	for i := range w.files {
		w.closeFile(i)
	}
	for i := range w.dirs {
		w.closeDir(i)
	}
	w.compareTrees()
}

// did notes a call, for the case that it turns out wrong.
func (w *mirror) did(format string, args ...any) {
	const kept = 40
	if len(w.trace) == kept {
		w.trace = append(w.trace[:0], w.trace[1:]...)
	}
	w.trace = append(w.trace, fmt.Sprintf("%6d ", w.made)+fmt.Sprintf(format, args...))
}

func (w *mirror) fail(format string, args ...any) {
	w.Helper()
	if !w.wrong { // what follows would be wrong too
		w.Errorf("after\n%s\n%s", strings.Join(w.trace, "\n"), fmt.Sprintf(format, args...))
	}
	w.wrong = true
}

// same compares the outcomes of the latest call. What a call returned is written as text.
func (w *mirror) same(got string, err error, want string, wantErr error) {
	w.Helper()
	got, want = strings.ReplaceAll(got, w.here, "~"), strings.ReplaceAll(want, w.there, "~")
	if got != want {
		w.fail("is %s, %v; package os: %s, %v", got, err, want, wantErr)
	}
	w.sameError(err, wantErr)
}

// sameError compares what errors say and what they are.
func (w *mirror) sameError(err, want error) {
	w.Helper()
	a, b := w.text(err, w.here), w.text(want, w.there)
	if a != b {
		w.fail("error: %s; package os: %s", a, b)
	}
	w.sameErrno(err, want)
}

// sameErrno compares what errors are.
func (w *mirror) sameErrno(err, want error) {
	w.Helper()
	var a, b syscall.Errno
	errors.As(err, &a)
	errors.As(want, &b)
	if a != b || (err == nil) != (want == nil) {
		w.fail("error: %v; package os: %v", err, want)
	}
	for _, kind := range []error{fs.ErrNotExist, fs.ErrExist, fs.ErrPermission, fs.ErrClosed, io.EOF} {
		if errors.Is(err, kind) != errors.Is(want, kind) {
			w.fail("error %v is %v: %t; package os: %v", err, kind, errors.Is(err, kind), want)
		}
	}
}

func (w *mirror) text(err error, root string) string {
	if err == nil {
		return "none"
	}
	return strings.ReplaceAll(err.Error(), root, "~")
}

// name returns a random name, in few of which there is anything, so that calls meet.
func (w *mirror) name() string {
	const letters = "abcd"
	parts := []string{"root"}
	for range 1 + w.rng.IntN(3) {
		i := w.rng.IntN(len(letters))
		parts = append(parts, letters[i:i+1])
	}
	switch w.rng.IntN(100) {
	case 0:
		parts = append(parts, "")
	case 1:
		parts = append(parts[:len(parts)-1], ".", parts[len(parts)-1])
	case 2:
		parts = append(parts, "..", letters[:1])
	case 3:
		parts = append(parts[:1], strings.Repeat("long", 1+w.rng.IntN(80)))
	case 4:
		parts = append(parts[:1], "", letters[1:2])
	case 5:
		parts = append(parts[:1], letters[2:3], ".")
	case 6:
		parts = parts[:1]
	case 7:
		parts = append(parts, "nul\x00")
	}
	return "/" + strings.Join(parts, "/")
}

// target returns what a symbolic link may say, here and there. It does not lead up, so that nothing leaves the trees.
func (w *mirror) target() (here, there string) {
	if w.rng.IntN(4) == 0 {
		name := w.name()
		return w.here + name, w.there + name
	}
	name := []string{"a", "b", "c", "a/b", "c/d", ".", "b/", "d/a/b"}[w.rng.IntN(8)]
	return name, name
}

func (w *mirror) mode() fs.FileMode {
	return [...]fs.FileMode{0o644, 0o600, 0o755, 0o777, 0, 0o4755 &^ 0o4000, os.ModeSticky | 0o755, os.ModeSetgid | 0o711,
		os.ModeSetuid | 0o700}[w.rng.IntN(9)]
}

// when returns a time that nobody sets by chance.
func (w *mirror) when() time.Time {
	if w.rng.IntN(4) == 0 {
		return time.Time{}
	}
	return time.Unix(w.rng.Int64N(1e9), w.rng.Int64N(1e9))
}

// offset returns where to read or write.
func (w *mirror) offset() int64 {
	switch w.rng.IntN(20) {
	case 0:
		return -1
	case 1:
		return 4096 * w.rng.Int64N(20)
	case 2, 3, 4:
		return w.rng.Int64N(100_000)
	}
	return w.rng.Int64N(5000)
}

func (w *mirror) bytes() []byte {
	n := w.rng.IntN(3000)
	switch w.rng.IntN(12) {
	case 0:
		n = 0
	case 1:
		n = 4096 * w.rng.IntN(4)
	case 2:
		n = w.rng.IntN(60_000)
	}
	return pattern(n, w.rng.Uint32())
}

func sum(b []byte) string { return fmt.Sprintf("%d bytes %08x", len(b), crc32.ChecksumIEEE(b)) }

// describe writes a FileInfo without what may differ.
func describe(info fs.FileInfo, err error) string {
	if err != nil {
		return ""
	}
	s := fmt.Sprintf("%s %v %t", info.Name(), info.Mode(), info.IsDir())
	if !info.IsDir() {
		s += fmt.Sprintf(" %d", info.Size())
	}
	if info.ModTime().Unix() < 1e9 {
		s += " " + info.ModTime().UTC().Format(time.RFC3339Nano)
	}
	return s
}

// compareTrees compares everything there is.
func (w *mirror) compareTrees() {
	w.Helper()
	if w.wrong {
		return
	}
	got, want := w.tree(w.here), w.tree(w.there)
	for i := range max(len(got), len(want)) {
		a, b := "nothing", "nothing"
		if i < len(got) {
			a = got[i]
		}
		if i < len(want) {
			b = want[i]
		}
		if a != b {
			w.fail("the trees have %s; package os: %s", a, b)
			return
		}
	}
}

func (w *mirror) tree(top string) (list []string) {
	err := filepath.WalkDir(top, func(path string, d iofs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		line := fmt.Sprintf("%s %s %d links", strings.TrimPrefix(path, top), describe(info, nil), info.Sys().(*syscall.Stat_t).Nlink)
		if path == top {
			line = "the top"
		}
		switch info.Mode().Type() {
		case 0:
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line += " " + sum(b)
			for _, name := range []string{"user.one", "user.two"} {
				value := make([]byte, 200)
				if n, err := unix.Getxattr(path, name, value); err == nil {
					line += fmt.Sprintf(" %s=%s", name, sum(value[:n]))
				}
			}
		case fs.ModeSymlink:
			to, err := os.Readlink(path)
			if err != nil {
				return err
			}
			line += " -> " + strings.TrimPrefix(to, top)
		}
		list = append(list, line)
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrPermission) { // without privileges, what mode 0 hides
		w.fail("%v", err)
	}
	return list
}

// moves are all of them.
var moves = append(append(nameMoves, fileMoves...), dirMoves...)
