package executor_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/executor"
	"uringo/ops"
)

// scenarios are programs around a buffer that the kernel has. The first word of their name says whether they respect that.
var scenarios = []struct {
	name string
	run  func(ctx context.Context, rd, wr int) error
}{
	{"wrong: a goroutine reads the buffer of a read in flight", func(ctx context.Context, rd, wr int) error {
		buf := make([]byte, 8)
		go func() {
			inKernel(ctx, "read", 1)
			_ = buf[0]
			feed(wr)
		}()
		_, _, err := read(ctx, rd, buf)
		return err
	}},
	{"wrong: a goroutine changes the buffer of a read in flight", func(ctx context.Context, rd, wr int) error {
		buf := make([]byte, 8)
		go func() {
			inKernel(ctx, "read", 1)
			buf[7] = 1
			feed(wr)
		}()
		_, _, err := read(ctx, rd, buf)
		return err
	}},
	{"wrong: another task changes the buffer of a read in flight", func(ctx context.Context, rd, wr int) error {
		buf := make([]byte, 8)
		reader := executor.GoHere(ctx, task(func(ctx context.Context) error { _, _, err := read(ctx, rd, buf); return err }))
		mate := executor.GoHere(ctx, task(func(ctx context.Context) error {
			inKernel(ctx, "read", 1)
			buf[3] = 1
			feed(wr)
			return nil
		}))
		return joinAll(ctx, reader, mate)
	}},
	{"wrong: another task changes the buffer of a write in flight", func(ctx context.Context, rd, wr int) error {
		full, err := unix.FcntlInt(uintptr(wr), unix.F_GETPIPE_SZ, 0)
		if err != nil {
			return err
		}
		if _, err := unix.Write(wr, make([]byte, full)); err != nil {
			return err
		}
		buf := make([]byte, 8)
		writer := executor.GoHere(ctx, task(func(ctx context.Context) error { return executor.Do(ctx, ops.WriteAt(wr, buf, -1)).Err }))
		mate := executor.GoHere(ctx, task(func(ctx context.Context) error {
			inKernel(ctx, "write", 1)
			buf[1] = 1
			_, err := unix.Read(rd, make([]byte, full))
			return err
		}))
		return joinAll(ctx, mate, writer)
	}},
	{"wrong: two reads in flight have one buffer", func(ctx context.Context, rd, wr int) error {
		buf := make([]byte, 8)
		reader := func(ctx context.Context) error { _, _, err := read(ctx, rd, buf); return err }
		a, b := executor.GoHere(ctx, task(reader)), executor.GoHere(ctx, task(reader))
		go func() {
			inKernel(ctx, "read", 2)
			feed(wr)
			feed(wr)
		}()
		return joinAll(ctx, a, b)
	}},
	{"wrong: a goroutine that borrowed the context, and the task", func(ctx context.Context, rd, wr int) error {
		buf := make([]byte, 8)
		done := make(chan error)
		go func() { _, _, err := read(ctx, rd, buf); done <- err }()
		inKernel(ctx, "read", 1)
		buf[0] = 1
		feed(wr)
		_, err := executor.Block(ctx, func() (int, error) { return 0, <-done })
		return err
	}},
	{"right: a goroutine is told of the end of the read", func(ctx context.Context, rd, wr int) error {
		buf := make([]byte, 8)
		ended := make(chan struct{})
		done := make(chan struct{})
		go func() {
			defer close(done)
			inKernel(ctx, "read", 1)
			feed(wr)
			<-ended
			buf[0] = 1
		}()
		_, _, err := read(ctx, rd, buf)
		close(ended)
		if _, e := executor.Block(ctx, func() (int, error) { <-done; return 0, nil }); e != nil {
			return e
		}
		buf[1] = 2
		return err
	}},
	{"right: another task joins the one that reads", func(ctx context.Context, rd, wr int) error {
		buf := make([]byte, 8)
		reader := executor.GoHere(ctx, task(func(ctx context.Context) error { _, _, err := read(ctx, rd, buf); return err }))
		mate := executor.GoHere(ctx, task(func(ctx context.Context) error {
			inKernel(ctx, "read", 1)
			feed(wr)
			_, err := reader.Join(ctx)
			buf[3] = 1
			return err
		}))
		return joinAll(ctx, reader, mate)
	}},
	{"right: a buffer goes from task to task", func(ctx context.Context, rd, wr int) error {
		buf := make([]byte, 8)
		for range 20 {
			h := executor.Go(ctx, func(ctx context.Context) ([]byte, error) {
				buf[0]++
				r := executor.Do(ctx, ops.WriteAt(wr, buf, -1))
				if r.Err != nil {
					return nil, r.Err
				}
				r.Buf[1]++
				_, buf, err := read(ctx, rd, r.Buf)
				return buf, err
			})
			var err error
			if buf, err = h.Join(ctx); err != nil {
				return err
			}
		}
		return nil
	}},
	{"right: a cancelled read gives its buffer back", func(ctx context.Context, rd, wr int) error {
		buf := make([]byte, 8)
		for range 20 {
			short, cancel := context.WithTimeout(ctx, time.Millisecond)
			_, b, err := read(short, rd, buf)
			cancel()
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				return fmt.Errorf("not cancelled: %w", err)
			}
			buf = b
			buf[0]++
		}
		return nil
	}},
	{"right: goroutines with buffers of their own", func(ctx context.Context, rd, wr int) error {
		done := make(chan error, 4)
		for range 4 {
			go func() {
				buf := make([]byte, 8)
				for range 10 {
					buf[0]++
					if r := executor.Do(ctx, ops.WriteAt(wr, buf, -1)); r.Err != nil {
						done <- r.Err
						return
					}
					buf[1]++
				}
				done <- nil
			}()
		}
		_, err := executor.Block(ctx, func() (int, error) {
			var all error
			for range 4 {
				all = errors.Join(all, <-done)
			}
			return 0, all
		})
		return err
	}},
}

// inKernel waits until so many operations of a kind are in flight.
func inKernel(ctx context.Context, kind string, n int) {
	d, err := driver.FromContext(ctx)
	for err == nil && d.Stats().InFlightBy[kind] < n {
		err = executor.Sleep(ctx, 100*time.Microsecond)
	}
	if err != nil {
		panic(err)
	}
}

// feed lets a read of 8 bytes end.
func feed(wr int) {
	if _, err := unix.Write(wr, []byte("12345678")); err != nil {
		panic(err)
	}
}

func joinAll(ctx context.Context, all ...*executor.JoinHandle[struct{}]) error {
	var errs error
	for _, h := range all {
		_, err := h.Join(ctx)
		errs = errors.Join(errs, err)
	}
	return errs
}

func init() {
	roles["own"] = func(args []string) {
		w := worldNamed(args[0])
		var n int
		fmt.Sscan(args[1], &n)
		engine, err := driver.ParseEngine(args[2])
		if err != nil {
			panic(err)
		}
		w.engine = engine
		var p pipes
		err = w.start(context.Background(), func(ctx context.Context) error {
			rd, wr, err := p.open()
			if err != nil {
				return err
			}
			return scenarios[n].run(ctx, rd, wr)
		})
		if err != nil {
			fmt.Println("failed:", err)
			os.Exit(1)
		}
	}
}

// The race detector enforces ownership: whoever touches a buffer that the kernel has is told, also on one worker, where every
// switch orders the tasks; whoever respects it is left alone.
func TestOwnership(t *testing.T) {
	if !raceEnabled {
		t.Skip("needs a build with -race")
	}
	all := engines(t)
	if !exhaustive {
		all = all[:1] // the rule is enforced above the engine
	}
	for _, engine := range all {
		for _, w := range worlds() {
			t.Run(w.name+"/"+engine.String(), func(t *testing.T) {
				for n, s := range scenarios {
					t.Run(s.name, func(t *testing.T) {
						t.Parallel()
						ctx, cancel := context.WithTimeout(context.Background(), patience)
						defer cancel()
						cmd := rerun(t, ctx, fmt.Sprintf("own %s %d %s", w.name, n, engine), "GORACE=exitcode=66 atexit_sleep_ms=0")
						out, err := cmd.CombinedOutput()
						switch race := strings.Contains(string(out), "DATA RACE"); {
						case strings.HasPrefix(s.name, "wrong") && !race:
							t.Errorf("not reported: %v\n%s", err, out)
						case strings.HasPrefix(s.name, "right") && (race || err != nil):
							t.Errorf("%v\n%s", err, out)
						case strings.Contains(string(out), "failed:"):
							t.Errorf("%s", out)
						}
					})
				}
			})
		}
	}
}
