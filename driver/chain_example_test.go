package driver_test

import (
	"context"
	"fmt"
	"log"
	"os"

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
