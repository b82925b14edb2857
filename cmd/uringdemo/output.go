package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"uringo/cmd/uringdemo/internal/copier"
	"uringo/executor"
)

// output is what the program says. Tasks hand in lines and go on; one goroutine writes them, as a terminal or a pipe may be slow.
type output struct {
	stdout, stderr io.Writer
	names          io.Writer // where those of copies go; nil: nowhere
	bars           bool
	stop           func() // the reader of stdout is gone

	mu      sync.Mutex
	lines   []line
	failed  error // the first one of writing to stdout
	closed  bool
	hurry   bool      // the copy was interrupted
	above   io.Writer // the bar's, while there is one; it takes lines for stderr
	written sync.Cond // lines have been taken
	wake    chan struct{}
	ended   chan struct{}
}

// maxLines is how many lines may wait before those who bring more of them wait as well.
const maxLines = 4096

type line struct {
	to   io.Writer
	text string
}

var errNoReader = errors.New("nobody reads standard output")

func newOutput(stdout, stderr io.Writer, o *options, stop func()) *output {
	out := &output{
		stdout: stdout, stderr: stderr, stop: stop,
		bars: o.progress && !o.verbose && isTerminal(stderr),
		wake: make(chan struct{}, 1), ended: make(chan struct{}),
	}
	switch {
	case !o.verbose:
	case o.json:
		out.names = stderr // who reads the one object reads nothing else
	default:
		out.names = stdout
	}
	out.written.L = &out.mu
	go out.write()
	return out
}

// say queues a line.
func (o *output) say(to io.Writer, text string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return
	}
	o.lines = append(o.lines, line{to, text + "\n"})
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// write writes what was queued, lines for the same place at once.
func (o *output) write() {
	defer close(o.ended)
	for range o.wake {
		o.mu.Lock()
		lines := o.lines
		o.lines = nil
		above := o.above
		o.written.Broadcast()
		o.mu.Unlock()
		for len(lines) > 0 {
			to := lines[0].to
			var text strings.Builder
			for len(lines) > 0 && lines[0].to == to {
				text.WriteString(lines[0].text)
				lines = lines[1:]
			}
			if to == o.stderr && above != nil {
				if _, err := io.WriteString(above, text.String()); err == nil {
					continue
				} // else the bar is gone, and the place is free
			}
			if _, err := io.WriteString(to, text.String()); err != nil && to == o.stdout {
				o.fail(err)
			}
		}
	}
}

// fail takes note of an error of stdout. Where nobody reads any more, the copy need not go on.
func (o *output) fail(err error) {
	err = unnamed(err)
	o.mu.Lock()
	if o.failed == nil {
		o.failed = err
	}
	o.mu.Unlock()
	if err == syscall.EPIPE {
		o.stop()
	}
}

// unnamed is an error of writing without the name of the file, which is known.
func unnamed(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

// room waits until there is room for more lines, or nobody wants them any more.
func (o *output) room() (struct{}, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for len(o.lines) >= maxLines && !o.hurry {
		o.written.Wait()
	}
	return struct{}{}, nil
}

// interrupted lets those go who wait for room.
func (o *output) interrupted() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.hurry = true
	o.written.Broadcast()
}

func (o *output) full() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.lines) >= maxLines
}

// close writes the rest, and returns why stdout did not take everything. After an interrupt it does not wait long for a reader that
// does not read.
func (o *output) close(ctx context.Context) error {
	o.mu.Lock()
	o.closed = true
	close(o.wake)
	o.mu.Unlock()
	select {
	case <-o.ended:
	case <-ctx.Done():
		select {
		case <-o.ended:
		case <-time.After(time.Second):
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.failed
}

// complain writes an error.
func (o *output) complain(path, why string) {
	if path == "" {
		o.say(o.stderr, "uringdemo: "+why)
		return
	}
	o.say(o.stderr, "uringdemo: "+copier.Quote(path)+": "+why)
}

// What the copier reports.

func (o *output) Failed(p copier.Problem) { o.complain(p.Path, p.Why) }
func (o *output) Warned(p copier.Problem) { o.complain(p.Path, "warning: "+p.Why) }
func (o *output) Noted(p copier.Problem)  { o.complain(p.Path, "note: "+p.Why) }

// Copied waits while the reader of the lines is slower than the copy.
func (o *output) Copied(ctx context.Context, src, dst, sum string) {
	if o.names == nil {
		return
	}
	if o.full() {
		_, _ = executor.Block(ctx, o.room)
	}
	text := fmt.Sprintf("%s -> %s", copier.Quote(src), copier.Quote(dst))
	if sum != "" {
		text += "  " + sum
	}
	o.say(o.names, text)
}
