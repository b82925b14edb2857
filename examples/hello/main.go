// Hello prints the first 4 KiB of hello.txt.
package main

import (
	"context"
	"fmt"
	"log"

	"uringo/executor"
	"uringo/fs"
)

func main() {
	err := executor.Start(context.Background(), func(ctx context.Context) error {
		f, err := fs.Open(ctx, "hello.txt")
		if err != nil {
			return err
		}
		defer f.Close(ctx)

		buf := make([]byte, 4096)
		// The buffer goes to the kernel with the operation and comes back with its completion.
		n, buf, err := f.ReadAt(ctx, buf, 0)
		if err != nil {
			return err
		}
		fmt.Printf("%s", buf[:n])
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
}
