//go:build (!amd64 && !arm64) || purego

package executor

import (
	"bytes"
	"runtime"
	"strconv"
)

// getg returns the identity of the calling goroutine: where there is no assembly for it, its number, which only a stack trace tells.
// That takes some microseconds.
func getg() uintptr {
	var buf [40]byte
	trace := buf[:runtime.Stack(buf[:], false)]
	number, _, _ := bytes.Cut(bytes.TrimPrefix(trace, []byte("goroutine ")), []byte(" "))
	g, err := strconv.ParseUint(string(number), 10, 0)
	if err != nil {
		panic("uringo: a stack trace without a goroutine number: " + string(trace))
	}
	return uintptr(g)
}

// lane returns the calling goroutine's, see Caller.Lane: to tell them apart would cost more than it saves.
func lane() uint { return 0 }
