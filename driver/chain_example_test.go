package driver_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/ops"
)

// A record, its sync, and the mark that says it is there: in this order, and nothing behind what fails.
func ExampleChain() {
	ctx := context.Background()
	d, err := driver.Open(driver.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer d.Close(ctx)
	f, err := os.CreateTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	fd := int(f.Fd())

	var c driver.Chain
	record := driver.Link(&c, ops.WriteAt(fd, []byte("hello, world"), 1))
	driver.Link(&c, ops.Fdatasync(fd))
	mark := driver.Link(&c, ops.WriteAt(fd, []byte("+"), 0))
	last := driver.Link(&c, ops.ReadAt(fd, make([]byte, 6), 0))
	if err := c.Submit(d); err != nil {
		log.Fatal(err)
	}
	r := last.Wait(ctx)
	fmt.Printf("%s, %v\n", r.Buf, r.Err)
	fmt.Println(record.Wait(ctx).N, mark.Wait(ctx).N)
	// Output:
	// +hello, <nil>
	// 12 1
}

// readRecord returns the first n bytes of a file, or what it has. The file is opened, read and closed in one submission, and gets no
// descriptor.
func readRecord(ctx context.Context, d *driver.Driver, name string, n int) ([]byte, error) {
	place, ok := d.TakePlace()
	if !ok {
		return readRecordApart(ctx, d, name, n) // all are in use
	}
	defer d.ReleasePlace(place)
	var c driver.Chain
	opened := driver.Link(&c, ops.OpenDirectAt(place, unix.AT_FDCWD, name, unix.O_RDONLY, 0))
	read := ops.ReadAt(place, make([]byte, n), 0)
	read.Flags |= ops.Direct
	record := driver.Link(&c, read)
	closed := driver.Link(&c, ops.CloseDirect(place))
	if err := c.Submit(d); err != nil {
		return nil, err
	}
	switch err := opened.Wait(ctx).Err; err {
	case nil:
	case syscall.ENXIO, syscall.ENFILE, syscall.EOPNOTSUPP: // no table, or a small one
		return readRecordApart(ctx, d, name, n)
	default:
		return nil, err
	}
	r := record.Wait(ctx) // what the kernel cuts short the driver takes up
	if closed.Wait(ctx).Err != nil {
		// The file has fewer bytes, or cannot be read, so the chain has ended.
		driver.Submit(d, ops.CloseDirect(place)).Wait(context.WithoutCancel(ctx))
	}
	return r.Buf[:r.N], r.Err
}

// readRecordApart is readRecord with a descriptor, step by step.
func readRecordApart(ctx context.Context, d *driver.Driver, name string, n int) ([]byte, error) {
	o := driver.Submit(d, ops.Openat(unix.AT_FDCWD, name, unix.O_RDONLY, 0)).Wait(ctx)
	if o.Err != nil {
		return nil, o.Err
	}
	b, done := make([]byte, n), 0
	for done < n {
		r := driver.Submit(d, ops.ReadAt(o.N, b[done:], int64(done))).Wait(ctx)
		if done += r.N; r.Err != nil || r.N == 0 {
			return b[:done], errors.Join(r.Err, driver.Submit(d, ops.Close(o.N)).Wait(context.WithoutCancel(ctx)).Err)
		}
	}
	return b, driver.Submit(d, ops.Close(o.N)).Wait(context.WithoutCancel(ctx)).Err
}

// Open, read and close as one chain. The kernel gives it to a worker thread, so it is not the way to read many small files, which is
// fs.ReadFile: it spares the process the descriptor, and its caller two thirds of the messages.
func ExampleDriver_TakePlace() {
	ctx := context.Background()
	d, err := driver.Open(driver.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer d.Close(ctx)
	f, err := os.CreateTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.Remove(f.Name())
	if _, err := f.WriteString("hello, world"); err != nil {
		log.Fatal(err)
	}
	if err := f.Close(); err != nil {
		log.Fatal(err)
	}
	for _, n := range []int{5, 100} {
		b, err := readRecord(ctx, d, f.Name(), n)
		fmt.Printf("%s, %v\n", b, err)
	}
	_, err = readRecord(ctx, d, f.Name()+".none", 5)
	fmt.Println(err)
	// Output:
	// hello, <nil>
	// hello, world, <nil>
	// no such file or directory
}
