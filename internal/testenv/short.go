package testenv

import "testing"

// SkipShort skips a long test with -short, which is for runs under other rights and limits: the test would say there what it says without them.
func SkipShort(tb testing.TB) {
	tb.Helper()
	if testing.Short() {
		tb.Skip("long, and the same under all rights and limits")
	}
}
