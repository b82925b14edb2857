//go:build race

package ops

import (
	"runtime"
	"unsafe"
)

// written tells the race detector that the kernel wrote to b for the caller.
func written(b []byte) {
	if len(b) > 0 {
		runtime.RaceWriteRange(unsafe.Pointer(unsafe.SliceData(b)), len(b))
	}
}

// wasRead tells the race detector that the kernel reads b for the caller.
func wasRead(b []byte) {
	if len(b) > 0 {
		runtime.RaceReadRange(unsafe.Pointer(unsafe.SliceData(b)), len(b))
	}
}
