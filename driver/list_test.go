package driver

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func TestList(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var l list
	var want []*Request
	for step := range 10_000 {
		switch {
		case len(want) == 0 || rng.IntN(2) == 0:
			r := new(Request)
			l.push(r)
			want = append(want, r)
		case rng.IntN(2) == 0:
			if r := l.pop(); r != want[0] {
				t.Fatalf("step %d: another one popped", step)
			}
			want = want[1:]
		default:
			i := rng.IntN(len(want))
			l.remove(want[i])
			if want[i].Next != nil || want[i].prev != nil {
				t.Fatalf("step %d: removed, and still linked", step)
			}
			want = slices.Delete(want, i, i+1)
		}
		if l.n != len(want) {
			t.Fatalf("step %d: %d in the list, want %d", step, l.n, len(want))
		}
		i := 0
		for r := l.head; r != nil; r = r.Next {
			if r != want[i] {
				t.Fatalf("step %d: another one at %d", step, i)
			}
			i++
		}
		for r := l.tail; r != nil; r = r.prev {
			if i--; r != want[i] {
				t.Fatalf("step %d: another one at %d, backwards", step, i)
			}
		}
		if i != 0 {
			t.Fatalf("step %d: %d more backwards", step, i)
		}
	}
	for len(want) > 0 {
		l.pop()
		want = want[1:]
	}
	if l.pop() != nil || l.head != nil || l.tail != nil {
		t.Error("an empty list is not empty")
	}
}
