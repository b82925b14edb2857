package testenv

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// What the pages of the project refer to is there: links, and names of files in their text.
func TestPages(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:]+)\)`)
	file := regexp.MustCompile("`((?:[a-z]+/)*[a-z_]+\\.(?:go|c|md))`")
	pages := 0
	err := filepath.WalkDir("../..", func(name string, e fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(name) != ".md" {
			return err
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		pages++
		for _, found := range append(link.FindAllStringSubmatch(string(text), -1), file.FindAllStringSubmatch(string(text), -1)...) {
			_, besides := os.Stat(filepath.Join(filepath.Dir(name), found[1]))
			if _, err := os.Stat(filepath.Join("../..", found[1])); err != nil && besides != nil {
				t.Errorf("%s refers to %s", name, found[1])
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if pages < 6 {
		t.Errorf("%d pages: were they looked at?", pages)
	}
}

// The first program of the README is the one in examples/hello, which has a test.
func TestFirstProgram(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	hello, err := os.ReadFile("../../examples/hello/main.go")
	if err != nil {
		t.Fatal(err)
	}
	_, program, _ := strings.Cut(string(readme), "```go\n")
	program, _, _ = strings.Cut(program, "```\n")
	if !strings.HasSuffix(string(hello), "\n"+program) || !strings.HasPrefix(program, "package main\n") {
		t.Errorf("the README has another program:\n%s", program)
	}
}
