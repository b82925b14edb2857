package fs_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"log"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/executor"
	"uringo/fs"
)

// start runs an example in a directory of its own.
func start(example func(ctx context.Context, dir string) error) {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	err = executor.Start(context.Background(), func(ctx context.Context) error { return example(ctx, dir) })
	if err != nil {
		log.Fatal(err)
	}
}

func Example() {
	start(func(ctx context.Context, dir string) error {
		f, err := fs.Create(ctx, filepath.Join(dir, "hello.txt"))
		if err != nil {
			return err
		}
		defer f.Close(ctx)
		if _, _, err := f.WriteAllAt(ctx, []byte("hello, world"), 0); err != nil {
			return err
		}
		buf := make([]byte, 5)
		n, buf, err := f.ReadAt(ctx, buf, 7)
		if err != nil {
			return err
		}
		fmt.Printf("%s\n", buf[:n])
		return nil
	})
	// Output: world
}

// The package works from plain goroutines too.
func Example_goroutine() {
	d, err := driver.Open(driver.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer d.Close(context.Background())
	ctx := driver.NewContext(context.Background(), d)

	_, err = fs.ReadFile(ctx, "/no/such/file")
	fmt.Println(err)
	fmt.Println(errors.Is(err, fs.ErrNotExist))
	// Output:
	// open /no/such/file: no such file or directory
	// true
}

// Tasks read their parts of a file at once.
func ExampleFile_ReadExactAt() {
	start(func(ctx context.Context, dir string) error {
		name := filepath.Join(dir, "numbers")
		if err := fs.WriteFile(ctx, name, []byte("one  two  threefour "), 0o600); err != nil {
			return err
		}
		f, err := fs.Open(ctx, name)
		if err != nil {
			return err
		}
		defer f.Close(ctx)
		var tasks []*executor.JoinHandle[string]
		for i := range int64(4) {
			tasks = append(tasks, executor.Go(ctx, func(ctx context.Context) (string, error) {
				_, buf, err := f.ReadExactAt(ctx, make([]byte, 5), 5*i)
				return string(buf), err
			}))
		}
		for _, task := range tasks {
			word, err := task.Join(ctx)
			if err != nil {
				return err
			}
			fmt.Println(strings.TrimSpace(word))
		}
		return nil
	})
	// Output:
	// one
	// two
	// three
	// four
}

// A file through package io.
func ExampleFile_NewReader() {
	start(func(ctx context.Context, dir string) error {
		f, err := fs.Create(ctx, filepath.Join(dir, "copy"))
		if err != nil {
			return err
		}
		defer f.Close(ctx)
		if _, err := io.Copy(f.NewWriter(ctx, 0), strings.NewReader("line 1\nline 2\n")); err != nil {
			return err
		}
		_, err = io.Copy(os.Stdout, f.NewReader(ctx, 7))
		return err
	})
	// Output: line 2
}

// A new version of a file replaces the old one, which nobody ever sees half written, not even after a crash.
func ExampleDir_Rename() {
	start(func(ctx context.Context, dir string) error {
		d, err := fs.OpenDir(ctx, dir)
		if err != nil {
			return err
		}
		defer d.Close(ctx)
		f, err := d.OpenFile(ctx, "config.new", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		if _, _, err = f.WriteAllAt(ctx, []byte("answer = 42\n"), 0); err == nil {
			err = f.SyncAll(ctx)
		}
		if err := errors.Join(err, f.Close(ctx)); err != nil {
			return err
		}
		if err := d.Rename(ctx, "config.new", d, "config", 0); err != nil {
			return err
		}
		if err := d.Sync(ctx); err != nil {
			return err
		}
		text, err := fs.ReadFile(ctx, filepath.Join(dir, "config"))
		fmt.Printf("%s", text)
		return err
	})
	// Output: answer = 42
}

// What an archive has is unpacked where it belongs, whatever names are in it.
func ExampleDir_WriteFile() {
	start(func(ctx context.Context, dir string) error {
		d, err := fs.OpenDir(ctx, dir)
		if err != nil {
			return err
		}
		defer d.Close(ctx)
		for _, name := range []string{"docs/readme.txt", "../escaped.txt"} {
			err := d.MkdirAll(ctx, path.Dir(name), 0o755)
			if err == nil {
				err = d.WriteFile(ctx, name, []byte("text\n"), 0o644)
			}
			if errors.Is(err, syscall.EXDEV) {
				fmt.Println(name, "is refused")
			} else if err != nil {
				return err
			}
		}
		text, err := d.ReadFile(ctx, "docs/readme.txt")
		if err != nil {
			return err
		}
		fmt.Printf("%s", text)
		return d.RemoveAll(ctx, "docs")
	})
	// Output:
	// ../escaped.txt is refused
	// text
}

func ExampleFile_CopyRange() {
	start(func(ctx context.Context, dir string) error {
		if err := fs.WriteFile(ctx, filepath.Join(dir, "src"), []byte("to be copied"), 0o600); err != nil {
			return err
		}
		src, err := fs.Open(ctx, filepath.Join(dir, "src"))
		if err != nil {
			return err
		}
		defer src.Close(ctx)
		dst, err := fs.Create(ctx, filepath.Join(dir, "dst"))
		if err != nil {
			return err
		}
		defer dst.Close(ctx)
		n, _, err := dst.CopyRange(ctx, 0, src, 0, -1)
		fmt.Println(n, "bytes")
		return err
	})
	// Output: 12 bytes
}

func ExampleFile_Fallocate() {
	start(func(ctx context.Context, dir string) error {
		f, err := fs.Create(ctx, filepath.Join(dir, "image"))
		if err != nil {
			return err
		}
		defer f.Close(ctx)
		err = f.Fallocate(ctx, 0, 0, 1<<20)
		if errors.Is(err, unix.EOPNOTSUPP) {
			err = f.Truncate(ctx, 1<<20) // a hole will do
		}
		if err != nil {
			return err
		}
		info, err := f.Stat(ctx)
		if err != nil {
			return err
		}
		fmt.Println(info.Size(), info.Mode())
		return nil
	})
	// Output: 1048576 -rw-r--r--
}

func ExampleDirFS() {
	start(func(ctx context.Context, dir string) error {
		if err := fs.MkdirAll(ctx, filepath.Join(dir, "a/b"), 0o755); err != nil {
			return err
		}
		if err := fs.WriteFile(ctx, filepath.Join(dir, "a/b/c.txt"), nil, 0o644); err != nil {
			return err
		}
		return iofs.WalkDir(fs.DirFS(ctx, dir), ".", func(path string, e fs.DirEntry, err error) error {
			fmt.Println(path)
			return err
		})
	})
	// Output:
	// .
	// a
	// a/b
	// a/b/c.txt
}
