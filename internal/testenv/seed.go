package testenv

import (
	"os"
	"strconv"
	"testing"
)

// Seed returns what a random test starts from: what the environment says (URINGO_SEED), so that a failure can be repeated, and otherwise what the test
// would take. It is printed.
func Seed(tb testing.TB, otherwise uint64) uint64 {
	tb.Helper()
	seed := otherwise
	if s := os.Getenv("URINGO_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			tb.Fatal(err)
		}
	}
	tb.Logf("URINGO_SEED=%d", seed)
	return seed
}
