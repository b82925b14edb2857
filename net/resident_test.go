package net

import "testing"

// TestResident asks for ranges of what is known of files, and of what is not any more.
func TestResident(t *testing.T) {
	f := file{1, 1 << 60}
	if f.wasResident(0, 1) {
		t.Error("nothing is known of it")
	}
	f.isResident(100, 200)
	f.isResident(150, 300) // which goes on from there
	for _, c := range []struct {
		file     file
		from, to int64
		want     bool
	}{
		{f, 100, 300, true},
		{f, 120, 130, true},
		{f, 99, 300, false},
		{f, 100, 301, false},
		{file{2, 1 << 60}, 100, 300, false},
		{file{1, 1<<60 + 64}, 100, 300, false}, // which has the same place
	} {
		if got := c.file.wasResident(c.from, c.to); got != c.want {
			t.Errorf("%+v from %d to %d: %v", c.file, c.from, c.to, got)
		}
	}
	f.isResident(400, 500) // with a gap
	if f.wasResident(100, 300) || f.wasResident(300, 400) || !f.wasResident(400, 500) {
		t.Error("a gap is not seen")
	}
	old := *f.place().Load()
	old.at = old.at.Add(-residentFor)
	f.place().Store(&old)
	if f.wasResident(400, 500) {
		t.Error("believed for ever")
	}
	f.isResident(500, 600)
	if f.wasResident(400, 600) || !f.wasResident(500, 600) {
		t.Error("what is new makes what is old good")
	}
	first := f.place().Load().at
	f.isResident(550, 700)
	if at := f.place().Load().at; !at.Equal(first) {
		t.Errorf("what goes on from a range makes it younger: %v, %v", first, at)
	}
}
