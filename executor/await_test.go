package executor_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/executor"
	"uringo/ops"
)

// A task waits for what it has under way, and the others of its worker run meanwhile.
func TestAwait(t *testing.T) {
	everywhere(t, func(w *world) { w.ok(func(ctx context.Context) error { return awaits(ctx, w) }) })
}

func awaits(ctx context.Context, w *world) error {
	d, err := executor.DriverOf(ctx)
	if err != nil {
		return err
	}
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return err
	}
	defer unix.Close(pipe[0])
	defer unix.Close(pipe[1])
	var c driver.Chain
	r := driver.Link(&c, ops.ReadAt(pipe[0], make([]byte, 4), -1))
	n := driver.Link(&c, ops.Nop())
	if err := c.Submit(d); err != nil {
		return err
	}
	other := executor.Go(ctx, func(ctx context.Context) (int, error) { return unix.Write(pipe[1], []byte("abcd")) })
	if res := executor.Await(ctx, n); res.Err != nil {
		w.Error(res.Err)
	}
	if res := executor.Await(ctx, r); res.Err != nil || string(res.Buf[:res.N]) != "abcd" {
		w.Errorf("read %+v", res)
	}
	if _, err := other.Join(ctx); err != nil {
		w.Error(err)
	}
	ending, cancel := context.WithCancel(ctx)
	p := driver.Submit(d, ops.ReadAt(pipe[0], make([]byte, 4), -1))
	canceling := executor.Go(ctx, func(ctx context.Context) (int, error) { cancel(); return 0, nil })
	if res := executor.Await(ending, p); !errors.Is(res.Err, context.Canceled) || len(res.Buf) != 4 {
		w.Errorf("cancelled: %+v", res)
	}
	if _, err := canceling.Join(ctx); err != nil {
		w.Error(err)
	}
	return nil
}

// A task that waits for a member of a chain that is not submitted waits for that, and no longer than its context.
func TestAwaitUnsubmitted(t *testing.T) {
	everywhere(t, func(w *world) { w.ok(func(ctx context.Context) error { return awaitsUnsubmitted(ctx, w) }) })
}

func awaitsUnsubmitted(ctx context.Context, w *world) error {
	d, err := executor.DriverOf(ctx)
	if err != nil {
		return err
	}
	waits := map[string]func(context.Context, *driver.Pending[[]byte]) ops.Result[[]byte]{
		"Await": executor.Await[[]byte],
		"Wait":  func(ctx context.Context, p *driver.Pending[[]byte]) ops.Result[[]byte] { return p.Wait(ctx) },
	}
	for name, wait := range waits {
		var c driver.Chain
		p := driver.Link(&c, ops.ReadAt(-1, make([]byte, 4), 0))
		ending, cancel := context.WithCancel(ctx)
		waiting := executor.Go(ctx, task(func(context.Context) error {
			if res := wait(ending, p); !errors.Is(res.Err, context.Canceled) || len(res.Buf) != 4 {
				w.Errorf("%s: %+v", name, res)
			}
			return nil
		}))
		go cancel() // Wait holds all tasks of Local
		if _, err := waiting.Join(ctx); err != nil {
			return err
		}
		is(w, c.Submit(d), syscall.ECANCELED)

		var later driver.Chain
		driver.Link(&later, ops.Nop())
		q := driver.HardLink(&later, ops.ReadAt(-1, make([]byte, 4), 0))
		waiting = executor.Go(ctx, task(func(ctx context.Context) error {
			is(w, wait(ctx, q).Err, syscall.EBADF)
			return nil
		}))
		if name == "Await" { // other tasks run meanwhile
			if err := executor.Yield(ctx); err != nil {
				return err
			}
			is(w, later.Submit(d), nil)
		} else {
			go later.Submit(d)
		}
		if _, err := waiting.Join(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Two writes, and a sync that runs if both went well.
func ExampleAwait() {
	err := executor.Start(context.Background(), func(ctx context.Context) error {
		d, err := executor.DriverOf(ctx)
		if err != nil {
			return err
		}
		f, err := os.CreateTemp("", "example")
		if err != nil {
			return err
		}
		defer os.Remove(f.Name())
		defer f.Close()
		fd := int(f.Fd())

		var c driver.Chain
		data := driver.Link(&c, ops.WriteAt(fd, []byte("data"), 8))
		head := driver.Link(&c, ops.WriteAt(fd, []byte("header: "), 0))
		sync := driver.Link(&c, ops.Fdatasync(fd))
		if err := c.Submit(d); err != nil {
			return err
		}
		fmt.Println(executor.Await(ctx, data).N, executor.Await(ctx, head).N, executor.Await(ctx, sync).Err)
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output: 4 8 <nil>
}
