// Owner touches a buffer, and says nothing about it: the race detector does. Its first argument says how, its second on which engine.
package main

import (
	"context"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/ops"
)

func main() {
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(how, on string) error {
	engine, err := driver.ParseEngine(on)
	if err != nil {
		return err
	}
	d, err := driver.Open(driver.Config{Engine: engine})
	if err != nil {
		return err
	}
	defer d.Close(context.Background())
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return err
	}
	buf := make([]byte, 64)
	more := make([]byte, 64)

	switch how {
	case "read, touched before": // by somebody who goes on with it
		touched := make(chan struct{})
		go func() {
			defer close(touched)
			buf[1]++
		}()
		err := use(driver.Submit(d, ops.ReadAt(p[0], buf, -1)), p[1], nil)
		<-touched // or the program might end before
		return err
	case "read, looked at":
		return use(driver.Submit(d, ops.ReadAt(p[0], buf, -1)), p[1], func() { _ = string(buf) })
	case "read, written to":
		return use(driver.Submit(d, ops.ReadAt(p[0], buf, -1)), p[1], func() { buf[63] = 1 })
	case "write, written to":
		return use(driver.Submit(d, ops.WriteAt(p[1], buf, -1)), p[1], func() { buf[63] = 1 })
	case "vectored read, looked at":
		return use(driver.Submit(d, ops.ReadvAt(p[0], [][]byte{buf, more}, -1)), p[1], func() { _ = string(more) })
	case "statx, looked at":
		var st unix.Statx_t
		return use(driver.Submit(d, ops.Statx(p[0], "", unix.AT_EMPTY_PATH, unix.STATX_SIZE, &st)), p[1], func() { _ = st.Size })
	case "cancelled read, looked at":
		q := driver.Submit(d, ops.ReadAt(p[0], buf, -1))
		q.Cancel()
		return use(q, p[1], func() { _ = string(buf) })

	case "chunk, looked at after Release":
		return lookAfterRelease(d)

	case "right":
		// The buffer of a write may be looked at, and what has come back is the caller's.
		buf[0] = 1
		if err := use(driver.Submit(d, ops.WriteAt(p[1], buf, -1)), p[1], func() { _ = string(buf) }); err != nil {
			return err
		}
		buf[0] = 2
		q := driver.Submit(d, ops.ReadAt(p[0], buf, -1))
		result := make(chan ops.Result[[]byte])
		go func() { result <- q.Wait(context.Background()) }()
		r := <-result
		r.Buf[0]++
		q = driver.Submit(d, ops.ReadAt(p[0], make([]byte, 256), -1))
		q.Cancel()
		r = <-q.Done()
		clear(r.Buf)
		for range 100 {
			r = <-driver.Submit(d, ops.WriteAt(p[1], r.Buf, -1)).Done()
			r = <-driver.Submit(d, ops.ReadAt(p[0], r.Buf, -1)).Done()
			r.Buf[0]++
		}
		return r.Err
	}
	return fmt.Errorf("how? %q", how)
}

// use touches the memory of an operation in flight, and lets the operation end.
func use[T any](p *driver.Pending[T], w int, touch func()) error {
	if touch != nil {
		touch()
	}
	if _, err := unix.Write(w, make([]byte, 8)); err != nil {
		return err
	}
	<-p.Done()
	return nil
}

// lookAfterRelease looks into the only buffer of a ring while something arrives there.
func lookAfterRelease(d *driver.Driver) error {
	b, err := driver.NewBufferRing(d, 1, 8)
	if err != nil {
		return err
	}
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	s := driver.RecvMulti(d, p[0], b, 0, nil)
	looked := make(chan struct{})
	for i := range 2 {
		if _, err := unix.Write(p[1], []byte("hello")); err != nil {
			return err
		}
		c, err := s.Next(context.Background())
		if err != nil {
			return err
		}
		c.Release()
		if i == 0 {
			go func() {
				defer close(looked)
				_ = string(c.Bytes())
			}()
		}
	}
	<-looked // or the program might end before
	return s.Close(context.Background())
}
