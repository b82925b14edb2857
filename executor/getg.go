//go:build (amd64 || arm64) && !purego

package executor

// getg returns the identity of the calling goroutine: stable for a goroutine's life, and that of a coroutine too. It tells
// whether code that uses a task's context is that task, which nothing else in Go does.
func getg() uintptr

// lane returns the calling goroutine's, see Caller.Lane. Goroutines mostly stay on their processor, and are a few hundred bytes apart.
func lane() uint {
	g := getg()
	return uint(g>>9 ^ g>>13 ^ g>>17)
}
