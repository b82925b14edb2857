package notify

import (
	"slices"
	"testing"
)

func TestList(t *testing.T) {
	var l, other List
	var told []int
	all := make([]Watcher, 5)
	for i := range all {
		all[i].End = func() { told = append(told, i) }
		l.Add(&all[i])
	}
	other.Remove(&all[0]) // which is not in there
	for _, i := range []int{2, 4, 0} {
		l.Remove(&all[i])
		l.Remove(&all[i])
	}
	other.Add(&all[2])
	l.Tell()
	if !slices.Equal(told, []int{3, 1}) {
		t.Errorf("told %v", told)
	}
	told = nil
	l.Tell()
	other.Tell()
	if !slices.Equal(told, []int{2}) {
		t.Errorf("then told %v", told)
	}
}
