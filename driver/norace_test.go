//go:build !race

package driver_test

// raceEnabled says that the race detector watches, and slows down.
const raceEnabled = false
