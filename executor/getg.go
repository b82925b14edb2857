//go:build amd64 || arm64

package executor

// getg returns the identity of the calling goroutine: stable for a goroutine's life, and that of a coroutine too. It tells
// whether code that uses a task's context is that task, which nothing else in Go does.
func getg() uintptr

// haveG says that getg works here. Where it does not, every caller counts as a foreign goroutine and waits on a channel.
const haveG = true
