package fs_test

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/executor"
	"uringo/fs"
	"uringo/internal/testenv"
)

// makeTree makes a tree with n random names in it.
func makeTree(t *testing.T, root string, n int, rng *rand.Rand) {
	t.Helper()
	dirs := []string{root}
	for i := range n {
		name := filepath.Join(dirs[rng.IntN(len(dirs))], fmt.Sprintf("%c%d", 'a'+rng.IntN(26), i))
		var err error
		switch rng.IntN(6) {
		case 0, 1, 2:
			err = os.Mkdir(name, 0o755)
			dirs = append(dirs, name)
		case 3:
			err = os.Symlink(".", name)
		default:
			err = os.WriteFile(name, []byte(name), 0o600)
		}
		if err != nil {
			t.Error(err)
		}
	}
}

// TestWalkDir compares walks with those of filepath.WalkDir, whatever the function says.
func TestWalkDir(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		rng := rand.New(rand.NewPCG(5, 6))
		root := t.TempDir()
		makeTree(t, root, 400, rng)
		// says returns an error for some names, the same ones in every walk.
		for _, w := range []fs.Walker{{}, {Ahead: 1}, {Ahead: 3, Stat: true}, {Ahead: 1000, Stat: true}} {
			for i, says := range []func(path string, d iofs.DirEntry) error{
				func(string, iofs.DirEntry) error { return nil },
				func(path string, d iofs.DirEntry) error {
					if strings.HasSuffix(path, "7") {
						return iofs.SkipDir
					}
					return nil
				},
				func(path string, d iofs.DirEntry) error {
					if strings.HasSuffix(path, "99") {
						return iofs.SkipAll
					}
					return nil
				},
				func(path string, d iofs.DirEntry) error {
					if strings.HasSuffix(path, "199") {
						return errors.New("enough")
					}
					return nil
				},
				func(path string, d iofs.DirEntry) error { return iofs.SkipDir },
			} {
				var got, want []string
				walk := func(list *[]string) iofs.WalkDirFunc {
					return func(path string, d iofs.DirEntry, err error) error {
						info, ierr := d.Info()
						*list = append(*list, fmt.Sprint(path, d, err, d.Type(), describe(info, ierr), ierr))
						return says(path, d)
					}
				}
				tops := []string{root, root + "/", root + "/./"}
				if i > 0 {
					tops = tops[:1]
				}
				for _, top := range tops {
					err := w.WalkDir(ctx, top, walk(&got))
					wantErr := filepath.WalkDir(top, walk(&want))
					if fmt.Sprint(err) != fmt.Sprint(wantErr) {
						t.Errorf("%v; filepath says %v", err, wantErr)
					}
				}
				if len(got) != len(want) {
					t.Errorf("%d calls, filepath has %d", len(got), len(want))
				}
				for i := range min(len(got), len(want)) {
					if got[i] != want[i] {
						t.Errorf("%s; filepath has %s", got[i], want[i])
						break
					}
				}
			}
		}
	})
}

// TestWalkOutOfFiles walks while the program may open one more file and no others: that is enough, as for filepath.WalkDir.
func TestWalkOutOfFiles(t *testing.T) {
	testenv.LimitFiles(t, 256)
	each(t, func(t *testing.T, ctx context.Context) {
		root := t.TempDir()
		makeTree(t, root, 200, rand.New(rand.NewPCG(7, 8)))
		spare, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Error(err)
			return
		}
		defer testenv.TakeFiles(t)()
		if err := unix.Close(spare); err != nil {
			t.Error(err)
		}
		walk := func(list *[]string) iofs.WalkDirFunc {
			return func(path string, d iofs.DirEntry, err error) error {
				*list = append(*list, fmt.Sprint(path, d, err))
				return nil
			}
		}
		var want []string
		if err := filepath.WalkDir(root, walk(&want)); err != nil {
			t.Error(err)
		}
		for range 3 {
			var got []string
			if err := fs.WalkDir(ctx, root, walk(&got)); err != nil {
				t.Error(err)
			}
			for i := range min(len(got), len(want)) {
				if got[i] != want[i] {
					t.Errorf("%s; filepath has %s", got[i], want[i])
					break
				}
			}
			if len(got) != len(want) {
				t.Errorf("%d calls, filepath has %d", len(got), len(want))
			}
		}
	})
}

func TestWalkDirErrors(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		root := t.TempDir()
		for _, dir := range []string{"a", "b", "b/x", "c"} {
			if err := os.Mkdir(filepath.Join(root, dir), 0o755); err != nil {
				t.Error(err)
			}
		}
		// What is not there, and what is no directory.
		for _, top := range []string{root + "/none", root + "/none/", "", "nul\x00"} {
			var got, want string
			err := fs.WalkDir(ctx, top, func(path string, d iofs.DirEntry, err error) error { got = fmt.Sprint(path, d, err); return err })
			wantErr := filepath.WalkDir(top, func(path string, d iofs.DirEntry, err error) error { want = fmt.Sprint(path, d, err); return err })
			if got != want || fmt.Sprint(err) != fmt.Sprint(wantErr) {
				t.Errorf("%q: %s, %v; filepath: %s, %v", top, got, err, want, wantErr)
			}
		}
		// A directory that goes before it can be read gets a second call.
		for _, skip := range []error{nil, iofs.SkipDir} {
			if err := os.MkdirAll(root+"/gone", 0o755); err != nil {
				t.Error(err)
			}
			var calls []string
			err := fs.Walker{Ahead: 1}.WalkDir(ctx, root+"/gone", func(path string, d iofs.DirEntry, err error) error {
				calls = append(calls, fmt.Sprint(errors.Is(err, fs.ErrNotExist)))
				return skip
			})
			if err != nil || len(calls) == 0 || calls[0] != "false" {
				t.Errorf("%v, %v", calls, err)
			}
		}
		if os.Getuid() == 0 {
			// Root reads what it likes; so a file system says no, which /proc does for others' threads that have ended.
			t.Log("an unreadable directory needs another user")
		} else {
			if err := os.Chmod(root+"/b", 0); err != nil {
				t.Error(err)
			}
			var calls []string
			err := fs.WalkDir(ctx, root, func(path string, d iofs.DirEntry, err error) error {
				calls = append(calls, fmt.Sprint(filepath.Base(path), errors.Is(err, fs.ErrPermission)))
				return nil
			})
			if err != nil || !strings.Contains(strings.Join(calls, " "), "btrue c") {
				t.Errorf("%v, %v", calls, err)
			}
			if err := os.Chmod(root+"/b", 0o755); err != nil {
				t.Error(err)
			}
		}
		// A walk that is left early, with directories still being read: none of that goes on after it.
		for range 20 {
			if err := (fs.Walker{Stat: true}).WalkDir(ctx, root, func(path string, d iofs.DirEntry, err error) error {
				if path == root {
					return nil
				}
				return iofs.SkipAll
			}); err != nil {
				t.Error(err)
			}
		}
		for _, name := range testenv.Descriptors(t) {
			if strings.HasPrefix(name, root) {
				t.Errorf("%s is being read after the walk", name)
			}
		}
		// A context that ends.
		stop, cancel := context.WithCancel(ctx)
		defer cancel()
		calls := 0
		err := fs.WalkDir(stop, root, func(path string, d iofs.DirEntry, err error) error {
			calls++
			cancel()
			return nil
		})
		if calls != 1 || !errors.Is(err, context.Canceled) {
			t.Errorf("%d calls, %v", calls, err)
		}
		err = fs.WalkDir(stop, root, func(path string, d iofs.DirEntry, err error) error {
			t.Errorf("called for %s with %v after the end", path, err)
			return nil
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("a walk after the end: %v", err)
		}
	})
}

// TestWalkDirReplaced has a symbolic link come in the place of a directory that was listed and is still to be read: it is not followed.
func TestWalkDirReplaced(t *testing.T) {
	each(t, func(t *testing.T, ctx context.Context) {
		root, outside := t.TempDir(), t.TempDir()
		for _, err := range []error{os.WriteFile(outside+"/secret", nil, 0o600), os.MkdirAll(root+"/a/sub", 0o755), os.Mkdir(root+"/b", 0o755)} {
			if err != nil {
				t.Error(err)
			}
		}
		var calls []string
		err := fs.Walker{Ahead: 1}.WalkDir(ctx, root, func(path string, d iofs.DirEntry, err error) error {
			calls = append(calls, fmt.Sprint(filepath.Base(path), " ", errors.Is(err, syscall.ENOTDIR)))
			if path == root+"/a" { // which is what is read ahead now, or what is in it
				return errors.Join(os.Remove(root+"/b"), os.Symlink(outside, root+"/b"))
			}
			return nil
		})
		if got := strings.Join(calls[1:], ", "); err != nil || got != "a false, sub false, b false, b true" {
			t.Errorf("calls for %s; %v", got, err)
		}
		// A link that the walk begins with is followed if that is what its name says, as by filepath.WalkDir.
		calls = nil
		if err := fs.WalkDir(ctx, root+"/b/", func(path string, d iofs.DirEntry, err error) error {
			calls = append(calls, filepath.Base(path))
			return err
		}); err != nil || len(calls) != 2 || calls[1] != "secret" {
			t.Errorf("calls for %s; %v", calls, err)
		}
	})
}

// TestWalkSkipsSlow skips directories that take long to open: no more of them are being read than may be read ahead.
func TestWalkSkipsSlow(t *testing.T) {
	const dirs, ahead = 60, 4
	root := t.TempDir()
	held := holdOpens(t)
	for i := range dirs {
		name := filepath.Join(root, fmt.Sprint(100+i))
		if err := os.Mkdir(name, 0o700); err != nil {
			t.Fatal(err)
		}
		held.at(name)
	}
	run(t, executor.Goroutines(), driver.Config{}, func(t *testing.T, ctx context.Context) {
		var serving sync.WaitGroup
		serving.Go(held.serve)
		defer serving.Wait()
		defer held.over.Store(true)
		calls := 0
		err := fs.Walker{Ahead: ahead}.WalkDir(ctx, root, func(path string, d iofs.DirEntry, err error) error {
			if calls++; path == root {
				return nil
			}
			if calls > dirs {
				held.letGo(ahead + 1)
			}
			return iofs.SkipDir
		})
		if calls != dirs+1 || err != nil {
			t.Errorf("%d calls, %v", calls, err)
		}
		if n := held.most.Load(); n > ahead {
			t.Errorf("%d directories were being read, of %d", n, ahead)
		}
	})
}

// opens holds up those who open what it watches. fanotify(7).
type opens struct {
	t    *testing.T
	fd   int
	free atomic.Bool // nobody is, any more
	over atomic.Bool
	most atomic.Int32 // how many were held up
}

func holdOpens(t *testing.T) *opens {
	t.Helper()
	fd, err := unix.FanotifyInit(unix.FAN_CLASS_CONTENT|unix.FAN_CLOEXEC|unix.FAN_NONBLOCK, unix.O_RDONLY|unix.O_CLOEXEC)
	if err != nil {
		t.Skipf("needs fanotify and its permissions: %v", err)
	}
	t.Cleanup(func() { unix.Close(fd) }) // which holds nobody any more, before the directories are removed
	return &opens{t: t, fd: fd}
}

func (o *opens) at(dir string) {
	o.t.Helper()
	if err := unix.FanotifyMark(o.fd, unix.FAN_MARK_ADD, unix.FAN_OPEN_PERM|unix.FAN_ONDIR, unix.AT_FDCWD, dir); err != nil {
		o.t.Skipf("needs fanotify with permissions: %v", err)
	}
}

// serve answers nobody until it is told to let go.
func (o *opens) serve() {
	var waiting []int32
	buf := make([]byte, 4096)
	for !o.over.Load() {
		n, _ := unix.Read(o.fd, buf)
		for b := buf[:max(n, 0)]; len(b) > 0; {
			event := (*unix.FanotifyEventMetadata)(unsafe.Pointer(&b[0]))
			waiting = append(waiting, event.Fd)
			b = b[event.Event_len:]
		}
		free := o.free.Load()
		if !free {
			o.most.Store(int32(len(waiting)))
		}
		for ; free && len(waiting) > 0; waiting = waiting[1:] {
			answer := unix.FanotifyResponse{Fd: waiting[0], Response: unix.FAN_ALLOW}
			if _, err := unix.Write(o.fd, unsafe.Slice((*byte)(unsafe.Pointer(&answer)), unsafe.Sizeof(answer))); err != nil {
				o.t.Error(err)
			}
			unix.Close(int(answer.Fd))
		}
		time.Sleep(time.Millisecond)
	}
}

// letGo waits until so many are held up, or for a moment, and then holds nobody any more.
func (o *opens) letGo(enough int32) {
	for range 200 {
		if o.most.Load() >= enough {
			break
		}
		time.Sleep(time.Millisecond)
	}
	o.free.Store(true)
}

// TestWalkForgets skips directories that were read ahead: what was in them is not kept.
func TestWalkForgets(t *testing.T) {
	const dirs, files, ahead = 60, 100, 4
	root := t.TempDir()
	for i := range dirs {
		dir := filepath.Join(root, fmt.Sprint(100+i))
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		for j := range files {
			if err := os.Symlink("nowhere", filepath.Join(dir, fmt.Sprint(j))); err != nil {
				t.Fatal(err)
			}
		}
	}
	inUse := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	run(t, executor.Goroutines(), driver.Config{}, func(t *testing.T, ctx context.Context) {
		before, calls := inUse(), 0
		err := fs.Walker{Ahead: ahead, Stat: true}.WalkDir(ctx, root, func(path string, d iofs.DirEntry, err error) error {
			if calls++; path == root {
				return nil
			}
			time.Sleep(time.Millisecond) // meanwhile those ahead are read
			if calls > dirs {
				const most = 2 * ahead * files * 500 // an entry with its description takes less
				if n := inUse() - before; n > most {
					t.Errorf("%d bytes are in use, want at most %d", n, most)
				}
			}
			return iofs.SkipDir
		})
		if err != nil {
			t.Error(err)
		}
	})
}
