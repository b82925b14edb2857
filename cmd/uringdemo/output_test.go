package main

import (
	"bytes"
	"io"
	"testing"

	"github.com/vbauerster/mpb/v8"
)

// TestLineAfterBar says something while the bar is already being taken away: it does not take the line any more, and it is not lost.
func TestLineAfterBar(t *testing.T) {
	var stderr bytes.Buffer
	o := newOutput(io.Discard, &stderr, new(options), func() {})
	bars := mpb.New(mpb.WithOutput(io.Discard))
	bars.Wait()
	o.above = bars
	o.complain("file", "is lost")
	must(t, o.close(t.Context()))
	if got, want := stderr.String(), "uringdemo: file: is lost\n"; got != want {
		t.Errorf("said %q, want %q", got, want)
	}
}
