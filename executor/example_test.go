package executor_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/executor"
	"uringo/fs"
	"uringo/ops"
)

// The same task on each executor.
func ExampleStart() {
	for _, e := range []executor.Executor{executor.Goroutines(), executor.Pool(8), executor.Workers(2), executor.Local()} {
		err := executor.Start(context.Background(), func(ctx context.Context) error {
			r := executor.Do(ctx, ops.Nop())
			fmt.Println(e, r.Err)
			return nil
		}, executor.WithExecutor(e), executor.WithDriver(driver.Config{Entries: 64}))
		if err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// goroutines <nil>
	// pool(8) <nil>
	// workers(2) <nil>
	// local <nil>
}

// start runs an example as a task.
func start(example func(ctx context.Context) error) {
	if err := executor.Start(context.Background(), example); err != nil {
		log.Fatal(err)
	}
}

// A function that may be called from anywhere makes a system call that can block: at once where that holds up nobody else, and on another goroutine
// where the caller shares its own with other tasks.
func ExampleCallerOf() {
	hostname := func(ctx context.Context) (string, error) {
		if executor.CallerOf(ctx).MayBlock() {
			return os.Hostname()
		}
		return executor.Block(ctx, os.Hostname)
	}
	for _, e := range []executor.Executor{executor.Goroutines(), executor.Workers(1)} {
		err := executor.Start(context.Background(), func(ctx context.Context) error {
			name, err := hostname(ctx)
			fmt.Println(e, executor.CallerOf(ctx).MayBlock(), name != "")
			return err
		}, executor.WithExecutor(e))
		if err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// goroutines true true
	// workers(1) false true
}

// A task has a result, and a panic is an error.
func ExampleGo() {
	start(func(ctx context.Context) error {
		good := executor.Go(ctx, func(ctx context.Context) (int, error) { return 42, nil })
		bad := executor.Go(ctx, func(ctx context.Context) (int, error) { panic("out of cheese") })
		n, err := good.Join(ctx)
		fmt.Println(n, err)
		_, err = bad.Join(ctx)
		var p *executor.PanicError
		if errors.As(err, &p) {
			fmt.Println(p.Value, len(p.Stack) > 0)
		}
		return nil
	})
	// Output:
	// 42 <nil>
	// out of cheese true
}

// Tasks that share their worker never run at the same time, so they need no lock.
func ExampleGoHere() {
	start(func(ctx context.Context) error {
		total := 0
		var tasks []*executor.JoinHandle[struct{}]
		for i := range 10 {
			tasks = append(tasks, executor.GoHere(ctx, func(ctx context.Context) (struct{}, error) {
				err := executor.Do(ctx, ops.Nop()).Err
				total += i
				return struct{}{}, err
			}))
		}
		for _, t := range tasks {
			if _, err := t.Join(ctx); err != nil {
				return err
			}
		}
		fmt.Println(total)
		return nil
	})
	// Output: 45
}

// What a task waits for is cancelled with it.
func ExampleJoinHandle_Abort() {
	start(func(ctx context.Context) error {
		t := executor.Go(ctx, func(ctx context.Context) (struct{}, error) { return struct{}{}, executor.Sleep(ctx, time.Hour) })
		t.Abort()
		_, err := t.Join(ctx)
		fmt.Println(errors.Is(err, context.Canceled))
		return nil
	})
	// Output: true
}

// Something that blocks has a goroutine to itself, while the other tasks go on.
func ExampleBlock() {
	start(func(ctx context.Context) error {
		name, err := executor.Block(ctx, func() (string, error) {
			time.Sleep(time.Millisecond) // or a mutex, a channel, a call of cgo
			return "blocked", nil
		})
		fmt.Println(name, err)
		return nil
	})
	// Output: blocked <nil>
}

func ExampleSleep() {
	start(func(ctx context.Context) error {
		soon, cancel := context.WithTimeout(ctx, time.Millisecond)
		defer cancel()
		fmt.Println(executor.Sleep(ctx, time.Microsecond))
		fmt.Println(errors.Is(executor.Sleep(soon, time.Hour), context.DeadlineExceeded))
		return nil
	})
	// Output:
	// <nil>
	// true
}

// A task that computes for long lets others run now and then.
func ExampleYield() {
	start(func(ctx context.Context) error {
		for _, name := range []string{"a", "b"} {
			defer executor.GoHere(ctx, func(ctx context.Context) (struct{}, error) {
				for i := range 2 {
					fmt.Println(name, i)
					if err := executor.Yield(ctx); err != nil {
						return struct{}{}, err
					}
				}
				return struct{}{}, nil
			}).Join(ctx)
		}
		return nil
	})
	// Output:
	// a 0
	// b 0
	// a 1
	// b 1
}

// Tasks wait for something that anybody makes happen: a task, a goroutine, a callback.
func ExampleEvent() {
	start(func(ctx context.Context) error {
		var loaded executor.Event
		time.AfterFunc(time.Millisecond, loaded.Set)
		fmt.Println(loaded.Wait(ctx), loaded.IsSet())
		return nil
	})
	// Output: <nil> true
}

// A lock that is kept while others run: two tasks append a line each to a file that is read and written as a whole.
func ExampleMutex() {
	start(func(ctx context.Context) error {
		dir, err := os.MkdirTemp("", "example")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		name := filepath.Join(dir, "log")
		if err := fs.WriteFile(ctx, name, nil, 0o644); err != nil {
			return err
		}
		var file executor.Mutex
		add := func(ctx context.Context) (struct{}, error) {
			if err := file.Lock(ctx); err != nil {
				return struct{}{}, err
			}
			defer file.Unlock()
			b, err := fs.ReadFile(ctx, name)
			if err != nil {
				return struct{}{}, err
			}
			return struct{}{}, fs.WriteFile(ctx, name, append(b, "line\n"...), 0o644)
		}
		a, b := executor.Go(ctx, add), executor.Go(ctx, add)
		for _, h := range []*executor.JoinHandle[struct{}]{a, b} {
			if _, err := h.Join(ctx); err != nil {
				return err
			}
		}
		text, err := fs.ReadFile(ctx, name)
		fmt.Printf("%s", text)
		return err
	})
	// Output:
	// line
	// line
}

// At most so many bytes are in memory at a time, whatever the files' sizes.
func ExampleSemaphore() {
	memory := executor.NewSemaphore(1 << 20)
	start(func(ctx context.Context) error {
		var all []*executor.JoinHandle[int64]
		for _, size := range []int64{600_000, 500_000, 400_000} {
			all = append(all, executor.Go(ctx, func(ctx context.Context) (int64, error) {
				if err := memory.Acquire(ctx, size); err != nil {
					return 0, err
				}
				defer memory.Release(size)
				return size, executor.Yield(ctx) // read a file, say
			}))
		}
		var sum int64
		for _, h := range all {
			n, err := h.Join(ctx)
			if err != nil {
				return err
			}
			sum += n
		}
		fmt.Println(sum)
		return nil
	})
	// Output: 1500000
}

// What a channel is for goroutines: one task finds names, others do something with them.
func ExampleQueue() {
	start(func(ctx context.Context) error {
		names := executor.NewQueue[string](2)
		executor.Go(ctx, func(ctx context.Context) (struct{}, error) {
			defer names.Close()
			for _, name := range []string{"a", "b", "c"} {
				if err := names.Put(ctx, name); err != nil {
					return struct{}{}, err
				}
			}
			return struct{}{}, nil
		})
		for name, err := range names.All(ctx) {
			if err != nil {
				return err
			}
			fmt.Println(name)
		}
		return nil
	})
	// Output:
	// a
	// b
	// c
}

// An operation that no package above has, on the task's own driver.
func ExampleDo() {
	start(func(ctx context.Context) error {
		f, err := os.CreateTemp("", "example")
		if err != nil {
			return err
		}
		defer os.Remove(f.Name())
		defer f.Close()
		if r := executor.Do(ctx, ops.Ftruncate(int(f.Fd()), 1000)); r.Err != nil {
			return r.Err
		}
		r := executor.Do(ctx, ops.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_SIZE, new(unix.Statx_t)))
		if r.Err != nil {
			return r.Err
		}
		fmt.Println(r.Buf.Size)
		return nil
	})
	// Output: 1000
}

// A task reads a stream and lets others run while nothing comes.
func ExampleNext() {
	start(func(ctx context.Context) error {
		d, err := executor.DriverOf(ctx)
		if err != nil {
			return err
		}
		stock, err := d.Buffers()
		if err != nil {
			return err
		}
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fds[0])
		defer unix.Close(fds[1])
		in := driver.RecvMulti(d, fds[0], stock, 0, nil)
		defer in.Close(ctx)
		time.AfterFunc(time.Millisecond, func() { _ = unix.Send(fds[1], []byte("hello"), 0) })
		c, err := executor.Next(ctx, in)
		if err != nil {
			return err
		}
		fmt.Printf("%s\n", c.Bytes())
		c.Release()
		return nil
	})
	// Output: hello
}

// Tasks are waited for together.
func ExampleGroup() {
	start(func(ctx context.Context) error {
		var total atomic.Int64
		g := executor.NewGroup(ctx)
		for n := range 5 {
			g.Go(func(ctx context.Context) error {
				total.Add(int64(n))
				return executor.Sleep(ctx, time.Millisecond)
			})
		}
		err := g.Wait(ctx)
		fmt.Println(total.Load())
		return err
	})
	// Output: 10
}
