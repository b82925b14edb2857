package fs_test

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
			for _, says := range []func(path string, d iofs.DirEntry) error{
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
				for _, top := range []string{root, root + "/", root + "/./"} {
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
	})
}
