// Tasks counts the lines of files, each in a task of its own.
//
//	go run ./examples/tasks FILE...
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"

	"uringo/executor"
	"uringo/fs"
)

func main() {
	err := executor.Start(context.Background(), func(ctx context.Context) error {
		return count(ctx, os.Stdout, os.Args[1:])
	})
	if err != nil {
		log.Fatal(err)
	}
}

// count starts a task for each file and prints what they return. The tasks share the one worker of the default executor: they never
// run at the same time, so the total needs no lock.
func count(ctx context.Context, out io.Writer, names []string) error {
	total := 0
	tasks := make([]*executor.JoinHandle[int], len(names))
	for i, name := range names {
		tasks[i] = executor.Go(ctx, func(ctx context.Context) (int, error) {
			n, err := lines(ctx, name)
			total += n
			return n, err
		})
	}
	var failed error
	for i, t := range tasks {
		n, err := t.Join(ctx)
		if err != nil {
			failed = errors.Join(failed, err) // the others go on
			continue
		}
		fmt.Fprintf(out, "%8d %s\n", n, names[i])
	}
	fmt.Fprintf(out, "%8d total\n", total)
	return failed
}

// lines counts the lines of a file.
func lines(ctx context.Context, name string) (int, error) {
	f, err := fs.Open(ctx, name)
	if err != nil {
		return 0, err
	}
	defer f.Close(ctx)
	total := 0
	buf := make([]byte, 64<<10)
	for off := int64(0); ; {
		var n int
		n, buf, err = f.ReadAt(ctx, buf, off)
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
		total += bytes.Count(buf[:n], []byte("\n"))
		off += int64(n)
	}
}
