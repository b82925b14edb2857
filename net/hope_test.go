package net

import "testing"

func TestHope(t *testing.T) {
	var h hope
	tries := func(n int, found bool) (tried int) {
		for range n {
			if h.any() {
				tried++
				h.learn(found)
			}
		}
		return tried
	}
	if n := tries(100, true); n != 100 {
		t.Errorf("%d tries of 100 while they succeed", n)
	}
	if n := tries(1600, false); n < 100 || n > 100+fullHope+1 {
		t.Errorf("%d tries of 1600 while they fail, want one in %d", n, tryAgain)
	}
	if n := tries(tryAgain, true); n == 0 {
		t.Error("no try that could succeed again")
	}
	if n := tries(100, true); n != 100 {
		t.Errorf("%d tries of 100 since they succeed again", n)
	}
}
