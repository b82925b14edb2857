package fs_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/executor"
	"uringo/fs"
)

// Whoever opens the file finds the old text or the new one, also after a crash.
func ExampleWriteFileAtomic() {
	start(func(ctx context.Context, dir string) error {
		name := filepath.Join(dir, "config")
		for _, text := range []string{"answer = 41\n", "answer = 42\n"} {
			if err := fs.WriteFileAtomic(ctx, name, []byte(text), 0o600); err != nil {
				return err
			}
		}
		text, err := fs.ReadFile(ctx, name)
		fmt.Printf("%s", text)
		return err
	})
	// Output: answer = 42
}

// A client's session gets the directory with his rights, and all that is done by way of that is done as the client: here, as the user
// that the program runs for.
func ExampleDir_As() {
	start(func(ctx context.Context, dir string) error {
		d, err := executor.DriverOf(ctx)
		if err != nil {
			return err
		}
		user := driver.Credentials{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}
		groups, err := os.Getgroups()
		for _, g := range groups {
			user.Groups = append(user.Groups, uint32(g))
		}
		if err != nil {
			return err
		}
		p, err := d.RegisterPersonality(ctx, user)
		if err != nil {
			return err
		}
		defer p.Close(ctx)
		root, err := fs.OpenDir(ctx, dir)
		if err != nil {
			return err
		}
		defer root.Close(ctx)

		his, err := root.As(p)
		if err != nil {
			return err
		}
		defer his.Close(ctx)
		if err := his.WriteFileAtomic(ctx, "letter", []byte("Dear client,\n"), 0o600); err != nil {
			return err
		}
		entries, err := his.ReadDir(ctx)
		fmt.Println(entries)
		return err
	})
	// Output: [- letter]
}

func ExampleReadDir() {
	start(func(ctx context.Context, dir string) error {
		if err := fs.MkdirAll(ctx, filepath.Join(dir, "a/b"), 0o755); err != nil {
			return err
		}
		if err := fs.WriteFile(ctx, filepath.Join(dir, "c"), nil, 0o644); err != nil {
			return err
		}
		entries, err := fs.ReadDir(ctx, dir)
		for _, e := range entries {
			fmt.Println(e.Name(), e.IsDir())
		}
		return err
	})
	// Output:
	// a true
	// c false
}

// The size of a tree. What comes next is read while the function is at work, with the sizes.
func ExampleWalker() {
	start(func(ctx context.Context, dir string) error {
		for _, name := range []string{"a/b/one", "a/two", "three"} {
			name = filepath.Join(dir, name)
			if err := fs.MkdirAll(ctx, filepath.Dir(name), 0o755); err != nil {
				return err
			}
			if err := fs.WriteFile(ctx, name, make([]byte, 1000), 0o644); err != nil {
				return err
			}
		}
		total := int64(0)
		err := fs.Walker{Stat: true}.WalkDir(ctx, dir, func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			info, err := e.Info()
			if err != nil {
				return err
			}
			total += info.Size()
			return nil
		})
		fmt.Println(total, "bytes")
		return err
	})
	// Output: 3000 bytes
}

// Only what is asked for is looked up, and the mask says what the file system had.
func ExampleFile_Statx() {
	start(func(ctx context.Context, dir string) error {
		f, err := fs.Create(ctx, filepath.Join(dir, "file"))
		if err != nil {
			return err
		}
		defer f.Close(ctx)
		if err := f.Truncate(ctx, 1<<20); err != nil {
			return err
		}
		st, err := f.Statx(ctx, unix.AT_STATX_FORCE_SYNC, unix.STATX_SIZE|unix.STATX_BLOCKS)
		if err != nil {
			return err
		}
		fmt.Println(st.Size, st.Mask&unix.STATX_SIZE != 0)
		return nil
	})
	// Output: 1048576 true
}

func ExampleFile_SetXattr() {
	start(func(ctx context.Context, dir string) error {
		f, err := fs.Create(ctx, filepath.Join(dir, "download"))
		if err != nil {
			return err
		}
		defer f.Close(ctx)
		err = f.SetXattr(ctx, "user.origin", []byte("example.org"), 0)
		if errors.Is(err, syscall.EOPNOTSUPP) {
			fmt.Println("example.org") // the file system has no attributes to show
			return nil
		}
		if err != nil {
			return err
		}
		value, err := f.GetXattr(ctx, "user.origin")
		fmt.Printf("%s\n", value)
		return err
	})
	// Output: example.org
}

// The parts of a sparse file that hold something.
func ExampleFile_SeekData() {
	start(func(ctx context.Context, dir string) error {
		f, err := fs.Create(ctx, filepath.Join(dir, "image"))
		if err != nil {
			return err
		}
		defer f.Close(ctx)
		if err := f.Truncate(ctx, 1<<30); err != nil {
			return err
		}
		if _, _, err := f.WriteAllAt(ctx, []byte(strings.Repeat("x", 64<<10)), 512<<20); err != nil {
			return err
		}
		found := int64(0)
		for off := int64(0); ; {
			from, err := f.SeekData(ctx, off)
			if errors.Is(err, syscall.ENXIO) {
				break
			}
			if err != nil {
				return err
			}
			if off, err = f.SeekHole(ctx, from); err != nil {
				return err
			}
			if from <= 512<<20 && 512<<20 < off {
				found = 512 << 20
			}
		}
		fmt.Println("data around", found)
		return nil
	})
	// Output: data around 536870912
}

// Two tasks, and a pipe between them.
func ExamplePipe() {
	start(func(ctx context.Context, _ string) error {
		r, w, err := fs.Pipe(ctx)
		if err != nil {
			return err
		}
		defer r.Close(ctx)
		writer := executor.Go(ctx, func(ctx context.Context) (struct{}, error) {
			_, _, err := w.Write(ctx, []byte("hello"))
			return struct{}{}, errors.Join(err, w.Close(ctx))
		})
		n, b, err := r.Read(ctx, make([]byte, 100)) // waits for the other end
		if err != nil {
			return err
		}
		fmt.Printf("%s\n", b[:n])
		_, err = writer.Join(ctx)
		return err
	})
	// Output: hello
}

// A new name, but not that of another file.
func ExampleRenameFlags() {
	start(func(ctx context.Context, dir string) error {
		for _, name := range []string{"old", "taken"} {
			if err := fs.WriteFile(ctx, filepath.Join(dir, name), nil, 0o600); err != nil {
				return err
			}
		}
		old := filepath.Join(dir, "old")
		err := fs.RenameFlags(ctx, old, filepath.Join(dir, "taken"), unix.RENAME_NOREPLACE)
		fmt.Println(errors.Is(err, fs.ErrExist))
		err = fs.RenameFlags(ctx, old, filepath.Join(dir, "free"), unix.RENAME_NOREPLACE)
		fmt.Println(err)
		return nil
	})
	// Output:
	// true
	// <nil>
}

// A file that another package has opened. The new one has a descriptor of its own, and closes the old one.
func ExampleFromOS() {
	start(func(ctx context.Context, dir string) error {
		old, err := os.Create(filepath.Join(dir, "file"))
		if err != nil {
			return err
		}
		if _, err := old.WriteString("hello"); err != nil {
			return err
		}
		f, err := fs.FromOS(ctx, old)
		if err != nil {
			return err
		}
		defer f.Close(ctx)
		n, b, err := f.ReadAt(ctx, make([]byte, 10), 1)
		fmt.Printf("%s\n", b[:n])
		return err
	})
	// Output: ello
}
