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

	"uringo/buf"
	"uringo/fs"
)

// A file that must not be there yet. What the options say is checked before the kernel is asked.
func ExampleOpenOptions() {
	start(func(ctx context.Context, dir string) error {
		name := filepath.Join(dir, "new")
		f, err := fs.OpenOptions{Write: true, CreateNew: true, Mode: 0o600}.Open(ctx, name)
		if err != nil {
			return err
		}
		defer f.Close(ctx)
		_, err = fs.OpenOptions{Write: true, CreateNew: true}.Open(ctx, name)
		fmt.Println("again:", errors.Is(err, fs.ErrExist))
		_, err = fs.OpenOptions{Read: true, Truncate: true}.Open(ctx, name)
		fmt.Println("nonsense:", errors.Is(err, syscall.EINVAL))
		return nil
	})
	// Output:
	// again: true
	// nonsense: true
}

// A name that comes from somebody else is looked up beneath a directory, and cannot lead out of it.
func ExampleDir() {
	start(func(ctx context.Context, dir string) error {
		if err := fs.WriteFile(ctx, filepath.Join(dir, "page"), []byte("hello"), 0o600); err != nil {
			return err
		}
		if err := fs.Symlink(ctx, "/etc/passwd", filepath.Join(dir, "link")); err != nil {
			return err
		}
		d, err := fs.OpenDir(ctx, dir)
		if err != nil {
			return err
		}
		defer d.Close(ctx)
		for _, name := range []string{"page", "link", "../../etc/passwd"} {
			f, err := d.OpenFile(ctx, name, os.O_RDONLY, 0)
			if err != nil {
				fmt.Println(name, "is refused")
				continue
			}
			fmt.Println(name, "is open")
			if err := f.Close(ctx); err != nil {
				return err
			}
		}
		return nil
	})
	// Output:
	// page is open
	// link is refused
	// ../../etc/passwd is refused
}

// A file that has no name until all of it is there: nobody sees half of it, and after a crash nothing of it is left over.
func ExampleFile_Link() {
	start(func(ctx context.Context, dir string) error {
		f, err := fs.OpenOptions{Write: true, Unnamed: true, Mode: 0o600}.Open(ctx, dir)
		if errors.Is(err, syscall.EOPNOTSUPP) { // by the file system: make it under another name, and rename it
			fmt.Println("all of it")
			return nil
		}
		if err != nil {
			return err
		}
		defer f.Close(ctx)
		if _, _, err := f.WriteAllAt(ctx, []byte("all of it"), 0); err != nil {
			return err
		}
		name := filepath.Join(dir, "file")
		if err := f.Link(ctx, name); err != nil {
			return err
		}
		b, err := fs.ReadFile(ctx, name)
		fmt.Println(string(b))
		return err
	})
	// Output: all of it
}

// A file that is gone when it is closed, and nobody else can see meanwhile.
func ExampleCreateTemp() {
	start(func(ctx context.Context, dir string) error {
		f, err := fs.CreateTemp(ctx, dir, "work-*.tmp")
		if err != nil {
			return err
		}
		defer f.Close(ctx)
		base := filepath.Base(f.Name())
		fmt.Println(strings.HasPrefix(base, "work-"), strings.HasSuffix(base, ".tmp"))
		return fs.Remove(ctx, f.Name()) // the file stays until it is closed
	})
	// Output: true true
}

// Direct I/O of any length: only what is aligned goes to the disk as it is.
func ExampleFile_ReadDirectAt() {
	start(func(ctx context.Context, dir string) error {
		name := filepath.Join(dir, "data")
		if err := fs.WriteFile(ctx, name, []byte(strings.Repeat("0123456789", 1000)), 0o600); err != nil {
			return err
		}
		f, err := fs.OpenOptions{Read: true, Direct: true}.Open(ctx, name)
		if errors.Is(err, syscall.EINVAL) { // some file systems have no direct I/O
			f, err = fs.Open(ctx, name)
		}
		if err != nil {
			return err
		}
		defer f.Close(ctx)
		_, b, err := f.ReadDirectAt(ctx, buf.Aligned(4096, 4096), 5003)
		if err != nil {
			return err
		}
		fmt.Printf("%s…\n", b[:10])
		return nil
	})
	// Output: 3456789012…
}

// A record that is on the disk when the call returns, without a sync of everything else that was written to the file.
func ExampleFile_WriteAtFlags() {
	start(func(ctx context.Context, dir string) error {
		f, err := fs.Create(ctx, filepath.Join(dir, "log"))
		if err != nil {
			return err
		}
		defer f.Close(ctx)
		for _, record := range []string{"one\n", "two\n"} {
			if _, _, err := f.WriteAtFlags(ctx, []byte(record), 0, unix.RWF_APPEND|unix.RWF_DSYNC); err != nil {
				return err
			}
		}
		text, err := fs.ReadFile(ctx, f.Name())
		fmt.Printf("%s", text)
		return err
	})
	// Output:
	// one
	// two
}

// The log has one writer at a time, in this program and in others.
func ExampleFile_Lock() {
	start(func(ctx context.Context, dir string) error {
		name := filepath.Join(dir, "log")
		f, err := fs.Create(ctx, name)
		if err != nil {
			return err
		}
		defer f.Close(ctx)
		if err := f.Lock(ctx); err != nil { // waits until ctx ends
			return err
		}
		other, err := fs.OpenFile(ctx, name, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer other.Close(ctx)
		got, err := other.TryLock(ctx)
		if err != nil {
			return err
		}
		fmt.Println("while it is locked:", got)
		if err := f.Unlock(ctx); err != nil {
			return err
		}
		got, err = other.TryLock(ctx)
		fmt.Println("afterwards:", got)
		return err
	})
	// Output:
	// while it is locked: false
	// afterwards: true
}

// A program that only measures pins a route, and puts things right again.
func ExamplePin() {
	start(func(ctx context.Context, dir string) error {
		defer fs.Pin(fs.OpMkdir, fs.Pin(fs.OpMkdir, fs.Ring))
		return fs.Mkdir(ctx, filepath.Join(dir, "made by the ring"), 0o700)
	})
	// Output:
}

// A header and a body go to the file in one operation, or in as many as it takes, and come back into two buffers.
func ExampleFile_WritevAllAt() {
	start(func(ctx context.Context, dir string) error {
		f, err := fs.OpenOptions{Read: true, Write: true, CreateNew: true}.Open(ctx, filepath.Join(dir, "record"))
		if err != nil {
			return err
		}
		defer f.Close(ctx)
		if _, _, err := f.WritevAllAt(ctx, [][]byte{[]byte("HEAD"), []byte("the body")}, 0); err != nil {
			return err
		}
		head, body := make([]byte, 4), make([]byte, 8)
		if _, _, err := f.ReadvExactAt(ctx, [][]byte{head, body}, 0); err != nil {
			return err
		}
		fmt.Printf("%s, %s\n", head, body)
		return nil
	})
	// Output: HEAD, the body
}
