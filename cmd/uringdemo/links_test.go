package main

import "testing"

// TestReplacedFirstName copies a file with two names of which the first has gone to the file of another source when the second one comes. That
// one is no link to the stranger, as it would be with cp, but a copy.
func TestReplacedFirstName(t *testing.T) {
	y := yard{t, t.TempDir()}
	y.file("a/x", 10)
	y.file("b/x", 20)
	y.mkdir("c")
	for _, name := range []string{"y", "z"} {
		y.hardlink("a/x", "c/"+name)
	}
	everyWay(t, func(t *testing.T, w way) {
		out := yard{t, t.TempDir()}
		o := w.run(t, "-a", "--json", y.path("a")+"/.", y.path("b")+"/.", y.path("c")+"/.", out.dir)
		o.want(t, exitOK)
		sameContent(t, out.path("x"), y.path("b/x"))
		sameContent(t, out.path("y"), y.path("a/x"))
		if s := o.summary(t); s.Files != 3 || s.HardLinks != 1 {
			t.Errorf("summary: %+v, want y and z linked to each other", s)
		}
		noTemps(t, out.dir)
	})
}
