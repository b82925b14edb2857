package ops_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/ops"
)

// An operation is a value: it says what to do, and holds what it borrows until somebody has performed it.
func Example() {
	ctx := context.Background()
	d, err := driver.Open(driver.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer d.Close(ctx)
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	name := filepath.Join(dir, "file")

	open := driver.Submit(d, ops.Openat(unix.AT_FDCWD, name, unix.O_RDWR|unix.O_CREAT, 0o600)).Wait(ctx)
	if open.Err != nil {
		log.Fatal(open.Err)
	}
	fd := open.N
	write := driver.Submit(d, ops.WritevAt(fd, [][]byte{[]byte("hello, "), []byte("world")}, 0)).Wait(ctx)
	fmt.Println(write.N, write.Err)
	read := driver.Submit(d, ops.ReadAt(fd, make([]byte, 100), 7)).Wait(ctx)
	fmt.Printf("%s\n", read.Buf[:read.N])
	stat := driver.Submit(d, ops.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_SIZE, new(unix.Statx_t))).Wait(ctx)
	fmt.Println(stat.Buf.Size)
	fmt.Println(driver.Submit(d, ops.Close(fd)).Wait(ctx).Err)
	// Output:
	// 12 <nil>
	// world
	// 12
	// <nil>
}

// The same operation as a plain system call, on the caller's goroutine.
func ExampleRun() {
	o := ops.Unlinkat(unix.AT_FDCWD, "/no/such/file", 0)
	fmt.Println(errors.Is(ops.Run(&o).Err, syscall.ENOENT))
	// Output: true
}
