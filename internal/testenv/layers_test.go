package testenv

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// layers are the packages of the module from the bottom up, as ARCHITECTURE.md has them: a package imports those of lower layers only. What is
// beneath a directory belongs to it.
var layers = [][]string{
	{"internal/ring"},
	{"buf"},
	{"ops"},
	{"driver"},
	{"executor"},
	{"fs", "net"},
	{"cmd", "examples", "bench"},
}

// Imports point down only, the ring is for ops and driver alone, programs need nothing internal, and unsafe is at the bottom. Tests may do otherwise.
func TestLayers(t *testing.T) {
	within := func(dir string, tops ...string) bool {
		return slices.ContainsFunc(tops, func(top string) bool { return dir == top || strings.HasPrefix(dir, top+"/") })
	}
	layerOf := func(dir string) int {
		return slices.IndexFunc(layers, func(tops []string) bool { return within(dir, tops...) })
	}
	seen := make([]int, len(layers))
	err := filepath.WalkDir("../..", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			if e != nil && e.Name() == "testdata" {
				return fs.SkipDir
			}
			return err
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		dir, err := filepath.Rel("../..", filepath.Dir(name))
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		me := layerOf(dir)
		if me >= 0 {
			seen[me]++
		}
		for _, i := range f.Imports {
			path, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			if path == "unsafe" && !within(dir, "internal/ring", "buf", "ops", "bench/peers") {
				t.Errorf("%s imports unsafe", name)
			}
			other, ours := strings.CutPrefix(path, "uringo/")
			if !ours || me < 0 || within(other, strings.Split(dir, "/")[0]) && dir != "internal/ring" {
				continue // the standard library's, somebody else's, or its own
			}
			switch {
			case layerOf(other) >= me,
				other == "internal/ring" && dir != "ops" && dir != "driver",
				me == len(layers)-1 && within(other, "internal"):
				t.Errorf("%s imports %s", name, other)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if i := slices.Index(seen, 0); i >= 0 {
		t.Errorf("%v have no files: were they looked at?", layers[i])
	}
}
