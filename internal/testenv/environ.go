package testenv

import "os"

// Environ is the environment of a process that a test starts from its own program. Under the race detector a process sleeps for a second before it
// ends, in case somebody is about to report; a test that waits for many would spend most of its time so. A race that is found sets the exit code all
// the same.
func Environ(more ...string) []string {
	return append(append(os.Environ(), "GORACE="+os.Getenv("GORACE")+" atexit_sleep_ms=0"), more...)
}
